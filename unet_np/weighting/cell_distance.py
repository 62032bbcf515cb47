"""Distances to the nearest and the second nearest cell: d1 and d2 of eq. 2.

A distance transform knows the nearest cell only, and one transform for each cell grows with
cells times pixels. Here the separable exact transform (first along the rows, then along the
columns) carries the two nearest *different* cells instead, so that its cost does not depend
on how many cells there are, nor on their shape.
"""

from __future__ import annotations

import math
from types import ModuleType

from unet_np import backend
from unet_np.backend import Array
from unet_np.errors import InputError

_STRIP = 1 << 15  # pixels worked on at a time: few enough to stay in a core's cache


def two_nearest_cells(instances: Array, limit: float = math.inf) -> tuple[Array, Array]:
    """Euclidean distances in pixels from each pixel to its two nearest cells (eq. 2).

    The distance to a cell is that to the centre of its nearest pixel, and 0 inside it. So a
    background pixel beside a cell has distance 1. A cell is all pixels of one label, connected
    or not; cells outside the image are not known and play no part.

    Parameters
    ----------
    instances : array, (H, W), integer
        0 is background, every other value one cell. NumPy or CuPy.
    limit : float, in pixels
        ``d1`` is exact where it is at most `limit`, and ``d2`` where ``d1 + d2`` is. Where
        they are not exact, their sum is above `limit`. A limit saves time, which grows with
        pixels times the largest ``d2`` or the limit, whichever is smaller.

    Returns
    -------
    d1, d2 : array, (H, W), float64
        Infinity where there is no such cell.

    Raises
    ------
    InputError
        If `instances` is not of shape (H, W), not of an integer type, holds negative labels or
        labels above 2^31 - 1, or `limit` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> d1, d2 = two_nearest_cells(np.array([[1, 0, 0, 0, 2]]))
    >>> d1
    array([[0., 1., 2., 1., 0.]])
    >>> d2
    array([[4., 3., 2., 3., 4.]])
    """
    check_instances(instances, axes=(2,))
    if not limit >= 0:
        raise InputError(f"limit: got {limit}, expected a number of pixels >= 0")
    return bounded_distances(instances, limit, limit)


def check_instances(instances: Array, axes: tuple[int, ...] = (2, 3)) -> None:
    """Raise an `InputError` if `instances` are not instance labels of one of these `axes`.

    Examples
    --------
    >>> import numpy as np
    >>> check_instances(np.zeros((4, 4)))
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: instances: got dtype float64, expected integers, 0 background and \
one number for each cell
    """
    xp = backend.array_module(instances)
    shapes = " or ".join({2: "(H, W)", 3: "(N, H, W)"}[n] for n in axes)
    if instances.ndim not in axes or instances.size == 0:
        raise InputError(f"instances: got shape {instances.shape}, expected {shapes}, not empty")
    if instances.dtype.kind == "b":
        raise InputError(
            "instances: got dtype bool, expected integers, one number for each cell; "
            "separate_touching makes cells from a mask"
        )
    if instances.dtype.kind not in "iu":
        raise InputError(
            f"instances: got dtype {instances.dtype}, expected integers, 0 background and one "
            "number for each cell"
        )
    smallest, largest = int(xp.min(instances)), int(xp.max(instances))
    if smallest < 0 or largest >= 2**31:
        raise InputError(
            f"instances: got labels from {smallest} to {largest}, expected 0 to {2**31 - 1}"
        )


def bounded_distances(instances: Array, nearest: float, both: float) -> tuple[Array, Array]:
    """`two_nearest_cells` with a limit on d1 and another on d1 + d2; nothing is checked.

    Examples
    --------
    >>> import numpy as np
    >>> bounded_distances(np.array([[1, 0, 0, 0, 2]]), 1, 4)[0][0, :2]
    array([0., 1.])
    """
    xp = backend.array_module(instances)
    height, width = instances.shape
    # Squares of distances are whole numbers; 32 bits hold them in images up to 23169 squared.
    kind = xp.int32 if height**2 + width**2 < 2**30 else xp.int64
    missing = xp.iinfo(kind).max // 2
    row = [xp.empty((height, width), kind) for _ in range(3)]
    d1, d2 = xp.empty((height, width), xp.float64), xp.empty((height, width), xp.float64)

    def along_rows(strip: slice) -> None:
        found = _nearest_in_row(xp, instances[strip].astype(kind), missing)
        for whole, part in zip(row, found, strict=True):
            whole[strip] = part

    def along_columns(strip: slice) -> None:
        first, second, label = (xp.ascontiguousarray(a[:, strip]) for a in row)
        best, cell = _nearest_in_column(xp, first, label, nearest)
        other = _second_in_column(xp, first, second, label, best, cell, both)
        for whole, square in ((d1, best), (d2, other)):
            whole[:, strip] = xp.where(square < missing, xp.sqrt(square.astype(xp.float64)), xp.inf)

    backend.parallel_map(along_rows, _strips(height, width, xp), xp)
    backend.parallel_map(along_columns, _strips(width, height, xp), xp)
    return d1, d2


