"""Warping error of the ISBI-2012 challenge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_np.errors import InputError
from unet_np.metrics._inputs import (
    BoolArray,
    FloatArray,
    IntArray,
    check_segmentation,
    check_thresholds,
)
from unet_np.metrics.mismatches import (
    NEIGHBOURS,
    RADIUS,
    Mismatch,
    classify_mismatches,
    count_clusters,
)
from unet_np.metrics.thresholds import WARPING_THRESHOLDS


def is_simple_point(neighbours: Sequence[int]) -> bool:
    """Whether flipping a pixel leaves the topology of both phases as it is.

    Foreground is 4-connected, background 8-connected. With the neighbours x_0 ... x_7
    numbered round the pixel from east, the number of 4-connected groups of foreground
    that touch it by an edge is

    .. math:: \\sum_{k \\in \\{0, 2, 4, 6\\}} (x_k - x_k x_{k+1} x_{k+2})

    (indices modulo 8), and the pixel is simple when that is 1. Its own value plays no part.

    Parameters
    ----------
    neighbours : sequence of eight 0 or 1
        East, north-east, north, ... round the pixel.

    Returns
    -------
    bool

    References
    ----------
    Jain et al., "Boundary learning by optimization with topological constraints",
    CVPR 2010.

    Examples
    --------
    A pixel at the end of a line is simple, one in the middle of it is not.

    >>> is_simple_point([1, 0, 0, 0, 0, 0, 0, 0]), is_simple_point([1, 0, 0, 0, 1, 0, 0, 0])
    (True, False)
    """
    x = neighbours
    groups = sum(x[k] - x[k] * x[k + 1] * x[(k + 2) % 8] for k in (0, 2, 4, 6))
    return groups == 1


# Indexed by a neighbourhood as eight bits, bit k for neighbour k.
SIMPLE = bytes(is_simple_point([(code >> k) & 1 for k in range(8)]) for code in range(256))


def _neighbourhoods(padded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The eight neighbours of each pixel as bits; the outermost ring stays 0."""
    height, width = padded.shape
    codes = np.zeros_like(padded)
    for bit, (dy, dx) in enumerate(NEIGHBOURS):
        moved = padded[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]
        codes[1:-1, 1:-1] |= moved << bit
    return codes


