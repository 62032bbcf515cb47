"""Which planes of an OME-TIFF's image lie in this very file.

OME's XML describes the whole image, which may be spread over several files. What lies in others is
left to them: a file is read as the planes that it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from unet_np.errors import InputError
from unet_np.images.calibration import of_ome
from unet_np.images.full_pages import equal_pages, full_pages
from unet_np.images.layout import Layout

_ORDERS = {"XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"}


class Plane(NamedTuple):
    """Where one plane lies: its page, and its place along T, Z and C."""

    page: int
    t: int
    z: int
    c: int


def of_ome_xml(xml: str, name: str, pages: Sequence[Any]) -> Layout:
    """The layout of one file of an OME-TIFF.

    Parameters
    ----------
    xml : str
        The description of its first page.
    name : str
        Of the file; entries of the XML name files so.
    pages : sequence of tifffile.TiffPage
        Of the main chain, all of them.

    Returns
    -------
    Layout
        With axes T, Z, C, as long as this file's planes are many.

    Raises
    ------
    InputError
        If it holds several images, or its planes are no whole stack.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise InputError(f"has damaged OME metadata ({error}), expected XML") from None
    own = root.get("UUID")
    alone = (
        len({_file_of(uuid) for uuid in root.iter() if uuid.tag.rpartition("}")[2] == "UUID"}) == 1
    )
    images = [pixels for image in _all(root, "Image") for pixels in _all(image, "Pixels")]
    found = [(pixels, _planes(pixels, own, None if alone else name, pages)) for pixels in images]
    found = [(pixels, planes) for pixels, planes in found if planes]
    if len(found) > 1:
        raise InputError(f"holds {len(found)} images of OME, expected one image or one stack")
    if not found:
        return _undescribed(pages)
    return _grid(*found[0], pages)


def _all(element: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return [child for child in element if child.tag.rpartition("}")[2] == tag]


def _undescribed(pages: Sequence[Any]) -> Layout:
    """What the XML says nothing of: a page, or pages whose axes stand in another file."""
    remarks: list[str] = []
    full = equal_pages(full_pages(pages, remarks))
    if len(full) > 1:
        raise InputError(
            f"holds {len(full)} images that its OME metadata does not describe, expected their axes"
        )
    return Layout(full, remarks=remarks)


def _planes(
    pixels: ElementTree.Element, own: str | None, name: str | None, pages: Sequence[Any]
) -> list[Plane]:
    """The planes of an image that are pages of this file; without a name all of them are."""
    sizes = _sizes(pixels)
    order = pixels.get("DimensionOrder", "XYZCT")
    if order not in _ORDERS:
        raise InputError(f"has OME axes in the order {order!r}, expected such as XYCZT")
    blocks = _all(pixels, "TiffData") or [ElementTree.Element("TiffData")]
    found: dict[int, Plane] = {}
    for block in blocks:
        # Entries that repeat each other would be as many as their square.
        if len(found) < len(pages) and _is_here(block, own, name):
            for plane in _block(block, order[2:], sizes, len(pages)):
                found.setdefault(plane.page, plane)
    return [found[page] for page in sorted(found)]


def _sizes(pixels: ElementTree.Element) -> dict[str, int]:
    sizes = {axis: _number(pixels, f"Size{axis}", 1) for axis in "TZC"}
    samples = {_number(one, "SamplesPerPixel", 1) for one in _all(pixels, "Channel")} or {1}
    if len(samples) > 1:
        raise InputError("has OME channels of different samples a pixel, expected the same")
    sizes["C"] = max(sizes["C"] // max(samples.pop(), 1), 1)
    return sizes


def _number(element: ElementTree.Element, key: str, default: int) -> int:
    try:
        return int(element.get(key, default))
    except ValueError:
        raise InputError(
            f"has OME metadata with {key} {element.get(key)!r}, expected a number"
        ) from None


def _is_here(block: ElementTree.Element, own: str | None, name: str | None) -> bool:
    """Whether an entry speaks of this file: by the file's own UUID, or else by its name."""
    for uuid in _all(block, "UUID")[: name is not None]:
        if own and uuid.text:
            return uuid.text.strip() == own.strip()
        return _file_of(uuid).lower() == (name or "").lower()
    return True


def _file_of(uuid: ElementTree.Element) -> str:
    return uuid.get("FileName") or (uuid.text or "").strip()


def _block(
    block: ElementTree.Element, order: str, sizes: dict[str, int], pages: int
) -> Iterator[Plane]:
    """The planes of one entry: one after the other, the first of `order` fastest."""
    page = _number(block, "IFD", 0)
    total = sizes["T"] * sizes["Z"] * sizes["C"]
    default = 1 if "IFD" in block.attrib else total
    count = _number(block, "PlaneCount", _number(block, "NumPlanes", default))
    place, step = 0, 1
    for axis in order:
        place += _number(block, f"First{axis}", 0) * step
        step *= sizes[axis]
    for number in range(max(min(count, pages - page), 0)):
        rest, where = place + number, {}
        if not 0 <= rest < total or page < 0:
            return
        for axis in order:
            rest, where[axis] = divmod(rest, sizes[axis])
        yield Plane(page + number, where["T"], where["Z"], where["C"])


def _grid(pixels: ElementTree.Element, planes: list[Plane], pages: Sequence[Any]) -> Layout:
    """Planes sorted by T, Z and C; each combination must be there once."""
    remarks: list[str] = []
    planes = sorted(planes, key=lambda plane: plane[1:])
    axes = [sorted({plane[i] for plane in planes}) for i in (1, 2, 3)]
    whole = _whole_frames(planes, axes)
    if len(whole) < len(planes):
        remarks.append(f"{len(planes) - len(whole)} planes of an unfinished frame left out")
        axes[0] = sorted({plane.t for plane in whole})
    sizes = tuple(len(one) for one in axes)
    described = _sizes(pixels)
    total = described["T"] * described["Z"] * described["C"]
    if len(whole) < total:
        remarks.append(f"{len(whole)} of the {total} planes of its OME image are in it")
    chosen = equal_pages([pages[plane.page] for plane in whole])
    unnamed = len(full_pages(pages, [])) - len(planes)
    if unnamed > 0:
        remarks.append(f"{unnamed} pages that its OME metadata does not name are left out")
    size = _number(pixels, "SizeY", 0), _number(pixels, "SizeX", 0)
    if size != (chosen[0].imagelength, chosen[0].imagewidth):
        raise InputError(
            f"has pages of {chosen[0].imagelength} x {chosen[0].imagewidth}, expected {size[0]} x "
            f"{size[1]}, as its OME metadata says"
        )
    return Layout(chosen, "TZC", sizes, calibration=of_ome(pixels.attrib), remarks=remarks)


def _whole_frames(planes: list[Plane], axes: list[list[int]]) -> list[Plane]:
    """The planes of those first frames that have every slice and channel."""
    frame = len(axes[1]) * len(axes[2])
    if len(planes) == frame * len(axes[0]):
        return planes
    found = Counter(plane.t for plane in planes)
    counts = [found[t] for t in axes[0]]
    if counts[0] != frame or any(count != frame for count in counts[:-1]):
        raise InputError(
            f"holds {len(planes)} planes, expected {frame * len(axes[0])}, for each of its "
            f"{len(axes[0])} frames, {len(axes[1])} slices and {len(axes[2])} channels one"
        )
    return [plane for plane in planes if plane.t != axes[0][-1]]
