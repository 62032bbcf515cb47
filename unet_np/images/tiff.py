"""TIFF to pixels, by tifffile with imagecodecs.

The functions here raise `InputError` with a message that lacks its beginning (argument and file),
and whatever the decoders raise.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError, require
from unet_np.images.bounds import check_memory, check_ratio
from unet_np.images.calibration import Calibration
from unet_np.images.conventions import Picture, Samples, arrange, check_meaning, interpret
from unet_np.images.full_pages import orientation_of
from unet_np.images.layout import Layout, find_layout
from unet_np.images.ome import of_ome_xml
from unet_np.images.tiff_checks import (
    check_chain,
    check_pages,
    check_tags,
    has_imagecodecs,
    needs_imagecodecs,
)

# Formats inside TIFF whose pages tifffile alone puts into order.
SERIES_KINDS = {"lsm", "stk", "fluoview", "nih", "scanimage", "ndpi", "svs", "scn", "qpi", "bif"}
SERIES_KINDS |= {"philips", "eer", "avs", "sis", "mdgel", "ndtiff", "mmstack"}


def read_tiff(file: Path, palette: str, axes: str | None) -> tuple[Picture, Calibration]:
    """The picture of a TIFF with its axes in order, and how large its pixels are."""
    tifffile = require("tifffile", "io")
    with complaints_of("tifffile") as complaints, tifffile.TiffFile(file) as tiff:
        if not len(tiff.pages):
            raise ValueError("no page in it")
        check_tags(tiff.pages)
        if SERIES_KINDS & set(tiff.flags) and not tiff.is_ome:
            found = _read_series(tiff, axes), Calibration()
        else:
            found = _read_pages(tiff, file, palette, axes)
    if complaints:
        raise ValueError(complaints[0])
    return found


def _read_series(tiff: Any, axes: str | None) -> Picture:
    """A format of one microscope's maker, as tifffile understands it."""
    if len(tiff.series) != 1:
        shapes = ", ".join(str(series.shape) for series in tiff.series[:4])
        raise InputError(f"holds {len(tiff.series)} images ({shapes}), expected one")
    series = tiff.series[0]
    check_pages([page for page in series.pages if page is not None], tiff.filehandle.size)
    needed = math.prod(series.shape) * series.dtype.itemsize
    check_ratio(needed, tiff.filehandle.size)
    check_memory(needed)
    pixels, letters = series.asarray(maxworkers=1), series.axes
    if len(set(letters)) < len(letters):
        raise InputError(f"has axes {letters}, expected one of each kind")
    return arrange(Picture(pixels, letters), letters, axes)


def _read_pages(
    tiff: Any, file: Path, palette: str, axes: str | None
) -> tuple[Picture, Calibration]:
    layout, page_bytes = checked_layout(tiff, file)
    count = max(layout.behind, len(layout.pages))
    check_memory(page_bytes * (count + 1))
    axes = axes or layout.named or None
    picture = _decode(layout, palette, plain=axes is not None)
    return arranged(picture, layout, axes), layout.calibration


def checked_layout(tiff: Any, file: Path) -> tuple[Layout, int]:
    """The pages of a picture, of which all that can be known without their data is right.

    Returns
    -------
    layout : Layout
    page_bytes : int
        Bytes of the pixels of each.
    """
    pages, size = list(tiff.pages), tiff.filehandle.size
    check_chain(tiff, pages[-1])
    layout = (
        of_ome_xml(tiff.ome_metadata, file.name, pages) if tiff.is_ome else find_layout(pages, size)
    )
    first = layout.pages[0]
    if first.dtype is None or first.dtype.kind not in "buif":
        stored = first.dtype or f"{first.bitspersample} bits of format {first.sampleformat}"
        raise InputError(f"has dtype {stored}, expected real numbers")
    check_meaning(samples_of(first, first), first.samplesperpixel)
    check_pages(layout.pages, size)
    page_bytes = math.prod(first.shape) * first.dtype.itemsize
    count = max(layout.behind, len(layout.pages))
    check_ratio(page_bytes * count, size)
    return layout, page_bytes


def arranged(picture: Picture, layout: Layout, axes: str | None) -> Picture:
    """A decoded picture with its axes in order, and with remarks."""
    first = layout.pages[0]
    picture.remarks[:0] = layout.remarks
    within = {"SYX": "SDYX", "SZYX": "SDYX"}.get(first.axes, "DYXS")
    picture = arrange(picture, layout.axes + within, axes)
    _say_how_read(picture, first, axes)
    return picture


