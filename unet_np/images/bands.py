"""Images that are not held whole: their rows, decoded so many at a time.

TIFF is read strip by strip or tile by tile. PNG, JPEG and the few sorts of TIFF whose axes have to
be turned are decoded whole, given in the same way, and forgotten.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError, require
from unet_np.images.bounds import check_memory
from unet_np.images.calibration import Calibration
from unet_np.images.conventions import Picture, interpret
from unet_np.images.full_pages import orientation_of
from unet_np.images.layout import Layout
from unet_np.images.raster import pixel_bytes
from unet_np.images.read import PathLike, identify, in_one_line, open_image
from unet_np.images.tiff import (
    SERIES_KINDS,
    arranged,
    checked_layout,
    complaints_of,
    samples_of,
)
from unet_np.images.tiff_checks import check_tags

_LOGGER = logging.getLogger("unet_np.images.read")
_BAND = 2**20  # bytes that are read at once, or one row of strips or tiles if that is more
_COPIES = 6  # of a band while it is decoded
_PAINTED = 48  # bytes of a pixel more, of palettes and inks


@dataclass(frozen=True)
class BandedImage:
    """An image whose pixels are decoded when they are asked for.

    Attributes
    ----------
    axes, calibration, remarks
        As in `unet_np.images.ImageFile`.
    count : int
        Slices; 1 if it is no stack.
    shape : tuple of int
        Of a slice, (H, W) or (H, W, channels).
    dtype : numpy.dtype
        Of the pixels.
    peak : int
        Bytes that are taken while bands are read.
    step : int
        Rows of a band.
    """

    axes: str
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    peak: int
    step: int
    read: Callable[[int, int], Iterator[np.ndarray]] = field(repr=False)
    calibration: Calibration = field(default_factory=Calibration)
    remarks: tuple[str, ...] = ()
    what: str = "path"

    @property
    def stacked(self) -> bool:
        """Whether it is a stack of slices."""
        return self.axes[0] != "Y"

    def bands(self, number: int = 0, start: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
        """The rows of a slice from top to bottom, and where they stand.

        The first band is the one that holds the row `start`.

        Raises
        ------
        InputError
            As `unet_np.images.read_image`, where the data of the file are damaged.
        """
        row = start // self.step * self.step
        for band in self.read(number, row):
            # The user's axes may leave one channel as an axis of its own.
            native = np.ascontiguousarray(band, self.dtype).reshape(-1, *self.shape[1:])
            yield slice(row, row + len(band)), native
            row += len(band)

    def check(self) -> None:
        """Decode everything once.

        Raises
        ------
        InputError
            If it is damaged, or holds NaN or infinity.
        """
        count, first = 0, None
        for number in range(self.count):
            for rows, band in self.bands(number):
                if self.dtype.kind != "f":
                    continue
                bad = ~np.isfinite(band)
                if bad.any():
                    place = np.unravel_index(int(np.argmax(bad)), band.shape)
                    within = (int(place[0]) + rows.start, *(int(i) for i in place[1:]))
                    first = first or ((number, *within) if self.stacked else within)
                    count += int(np.count_nonzero(bad))
        if count:
            values = "value" if count == 1 else "values"
            raise InputError(
                f"{self.what} holds {count} NaN or infinite {values}, the first at {first}, "
                "expected finite numbers"
            )


@contextmanager
def open_bands(
    path: PathLike,
    *,
    argument: str = "path",
    axes: str | None = None,
    most: Callable[[int], object] = check_memory,
) -> Iterator[BandedImage]:
    """Open an image that is read in bands.

    Parameters
    ----------
    path, argument, axes
        As in `unet_np.images.read_image`.
    most : callable
        Is given the bytes that reading takes, before anything is decoded, and may refuse.

    Yields
    ------
    BandedImage

    Raises
    ------
    InputError, MissingExtraError
        As `unet_np.images.read_image`; damage of the pixels shows when they are read.

    Examples
    --------
    >>> import tempfile
    >>> from unet_np.images import write_tiff
    >>> path = tempfile.mkdtemp() + "/slice.tif"
    >>> write_tiff(path, np.arange(6, dtype=np.uint16).reshape(2, 3))
    >>> with open_bands(path) as image:
    ...     image.shape, [(rows.start, band.tolist()) for rows, band in image.bands()]
    ((2, 3), [(0, [[0, 1, 2], [3, 4, 5]])])
    """
    file, kind = identify(path, argument)
    what = f"{argument}: {file}"
    with ExitStack() as stack:
        image = None
        if kind == "tiff":
            with in_one_line(what):
                image = _open_tiff(stack, file, axes, what)
        if image is None:
            image = _whole(file, kind, argument, axes, most)
        else:
            most(image.peak)
            for remark in image.remarks:
                _LOGGER.warning("%s: %s", file, remark)
        yield image


def _whole(
    file: Path,
    kind: str,
    argument: str,
    axes: str | None,
    most: Callable[[int], object],
) -> BandedImage:
    """An image that is decoded whole: at once, and again where its pixels were forgotten."""
    what = f"{argument}: {file}"
    with in_one_line(what):
        peak = _tiff_bytes(file) if kind == "tiff" else pixel_bytes(file, kind)
    most(peak)
    image = open_image(file, argument=argument, axes=axes)
    stacked, held = image.stacked, [image.pixels]

    def read(number: int, first: int) -> Iterator[np.ndarray]:
        pixels = held.pop() if held else open_image(file, argument=argument, axes=axes).pixels
        if stacked:
            held.append(pixels)
        page = pixels[number] if stacked else pixels
        for row in range(first, len(page), step):
            yield page[row : row + step]

    count, dtype = (len(held[0]) if stacked else 1), held[0].dtype
    shape, facts = held[0].shape[stacked:], (image.calibration, image.remarks)
    step = max(1, _BAND // (math.prod(shape[1:]) * dtype.itemsize + 1))
    return BandedImage(image.axes, count, shape, dtype, peak, step, read, *facts, what)


def _tiff_bytes(file: Path) -> int:
    """What decoding it takes: the stored pixels, and what they become."""
    with require("tifffile", "io").TiffFile(file) as tiff:
        return 3 * sum(math.prod(page.shaped) * page.dtype.itemsize for page in tiff.pages)


def _open_tiff(stack: ExitStack, file: Path, axes: str | None, what: str) -> BandedImage | None:
    """None if it has to be decoded whole."""
    tifffile = require("tifffile", "io")
    with complaints_of("tifffile") as complaints:
        tiff = stack.enter_context(tifffile.TiffFile(file))
        if not len(tiff.pages):
            raise ValueError("no page in it")
        check_tags(tiff.pages)
        if SERIES_KINDS & set(tiff.flags) and not tiff.is_ome:
            return None
        layout, _ = checked_layout(tiff, file)
    if complaints:
        raise ValueError(complaints[0])
    first = layout.pages[0]
    turned = any(orientation_of(page, first) not in (0, 1) for page in layout.pages)
    if turned or first.imagedepth != 1 or 0 in first.shaped:
        return None
    axes = axes or layout.named or None
    reader = _Reader(layout, plain=axes is not None, what=what)
    return reader.image(axes)


@dataclass(frozen=True)
class _Reader:
    """Bands of the planes of a TIFF."""

    layout: Layout
    plain: bool
    what: str

    @property
    def step(self) -> int:
        """Rows of a band: whole strips or tiles."""
        page = self.layout.pages[0]
        width = page.imagewidth * page.samplesperpixel * page.dtype.itemsize
        rows = 1 if self.in_line(page) else _segment(page)[0]
        return rows * max(1, _BAND // (rows * width))

    def in_line(self, page: Any) -> bool:
        """Whether rows lie in the file as they are."""
        return bool(self.layout.behind or page.is_memmappable)

    def image(self, axes: str | None) -> BandedImage | None:
        """Axes, shape and dtype by the first band; None if axes have to be turned."""
        layout, page = self.layout, self.layout.pages[0]
        with complaints_of("tifffile") as complaints:
            picture = self.band(0, 0)
        if complaints:
            raise ValueError(complaints[0])
        dtype = picture.pixels.dtype.newbyteorder("=")
        shape = (1, page.imagelength, *picture.pixels.shape[2:])
        # An array of that shape of which nothing is there.
        like = np.lib.stride_tricks.as_strided(
            np.empty(1, dtype), layout.sizes + shape, _strides(layout.sizes + shape, dtype)
        )
        whole = replace(picture, pixels=like, axes=layout.axes + picture.axes)
        found = arranged(whole, layout, axes)
        stacked = found.axes[0] != "Y"
        count = found.pixels.shape[0] if stacked else 1
        inner = found.pixels.shape[stacked:]
        upright = inner[:2] == (page.imagelength, page.imagewidth)
        if not (found.pixels.flags.c_contiguous and upright and count == math.prod(layout.sizes)):
            return None
        rows = min(self.step, page.imagelength)
        stored = rows * page.imagewidth * page.samplesperpixel * page.dtype.itemsize
        painted = _PAINTED if page.photometric in (3, 5) else 0
        peak = _COPIES * stored + painted * rows * page.imagewidth
        remarks = tuple(found.remarks)
        rest = (layout.calibration, remarks, self.what)
        return BandedImage(found.axes, count, inner, dtype, peak, self.step, self.read, *rest)

    def read(self, number: int, start: int) -> Iterator[np.ndarray]:
        """The bands of a plane from a row on, (rows, W) or (rows, W, channels)."""
        first = None
        for row in range(start, self.layout.pages[0].imagelength, self.step):
            with in_one_line(self.what), complaints_of("tifffile") as complaints:
                picture = self.band(number, row)
                if complaints:
                    raise ValueError(complaints[0])
                pixels = picture.pixels[0]
                first = first or (pixels.shape[2:], pixels.dtype)
                if (pixels.shape[2:], pixels.dtype) != first:
                    raise InputError("holds images in grey and in colour, expected one kind")
            yield pixels

    def band(self, number: int, row: int) -> Picture:
        """Rows of one plane as this package has them, (1, rows, W[, channels])."""
        layout = self.layout
        page = layout.pages[0 if layout.behind else number]
        stop = min(row + self.step, page.imagelength)
        if self.in_line(page):
            stored = self._lines(page, number if layout.behind else 0, row, stop)
        else:
            stored = _segments(page, row, stop)
        # (S, rows, W, samples) to (1, rows, W, S) or (1, rows, W, samples)
        pixels = np.moveaxis(stored, 0, -1)[..., 0, :][None] if page.planarconfig == 2 else stored
        return interpret(pixels, samples_of(page, layout.pages[0]), "colour", self.plain)

    def _lines(self, page: Any, behind: int, row: int, stop: int) -> np.ndarray:
        file, dtype = page.parent.filehandle, page.dtype.newbyteorder(page.parent.byteorder)
        planes, _, height, width, samples = page.shaped
        line = width * samples * dtype.itemsize
        stored = np.empty((planes, stop - row, width, samples), dtype)
        for plane in range(planes):
            place = (behind * planes + plane) * height + row
            file.seek(page.dataoffsets[0] + place * line)
            content = file.read((stop - row) * line)
            stored[plane] = np.frombuffer(content, dtype).reshape(stored.shape[1:])
        return stored


def _strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape)))


def _segment(page: Any) -> tuple[int, int]:
    """Rows and columns of a strip or tile."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _segments(page: Any, row: int, stop: int) -> np.ndarray:
    """The strips or tiles of some rows, decoded, (S, rows, W, samples)."""
    planes, _, height, width, samples = page.shaped
    high, wide = _segment(page)
    down, across = -(-height // high), -(-width // wide)
    stored = np.empty((planes, stop - row, width, samples), page.dtype)
    options: dict[str, Any] = {"_fullsize": False}
    if page.compression in (6, 7, 34892, 33007):
        options |= {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    file = page.parent.filehandle
    for plane in range(planes):
        first = (plane * down + row // high) * across
        for index in range(first, (plane * down + -(-stop // high)) * across):
            file.seek(page.dataoffsets[index])
            data = file.read(page.databytecounts[index])
            segment, (_, _, top, left, _), shape = page.decode(data, index, **options)
            if segment is None:
                raise ValueError(f"strip or tile {index + 1} has no data")
            place = np.s_[plane, top - row : top - row + shape[1], left : left + shape[2]]
            stored[place] = segment[0, : height - top, : width - left]
    return stored
