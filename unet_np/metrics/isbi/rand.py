"""Rand error of the ISBI-2012 challenge, foreground-restricted and standard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from unet_np.metrics._inputs import (
    FloatArray,
    IntArray,
    Thresholds,
    check_segmentation,
    check_thresholds,
)
from unet_np.metrics.isbi.pairs import foreground_pairs, standard_pairs
from unet_np.metrics.isbi.thresholds import (
    CHALLENGE_THRESHOLDS,
    ScoreCurve,
    precision_recall_fscore,
)
from unet_np.metrics.tables import tables_at


@dataclass(frozen=True)
class RandCurve(ScoreCurve):
    """Pair counts and scores at each threshold, see `rand_curve`.

    Attributes
    ----------
    fscore_macro : float64 (T,)
        Mean over slices of the slice's own F-score, which is 0 where the label has no
        interior, as in the challenge's program.
    index_n2 : float64 (T,)
        Rand index over n^2 pairs, 1 - (FP + FN) / n^2, n interior pixels of the label
        in the slice; mean over the slices whose label has interior.
    error_nchoose2 : float64 (T,)
        1 - Rand index over the n(n-1)/2 pairs of different interior pixels, without the
        singletons; mean over the slices whose label has interior.
    """

    fscore_macro: FloatArray
    index_n2: FloatArray
    error_nchoose2: FloatArray


@dataclass(frozen=True)
class StandardRandCurve(ScoreCurve):
    """Pair counts and scores at each threshold, see `rand_curve_standard`.

    Attributes
    ----------
    index : float64 (T,)
        Rand index (TP + TN) / pairs, mean over slices.
    """

    index: FloatArray


def rand_curve_from_tables(
    thresholds: FloatArray, tables: Sequence[Sequence[sparse.csr_array]]
) -> RandCurve:
    """Sum up the foreground-restricted Rand scores of ``tables[slice][threshold]``."""
    shape = (len(tables), len(thresholds))
    counts = np.zeros((4, *shape), np.int64)
    error_nchoose2 = np.zeros(shape)
    for s, row in enumerate(tables):
        for k, table in enumerate(row):
            counts[:, s, k], error_nchoose2[s, k] = foreground_pairs(table)
    tp, _, fp, fn = counts
    interior = counts.sum(axis=0)[:, 0] > 0
    # No pair is wrong where there is none, but the challenge's 0/0 gives such a slice F = 0.
    slice_fscore = precision_recall_fscore(tp, fp, fn)[2] * interior[:, None]
    sum_tp, sum_tn, sum_fp, sum_fn = (c.sum(axis=0) for c in counts)
    precision, recall, fscore = precision_recall_fscore(sum_tp, sum_fp, sum_fn)
    return RandCurve(
        thresholds,
        sum_tp,
        sum_tn,
        sum_fp,
        sum_fn,
        precision,
        recall,
        fscore,
        fscore_macro=slice_fscore.mean(axis=0),
        index_n2=(1 - ((fp + fn) / np.maximum(counts.sum(axis=0), 1))[interior]).mean(axis=0),
        error_nchoose2=error_nchoose2[interior].mean(axis=0),
    )


def rand_curve(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> RandCurve:
    """Foreground-restricted Rand precision, recall and F-score at each threshold.

    Both images become 4-connected components, slice by slice. A pair of pixels of the
    label's interior is positive in a segmentation when both are in one component.
    With n_ij pixels in label component i and proposal component j (0 = background) and
    z the sum over i >= 1 of n_i0,

    .. math::
        TP &= \\sum_{i,j \\ge 1} n_{ij}^2 + z, \\\\
        TP + FP &= \\sum_{j \\ge 1} \\Big(\\sum_{i \\ge 1} n_{ij}\\Big)^2 + z, \\\\
        TP + FN &= \\sum_{i \\ge 1} \\Big(\\sum_{j \\ge 0} n_{ij}\\Big)^2

    summed over slices. A proposal that merges cells loses precision, one that splits
    them loses recall. Pixels of the label's membrane do not count at all, and a slice
    whose label is membrane all over adds no pairs (the challenge's program divides 0 by 0
    there).

    Parameters
    ----------
    labels : array_like, (H, W) or (N, H, W)
        0 = membrane, 1 = interior of a cell.
    proposals : array_like, same shape
        Probability of interior in [0, 1].
    thresholds : float or sequence of float, optional
        Default: `CHALLENGE_THRESHOLDS`.

    Returns
    -------
    RandCurve

    Raises
    ------
    InputError
        If shapes differ, labels are not 0 and 1 or hold no interior at all, or proposals
        are not numbers in [0, 1].

    Examples
    --------
    Two cells of two pixels; the proposal joins them at 0.25 and is right at 0.5.

    >>> curve = rand_curve([[1, 1, 0, 1, 1]], [[0.9, 0.9, 0.4, 0.9, 0.9]], [0.25, 0.5])
    >>> curve.tp.tolist(), curve.fp.tolist(), curve.fn.tolist()
    ([8, 8], [8, 0], [0, 0])
    >>> curve.precision.tolist(), curve.best_threshold
    ([0.5, 1.0], 0.5)
    """
    interior, probability = check_segmentation(labels, proposals)
    values = check_thresholds(thresholds, CHALLENGE_THRESHOLDS)
    return rand_curve_from_tables(values, tables_at(interior, probability, values))


def rand_curve_standard(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> StandardRandCurve:
    """Plain Rand precision, recall and F-score at each threshold (Rand 1971).

    All pixels count, background is one object on both sides, and pairs are the
    n(n-1)/2 pairs of different pixels of a slice.

    Parameters
    ----------
    labels, proposals, thresholds
        As for `rand_curve`.

    Returns
    -------
    StandardRandCurve

    Raises
    ------
    InputError
        As `rand_curve`.

    Examples
    --------
    >>> curve = rand_curve_standard([[1, 1, 0, 1]], [[1.0, 1.0, 1.0, 1.0]], [0.5])
    >>> curve.tp.tolist(), curve.fp.tolist(), curve.index.round(12).tolist()
    ([1], [5], [0.166666666667])
    """
    interior, probability = check_segmentation(labels, proposals)
    values = check_thresholds(thresholds, CHALLENGE_THRESHOLDS)
    counts = np.zeros((4, len(interior), len(values)), np.int64)
    for s, row in enumerate(tables_at(interior, probability, values)):
        for k, table in enumerate(row):
            counts[:, s, k] = standard_pairs(table)
    tp, tn, fp, fn = (c.sum(axis=0) for c in counts)
    pairs = np.maximum(counts.sum(axis=0), 1)
    wrong: IntArray = counts[2] + counts[3]
    return StandardRandCurve(
        values,
        tp,
        tn,
        fp,
        fn,
        *precision_recall_fscore(tp, fp, fn),
        index=(1 - wrong / pairs).mean(axis=0),
    )


def rand_error(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> float:
    """Rand error of the ISBI-2012 challenge: 1 minus the best foreground-restricted F-score.

    It is the column "Rand Error" of the U-Net paper's Table 1: how often two pixels are
    rightly said to belong to the same cell or to different ones, see `rand_curve`.

    Parameters
    ----------
    labels, proposals, thresholds
        As for `rand_curve`. One threshold, ``thresholds=0.5``, gives the error of
        a segmentation that was fixed beforehand.

    Returns
    -------
    float
        In [0, 1]; 0 is perfect.

    Raises
    ------
    InputError
        As `rand_curve`.

    References
    ----------
    Rand, "Objective criteria for the evaluation of clustering methods", Journal of the
    American Statistical Association 66, 1971. Arganda-Carreras et al., "Crowdsourcing the
    creation of image segmentation algorithms for connectomics", Frontiers in
    Neuroanatomy 9:142, 2015.

    Examples
    --------
    One wall missing between two equal cells: P = 1/2, R = 1, F = 2/3.

    >>> round(rand_error([[1, 1, 0, 1, 1]], [[1.0, 1.0, 1.0, 1.0, 1.0]]), 12)
    0.333333333333
    """
    return float(1 - rand_curve(labels, proposals, thresholds).fscore.max())


def rand_error_standard(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> float:
    """1 minus the best F-score of the plain Rand index, see `rand_curve_standard`.

    Examples
    --------
    P = 1/6, R = 1, F = 2/7.

    >>> round(rand_error_standard([[1, 1, 0, 1]], [[1.0, 1.0, 1.0, 1.0]]), 12)
    0.714285714286
    """
    return float(1 - rand_curve_standard(labels, proposals, thresholds).fscore.max())
