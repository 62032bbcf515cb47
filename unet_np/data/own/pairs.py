"""The user's own images and masks as a data set."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from unet_np.data import Dataset
from unet_np.data.own.masks import as_numbers, colour_bits, read_meaning
from unet_np.data.own.names import (
    in_order,
    list_images,
    pair_names,
    split_folder,
    without_results,
)
from unet_np.data.own.pages import (
    Pages,
    has_drawn_alpha,
    is_jpeg,
    outside,
    read_pages,
    stack_pages,
    to_channels,
)
from unet_np.errors import InputError
from unet_np.images import PathLike

_LOGGER = logging.getLogger(__name__)


def read_pairs(
    images: PathLike,
    masks: PathLike,
    mask_values: str = "auto",
    colour: str = "auto",
    axes: str = "auto",
    ignore: Sequence[int] = (),
    background: int | None = None,
) -> Dataset:
    """Images and their masks, each a file (an image or a stack) or a folder of files.

    Files of folders go together by their names (`unet_np.data.own.names.pair_names`); a stack and a
    folder by their order. Both may lie in one folder, if the masks have a word such as ``_mask``
    in their names.

    Parameters
    ----------
    images : path-like
        Grey or colour, of any dtype and sizes.
    masks : path-like
        Of the same sizes, one for each image.
    mask_values : {"auto", "mask", "classes", "cells"}
        What their values mean; see `unet_np.data.own.masks.read_meaning`.
    colour : {"auto", "grey", "rgb"}
        See `unet_np.data.own.pages.to_channels`.
    axes : str
        Of the images; see `unet_np.data.own.pages.read_pages`.
    ignore : sequence of int
        Values of masks where nobody knows: these pixels are `unknown`, and count nowhere.
    background : int, optional
        The masks' value of the background, where it is not the lowest, or 0 beside cells.

    Returns
    -------
    Dataset
        With instances if the masks number the cells; its note says how the files were read.

    Raises
    ------
    InputError
        If files are missing, unreadable or without a partner, sizes disagree, or masks hold no
        classes or cells.

    Examples
    --------
    >>> import tempfile
    >>> from unet_np.images import write_png
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_png(folder / "image.png", np.eye(8, dtype=bool))
    >>> data = read_pairs(folder / "image.png", folder / "image.png")
    >>> data.labels.sum(), data.note
    (np.uint64(8), 'images: 1 of 8 x 8; masks: 0 is background, 255 is cell')
    """
    image_list, mask_list, files = _pages(Path(images), Path(masks), axes)
    numbers = as_numbers(mask_list)
    for (name, image), (mask_name, _), mask in zip(image_list, mask_list, numbers, strict=True):
        _check_sizes(name, image.shape[:2], mask_name, mask.shape)
    if mask_values in ("auto", "classes", "cells"):
        _refuse_jpeg(files, numbers, ignore)
    bits = colour_bits([mask for _, mask in mask_list])
    names = [name for name, _ in mask_list]
    with _hint_at_alpha(files):
        meaning = read_meaning(names, numbers, mask_values, ignore, background, bits)
    pixels = to_channels(image_list, colour)
    sizes = tuple((image.shape[-2], image.shape[-1]) for image in pixels)
    unknown = outside(sizes)
    if any(out.any() for out in meaning.ignored):
        unknown = stack_pages(meaning.ignored, fill=True)
    return Dataset(
        "own",
        stack_pages(pixels),
        stack_pages(meaning.labels),
        None if meaning.instances is None else stack_pages(meaning.instances),
        unknown=unknown,
        ids=tuple(name for name, _ in image_list),
        sizes=() if unknown is None else sizes,
        note=f"{_summary(pixels, sizes)}; {meaning.note}",
    )


def _pages(images: Path, masks: Path, axes: str) -> tuple[Pages, Pages, list[Path]]:
    """Every image and its mask, in the same order, and the files of masks."""
    folders = images.is_dir(), masks.is_dir()
    if all(folders):
        pages: tuple[Pages, Pages] = ([], [])
        pairs = pair_names(*_list_both(images, masks))
        for image, mask in pairs:
            found = read_pages(image, "images", axes), read_pages(mask, "masks")
            _check_counts(found, image.name, mask.name)
            for side, part in zip(pages, found, strict=True):
                side.extend(part)
        return *pages, [mask for _, mask in pairs]
    files = [
        _listed(path, name) if is_dir else [path]
        for path, name, is_dir in zip((images, masks), ("images", "masks"), folders, strict=True)
    ]
    both = [
        [page for file in side for page in read_pages(file, name, known)]
        for side, name, known in zip(files, ("images", "masks"), (axes, "auto"), strict=True)
    ]
    _check_counts((both[0], both[1]), images.name, masks.name)
    return both[0], both[1], files[1]


def _refuse_jpeg(files: Sequence[Path], masks: Sequence[np.ndarray], ignore: Sequence[int]) -> None:
    """Refuse values that a JPEG does not keep: more than two of them are never classes or cells."""
    values = np.unique(np.concatenate([np.unique(mask) for mask in masks]))
    jpeg = next(filter(is_jpeg, files), None)
    if jpeg is not None and len(np.setdiff1d(values, ignore)) > 2:
        raise InputError(
            f"masks: got {len(values)} values and the JPEG {jpeg.name}, which does not keep values "
            "as they were, expected PNG or TIFF (--mask-values mask cuts masks of two values at "
            "half)"
        )


@contextmanager
def _hint_at_alpha(files: Sequence[Path]) -> Iterator[None]:
    """Say of masks in whose alpha something is drawn that it is left out."""
    try:
        yield
    except InputError as error:
        drawn = next(filter(has_drawn_alpha, files), None)
        if drawn is None:
            raise
        hint = f"in {drawn.name} something is drawn in alpha, which is left out: save it as grey"
        raise InputError(f"{error}; {hint}") from None
    drawn = next(filter(has_drawn_alpha, files), None)
    if drawn is not None:
        _LOGGER.warning(
            "%s: %s", drawn, "something is drawn in alpha, which is left out: is it the mask?"
        )


def _listed(folder: Path, argument: str) -> list[Path]:
    found = list_images(folder, argument)
    return in_order(without_results(found) if argument == "images" else found)


def _list_both(images: Path, masks: Path) -> tuple[list[Path], list[Path]]:
    if images.resolve() != masks.resolve():
        return without_results(list_images(images, "images")), list_images(masks, "masks")
    found, marked = split_folder(list_images(images, "images"))
    if not marked or not found:
        raise InputError(
            f"masks: got {masks}, the folder of the images, expected another folder, or masks with "
            "names such as a_mask.png beside a.png"
        )
    return found, marked


def _check_counts(pages: tuple[Pages, Pages], image: str, mask: str) -> None:
    counts = [len(side) for side in pages]
    if counts[0] != counts[1]:
        raise InputError(
            f"masks: got {counts[1]} in {mask}, expected {counts[0]}, one for each image of {image}"
        )


def _check_sizes(
    name: str, size: tuple[int, ...], mask_name: str, mask_size: tuple[int, ...]
) -> None:
    if size == mask_size:
        return
    got, expected = (f"{height} x {width}" for height, width in (mask_size, size))
    turned = " (is it turned by 90 degrees?)" if mask_size == size[::-1] else ""
    raise InputError(
        f"masks: got {mask_name} of {got}, expected {expected}, the size of image {name}{turned}"
    )


def _summary(images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> str:
    low, high = (f"{height} x {width}" for height, width in (min(sizes), max(sizes)))
    shown = f"of {low}" if low == high else f"of {len(set(sizes))} sizes, {low} to {high}"
    return f"images: {len(images)} {shown}{' in colour' * (images[0].ndim == 3)}"
