"""From an image to its objects: heat map by overlap-tile, peaks, boxes, a table, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_np import backend
from unet_np.errors import InputError
from unet_np.images import to_grey
from unet_np.ops import sigmoid
from unet_np.tasks.heat_map import Detections, decode
from unet_np.tasks.segmentation import check_task, prepare
from unet_np.tiling import Network, predict_tiled

CSV_COLUMNS = ("slice", "row", "column", "score", "top", "left", "bottom", "right")
ORANGE, BLUE = (230, 159, 0), (0, 114, 178)


def detection_maps(net: Network, image: np.ndarray, **options: Any) -> np.ndarray:
    """The three maps of an image of any size.

    Parameters
    ----------
    net : UNet
        With task ``detect``.
    image : numpy.ndarray
        As `unet_np.tasks.segmentation.prepare` takes it.
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
    >>> net = UNet(base_channels=2, depth=1, task="detect")
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
    >>> net = UNet(base_channels=2, depth=1, task="detect")
    >>> net.params["output.bias"][0] = -50  # nothing anywhere
    >>> len(detect(net, np.eye(30)).scores)
    0
    """
    return decode(detection_maps(net, image, **options), threshold, radius)


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
    plane = to_grey(image)
    low, high = np.percentile(plane, (1, 99))
    scaled = np.clip((plane - low) / max(high - low, 1e-12), 0, 1)
    picture = np.repeat(np.round(scaled * 255).astype(np.uint8)[..., None], 3, axis=-1)
    for box in np.round(found.boxes).astype(int):
        _frame(picture, box, width)
    for centre in found.centres:
        picture[_part(np.concatenate([centre - width + 1, centre + width]))] = BLUE
    return picture


def _frame(picture: np.ndarray, box: np.ndarray, width: int) -> None:
    """A box's inner border, cut at the border of the picture, in place."""
    mask = np.zeros(picture.shape[:2], bool)
    mask[_part(box)] = True
    mask[_part(box + np.array([width, width, -width, -width]))] = False
    picture[mask] = ORANGE


def _part(box: np.ndarray) -> tuple[slice, slice]:
    """Where a box lies in the picture; nothing before row or column 0."""
    top, left, bottom, right = (max(int(edge), 0) for edge in box)
    return slice(top, bottom), slice(left, right)