def _visiting_order(
    mismatch: BoolArray, probability: FloatArray, threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Mismatches (y, x): surest proposal first, equal ones in column-major order."""
    x, y = np.nonzero(mismatch.T)
    # The challenge's program stores this distance as a 32-bit float: near ties are ties.
    sureness = np.abs(probability[y, x] - threshold).astype(np.float32)
    order = np.argsort(-sureness, kind="stable")
    return y[order], x[order]


def _warp(label: BoolArray, probability: FloatArray, threshold: float) -> BoolArray:
    """Warp one slice.

    The definition is in passes: visit all mismatches in order, flip each that is simple at
    that moment, and begin again until a pass flips nothing. Target and keys are fixed, so
    each pass keeps the order of the first. A mismatch that was not simple when visited
    is not simple later either unless a neighbour was flipped since; so only such need a
    visit. `due` marks them by their place in the order, and a sweep over `due` is a pass: a
    flip marks neighbours behind it for this pass and those before it for the next.
    """
    target = probability > threshold
    y, x = _visiting_order(label != target, probability, threshold)
    count = len(y)
    if count == 0:
        return label.copy()
    padded = np.pad(label.astype(np.uint8), 1)
    codes = bytearray(_neighbourhoods(padded).tobytes())
    stride = padded.shape[1]
    place = (y + 1) * stride + x + 1
    visits = place.tolist()
    # Pixels that are no mismatch, or no longer one, share one place that no sweep reaches.
    order_of = np.full(padded.size, count)
    order_of[place] = np.arange(count)
    rank = order_of.tolist()
    due = bytearray(b"\x01" * count + b"\x00")
    # Seen from the neighbour in direction k, the pixel lies in direction k + 4.
    steps = [(dy * stride + dx, 1 << ((k + 4) % 8)) for k, (dy, dx) in enumerate(NEIGHBOURS)]
    simple = SIMPLE

    visit = due.find(1, 0, count)
    while visit >= 0:
        while visit >= 0:
            due[visit] = 0
            p = visits[visit]
            if simple[codes[p]]:
                rank[p] = count
                for step, bit in steps:
                    q = p + step
                    codes[q] ^= bit
                    due[rank[q]] = 1
            visit = due.find(1, visit + 1, count)
        visit = due.find(1, 0, count)

    flipped = np.array(rank)[place] == count
    warped = label.copy()
    warped[y[flipped], x[flipped]] ^= True
    return warped


def warp(label: ArrayLike, proposal: ArrayLike, threshold: float = 0.5) -> NDArray[np.uint8]:
    """Warp a label towards a proposal without changing its topology.

    The label is warped towards ``proposal > threshold`` by flipping pixels in which the two
    differ, one after the other, each only if it is a simple point at that moment
    (`is_simple_point`). A pass visits all differing pixels, those whose probability is
    farthest from the threshold first, equal ones column by column; passes are repeated
    until one flips nothing. Beyond the image all is membrane. Only differing pixels may
    flip: a wall one pixel thick that moved by one pixel is followed, by two it is not.

    Parameters
    ----------
    label : array_like, (H, W)
        0 = membrane, 1 = interior.
    proposal : array_like, (H, W)
        Probability of interior in [0, 1].
    threshold : float

    Returns
    -------
    uint8 (H, W)
        The warped label.

    Raises
    ------
    InputError
        If the shapes are not one (H, W) or the values not those above.

    Examples
    --------
    A cell grows by two pixels, but does not join its neighbour.

    >>> warp([[1, 0, 0, 0, 1]], [[1.0, 1.0, 1.0, 1.0, 1.0]]).tolist()
    [[1, 1, 1, 0, 1]]
    """
    if np.ndim(label) != 2:
        raise InputError(f"label: got the shape {np.shape(label)}, expected one slice (H, W)")
    interior, probability = check_segmentation(label, proposal, every_slice=False)
    value = float(check_thresholds([threshold], ())[0])
    return _warp(interior[0], probability[0].astype(np.float64), value).astype(np.uint8)


class WarpingMap(NamedTuple):
    """Where a proposal errs; made by `warping_map` to be drawn.

    Attributes
    ----------
    warped : uint8 (H, W)
        The label, warped towards the proposal.
    classes : uint8 (H, W)
        A value of `Mismatch` at each pixel in which they still differ, else 0.
    """

    warped: NDArray[np.uint8]
    classes: NDArray[np.uint8]

    @property
    def splits(self) -> BoolArray:
        """Pixels of membrane in the proposal that split a cell, bool (H, W)."""
        return self.classes == Mismatch.SPLIT

    @property
    def merges(self) -> BoolArray:
        """Pixels of interior in the proposal that merge cells, bool (H, W)."""
        return self.classes == Mismatch.MERGE


def warping_map(
    label: ArrayLike, proposal: ArrayLike, threshold: float = 0.5, radius: int = RADIUS
) -> WarpingMap:
    """Show where a slice's proposal splits and merges cells, and its other errors.

    Parameters
    ----------
    label, proposal, threshold
        As for `warp`.
    radius : int
        As for `classify_mismatches`.

    Returns
    -------
    WarpingMap

    Raises
    ------
    InputError
        As `warp` and `classify_mismatches`.

    Examples
    --------
    >>> errors = warping_map([[1, 0, 0, 0, 1]], [[1.0, 1.0, 1.0, 1.0, 1.0]])
    >>> errors.merges.astype(int).tolist()
    [[0, 0, 0, 1, 0]]
    """
    warped = warp(label, proposal, threshold)
    target = np.asarray(proposal, dtype=np.float32).astype(np.float64) > threshold
    return WarpingMap(warped, classify_mismatches(warped, target, radius))


@dataclass(frozen=True)
class WarpingCurve:
    """Mismatches that remain after warping at each threshold; arrays of shape (T,).

    Attributes
    ----------
    thresholds : float64
    mismatches : int64
        Remaining mismatches, all slices.
    pixels : dict of Mismatch to int64
        Remaining mismatches of each kind, all slices.
    clusters : dict of Mismatch to int64
        Connected groups of them, see `count_clusters`.
    error : float64
        (split pixels + merge pixels) / all pixels: the challenge's warping error.
    error_clusters : float64
        The same with groups in the place of pixels.
    error_all_types : float64
        Mismatches / all pixels: the warping error of Jain et al. (2010).
    """

    thresholds: FloatArray
    mismatches: IntArray
    pixels: dict[Mismatch, IntArray]
    clusters: dict[Mismatch, IntArray]
    error: FloatArray
    error_clusters: FloatArray
    error_all_types: FloatArray

    @property
    def best(self) -> int:
        """Index of the (first) threshold with the lowest error."""
        return int(np.argmin(self.error))

    @property
    def best_threshold(self) -> float:
        """The (first) threshold with the lowest error."""
        return float(self.thresholds[self.best])


def warping_curve(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Sequence[float] | FloatArray | None = None,
    radius: int = RADIUS,
) -> WarpingCurve:
    """Warp labels towards a proposal at each threshold and count what remains.

    Parameters
    ----------
    labels : array_like, (H, W) or (N, H, W)
        0 = membrane, 1 = interior of a cell.
    proposals : array_like, same shape
        Probability of interior in [0, 1].
    thresholds : sequence of float, optional
        Default: `WARPING_THRESHOLDS`.
    radius : int
        As for `classify_mismatches`.

    Returns
    -------
    WarpingCurve

    Raises
    ------
    InputError
        If shapes differ, labels are not 0 and 1 or hold no interior at all, or
        proposals are not numbers in [0, 1].

    Examples
    --------
    >>> curve = warping_curve([[1, 0, 0, 0, 1]], [[1.0, 0.4, 0.4, 0.4, 1.0]], [0.25, 0.5])
    >>> curve.pixels[Mismatch.MERGE].tolist(), curve.error.tolist()
    ([1, 0], [0.2, 0.0])
    """
    interior, probability = check_segmentation(labels, proposals, every_slice=False)
    values = check_thresholds(thresholds, WARPING_THRESHOLDS)
    mismatches = np.zeros(len(values), np.int64)
    pixels = {kind: np.zeros(len(values), np.int64) for kind in Mismatch}
    clusters = {kind: np.zeros(len(values), np.int64) for kind in Mismatch}
    for slice_labels, slice_proposal in zip(interior, probability, strict=True):
        wide = slice_proposal.astype(np.float64)
        for k, threshold in enumerate(values):
            warped = _warp(slice_labels, wide, float(threshold))
            classes = classify_mismatches(warped, wide > threshold, radius)
            mismatches[k] += np.count_nonzero(classes)
            for kind in Mismatch:
                pixels[kind][k] += np.count_nonzero(classes == kind)
                clusters[kind][k] += count_clusters(classes, warped, kind)
    size = interior.size
    return WarpingCurve(
        values,
        mismatches,
        pixels,
        clusters,
        error=(pixels[Mismatch.SPLIT] + pixels[Mismatch.MERGE]) / size,
        error_clusters=(clusters[Mismatch.SPLIT] + clusters[Mismatch.MERGE]) / size,
        error_all_types=mismatches / size,
    )


def warping_error(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Sequence[float] | FloatArray | None = None,
    radius: int = RADIUS,
) -> float:
    """Warping error of the ISBI-2012 challenge: the least share of split and merge pixels.

    The warping error of Jain et al. (2010) is the disagreement between a proposal T and
    the label L after L has been deformed, without change of topology, to be as much
    like T as possible: displaced borders are forgiven, wrong topology is not. The challenge
    keeps those remaining mismatches that split or merge cells,

    .. math:: \\min_t \\frac{\\#\\text{split pixels}_t + \\#\\text{merge pixels}_t}{\\#\\text{pixels}}

    over the thresholds t. It is the column "Warping Error" of the U-Net paper's Table 1.

    Parameters
    ----------
    labels, proposals, thresholds, radius
        As for `warping_curve`. One threshold, ``thresholds=[0.5]``, gives the error of
        a segmentation that was fixed beforehand.

    Returns
    -------
    float
        In [0, 1]; 0 is perfect.

    Raises
    ------
    InputError
        As `warping_curve`.

    References
    ----------
    Jain et al., "Boundary learning by optimization with topological constraints",
    CVPR 2010. Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015.

    Examples
    --------
    The missing wall is one pixel of five.

    >>> warping_error([[1, 0, 0, 0, 1]], [[1.0, 1.0, 1.0, 1.0, 1.0]])
    0.2
    """
    return float(warping_curve(labels, proposals, thresholds, radius).error.min())