def _strips(count: int, length: int, xp: ModuleType) -> list[slice]:
    step = count if backend.is_device(xp) else max(16, _STRIP // length)
    return [slice(i, i + step) for i in range(0, count, step)]


def _nearest_in_row(xp: ModuleType, cells: Array, missing: int) -> tuple[Array, Array, Array]:
    """Squared distances along the row to the two nearest cells, and the nearest one's label."""
    left = _last_in_row(xp, cells, missing)
    right = [a[:, ::-1] for a in _last_in_row(xp, cells[:, ::-1], missing)]
    is_left = left[0] <= right[0]
    first = xp.where(is_left, left[0], right[0])
    label = xp.where(is_left, left[2], right[2])
    # Of each side, the nearest pixel of another cell than the nearest of all.
    second = xp.minimum(
        xp.where(left[2] != label, left[0], left[1]),
        xp.where(right[2] != label, right[0], right[1]),
    )
    return first, second, label


def _last_in_row(xp: ModuleType, cells: Array, missing: int) -> list[Array]:
    """As `_nearest_in_row`, looking only at the pixel itself and to its left."""
    column = xp.arange(cells.shape[1], dtype=cells.dtype)
    last = _running_maximum(xp, xp.where(cells > 0, column, -1))
    label = xp.where(last >= 0, xp.take_along_axis(cells, xp.maximum(last, 0), axis=1), 0)
    # Where the last cell changes, the last pixel before is the last of another cell.
    other = xp.full_like(last, -1)
    other[:, 1:] = xp.where(label[:, 1:] != label[:, :-1], last[:, :-1], -1)
    other = _running_maximum(xp, other)
    squares = [xp.where(i >= 0, (column - i) ** 2, missing) for i in (last, other)]
    return [squares[0], squares[1], label]


def _running_maximum(xp: ModuleType, values: Array) -> Array:
    # By doubling, since CuPy's maximum cannot accumulate.
    shift = 1
    while shift < values.shape[1]:
        values[:, shift:] = xp.maximum(values[:, shift:], values[:, :-shift])
        shift *= 2
    return values


def _nearest_in_column(
    xp: ModuleType, first: Array, label: Array, limit: float
) -> tuple[Array, Array]:
    """The least of ``first`` plus squared distance along the column, and whose it is."""
    best, cell = first.copy(), label.copy()
    for shift in range(1, len(first)):
        if shift > limit or (shift % 4 == 1 and int(best.max()) < shift**2):
            break
        for to, at in _shifted(shift):
            candidate = first[at] + shift**2
            closer = candidate < best[to]
            xp.copyto(best[to], candidate, where=closer)
            xp.copyto(cell[to], label[at], where=closer)
    return best, cell


def _second_in_column(
    xp: ModuleType,
    first: Array,
    second: Array,
    label: Array,
    nearest: Array,
    cell: Array,
    limit: float,
) -> Array:
    """The same over all cells but the nearest one, `cell`."""
    best = xp.where(label != cell, first, second)
    farthest = limit - xp.sqrt(nearest.astype(xp.float32)) + 1
    for shift in range(1, len(first)):
        if shift > limit:
            break
        if shift % 4 == 1 and not bool(((best > shift**2) & (farthest >= shift)).any()):
            break
        for to, at in _shifted(shift):
            candidate = xp.where(label[at] != cell[to], first[at], second[at])
            candidate += shift**2
            xp.minimum(best[to], candidate, out=best[to])
    return best


def _shifted(shift: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    ahead, behind = slice(shift, None), slice(None, -shift)
    return (ahead, behind), (behind, ahead)
