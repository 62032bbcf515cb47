"""What several commands need: sizes in bytes, progress bars, outputs checked before the work."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.errors import InputError, require
from unet_np.files.ours import check_ours

if TYPE_CHECKING:
    from unet_np.files.on_disk import DiskArray
    from unet_np.images import BandedImage, ImageFile

_LOGGER = logging.getLogger(__name__)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_DELAY = 2  # seconds
_FILES = frozenset(
    [
        ".tif",
        ".tiff",
        ".btf",
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".bmp",
        ".webp",
        ".npy",
        ".npz",
        ".h5",
        ".hdf5",
        ".zarr",
        ".nii",
        ".gz",
        ".zip",
        ".csv",
        ".tsv",
        ".txt",
        ".json",
        ".xml",
        ".xlsx",
        ".xls",
        ".pdf",
        ".svg",
        ".toml",
        ".safetensors",
        ".onnx",
        ".pt",
    ]
)
"""Endings that mean a file and no folder."""


def example(text: str) -> dict[str, Any]:
    """The arguments of ``add_parser`` that print examples under the options, line by line."""
    return {
        "epilog": "example:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines()),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def bytes_of(text: str) -> int:
    """A number of bytes such as ``500M`` or ``1.5G`` (powers of 1024).

    Raises
    ------
    InputError
        If it is no such text.

    Examples
    --------
    >>> bytes_of("1.5G"), bytes_of("64 MB"), bytes_of("1000")
    (1610612736, 67108864, 1000)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise InputError(f"--memory: got {text!r}, expected a size such as 500M or 1.5G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def check_output(path: Path, argument: str) -> None:
    """Refuse an output that cannot be written, before any work is done.

    Raises
    ------
    InputError
        If the path is a folder, a pipe or a device, or nothing can be written where it should
        stand.
    """
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "pipe or device"
        raise InputError(f"{argument}: got the {kind} {path}, expected the name of a file")
    folder = path.absolute().parent
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{argument}: got {path}, expected a place that can be written to ({error.strerror})"
        ) from None


def listed(paths: Sequence[Path]) -> list[Path]:
    """The images, with those of each folder in its place, and without earlier results of them.

    Raises
    ------
    InputError
        If a folder has no images.
    """
    from unet_np.data.own.names import list_images, without_results

    return without_results(
        [
            file
            for path in paths
            for file in (list_images(path, "image") if path.is_dir() else [path])
        ]
    )


def output_file(out: str | None, ending: str, images: int) -> Path | None:
    """The one file that ``--out`` names; None where it names a folder, or nothing.

    A name with the ending of a file is one, unless it ends in a slash or the folder is there; a
    folder's name may have dots.

    Raises
    ------
    InputError
        If it names a file of another kind, or one for several images.

    Examples
    --------
    >>> output_file("out.tif", ".tif", 1), output_file("results_v1.2", ".tif", 1)
    (PosixPath('out.tif'), None)
    """
    suffix = Path(out or "").suffix.lower()
    if not out or suffix not in _FILES or out[-1] == "/" or Path(out).is_dir():
        return None
    if images > 1:
        raise InputError(f"--out: got {out} for {images} images, expected a folder, as in {out}/")
    if suffix.replace("tiff", "tif") != ending:
        raise InputError(
            f"--out: got {out}, expected a name that ends in {ending}, or a folder, as in {out}/"
        )
    return Path(out)


def check_outputs(
    paths: Sequence[Path], inputs: Iterable[Path], overwrite: bool, argument: str = "--out"
) -> None:
    """Refuse outputs before any work is done: that cannot be written, or would replace files.

    They are an input, each other, or there already and not written by this program.

    Parameters
    ----------
    paths, inputs : sequences of Path
        What will be written, and what is read.
    overwrite : bool
        Whether files of others may be replaced; inputs never are.
    argument : str
        The flag that names the outputs.

    Raises
    ------
    InputError
        Naming the first such path.
    """
    taken = {path.resolve() for path in inputs}
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in taken:
            raise InputError(f"{argument}: got {path}, which is an input, expected another file")
        if path.resolve() in seen:
            raise InputError(f"{argument}: {path} would be written twice; expected other names")
        seen.add(path.resolve())
        check_output(path, argument)
    check_ours(paths, overwrite, argument)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """The option that gives up files of others."""
    parser.add_argument(
        "--overwrite", action="store_true", help="also replace files that unet-np did not write"
    )


