"""Which files this program may write over unasked: those that it wrote, known by what they hold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from unet_np.errors import InputError, require
from unet_np.files.weights import read_metadata

PRODUCER = "unet-np"
"""What stands in the headers of TIFF, PNG, ONNX and safetensors, and in a zip's comment."""

LEG = "unet-np leg 1"
"""Key of the header of what a training in legs leaves."""

ZOO = "# written by unet-np export --bioimageio\n"
"""First line of the description in a package of the model zoo, the first file in its zip."""

GEOJSON = b'{"type": "FeatureCollection", "generator": "unet-np", "features": ['
"""What outlines for QuPath begin with."""

_SOFTWARE = 305  # the tag of TIFF
_HEAD = 1 << 16
_LARGEST_RESULT = 1 << 26
_EVALUATION = {"command", "versions", "prediction", "labels", "pairs", "scores"}
_EXPERIMENT = {"experiment", "quick", "command", "commit", "versions", "machine"}
_STARTS = (
    b"slice,id,area,row,column,top,left,bottom,right\n",
    b"slice,row,column,score,",
    b"image,slice,row,column,class,",
    b'"""U-Net as a PyTorch module, in one file that needs nothing but PyTorch.',
    *(f"# Model card: {name}\n\nA U-Net of ".encode() for name in ("em", "u373", "hela")),
    b"import torch_unet, safetensors.torch  # this folder; PyTorch and safetensors, nothing",
)
"""First lines of tables and texts."""


def check_ours(paths: Iterable[Path], overwrite: bool, argument: str) -> None:
    """Refuse to write over a file that this program did not write.

    Parameters
    ----------
    paths : iterable of Path
        The files to be written.
    overwrite : bool
        Whether the user has said that they may go.
    argument : str
        The flag that names them.

    Raises
    ------
    InputError
        Naming the first such file, and how many there are.
    """
    others = [] if overwrite else [path for path in paths if path.exists() and not is_ours(path)]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(
            f"{argument}: got {others[0]}{more}, not written by unet-np, expected another name, or "
            "--overwrite to replace it"
        )


def is_ours(path: Path) -> bool:
    r"""Whether this program wrote a file as a result, by its content; an empty one is nobody's.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "cells.csv")
    >>> _ = file.write_text("slice,id,area,row,column,top,left,bottom,right\n", newline="")
    >>> is_ours(file)
    True
    >>> _ = file.write_text("name,area\n")
    >>> is_ours(file)
    False
    """
    # A pipe would be waited for.
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if head[:2] in (b"II", b"MM"):
        return _tiff_software(path) == PRODUCER
    if head.startswith(b"\x89PNG"):
        return f"tEXtSoftware\0{PRODUCER}".encode() in head
    if head[:1] == b"{":
        return head.startswith(GEOJSON) or _is_result(path)
    if head[8:9] == b"{":
        about = read_metadata(path)
        return about.get("producer") == PRODUCER or LEG in about
    if head.startswith(b"PK"):
        # The name of the first file stands 30 bytes after its beginning.
        zoo = head[30:].startswith(b"rdf.yaml" + ZOO.encode())
        return zoo or _last_bytes(path) == PRODUCER.encode()
    # The producer is ONNX's second field, after the version of the format.
    onnx = b"\x12" + bytes([len(PRODUCER)]) + PRODUCER.encode()
    return not head or onnx in head[:32] or head.startswith(_STARTS)


def _last_bytes(path: Path) -> bytes:
    """Where a zip's comment stands."""
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - len(PRODUCER), 0))
        return file.read()


def _tiff_software(path: Path) -> str:
    tifffile = require("tifffile", "io")
    try:
        with tifffile.TiffFile(path) as file:
            tag = file.pages[0].tags.get(_SOFTWARE)
            return str(tag.value) if tag else ""
    # Whatever is wrong with it, it is not ours.
    except Exception:
        return ""


def _is_result(path: Path) -> bool:
    """Of an evaluation, or of an experiment."""
    try:
        with open(path, "rb") as file:
            keys = set(json.loads(file.read(_LARGEST_RESULT)))
        return keys >= _EVALUATION or keys >= _EXPERIMENT
    except (OSError, ValueError, RecursionError):
        return False
