"""Objects as peaks of a heat map: what a detecting network learns, and how its output is read.

An object is the middle of its bounding box, with a height and a width. The heat map holds a
Gaussian for each object, the larger value where two overlap, and two more maps hold the logarithms
of height and width around each centre. Read backwards, a peak of the map is an object and the two
maps at the peak give its box (objects as points: Zhou, Wang and Kraehenbuehl 2019). The
paper has no such task; its network serves as it is, with these three output channels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.ndimage

from unet_np import backend
from unet_np.backend import Array
from unet_np.errors import InputError

REACH = 3
"""Standard deviations at which a Gaussian ends."""

LEAST_SIGMA = 1.0
"""Pixels; a narrower Gaussian would be one pixel and nothing beside it."""

NEAR = 0.5
"""Height and width are learned where an object's Gaussian is at least this."""

APART = 0.4
"""Two objects are at least this share of the surer one's size apart."""


class Objects(NamedTuple):
    """Objects of one image.

    Attributes
    ----------
    centres : numpy.ndarray
        (n, 2) float64, row and column of the middle of the box, in pixels.
    sizes : numpy.ndarray
        (n, 2) float64, height and width of the box; NaN where only the centre is known.
    """

    centres: np.ndarray
    sizes: np.ndarray

    @property
    def boxes(self) -> np.ndarray:
        """(n, 4): first row, first column, and the row and column after the last."""
        return boxes_around(self.centres, self.sizes)


class Targets(NamedTuple):
    """What the three output channels should be, and where it counts.

    Attributes
    ----------
    heat : numpy.ndarray
        (H, W) float32 from 0 to 1; exactly 1 at the pixel of each centre.
    log_sizes : numpy.ndarray
        (2, H, W) float32, natural logarithms of height and width in pixels; 0 far from centres.
    size_weights : numpy.ndarray
        (H, W) float32: the heat where it is at least `NEAR` and the box is known, else 0.
    """

    heat: np.ndarray
    log_sizes: np.ndarray
    size_weights: np.ndarray


class Detections(NamedTuple):
    """Objects that were found in one image, the surest first.

    Attributes
    ----------
    centres : numpy.ndarray
        (n, 2) float64, row and column in pixels.
    scores : numpy.ndarray
        (n,) float64, heights of the peaks, 0 to 1.
    boxes : numpy.ndarray
        (n, 4) float64: first row, first column, and the row and column after the last; not cut
        at the border of the image.
    """

    centres: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray

    def above(self, threshold: float) -> Detections:
        """Those with a score of at least `threshold`."""
        kept = self.scores >= threshold
        return Detections(self.centres[kept], self.scores[kept], self.boxes[kept])


