"""Windows of an image, and what lies beyond its border: mirrored, as in Fig. 2 of the paper."""

from __future__ import annotations

import math

import numpy as np

from unet_np.backend import Array, array_module, asarray


def mirrored(places: Array, size: int, reach: float = math.inf) -> Array:
    """Where coordinates beyond the border fall when mirrored, as often as needed.

    The edge pixel is the mirror and is not repeated: -1 is 1, `size` is `size - 2`.

    Parameters
    ----------
    places : array
        Coordinates along an axis, integers or not. NumPy or CuPy.
    size : int
        Pixels of the axis.
    reach : float, optional
        No coordinate is further from 0. Where it is known to be less than two sizes, the remainder
        need not be taken, which for floats takes longer than all the rest.

    Returns
    -------
    array
        From 0 to `size` - 1, of the shape of `places`.

    Examples
    --------
    >>> mirrored(np.arange(-4, 7), 3).tolist()
    [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    """
    last = size - 1
    places = abs(places)
    if last == 0:
        return places * 0
    if reach > 2 * last:
        places %= 2 * last
    return last - abs(last - places)


def _symmetric(places: Array, size: int) -> Array:
    places = places % (2 * size)
    return np.where(places < size, places, 2 * size - 1 - places)


def _edge(places: Array, size: int) -> Array:
    return places.clip(0, size - 1)


BORDERS = {"reflect": mirrored, "symmetric": _symmetric, "edge": _edge}
"""From coordinates along an axis, and its size, to the pixels that stand for them."""


def crop_window(array: Array, top: int, left: int, size: int, mirror: bool = True) -> Array:
    """A square part of (H, W) or (C, H, W), mirrored at the border (Fig. 2) or 0 beyond it.

    Parameters
    ----------
    array : array
        NumPy or CuPy.
    top, left : int
        First row and column; may be negative.
    size : int
        Rows and columns.
    mirror : bool
        Whether what lies beyond the border is mirrored.

    Examples
    --------
    >>> row = np.arange(1, 5)[None]
    >>> crop_window(row, 0, -1, 3)[0], crop_window(row, 0, -1, 3, mirror=False)[0]
    (array([2, 1, 2]), array([0, 1, 2]))
    """
    xp = array_module(array)
    places = [np.arange(start, start + size) for start in (top, left)]
    axes = list(zip(places, array.shape[-2:], strict=True))
    rows, columns = (asarray(mirrored(at, length), xp) for at, length in axes)
    part = array[..., rows[:, None], columns[None]]
    if mirror:
        return part
    inside = [asarray((at >= 0) & (at < length), xp) for at, length in axes]
    return part * (inside[0][:, None] & inside[1][None])


def middles(length: int, size: int, stride: int) -> np.ndarray:
    """Middles of windows of `size` along an axis, `stride` apart; all lie within it.

    The first window begins at 0, and the last one ends at the end of the axis.

    Examples
    --------
    >>> middles(10, 4, 3), middles(10, 4, 4), middles(3, 5, 2)
    (array([2, 5, 8]), array([2, 6, 8]), array([1]))
    """
    if length <= size:
        return np.array([length // 2])
    last = length - size
    return np.unique(np.append(np.arange(0, last + 1, stride), last)) + size // 2