def _say_how_read(picture: Picture, page: Any, axes: str | None) -> None:
    """Remarks where the file could as well be meant otherwise."""
    if axes is not None or "C" not in picture.axes:
        return
    if page.axes[0] == "S" and page.samplesperpixel in (3, 4) and page.photometric == 2:
        picture.remarks.append(
            f"{page.samplesperpixel} planes that are one picture in colour; if they are slices, "
            "axes ZYX reads them, and tifffile.imwrite(..., photometric='minisblack') writes such "
            "a stack"
        )
    elif page.samplesperpixel == 1 and page.photometric != 3:
        count = picture.pixels.shape[-1]
        meant = ", read as red, green and blue" if count == 3 else ""
        picture.remarks.append(f"its axis C holds {count} channels of one picture{meant}")


def _decode(layout: Layout, palette: str, plain: bool) -> Picture:
    """Every plane interpreted, (sizes of the layout, D, H, W[, samples])."""
    first = _interpreted(layout, 0, palette, plain)
    count = max(layout.behind, len(layout.pages))
    first.axes = layout.axes + first.axes
    if count == 1:
        first.pixels = first.pixels.reshape(layout.sizes + first.pixels.shape)
        return first
    pixels = np.empty((count, *first.pixels.shape), first.pixels.dtype)
    pixels[0] = first.pixels
    for number in range(1, count):
        one = _interpreted(layout, number, palette, plain)
        if one.pixels.shape != first.pixels.shape or one.pixels.dtype != first.pixels.dtype:
            raise InputError(
                f"holds images in grey and in colour ({first.pixels.shape[1:]}, "
                f"{one.pixels.shape[1:]}), expected one kind"
            )
        pixels[number] = one.pixels
    first.pixels = pixels.reshape(layout.sizes + pixels.shape[1:])
    return first


def _stored(layout: Layout, number: int) -> np.ndarray:
    """One plane as it is stored, (D, H, W, samples)."""
    page = layout.pages[0 if layout.behind else number]
    if layout.behind:
        file = page.parent.filehandle
        dtype = page.dtype.newbyteorder(page.parent.byteorder)
        size = math.prod(page.shape)
        file.seek(page.dataoffsets[0] + number * size * dtype.itemsize)
        stored = np.frombuffer(file.read(size * dtype.itemsize), dtype).reshape(page.shaped)
    else:
        stored = _whole(page)
    return np.moveaxis(stored, 0, -1)[..., 0, :] if page.planarconfig == 2 else stored[0]


def _whole(page: Any) -> np.ndarray:
    try:
        return page.asarray(squeeze=False, maxworkers=1)
    except Exception as error:
        if not has_imagecodecs() and "imagecodecs" in str(error):
            raise needs_imagecodecs(page) from None
        raise


def _interpreted(layout: Layout, number: int, palette: str, plain: bool) -> Picture:
    page = layout.pages[0 if layout.behind else number]
    return interpret(_stored(layout, number), samples_of(page, layout.pages[0]), palette, plain)


def samples_of(page: Any, first: Any) -> Samples:
    """What a page says of its samples, or the first one, which may speak for all."""
    known = 262 in page.tags
    usual = "RGB" if page.samplesperpixel > 2 else "MINISBLACK"
    photometric = getattr(page.photometric, "name", str(page.photometric)) if known else usual
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8
    return Samples(
        photometric,
        bits,
        tuple(int(one) for one in page.extrasamples),
        _palette(page.tags.valueof(320, first.tags.valueof(320))),
        orientation_of(page, first),
        int(page.compression),
    )


def _palette(table: Any) -> np.ndarray | None:
    """Colours, (count, 3); 8 bits where no colour has more."""
    if table is None:
        return None
    colours = np.asarray(table, np.uint16).reshape(3, -1).T
    # Some programs write 8 bits as they are, others times 256 or 257.
    if colours.max() < 256:
        return colours.astype(np.uint8)
    eight = colours >> 8
    exact = any((colours == eight * times).all() for times in (256, 257))
    return eight.astype(np.uint8) if exact else colours


@contextmanager
def complaints_of(library: str) -> Iterator[list[str]]:
    """Collect the errors that a library logs and does not raise, of this thread only."""
    found: list[str] = []
    thread = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR and record.thread == thread:
                found.append(record.getMessage())

    logger, handler = logging.getLogger(library), Collector()
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
