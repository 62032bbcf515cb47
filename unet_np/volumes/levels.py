"""The grey values of a slice that is not held in memory: what `unet_np.images.normalise` needs.

The sums are NumPy's own, in its order: it halves an array until little is left, so that parts of it
can be read one after the other, and the result is that of the whole in every bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unet_np.errors import InputError

Read = Callable[[slice], np.ndarray]
"""Rows of a slice, (rows, W)."""

LEAF = 2**22
"""Pixels at a time, at most."""


def grey_levels(read: Read, size: tuple[int, int], leaf: int = LEAF) -> tuple[float, float, float]:
    """What each pixel is divided by, what is taken off, and what it is divided by after that.

    Parameters
    ----------
    read : callable
        From a slice of rows to (rows, W), real numbers.
    size : tuple of int
        Height and width.
    leaf : int
        Pixels that are read at a time.

    Returns
    -------
    largest, mean, spread : float
        Largest magnitude, and mean and standard deviation of what is divided by it.

    Raises
    ------
    InputError
        If there is NaN or infinity.

    Examples
    --------
    >>> image = np.array([[10, 20], [10, 20]], np.uint8)
    >>> grey_levels(image.__getitem__, (2, 2))
    (20.0, 0.75, 0.25)
    """
    count = size[0] * size[1]
    if count <= leaf:
        whole = read(slice(0, size[0]))
        read = whole.__getitem__

    def flat(start: int, stop: int) -> np.ndarray:
        first = start // size[1]
        rows = read(slice(first, -(-stop // size[1]))).reshape(-1)
        return rows[start - first * size[1] : stop - first * size[1]].astype(np.float64)

    largest = 0.0
    for start in range(0, count, leaf):
        part = flat(start, min(start + leaf, count))
        largest = max(largest, float(part.max()), -float(part.min()))
        if not np.isfinite(part).all():
            raise InputError("image: got NaN or infinity, expected finite numbers")
    largest = largest or 1.0

    def mean(of: Callable[[np.ndarray], np.ndarray]) -> float:
        return _sum(lambda a, b: of(flat(a, b) / largest), 0, count, leaf) / count

    middle = mean(lambda part: part)
    rest = mean(lambda part: part - middle)
    spread = float(np.sqrt(mean(lambda part: np.square(part - middle - rest))))
    return largest, middle, spread or 1.0


def _sum(values: Callable[[int, int], np.ndarray], start: int, stop: int, leaf: int) -> float:
    if stop - start <= leaf:
        return float(np.add.reduce(values(start, stop)))
    half = (stop - start) // 2
    middle = start + half - half % 8
    return _sum(values, start, middle, leaf) + _sum(values, middle, stop, leaf)
