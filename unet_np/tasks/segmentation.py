"""From an image as it comes from the microscope to probabilities, labels and cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np import backend
from unet_np.errors import InputError
from unet_np.images import normalise, to_grey
from unet_np.tiling import Network, predict_tiled
from unet_np.weighting.separation import grow_within


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


def prepare(image: np.ndarray, channels: int = 1) -> np.ndarray:
    """An image as the network reads it: its channels in front, each normalised.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W) grey or (H, W, 1 to 4 channels), any real dtype.
    channels : int
        What the network reads. With 1, colour becomes grey; with 3, RGB stays and alpha is
        left out.

    Returns
    -------
    numpy.ndarray
        float32 (channels, H, W), zero mean and unit variance in each channel.

    Raises
    ------
    InputError
        If the image has not the channels that the network reads, or is a stack.

    Examples
    --------
    >>> prepare(np.array([[10, 20], [10, 20]], np.uint8))[0].tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    colour = image.ndim == 3 and image.shape[-1] <= 4
    if image.ndim != 2 and not colour:
        raise InputError(f"image: got shape {image.shape}, expected (H, W) or (H, W, channels)")
    if channels == 1:
        return normalise(to_grey(image))[None]
    got = image.shape[-1] if colour else 1
    if got != channels and (got, channels) != (4, 3):
        raise InputError(
            f"image: got {got} channel{'s' * (got > 1)}, expected {channels}, which the network "
            "reads"
        )
    return normalise(np.moveaxis(image[..., :channels], -1, 0))


def check_task(net: Network, task: str) -> None:
    """Refuse a network that was made for another task.

    Parameters
    ----------
    net : UNet
        The network.
    task : {"segment", "classify", "detect"}
        What it is wanted for.

    Raises
    ------
    InputError
        If it has another one.

    Examples
    --------
    >>> from unet_np import UNet
    >>> check_task(UNet(base_channels=2, depth=1), "detect")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: weights: got a network that was made to segment, expected one to \
detect (unet-np train --task detect)
    """
    got = getattr(net.architecture, "task", "segment")
    if got != task:
        raise InputError(
            f"weights: got a network that was made to {got}, expected one to {task} "
            f"(unet-np train --task {task})"
        )


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
    best = probabilities[0].copy()
    # argmax would make an int64 map, and on the leading axis it is slow.
    for number, candidate in enumerate(probabilities[1:], 1):
        labels[candidate > best] = number
        np.maximum(best, candidate, out=best)
    return labels


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
    components, _ = scipy.ndimage.label(labels == foreground, neighbours)
    areas = np.bincount(components.ravel())
    kept = areas >= min_area
    kept[0] = False
    numbers = np.zeros(len(areas), np.int32)
    numbers[kept] = np.arange(1, kept.sum() + 1)
    ids = numbers[components]
    return ids, _measure(ids)


def grown_instances(
    probability: np.ndarray, seeds: float, threshold: float, *, min_area: int = 1
) -> tuple[np.ndarray, list[Cell]]:
    """Number the cells of a probability by two thresholds.

    Where cells touch, a network that is not sure of the line between them still gives it a lower
    probability than their middles. A high threshold parts the cells there and makes all of them
    too small; from these seeds they grow to where a low one has their border. Background that one
    cell encloses is given to it.

    Parameters
    ----------
    probability : numpy.ndarray
        (H, W), of the class whose parts are cells.
    seeds : float
        A cell begins as a 4-connected part of the pixels above it.
    threshold : float
        It ends where the probability is no longer above this.
    min_area : int
        Seeds of fewer pixels are left out.

    Returns
    -------
    ids : numpy.ndarray
        int32 (H, W): 0 background, 1, 2, ... in the order in which the seeds are met row by row.
    cells : list of Cell
        One for each id, in order.

    Raises
    ------
    InputError
        If `probability` is not (H, W) of floats, `threshold` is above `seeds`, or as `instances`.

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
    ids, _ = instances(probability > seeds, min_area=min_area)
    ids = grow_within(ids, probability > threshold)
    _fill_holes(ids)
    return ids, _measure(ids)


def _fill_holes(ids: np.ndarray) -> None:
    for number, box in enumerate(scipy.ndimage.find_objects(ids), 1):
        window = ids[box]
        filled = scipy.ndimage.binary_fill_holes(window == number)
        window[filled & (window == 0)] = number


def _measure(ids: np.ndarray) -> list[Cell]:
    areas = np.bincount(ids.ravel())
    rows, columns = np.nonzero(ids)
    which = ids[rows, columns]
    row_sums = np.bincount(which, rows, len(areas))
    column_sums = np.bincount(which, columns, len(areas))
    cells = []
    for number, (down, across) in enumerate(scipy.ndimage.find_objects(ids), 1):
        area = int(areas[number])
        centroid = (float(row_sums[number] / area), float(column_sums[number] / area))
        cells.append(
            Cell(number, area, centroid, (down.start, across.start, down.stop, across.stop))
        )
    return cells
