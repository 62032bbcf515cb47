"""The paper's task, a class for each pixel: what is learned, and from an image to its cells."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import scipy.ndimage

from unet_np import backend
from unet_np.backend import Array, parallel_map
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.files.on_disk import DiskArray, Windows
from unet_np.ops import weighted_cross_entropy
from unet_np.tasks.task import Task, check_task, known_pixels, prepare
from unet_np.tiling import Network, predict_tiled
from unet_np.weighting.eq2 import balancing_weights, weight_map
from unet_np.weighting.separation import grow_within, inside_and_rim, separate_touching

IGNORED = -1
"""In the place of a class where pixels count nowhere."""

RIM = 2
"""The class of rims, beside background and inside."""

OF_RIMS = {"seeds": 0.9, "threshold": 0.4}
"""Where cells begin and end in a `cell_map` with rims, whose levels are 0, 1/2 and 1.

Balanced weights make the rare rim likelier than it is, so that both lie above the middle.
"""


@dataclass(frozen=True)
class Segment(Task):
    """A class for each pixel, weighted by eq. 2.

    Attributes
    ----------
    w0, sigma : float
        Of the weight map.
    variant : {"paper", "falk2019"}
        Its formula; "" weighs all pixels alike.
    term : {"background", "everywhere"}
        Where its second term is added.
    class_weights : tuple of float
        w_c of each class; empty if they are balanced.
    ignores : bool
        Whether pixels that are not known count in no mean. In the paper's data sets, which have
        few of them, they count with a weight of 0.
    rim : float
        Width of the third class, by `unet_np.weighting.separation.inside_and_rim`; 0: none.
    """

    w0: float = 10.0
    sigma: float = 5.0
    variant: str = "paper"
    term: str = "background"
    class_weights: tuple[float, ...] = ()
    ignores: bool = False
    rim: float = 0.0

    options: ClassVar = {"task": "segment", "output": "map"}
    columns: ClassVar = ("validation_loss", "validation_pixel_error")
    moves_cells: ClassVar = True

    @classmethod
    def of(cls, dataset: Dataset, settings: Any) -> Segment:
        """With the weight map of the settings."""
        w0, sigma = settings.weighting
        variant = settings.weight_variant if settings.weight_map else ""
        given, ignores = settings.given_class_weights, bool(settings.ignored_values)
        return cls(w0, sigma, variant, settings.weight_term, given, ignores, settings.rim)

    @staticmethod
    def dataset(dataset: Dataset, settings: Any) -> Dataset:
        """With inside and rim as classes, where the settings have a rim.

        Raises
        ------
        InputError
            If nothing says which pixel belongs to which cell.
        """
        if not settings.rim:
            return dataset
        if dataset.instances is None:
            raise InputError(
                f"rim: got {dataset.name} without instances, expected masks in which each cell has "
                "a number, or rim 0"
            )
        classes = np.zeros(dataset.instances.shape, np.uint8)
        for number, cells in enumerate(dataset.instances):
            height, width = dataset.sizes[number] if dataset.sizes else cells.shape
            part = inside_and_rim(cells[:height, :width], settings.rim)
            classes[number, :height, :width] = part
        return replace(dataset, labels=classes)

    def notes(self) -> dict[str, str]:
        """Where there is a rim, which class it is: cells are made by `cell_map`."""
        return {"cells": json.dumps({"rim": RIM})} if self.rim else {}

    def truth(self, dataset: Dataset, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """Classes, and weights by eq. 2; `IGNORED` in the place of a class that counts nowhere."""
        assert dataset.labels is not None
        labels, known = dataset.labels, known_pixels(dataset)
        cells = cells_of(dataset)
        if dataset.instances is not None and int(labels.max()) <= 1:
            # Where cells touch, the border that the weight map stresses has to be there first.
            labels = (cells > 0).astype(np.uint8)
        shown = np.where(known > 0, labels.astype(np.int32), IGNORED) if self.ignores else labels
        if not (training and self.variant):
            return shown, known
        paper = self.variant == "paper"
        each = (self.class_weights or class_balance(dataset)) if paper else None
        classes = labels if paper and int(labels.max()) > 1 else None

        def one(number: int) -> np.ndarray:
            own = None if classes is None else classes[number]
            settings = self.w0, self.sigma, self.variant, each, self.term
            return weight_map(cells[number], *settings, own)

        return shown, np.stack(parallel_map(one, range(len(cells)))) * known

    def energy(self, outputs: Array, labels: Array, weights: Array) -> tuple[Any, Array]:
        """Eq. 1, the mean over the pixels."""
        ignored = IGNORED if self.ignores else None
        return weighted_cross_entropy(outputs, labels, weights, "mean", ignored, check=False)

    def validate(self, forward: Callable[[Array], Array], tiles: Iterable[Any]) -> dict[str, float]:
        """Mean cross entropy and share of wrong pixels, each pixel the same weight."""
        loss = wrong = pixels = 0.0
        for tile in tiles:
            logits = forward(tile.image)
            ignored = IGNORED if self.ignores else None
            arrays = tile.labels, tile.weights, "sum", ignored
            loss += float(weighted_cross_entropy(logits, *arrays)[0])
            mistakes = (logits.argmax(axis=1) != tile.labels) * tile.weights
            wrong, pixels = wrong + float(mistakes.sum()), pixels + float(tile.weights.sum())
        figures = (loss / pixels, wrong / pixels) if pixels else ()
        return dict(zip(self.columns, figures, strict=False))


def class_balance(dataset: Dataset) -> tuple[float, ...]:
    """w_c of eq. 2 for each class of the known pixels, by `balancing_weights`.

    Cells that touch are told apart before they are counted, as in the weight map.

    Examples
    --------
    >>> labels = np.array([[[0, 1, 2, 2]]], np.uint8)
    >>> class_balance(Dataset("mine", np.zeros((1, 1, 4)), labels))
    (1.3333333333333333, 1.3333333333333333, 0.6666666666666666)
    """
    assert dataset.labels is not None
    known = known_pixels(dataset) > 0
    if int(dataset.labels.max()) > 1:
        return balancing_weights(dataset.labels[known], cell_or_not=False)
    return balancing_weights(cells_of(dataset)[known])


def cells_of(dataset: Dataset) -> np.ndarray:
    """Instances for the weight map: the data set's, or connected components of the cells."""
    assert dataset.labels is not None
    if dataset.instances is not None:
        return np.stack([separate_touching(one) for one in dataset.instances])
    # 4-connected, as the challenge counts cells: components of a class cannot touch.
    return np.stack([scipy.ndimage.label(one > 0)[0] for one in dataset.labels])


