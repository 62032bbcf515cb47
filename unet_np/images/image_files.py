"""Images in and out: PNG, JPEG and TIFF, grey values, and the one normalisation.

The paper's networks read single-channel images (Fig. 1, "input image tile"). Microscopes
write 8-bit, 16-bit and float files, colour files and stacks; here each becomes an array, or
one line that says why it cannot.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError, MissingExtraError, require
from unet_np.files import atomic_write
from unet_np.images.decode import read_png_or_jpeg, read_tiff

PathLike = str | os.PathLike[str]

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",  # BigTIFF
    b"MM\0+": "tiff",
}
_EXPECTED = "expected a PNG, JPEG or TIFF image"
# ITU-R BT.601: the weights of the eye's sensitivity that ImageJ and Pillow use as well.
_LUMA = np.array([0.299, 0.587, 0.114])


def read_image(path: PathLike, *, argument: str = "path") -> np.ndarray:
    """Read a PNG, JPEG or TIFF file as it is.

    What the file holds decides, not its name. TIFF may be a stack, of 8, 16 or 32 bits, integer
    or float, uncompressed, deflate or LZW.

    Parameters
    ----------
    path : path-like
        The file.
    argument : str
        What error messages call it.

    Returns
    -------
    numpy.ndarray
        In the file's own dtype and the machine's byte order: (H, W) grey, (H, W, 2) grey and
        alpha, (H, W, 3) RGB, (H, W, 4) RGBA, or with an axis N in front for a stack. A PNG with
        a palette is given in colour, or in grey where its palette is grey.

    Raises
    ------
    InputError
        If the file is missing, a folder, empty, cut short, no image, compressed in a way that
        cannot be read here, complex, of more axes than a stack, or holds NaN or infinity.
    MissingExtraError
        If Pillow or tifffile is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/slice.tif"
    >>> write_tiff(path, np.arange(6, dtype=np.uint16).reshape(2, 3))
    >>> read_image(path)
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint16)
    """
    file, kind = _identify(path, argument)
    try:
        array = read_tiff(file) if kind == "tiff" else read_png_or_jpeg(file, kind)
    except MissingExtraError:
        raise
    except InputError as error:
        raise InputError(f"{argument}: {file} {error}") from None
    # Decoders meet damaged files with exceptions of every sort, SyntaxError among them.
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"{argument}: {file} is truncated or damaged ({reason}), {_EXPECTED}"
        ) from None
    if array.size == 0:
        raise InputError(f"{argument}: {file} has shape {array.shape}, expected at least one pixel")
    check_finite(array, f"{argument}: {file}")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def pages(image: np.ndarray) -> list[np.ndarray]:
    """The images of a stack, each (H, W) or (H, W, channels); the image itself if it is none.

    Parameters
    ----------
    image : numpy.ndarray
        Of `read_image`. A last axis of 1 to 4 is read as channels.

    Examples
    --------
    >>> [len(pages(np.zeros(shape))) for shape in ((9, 8, 7), (9, 8), (9, 8, 3))]
    [9, 1, 1]
    """
    colour = image.shape[-1] <= 4 and image.ndim > 2
    return [image] if image.ndim == (3 if colour else 2) else list(image)


def check_finite(array: np.ndarray, what: str) -> None:
    """Raise an `InputError` if a floating-point array holds NaN or infinity.

    Parameters
    ----------
    array : numpy.ndarray
        Of any shape and dtype.
    what : str
        How the message begins: the argument, the file.

    Examples
    --------
    >>> check_finite(np.array([1.0, np.nan]), "image")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: image holds 1 NaN or infinite value, the first at (1,), expected \
