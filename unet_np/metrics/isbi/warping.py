"""Warping error of the ISBI-2012 challenge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_np.metrics._inputs import (
    BoolArray,
    FloatArray,
    IntArray,
    Thresholds,
    check_segmentation,
    check_threshold,
    check_thresholds,
)
from unet_np.metrics.isbi.deformation import warp, warp_slice
from unet_np.metrics.isbi.mismatches import (
    RADIUS,
    Mismatch,
    classify_mismatches,
    count_clusters,
)
from unet_np.metrics.isbi.thresholds import WARPING_THRESHOLDS, best_index


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
    >>> label = np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0]])
    >>> joined = np.array([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    >>> warping_map(label, joined).merges.astype(int).tolist()
    [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    """
    warped = warp(label, proposal, threshold)
    target = check_segmentation(label, proposal)[1][0].astype(np.float64)
    target = target > check_threshold(threshold)
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
        """Index of the threshold with the lowest error, see `best_index`."""
        return best_index(-self.error)

    @property
    def best_threshold(self) -> float:
        """The threshold with the lowest error."""
        return float(self.thresholds[self.best])


def warping_curve(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
    radius: int = RADIUS,
) -> WarpingCurve:
    """Warp labels towards a proposal at each threshold and count what remains.

    Parameters
    ----------
    labels : array_like, (H, W) or (N, H, W)
        0 = membrane, 1 = interior of a cell.
    proposals : array_like, same shape
        Probability of interior in [0, 1].
    thresholds : float or sequence of float, optional
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
    >>> label = [[0, 0, 0, 0, 0], [1, 0, 0, 0, 1]]
    >>> curve = warping_curve(label, [[0, 0, 0, 0, 0], [1, 0.4, 0.4, 0.4, 1]], [0.25, 0.5])
    >>> curve.pixels[Mismatch.MERGE].tolist(), curve.error.tolist()
    ([1, 0], [0.1, 0.0])
    """
    interior, probability = check_segmentation(labels, proposals)
    values = check_thresholds(thresholds, WARPING_THRESHOLDS)
    mismatches = np.zeros(len(values), np.int64)
    pixels = {kind: np.zeros(len(values), np.int64) for kind in Mismatch}
    clusters = {kind: np.zeros(len(values), np.int64) for kind in Mismatch}
    for slice_labels, slice_proposal in zip(interior, probability, strict=True):
        wide = slice_proposal.astype(np.float64)
        for k, threshold in enumerate(values):
            warped = warp_slice(slice_labels, wide, float(threshold))
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
    thresholds: Thresholds = None,
    radius: int = RADIUS,
) -> float:
    """Warping error of the ISBI-2012 challenge: the least share of split and merge pixels.

    The warping error of Jain et al. (2010) is the disagreement between a proposal T and
    the label L after L has been deformed, without change of topology, to be as much
    like T as possible: displaced borders are forgiven, wrong topology is not. The challenge
    keeps those remaining mismatches that split or merge cells,

    .. math:: \\min_t \\frac{s_t + m_t}{n}

    over the thresholds t, with s split pixels and m merge pixels among n. It is the column
    "Warping Error" of the U-Net paper's Table 1.

    Parameters
    ----------
    labels, proposals, thresholds, radius
        As for `warping_curve`. One threshold, ``thresholds=0.5``, gives the error of
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
    One pixel of the ten holds the two cells apart and cannot be warped away.

    >>> warping_error([[0, 0, 0, 0, 0], [1, 0, 0, 0, 1]], [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    0.1
    """
    return float(warping_curve(labels, proposals, thresholds, radius).error.min())
