"""Arrays in safetensors files: no code in them, whole or not there, and checked when read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError, require
from unet_np.files import atomic_write

CHECKSUM = "checksum"
"""Key of the header: see `digest`."""

_remarks = logging.getLogger("unet_np.files")
_known: set[Path] = set()


def write_weights(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write named arrays and a few strings, with their checksum.

    The same content gives the same bytes.

    Parameters
    ----------
    path : path-like
        The file; an old one is replaced once the new one is complete.
    arrays : dict
        Name to array on the host; stored in C order, whatever their memory order.
    metadata : dict of str to str
        Stands in the file's header.

    Raises
    ------
    InputError
        If the path cannot be written to.
    MissingExtraError
        If safetensors is not installed.
    """
    safetensors = require("safetensors.numpy", "io")
    # The library takes bytes as they lie.
    ordered = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = {**metadata, CHECKSUM: digest(ordered, metadata)}
    with atomic_write(path) as temporary:
        try:
            safetensors.save_file(ordered, temporary, header)
        except require("safetensors", "io").SafetensorError as error:
            # Of a full disk, as text.
            raise OSError(" ".join(str(error).split())) from None
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """The library's order of strings is another one each time; the length stays."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, dtypes, shapes and values of arrays, and of the other strings.

    Examples
    --------
    >>> digest({}, {})[:15]
    'sha256:8d8b352d'
    """
    about = {
        "arrays": [(name, a.dtype.str, a.shape) for name, a in sorted(arrays.items())],
        "strings": sorted((key, text) for key, text in metadata.items() if key != CHECKSUM),
    }
    found = hashlib.sha256(json.dumps(about).encode())
    for _, array in sorted(arrays.items()):
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return f"sha256:{found.hexdigest()}"


def known_whole(path: Path) -> None:
    """Take note that a file without checksum was found whole by somebody else's."""
    _known.add(path.resolve())


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The strings of a file that `write_weights` wrote; empty where there are none to read.

    Raises
    ------
    MissingExtraError
        If safetensors is not installed.
    """
    safetensors = require("safetensors", "io")
    # The library waits for a pipe, and Ctrl-C does not end that.
    if not Path(path).is_file():
        return {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, TypeError, ValueError):
        return {}


def read_weights(
    path: str | os.PathLike[str], what: str = "weights"
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What `write_weights` wrote: arrays by name, and the strings.

    Files from before there was a checksum are read with a remark.

    Parameters
    ----------
    path : path-like
        The file.
    what : str
        Of the argument, for the message.

    Raises
    ------
    InputError
        If the file is missing, a folder, empty, cut short or no safetensors file, or not as it
        was written.
    MissingExtraError
        If safetensors is not installed.
    """
    safetensors = require("safetensors", "io")
    kind = "a .safetensors file" if what == "weights" else f"a whole {what}"
    if not Path(path).is_file():
        found = "a folder" if Path(path).is_dir() else "no file"
        raise InputError(f"{what}: got {found} at {path}, expected {kind}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{what}: got {path}, expected {_whole(what)} ({reason})") from None
    _check(path, what, arrays, metadata)
    return arrays, metadata


def _whole(what: str) -> str:
    return "a whole .safetensors file" if what == "weights" else f"a whole {what}"


def _check(
    path: str | os.PathLike[str], what: str, arrays: dict[str, Any], metadata: dict[str, str]
) -> None:
    if CHECKSUM in metadata:
        if digest(arrays, metadata) != metadata[CHECKSUM]:
            raise InputError(
                f"{what}: got {path}, damaged: its checksum is another one than when it was "
                f"written, expected {_whole(what)}"
            )
    elif metadata and Path(path).resolve() not in _known:
        _remarks.warning("%s: %s", path, "has no checksum, so that damage would not be noticed")
