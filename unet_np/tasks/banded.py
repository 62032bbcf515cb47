"""Cells of images that are larger than memory: `instances` and `grown_instances`, band by band.

What a band alone cannot know is settled between bands, so that every pixel has the number that it
has on the whole image. Parts that go on in the next band are joined where they touch. An erosion
reads as many rows more as it is wide. Growth is the shortest way from a seed, and of several the
one from the larger number: bands are gone over until no shorter way crosses from one to the next.
A hole is a part of what is not the cell that does not reach the border of the cell's box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unet_np.files.on_disk import DiskArray, Windows
from unet_np.tasks.segmentation import Borders, Cell, add_borders, small_joined

BAND_BYTES = 96
"""Of each pixel of a band, at most."""

PART_BYTES = 160
"""Of each part, or cell, at most."""

_FAR = 2**62
_STEP = 2**32
_LARGEST = 2**31

Read = Callable[[slice], np.ndarray]
Store = Callable[[slice, np.ndarray], None]


@dataclass(frozen=True)
class Cells:
    """A row for each cell, in the order of their numbers from 1.

    Attributes
    ----------
    areas : numpy.ndarray
        (n,), pixels.
    centroids : numpy.ndarray
        (n, 2), mean row and mean column.
    boxes : numpy.ndarray
        (n, 4), first row, first column, and the row and column after the last.
    """

    areas: np.ndarray
    centroids: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)

    def __iter__(self) -> Iterator[Cell]:
        for number in range(len(self)):
            row, column = (float(value) for value in self.centroids[number])
            top, left, bottom, right = (int(edge) for edge in self.boxes[number])
            box = top, left, bottom, right
            yield Cell(number + 1, int(self.areas[number]), (row, column), box)


@dataclass(frozen=True)
class Bands:
    """How a map is cut, and what may be asked of memory.

    Attributes
    ----------
    shape : tuple of int
        (H, W).
    rows : int
        Of a band.
    check : callable
        Is given the number of parts so far, or of other things that take as much, and what they
        are; it may refuse.
    """

    shape: tuple[int, int]
    rows: int
    check: Callable[..., object] = lambda parts, what="cells": None

    def __iter__(self) -> Iterator[slice]:
        for row in range(0, self.shape[0], self.rows):
            yield slice(row, min(row + self.rows, self.shape[0]))

    def within(self, shape: tuple[int, int]) -> Bands:
        """Those of a part of the map, of as many pixels each."""
        rows = max(1, self.rows * self.shape[1] // max(1, shape[1]))
        return Bands(shape, rows, self.check)


def instances_on_disk(
    labels: Windows, ids: DiskArray, bands: Bands, *, foreground: int = 1, min_area: int = 1
) -> Cells:
    """`unet_np.tasks.segmentation.instances` of labels that are not in memory.

    Parameters
    ----------
    labels : Windows
        (H, W), integer.
    ids : DiskArray
        (H, W), int32: where the numbers are written.
    bands : Bands
        How many rows are in memory.
    foreground, min_area
        As in `instances`.
    """
    _Parts(lambda rows: labels[rows] == foreground, bands).number(ids.__setitem__, min_area)
    return measured(ids, bands)


def grown_on_disk(
    probability: Windows,
    ids: DiskArray,
    ways: DiskArray,
    bands: Bands,
    *,
    seeds: float,
    threshold: float,
    min_area: int = 1,
    erosion: float = 0,
) -> Cells:
    """`unet_np.tasks.segmentation.grown_instances` of a map that is not in memory.

    Parameters
    ----------
    probability : Windows
        (H, W), floating.
    ids, ways : DiskArray
        (H, W), int32 and int64: where the numbers are written, and room to compute them.
    bands : Bands
        How many rows are in memory.
    seeds, threshold, min_area, erosion
        As in `grown_instances`.
    """

    def begin(rows: slice, numbers: np.ndarray) -> None:
        ways[rows] = np.where(numbers > 0, _LARGEST - numbers.astype(np.int64), _FAR)

    found = _Parts(lambda rows: probability[rows] > seeds, bands)
    if erosion:
        found.number(ids.__setitem__, min_area)
        found = _Parts(lambda rows: _eroded(ids, rows, erosion), bands)
    found.number(begin, 1 if erosion else min_area)
    _spread(ways, lambda rows: probability[rows] > threshold, bands)
    for rows in bands:
        way = ways[rows]
        ids[rows] = np.where(way < _FAR, _LARGEST - way % _STEP, 0)
    if erosion and min_area > 1:
        _join_small(ids, min_area, bands)
    _fill_holes(ids, measured(ids, bands).boxes, bands)
    return measured(ids, bands)


class _Parts:
    """The 4-connected parts of a mask, numbered in the order in which they are met row by row."""

    def __init__(self, read: Read, bands: Bands) -> None:
        self.read, self.bands, self.offsets = read, bands, [0]
        areas, pairs, edges = [], [], []
        below = np.zeros(bands.shape[1], np.int64)
        for rows in bands:
            parts, count = scipy.ndimage.label(read(rows))
            offset = self.offsets[-1]
            areas.append(np.bincount(parts.ravel(), minlength=count + 1)[1:])
            touching = (below > 0) & (parts[0] > 0)
            pair = np.stack([below[touching], parts[0][touching] + offset])
            pairs.append(np.unique(pair, axis=1) - 1)
            below = np.where(parts[-1] > 0, parts[-1].astype(np.int64) + offset, 0)
            sides = [parts[:, 0], parts[:, -1]]
            sides += [parts[0]] if rows.start == 0 else []
            sides += [parts[-1]] if rows.stop == bands.shape[0] else []
            edge = np.unique(np.concatenate(sides)).astype(np.int64)
            edges.append(edge[edge > 0] + offset - 1)
            self.offsets.append(offset + count)
            bands.check(offset + count)
        self._join(np.concatenate(pairs, axis=1), np.concatenate(areas), np.concatenate(edges))

    def _join(self, pairs: np.ndarray, areas: np.ndarray, edges: np.ndarray) -> None:
        """Which part of the whole each part of a band belongs to, its area, and if it ends."""
        count = len(areas)
        graph = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), (count, count))
        _, group = connected_components(graph, directed=False)
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        # The first in any band is the first of the whole.
        order = np.argsort(np.argsort(first))
        self.whole = order[inverse].astype(np.int32)
        self.areas = np.bincount(self.whole, areas, len(first)).astype(np.int64)
        self.inside = np.ones(len(first), bool)
        self.inside[self.whole[edges]] = False

    def number(self, store: Store, min_area: int = 1) -> None:
        """Number those that are large enough, and write the numbers."""
        self._write(store, self.areas >= min_area)

    def enclosed(self, store: Store) -> None:
        """Number those that do not reach the border, and write the numbers."""
        self._write(store, self.inside)

    def _write(self, store: Store, chosen: np.ndarray) -> None:
        numbers = np.where(chosen, np.cumsum(chosen), 0).astype(np.int32)[self.whole]
        for rows, (start, stop) in zip(self.bands, pairwise(self.offsets), strict=True):
            parts, _ = scipy.ndimage.label(self.read(rows))
            store(rows, np.concatenate([[0], numbers[start:stop]]).astype(np.int32)[parts])


def _eroded(ids: DiskArray, rows: slice, radius: float) -> np.ndarray:
    """The pixels of some rows farther than `radius` from those that are 0."""
    more = int(radius) + 1
    top = max(0, rows.start - more)
    mask = ids[top : rows.stop + more] > 0
    kept = slice(rows.start - top, rows.stop - top)
    # Without any of them there is no distance.
    return mask[kept] if mask.all() else scipy.ndimage.distance_transform_edt(mask)[kept] > radius


def _spread(ways: DiskArray, free: Read, bands: Bands) -> None:
    """Shortest ways to every free pixel, over as many sweeps as it takes."""
    cut = list(bands)
    waiting, downwards = set(range(len(cut))), True
    while waiting:
        for number in sorted(waiting, reverse=not downwards):
            waiting.discard(number)
            above, below = _spread_band(ways, free, cut[number])
            waiting |= {number - 1} if above and number else set()
            waiting |= {number + 1} if below and number + 1 < len(cut) else set()
        downwards = not downwards


def _spread_band(ways: DiskArray, free: Read, rows: slice) -> tuple[bool, bool]:
    """Shorten the ways within a band; says whether its first and its last row have changed."""
    top, bottom = max(0, rows.start - 1), min(ways.shape[0], rows.stop + 1)
    padding = (1 - (rows.start - top), 1 - (bottom - rows.stop))
    known = np.pad(ways[top:bottom], (padding, (1, 1)), constant_values=_FAR)
    before = known[1].copy(), known[-2].copy()
    width, open_to = known.shape[1], np.pad(free(rows), 1).ravel()
    known = known.ravel()
    steps = np.array([-width, -1, 1, width])
    near = np.zeros_like(open_to)
    for step in steps:
        near |= np.roll(known, step) + _STEP < known
    front = _shortened(known, np.flatnonzero(near & open_to), steps)
    # Only the front is looked at, so that long thin cells cost no more than their pixels.
    while front.size:
        reached = np.unique((front[:, None] + steps).ravel())
        front = _shortened(known, reached[open_to[reached]], steps)
    found = known.reshape(-1, width)
    changed = (found[1] != before[0]).any(), (found[-2] != before[1]).any()
    ways[rows] = found[1:-1, 1:-1]
    return bool(changed[0]), bool(changed[1])


def _shortened(known: np.ndarray, places: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The places to which a neighbour has a shorter way, which is noted."""
    if not places.size:
        return places
    arrived = known[places[:, None] + steps].min(axis=1) + _STEP
    better = arrived < known[places]
    known[places[better]] = arrived[better]
    return places[better]


