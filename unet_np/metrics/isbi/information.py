"""How much two segmentations tell about each other: V_Info."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from unet_np.metrics._inputs import FloatArray, Thresholds, check_segmentation, check_thresholds
from unet_np.metrics.isbi.thresholds import CHALLENGE_THRESHOLDS, best_index
from unet_np.metrics.tables import tables_at


@dataclass(frozen=True)
class InfoCurve:
    """Information-theoretic scores at each threshold; arrays of shape (T,).

    Attributes
    ----------
    thresholds, precision, recall, fscore : float64
        Means over slices. Merged cells lose precision, split cells lose recall. A slice
        whose label is membrane all over has the scores 0, 1 and 0 of a label with one cell,
        as in the challenge's program.
    """

    thresholds: FloatArray
    precision: FloatArray
    recall: FloatArray
    fscore: FloatArray

    @property
    def best(self) -> int:
        """Index of the threshold with the highest score, see `best_index`."""
        return best_index(self.fscore)

    @property
    def best_threshold(self) -> float:
        """The threshold with the highest score."""
        return float(self.thresholds[self.best])


def _sum_p_log_p(counts: NDArray, n: int) -> float:
    p = counts[counts > 0] / n
    return float(np.sum(p * np.log(p)))


def foreground_information(table: sparse.csr_array) -> tuple[float, float, float]:
    """Information precision, recall and F-score of one slice.

    Over the n interior pixels of the label, with p_ij = n_ij / n, A the label's cells and
    B the proposal's objects, the mutual information I = H(A) - H(A|B) = H(B) - H(B|A)
    is divided by H(A) (precision) and by H(B) (recall). Each of the z pixels of the
    proposal's background is an object of its own. By the challenge's rule a label with one
    cell only, whose H(A) is 0, scores 0 even for a perfect proposal.

    Parameters
    ----------
    table : sparse int64 (I + 1, J + 1)
        n_ij, 0 = background.

    Returns
    -------
    precision, recall, fscore : float

    Examples
    --------
    Two equal cells: a bit for a bit, and no information once they are merged.

    >>> foreground_information(sparse.csr_array(np.array([[0, 0, 0], [0, 4, 0], [0, 0, 4]])))
    (1.0, 1.0, 1.0)
    >>> foreground_information(sparse.csr_array(np.array([[0, 0], [0, 4], [0, 4]])))
    (1.0, 0.0, 0.0)
    """
    inside = table[1:]
    cells = inside.sum(axis=1)
    objects = inside.sum(axis=0)
    n = int(cells.sum())
    # A pixel on its own has p = 1/n and p ln p = -(ln n)/n.
    lone = int(objects[0]) / n * np.log(n)
    sum_a = _sum_p_log_p(cells, n)
    sum_b = _sum_p_log_p(objects[1:], n) - lone
    sum_ab = _sum_p_log_p(inside[:, 1:].data, n) - lone
    information = sum_ab - sum_a - sum_b
    if sum_b == 0:
        precision, recall = 1.0, 0.0
    elif sum_a == 0:
        precision, recall = 0.0, 1.0
    else:
        precision, recall = float(information / -sum_a), float(information / -sum_b)
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def _slice_scores(table: sparse.csr_array) -> tuple[float, float, float]:
    # Without interior H(A) = 0, and what H(B) would be is 0/0.
    return foreground_information(table) if table[1:].nnz else (0.0, 1.0, 0.0)


def info_curve_from_tables(
    thresholds: FloatArray, tables: Sequence[Sequence[sparse.csr_array]]
) -> InfoCurve:
    """Average the information scores of ``tables[slice][threshold]`` over slices."""
    scores = np.array([[_slice_scores(table) for table in row] for row in tables])
    precision, recall, fscore = np.moveaxis(scores.mean(axis=0), -1, 0)
    return InfoCurve(thresholds, precision, recall, fscore)


def info_curve(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> InfoCurve:
    """Information scores at each threshold, without border thinning.

    Parameters
    ----------
    labels, proposals, thresholds
        As for `rand_curve`.

    Returns
    -------
    InfoCurve

    Raises
    ------
    InputError
        As `rand_curve`.

    Examples
    --------
    >>> curve = info_curve([[1, 1, 0, 1, 1]], [[0.9, 0.9, 0.4, 0.9, 0.9]], [0.25, 0.5])
    >>> curve.fscore.tolist(), curve.best_threshold
    ([0.0, 1.0], 0.5)
    """
    interior, probability = check_segmentation(labels, proposals)
    values = check_thresholds(thresholds, CHALLENGE_THRESHOLDS)
    return info_curve_from_tables(values, tables_at(interior, probability, values))
