"""The user's own images as pages: read from files, grey or in colour, stacked to one array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_np.errors import InputError, one_of
from unet_np.images import open_image, to_grey

COLOURS = ("auto", "grey", "rgb")
"""What becomes of images in colour; see `to_channels`."""

Pages = list[tuple[str, np.ndarray]]
"""Images with their names: (H, W) or (H, W, channels) each."""


def read_pages(file: Path, argument: str, axes: str = "auto") -> Pages:
    """The pages of a file: one image, or the slices of a stack, which are numbered.

    Parameters
    ----------
    file : pathlib.Path
        A file that `unet_np.images.read_image` reads.
    argument : str
        What messages call it. The palette of anything but ``images`` is left: a mask is its
        indices.
    axes : str
        As in `unet_np.images.read_image`; ``auto`` leaves them to the file.

    Raises
    ------
    InputError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from unet_np.images import write_png
    >>> path = Path(tempfile.mkdtemp()) / "one.png"
    >>> write_png(path, np.eye(8, dtype=bool))
    >>> [(name, page.shape) for name, page in read_pages(path, "images")]
    [('one', (8, 8))]
    """
    palette = "colour" if argument == "images" else "index"
    image = open_image(
        file, argument=argument, palette=palette, axes=None if axes == "auto" else axes
    )
    if not image.stacked:
        return [(file.stem, image.pixels)]
    return [(f"{file.stem}-{number}", page) for number, page in enumerate(image.pages)]


def has_drawn_alpha(file: Path) -> bool:
    """Whether an image has an alpha channel in which something is drawn."""
    return open_image(file, palette="index").alpha_varies


def is_jpeg(file: Path) -> bool:
    """Whether a file is a JPEG, by what it holds."""
    with open(file, "rb") as stream:
        return stream.read(3) == b"\xff\xd8\xff"


def to_channels(pages: Pages, colour: str = "auto") -> list[np.ndarray]:
    """All in colour, (3, H, W) each, or all grey, (H, W) each.

    Parameters
    ----------
    pages : list of (str, numpy.ndarray)
        Names and images.
    colour : {"auto", "grey", "rgb"}
        ``rgb`` keeps three channels. ``auto`` does so if all images are in colour; grey values
        that are stored in colour are grey.

    Raises
    ------
    InputError
        For other values of `colour`, if an image has no colour to keep, and for two or four
        channels, which are neither.

    Examples
    --------
    >>> image = np.zeros((8, 8, 3), np.uint8)
    >>> to_channels([("a", image)])[0].shape, to_channels([("a", image)], "rgb")[0].shape
    ((8, 8), (3, 8, 8))
    """
    one_of("colour", colour, COLOURS)
    check_channels(pages, "images")
    if colour == "rgb":
        flat = next((name for name, im in pages if im.ndim == 2 or im.shape[-1] < 3), None)
        if flat is not None:
            raise InputError(
                f"colour: got rgb and the grey image {flat}, expected images of three channels "
                "or --colour grey"
            )
    elif colour == "grey" or not all(_has_colour(image) for _, image in pages):
        return [to_grey(image) for _, image in pages]
    return [np.moveaxis(image[..., :3], -1, 0) for _, image in pages]


def check_channels(pages: Pages, argument: str) -> None:
    """Refuse images of two or four channels, of which nobody knows which one is meant.

    Parameters
    ----------
    pages : list of (str, numpy.ndarray)
        Names and images.
    argument : str
        What messages call them.

    Examples
    --------
    >>> check_channels([("a", np.zeros((8, 8, 2)))], "masks")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: masks: got 2 channels in a, expected 1, or 3 of a colour image; \
give one of them as an image of its own
    """
    for name, image in pages:
        if image.ndim == 3 and image.shape[-1] in (2, 4):
            raise InputError(
                f"{argument}: got {image.shape[-1]} channels in {name}, expected 1, or 3 of a "
                "colour image; give one of them as an image of its own"
            )


def _has_colour(image: np.ndarray) -> bool:
    # JPEG turns grey values stored in colour into ones that differ by a few.
    if image.ndim == 2 or image.shape[-1] < 3:
        return False
    values = image[..., :3].astype(np.float64)
    spread = values.max() - values.min()
    return bool((values.max(-1) - values.min(-1)).max() > 0.05 * spread)


def stack_pages(pages: Sequence[np.ndarray], fill: int = 0) -> np.ndarray:
    """One array of all, each in the upper left corner of the largest height and width.

    Parameters
    ----------
    pages : sequence of numpy.ndarray
        (..., H, W) each, of any height and width.
    fill : int
        What lies beside a smaller page.

    Examples
    --------
    >>> stack_pages([np.ones((1, 2), int), np.ones((2, 1), int)]).tolist()
    [[[1, 1], [0, 0]], [[1, 0], [1, 0]]]
    """
    height, width = (max(page.shape[axis] for page in pages) for axis in (-2, -1))
    dtype = np.result_type(*pages)
    stack = np.full((len(pages), *pages[0].shape[:-2], height, width), fill, dtype)
    for place, page in zip(stack, pages, strict=True):
        place[..., : page.shape[-2], : page.shape[-1]] = page
    return stack


def outside(sizes: Sequence[tuple[int, int]]) -> np.ndarray | None:
    """Which pixels of a stack of pages belong to none of them; None if all have one size.

    Parameters
    ----------
    sizes : sequence of (int, int)
        Height and width of each page.

    Examples
    --------
    >>> outside([(1, 2), (2, 2)]).tolist()
    [[[False, False], [True, True]], [[False, False], [False, False]]]
    """
    if len(set(sizes)) == 1:
        return None
    return stack_pages([np.zeros(size, bool) for size in sizes], fill=True)