finite numbers
    """
    if array.dtype.kind not in "fc":
        return
    bad = ~np.isfinite(array)
    count = int(np.count_nonzero(bad))
    if count:
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
        values = "value" if count == 1 else "values"
        raise InputError(
            f"{what} holds {count} NaN or infinite {values}, the first at {first}, "
            "expected finite numbers"
        )


def to_grey(image: np.ndarray) -> np.ndarray:
    """One grey value for each pixel.

    Colour becomes ``0.299 R + 0.587 G + 0.114 B`` (ITU-R BT.601), rounded to the nearest value
    in integer images; alpha is ignored. A last axis of 1 to 4 is read as channels, so a stack
    whose images are that narrow is not recognised as one.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W), (H, W, channels), (N, H, W) or (N, H, W, channels): 1 grey, 2 grey and alpha,
        3 RGB or 4 RGBA channels.

    Returns
    -------
    numpy.ndarray
        (H, W) or (N, H, W), in the dtype of `image`.

    Raises
    ------
    InputError
        If `image` has another number of axes or of channels.

    Examples
    --------
    >>> to_grey(np.array([[[255, 0, 0], [9, 9, 9]]], np.uint8))
    array([[76,  9]], dtype=uint8)
    """
    channels = image.shape[-1] if image.ndim in (3, 4) and image.shape[-1] <= 4 else None
    if image.ndim == 2 or (image.ndim == 3 and channels is None):
        return image
    if channels is None or channels == 0:
        raise InputError(
            f"image: got shape {image.shape}, expected (H, W), (H, W, 1 to 4 channels) or a stack "
            "(N, H, W)"
        )
    if channels <= 2:
        return image[..., 0]
    grey = image[..., :3] @ _LUMA
    return (
        np.rint(grey).astype(image.dtype) if image.dtype.kind in "iub" else grey.astype(image.dtype)
    )


def normalise(image: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, for each image by itself.

    The paper says nothing of its grey values. This makes a network indifferent to exposure, gain
    and bit depth: ``normalise(a * image + b)`` is ``normalise(image)`` for every a > 0.

    Parameters
    ----------
    image : numpy.ndarray
        Grey, (H, W) or with further axes in front; real numbers of any dtype.

    Returns
    -------
    numpy.ndarray
        float32, of the shape of `image`. A constant image becomes zeros.

    Raises
    ------
    InputError
        If `image` has fewer than two axes, is in colour, or holds NaN, infinity or complex
        numbers.

    Examples
    --------
    >>> normalise(np.array([[10, 20], [10, 20]], np.uint8))
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    if image.ndim < 2 or image.size == 0 or (image.ndim > 2 and image.shape[-1] <= 4):
        raise InputError(
            f"image: got shape {image.shape}, expected grey (H, W) or (..., H, W); to_grey makes "
            "grey from colour"
        )
    if image.dtype.kind not in "buif":
        raise InputError(f"image: got dtype {image.dtype}, expected real numbers")
    check_finite(image, "image")
    axes = (-2, -1)
    values = image.astype(np.float64)
    # Divided first, so that no square overflows and a constant image is exactly constant.
    largest = np.abs(values).max(axis=axes, keepdims=True)
    values /= np.where(largest == 0, 1, largest)
    values -= values.mean(axis=axes, keepdims=True)
    spread = values.std(axis=axes, keepdims=True)
    return (values / np.where(spread == 0, 1, spread)).astype(np.float32)


def write_tiff(
    path: PathLike,
    array: np.ndarray,
    *,
    axes: str | None = None,
    labels: Sequence[str] | None = None,
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

    Raises
    ------
    InputError
        If the name, the shape, the axes, the labels or the values cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/probabilities.tif"
    >>> write_tiff(path, np.zeros((2, 8, 8)), axes="CYX", labels=["membrane", "cell"])
    >>> read_image(path).dtype
    dtype('float32')
    """
    tifffile = require("tifffile", "io")
    _check_suffix(path, (".tif", ".tiff"))
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
    if array.size == 0:
        raise InputError(f"array: got shape {array.shape}, expected at least one pixel")
    if "S" in chosen and (array.dtype != np.uint8 or array.shape[-1] not in (3, 4)):
        raise InputError(
            f"array: got {array.dtype} {array.shape} for RGB, expected uint8 (..., H, W, 3)"
        )
    slices = int(np.prod(array.shape[: len(front)]))
    if labels is not None and len(labels) != slices:
        raise InputError(f"labels: got {len(labels)}, expected {slices}, one for each slice")
    metadata: dict[str, Any] = {"axes": chosen}
    if "C" in chosen:
        metadata["mode"] = "grayscale"
    if labels is not None:
        metadata["Labels"] = list(labels)
    ready = _as_imagej(array)
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            ready,
            imagej=True,
            metadata=metadata,
            photometric="rgb" if "S" in chosen else "minisblack",
        )


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
        pillow.fromarray(np.ascontiguousarray(ready)).save(temporary, format="PNG")


def _identify(path: PathLike, argument: str) -> tuple[Path, str]:
    """The file and its kind by its first bytes; an `InputError` where it has none."""
    try:
        file = Path(path)
    except TypeError:
        raise InputError(
            f"{argument}: got {type(path).__name__}, expected the name of an image file"
        ) from None
    if file.is_dir():
        raise InputError(f"{argument}: {file} is a folder, {_EXPECTED}")
    try:
        with open(file, "rb") as stream:
            start = stream.read(16)
    except FileNotFoundError:
        raise InputError(f"{argument}: {file} does not exist, {_EXPECTED}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{argument}: {file} cannot be read ({reason}), {_EXPECTED}") from None
    if not start:
        raise InputError(f"{argument}: {file} is empty (0 bytes), {_EXPECTED}")
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            return file, kind
    raise InputError(f"{argument}: {file} is not an image (starts with {start[:4]!r}), {_EXPECTED}")


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
            single = array.astype(np.float32)
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
