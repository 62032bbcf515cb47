"""Outlines of numbered cells along the borders of their pixels, band by band.

A corner of a cell is a point between four pixels where its border turns. Sorted along rows, the
corners of a cell are in pairs the ends of its horizontal edges, and along columns those of its
vertical ones; to go from end to end by turns is to go around. Filled again, an outline has the very
pixels of the cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unet_np.files.on_disk import Windows
from unet_np.tasks.banded import Bands

Ring = list[tuple[int, int]]
"""Points (x, y) in pixels from the image's upper left corner, the first one not repeated."""

Polygon = list[Ring]
"""The outer ring of a part of a cell, then those of its holes."""


class _Corners(NamedTuple):
    """Of each corner, its cell and place, which ways it goes, and if the lower right is cell."""

    label: np.ndarray
    y: np.ndarray
    x: np.ndarray
    right: np.ndarray
    down: np.ndarray
    inside: np.ndarray


def traced(
    ids: np.ndarray | Windows, boxes: np.ndarray, bands: Bands
) -> Iterator[tuple[int, list[Polygon]]]:
    """The outlines of each cell, in the order of their numbers.

    Parameters
    ----------
    ids : numpy.ndarray or Windows
        (H, W), integer: 0 background, 1, 2, ... without gaps.
    boxes : numpy.ndarray
        (n, 4), first row, first column, and the row and column after the last.
    bands : Bands
        How many rows are in memory.

    Yields
    ------
    number : int
        Of the cell.
    polygons : list
        One for each part of the cell that is connected by the sides of its pixels. No ring crosses
        or touches itself; outer rings go round with the numbers of a right-handed system, holes
        against them, as GeoJSON has it.

    Examples
    --------
    >>> ids = np.array([[1, 1], [0, 1]])
    >>> list(traced(ids, np.array([[0, 0, 2, 2]]), Bands(ids.shape, 2)))
    [(1, [[[(0, 0), (2, 0), (2, 2), (1, 2), (1, 1), (0, 1)]]])]
    """
    number = 0
    while number < len(boxes):
        # As many at once as lie in the rows of a band.
        last, (top, left, bottom, right) = number + 1, boxes[number]
        while last < len(boxes):
            other = boxes[last]
            span = min(top, other[0]), max(bottom, other[2])
            if span[1] - span[0] > bands.rows:
                break
            (top, bottom), last = span, last + 1
            left, right = min(left, other[1]), max(right, other[3])
        box = int(top), int(left), int(bottom), int(right)
        yield from _of_group(ids, (number + 1, last), box, bands)
        number = last


def _of_group(
    ids: np.ndarray | Windows,
    group: tuple[int, int],
    box: tuple[int, int, int, int],
    bands: Bands,
) -> Iterator[tuple[int, list[Polygon]]]:
    """Of the cells from the first to the last number of a group, which lie in a box."""
    top, left, bottom, right = box
    size = (bottom - top + 1, right - left)
    found = []
    # Rows of points, of which there is one more than of pixels.
    for points in bands.within(size):
        first, last = top + points.start - 1, top + points.stop
        window = ids[max(first, top) : min(last, bottom), left:right]
        window = np.where((window >= group[0]) & (window <= group[1]), window, 0)
        window = np.pad(window, ((first < top, last > bottom), (1, 1)))
        found.append(_corners(window, top + points.start, left))
    corners = _Corners(*map(np.concatenate, zip(*found, strict=True)))
    bands.check(len(corners.label), "corners of the outlines of cells")
    order = np.lexsort((corners.right, corners.x, corners.y, corners.label))
    corners = _Corners(*(values[order] for values in corners))
    # In this order the other end of a horizontal edge is the next corner, or the one before.
    order = np.lexsort((corners.down, corners.y, corners.x, corners.label))
    below = np.empty(len(order), np.int64)
    below[order[0::2]], below[order[1::2]] = order[1::2], order[0::2]
    numbers = np.arange(group[0], group[1] + 2)
    ends = np.searchsorted(corners.label, numbers)
    for number, start, stop in zip(numbers, ends, ends[1:], strict=False):
        part = slice(int(start), int(stop))
        places = list(zip(corners.x[part].tolist(), corners.y[part].tolist(), strict=True))
        rings = _rings(places, (below[part] - start).tolist(), corners.inside[part].tolist())
        yield int(number), _polygons(rings)


