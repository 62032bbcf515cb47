"""Pixel error of the ISBI-2012 challenge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from unet_np.metrics._inputs import FloatArray, Thresholds, check_segmentation, check_thresholds
from unet_np.metrics.isbi.thresholds import (
    CHALLENGE_THRESHOLDS,
    ScoreCurve,
    precision_recall_fscore,
)


@dataclass(frozen=True)
class PixelCurve(ScoreCurve):
    """Pixel counts and scores at each threshold, see `pixel_curve`.

    Attributes
    ----------
    error : float64 (T,)
        Share of wrong pixels, (FP + FN) / pixels.
    """

    error: FloatArray


def pixel_curve(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> PixelCurve:
    """Pixel precision, recall and F-score at each threshold; interior is the positive class.

    Parameters
    ----------
    labels : array_like, (H, W) or (N, H, W)
        0 = membrane, 1 = interior of a cell.
    proposals : array_like, same shape
        Probability of interior in [0, 1], rounded to float32 as in the challenge's files.
        A pixel is interior when ``proposal > threshold``, strictly, in double precision.
    thresholds : float or sequence of float, optional
        Default: `CHALLENGE_THRESHOLDS`.

    Returns
    -------
    PixelCurve
        Counts are sums over all slices.

    Raises
    ------
    InputError
        If shapes differ, labels are not 0 and 1 or hold no interior at all, or
        proposals are not numbers in [0, 1].

    Examples
    --------
    >>> curve = pixel_curve([[1, 1, 0, 0]], [[0.9, 0.3, 0.6, 0.1]], thresholds=[0.25, 0.5])
    >>> curve.tp.tolist(), curve.fp.tolist(), curve.fn.tolist(), curve.tn.tolist()
    ([2, 1], [1, 1], [0, 1], [1, 1])
    >>> curve.error.tolist(), curve.best_threshold
    ([0.25, 0.5], 0.25)
    """
    interior, probability = check_segmentation(labels, proposals)
    values = check_thresholds(thresholds, CHALLENGE_THRESHOLDS)
    positives = int(np.count_nonzero(interior))
    tp = np.zeros(len(values), np.int64)
    fp = np.zeros(len(values), np.int64)
    for slice_labels, slice_proposal in zip(interior, probability, strict=True):
        # NumPy would compare a float32 array with a Python float in float32.
        wide = slice_proposal.astype(np.float64)
        for k, threshold in enumerate(values):
            proposed = wide > threshold
            hits = np.count_nonzero(proposed & slice_labels)
            tp[k] += hits
            fp[k] += np.count_nonzero(proposed) - hits
    fn = positives - tp
    tn = interior.size - positives - fp
    scores = precision_recall_fscore(tp, fp, fn)
    return PixelCurve(values, tp, tn, fp, fn, *scores, error=(fp + fn) / interior.size)


def pixel_error(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> float:
    """Pixel error of the ISBI-2012 challenge: 1 minus the best pixel F-score.

    With the interior of cells as the positive class, precision P = TP/(TP+FP) and
    recall R = TP/(TP+FN) are taken over all pixels of all slices; the error is

    .. math:: 1 - \\max_t \\frac{2 P_t R_t}{P_t + R_t}

    over the thresholds t. It is the column "Pixel Error" of the U-Net paper's Table 1.

    Parameters
    ----------
    labels, proposals, thresholds
        As for `pixel_curve`. One threshold, ``thresholds=0.5``, gives the error of
        a segmentation that was fixed beforehand.

    Returns
    -------
    float
        In [0, 1]; 0 is perfect.

    Raises
    ------
    InputError
        As `pixel_curve`.

    References
    ----------
    Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation
    algorithms for connectomics", Frontiers in Neuroanatomy 9:142, 2015.

    Examples
    --------
    Two of three interior pixels found and nothing else: P = 1, R = 2/3, F = 4/5.

    >>> round(pixel_error([[1, 1, 1, 0]], [[1.0, 1.0, 0.0, 0.0]]), 12)
    0.2
    """
    return float(1 - pixel_curve(labels, proposals, thresholds).fscore.max())
