"""The user's own images and masks as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.images import PathLike, read_image, to_grey
from unet_np.own_masks import as_numbers, read_meaning
from unet_np.own_names import list_images, pair_names, split_folder

COLOURS = ("auto", "grey", "rgb")
"""What becomes of images in colour; see `read_pairs`."""

Slices = list[tuple[str, np.ndarray]]


def read_pairs(
    images: PathLike, masks: PathLike, mask_values: str = "auto", colour: str = "auto"
) -> Dataset:
    """Images and their masks, each a file (an image or a stack) or a folder of files.

    Files of folders go together by their names (`unet_np.own_names.pair_names`); a stack and a
    folder by their order. Both may lie in one folder, if the masks have a word such as ``_mask``
    in their names.

    Parameters
    ----------
    images : path-like
        Grey or colour, of any dtype and sizes.
    masks : path-like
        Of the same sizes, one for each image.
    mask_values : {"auto", "mask", "classes", "cells"}
        What their values mean; see `unet_np.own_masks.read_meaning`.
    colour : {"auto", "grey", "rgb"}
        ``rgb`` keeps three channels. ``auto`` does so if all images are in colour; grey values
        that are stored in colour are grey.

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
    if colour not in COLOURS:
        raise InputError(f"colour: got {colour!r}, expected one of {', '.join(COLOURS)}")
    image_list, mask_list = _pages(Path(images), Path(masks))
    numbers = as_numbers(mask_list)
    for (name, image), (mask_name, _), mask in zip(image_list, mask_list, numbers, strict=True):
        _check_sizes(name, image.shape[:2], mask_name, mask.shape)
    meaning = read_meaning([name for name, _ in mask_list], numbers, mask_values)
    pixels = _channels(image_list, colour)
    sizes = tuple((image.shape[-2], image.shape[-1]) for image in pixels)
    one_size = len(set(sizes)) == 1
    return Dataset(
        "own",
        _stack(pixels),
        _stack(meaning.labels),
        None if meaning.instances is None else _stack(meaning.instances),
        unknown=None if one_size else _stack([np.zeros(s, bool) for s in sizes], fill=True),
        ids=tuple(name for name, _ in image_list),
        sizes=() if one_size else sizes,
        note=f"{_summary(pixels, sizes)}; {meaning.note}",
    )


def _pages(images: Path, masks: Path) -> tuple[Slices, Slices]:
    """Every image and its mask, in the same order."""
    folders = images.is_dir(), masks.is_dir()
    if all(folders):
        pages: tuple[Slices, Slices] = ([], [])
        for image, mask in pair_names(*_list_both(images, masks)):
            found = _read(image, "images"), _read(mask, "masks")
            _check_counts(found, image.name, mask.name)
            for side, part in zip(pages, found, strict=True):
                side.extend(part)
        return pages
    both = [
        [
            page
            for file in (list_images(path, name) if is_dir else [path])
            for page in _read(file, name)
        ]
        for path, name, is_dir in zip((images, masks), ("images", "masks"), folders, strict=True)
    ]
    _check_counts((both[0], both[1]), images.name, masks.name)
    return both[0], both[1]


def _list_both(images: Path, masks: Path) -> tuple[list[Path], list[Path]]:
    if images.resolve() != masks.resolve():
        return list_images(images, "images"), list_images(masks, "masks")
    found, marked = split_folder(list_images(images, "images"))
    if not marked or not found:
        raise InputError(
            f"masks: got {masks}, the folder of the images, expected another folder, or masks with "
            "names such as a_mask.png beside a.png"
        )
    return found, marked


def _read(file: Path, argument: str) -> Slices:
    """The pages of a file, each with its name: (H, W) or (H, W, channels)."""
    array = read_image(file, argument=argument)
    colour = array.ndim > 2 and array.shape[-1] <= 4
    if array.ndim == (3 if colour else 2):
        return [(file.stem, array)]
    return [(f"{file.stem}-{number}", page) for number, page in enumerate(array)]


def _check_counts(pages: tuple[Slices, Slices], image: str, mask: str) -> None:
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


def _channels(images: Slices, colour: str) -> list[np.ndarray]:
    """(H, W) each, or (3, H, W) each."""
    grey = [name for name, image in images if not _has_colour(image)]
    if colour == "rgb":
        flat = next((name for name, im in images if im.ndim == 2 or im.shape[-1] < 3), None)
        if flat is not None:
            raise InputError(
                f"colour: got rgb and the grey image {flat}, expected images of three channels "
                "or --colour grey"
            )
    elif colour == "grey" or grey:
        return [to_grey(image) for _, image in images]
    return [np.moveaxis(image[..., :3], -1, 0) for _, image in images]


def _has_colour(image: np.ndarray) -> bool:
    # JPEG turns grey values stored in colour into ones that differ by a few.
    if image.ndim == 2 or image.shape[-1] < 3:
        return False
    values = image[..., :3].astype(np.float64)
    spread = values.max() - values.min()
    return bool((values.max(-1) - values.min(-1)).max() > 0.05 * spread)


def _stack(arrays: Sequence[np.ndarray], fill: int = 0) -> np.ndarray:
    """One array of all, each in the upper left corner of the largest height and width."""
    height, width = (max(array.shape[axis] for array in arrays) for axis in (-2, -1))
    dtype = np.result_type(*arrays)
    stack = np.full((len(arrays), *arrays[0].shape[:-2], height, width), fill, dtype)
    for place, array in zip(stack, arrays, strict=True):
        place[..., : array.shape[-2], : array.shape[-1]] = array
    return stack


def _summary(images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> str:
    low, high = (f"{height} x {width}" for height, width in (min(sizes), max(sizes)))
    shown = f"of {low}" if low == high else f"of {len(set(sizes))} sizes, {low} to {high}"
    return f"images: {len(images)} {shown}{' in colour' * (images[0].ndim == 3)}"
