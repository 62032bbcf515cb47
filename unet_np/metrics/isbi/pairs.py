"""Pairs of pixels that two segmentations agree on, counted from a contingency table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


class PairCounts(NamedTuple):
    """Pairs of pixels in one slice, int."""

    tp: int
    tn: int
    fp: int
    fn: int


def _squares(counts: NDArray) -> int:
    return int(np.sum(np.square(counts, dtype=np.int64)))


def _pairs(counts: NDArray) -> int:
    counts = counts.astype(np.int64)
    return int(np.sum(counts * (counts - 1))) // 2


def foreground_pairs(table: sparse.csr_array) -> tuple[PairCounts, float]:
    """Foreground-restricted pair counts of one slice.

    Parameters
    ----------
    table : sparse int64 (I + 1, J + 1)
        n_ij: pixels in component i of the label and j of the proposal, 0 = background.

    Returns
    -------
    counts : PairCounts
        Over n^2 ordered pairs; each pixel of the proposal's background inside a
        label cell is a component of its own.
    error_nchoose2 : float
        1 - Rand index over n(n-1)/2 pairs, with no term for those pixels.

    Examples
    --------
    A cell of four pixels is cut into 2 + 1 by one pixel of membrane.

    >>> counts, error = foreground_pairs(sparse.csr_array(np.array([[0, 0, 0], [1, 2, 1]])))
    >>> counts
    PairCounts(tp=6, tn=0, fp=0, fn=10)
    >>> round(error, 12)
    0.833333333333
    """
    inside = table[1:]
    cells = inside.sum(axis=1)
    objects = inside.sum(axis=0)
    singletons = int(objects[0])
    joint = inside[:, 1:].data
    n = int(cells.sum())

    tp = _squares(joint) + singletons
    fp = _squares(objects[1:]) + singletons - tp
    fn = _squares(cells) - tp
    counts = PairCounts(tp, n * n - tp - fp - fn, fp, fn)

    wrong = _pairs(objects[1:]) + _pairs(cells) - 2 * _pairs(joint)
    # A single interior pixel makes no pair, and nothing about it can be wrong.
    error = wrong / (n * (n - 1) // 2) if n > 1 else 0.0
    return counts, error


def standard_pairs(table: sparse.csr_array) -> PairCounts:
    """Pair counts of one slice over all n(n-1)/2 pairs; background is one object.

    Examples
    --------
    >>> standard_pairs(sparse.csr_array(np.array([[2, 0], [1, 3]])))
    PairCounts(tp=4, tn=6, fp=2, fn=3)
    """
    n = int(table.sum())
    tp = _pairs(table.data)
    fp = _pairs(table.sum(axis=0)) - tp
    fn = _pairs(table.sum(axis=1)) - tp
    return PairCounts(tp, n * (n - 1) // 2 - tp - fp - fn, fp, fn)