def _join_small(ids: DiskArray, min_area: int, bands: Bands) -> None:
    """Cells of fewer pixels become a part of a neighbour."""
    areas = np.concatenate([[0], measured(ids, bands).areas])
    borders: Borders = [{} for _ in areas]
    for rows in bands:
        window = ids[max(0, rows.start - 1) : rows.stop]
        add_borders(borders, window[1:], window[:-1])
        own = window[rows.start - max(0, rows.start - 1) :]
        add_borders(borders, own[:, 1:], own[:, :-1])
    numbers = small_joined(areas, borders, min_area)
    for rows in bands:
        ids[rows] = numbers[ids[rows]]


def _fill_holes(ids: DiskArray, boxes: np.ndarray, bands: Bands) -> None:
    """Cells in the order of their numbers, as many at once as lie in the rows of a band."""
    number = 0
    while number < len(boxes):
        top, bottom, last = boxes[number, 0], boxes[number, 2], number + 1
        if bottom - top > bands.rows:
            _fill_holes_of(ids, number + 1, boxes[number], bands)
        else:
            while last < len(boxes):
                span = min(top, boxes[last, 0]), max(bottom, boxes[last, 2])
                if span[1] - span[0] > bands.rows:
                    break
                (top, bottom), last = span, last + 1
            window = ids[top:bottom]
            for each in range(number, last):
                _fill_window(window, each + 1, boxes[each], top)
            ids[top:bottom] = window
        number = last


