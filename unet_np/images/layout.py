"""Which pages of a TIFF are its picture, and what their order means.

A TIFF is a chain of pages. Some are no slices: copies in a smaller size, thumbnails, masks. What
the others are is said by ImageJ's or tifffile's description, by OME's XML (`unet_np.images.ome`),
or by nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unet_np.errors import InputError
from unet_np.images.calibration import Calibration, of_tags
from unet_np.images.full_pages import equal_pages, full_pages

_UNNAMED = "IQUVWKNM"
_NARROW = 16  # pixels; a stack of narrower images is rather one image with its channels last


@dataclass
class Layout:
    """The pages of a picture.

    Attributes
    ----------
    pages : list of tifffile.TiffPage
        In the order of `sizes`.
    axes : str
        A letter for each axis in front of those of a page.
    sizes : tuple of int
        Their lengths.
    behind : int
        How many planes lie behind each other in the data of the only page; 0 if each has a page.
    named : str
        A letter for each axis longer than 1, where the file has one for the samples of a pixel
        as well.
    calibration : Calibration
        What the file says of it.
    remarks : list of str
        What the user should know.
    """

    pages: list[Any]
    axes: str = ""
    sizes: tuple[int, ...] = ()
    behind: int = 0
    named: str = ""
    calibration: Calibration = field(default_factory=Calibration)
    remarks: list[str] = field(default_factory=list)


def find_layout(pages: Sequence[Any], file_size: int) -> Layout:
    """The layout of a file that is no OME-TIFF.

    Parameters
    ----------
    pages : sequence of tifffile.TiffPage
        Of the main chain.
    file_size : int
        Bytes.

    Raises
    ------
    InputError
        If the pages are no stack, or fewer than the file says.
    """
    remarks: list[str] = []
    full = equal_pages(full_pages(pages, remarks))
    first = full[0]
    imagej = imagej_entries(first.description) or imagej_entries(first.description1)
    shape = _described_shape(first.description) if not imagej else None
    several = sum(bool(_described_shape(page.description)) for page in full[:2]) > 1
    if imagej or shape:
        _check_in_line(full)
    if imagej:
        layout = _of_imagej(full, imagej, file_size)
    elif shape and not several:
        layout = _of_tifffile(full, shape, file_size)
    else:
        layout = Layout(full, "I" * (len(full) > 1), (len(full),) if len(full) > 1 else ())
    layout.remarks = remarks + layout.remarks
    layout.calibration = of_tags({tag.code: tag.value for tag in first.tags}, imagej)
    return layout


def _check_in_line(pages: Sequence[Any]) -> None:
    """Where all planes were written before the second page, each lies behind the last.

    Readers of such stacks go by the first page only; a page that says otherwise is damaged.
    """
    first = pages[0]
    if len(pages) < 2 or not first.is_contiguous:
        return
    place, size = first.dataoffsets[0], first.nbytes
    if pages[1].offset < place + len(pages) * size:
        return
    for number, page in enumerate(pages):
        if page.dataoffsets[0] != place + number * size:
            raise ValueError(f"page {number + 1} does not lie behind the last")


def imagej_entries(description: str) -> dict[str, Any]:
    """What ImageJ writes line by line into a TIFF's description; empty if it did not.

    Examples
    --------
    >>> imagej_entries("ImageJ=1.53t\\nimages=5\\nunit=um\\n")
    {'ImageJ': '1.53t', 'images': 5, 'unit': 'um'}
    """
    if not description.startswith(("ImageJ=", "SCIFIO=")):
        return {}
    entries: dict[str, Any] = {}
    for line in description.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            try:
                entries[key.strip()] = int(value)
            except ValueError:
                entries[key.strip()] = value.strip()
    return entries


def _count(entries: Mapping[str, Any], key: str) -> int:
    value = entries.get(key, 1)
    return value if isinstance(value, int) and value > 0 else 1


def _of_imagej(pages: list[Any], entries: Mapping[str, Any], file_size: int) -> Layout:
    """The hyperstack that the header names, or as much of it as is there."""
    first = pages[0]
    order = str(entries.get("order", "czt")).upper()[::-1]
    axes = order if sorted(order) == ["C", "T", "Z"] else "TZC"
    sizes = {
        "T": _count(entries, "frames"),
        "Z": _count(entries, "slices"),
        "C": _count(entries, "channels"),
    }
    if sizes["C"] == first.samplesperpixel:
        # Samples of a pixel that are called channels.
        sizes["C"] = 1
    named = math.prod(sizes.values())
    if named == 1:
        axes, sizes, named = "I", {"I": _count(entries, "images")}, _count(entries, "images")
    if len(pages) == 1 and named > 1:
        return _behind(first, axes, tuple(sizes[letter] for letter in axes), file_size)
    if len(pages) == named:
        return Layout(pages, axes, tuple(sizes[letter] for letter in axes))
    return _miscounted(pages, axes, sizes)


def _miscounted(pages: list[Any], axes: str, sizes: dict[str, int]) -> Layout:
    """As many whole frames or slices as there are, where the header names another number."""
    named, there = math.prod(sizes.values()), len(pages)
    outer = next((letter for letter in axes if letter != "C" and sizes[letter] > 1), None)
    if outer is None and named == 1 and "Z" in sizes:
        outer = "Z"
    outer = "I" if "I" in sizes else outer
    inner = named // sizes[outer] if outer else named
    count = there // inner
    if outer is None or not count or (there > named and there % inner):
        raise InputError(
            f"names {named} images in its header and holds {there}, expected as many as it names"
        )
    sizes[outer] = count
    used = count * inner
    remark = f"its header names {named} slice{'s' * (named > 1)} and it holds {there}"
    if used < there:
        remark += f", of which the first {used} are read"
    shape = tuple(sizes[letter] for letter in axes)
    return Layout(pages[:used], axes, shape, remarks=[remark])


def _behind(page: Any, axes: str, sizes: tuple[int, ...], file_size: int) -> Layout:
    """Planes that lie behind each other, with a page for the first one only."""
    planes = math.prod(sizes)
    if not page.is_contiguous or page.predictor != 1 or page.fillorder != 1 or page.dtype is None:
        raise InputError(f"names {planes} images and holds 1, expected as many as it names")
    size = math.prod(page.shape) * page.dtype.itemsize
    there = (file_size - page.dataoffsets[0]) // size if size else 0
    if there < planes:
        raise InputError(
            f"is truncated: it names {planes} images and holds {there}, expected as many as it "
            "names"
        )
    return Layout([page], axes, sizes, planes)


def _described_shape(description: str) -> tuple[list[int], str] | None:
    """The shape, and the axes if they are named, that tifffile writes as JSON."""
    if not description.startswith('{"'):
        return None
    try:
        values = json.loads(description)
        shape = [int(size) for size in values["shape"]]
        axes = str(values.get("axes", ""))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return shape, axes if len(axes) == len(shape) else ""


def _of_tifffile(pages: list[Any], described: tuple[list[int], str], file_size: int) -> Layout:
    """The axes in front of those of a page, by the shape that tifffile wrote."""
    shape, axes = described
    page = pages[0]
    sizes = [size for size in shape if size != 1]
    letters = [one for one, size in zip(axes, shape, strict=False) if size != 1]
    inner = [size for size in page.shape if size != 1]
    front = len(sizes) - len(inner)
    if front < 0 or sizes[front:] != inner or math.prod(sizes[:front]) < len(pages):
        # Written by somebody else who kept the description.
        return Layout(pages, "I" * (len(pages) > 1), (len(pages),) if len(pages) > 1 else ())
    names = _named(letters[:front] if letters else "", front)
    planes = math.prod(sizes[:front])
    if planes > 1 and not letters and front == 1 and page.imagewidth < min(planes, _NARROW):
        raise InputError(
            f"holds {planes} pages of {page.imagelength} x {page.imagewidth}, expected wider "
            "images; axes YXC reads them as one image with its channels last, ZYX as slices"
        )
    if len(pages) == planes:
        named = _samples_named(page, names, letters[front:])
        return Layout(pages, names, tuple(sizes[:front]), named=named)
    if len(pages) == 1:
        return _behind(page, names, tuple(sizes[:front]), file_size)
    raise InputError(
        f"is truncated: it names {planes} images and holds {len(pages)}, expected as many as it "
        "names"
    )


def _samples_named(page: Any, names: str, letters: Sequence[str]) -> str:
    """The letters of all axes, if the samples of a pixel are called slices or channels."""
    kept = [one for one, size in zip(page.axes, page.shape, strict=True) if size != 1]
    if page.samplesperpixel < 2 or len(kept) != len(letters) or "YX" not in "".join(kept):
        return ""
    named = "".join(letters).upper()
    meant = named[kept.index("S")] in "TZC" and len(set(names + named)) == len(names + named)
    return names + named if meant else ""


def _named(letters: Sequence[str], count: int) -> str:
    """Letters that occur once; T, Z and C are what they say, others are slices."""
    names = ""
    for i in range(count):
        wanted = letters[i].upper() if letters else ""
        free = next(one for one in _UNNAMED if one not in names)
        names += wanted if wanted in "TZC" and wanted and wanted not in names else free
    return names
