"""Winograd's algorithm from row to row alone, F(4, 3): the 3x3 convolution of few channels.

Four outputs below each other need six rows of the input, and between transforms 6 x 3
multiplications in the place of 4 x 9: half of them, where `winograd` needs a quarter. In return
nothing is cut out. A transform is the product of a small matrix and whole rows, as they lie in
memory; and where channels lie side by side, three neighbouring pixels are one run of 3 C numbers.
Runs that begin three pixels apart are the rows of a matrix, and three such matrices hold all runs.
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import numpy as np

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    asarray,
    block_elements,
    copy_runs,
    empty,
    empty_channels_last,
    parallel_map,
    product,
    scratch,
    sharing_threads,
    strided,
    sum_of_products,
)
from unet_np.ops import im2col
from unet_np.ops.winograd_tiles import PATCH, TILE, G, matrices

FEW_KERNELS = 32 * 64  # input x output channels, above which `winograd` is faster
FEW_KERNELS_ELSE = 64 * 128  # the same for the gradient of kernels, and for images of few tiles
SPARE = 6  # pixels behind the last row, which the last runs may reach
FEW = 16  # below, a product has so few columns that two neighbouring outputs are made at once


def forward(
    x: Array, w: Array, b: Array | None, padding: int, finish: im2col.Finish | None = None
) -> Array:
    """(B, C, H, W) and (K, C, 3, 3) -> (B, K, H + 2 padding - 2, W + 2 padding - 2)."""
    xp = array_module(x)
    out, into = w.shape[:2]
    batch, _, height, width = x.shape
    rows, columns = height + 2 * padding - 2, width + 2 * padding - 2
    y = empty_channels_last(xp, (batch, out, rows, columns), x.dtype)
    pixels, results = as_channels_last(x), y.transpose(0, 2, 3, 1)
    together = 2 if min(into, out) < FEW else 1
    kernels = transform_kernels(w, together)
    matrix, back, _ = matrices(xp, x.dtype.str)
    if b is not None:
        # A seventh row of products: the bias, which adds to all four outputs with factor 1.
        back = xp.concatenate([back, xp.ones((TILE, 1), x.dtype)], axis=1)
    line = (columns + 2) * out
    rooms: dict[int, tuple[int, tuple[Array, ...]]] = {}

    def room(tall: int) -> tuple[Array, ...]:
        """Memory of this thread: rows to be transformed to, their runs, products of both kinds."""
        lines, target = room_for_rows(xp, "patches", tall, width, into, (padding, padding), x.dtype)
        windows = runs(lines, together)[..., : (together + 2) * into]
        _, together_, count, _ = windows.shape
        size = count * together_ * together * out
        products = scratch(xp, "products", (back.shape[1], size), x.dtype)
        if b is not None:
            copy_runs(products[PATCH, : tall * line].reshape(-1, out), b[None])
        straight = products[:PATCH].reshape(PATCH, count, together_, -1).transpose(0, 2, 1, 3)
        flat = products[:, : tall * line].reshape(-1, tall, line)
        return target, windows, straight, flat[:, :, : columns * out].transpose(1, 0, 2)

    def call(block: tuple[int, int, int]) -> None:
        image, first, last = block
        tall = last - first
        mine = threading.get_ident()
        if mine not in rooms or rooms[mine][0] != tall:
            rooms[mine] = tall, room(tall)
        lines, windows, products, flat = rooms[mine][1]
        transform_rows(pixels[image], first, tall, padding, matrix, lines)
        product(windows, kernels, products)
        target = results[image, TILE * first : TILE * last]
        whole, rest = divmod(len(target), TILE)
        tiles = target[: TILE * whole].reshape(whole, TILE, columns * out)
        xp.matmul(back, flat[:whole], out=tiles)
        if rest:
            xp.matmul(back[:rest], flat[whole], out=target[-rest:].reshape(rest, -1))
        if finish is not None:
            finish(target, (image, slice(TILE * first, TILE * last)))

    parallel_map(call, _blocks(y.shape, max(into, out), xp), xp)
    return y


def input_gradient(
    grad: Array,
    w: Array,
    x_shape: tuple[int, ...],
    padding: int,
    finish: im2col.Finish | None = None,
) -> Array:
    """As by `im2col`, with this algorithm's convolution."""
    return im2col.input_gradient(grad, w, x_shape, padding, finish, forward)


