"""Objects as peaks of a heat map: what is learned; and from an image to peaks, boxes, a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import scipy.ndimage

from unet_np import backend
from unet_np.augmentation.augment import Augmentation
from unet_np.backend import Array, array_module, asarray
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.files.on_disk import DiskArray, Windows
from unet_np.images import to_grey
from unet_np.images.colours import BLUE, ORANGE
from unet_np.images.overlay import grey
from unet_np.metrics import score_points
from unet_np.ops import detection_loss, sigmoid
from unet_np.tasks.heat_map import (
    Detections,
    Targets,
    chosen,
    decode,
    find_objects,
    object_ids,
    peaks,
    targets,
    typical_size,
)
from unet_np.tasks.task import Arrays, Task, check_task, known_pixels, prepare
from unet_np.tiling import Network, predict_tiled
from unet_np.weighting.eq2 import DEFAULTS
from unet_np.windows import crop_window

PRIOR = 0.01
"""Height of the heat map with which a network begins: most pixels are no centre."""

SMALL = 0.1
"""What the drawn weights of the last layer are multiplied by."""

VALIDATION_THRESHOLD = 0.5
"""Lowest peak that counts in the validation."""

CSV_COLUMNS = ("slice", "row", "column", "score", "top", "left", "bottom", "right")
_ROWS = 256  # at a time


@dataclass(frozen=True)
class Detect(Task):
    """Objects as peaks of a heat map; see `unet_np.tasks.heat_map`.

    Attributes
    ----------
    typical : tuple of float
        Median height and width of the objects, in pixels.
    share : float
        Standard deviation of an object's Gaussian as a share of its size.
    w0 : float
        What the pixel of a centre weighs more than one far from all.
    """

    typical: tuple[float, float]
    share: float = 0.15
    w0: float = 10.0

    # Heat map, height, width.
    options: ClassVar = {"task": "detect", "output": "map", "num_classes": 3}
    # Markers count here alone: others may resume runs from before there were any.
    learns_from: ClassVar = (*Task.learns_from, "markers")
    columns: ClassVar = ("validation_loss", "validation_f1")

    @classmethod
    def of(cls, dataset: Dataset, settings: Any) -> Detect:
        """For a data set, with ``heat_sigma`` and ``w0``.

        Raises
        ------
        InputError
            If it has no object.
        """
        ids = all_object_ids(dataset)
        if not ids.any():
            raise InputError("data: got no object, expected at least one to detect")
        return cls(typical_size(ids), settings.heat_sigma, settings.weighting[0])

    @staticmethod
    def default_weighting(variant: str) -> tuple[float, float]:
        """The paper's: the variants are of its weight map."""
        return DEFAULTS["paper"]

    @staticmethod
    def dataset(dataset: Dataset, settings: Any = None) -> Dataset:
        """The data set with what is known of its objects.

        Markers tell of every cell, also where no mask does, so that nothing is unknown.
        """
        return dataset if dataset.markers is None else replace(dataset, unknown=None)

    def truth(self, dataset: Dataset, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the objects, and where they are known."""
        return all_object_ids(dataset), known_pixels(self.dataset(dataset))

    def tile(
        self, arrays: Arrays, augmentation: Augmentation, sizes: tuple[int, int], rng: Any
    ) -> Arrays:
        """A tile with the three maps of its objects and the weights of heat and sizes.

        Objects are found in the whole input tile, as far as it lies in the image: one that the
        output window cuts is seen whole by the network.
        """
        image, ids, known = augmentation.tile(*arrays, *sizes, rng, whole=True)
        assert ids is not None
        assert known is not None
        return self._mapped(image, ids, known, sizes)

    def held_out(self, arrays: Arrays, sizes: tuple[int, int]) -> list[Arrays]:
        """The middle of the slice."""
        image, ids, known = arrays
        top, left = ((side - sizes[0]) // 2 for side in ids.shape)
        patch = crop_window(image, top, left, sizes[0])
        inside = crop_window(array_module(ids).ones(ids.shape, bool), top, left, sizes[0], False)
        ids, known = (crop_window(part, top, left, sizes[0]) * inside for part in (ids, known))
        return [self._mapped(patch, ids, known, sizes)]

    def _mapped(self, image: Array, ids: Array, known: Array, sizes: tuple[int, int]) -> Arrays:
        xp = array_module(image)
        maps = self.maps(backend.to_numpy(ids))
        margin = (sizes[0] - sizes[1]) // 2
        inner = (..., slice(margin, margin + sizes[1]), slice(margin, margin + sizes[1]))
        labels = np.concatenate([maps.heat[None], maps.log_sizes])[inner]
        weights = xp.stack([known[inner], asarray(maps.size_weights[inner], xp) * known[inner]])
        return image, asarray(labels, xp), weights

    def maps(self, ids: np.ndarray) -> Targets:
        """The maps of a (H, W) array of object numbers."""
        return targets(find_objects(ids), (ids.shape[0], ids.shape[1]), self.share, self.typical)

    def energy(self, outputs: Array, labels: Array, weights: Array) -> tuple[Any, Array]:
        """Cross entropy of the heat and smooth L1 of the logarithms of the sizes."""
        return detection_loss(outputs, labels, weights, self.w0)

    def validate(self, forward: Callable[[Array], Array], tiles: Iterable[Any]) -> dict[str, float]:
        """Mean loss of the tiles, and F1 of the peaks within a quarter of the typical size."""
        losses, truth, found, unknown = [], [], [], []
        radius = max(float(np.sqrt(self.typical[0] * self.typical[1])) / 4, 1.0)
        for tile in tiles:
            outputs = forward(tile.image)
            losses.append(float(self.energy(outputs, tile.labels, tile.weights)[0]))
            truth.append(np.argwhere(backend.to_numpy(tile.labels[0, 0]) == 1))
            found.append(peaks(sigmoid(outputs[0, 0]), VALIDATION_THRESHOLD)[0])
            unknown.append(backend.to_numpy(tile.weights[0, 0]) == 0)
        if not losses:
            return {}
        f1 = score_points(truth, found, radius, unknown).f1
        figures = float(np.mean(losses)), f1 if np.isfinite(f1) else 0.0
        return dict(zip(self.columns, figures, strict=True))

    def begin(self, params: dict[str, Array]) -> None:
        """The last layer begins by saying the same of every pixel: a low heat, the typical size.

        Otherwise the first loss is thousands: almost no pixel is a centre, and the drawn weights
        say yes to half of them.
        """
        xp = array_module(params["output.bias"])
        params["output.weight"] *= SMALL
        first = [np.log(PRIOR / (1 - PRIOR)), *np.log(self.typical)]
        params["output.bias"][...] = xp.asarray(first)


def all_object_ids(dataset: Dataset) -> np.ndarray:
    """Object numbers of every slice; connected components where there are no instances.

    Parameters
    ----------
    dataset : Dataset
        With labels, instances or markers.

    Returns
    -------
    numpy.ndarray
        (N, H, W) int32, as `unet_np.tasks.heat_map.object_ids`.

    Examples
    --------
    >>> labels = np.array([[[1, 0, 1]]], np.uint8)
    >>> all_object_ids(Dataset("mine", np.zeros((1, 1, 3)), labels))
    array([[[1, 0, 2]]], dtype=int32)
    """
    instances = dataset.instances
    if instances is None:
        shape = len(dataset), *dataset.shape
        labels = np.zeros(shape, bool) if dataset.labels is None else dataset.labels
        instances = np.stack([scipy.ndimage.label(one)[0] for one in labels > 0])
    markers = [None] * len(dataset) if dataset.markers is None else list(dataset.markers)
    pairs = zip(instances, markers, strict=True)
    return np.stack([object_ids(one, marker) for one, marker in pairs])


def detection_maps(net: Network, image: np.ndarray, **options: Any) -> np.ndarray:
    """The three maps of an image of any size.

    Parameters
    ----------
    net : UNet
        With task ``detect``.
    image : numpy.ndarray
        As `unet_np.tasks.task.prepare` takes it.
    **options
        Passed to `unet_np.tiling.predict_tiled`: ``memory_budget``, ``tile``, ``batch``,
        ``border``, ``progress``.

    Returns
    -------
    numpy.ndarray
        float32 (3, H, W): heat from 0 to 1, natural logarithms of height and width in pixels.

    Raises
    ------
    InputError
        If the network has another task, ``averaging`` is asked for, or as `predict_tiled`.

    Examples
    --------
    >>> from unet_np import UNet
    >>> net = UNet(base_channels=2, depth=1, **Detect.options)
    >>> detection_maps(net, np.eye(30)).shape
    (3, 30, 30)
    """
    check_task(net, "detect")
    if options.get("averaging", 1) != 1:
        # A quarter turn makes a height of a width.
        raise InputError(f"averaging: got {options['averaging']}, expected 1 for task detect")
    ready = prepare(image, net.architecture.in_channels)
    maps = predict_tiled(net, ready, activation="none", **options)
    maps[0] = sigmoid(maps[0])
    return backend.to_numpy(maps).astype(np.float32, copy=False)


def detect(
    net: Network,
    image: np.ndarray,
    threshold: float = 0.5,
    radius: float | None = None,
    **options: Any,
) -> Detections:
    """The objects of one image of any size.

    Parameters
    ----------
    net, image, **options
        As in `detection_maps`.
    threshold, radius
        As in `unet_np.tasks.heat_map.decode`.

    Returns
    -------
    Detections
        The surest first.

    Raises
    ------
    InputError
        As `detection_maps` and `unet_np.tasks.heat_map.decode`.

    Examples
    --------
    >>> from unet_np import UNet
    >>> net = UNet(base_channels=2, depth=1, **Detect.options)
    >>> net.params["output.bias"][0] = -50  # nothing anywhere
    >>> len(detect(net, np.eye(30)).scores)
    0
    """
    return decode(detection_maps(net, image, **options), threshold, radius)


def detect_on_disk(
    net: Network,
    image: Windows,
    maps: DiskArray,
    threshold: float = 0.5,
    radius: float | None = None,
    **options: Any,
) -> Detections:
    """`detect` of an image that is not in memory.

    Parameters
    ----------
    net, threshold, radius, **options
        As in `detect`.
    image : Windows
        (H, W) or (H, W, channels), finite.
    maps : DiskArray
        (3, H, W) of the network's dtype: room to compute.

    Returns
    -------
    Detections
        The surest first.

    Raises
    ------
    InputError
        As `detect`.
    """
    check_task(net, "detect")
    ready = prepare(image, net.architecture.in_channels)
    predict_tiled(net, ready, activation="none", out=maps, **options)
    height, width = maps.shape[1:]
    points, scores, logs = [], [], []
    for row in range(0, height, _ROWS):
        # A row more on both sides: a peak is no lower than its neighbours.
        top = max(0, row - 1)
        window = maps[:, top : row + _ROWS + 1].astype(np.float32, copy=False)
        places, values = peaks(sigmoid(window[0]), threshold)
        own = (places[:, 0] >= row - top) & (places[:, 0] < row - top + _ROWS)
        places = places[own]
        logs.append(window[1:, places[:, 0], places[:, 1]].T.astype(np.float64))
        places[:, 0] += top
        points.append(places)
        scores.append(values[own])
    all_points, all_scores = np.concatenate(points), np.concatenate(scores)
    # The highest first, and equals in reading order.
    order = np.lexsort((all_points[:, 1], all_points[:, 0], -all_scores))
    found = all_points[order], all_scores[order], np.concatenate(logs)[order]
    return chosen(*found, max(height, width), radius)


def within(found: Detections, shape: Sequence[int]) -> Detections:
    """The objects with their boxes cut at the border of the image.

    Parameters
    ----------
    found : Detections
        Of an image.
    shape : sequence of int
        Its height and width.

    Examples
    --------
    >>> one = Detections(np.array([[1.0, 7.0]]), np.array([0.5]), np.array([[-2.0, 3, 4, 11]]))
    >>> within(one, (20, 10)).boxes.tolist()
    [[0.0, 3.0, 4.0, 10.0]]
    """
    height, width = shape[0], shape[1]
    boxes = np.clip(found.boxes, 0, (height, width, height, width))
    return Detections(found.centres, found.scores, boxes)


def table_rows(found: Sequence[Detections]) -> list[tuple[object, ...]]:
    """A table of the objects of a stack: a header, and a row for each object.

    Parameters
    ----------
    found : sequence of Detections
        One for each slice.

    Returns
    -------
    list of tuple
        For `unet_np.files.tables.csv_text`. Rows and columns are counted from 0; a box is its first
        row and column and those after its last.

    Examples
    --------
    >>> one = Detections(np.array([[4.0, 7.0]]), np.array([0.5]), np.array([[2.0, 6, 7, 9]]))
    >>> table_rows([one])[1]
    (0, '4', '7', '0.5000', '2.0', '6.0', '7.0', '9.0')
    """
    rows: list[tuple[object, ...]] = [CSV_COLUMNS]
    for number, objects in enumerate(found):
        for (row, column), score, box in zip(*objects, strict=True):
            edges = (f"{edge:.1f}" for edge in box)
            rows.append((number, f"{row:g}", f"{column:g}", f"{score:.4f}", *edges))
    return rows


def overlay(image: np.ndarray, found: Detections, width: int = 2) -> np.ndarray:
    """The image in grey with a box around each object and a spot in its middle.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W) or (H, W, channels); the darkest percent becomes black, the brightest white.
    found : Detections
        Of this image.
    width : int
        Of the lines, in pixels.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W, 3).

    Examples
    --------
    >>> one = Detections(np.array([[5.0, 5.0]]), np.array([0.9]), np.array([[2.0, 2, 9, 9]]))
    >>> picture = overlay(np.zeros((12, 12)), one, width=1)
    >>> picture[2, 4].tolist(), picture[5, 5].tolist(), picture[4, 4].tolist()
    ([230, 159, 0], [0, 114, 178], [0, 0, 0])
    """
    picture = grey(to_grey(image))
    for box in np.round(found.boxes).astype(int):
        _frame(picture, box, width)
    for centre in found.centres:
        picture[_part(np.concatenate([centre - width + 1, centre + width]))] = BLUE
    return picture


def _frame(picture: np.ndarray, box: np.ndarray, width: int) -> None:
    """A box's inner border, cut at the border of the picture, in place."""
    outer, inner = _part(box), _part(box + np.array([width, width, -width, -width]))
    mask = np.ones(picture[outer].shape[:2], bool)
    mask[tuple(_shifted(one, part.start) for one, part in zip(inner, outer, strict=True))] = False
    picture[outer][mask] = ORANGE


def _shifted(part: slice, by: int) -> slice:
    return slice(part.start - by, max(part.stop - by, 0))


def _part(box: np.ndarray) -> tuple[slice, slice]:
    """Where a box lies in the picture; nothing before row or column 0."""
    top, left, bottom, right = (max(int(edge), 0) for edge in box)
    return slice(top, bottom), slice(left, right)
