"""SEG, the segmentation measure of the Cell Tracking Challenge."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_np.errors import InputError
from unet_np.metrics._inputs import IntArray, check_annotated, check_instances, same_shape


class Outcome(IntEnum):
    """What a prediction made of an object; 0 in a map of outcomes means background."""

    FOUND = 1
    SPLIT = 2
    MERGED = 3
    MISSED = 4
    SPURIOUS = 5


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
    parts : int
        Predicted objects that lie in the reference object with more than half of their area.
    sharing : int
        Reference objects that the matched object covers by more than half, 0 for none.
    """

    frame: int
    label: int
    matched: int
    jaccard: float
    parts: int
    sharing: int

    @property
    def outcome(self) -> Outcome:
        """Merged (`sharing` > 1), else split (`parts` > 1), else missed (no match) or found."""
        if self.sharing > 1:
            return Outcome.MERGED
        if self.parts > 1:
            return Outcome.SPLIT
        return Outcome.FOUND if self.matched else Outcome.MISSED


class _Overlaps(NamedTuple):
    """Sizes of the objects of one frame, 0 first where there is background, and of overlaps.

    `row` and `column` are positions in `labels` and `objects`.
    """

    labels: NDArray
    sizes: IntArray
    objects: NDArray
    areas: IntArray
    row: IntArray
    column: IntArray
    shared: IntArray


def _overlaps(reference: NDArray, predicted: NDArray) -> _Overlaps:
    labels, sizes = np.unique(reference, return_counts=True)
    objects, areas = np.unique(predicted, return_counts=True)
    covered = (reference > 0) & (predicted > 0)
    # Numbers may be large; pairs of positions in the sorted lists are not.
    pairs = np.searchsorted(labels, reference[covered]) * len(objects)
    pairs += np.searchsorted(objects, predicted[covered])
    pair, shared = np.unique(pairs, return_counts=True)
    row, column = np.divmod(pair, len(objects))
    return _Overlaps(labels, sizes, objects, areas, row, column, shared)


def _match_frame(frame: int, reference: NDArray, predicted: NDArray) -> list[ObjectMatch]:
    labels, sizes, objects, areas, row, column, shared = _overlaps(reference, predicted)
    # More than half: at most one object can have it.
    covers = 2 * shared > sizes[row]
    partner = np.full(len(labels), -1)
    partner[row[covers]] = column[covers]
    intersection = np.zeros(len(labels), np.int64)
    intersection[row[covers]] = shared[covers]
    sharing = np.bincount(column[covers], minlength=len(objects))
    parts = np.bincount(row[2 * shared > areas[column]], minlength=len(labels))

    matches = []
    for r in np.flatnonzero(labels).tolist():
        s = int(partner[r])
        matched, jaccard, shares = 0, 0.0, 0
        if s >= 0:
            matched, shares = int(objects[s]), int(sharing[s])
            jaccard = float(intersection[r] / (sizes[r] + areas[s] - intersection[r]))
        matches.append(ObjectMatch(frame, int(labels[r]), matched, jaccard, int(parts[r]), shares))
    return matches


def match_objects(
    labels: ArrayLike, proposals: ArrayLike, annotated: ArrayLike | None = None
) -> list[ObjectMatch]:
    """Find for each reference object the predicted object that covers most of it.

    A predicted object S matches a reference object R when it covers more than half of it,
    :math:`|R \\cap S| > |R| / 2`; there is at most one such S, and one S may match several R.
    An object is all the pixels with one number, also when in several pieces. In a frame that
    is annotated in part only the annotated objects count.

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
    Object 5 covers two thirds of object 1; object 2 has nothing.

    >>> first, second = match_objects([[1, 1, 1, 2]], [[5, 5, 0, 0]])
    >>> first.matched, round(first.jaccard, 3), first.outcome.name
    (5, 0.667, 'FOUND')
    >>> second.matched, second.jaccard, second.outcome.name
    (0, 0.0, 'MISSED')
    """
    same_shape(labels, proposals)
    reference = check_instances("labels", labels)
    predicted = check_instances("proposals", proposals)
    chosen = check_annotated(annotated, len(reference))
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


def outcome_map(
    labels: ArrayLike, proposals: ArrayLike, annotated: ArrayLike | None = None
) -> NDArray[np.uint8]:
    """Paint each object with what the prediction made of it, for error maps.

    Reference objects get the `Outcome` of their match. A predicted object that covers no
    reference object by more than half and lies in none with more than half of its area is
    spurious; it is painted where there is no reference object. In a frame that is annotated
    in part, spurious objects may be real ones.

    Parameters
    ----------
    labels, proposals, annotated
        As for `match_objects`.

    Returns
    -------
    uint8, shape of labels
        A value of `Outcome`, 0 on the background and in frames without a reference.

    Raises
    ------
    InputError
        As `match_objects`.

    Examples
    --------
    One object cut in two, one missed, one predicted where there is none.

    >>> outcome_map([[1, 1, 0, 2, 0, 0]], [[5, 6, 0, 0, 0, 7]]).tolist()
    [[2, 2, 0, 4, 0, 5]]
    """
    matches = match_objects(labels, proposals, annotated)
    reference = check_instances("labels", labels)
    predicted = check_instances("proposals", proposals)
    outcomes = np.zeros(reference.shape, np.uint8)
    for frame in np.flatnonzero(check_annotated(annotated, len(reference))).tolist():
        cells, found = reference[frame], predicted[frame]
        table = _overlaps(cells, found)
        related = 2 * table.shared > np.minimum(table.sizes[table.row], table.areas[table.column])
        spurious = (found > 0) & ~np.isin(found, table.objects[table.column[related]])
        outcomes[frame][spurious & (cells == 0)] = Outcome.SPURIOUS
    for match in matches:
        outcomes[match.frame][reference[match.frame] == match.label] = match.outcome
    return outcomes.reshape(np.shape(labels))
