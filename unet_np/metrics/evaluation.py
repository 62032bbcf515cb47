"""Several metrics at once, for a stack as a whole and for each slice of it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_np.errors import InputError
from unet_np.metrics._inputs import (
    FloatArray,
    Thresholds,
    as_slices,
    check_annotated,
    check_thresholds,
    same_shape,
    short,
)
from unet_np.metrics.isbi.pixel import pixel_curve
from unet_np.metrics.isbi.rand import rand_curve, rand_curve_standard
from unet_np.metrics.isbi.thinning import thinned_curves
from unet_np.metrics.isbi.thresholds import CHALLENGE_THRESHOLDS, WARPING_THRESHOLDS, best_index
from unet_np.metrics.isbi.warping import warping_curve
from unet_np.metrics.objects.overlap import dice, iou
from unet_np.metrics.objects.seg import seg_measure

ISBI_METRICS = ("warping_error", "rand_error", "pixel_error")
"""The columns of the U-Net paper's Table 1, in its order."""


class Evaluation(TypedDict):
    """What `evaluate` says of one metric; made of plain numbers, ready for JSON.

    Attributes
    ----------
    value : float
        The metric of the whole stack.
    threshold : float or None
        The threshold that gave it; None for a metric without thresholds.
    slices : list of float or None
        The metric of each slice alone, at the stack's threshold; None where it is
        undefined (nothing in the label) or there is no reference. ``v_rand`` and ``v_info``,
        means over slices, have 0 where nothing is in the label.
    """

    value: float
    threshold: float | None
    slices: list[float | None]


class _Metric(NamedTuple):
    """Scores of (labels, proposals) at each threshold, and how to read them."""

    scores: Callable[[NDArray, NDArray, FloatArray], FloatArray]
    thresholds: tuple[float, ...]
    sign: int


def _overlap_scores(function: Callable[..., float]) -> _Metric:
    def scores(labels: NDArray, proposals: NDArray, thresholds: FloatArray) -> FloatArray:
        return np.array([function(labels, proposals, float(t)) for t in thresholds])

    return _Metric(scores, (0.5,), 1)


_METRICS = {
    "warping_error": _Metric(lambda *args: warping_curve(*args).error, WARPING_THRESHOLDS, -1),
    "rand_error": _Metric(lambda *args: 1 - rand_curve(*args).fscore, CHALLENGE_THRESHOLDS, -1),
    "pixel_error": _Metric(lambda *args: 1 - pixel_curve(*args).fscore, CHALLENGE_THRESHOLDS, -1),
    "rand_error_standard": _Metric(
        lambda *args: 1 - rand_curve_standard(*args).fscore, CHALLENGE_THRESHOLDS, -1
    ),
    "v_rand": _Metric(lambda *args: thinned_curves(*args)[0].fscore_macro, CHALLENGE_THRESHOLDS, 1),
    "v_info": _Metric(lambda *args: thinned_curves(*args)[1].fscore, CHALLENGE_THRESHOLDS, 1),
    "iou": _overlap_scores(iou),
    "dice": _overlap_scores(dice),
}

MEANS = ("v_rand", "v_info")
"""The metrics in which a slice without interior counts, as 0."""

METRIC_NAMES = (*_METRICS, "seg_measure")
"""The metrics that `evaluate` knows."""


def _check_name(name: object, known: Sequence[str]) -> str:
    if not isinstance(name, str) or name not in known:
        close = difflib.get_close_matches(str(name), known, n=1, cutoff=0)
        raise InputError(
            f"metrics: got {short(name)}, expected names among {', '.join(known)}; "
            f"nearest valid: {close[0]}"
        )
    return name


def _best(
    name: str, labels: NDArray, proposals: NDArray, thresholds: Thresholds
) -> tuple[float, float]:
    """Threshold with the best score, and that score."""
    metric = _METRICS[name]
    values = check_thresholds(thresholds, metric.thresholds)
    scores = metric.scores(labels, proposals, values)
    best = best_index(metric.sign * scores)
    return float(values[best]), float(scores[best])


