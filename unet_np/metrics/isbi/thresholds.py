"""Thresholds, precision, recall and F-score as in the ISBI-2012 challenge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unet_np.metrics._inputs import FloatArray, IntArray


def challenge_thresholds(maximum: float) -> tuple[float, ...]:
    """Thresholds 0, 0.1, 0.2, ... up to `maximum`, as the challenge's program makes them.

    It adds 0.1 again and again in double precision, so that some are a rounding
    away from k/10. A probability that was stored as exactly k/10 falls on one side
    or the other accordingly.

    Examples
    --------
    >>> challenge_thresholds(0.4)
    (0.0, 0.1, 0.2, 0.30000000000000004, 0.4)
    >>> challenge_thresholds(1.0)[-1]
    0.9999999999999999
    """
    values = []
    threshold = 0.0
    while threshold <= maximum:
        values.append(threshold)
        threshold += 0.1
    return tuple(values)


CHALLENGE_THRESHOLDS = challenge_thresholds(1.0)
"""The 11 thresholds of the pixel error, the Rand error, V_Rand and V_Info."""

WARPING_THRESHOLDS = challenge_thresholds(0.9)
"""The 10 thresholds of the warping error."""


def precision_recall_fscore(
    tp: IntArray, fp: IntArray, fn: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Precision TP/(TP+FP), recall TP/(TP+FN) and their harmonic mean F = 2PR/(P+R).

    Parameters
    ----------
    tp, fp, fn : int64 arrays of one shape
        True positives, false positives, false negatives.

    Returns
    -------
    precision, recall, fscore : float64 arrays of that shape
        Precision is 1 where FP = 0, recall is 1 where FN = 0, F is 0 where P + R = 0.

    Examples
    --------
    >>> p, r, f = precision_recall_fscore(np.array([3, 0]), np.array([1, 0]), np.array([3, 2]))
    >>> p.tolist(), r.tolist(), f.tolist()
    ([0.75, 1.0], [0.5, 0.0], [0.6, 0.0])
    """
    precision = np.where(fp == 0, 1.0, tp / np.maximum(tp + fp, 1))
    recall = np.where(fn == 0, 1.0, tp / np.maximum(tp + fn, 1))
    total = precision + recall
    fscore = np.where(total == 0, 0.0, 2 * precision * recall / np.where(total == 0, 1.0, total))
    return precision, recall, fscore


def best_index(scores: FloatArray) -> int:
    """Index of the highest score; of several equal ones the middle one.

    The middle of a plateau is the threshold that is the least likely to fail on other images.

    Examples
    --------
    >>> best_index(np.array([0.1, 0.7, 0.7, 0.7, 0.2]))
    2
    """
    ties = np.flatnonzero(scores == scores.max())
    return int(ties[(len(ties) - 1) // 2])


@dataclass(frozen=True)
class ScoreCurve:
    """Counts and scores at each threshold; every array has shape (T,).

    Attributes
    ----------
    thresholds : float64
    tp, tn, fp, fn : int64
        Pixels or pairs of pixels, summed over slices.
    precision, recall, fscore : float64
        Of those sums; see `precision_recall_fscore`.
    """

    thresholds: FloatArray
    tp: IntArray
    tn: IntArray
    fp: IntArray
    fn: IntArray
    precision: FloatArray
    recall: FloatArray
    fscore: FloatArray

    @property
    def best(self) -> int:
        """Index of the threshold with the highest F-score, see `best_index`."""
        return best_index(self.fscore)

    @property
    def best_threshold(self) -> float:
        """The threshold with the highest F-score."""
        return float(self.thresholds[self.best])
