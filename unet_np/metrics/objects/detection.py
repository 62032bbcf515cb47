"""Scores of detections: which points are found, how far off they are, and how well boxes overlap.

A detection is right if it lies within a radius of an object and the two are a pair; each has one
partner at most. Pairs are chosen by an optimal assignment (`scipy.optimize.linear_sum_assignment`):
as many pairs as can be, and of all ways to make so many the one of least total distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from unet_np.errors import InputError


class PointMatch(NamedTuple):
    """Pairs of true and found points.

    Attributes
    ----------
    pairs : numpy.ndarray
        (k, 2) int, indices of the true point and of the found one.
    distances : numpy.ndarray
        (k,) float64, pixels.
    """

    pairs: np.ndarray
    distances: np.ndarray


class PointScores(NamedTuple):
    """Counts of detections over one or several images, and what follows from them.

    Attributes
    ----------
    found : int
        Objects that have a detection.
    spurious : int
        Detections that have no object.
    missed : int
        Objects without a detection.
    distance : float
        Mean distance of the pairs in pixels; NaN without one.
    """

    found: int
    spurious: int
    missed: int
    distance: float

    @property
    def precision(self) -> float:
        """Share of the detections that are right; NaN if nothing was detected."""
        return _ratio(self.found, self.found + self.spurious)

    @property
    def recall(self) -> float:
        """Share of the objects that were found; NaN if there are none."""
        return _ratio(self.found, self.found + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two, 2 found / (2 found + spurious + missed); NaN of nothing."""
        return _ratio(2 * self.found, 2 * self.found + self.spurious + self.missed)


def match_points(truth: ArrayLike, found: ArrayLike, radius: float) -> PointMatch:
    """Pair found points with true ones, one to one, within a radius.

    Parameters
    ----------
    truth, found : array_like, (n, 2) and (m, 2)
        Rows and columns in pixels.
    radius : float
        Pairs farther apart do not count.

    Returns
    -------
    PointMatch
        In the order of the true points.

    Raises
    ------
    InputError
        If the points are not pairs of finite numbers, or the radius is not above 0.

    Examples
    --------
    Both found points are nearest to the second true one; one of them goes to the first:

    >>> match_points([[0, 0], [0, 4]], [[0, 3], [0, 4]], 5).pairs.tolist()
    [[0, 0], [1, 1]]
    """
    true, other = check_points("truth", truth), check_points("found", found)
    if not 0 < radius < np.inf:
        raise InputError(f"radius: got {radius}, expected a number > 0")
    difference = true[:, None] - other[None]
    distances = np.sqrt((difference**2).sum(axis=2))
    near = distances <= radius
    # No sum of allowed distances is as large as the cost of one pair that is not allowed.
    forbidden = radius * (min(distances.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(near, distances, forbidden))
    kept = near[rows, columns]
    pairs = np.stack([rows[kept], columns[kept]], axis=1)
    return PointMatch(pairs, distances[rows[kept], columns[kept]])


def score_points(
    truth: Sequence[ArrayLike],
    found: Sequence[ArrayLike],
    radius: float,
    unknown: Sequence[np.ndarray | None] | None = None,
) -> PointScores:
    """Precision, recall, F1 and mean distance at a radius, over all images together.

    Parameters
    ----------
    truth, found : sequence of (n, 2)
        The points of each image.
    radius : float
        Pixels.
    unknown : sequence of bool arrays (H, W) or None, optional
        Where nobody stated whether there is an object: a detection there that has no object is
        not counted as spurious.

    Returns
    -------
    PointScores

    Raises
    ------
    InputError
        If the sequences differ in length, and as `match_points`.

    Examples
    --------
    >>> scores = score_points([[[5, 5], [20, 20]]], [[[6, 5], [40, 5]]], radius=3)
    >>> scores.precision, scores.recall, scores.f1, scores.distance
    (0.5, 0.5, 0.5, 1.0)
    """
    masks = [None] * len(truth) if unknown is None else unknown
    if not len(truth) == len(found) == len(masks):
        raise InputError(
            f"found: got {len(found)} images (unknown: {len(masks)}), expected {len(truth)}"
        )
    hits = extra = missed = 0
    distances = []
    for true, other, mask in zip(truth, found, masks, strict=True):
        match = match_points(true, other, radius)
        single = np.delete(check_points("found", other), match.pairs[:, 1], axis=0)
        hits += len(match.pairs)
        extra += len(single) - _count_inside(single, mask)
        missed += len(check_points("truth", true)) - len(match.pairs)
        distances.append(match.distances)
    every = np.concatenate(distances) if distances else np.zeros(0)
    return PointScores(hits, extra, missed, float(every.mean()) if len(every) else float("nan"))


def box_iou(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Intersection over union of each box of one set with each of another.

    Parameters
    ----------
    first, second : array_like, (n, 4) and (m, 4)
        First row, first column, and the row and column after the last.

    Returns
    -------
    numpy.ndarray
        (n, m) float64, 0 to 1.

    Raises
    ------
    InputError
        If the boxes have not four numbers each, or one ends before it begins.

    Examples
    --------
    >>> box_iou([[0, 0, 2, 2]], [[0, 1, 2, 3], [5, 5, 6, 6]]).round(4)
    array([[0.3333, 0.    ]])
    """
    a, b = _boxes("first", first), _boxes("second", second)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    union = _area(a)[:, None] + _area(b)[None] - shared
    return np.asarray(shared / np.where(union > 0, union, 1))


def check_points(name: str, points: ArrayLike) -> np.ndarray:
    """Give points as float64 (n, 2); an empty list is no point.

    Examples
    --------
    >>> check_points("truth", []).shape
    (0, 2)
    """
    array = np.asarray(points, np.float64)
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise InputError(f"{name}: got shape {array.shape}, expected (n, 2)")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: got NaN or infinity, expected finite numbers")
    return array


def _count_inside(points: np.ndarray, mask: np.ndarray | None) -> int:
    if mask is None or not len(points):
        return 0
    last = np.array(mask.shape) - 1
    rows, columns = np.clip(np.floor(points + 0.5).astype(int), 0, last).T
    return int(np.count_nonzero(mask[rows, columns]))


def _boxes(name: str, boxes: ArrayLike) -> np.ndarray:
    array = np.asarray(boxes, np.float64)
    array = array.reshape(0, 4) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"{name}: got shape {array.shape}, expected (n, 4)")
    if (array[:, 2:] < array[:, :2]).any():
        raise InputError(f"{name}: got a box that ends before it begins, expected first <= last")
    return array


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
