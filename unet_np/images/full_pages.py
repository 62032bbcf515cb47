"""Which pages of a TIFF are slices: no smaller copies, thumbnails or masks, and all alike."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from unet_np.errors import InputError


def full_pages(pages: Sequence[Any], remarks: list[str]) -> list[Any]:
    """Without the pages that are smaller copies or masks of others; a remark says how many.

    Parameters
    ----------
    pages : sequence of tifffile.TiffPage
        At least one.
    remarks : list of str
        To which it is added.
    """
    marked = [page for page in pages if page.subfiletype & 0b101]
    full = [page for page in pages if not page.subfiletype & 0b101] or list(pages)
    if len(full) > 1 and _is_pyramid(full):
        full = full[:1]
    left_out = len(pages) - len(full)
    if left_out:
        masks = sum(page.subfiletype & 0b100 > 0 for page in marked)
        what = "mask" if masks == left_out else "smaller copy"
        what = what if left_out == 1 else {"mask": "masks"}.get(what, "smaller copies")
        remarks.append(f"{left_out} {what} of the image in it left out")
    return full


def _is_pyramid(pages: Sequence[Any]) -> bool:
    """Whether each page is the first one at half (or a third, a quarter) of the last one's size."""
    if len({(page.dtype, page.samplesperpixel) for page in pages}) > 1:
        return False
    sizes = [(page.imagelength, page.imagewidth) for page in pages]
    return any(
        all(
            abs(large - small * factor) < factor + 1
            for one, two in itertools.pairwise(sizes)
            for large, small in zip(one, two, strict=True)
        )
        for factor in (2, 3, 4)
    )


def equal_pages(pages: list[Any]) -> list[Any]:
    """The same pages, if all are of one kind.

    Raises
    ------
    InputError
        Naming their shapes.
    """
    kinds: dict[tuple[Any, ...], Any] = {}
    for page in pages:
        key = (page.shape, page.dtype, page.bitspersample, int(page.photometric))
        turned = orientation_of(page, pages[0])
        kinds.setdefault((*key, page.extrasamples, turned), page)
    if len(kinds) > 1:
        shapes = ", ".join(str(page.shape) for page in list(kinds.values())[:4])
        raise InputError(
            f"holds {len(kinds)} images of different kinds ({shapes}), expected one image or a "
            "stack of equal ones"
        )
    return pages


def orientation_of(page: Any, first: Any) -> int:
    """TIFF's orientation; a page without the tag has that of the first page.

    tifffile and others write such tags to the first page of a stack only.
    """
    return page.tags.valueof(274, first.tags.valueof(274, 1))