def _corners(window: np.ndarray, top: int, left: int) -> _Corners:
    """Of the points between the pixels of a window, the first of which is (top, left)."""
    a, b, c, d = window[:-1, :-1], window[:-1, 1:], window[1:, :-1], window[1:, 1:]
    ab, cd, ac, bd = a == b, c == d, a == c, b == d
    # A pixel, the one across, which of its two sides are open, and if the other three are one cell.
    around = (
        (a, d, ~(ab | ac), bd & cd & ~ab, 0, 0),
        (b, c, ~(ab | bd), ac & cd & ~ab, 1, 0),
        (c, b, ~(cd | ac), ab & bd & ~cd, 0, 1),
        (d, a, ~(cd | bd), ab & ac & ~cd, 1, 1),
    )
    found = []
    for pixel, across, alone, lacking, right, down in around:
        for cell, where in ((pixel, alone), (across, lacking)):
            y, x = np.nonzero(where & (cell > 0))
            ways = (np.full(len(y), way, bool) for way in (right, down, cell is d))
            found.append(_Corners(cell[y, x], y + top, x + left, *ways))
    return _Corners(*map(np.concatenate, zip(*found, strict=True)))


def _rings(places: Ring, below: Sequence[int], inside: Sequence[bool]) -> list[Ring]:
    """Around the border, the cell on the right hand, from each first corner of all."""
    seen, rings = bytearray(len(places)), []
    for start in range(len(places)):
        ring, now, across = [], start, inside[start]
        while not seen[now]:
            seen[now] = 1
            ring.append(places[now])
            now = now ^ 1 if across else below[now]
            across = not across
        rings += _simple(ring)
    return rings


def _simple(ring: Ring) -> list[Ring]:
    """A ring cut where it touches itself."""
    if len(set(ring)) == len(ring):
        return [ring] if ring else []
    loops: list[Ring] = []
    way: Ring = []
    known: dict[tuple[int, int], int] = {}
    for place in ring:
        if place in known:
            loops.append(way[known[place] :])
            for passed in loops[-1]:
                del known[passed]
            del way[len(way) - len(loops[-1]) :]
        known[place] = len(way)
        way.append(place)
    return [*loops, way]


def _polygons(rings: list[Ring]) -> list[Polygon]:
    """Outer rings, each with its holes."""
    if len(rings) == 1:
        return [rings]
    areas = [_area(ring) for ring in rings]
    outer = sorted((area, number) for number, area in enumerate(areas) if area > 0)
    polygons = {number: [rings[number]] for _, number in outer}
    for hole, area in zip(rings, areas, strict=True):
        if area < 0:
            # The smallest around a pixel of the cell beside the hole.
            place = _beside(hole)
            home = next(n for _, n in outer if len(outer) == 1 or _holds(rings[n], place))
            polygons[home].append(hole)
    return [polygons[number] for number in sorted(polygons)]


def _area(ring: Ring) -> int:
    """Twice the pixels within; negative around a hole."""
    ends = zip(ring, ring[1:] + ring[:1], strict=True)
    return sum(x * below - right * y for (x, y), (right, below) in ends)


def _beside(ring: Ring) -> tuple[float, float]:
    """The middle of a pixel of the cell."""
    (x, y), (right, below) = ring[:2]
    across, down = np.sign(right - x) / 2, np.sign(below - y) / 2
    return x + across - down, y + down + across


def _holds(ring: Ring, place: tuple[float, float]) -> bool:
    """Whether a ring goes around the middle of a pixel."""
    ends = zip(ring, ring[1:] + ring[:1], strict=True)
    crossed = [
        x > place[0] and min(y, below) < place[1] < max(y, below)
        for (x, y), (right, below) in ends
        if x == right
    ]
    return sum(crossed) % 2 == 1
