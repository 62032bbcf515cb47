"""Arrays to TIFF files that ImageJ opens, and to PNG files, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError, require
from unet_np.files import atomic_write
from unet_np.files.on_disk import DiskArray
from unet_np.files.ours import PRODUCER
from unet_np.images.calibration import Calibration, for_imagej
from unet_np.images.colours import label_colours
from unet_np.images.grey import check_finite

PathLike = str | os.PathLike[str]

_LARGE = 2**32 - 2**20  # bytes, which TIFF counts in 32 bits
_COLOUR_MAP = 320  # the tag of TIFF


def write_tiff(
    path: PathLike,
    array: np.ndarray,
    *,
    axes: str | None = None,
    labels: Sequence[str] | None = None,
    calibration: Calibration | None = None,
    largest: int | None = None,
) -> None:
    """Write a TIFF that ImageJ opens, whole or not at all.

    ImageJ reads uint8, uint16 and float32. Other dtypes are converted where no value changes:
    bool to 0 and 255, integers to uint16, other floats to float32 (rounded).

    Parameters
    ----------
    path : path-like
        Ends in ``.tif`` or ``.tiff``.
    array : numpy.ndarray
        (H, W), (C, H, W), (N, H, W), (N, C, H, W), or uint8 (H, W, 3) with ``axes="YXS"``.
    axes : str, optional
        ImageJ's letters, one for each axis: T, Z, C, Y, X, S (S: RGB). Without it "YX", "ZYX" or
        "ZCYX".
    labels : sequence of str, optional
        The title that ImageJ shows over each slice, such as ``("membrane", "cell")``.
    calibration : Calibration, optional
        Sizes of a pixel and steps between slices, which ImageJ shows.
    largest : int, optional
        Of labels, which ImageJ then shows in colours of ``unet_np.images.colours``: each its own
        up to 255; of more, two neighbours in number share one, and those from 510 on the last. The
        values stay what they are.

    Raises
    ------
    InputError
        If the name, the shape, the axes, the labels or the values cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/probabilities.tif"
    >>> write_tiff(path, np.zeros((2, 8, 8)), axes="CYX", labels=["membrane", "cell"])
    >>> from unet_np.images import read_image
    >>> read_image(path).dtype
    dtype('float32')
    """
    tifffile = require("tifffile", "io")
    _check_suffix(path, (".tif", ".tiff"))
    chosen = _checked_axes(array, axes)
    if array.size == 0:
        raise InputError(f"array: got shape {array.shape}, expected at least one pixel")
    if "S" in chosen and (array.dtype != np.uint8 or array.shape[-1] not in (3, 4)):
        raise InputError(
            f"array: got {array.dtype} {array.shape} for RGB, expected uint8 (..., H, W, 3)"
        )
    slices = int(np.prod(array.shape[: len(chosen.rstrip("S")) - 2]))
    if labels is not None and len(labels) != slices:
        raise InputError(f"labels: got {len(labels)}, expected {slices}, one for each slice")
    ready = _as_imagej(array)
    options = _options(ready, chosen, calibration, largest)
    if labels is not None:
        options["metadata"]["Labels"] = list(labels)
    with atomic_write(path) as temporary:
        tifffile.imwrite(temporary, ready, **options)


def tiff_on_disk(
    path: Path,
    shape: tuple[int, ...],
    dtype: Any,
    *,
    axes: str,
    calibration: Calibration | None = None,
    largest: int | None = None,
) -> DiskArray:
    """The file that `write_tiff` writes, of zeros, whose pixels are written in parts.

    Parameters
    ----------
    path : Path
        The file; use `unet_np.files.atomic_write` for one that is whole or not there.
    shape, dtype
        Of the array: uint8, uint16 or float32.
    axes, calibration, largest
        As in `write_tiff`.

    Returns
    -------
    DiskArray
        Closed by the caller, or at the end of a `with`.
    """
    tifffile = require("tifffile", "io")
    like = np.broadcast_to(np.zeros((), dtype), shape)
    options = _options(like, _checked_axes(like, axes), calibration, largest)
    found = tifffile.imwrite(path, shape=shape, dtype=dtype, returnoffset=True, **options)
    # Unbuffered: what was written can be read.
    file = open(path, "r+b", buffering=0)  # noqa: SIM115
    order = "<" if file.read(1) == b"I" else ">"
    return DiskArray(file, shape, np.dtype(dtype).newbyteorder(order), found[0])


def _checked_axes(array: np.ndarray, axes: str | None) -> str:
    defaults = {2: "YX", 3: "ZYX", 4: "ZCYX"}
    chosen = defaults.get(array.ndim, "") if axes is None else axes.upper()
    allowed = [letters for letters in ("YX", "YXS") if chosen.endswith(letters)]
    front = chosen.removesuffix(allowed[0]) if allowed else ""
    if (
        not allowed
        or len(chosen) != array.ndim
        or front != "".join(letter for letter in "TZC" if letter in front)
    ):
        raise InputError(
            f"axes: got {axes} for an array of shape {array.shape}, expected one letter for each "
            "axis, of TZCYXS in this order"
        )
    return chosen


def _options(
    array: np.ndarray, axes: str, calibration: Calibration | None, largest: int | None
) -> dict[str, Any]:
    """Of ``tifffile.imwrite``."""
    options = for_imagej(calibration or Calibration(), axes)
    options["metadata"]["axes"] = axes
    if largest is not None:
        # Not as a palette: every other reader has the values, and none the colours for them.
        table = label_colours().T.astype(np.uint16) * 257
        options["extratags"] = [(_COLOUR_MAP, "H", table.size, table.ravel(), True)]
    if largest is not None and array.dtype != np.uint8:
        # ImageJ has 256 colours. A range above 510 would show the first labels as background.
        options["metadata"] |= {"min": 0.0, "max": 255.0 if largest < 256 else 510.0}
    if "C" in axes:
        options["metadata"]["mode"] = "grayscale"
    plane = array.nbytes // int(np.prod(array.shape[: len(axes.rstrip("S")) - 2]))
    # ImageJ finds the slices of a large stack by the first one, and reads no slice that is large.
    kind = {"imagej": True, "truncate": array.nbytes > _LARGE}
    kind = kind if plane <= _LARGE else {"bigtiff": True}
    photometric = "rgb" if "S" in axes else "minisblack"
    return {**options, **kind, "photometric": photometric, "software": PRODUCER}


def write_png(path: PathLike, array: np.ndarray) -> None:
    """Write a PNG, whole or not at all.

    Parameters
    ----------
    path : path-like
        Ends in ``.png``.
    array : numpy.ndarray
        uint8 (H, W), (H, W, 3) or (H, W, 4), uint16 (H, W), or bool (H, W), written as 0 and 255.

    Raises
    ------
    InputError
        If the name, the shape or the dtype cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/mask.png"
    >>> write_png(path, np.array([[True, False]]))
    >>> from unet_np.images import read_image
    >>> read_image(path)
    array([[255,   0]], dtype=uint8)
    """
    pillow = require("PIL.Image", "io")
    _check_suffix(path, (".png",))
    ready = array.astype(np.uint8) * np.uint8(255) if array.dtype == bool else array
    colour = ready.ndim == 3 and ready.shape[-1] in (3, 4) and ready.dtype == np.uint8
    grey = ready.ndim == 2 and ready.dtype in (np.uint8, np.uint16)
    if not (colour or grey) or ready.size == 0:
        raise InputError(
            f"array: got {array.dtype} {array.shape}, expected uint8 (H, W), (H, W, 3) or "
            "(H, W, 4), uint16 (H, W) or bool (H, W)"
        )
    with atomic_write(path) as temporary:
        about = require("PIL.PngImagePlugin", "io").PngInfo()
        about.add_text("Software", PRODUCER)
        image = pillow.fromarray(np.ascontiguousarray(ready))
        image.save(temporary, format="PNG", pnginfo=about)


def _as_imagej(array: np.ndarray) -> np.ndarray:
    """`array` in one of ImageJ's three dtypes, or an `InputError`."""
    kind = array.dtype.kind
    if kind not in "buif":
        raise InputError(f"array: got dtype {array.dtype}, expected bool, integers or floats")
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind == "f":
        check_finite(array, "array:")
        with np.errstate(over="ignore"):
            single = array.astype(np.float32, copy=False)
        check_finite(single, "array: as float32,")
        return single
    if array.dtype in (np.uint8, np.uint16):
        return array
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise InputError(
            f"array: got {array.dtype} from {low} to {high}, expected 0 to 65535, which is what "
            "ImageJ reads as integers; float32 holds more"
        )
    return array.astype(np.uint16)


def _check_suffix(path: PathLike, expected: tuple[str, ...]) -> None:
    suffix = Path(path).suffix
    if suffix.lower() not in expected:
        raise InputError(
            f"path: got {path} with the ending {suffix!r}, expected {' or '.join(expected)}"
        )
