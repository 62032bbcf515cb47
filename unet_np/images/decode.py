"""PNG, JPEG and TIFF to arrays: what `unet_np.images.read_image` stands on.

The functions here raise `InputError` with a message that lacks its beginning (argument and file),
and whatever the decoders raise; `read_image` makes one line of either.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError, require


def read_png_or_jpeg(file: Path, kind: str) -> np.ndarray:
    """(H, W) or (H, W, channels) by Pillow; `kind` is "png" or "jpeg"."""
    depth, colour_type = 8, 0
    if kind == "png":
        # The header chunk is always the first one: bytes 24 and 25 of the file.
        with open(file, "rb") as stream:
            depth, colour_type = stream.read(26)[24:26]
    if depth == 16 and colour_type != 0:
        raise InputError(
            "is a 16-bit PNG in colour, of which Pillow reads 8 bits only, expected 16-bit grey, "
            "8-bit colour or a TIFF"
        )
    with _open_with_pillow(file) as image:
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode not in ("1", "L", "LA", "RGB", "RGBA", "I", "I;16"):
            image = image.convert("RGB")
        array = np.asarray(image)
    if depth == 16:
        return array.astype(np.uint16)
    palette_is_grey = colour_type == 3 and bool((array == array[..., :1])[..., :3].all())
    return array[..., 0] if palette_is_grey else array


def read_tiff(file: Path) -> np.ndarray:
    """([N,] H, W [, channels]) by tifffile, or by Pillow what tifffile cannot decompress."""
    tifffile = require("tifffile", "io")
    with _complaints_of("tifffile") as complaints, tifffile.TiffFile(file) as tiff:
        if not tiff.series:
            raise ValueError("no page in it")
        if len(tiff.series) > 1:
            shapes = ", ".join(str(series.shape) for series in tiff.series[:4])
            raise InputError(
                f"holds {len(tiff.series)} images of different kinds ({shapes}), expected one "
                "image or a stack of equal ones"
            )
        series = tiff.series[0]
        if series.dtype is None or series.dtype.kind not in "buif":
            raise InputError(f"has dtype {series.dtype}, expected real numbers")
        try:
            array = series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            array = _read_tiff_with_pillow(file, series)
        shape, axes = series.get_shape(squeeze=False), series.get_axes(squeeze=False)
    if complaints:
        raise ValueError(complaints[0])
    return _arrange(array.reshape(shape), axes)


def _read_tiff_with_pillow(file: Path, series: Any) -> np.ndarray:
    """Pages that tifffile cannot decompress without imagecodecs, LZW first of all."""
    pillow = require("PIL", "io")
    try:
        with _open_with_pillow(file) as image:
            pages = []
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                pages.append(np.array(image))
        array = np.stack(pages)
        known = array.dtype == series.dtype.newbyteorder("=")
    # KeyError: a compression that is not in Pillow's table.
    except (pillow.UnidentifiedImageError, KeyError):
        known = False
    if not known:
        raise InputError(
            f"is {series.keyframe.compression.name}-compressed {series.dtype}, expected "
            "uncompressed, deflate or LZW of up to 32 bits; pip install imagecodecs reads others"
        )
    return array.reshape(series.shape)


def _arrange(array: np.ndarray, axes: str) -> np.ndarray:
    """Axes as TIFF names them to ([N,] H, W [, channels]); S is the sample: a colour channel."""
    keep = [i for i, letter in enumerate(axes) if letter in "YX" or array.shape[i] > 1]
    array = array.reshape([array.shape[i] for i in keep])
    axes = "".join(axes[i] for i in keep)
    stack = [i for i, letter in enumerate(axes) if letter not in "YXS"]
    if len(stack) > 1 or axes.count("Y") != 1 or axes.count("X") != 1:
        raise InputError(
            f"has {array.ndim} axes, {axes} of sizes {array.shape}, expected (H, W), (H, W, 3) or "
            "a stack (N, H, W)"
        )
    order = stack + [axes.index(letter) for letter in "YXS" if letter in axes]
    return array.transpose(order)


@contextmanager
def _open_with_pillow(file: Path) -> Iterator[Any]:
    pillow = require("PIL.Image", "io")
    limit = pillow.MAX_IMAGE_PIXELS
    try:
        # The limit is there for servers that open strangers' files; micrographs go past it.
        pillow.MAX_IMAGE_PIXELS = None
        with warnings.catch_warnings():
            # Remarks on metadata; what is wrong with the pixels is raised.
            warnings.simplefilter("ignore")
            with pillow.open(file) as image:
                yield image
    finally:
        pillow.MAX_IMAGE_PIXELS = limit


@contextmanager
def _complaints_of(library: str) -> Iterator[list[str]]:
    """Collect the errors that a library logs and does not raise, instead of printing them."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                found.append(record.getMessage())

    logger = logging.getLogger(library)
    handler, propagate = Collector(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