def _fill_window(window: np.ndarray, number: int, box: np.ndarray, top: int) -> None:
    part = window[box[0] - top : box[2] - top, box[1] : box[3]]
    filled = scipy.ndimage.binary_fill_holes(part == number)
    part[filled & (part == 0)] = number


def _fill_holes_of(ids: DiskArray, number: int, box: np.ndarray, bands: Bands) -> None:
    """Of a cell that is taller than a band."""
    top, left, bottom, right = (int(edge) for edge in box)

    def place(rows: slice) -> tuple[slice, slice]:
        return slice(top + rows.start, top + rows.stop), slice(left, right)

    def fill(rows: slice, holes: np.ndarray) -> None:
        window = ids[place(rows)]
        window[(holes > 0) & (window == 0)] = number
        ids[place(rows)] = window

    part = bands.within((bottom - top, right - left))
    _Parts(lambda rows: ids[place(rows)] != number, part).enclosed(fill)


def measured(ids: Windows, bands: Bands) -> Cells:
    """Areas, centroids and boxes of the numbers of a map.

    Parameters
    ----------
    ids : Windows
        (H, W), integer: 0 background, 1, 2, ... without gaps.
    bands : Bands
        How many rows are in memory.
    """
    count = 1
    areas, sums, boxes = np.zeros(1, np.int64), np.zeros((1, 2)), np.zeros((1, 4), np.int64)
    start = np.array([_LARGEST, _LARGEST, 0, 0])
    for band in bands:
        values = ids[band]
        more = max(count, int(values.max(initial=0)) + 1) - count
        areas = np.concatenate([areas, np.zeros(more, np.int64)])
        sums = np.concatenate([sums, np.zeros((more, 2))])
        boxes = np.concatenate([boxes, np.tile(start, (more, 1))])
        count += more
        rows, columns = np.nonzero(values)
        which = values[rows, columns]
        rows += band.start
        areas += np.bincount(which, minlength=count)
        for axis, places in enumerate((rows, columns)):
            sums[:, axis] += np.bincount(which, places, count)
            np.minimum.at(boxes[:, axis], which, places)
            np.maximum.at(boxes[:, 2 + axis], which, places + 1)
    return Cells(areas[1:], sums[1:] / np.maximum(areas[1:, None], 1), boxes[1:])
