"""Masks whose values are no longer what was drawn: of a JPEG, or resized with interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

_NEAR = 8  # how far the values of a JPEG of high quality lie from those that were drawn


def is_smeared(masks: Sequence[np.ndarray]) -> bool:
    """Whether masks hold values that nobody drew.

    Interpolation leaves, along the borders of what was drawn, a band of values between those on
    either side, and JPEG leaves a few pixels of values near to the true ones. Neither fills any
    square of 3 x 3 pixels, as one of the values of a class does somewhere. A thin border that was
    drawn as a class of its own lies between two values as well; it is told by being one value, and
    by leaving no place where the two meet.

    Parameters
    ----------
    masks : sequence of numpy.ndarray
        (H, W), integers.

    Examples
    --------
    >>> drawn = np.zeros((12, 12), int)
    >>> drawn[3:9, 3:9] = 255
    >>> moved = (drawn + np.roll(drawn, 1, 0)) // 2
    >>> is_smeared([drawn]), is_smeared([moved])
    (False, True)
    """
    values = np.unique(np.concatenate([np.unique(mask) for mask in masks])).astype(np.int64)
    if len(values) < 3:
        return False
    counts = [_counts(mask, values) for mask in masks]
    pixels, flat, between, edges = (np.sum(part, axis=0) for part in zip(*counts, strict=True))
    drawn = flat > 0
    bands = ~drawn & (between > 0.9 * pixels)
    if len(values) == 3:
        # One value between two others may be a border that was drawn.
        spread = values[2] - values[0] >= _NEAR
        return bool(bands[1] and spread and _meet(masks, values[0], values[2]) > 0.1)
    near = np.array([any(0 < abs(v - d) <= _NEAR for d in values[drawn]) for v in values])
    scattered = _in_pieces(masks, values)
    specks = ~drawn & near & scattered
    if (
        drawn.sum() > 1
        and (bands | specks).sum() * 3 >= len(values)
        and (bands.sum() > 1 or specks.sum() > 1)
    ):
        return bool(values[-1] - values[0] >= _NEAR)
    # Numbers of cells that were resized: between any two lie the numbers of others.
    among = scattered & (between > 0)
    return bool(between.sum() > 0.15 * edges.sum() > 0 and among.sum() * 3 > len(values))


def has_two_sides(masks: Sequence[np.ndarray]) -> bool:
    """Whether what fills squares of 3 x 3 pixels is near the lowest value or the highest.

    Then masks that are blurred were drawn in two values, and a cut at half gives them back.

    Examples
    --------
    >>> drawn = np.zeros((12, 12), int)
    >>> drawn[3:9, 3:9] = 255
    >>> has_two_sides([drawn, drawn // 2]), has_two_sides([drawn, drawn // 8])
    (False, True)
    """
    low, high = min(int(m.min()) for m in masks), max(int(m.max()) for m in masks)
    filled = np.concatenate(
        [m[ndimage.minimum_filter(m, 3) == ndimage.maximum_filter(m, 3)] for m in masks]
    )
    middle = np.abs(2 * filled.astype(np.int64) - low - high) < 0.6 * (high - low)
    pixels = sum(mask.size for mask in masks)
    # An image has hardly any such square.
    return bool(filled.size > 0.1 * pixels and middle.sum() <= 0.02 * filled.size)


def _counts(mask: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """For each value its pixels; those amid nothing else, between others, and beside others."""
    low, high = ndimage.minimum_filter(mask, 3), ndimage.maximum_filter(mask, 3)
    places = np.searchsorted(values, mask)
    between = (low < mask) & (mask < high)
    chosen = (mask == mask, low == high, between, low < high)
    return tuple(np.bincount(places[where], minlength=len(values)) for where in chosen)


def _meet(masks: Sequence[np.ndarray], low: int, high: int) -> float:
    """How often, of the places where one of the two ends along a line, the other begins at once."""
    met = ends = 0
    for mask in masks:
        for lines in (mask, mask.T):
            first, second = lines[:-1], lines[1:]
            changes = first != second
            met += int((changes & np.isin(first, (low, high)) & np.isin(second, (low, high))).sum())
            ends += int((changes & ((first == high) | (second == high))).sum())
    return met / max(ends, 1)


def _in_pieces(masks: Sequence[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Which values have several separate pieces in some mask."""
    several = np.zeros(len(values), bool)
    for mask in masks:
        for place in np.searchsorted(values, np.unique(mask)):
            if not several[place]:
                several[place] = ndimage.label(mask == values[place], np.ones((3, 3)))[1] > 1
    return several
