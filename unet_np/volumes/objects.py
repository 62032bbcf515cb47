"""Objects of slices that are cut into chunks: numbered in each, then joined along the faces.

The numbers, the areas and the centres are those of `unet_np.tasks.segmentation.instances` on the
whole slice, whatever the chunks are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unet_np.tasks.segmentation import Cell


@dataclass(frozen=True)
class Parts:
    """The connected parts of one chunk, and its faces.

    Attributes
    ----------
    first : numpy.ndarray
        Of each part, where its first pixel lies in the slice, counted row by row.
    sums : numpy.ndarray
        Of each part, pixels, and the sums of their rows and columns in the slice: (3, parts).
    boxes : numpy.ndarray
        Of each part, top, left, bottom and right in the slice: (4, parts).
    faces : dict
        "top", "bottom", "left" and "right" to the numbers of the parts along them, 0 for none.
    """

    first: np.ndarray
    sums: np.ndarray
    boxes: np.ndarray
    faces: dict[str, np.ndarray]


Place = tuple[int, int]
"""Row and column of a chunk."""

_FACES = (((1, 0), "bottom", "top"), ((0, 1), "right", "left"))


def numbered(labels: np.ndarray) -> np.ndarray:
    """The 4-connected parts of class 1 of a chunk, numbered.

    Examples
    --------
    >>> numbered(np.array([[1, 0], [2, 1]])).tolist()
    [[1, 0], [0, 2]]
    """
    ids: np.ndarray = scipy.ndimage.label(labels == 1)[0]
    return ids


def parts_of(labels: np.ndarray, corner: tuple[int, int], width: int) -> Parts:
    """The connected parts of class 1 in a chunk.

    Parameters
    ----------
    labels : numpy.ndarray
        (h, w) classes.
    corner : tuple of int
        Where the chunk begins in its slice.
    width : int
        Of the slice.

    Examples
    --------
    >>> parts_of(np.array([[1, 0], [0, 1]]), (0, 2), 4).first
    array([2, 7])
    """
    ids = numbered(labels)
    count = int(ids.max(initial=0))
    rows, columns = np.nonzero(ids)
    which = ids[rows, columns] - 1
    rows, columns = rows + corner[0], columns + corner[1]
    first = _reduced(np.minimum, which, rows * width + columns, count)
    sums = np.stack(
        [_reduced(np.add, which, of, count) for of in (np.ones_like(rows), rows, columns)]
    )
    found = scipy.ndimage.find_objects(ids)
    low = [(down.start, across.start) for down, across in found]
    high = [(down.stop, across.stop) for down, across in found]
    boxes = np.array([*low, *high], np.int64).reshape(2, count, 2) + corner
    faces = {"top": ids[0], "bottom": ids[-1], "left": ids[:, 0], "right": ids[:, -1]}
    return Parts(
        first,
        sums,
        np.concatenate([*boxes.swapaxes(1, 2)]),
        {name: face.copy() for name, face in faces.items()},
    )


def joined(
    parts: dict[Place, Parts], min_area: int = 1
) -> tuple[dict[Place, np.ndarray], list[Cell]]:
    """The objects of a slice, from the parts of all its chunks.

    Parameters
    ----------
    parts : dict
        Those of each chunk.
    min_area : int
        Objects of fewer pixels are left out.

    Returns
    -------
    numbers : dict
        For each chunk the number of the object that each part belongs to, 0 for none; that of part
        0, which is the background, too.
    cells : list of Cell
        The objects in the order of their numbers.
    """
    places = sorted(parts)
    counts = [len(parts[place].first) for place in places]
    starts = dict(zip(places, np.cumsum([0, *counts[:-1]]), strict=True))
    links = np.concatenate([_links(parts, starts, place) for place in places], axis=1)
    total = sum(counts)
    ones = np.ones(links.shape[1], bool)
    count, objects = connected_components(coo_array((ones, links), (total, total)), directed=False)
    first, sums, boxes = (
        np.concatenate([getattr(parts[place], name) for place in places], axis=-1)
        for name in ("first", "sums", "boxes")
    )
    begins = _reduced(np.minimum, objects, first, count)
    area, down, across = (_reduced(np.add, objects, of, count) for of in sums)
    low = [_reduced(np.minimum, objects, of, count) for of in boxes[:2]]
    high = [_reduced(np.maximum, objects, of, count) for of in boxes[2:]]
    large = np.flatnonzero(area >= min_area)
    order = large[np.argsort(begins[large])]
    numbers = np.zeros(count, np.int32)
    numbers[order] = np.arange(1, len(order) + 1)
    cells = [
        Cell(
            number,
            int(area[one]),
            (float(down[one] / area[one]), float(across[one] / area[one])),
            (int(low[0][one]), int(low[1][one]), int(high[0][one]), int(high[1][one])),
        )
        for number, one in enumerate(order, 1)
    ]
    each = np.split(numbers[objects], list(starts.values())[1:])
    return {
        place: np.append(0, of).astype(np.int32) for place, of in zip(places, each, strict=True)
    }, cells


def _links(parts: dict[Place, Parts], starts: dict[Place, Any], place: Place) -> np.ndarray:
    """Pairs of parts that touch across the lower and the right face of a chunk, (2, pairs)."""
    found = [np.zeros((2, 0), np.int64)]
    for step, here, there in _FACES:
        other = place[0] + step[0], place[1] + step[1]
        if other in parts:
            one, two = parts[place].faces[here], parts[other].faces[there]
            touch = (one > 0) & (two > 0)
            found.append(np.stack([one[touch] - 1 + starts[place], two[touch] - 1 + starts[other]]))
    return np.concatenate(found, axis=1)


def _reduced(how: np.ufunc, groups: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """The sum, least or largest of the values of each group."""
    # Places in an image are not negative, so 0 is where the largest begins as well.
    result = np.full(count, np.iinfo(np.int64).max if how is np.minimum else 0)
    how.at(result, groups, values)
    return result