def boxes_around(centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes from their middles and sizes.

    Examples
    --------
    A box of three rows and two columns that begins at row 4 and column 7:

    >>> boxes_around(np.array([[5.0, 7.5]]), np.array([[3.0, 2.0]]))
    array([[4., 7., 7., 9.]])
    """
    first = centres + 0.5 - sizes / 2
    return np.concatenate([first, first + sizes], axis=1)


def object_ids(instances: np.ndarray, markers: np.ndarray | None = None) -> np.ndarray:
    """Numbers of the objects of an image: above 0 with a box, below 0 with a centre alone.

    Parameters
    ----------
    instances : numpy.ndarray
        (H, W), 0 = background, each cell a number of its own.
    markers : numpy.ndarray, optional
        (H, W), a spot for each cell. One that touches no cell of `instances` is an object of
        which the centre is known and the size is not: a click is enough to learn from.

    Returns
    -------
    numpy.ndarray
        (H, W), int32.

    Examples
    --------
    >>> object_ids(np.array([[5, 5, 0, 0]]), np.array([[1, 0, 0, 2]]))
    array([[ 5,  5,  0, -2]], dtype=int32)
    """
    ids = instances.astype(np.int32)
    if markers is not None:
        matched = np.unique(markers[instances > 0])
        lonely = (markers > 0) & ~np.isin(markers, matched) & (instances == 0)
        ids[lonely] = -markers[lonely].astype(np.int32)
    return ids


def find_objects(ids: np.ndarray) -> Objects:
    """The objects of a map of numbers.

    Parameters
    ----------
    ids : numpy.ndarray
        (H, W), of `object_ids` or instances.

    Returns
    -------
    Objects
        In the order of their numbers. A box is that of the object's pixels in this image.

    Raises
    ------
    InputError
        If `ids` is not a two-dimensional map of integers.

    Examples
    --------
    >>> find_objects(np.array([[0, 3, 3], [0, 3, 0], [-1, 0, 0]]))
    Objects(centres=array([[2. , 0. ],
           [0.5, 1.5]]), sizes=array([[nan, nan],
           [ 2.,  2.]]))
    """
    if ids.ndim != 2 or ids.dtype.kind not in "bui":
        raise InputError(f"ids: got {ids.dtype} {ids.shape}, expected integers of shape (H, W)")
    values, places = np.unique(ids, return_inverse=True)
    numbered = np.where(ids != 0, places.reshape(ids.shape) + 1, 0)
    found = scipy.ndimage.find_objects(numbered)
    pairs = [(value, box) for value, box in zip(values, found, strict=False) if box is not None]
    edges = np.array(
        [[down.start, across.start, down.stop, across.stop] for _, (down, across) in pairs],
        np.float64,
    ).reshape(-1, 4)
    sizes = edges[:, 2:] - edges[:, :2]
    centres = (edges[:, :2] + edges[:, 2:] - 1) / 2
    sizes[np.array([value for value, _ in pairs], np.float64) < 0] = np.nan
    return Objects(centres, sizes)


def typical_size(ids: np.ndarray) -> tuple[float, float]:
    """Median height and width of the objects whose box is known.

    Parameters
    ----------
    ids : numpy.ndarray
        (H, W) or (N, H, W).

    Returns
    -------
    tuple of float
        Pixels; an eighth of the image where no box is known.

    Examples
    --------
    >>> typical_size(np.array([[1, 1, 0, 2], [1, 1, 0, 2]]))
    (2.0, 1.5)
    """
    slices = ids.reshape(-1, *ids.shape[-2:])
    sizes = np.concatenate([find_objects(one).sizes for one in slices])
    sizes = sizes[~np.isnan(sizes[:, 0])]
    if not len(sizes):
        return ids.shape[-2] / 8, ids.shape[-1] / 8
    height, width = np.median(sizes, axis=0)
    return float(height), float(width)


def targets(
    objects: Objects,
    shape: tuple[int, int],
    share: float = 0.15,
    typical: tuple[float, float] = (16.0, 16.0),
) -> Targets:
    """The maps that a network should give for some objects.

    The standard deviation of an object's Gaussian is tied to its size: `share` times the square
    root of height times width, at least one pixel. A centre is rounded to a pixel first, so that
    the map is exactly 1 there.

    Parameters
    ----------
    objects : Objects
        Centres outside of the image are left out.
    shape : tuple of int
        H and W.
    share : float
        See above.
    typical : tuple of float
        Height and width that an object of unknown size is given, for its Gaussian alone.

    Returns
    -------
    Targets

    Examples
    --------
    >>> one = Objects(np.array([[1.0, 2.0]]), np.array([[8.0, 8.0]]))
    >>> maps = targets(one, (3, 5), share=0.1)
    >>> maps.heat[1].astype(float).round(2).tolist()
    [0.14, 0.61, 1.0, 0.61, 0.14]
    >>> float(np.exp(maps.log_sizes[0, 1, 2])), int((maps.size_weights > 0).sum())
    (8.0, 5)
    """
    heat = np.zeros(shape, np.float32)
    log_sizes = np.zeros((2, *shape), np.float32)
    sized = np.zeros(shape, bool)
    for centre, size in zip(objects.centres, objects.sizes, strict=True):
        known = not np.isnan(size[0])
        sigma = gaussian_width(size if known else np.array(typical), share)
        window, spot = _spot(centre, sigma, shape)
        if spot is None:
            continue
        higher = spot > heat[window]
        heat[window][higher] = spot[higher]
        sized[window][higher] = known
        if known:
            log_sizes[(slice(None), *window)][:, higher] = np.log(size)[:, None]
    weights = np.where(sized & (heat >= NEAR), heat, np.float32(0))
    return Targets(heat, log_sizes, weights)


def gaussian_width(size: np.ndarray, share: float) -> float:
    """Standard deviation of an object's Gaussian, in pixels.

    Examples
    --------
    >>> gaussian_width(np.array([40.0, 10.0]), 0.1), gaussian_width(np.array([4.0, 4.0]), 0.1)
    (2.0, 1.0)
    """
    return max(share * float(np.sqrt(size[0] * size[1])), LEAST_SIGMA)


def _spot(
    centre: np.ndarray, sigma: float, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray | None]:
    """Where a Gaussian lies in the image and its values there; None if its centre is outside."""
    middle = np.floor(centre + 0.5).astype(int)
    if not all(0 <= at < length for at, length in zip(middle, shape, strict=True)):
        return (slice(0), slice(0)), None
    reach = int(np.ceil(REACH * sigma))
    axes = [
        np.arange(max(at - reach, 0), min(at + reach + 1, length)) - at
        for at, length in zip(middle, shape, strict=True)
    ]
    down, across = (np.exp(-(steps**2) / (2 * sigma**2)) for steps in axes)
    places = tuple(
        slice(at + steps[0], at + steps[-1] + 1) for at, steps in zip(middle, axes, strict=True)
    )
    return (places[0], places[1]), np.outer(down, across).astype(np.float32)


def peaks(heat: Array, threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that none of their eight neighbours exceeds, the highest first.

    Parameters
    ----------
    heat : array
        (H, W), NumPy or CuPy.
    threshold : float
        Lower peaks are left out.

    Returns
    -------
    points : numpy.ndarray
        (n, 2) int, row and column. Equals are in reading order.
    scores : numpy.ndarray
        (n,) float64.

    Examples
    --------
    >>> peaks(np.array([[0.1, 0.9, 0.2, 0.0, 0.5]]))
    (array([[0, 1],
           [0, 4]]), array([0.9, 0.5]))
    """
    xp = backend.array_module(heat)
    highest = backend.ndimage(xp).maximum_filter(heat, 3, mode="nearest")
    rows, columns = xp.nonzero((heat == highest) & (heat >= threshold))
    scores = backend.to_numpy(heat[rows, columns]).astype(np.float64)
    points = np.stack([backend.to_numpy(rows), backend.to_numpy(columns)], axis=1)
    order = np.argsort(-scores, kind="stable")
    return points[order], scores[order]


def suppress(points: np.ndarray, scores: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """Non-maximum suppression: of points closer than a radius, keep the one of highest score.

    Greedy: the highest is kept and all that lie within its radius go; then the highest of
    those left, and so on.

    Parameters
    ----------
    points : numpy.ndarray
        (n, 2).
    scores : numpy.ndarray
        (n,).
    radius : float or numpy.ndarray
        Pixels, one number or one for each point; of two points that of the higher counts.

    Returns
    -------
    numpy.ndarray
        Indices of the points kept, the highest first.

    Examples
    --------
    >>> suppress(np.array([[0, 0], [0, 2], [0, 9]]), np.array([0.5, 0.9, 0.7]), 3)
    array([1, 2])
    """
    order = np.argsort(-scores, kind="stable")
    squared = np.broadcast_to(np.asarray(radius, np.float64) ** 2, len(order))
    left, kept = np.ones(len(order), bool), []
    for index in order:
        if left[index]:
            kept.append(index)
            distance = ((points - points[index]) ** 2).sum(axis=1)
            left &= distance > squared[index]
    return np.array(kept, int)


def decode(maps: Array, threshold: float = 0.5, radius: float | None = None) -> Detections:
    """Objects from the three maps that a network gives.

    Parameters
    ----------
    maps : array
        (3, H, W), NumPy or CuPy: heat from 0 to 1, logarithms of height and width.
    threshold : float
        Lower peaks are no objects.
    radius : float, optional
        Of the suppression, in pixels. By default that of each peak is `APART` times the square
        root of its height times its width.

    Returns
    -------
    Detections

    Raises
    ------
    InputError
        If the maps are not three, or threshold or radius are out of their range.

    Examples
    --------
    >>> maps = np.zeros((3, 4, 6), np.float32)
    >>> maps[0, 2, 3], maps[1:] = 0.8, np.log(2)
    >>> decode(maps).boxes.round(3)
    array([[1.5, 2.5, 3.5, 4.5]])
    """
    if maps.ndim != 3 or len(maps) != 3:
        raise InputError(f"maps: got shape {maps.shape}, expected (3, H, W)")
    if not 0 < threshold <= 1:
        raise InputError(f"threshold: got {threshold}, expected 0 < threshold <= 1")
    if radius is not None and not 0 <= radius < float("inf"):
        raise InputError(f"radius: got {radius}, expected a number >= 0")
    points, scores = peaks(maps[0], threshold)
    at = backend.array_module(maps).asarray(points)
    logs = backend.to_numpy(maps[1:, at[:, 0], at[:, 1]]).astype(np.float64).T
    return chosen(points, scores, logs, max(maps.shape[1:]), radius)


def chosen(
    points: np.ndarray, scores: np.ndarray, logs: np.ndarray, side: int, radius: float | None
) -> Detections:
    """The objects of peaks, of those that are too close to another the surer ones.

    Parameters
    ----------
    points, scores : numpy.ndarray
        As `peaks` gives them.
    logs : numpy.ndarray
        (n, 2), logarithms of height and width.
    side : int
        The longer one of the image.
    radius : float, optional
        As in `decode`.
    """
    # No box is larger than the image; an untrained network's may be too large for a float.
    sizes = np.exp(np.clip(logs, 0, np.log(side)))
    within = APART * np.sqrt(sizes.prod(axis=1)) if radius is None else radius
    kept = suppress(points, scores, within)
    centres = points[kept].astype(np.float64)
    return Detections(centres, scores[kept], boxes_around(centres, sizes[kept]))