def choose_threads(threads: int | None) -> None:
    """Use that many threads; None leaves the default."""
    from unet_np import backend

    if threads is not None:
        backend.set_thread_count(threads)


def load_network(path: Path, backend: str | None) -> Any:
    """The network of a file of weights, or of a training's folder; messages name the file.

    Raises
    ------
    InputError
        As `UNet.load`.
    """
    from unet_np.network.unet import UNet
    from unet_np.pretrained import available
    from unet_np.pretrained import path as path_of

    if (path / "weights.safetensors").is_file():
        path = path / "weights.safetensors"
    try:
        return UNet.load(path, backend=backend)
    except InputError as error:
        text, name = str(error), path.name
        if not path.exists() and len(path.parts) == 1 and name in available():
            raise InputError(
                f"weights: got no file at {name}, expected one; the network {name} that comes "
                f"along is --model {name} of unet-np segment, or {path_of(name)}"
            ) from None
        if not text.startswith("weights: ") or str(path) in text:
            raise
        raise InputError(f"weights: {path}: {text.removeprefix('weights: ')}") from None


@contextmanager
def progress_bar(total: int | None, text: str, unit: str, quiet: bool = False) -> Iterator[Any]:
    """A tqdm bar on stderr that shows itself if the work takes more than two seconds.

    It shows itself, and its clock goes on, also while one long step gives no news.
    """
    tqdm = require("tqdm", "io").tqdm
    with tqdm(total=total, desc=text, unit=unit, delay=_DELAY, leave=False, disable=quiet) as bar:
        ended = threading.Event()
        # A log file need not hold a line for every second.
        interval = 1 if sys.stderr.isatty() else 10

        def tick() -> None:
            seconds = _DELAY
            while not ended.wait(seconds):
                bar.refresh()
                seconds = interval

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield bar
        finally:
            ended.set()
            # Ctrl-C within a refresh leaves tqdm's lock taken; the thread would wait for ever.
            thread.join(timeout=1)


def count_tiles(bar: Any, number: int, slices: int, done: int, total: int) -> None:
    """Show how many tiles of all slices are done."""
    bar.total = total * slices
    bar.update(total * number + done - bar.n)


@contextmanager
def opened(
    net: Any, path: Path, axes: str | None, most: Callable[[int], object]
) -> Iterator[BandedImage]:
    """An image that has the channels which the network reads: colour may become grey.

    Parameters
    ----------
    net, path, axes
        The network, the file, and what its axes are.
    most : callable
        As in `unet_np.images.open_bands`.

    Raises
    ------
    InputError
        As `unet_np.images.open_bands`, or if it has others.
    """
    from unet_np.images import open_bands

    with open_bands(path, argument="image", axes=axes, most=most) as image:
        _check_channels(net, path, image.shape[-1] if image.axes.endswith("C") else 1)
        yield image


def open_for(net: Any, path: Path, axes: str | None = None) -> ImageFile:
    """The same as an array.

    Raises
    ------
    InputError
        As `unet_np.images.open_image`, or if it has other channels.
    """
    from unet_np.images import open_image

    image = open_image(path, argument="image", axes=axes)
    _check_channels(net, path, image.pixels.shape[-1] if image.axes.endswith("C") else 1)
    return image


def _check_channels(net: Any, path: Path, got: int) -> None:
    channels = net.architecture.in_channels
    split = "split the channels first (in Fiji: Image, Color, Split Channels)"
    if (channels, got) == (1, 3):
        grey = "is in colour and read as grey: 0.299 red + 0.587 green + 0.114 blue"
        _LOGGER.warning("%s: %s", path, f"{grey}; to use one channel alone, {split}")
    elif got != channels:
        expected = "1, or 3 of a colour image" if channels == 1 else f"{channels}"
        raise InputError(
            f"image: {path} has {got} channel{'s' * (got > 1)}, expected {expected}, which the "
            f"network reads{f'; {split}' * (channels == 1)}"
        )


def stored(image: BandedImage, number: int, file: Path) -> DiskArray:
    """A slice on disk, as it was read; closed by the caller."""
    from unet_np.files.on_disk import new_array

    page = new_array(file, image.shape, image.dtype)
    for rows, band in image.bands(number):
        page[rows] = band
    return page


def add_axes(parser: argparse.ArgumentParser, whose: str = "the images") -> None:
    """The option that says what the axes of a file are."""
    parser.add_argument(
        "--axes",
        metavar="AXES",
        help=f"of {whose}, where a file names them wrong: such as ZYX (slices) or CYX (channels)",
    )
