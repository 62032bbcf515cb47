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
    row_pieces,
    scratch,
    sharing_threads,
    strided,
)
from unet_np.ops import im2col
from unet_np.ops.winograd_tiles import PATCH, TILE, G, matrices

FEW_KERNELS = 32 * 64  # input x output channels, above which `winograd` is faster
FEW_KERNELS_ELSE = 64 * 128  # the same for the gradient of kernels, and for images of few tiles
SPARE = 6  # pixels behind the last row, which the last runs may reach
FEW = 16  # below, a product has so few columns that two neighbouring outputs are made at once

Pairs = list[tuple[Array, Array]]  # the two matrices of each product, or a matrix and its place


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
    line, whole = (columns + 2) * out, rows // TILE
    tiles = results[:, : TILE * whole].reshape(batch, whole, TILE, columns * out)
    strips = Strips(pixels, padding, PATCH)
    rooms: dict[int, tuple[int, Array, Pairs, Array]] = {}

    def room(tall: int) -> tuple[int, Array, Pairs, Array]:
        """Memory of this thread: rows to be transformed to, their runs, products of both kinds."""
        lines, target = room_for_rows(xp, "patches", tall, width, into, (padding, padding), x.dtype)
        windows = runs(lines, together)[..., : (together + 2) * into]
        _, together_, count, common = windows.shape
        size = count * together_ * together * out
        products = scratch(xp, "products", (back.shape[1], size), x.dtype)
        if b is not None:
            copy_runs(products[PATCH, : tall * line].reshape(-1, out), b[None])
        straight = products[:PATCH].reshape(PATCH, count, together_, -1).transpose(0, 2, 1, 3)
        pieces = row_pieces(count, common, together * out, xp)
        pairs = [(windows[:, :, piece], straight[:, :, piece]) for piece in pieces]
        flat = products[:, : tall * line].reshape(-1, tall, line)[:, :, : columns * out]
        return tall, target, pairs, flat.transpose(1, 0, 2)

    # Whatever is done here between two calls of NumPy may keep another thread waiting for the
    # interpreter's lock.
    def call(block: tuple[int, int, int]) -> None:
        image, first, last = block
        mine = threading.get_ident()
        if mine not in rooms or rooms[mine][0] != last - first:
            rooms[mine] = room(last - first)
        _, lines, pairs, flat = rooms[mine]
        xp.matmul(matrix, strips.under(image, first, last), out=lines)
        for windows, products in pairs:
            xp.matmul(windows, kernels, out=products)
        end = min(last, whole)
        xp.matmul(back, flat[: end - first], out=tiles[image, first:end])
        if end < last:
            rest = results[image, TILE * end :].reshape(rows - TILE * end, -1)
            xp.matmul(back[: len(rest)], flat[end - first], out=rest)
        if finish is not None:
            place = image, slice(TILE * first, TILE * last)
            finish(results[place], place)

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
    strips, strips_ = Strips(pixels, padding, PATCH), Strips(grads, 0, TILE)
    sides = (padding, padding)

    def room(tall: int) -> tuple[Array, Array, Pairs]:
        lines, target = room_for_rows(xp, "patches", tall, x.shape[3], into, sides, x.dtype)
        lines_, target_ = room_for_rows(xp, "squares", tall, grad.shape[3], out, (0, 2), x.dtype)
        windows, errors = runs(lines)[..., : 3 * into], runs(lines_)[..., :out]
        pieces = row_pieces(windows.shape[2], 3 * into, out, xp)
        pairs = [(windows[:, :, part].swapaxes(2, 3), errors[:, :, part]) for part in pieces]
        return target, target_, pairs

    def call(share: int) -> None:
        product = scratch(xp, "kernel sums", sums.shape[1:], grad.dtype)
        total = sums[share]
        total[...] = tall = 0
        for image, first, last in blocks[share::shares]:
            if tall != last - first:
                tall = last - first
                target, target_, pairs = room(tall)
            xp.matmul(matrix, strips.under(image, first, last), out=target)
            xp.matmul(back.T, strips_.under(image, first, last), out=target_)
            for windows, errors in pairs:
                xp.matmul(windows, errors, out=product)
                total += product

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


class Strips:
    """The rows of images (B, H, W, C) under every four rows of outputs: `size` rows, the next ones
    four rows on."""

    def __init__(self, pixels: Array, padding: int, size: int) -> None:
        self.pixels, self.padding, self.size = pixels, padding, size
        batch, height, width, channels = pixels.shape
        self.outside = -(-padding // TILE)
        top = TILE * self.outside - padding
        inside = max(0, (height - top - size) // TILE + 1)
        # The stride of an axis of one element, such as a single channel, may be anything.
        image, row = pixels.strides[:2]
        shape = (batch, inside, size, width * channels)
        self.inside = strided(pixels[:, top:], shape, (image, TILE * row, row, pixels.itemsize))

    def under(self, image: int, first: int, last: int) -> Array:
        """Those of some, counted in four rows of outputs: (last - first, size, W C).

        A view where all are inside, else scratch memory with zeros.
        """
        begin, end = first - self.outside, last - self.outside
        if begin >= 0 and end <= self.inside.shape[1]:
            return self.inside[image, begin:end]
        _, _, width, channels = self.pixels.shape
        height = TILE * (last - first - 1) + self.size
        top = TILE * first - self.padding
        strip = im2col.padded_window(self.pixels[image], top, 0, height, width)
        row, number = strip.strides[0], strip.itemsize
        shape = (last - first, self.size, width * channels)
        return strided(strip, shape, (TILE * row, row, number))


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