def cell_map(probabilities: Any, rim: int | None = None) -> Any:
    """How deep in a cell a pixel is: 0 outside, 1 inside and, where rims are a class, 1/2 there.

    Cells that touch are apart where it is near 1, and reach to where it falls below 1/2, so that
    `grown_instances` finds them with the numbers in `OF_RIMS`.

    Parameters
    ----------
    probabilities : array, (num_classes, ...)
        Class 1 is cell, or the inside of cells.
    rim : int, optional
        The class of their rims.

    Returns
    -------
    array
        Expected depth, of the shape and dtype of one class.

    Examples
    --------
    >>> cell_map(np.array([[0.0, 1, 0], [1, 0, 0.2], [0, 0, 0.8]]), RIM)
    array([1. , 0. , 0.6])
    """
    return probabilities[1] if rim is None else probabilities[1] + probabilities[rim] / 2


class CellMap(Windows):
    """`cell_map` of probabilities that are on disk, (num_classes, H, W)."""

    def __init__(self, probabilities: Windows, rim: int | None) -> None:
        self.classes, self.rim, self.shape = probabilities, rim, probabilities.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the probabilities."""
        return self.classes.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        """Of some pixels."""
        where = key if isinstance(key, tuple) else (key,)
        some = {number: self.classes[(number, *where)] for number in (1, self.rim or 1)}
        return np.asarray(cell_map(some, self.rim))


_ROWS = 256  # at a time


@dataclass(frozen=True)
class Segmentation:
    """What the network says of one image.

    Attributes
    ----------
    probabilities : numpy.ndarray
        (num_classes, H, W), float32; they add up to 1 in each pixel.
    labels : numpy.ndarray
        (H, W), the most probable class: uint8, or uint16 with more than 256 classes.
    """

    probabilities: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Cell:
    """One row of the table of cells.

    Attributes
    ----------
    id : int
        Its value in the instance map.
    area : int
        Pixels.
    centroid : tuple of float
        Mean row and mean column of its pixels.
    bbox : tuple of int
        First row, first column, and the row and column after the last.
    """

    id: int
    area: int
    centroid: tuple[float, float]
    bbox: tuple[int, int, int, int]


def segment(net: Network, image: np.ndarray, **options: Any) -> Segmentation:
    """Segment one image of any size.

    Parameters
    ----------
    net : UNet
        The network.
    image : numpy.ndarray
        As `prepare` takes it: raw grey values or colour, any real dtype.
    **options
        Passed to `unet_np.tiling.predict_tiled`: ``memory_budget``, ``tile``, ``batch``,
        ``averaging``, ``border``, ``progress``.

    Returns
    -------
    Segmentation
        Of the height and width of the image, on the host.

    Raises
    ------
    InputError
        If the network has another task, or as `prepare` and `predict_tiled`.

    Examples
    --------
    >>> from unet_np import UNet
    >>> result = segment(UNet(base_channels=2, depth=1), np.eye(20))
    >>> result.probabilities.shape, result.labels.shape, str(result.labels.dtype)
    ((2, 20, 20), (20, 20), 'uint8')
    """
    check_task(net, "segment")
    ready = prepare(image, net.architecture.in_channels)
    probabilities = backend.to_numpy(predict_tiled(net, ready, **options))
    probabilities = probabilities.astype(np.float32, copy=False)
    return Segmentation(probabilities, most_probable(probabilities))


def segment_on_disk(
    net: Network, image: Windows, probabilities: DiskArray, **options: Any
) -> Iterator[tuple[slice, Segmentation]]:
    """`segment` of an image that is not in memory, a few rows at a time.

    Parameters
    ----------
    net, **options
        As in `segment`.
    image : Windows
        (H, W) or (H, W, channels), finite.
    probabilities : DiskArray
        (num_classes, H, W) of the network's dtype: room to compute.

    Yields
    ------
    slice, Segmentation
        Rows, and what the network says of them, from top to bottom.

    Raises
    ------
    InputError
        As `segment`.
    """
    check_task(net, "segment")
    ready = prepare(image, net.architecture.in_channels)
    predict_tiled(net, ready, out=probabilities, **options)
    for rows in _blocks(image):
        some = probabilities[:, rows].astype(np.float32, copy=False)
        yield rows, Segmentation(some, most_probable(some))


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    """The class of highest probability in each pixel; the first of equals.

    Parameters
    ----------
    probabilities : numpy.ndarray
        (num_classes, H, W).

    Examples
    --------
    >>> most_probable(np.array([[[0.1, 0.5]], [[0.9, 0.5]]]))
    array([[1, 0]], dtype=uint8)
    """
    dtype = np.uint8 if len(probabilities) <= 256 else np.uint16
    labels = np.zeros(probabilities.shape[1:], dtype)
    for rows in _blocks(labels):
        best = probabilities[0, rows].copy()
        # argmax would make an int64 map, and on the leading axis it is slow.
        for number, candidate in enumerate(probabilities[1:, rows], 1):
            labels[rows][candidate > best] = number
            np.maximum(best, candidate, out=best)
    return labels


def _blocks(array: np.ndarray | Windows) -> Iterator[slice]:
    """Rows, so many at a time that what is made of them is small beside the whole."""
    for row in range(0, len(array), _ROWS):
        yield slice(row, row + _ROWS)


def instances(
    labels: np.ndarray, *, foreground: int = 1, min_area: int = 1, diagonal: bool = False
) -> tuple[np.ndarray, list[Cell]]:
    """Number the connected components of one class and measure them.

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W) classes, integer or bool.
    foreground : int
        The class whose components are cells.
    min_area : int
        Components of fewer pixels are left out.
    diagonal : bool
        Whether pixels that touch at a corner only are connected. The weight map of the paper
        keeps cells a few pixels apart, so the default is no.

    Returns
    -------
    ids : numpy.ndarray
        int32 (H, W): 0 background, 1, 2, ... in the order in which the cells are met row by row.
    cells : list of Cell
        One for each id, in order.

    Raises
    ------
    InputError
        If `labels` is not a two-dimensional map of integers, or `min_area` is less than 1.

    Examples
    --------
    >>> ids, cells = instances(np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]]))
    >>> ids.tolist()
    [[1, 1, 0], [0, 0, 0], [0, 2, 2]]
    >>> cells[1]
    Cell(id=2, area=2, centroid=(2.0, 1.5), bbox=(2, 1, 3, 3))
    """
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise InputError(
            f"labels: got {labels.dtype} {labels.shape}, expected integers of shape (H, W)"
        )
    if min_area < 1:
        raise InputError(f"min_area: got {min_area}, expected an integer >= 1")
    neighbours = np.ones((3, 3)) if diagonal else None
    components, count = scipy.ndimage.label(labels == foreground, neighbours)
    areas = _sums(components, count + 1)
    kept = areas >= min_area
    kept[0] = False
    numbers = np.zeros(len(areas), np.int32)
    numbers[kept] = np.arange(1, kept.sum() + 1)
    for rows in _blocks(components):
        components[rows] = numbers[components[rows]]
    return components, _measure(components)


def grown_instances(
    probability: np.ndarray,
    seeds: float,
    threshold: float,
    *,
    min_area: int = 1,
    erosion: float = 0,
) -> tuple[np.ndarray, list[Cell]]:
    """Number the cells of a probability by two thresholds.

    Where cells touch, a network that is not sure of the line between them still gives it a lower
    probability than their middles. A high threshold parts the cells there and makes all of them
    too small; from these seeds they grow to where a low one has their border. Where the line has a
    gap the seeds are joined by a neck, which an erosion cuts. Background that one cell encloses is
    given to it.

    Parameters
    ----------
    probability : numpy.ndarray
        (H, W), of the class whose parts are cells.
    seeds : float
        A cell begins as a 4-connected part of the pixels above it.
    threshold : float
        It ends where the probability is no longer above this.
    min_area : int
        Seeds of fewer pixels are left out, before they are eroded. What an erosion cuts off and
        grows to fewer pixels is a part of the neighbour with the longest common border.
    erosion : float
        A seed loses its pixels that are no further than this from one that is not above `seeds`.
        The image's edge does not erode.

    Returns
    -------
    ids : numpy.ndarray
        int32 (H, W): 0 background, 1, 2, ... in the order in which the seeds are met row by row.
    cells : list of Cell
        One for each id, in order.

    Raises
    ------
    InputError
        If `probability` is not (H, W) of floats, `threshold` is above `seeds`, `erosion` is
        negative, or as `instances`.

    Examples
    --------
    >>> row = np.array([[0.6, 0.9, 0.9, 0.7, 0.9, 0.6, 0.1]])
    >>> grown_instances(row, 0.8, 0.5)[0].tolist()
    [[1, 1, 1, 2, 2, 2, 0]]
    """
    if probability.ndim != 2 or probability.dtype.kind != "f":
        got = f"{probability.dtype} {probability.shape}"
        raise InputError(f"probability: got {got}, expected floats of shape (H, W)")
    if not 0 <= threshold <= seeds <= 1:
        raise InputError(f"seeds: got {seeds:g}, expected a number from {threshold:g} to 1")
    if not erosion >= 0:
        raise InputError(f"erosion: got {erosion:g}, expected a number of pixels >= 0")
    ids, _ = instances(probability > seeds, min_area=min_area)
    if erosion:
        ids, _ = instances(_eroded(ids > 0, erosion))
    ids = grow_within(ids, probability > threshold)
    if erosion and min_area > 1:
        ids = _small_joined(ids, min_area)
    _fill_holes(ids)
    return ids, _measure(ids)


def _eroded(mask: np.ndarray, radius: float) -> np.ndarray:
    """The pixels farther than `radius` from those that are not in the mask."""
    # Without any of them there is no distance.
    return mask if mask.all() else scipy.ndimage.distance_transform_edt(mask) > radius


def _small_joined(ids: np.ndarray, min_area: int) -> np.ndarray:
    """Cells of fewer pixels become a part of a neighbour, the smallest first; numbered anew."""
    areas = _sums(ids, int(ids.max(initial=0)) + 1)
    borders: Borders = [{} for _ in areas]
    add_borders(borders, ids[1:], ids[:-1])
    add_borders(borders, ids[:, 1:], ids[:, :-1])
    numbers = small_joined(areas, borders, min_area)
    for rows in _blocks(ids):
        ids[rows] = numbers[ids[rows]]
    return ids


def small_joined(areas: np.ndarray, borders: Borders, min_area: int) -> np.ndarray:
    """The new number of each cell where those of fewer pixels are a part of a neighbour.

    Parameters
    ----------
    areas : numpy.ndarray
        (n + 1,), pixels of each number from 0, the background; changed.
    borders : list of dict
        By `add_borders`; changed.
    min_area : int
        Pixels.
    """
    home = np.arange(len(areas))
    waiting = [(int(areas[n]), n) for n in range(1, len(areas)) if areas[n] < min_area]
    heapq.heapify(waiting)
    while waiting:
        area, one = heapq.heappop(waiting)
        if area != areas[one] or home[one] != one or not borders[one]:
            continue
        near = borders[one]
        other = max(near, key=lambda n: (near[n], -n))
        home[one] = other
        areas[other] += area
        for third, length in near.items():
            del borders[third][one]
            if third != other:
                borders[third][other] = borders[third].get(other, 0) + length
                borders[other][third] = borders[third][other]
        if areas[other] < min_area:
            heapq.heappush(waiting, (int(areas[other]), other))
    for number in range(len(home)):
        while home[home[number]] != home[number]:
            home[number] = home[home[number]]
    return np.unique(home, return_inverse=True)[1]


Borders = list[dict[int, int]]
"""For each number, how many pairs of neighbouring pixels it has with each other one."""


def add_borders(borders: Borders, a: np.ndarray, b: np.ndarray) -> None:
    """Count the pairs of pixels, one of each array, that are of two cells."""
    touching = (a != b) & (a > 0) & (b > 0)
    pairs, lengths = np.unique(
        np.sort(np.stack([a[touching], b[touching]]), axis=0), axis=1, return_counts=True
    )
    for one, other, length in zip(*pairs.tolist(), lengths.tolist(), strict=True):
        for x, y in ((one, other), (other, one)):
            borders[x][y] = borders[x].get(y, 0) + length


def _fill_holes(ids: np.ndarray) -> None:
    for number, box in enumerate(scipy.ndimage.find_objects(ids), 1):
        window = ids[box]
        filled = scipy.ndimage.binary_fill_holes(window == number)
        window[filled & (window == 0)] = number


def _sums(ids: np.ndarray, count: int) -> np.ndarray:
    """Pixels of each number."""
    areas = np.zeros(count, np.int64)
    for rows in _blocks(ids):
        areas += np.bincount(ids[rows].ravel(), minlength=count)
    return areas


def _measure(ids: np.ndarray) -> list[Cell]:
    count = int(ids.max(initial=0)) + 1
    areas = _sums(ids, count)
    row_sums, column_sums = np.zeros(count), np.zeros(count)
    for block in _blocks(ids):
        rows, columns = np.nonzero(ids[block])
        which = ids[block][rows, columns]
        row_sums += np.bincount(which, rows + block.start, count)
        column_sums += np.bincount(which, columns, count)
    cells = []
    for number, (down, across) in enumerate(scipy.ndimage.find_objects(ids), 1):
        area = int(areas[number])
        centroid = (float(row_sums[number] / area), float(column_sums[number] / area))
        cells.append(
            Cell(number, area, centroid, (down.start, across.start, down.stop, across.stop))
        )
    return cells
