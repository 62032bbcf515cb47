"""SEG, the segmentation measure of the Cell Tracking Challenge."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_np.errors import InputError
from unet_np.metrics._inputs import BoolArray, check_instances, same_shape


class ObjectMatch(NamedTuple):
    """One reference object and the predicted object that covers it.

    Attributes
    ----------
    frame : int
        Index of the frame.
    label : int
        Number of the reference object.
    matched : int
        Number of the predicted object, 0 for none.
    jaccard : float
        Jaccard index (intersection over union) of the two, 0 for none.
    """

    frame: int
    label: int
    matched: int
    jaccard: float


def _match_frame(frame: int, reference: NDArray, predicted: NDArray) -> list[ObjectMatch]:
    labels, sizes = np.unique(reference, return_counts=True)
    objects, areas = np.unique(predicted, return_counts=True)
    area_of = dict(zip(objects.tolist(), areas.tolist(), strict=True))
    covered = (reference > 0) & (predicted > 0)
    # Numbers may be large; pairs of positions in the sorted lists are not.
    pairs = np.searchsorted(labels, reference[covered]) * len(objects)
    pairs += np.searchsorted(objects, predicted[covered])
    pair, shared = np.unique(pairs, return_counts=True)
    row, column = pair // len(objects), pair % len(objects)

    # More than half: at most one object can have it.
    majority = 2 * shared > sizes[row]
    partner = {
        int(labels[r]): (int(objects[c]), int(n))
        for r, c, n in zip(row[majority], column[majority], shared[majority], strict=True)
    }
    matches = []
    for label, size in zip(labels.tolist(), sizes.tolist(), strict=True):
        if label == 0:
            continue
        matched, intersection = partner.get(label, (0, 0))
        union = size + area_of[matched] - intersection if matched else size
        matches.append(ObjectMatch(frame, label, matched, intersection / union))
    return matches


def _check_annotated(annotated: ArrayLike | None, frames: int) -> BoolArray:
    if annotated is None:
        return np.ones(frames, bool)
    chosen = np.asarray(annotated)
    if chosen.shape != (frames,) or chosen.dtype != np.bool_:
        raise InputError(
            f"annotated: got the shape {chosen.shape} of {chosen.dtype}, expected one bool per "
            f"frame, ({frames},)"
        )
    return chosen


def match_objects(
    labels: ArrayLike, proposals: ArrayLike, annotated: ArrayLike | None = None
) -> list[ObjectMatch]:
    """Find for each reference object the predicted object that covers most of it.

    A predicted object S matches a reference object R when it covers more than half of it,
    :math:`|R \\cap S| > |R| / 2`; there is at most one such S, and one S may match several R.
    An object is all the pixels with one number, also when in several pieces.

    Parameters
    ----------
    labels : array_like of int, (H, W) or (N, H, W)
        Reference objects; 0 = background.
    proposals : array_like of int, same shape
        Predicted objects; 0 = background.
    annotated : array_like of bool, (N,), optional
        Frames that have a reference; others are left out. Default: all.

    Returns
    -------
    list of ObjectMatch
        One for each reference object, by frame and number.

    Raises
    ------
    InputError
        If shapes differ or the numbers are not integers >= 0.

    Examples
    --------
    >>> match_objects([[1, 1, 1, 2]], [[5, 5, 0, 0]])[0].matched
    5
    >>> [round(match.jaccard, 3) for match in match_objects([[1, 1, 1, 2]], [[5, 5, 0, 0]])]
    [0.667, 0.0]
    """
    same_shape(labels, proposals)
    reference = check_instances("labels", labels)
    predicted = check_instances("proposals", proposals)
    chosen = _check_annotated(annotated, len(reference))
    matches: list[ObjectMatch] = []
    for frame in np.flatnonzero(chosen).tolist():
        matches += _match_frame(frame, reference[frame], predicted[frame])
    return matches


def seg_measure(
    labels: ArrayLike, proposals: ArrayLike, annotated: ArrayLike | None = None
) -> float:
    """SEG of the Cell Tracking Challenge: the mean Jaccard index of the reference objects.

    .. math:: SEG = \\frac{1}{n} \\sum_R \\frac{|R \\cap S_R|}{|R \\cup S_R|}

    over all n reference objects R of all annotated frames, where S_R is the predicted
    object that covers more than half of R, and the term is 0 where there is none
    (`match_objects`). Predicted objects without counterpart cost nothing. It is the "IOU"
    of the U-Net paper's Table 2.

    Parameters
    ----------
    labels, proposals, annotated
        As for `match_objects`.

    Returns
    -------
    float
        In [0, 1]; 1 is perfect.

    Raises
    ------
    InputError
        As `match_objects`, and if there is no reference object at all.

    References
    ----------
    Maška et al., "A benchmark for comparison of cell tracking algorithms", Bioinformatics
    30, 2014. Ulman et al., "An objective comparison of cell-tracking algorithms", Nature
    Methods 14, 2017. Maška et al., "The Cell Tracking Challenge: 10 years of objective
    benchmarking", Nature Methods 20, 2023.

    Examples
    --------
    One object with 2/3, one missed: the mean is 1/3.

    >>> round(seg_measure([[1, 1, 1, 2]], [[5, 5, 0, 0]]), 12)
    0.333333333333
    """
    matches = match_objects(labels, proposals, annotated)
    if not matches:
        raise InputError(
            "labels: got no object in any annotated frame, expected at least one; "
            "without one SEG is undefined"
        )
    return float(np.mean([match.jaccard for match in matches]))