def best_threshold(
    labels: ArrayLike,
    proposals: ArrayLike,
    metric: str = "rand_error",
    thresholds: Thresholds = None,
) -> float:
    """Choose the threshold at which a metric is best, on training data for use on other data.

    Where several thresholds are equally good, the middle one of them is chosen.

    Parameters
    ----------
    labels, proposals, thresholds
        As for `evaluate`.
    metric : str
        Any of `METRIC_NAMES` but seg_measure, which has no threshold.

    Returns
    -------
    float
        One of `thresholds`.

    Raises
    ------
    InputError
        For other names, and as the metric.

    Examples
    --------
    All is right from 0.4 to 0.8. A test set is then scored at the one threshold chosen.

    >>> from unet_np.metrics import rand_error
    >>> label = [[1, 1, 0, 1, 1]]
    >>> threshold = best_threshold(label, [[0.9, 0.9, 0.35, 0.9, 0.9]], "rand_error")
    >>> threshold
    0.6
    >>> rand_error(label, [[0.8, 0.8, 0.5, 0.8, 0.7]], threshold)
    0.0
    """
    _check_name(metric, tuple(_METRICS))
    same_shape(labels, proposals)
    slices = as_slices("labels", labels), as_slices("proposals", proposals)
    return _best(metric, *slices, thresholds)[0]


def _evaluate_one(
    name: str, labels: NDArray, proposals: NDArray, thresholds: Thresholds
) -> tuple[float, float | None, list[float | None]]:
    threshold: float | None = None
    if name == "seg_measure":
        value = seg_measure(labels, proposals)
    else:
        threshold, value = _best(name, labels, proposals, thresholds)
    per_slice: list[float | None] = []
    for label, proposal in zip(labels, proposals, strict=True):
        try:
            if threshold is None:
                per_slice.append(seg_measure(label, proposal))
            else:
                per_slice.append(_best(name, label, proposal, threshold)[1])
        except InputError:
            # The stack passed every check, so all that can be wrong is an empty label.
            per_slice.append(0.0 if name in MEANS else None)
    return value, threshold, per_slice


def evaluate(
    labels: ArrayLike,
    proposals: ArrayLike,
    metrics: str | Sequence[str] = ISBI_METRICS,
    thresholds: Thresholds = None,
    annotated: ArrayLike | None = None,
) -> dict[str, Evaluation]:
    """Score a stack with several metrics, as a whole and slice by slice.

    Parameters
    ----------
    labels : array_like, (H, W) or (N, H, W)
        0 and 1; numbers of objects for ``seg_measure``.
    proposals : array_like, same shape
        Probabilities in [0, 1]; numbers of objects for ``seg_measure``.
    metrics : str or sequence of str
        Among `METRIC_NAMES`. Default: the three of the U-Net paper's Table 1.
    thresholds : float or sequence of float, optional
        For all metrics but ``seg_measure``. One number scores at that threshold (chosen on
        other data, see `best_threshold`); of several the best counts, for the stack as a
        whole. Default: those of the challenge; 0.5 for ``iou`` and ``dice``.
    annotated : array_like of bool, (N,), optional
        Slices that have a reference; others are left out. Default: all.

    Returns
    -------
    dict of str to Evaluation
        By metric, in the order asked for: ``value``, ``threshold`` and ``slices``.

    Raises
    ------
    InputError
        For unknown names and as each metric.

    Examples
    --------
    >>> labels = [[[1, 1, 1, 0]], [[1, 1, 1, 0]]]
    >>> proposals = [[[1.0, 1.0, 0.2, 0.0]], [[1.0, 1.0, 1.0, 0.0]]]
    >>> scores = evaluate(labels, proposals, ["pixel_error", "iou"], thresholds=0.5)
    >>> round(scores["iou"]["value"], 6), [round(v, 6) for v in scores["iou"]["slices"]]
    (0.833333, [0.666667, 1.0])
    >>> scores["pixel_error"]["threshold"]
    0.5
    """
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    if not names:
        raise InputError(
            f"metrics: got none, expected at least one of {', '.join(METRIC_NAMES)}; "
            f"nearest valid: {ISBI_METRICS[0]}"
        )
    for name in names:
        _check_name(name, METRIC_NAMES)
    same_shape(labels, proposals)
    label_slices = as_slices("labels", labels)
    proposal_slices = as_slices("proposals", proposals)
    chosen = np.flatnonzero(check_annotated(annotated, len(label_slices)))
    if chosen.size == 0:
        raise InputError("annotated: got no frame with a reference, expected at least one")
    result: dict[str, Evaluation] = {}
    for name in names:
        value, threshold, scores = _evaluate_one(
            name, label_slices[chosen], proposal_slices[chosen], thresholds
        )
        slices: list[float | None] = [None] * len(label_slices)
        for index, score in zip(chosen.tolist(), scores, strict=True):
            slices[index] = score
        result[name] = Evaluation(value=value, threshold=threshold, slices=slices)
    return result
