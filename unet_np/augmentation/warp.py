"""Resampling an image at a field of coordinates, and the smooth random field of Sec. 3.1.

`sample` is `scipy.ndimage.map_coordinates` with ``mode="mirror"`` written as gathers: the
four or sixteen neighbours of every pixel are read by shifted views of one flat array and one
shared index. That is faster than SciPy's loop. On a GPU so many operations would be as many
kernels: there it is `warp_cuda`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import ModuleType
from typing import NamedTuple

import numpy as np

from unet_np import backend
from unet_np.augmentation import warp_cuda
from unet_np.backend import Array
from unet_np.errors import InputError
from unet_np.windows import mirrored

_STRIP = 1 << 14  # pixels worked on at a time: their temporaries stay in a core's cache
_PAD = 16  # a spline coefficient's influence falls by 0.27 a pixel: 1e-9 after 16
_POLE = math.sqrt(3) - 2


class Placing(NamedTuple):
    """How the pixels of a window are turned, flipped and shifted.

    Pixel (i, j) lies at ``offset`` + R (flip_y (i - c_y), flip_x (j - c_x)), where R turns by the
    angle and (c_y, c_x) is the centre.
    """

    angle: float
    flip: tuple[float, float]
    centre: tuple[float, float]
    offset: tuple[float, float]


NOWHERE = Placing(0, (0, 0), (0, 0), (0, 0))
"""All pixels at 0."""


def displacement_field(
    shape: tuple[int, int], vectors: Array, placing: Placing | None = None
) -> Array:
    """One displacement for each pixel, from vectors on a coarse grid (Sec. 3.1).

    The "bicubic interpolation" is the interpolating cubic B-spline: smooth up to the second
    derivative, and equal to the vectors at the grid's points, which are spread evenly from the
    first to the last pixel of each axis. Beyond them the grid is mirrored. It is
    `scipy.ndimage.map_coordinates` of the vectors with ``order=3, mode="mirror"``.

    Parameters
    ----------
    shape : (int, int)
        H and W of the image.
    vectors : array, (2, rows, columns)
        Displacements in pixels: component 0 along H, 1 along W. NumPy or CuPy.
    placing : Placing, optional
        Where the pixels lie before they are displaced, which is added.

    Returns
    -------
    array, (2, H, W), float64
        In pixels.

    Raises
    ------
    InputError
        If `vectors` has another shape.

    Examples
    --------
    >>> field = displacement_field((1, 5), np.array([[[1.0, 9.0, 1.0]], [[2.0, 2.0, 2.0]]]))
    >>> field[:, 0].round(2)
    array([[1., 5., 9., 5., 1.],
           [2., 2., 2., 2., 2.]])
    """
    xp = backend.array_module(vectors)
    if vectors.ndim != 3 or vectors.shape[0] != 2 or vectors.size == 0:
        raise InputError(f"vectors: got shape {vectors.shape}, expected (2, rows, columns)")
    splines = [
        _spline_matrix(size, points, xp)
        for size, points in zip(shape, vectors.shape[1:], strict=True)
    ]
    vectors = vectors.astype(xp.float64, copy=False)
    if backend.is_device(xp):
        return warp_cuda.displacement_field(shape, vectors, splines, *(placing or NOWHERE))
    rows, columns = splines
    across = xp.einsum("cij,wj->ciw", vectors, columns)
    # Not a matrix product: with three terms a BLAS gains nothing, and its threads cost much.
    field = xp.einsum("hi,ciw->chw", rows, across)
    if placing is not None:
        _place(field, placing)
    return field


def _place(field: Array, placing: Placing) -> None:
    """Add where the pixels lie to how they are displaced."""
    cos, sin = math.cos(placing.angle), math.sin(placing.angle)
    y, x = (
        sign * (np.arange(size) - middle)
        for size, middle, sign in zip(field.shape[1:], placing.centre, placing.flip, strict=True)
    )
    field[0] += (cos * y + placing.offset[0])[:, None]
    field[1] += (sin * y + placing.offset[1])[:, None]
    field[0] -= sin * x
    field[1] += cos * x


def sample(image: Array, coordinates: Array, order: int = 3) -> Array:
    """The image's values at real coordinates; mirrored at the border, edge not repeated.

    Parameters
    ----------
    image : array, (H, W) or (C, H, W)
        NumPy or CuPy.
    coordinates : array, (2, height, width), float
        For each pixel of the result, where in `image` it is read: row, then column, in pixels.
        Any finite number; outside the image is its mirror image.
    order : {0, 1, 3}
        0 nearest pixel, 1 linear, 3 cubic B-spline. Order 1 stays within the image's values;
        order 3 may overshoot at edges.

    Returns
    -------
    array, (height, width) or (C, height, width)
        Order 0: in the dtype of `image`. Else float64 where `image` is, and float32 otherwise.
        Within 1e-5 of `scipy.ndimage.map_coordinates` for values of order 1.

    Raises
    ------
    InputError
        If the shapes are wrong, `order` is another number, or on the host a coordinate is not
        finite; a GPU would have to be waited for.

    Examples
    --------
    >>> line = np.array([[0.0, 10.0, 20.0]])
    >>> sample(line, np.array([[[0.0, 0.0]], [[0.5, -1.0]]]), order=1)
    array([[ 5., 10.]])
    """
    xp = backend.array_module(image, coordinates)
    if image.ndim not in (2, 3) or image.size == 0:
        raise InputError(f"image: got shape {image.shape}, expected (H, W) or (C, H, W)")
    if coordinates.ndim != 3 or coordinates.shape[0] != 2 or coordinates.size == 0:
        raise InputError(f"coordinates: got shape {coordinates.shape}, expected (2, H, W)")
    if order not in (0, 1, 3):
        raise InputError(f"order: got {order}, expected 0, 1 or 3; nearest valid order is 3")
    kind = _result_type(image, order)
    planes = image if image.ndim == 3 else image[None]
    shape = image.shape[:-2] + coordinates.shape[1:]
    if backend.is_device(xp):
        planes, near = planes.astype(kind, copy=False), (_PAD, _POLE)
        return warp_cuda.sample(planes, coordinates, order, *near).reshape(shape)
    result = xp.empty((len(planes), *coordinates.shape[1:]), kind)
    lines = [
        _needed_lines(axis, size, order)
        for axis, size in zip(coordinates, planes.shape[1:], strict=True)
    ]
    blocks = [_block(xp, plane, lines, order, kind) for plane in planes]
    step = max(1, _STRIP // coordinates.shape[2])

    def work(top: int) -> None:
        strip = slice(top, top + step)
        places = [
            _locate(xp, axis[strip], one, order, kind)
            for axis, one in zip(coordinates, lines, strict=True)
        ]
        for block, plane in zip(blocks, result, strict=True):
            plane[strip] = _gather(block, *places)

    backend.parallel_map(work, range(0, coordinates.shape[1], step), xp)
    return result.reshape(shape)


class _Lines(NamedTuple):
    """The lines of one axis that coordinates read; past the border, lines of the mirror image."""

    size: int
    low: float
    high: float
    first: int
    stop: int


def _needed_lines(axis: Array, size: int, order: int) -> _Lines:
    low, high = float(axis.min()), float(axis.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("coordinates: got NaN or infinity, expected finite numbers")
    last, start, end = size - 1, low, high
    # What lies past one border is read on this side of it, or anywhere if it lies far off.
    if low < 0 or high > last:
        near = -last <= low and high <= 2 * last and not (low < 0 and high > last)
        start = min(low, 2 * last - high) if near and low >= 0 else 0
        end = max(high, -low) if near and low < 0 else last
    pad = _PAD if order == 3 else 1
    return _Lines(size, low, high, math.floor(start) - pad, math.floor(end) + pad + 2)


def _locate(
    xp: ModuleType, axis: Array, lines: _Lines, order: int, kind: np.dtype
) -> tuple[Array, list[Array]]:
    """For each pixel its first tap, counted from the first line, and the weights of its taps."""
    axis = axis.astype(xp.float64, copy=False)
    if lines.low < 0 or lines.high > lines.size - 1:
        axis = mirrored(axis, lines.size, reach=max(-lines.low, lines.high))
    whole = xp.floor(axis + 0.5) if order == 0 else xp.floor(axis)
    weights = _weights((axis - whole).astype(kind), order)
    # Tap 0 of a cubic is the pixel before; of the others, the pixel itself.
    return whole.astype(xp.intp) - (lines.first + (order == 3)), weights


def _result_type(image: Array, order: int) -> np.dtype:
    if order == 0:
        return image.dtype
    return np.dtype(np.float64 if image.dtype == np.float64 else np.float32)


def _block(xp: ModuleType, plane: Array, lines: list[_Lines], order: int, kind: np.dtype) -> Array:
    """The needed part of the image, with its mirrored surroundings, as spline coefficients."""
    rows, columns = (
        xp.asarray(mirrored(np.arange(one.first, one.stop), one.size)) for one in lines
    )
    block = xp.take(xp.take(plane, rows, axis=0), columns, axis=1).astype(kind, copy=False)
    if order == 3:
        _to_spline(block)
        _to_spline(block.T)
    return block


def _to_spline(values: Array) -> None:
    """Values to cubic B-spline coefficients along axis 0, in place; the ends are not exact.

    The spline's sampled weights 1/6, 4/6, 1/6 are undone by one recursive filter forward and
    one backward, each c[i] += z c[i - 1]. The recursion is a product of (1 + z^s shift^s) over
    s = 1, 2, 4, ..., each of which is one operation on the whole array.
    """
    shift = 1
    while shift <= _PAD:
        values[shift:] += _POLE**shift * values[:-shift]
        shift *= 2
    while shift > 1:
        shift //= 2
        values[:-shift] += _POLE**shift * values[shift:]
    values *= -6 * _POLE


def _gather(
    block: Array, vertical: tuple[Array, list[Array]], horizontal: tuple[Array, list[Array]]
) -> Array:
    """Sum over the taps of weight times value; tap (k, l) is read k lines and l pixels on."""
    (top, down), (left, across) = vertical, horizontal
    flat, width = block.ravel(), block.shape[1]
    index = top * width + left
    if not down:
        return flat[index]
    result = 0
    for k, weight in enumerate(down):
        line = flat[k * width :][index] * across[0]
        for shift in range(1, len(across)):
            line += flat[k * width + shift :][index] * across[shift]
        line *= weight
        result += line
    return result


def _weights(t: Array, order: int) -> list[Array]:
    """Weights of the neighbouring pixels at a fraction t of the way to the next."""
    if order == 0:
        return []
    u = 1 - t
    if order == 1:
        return [u, t]
    first, last = u * u * u / 6, t * t * t / 6
    # The cubic B-spline; with the outer weights known, 4 - 6 t^2 + 3 t^3 is 4 - 6 t^2 + 18 last.
    return [first, 2 / 3 - t * t + 3 * last, 2 / 3 - u * u + 3 * first, last]


@lru_cache(maxsize=64)
def _spline_matrix(size: int, points: int, xp: ModuleType = np) -> Array:
    """(size, points): the interpolating spline at `size` places, for values at `points`."""
    at = np.linspace(0, points - 1, size)
    return xp.asarray(_basis(at, points) @ np.linalg.inv(_basis(np.arange(points), points)))


def _basis(at: np.ndarray, points: int) -> np.ndarray:
    """Cubic B-splines at the places `at`, one column for each mirrored coefficient."""
    whole = np.floor(at).astype(int)
    basis = np.zeros((len(at), points))
    for tap, weight in enumerate(_weights(at - whole, 3)):
        column = mirrored(whole + tap - 1, points)
        np.add.at(basis, (np.arange(len(at)), column), weight)
    return basis
