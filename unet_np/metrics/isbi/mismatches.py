"""The kinds of pixels in which a warped label still differs from a proposal."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from unet_np.errors import InputError
from unet_np.metrics._inputs import BoolArray, check_binary, same_shape, short
from unet_np.metrics.components import FOUR, components

RADIUS = 20
"""Half-width of the window in which the challenge looks for splits."""

# (dy, dx) of the neighbours round a pixel, from east, with y upward on the page.
NEIGHBOURS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))

OUTSIDE = -1

FOUR_IN_PLANE = np.pad(FOUR[None], ((1, 1), (0, 0), (0, 0)))
# Pixels of windows that are numbered at a time; bounds the memory.
BATCH = 1 << 22


class Mismatch(IntEnum):
    """What a pixel that cannot be warped away does to the topology of the label.

    A split divides an object of the label, a merge joins two; an object or a hole is added
    or deleted. 0 in a map of mismatches means none.
    """

    MERGE = 1
    SPLIT = 2
    HOLE_ADDITION = 4
    OBJECT_DELETION = 8
    OBJECT_ADDITION = 16
    HOLE_DELETION = 32


def _count_distinct(numbers: NDArray) -> NDArray[np.int64]:
    """Count the different numbers in each row, `OUTSIDE` left out."""
    ordered = np.sort(numbers, axis=1)
    new = np.ones(ordered.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return np.count_nonzero(new & (ordered != OUTSIDE), axis=1)


def _around(image: NDArray, y: NDArray, x: NDArray, outside: int) -> NDArray:
    """Values of the eight neighbours of the pixels (y, x), shape (pixels, 8)."""
    padded = np.pad(image, 1, constant_values=outside)
    return np.stack([padded[y + 1 + dy, x + 1 + dx] for dy, dx in NEIGHBOURS], axis=1)


def _touching_groups(ring: NDArray) -> NDArray[np.int64]:
    """Number of 4-connected groups that 8 neighbours form among themselves, (pixels,)."""
    inside = ring > 0
    starts = np.count_nonzero(inside & ~np.roll(inside, 1, axis=1), axis=1)
    return np.where(inside.all(axis=1), 1, starts)


def _parts_in_windows(image: BoolArray, y: NDArray, x: NDArray, radius: int) -> NDArray[np.int64]:
    """How many component numbers, 0 included, surround pixels once they are set to 0.

    Each pixel has its own (2 radius + 1)^2 window; what lies outside the image is 0 there.
    """
    size = 2 * radius + 1
    windows = sliding_window_view(np.pad(image, radius), (size, size))
    parts = np.zeros(len(y), np.int64)
    # Many windows are numbered in one call, as planes that do not touch.
    step = max(1, BATCH // size**2)
    for start in range(0, len(y), step):
        chosen = slice(start, start + step)
        planes = windows[y[chosen], x[chosen]]
        planes[:, radius, radius] = False
        numbers = ndimage.label(planes, FOUR_IN_PLANE)[0]
        block = numbers[:, radius - 1 : radius + 2, radius - 1 : radius + 2]
        parts[chosen] = _count_distinct(np.delete(block.reshape(-1, 9), 4, axis=1))
    return parts


def _parts_in_image(image: BoolArray, y: NDArray, x: NDArray) -> NDArray[np.int64]:
    """The same with the whole image in the place of the window."""
    parts = np.zeros(len(y), np.int64)
    for k in range(len(y)):
        cut = image.copy()
        cut[y[k], x[k]] = False
        around = _around(components(cut)[0], y[k : k + 1], x[k : k + 1], OUTSIDE)
        parts[k] = _count_distinct(around)[0]
    return parts


def classify_mismatches(
    warped: ArrayLike, proposed: ArrayLike, radius: int = RADIUS
) -> NDArray[np.uint8]:
    """Say of each pixel in which a warped label differs from a proposal what it does.

    Let U be the numbers of the warped label's 4-connected components (0 = background)
    among the up to 8 neighbours of a differing pixel.

    ================ ==================== =====================================
    U                pixel is 0           pixel is 1 in the warped label
    ================ ==================== =====================================
    {0}              object addition      object deletion
    one, not 0       hole deletion        hole addition
    two numbers      hole addition        split or hole deletion, see below
    three or more    merge                split
    ================ ==================== =====================================

    Pixels outside the image do not belong to U. In the case "see below" the pixel is set to 0
    and the components are numbered again in the window of `radius` round it, where pixels
    outside the image are background; if three or more numbers then surround it, it is a split.

    Parameters
    ----------
    warped, proposed : array_like of 0 and 1, (H, W)
    radius : int
        Below 1, or above the height or width of the image, the whole image takes the
        place of the window. That is slow on large images.

    Returns
    -------
    uint8 (H, W)
        A value of `Mismatch`, 0 where the two agree.

    Raises
    ------
    InputError
        If the two are not masks of one shape (H, W), or `radius` is no integer.

    Examples
    --------
    A cell that the proposal cuts in the middle, and two that it joins.

    >>> cell = [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
    >>> cut = [[0, 0, 0], [1, 0, 1], [0, 0, 0]]
    >>> classify_mismatches(cell, cut, radius=1).tolist()
    [[0, 0, 0], [0, 2, 0], [0, 0, 0]]
    >>> classify_mismatches(cut, cell, radius=1).tolist()
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """
    same_shape(warped, proposed, ("warped", "proposed"))
    if np.ndim(warped) != 2:
        raise InputError(f"warped: got the shape {np.shape(warped)}, expected (H, W)")
    if isinstance(radius, bool) or not isinstance(radius, int | np.integer):
        raise InputError(
            f"radius: got {short(radius)}, expected an integer; nearest valid: {RADIUS}, "
            f"the challenge's"
        )
    label = check_binary("warped", warped)[0]
    target = check_binary("proposed", proposed)[0]
    classes = np.zeros(label.shape, np.uint8)
    y, x = np.nonzero(label != target)
    if y.size == 0:
        return classes

    numbers = components(label)[0]
    around = _around(numbers, y, x, OUTSIDE)
    distinct = _count_distinct(around)
    background = (around <= 0).all(axis=1)
    is_interior = label[y, x]

    kind = np.where(is_interior, Mismatch.SPLIT, Mismatch.MERGE)
    kind[(distinct == 2) & ~is_interior] = Mismatch.HOLE_ADDITION
    kind[(distinct <= 1) & is_interior] = Mismatch.HOLE_ADDITION
    kind[(distinct <= 1) & ~is_interior] = Mismatch.HOLE_DELETION
    kind[background & is_interior] = Mismatch.OBJECT_DELETION
    kind[background & ~is_interior] = Mismatch.OBJECT_ADDITION

    unsure = (distinct == 2) & is_interior
    kind[unsure] = Mismatch.HOLE_DELETION
    # Neighbours that hang together without the pixel cannot be split by it.
    cuts = np.flatnonzero(unsure & (_touching_groups(around) > 1))
    whole = radius < 1 or radius > min(label.shape)
    if whole:
        parts = _parts_in_image(label, y[cuts], x[cuts])
    else:
        parts = _parts_in_windows(label, y[cuts], x[cuts], int(radius))
    kind[cuts[parts > 2]] = Mismatch.SPLIT
    classes[y, x] = kind
    return classes


def count_clusters(classes: NDArray[np.uint8], warped: BoolArray, kind: Mismatch) -> int:
    """Number of connected groups of mismatches of one kind, as the challenge counts them.

    Merges, and hole additions where the warped label is 1, hang together through
    corners as well; other kinds do so through edges only. Holes are counted apart
    where the warped label is 0 and where it is 1.

    Parameters
    ----------
    classes : uint8 (H, W)
        From `classify_mismatches`.
    warped : bool (H, W)
    kind : Mismatch

    Returns
    -------
    int

    Examples
    --------
    >>> classes = np.array([[1, 0], [0, 1]], np.uint8)
    >>> count_clusters(classes, np.zeros((2, 2), bool), Mismatch.MERGE)
    1
    >>> count_clusters(2 * classes, np.ones((2, 2), bool), Mismatch.SPLIT)
    2
    """
    mask = classes == kind
    if kind == Mismatch.MERGE:
        return components(mask, connectivity=8)[1]
    if kind == Mismatch.HOLE_ADDITION:
        return components(mask & warped, connectivity=8)[1] + components(mask & ~warped)[1]
    if kind == Mismatch.HOLE_DELETION:
        return components(mask & warped)[1] + components(mask & ~warped)[1]
    return components(mask)[1]