def weight_gradient(grad: Array, x: Array, w_shape: tuple[int, ...], padding: int) -> Array:
    """G' [ sum over runs of (B' d) (A dE/dY) ]: the transposes of the same steps."""
    xp = array_module(grad, x)
    out, into = w_shape[:2]
    pixels, grads = as_channels_last(x), as_channels_last(grad)
    blocks = _blocks(grad.shape, max(into, out), xp)
    # Each share of the blocks has a sum of its own, so that the order of all additions is fixed.
    shares = min(len(blocks), sharing_threads(xp))
    sums = empty(xp, (shares, PATCH, 3, 3 * into, out), grad.dtype)

    matrix, back, _ = matrices(xp, x.dtype.str)

    def call(share: int) -> None:
        sums_of_block = scratch(xp, "kernel sums", sums.shape[1:], grad.dtype)
        sums[share] = tall = 0
        for image, first, last in blocks[share::shares]:
            if tall != last - first:
                tall = last - first
                sides = (padding, padding)
                lines, target = room_for_rows(xp, "patches", tall, x.shape[3], into, sides, x.dtype)
                lines_, target_ = room_for_rows(
                    xp, "squares", tall, grad.shape[3], out, (0, 2), x.dtype
                )
                windows = runs(lines)[..., : 3 * into]
                errors = runs(lines_)[..., :out]
            transform_rows(pixels[image], first, tall, padding, matrix, target)
            transform_rows(grads[image], first, tall, 0, back.T, target_)
            sum_of_products(windows, errors, sums_of_block)
            sums[share] += sums_of_block

    parallel_map(call, range(shares), xp)
    total = sums.sum(axis=(0, 2)).reshape(PATCH, -1)
    g = asarray(np.array(G), xp, grad.dtype)
    return xp.matmul(g.T, total).reshape(3, 3, into, out).transpose(3, 2, 0, 1)


def transform_kernels(w: Array, together: int) -> Array:
    """G g of each column of the kernels: (K, C, 3, 3) -> (6, 1, 3 C, K).

    For two outputs `together` (6, 1, 4 C, 2 K): the kernels of the second, one pixel on.
    """
    xp = array_module(w)
    out, into = w.shape[:2]
    taps = w.transpose(2, 3, 1, 0).reshape(3, -1)
    kernels = xp.matmul(asarray(np.array(G), xp, w.dtype), taps).reshape(PATCH, 3 * into, out)
    spread = xp.zeros((PATCH, 1, (together + 2) * into, together, out), w.dtype)
    for n in range(together):
        spread[:, 0, n * into : (n + 3) * into, n] = kernels
    return spread.reshape(PATCH, 1, -1, together * out)


def room_for_rows(
    xp: ModuleType,
    name: str,
    tall: int,
    width: int,
    channels: int,
    sides: tuple[int, int],
    dtype: Any,
) -> tuple[Array, Array]:
    """Scratch memory (6, N, C) of `tall` transformed rows, and where these are to be written to.

    Rows, with zeros on both sides, follow one another without a gap, then some zeros. Sides are
    padding and padding for inputs, whose rows are two pixels longer than outputs; 0 and 2 for
    errors. The zeros stay, as long as nobody else uses this thread's memory of that name.
    """
    wide = sides[0] + width + sides[1]
    lines = scratch(xp, name, (PATCH, tall * wide + SPARE, channels), dtype)
    lines[:, tall * wide :] = 0
    inner = lines[:, : tall * wide].reshape(PATCH, tall, wide, channels)
    inner[:, :, : sides[0]] = 0
    inner[:, :, wide - sides[1] :] = 0
    target = inner.reshape(PATCH, tall, -1)
    start = sides[0] * channels
    return lines, target[:, :, start : start + width * channels].transpose(1, 0, 2)


def transform_rows(
    pixels: Array, first: int, tall: int, padding: int, matrix: Array, target: Array
) -> None:
    """B' d of the rows under `tall` times four rows of outputs, or A dE/dY of these themselves."""
    size, (_, width, channels) = matrix.shape[1], pixels.shape
    height = TILE * (tall - 1) + size
    strip = im2col.padded_window(pixels, TILE * first - padding, 0, height, width)
    row, number = strip.strides[0], strip.itemsize
    rows = strided(strip, (tall, size, width * channels), (TILE * row, row, number))
    array_module(pixels).matmul(matrix, rows, out=target)


def runs(lines: Array, together: int = 1) -> Array:
    """All runs of pixels as matrices: (6, N, C) -> (6, 3 matrices, runs, numbers of 3 pixels).

    With two outputs `together` they are 2 matrices, of runs of 4 pixels.
    """
    _, pixels, channels = lines.shape
    step = 3 if together == 1 else 4
    line, pixel, number = lines.strides
    shape = (PATCH, step // together, (pixels - 3) // step, step * channels)
    strides = (line, together * pixel, step * pixel, number)
    return strided(lines, shape, strides)


def _blocks(shape: tuple[int, ...], channels: int, xp: ModuleType) -> list[tuple[int, int, int]]:
    """(image, first, last), counted in four rows of outputs, whose transforms fit the cache."""
    batch, _, rows, columns = shape
    tall = max(1, 2 * block_elements(xp) // (PATCH * (columns + 2) * channels))
    tiles = -(-rows // TILE)
    return im2col.cut(batch, tiles, -(-tiles // tall), xp)
