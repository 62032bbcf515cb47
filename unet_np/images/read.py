"""An image file of any kind to an array, or to one line that says why it cannot be one."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unet_np.errors import InputError, MissingExtraError, one_of
from unet_np.images.calibration import Calibration
from unet_np.images.conventions import PALETTES, Picture, arrange
from unet_np.images.grey import check_finite
from unet_np.images.raster import read_jpeg, read_png
from unet_np.images.tiff import read_tiff

PathLike = str | os.PathLike[str]

_LOGGER = logging.getLogger(__name__)
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",  # BigTIFF
    b"MM\0+": "tiff",
}
_EXPECTED = "expected a PNG, JPEG or TIFF image"
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


@dataclass(frozen=True)
class ImageFile:
    """An image with what its file says of it.

    Attributes
    ----------
    pixels : numpy.ndarray
        As `read_image` gives them.
    axes : str
        A letter for each axis of `pixels`: "YX", "YXC", or with the letter of the slices in front,
        such as "ZYX" or "TYXC"; "I" where the file does not name them.
    calibration : Calibration
        Sizes of a pixel and steps between slices.
    alpha : bool
        Whether there was an alpha channel, which is left out.
    alpha_varies : bool
        Whether something is drawn in it.
    remarks : tuple of str
        What the user should know of how it was read.
    """

    pixels: np.ndarray
    axes: str
    calibration: Calibration = field(default_factory=Calibration)
    alpha: bool = False
    alpha_varies: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def stacked(self) -> bool:
        """Whether the first axis is that of the slices."""
        return self.axes[0] != "Y"

    @property
    def pages(self) -> list[np.ndarray]:
        """The slices, (H, W) or (H, W, C) each; the image itself if it is none."""
        return list(self.pixels) if self.stacked else [self.pixels]


def read_image(
    path: PathLike, *, argument: str = "path", palette: str = "colour", axes: str | None = None
) -> np.ndarray:
    """Read a PNG, JPEG or TIFF file as an array.

    What the file holds decides, not its name. The table of ``docs/files.md`` says what becomes of
    orientation, palettes, inks, alpha and axes.

    Parameters
    ----------
    path : path-like
        The file.
    argument : str
        What error messages call it.
    palette : {"colour", "index"}
        Whether an image with a palette is given in its colours, or as the indices of a mask.
    axes : str, optional
        What the axes of the file are, where it does not say so or is wrong: a letter for each one
        that is longer than 1, in the file's order, such as "ZYX" or "CYX". C is channels, others
        but Y and X are slices.

    Returns
    -------
    numpy.ndarray
        In the file's own dtype and the machine's byte order: (H, W) grey, (H, W, 3) RGB,
        (H, W, 2 to 4) other channels, or with an axis N in front for a stack.

    Raises
    ------
    InputError
        If the file is missing, no regular file, empty, cut short, no image, larger than it or the
        memory can hold, stored in a way that is not read, complex, of more axes than a stack or
        more channels than four, or holds NaN or infinity.
    MissingExtraError
        If Pillow or tifffile is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from unet_np.images import write_tiff
    >>> path = tempfile.mkdtemp() + "/slice.tif"
    >>> write_tiff(path, np.arange(6, dtype=np.uint16).reshape(2, 3))
    >>> read_image(path)
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint16)
    """
    return open_image(path, argument=argument, palette=palette, axes=axes).pixels


def open_image(
    path: PathLike, *, argument: str = "path", palette: str = "colour", axes: str | None = None
) -> ImageFile:
    """Read an image with its axes, its calibration and remarks, which are logged as well.

    Parameters
    ----------
    path, argument, palette, axes
        As in `read_image`.

    Raises
    ------
    InputError, MissingExtraError
        As `read_image`.

    Examples
    --------
    >>> import tempfile
    >>> from unet_np.images import write_tiff
    >>> path = tempfile.mkdtemp() + "/film.tif"
    >>> write_tiff(path, np.zeros((2, 8, 9), np.uint8), axes="TYX")
    >>> film = open_image(path)
    >>> film.axes, len(film.pages)
    ('TYX', 2)
    """
    one_of("palette", palette, PALETTES)
    file, kind = identify(path, argument)
    with in_one_line(f"{argument}: {file}"):
        picture, calibration = _decode(file, kind, palette, axes)
    pixels = picture.pixels
    if pixels.size == 0:
        raise InputError(
            f"{argument}: {file} has shape {pixels.shape}, expected at least one pixel"
        )
    check_finite(pixels, f"{argument}: {file}")
    for remark in picture.remarks:
        _LOGGER.warning("%s: %s", file, remark)
    native = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    alpha = picture.alpha, picture.alpha_varies
    return ImageFile(native, picture.axes, calibration, *alpha, tuple(picture.remarks))


def _decode(file: Path, kind: str, palette: str, axes: str | None) -> tuple[Picture, Calibration]:
    if kind == "tiff":
        return read_tiff(file, palette, axes)
    picture = read_png(file, palette) if kind == "png" else read_jpeg(file)
    return arrange(picture, picture.axes, axes), Calibration()


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Whatever a decoder raises, as an `InputError` that begins with the argument and the file."""
    try:
        yield
    except MissingExtraError:
        raise
    except InputError as error:
        raise InputError(f"{what} {error}") from None
    except MemoryError:
        raise InputError(
            f"{what} needs more memory than there is, expected a smaller image"
        ) from None
    # Decoders meet damaged files with exceptions of every sort, SyntaxError among them.
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{what} is truncated or damaged ({reason}), {_EXPECTED}") from None


def identify(path: PathLike, argument: str) -> tuple[Path, str]:
    """The file and its kind by its first bytes; an `InputError` where it has none."""
    try:
        file = Path(path)
    except TypeError:
        raise InputError(
            f"{argument}: got {type(path).__name__}, expected the name of an image file"
        ) from None
    try:
        mode = os.stat(file).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{argument}: {file} is a folder, {_EXPECTED}")
        # A pipe would be waited for, and a device has no end.
        if not stat.S_ISREG(mode):
            special = _SPECIAL.get(stat.S_IFMT(mode), "no regular file")
            raise InputError(f"{argument}: {file} is {special}, {_EXPECTED}")
        with open(file, "rb") as stream:
            start = stream.read(16)
    except FileNotFoundError:
        raise InputError(f"{argument}: {file} does not exist, {_EXPECTED}") from None
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{argument}: {file} cannot be read ({reason}), {_EXPECTED}") from None
    if not start:
        raise InputError(f"{argument}: {file} is empty (0 bytes), {_EXPECTED}")
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            return file, kind
    raise InputError(f"{argument}: {file} is not an image (starts with {start[:4]!r}), {_EXPECTED}")
