"""The 3x3 convolution with a quarter of the multiplications: Winograd's F(4x4, 3x3).

A 4x4 square of outputs needs a 6x6 square of inputs. Directly that is 16 x 9 = 144
multiplications; between transforms that hold only small constants, 36 are enough:

    Y = A' [ (G g G') * (B' d B) ] A        ' transposed, * number by number

with the 3x3 kernel g, the 6x6 inputs d and the 4x4 outputs Y (Lavin and Gray 2016,
equation 8, after Winograd 1980). Summed over input channels, the product in brackets is
36 matrix products of tiles x channels, one for each of the 36 places: work for a GEMM.
The transforms are GEMMs too, with a 6x6 matrix; NumPy has nothing faster.

The three matrices follow from five points at which polynomials are multiplied (and
infinity as the sixth): 0, 1, -1, 2, -2, the ones of the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    asarray,
    block_elements,
    empty,
    empty_channels_last,
    is_device,
    parallel_map,
    scratch,
    thread_count,
)
from unet_np.ops.im2col import padded_window

TILE = 4  # outputs of a tile, in each direction
PATCH = 6  # inputs of a tile
MIN_CHANNELS = 16  # below, the transforms cost more than they save
MIN_TILES = 40  # below, transforming the kernels does
MIN_TILES_OF_BLOCK = 144  # since a GEMM has to fetch the kernels for every block
BLOCK_ELEMENTS = 18432  # tiles x channels: fewer cost Python too much, more leave the cache
GROUP_BLOCKS = 64  # tiles of this many blocks are kept for the gradient of the kernels


class Block(NamedTuple):
    """Tiles of an image that are worked on together: a rectangle, counted in tiles."""

    image: int
    top: int
    bottom: int
    left: int
    right: int

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return (self.bottom - self.top) * (self.right - self.left)


B_TRANSPOSED = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
A_TRANSPOSED = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


@lru_cache
def _matrices(xp: ModuleType, dtype: str) -> tuple[Array, Array, Array]:
    """B', A' and the Kronecker product of G with itself, (36, 9)."""
    return (
        asarray(np.array(B_TRANSPOSED), xp, dtype),
        asarray(np.array(A_TRANSPOSED), xp, dtype),
        asarray(np.kron(np.array(G), np.array(G)), xp, dtype),
    )


def forward(x: Array, w: Array, b: Array, padding: int) -> Array:
    """(B, C, H, W) and (K, C, 3, 3) -> (B, K, H + 2 padding - 2, W + 2 padding - 2)."""
    return _convolve(x, transform_kernels(w), b, padding)


def input_gradient(grad: Array, w: Array, x_shape: tuple[int, ...], padding: int) -> Array:
    """The gradient of a convolution is a convolution: padded, with the kernels turned by 180°."""
    xp = array_module(grad, w)
    zero = xp.zeros(w.shape[1], w.dtype)
    if padding > 2:
        cut = padding - 2
        grad = grad[:, :, cut : cut + x_shape[2] + 2, cut : cut + x_shape[3] + 2]
    # Transposed as a view: a BLAS reads a matrix either way, moving it would cost more.
    kernels = transform_kernels(w, turned=True).transpose(0, 2, 1)
    return _convolve(grad, kernels, zero, max(0, 2 - padding))


def transform_kernels(w: Array, turned: bool = False) -> Array:
    """G g G' for every kernel, or for every kernel turned by 180°: (K, C, 3, 3) -> (36, C, K)."""
    xp = array_module(w)
    out, into = w.shape[:2]
    taps = w.transpose(2, 3, 1, 0).reshape(9, into * out)
    kernels = empty(xp, (PATCH * PATCH, into * out), w.dtype)
    _, _, gg = _matrices(xp, w.dtype.str)
    if turned:
        gg = xp.ascontiguousarray(gg[:, ::-1])
    step = max(1, block_elements(xp) // (PATCH * PATCH))

    def call(first: int) -> None:
        part = slice(first, first + step)
        xp.matmul(gg, taps[:, part], out=kernels[:, part])

    parallel_map(call, range(0, into * out, step), xp)
    return kernels.reshape(PATCH * PATCH, into, out)


def _convolve(x: Array, kernels: Array, b: Array, padding: int) -> Array:
    xp = array_module(x)
    batch, _, height, width = x.shape
    rows, columns, out = height + 2 * padding - 2, width + 2 * padding - 2, kernels.shape[2]
    y = empty_channels_last(xp, (batch, out, rows, columns), x.dtype)
    pixels, results = as_channels_last(x), y.transpose(0, 2, 3, 1)

    def call(block: Block) -> None:
        patches = transform_inputs(pixels[block.image], block, padding)
        shape = (PATCH * PATCH, block.tiles, out)
        products = scratch(xp, "products", shape, x.dtype)
        xp.matmul(patches, kernels, out=products)
        # A tile's outputs all contain the place of point 1 (row 1, column 1) with factor 1.
        products[PATCH + 1] += b
        _write_outputs(products, results[block.image], block)

    parallel_map(call, _blocks(batch, rows, columns, max(x.shape[1], out), xp), xp)
    return y


def weight_gradient(grad: Array, x: Array, w_shape: tuple[int, ...], padding: int) -> Array:
    """G' [ sum over tiles of (B' d B) * (A dE/dY A') ] G: the transposes of the same steps."""
    xp = array_module(grad, x)
    out, into = w_shape[:2]
    batch, _, rows, columns = grad.shape
    pixels, grads = as_channels_last(x), as_channels_last(grad)
    grad_w = empty(xp, (9, into, out), grad.dtype)
    grad_w[...] = 0
    blocks = _blocks(batch, rows, columns, max(into, out), xp)
    for group in _groups(blocks, into + out, xp):
        patches, errors = _transform_group(pixels, grads, group, padding)
        _add_products(patches, errors, grad_w)
    return grad_w.reshape(3, 3, into, out).transpose(3, 2, 0, 1)


def _transform_group(
    pixels: Array, grads: Array, group: list[Block], padding: int
) -> tuple[Array, Array]:
    """B' d B and A dE/dY A' of all tiles of some blocks, side by side."""
    xp = array_module(pixels, grads)
    ends = list(accumulate(block.tiles for block in group))
    patches = scratch(xp, "all patches", (PATCH * PATCH, ends[-1], pixels.shape[3]), pixels.dtype)
    errors = scratch(xp, "all errors", (PATCH * PATCH, ends[-1], grads.shape[3]), grads.dtype)

    def transform(number: int) -> None:
        block = group[number]
        part = slice(ends[number] - block.tiles, ends[number])
        transform_inputs(pixels[block.image], block, padding, patches[:, part])
        transform_errors(grads[block.image], block, errors[:, part])

    parallel_map(transform, range(len(group)), xp)
    return patches, errors


def _add_products(patches: Array, errors: Array, grad_w: Array) -> None:
    """Add the sums over tiles of patches * errors, transformed back, to (9, C, K)."""
    xp = array_module(patches, errors)
    into, out = grad_w.shape[1:]
    _, _, gg = _matrices(xp, patches.dtype.str)
    # A thread takes some input channels of the sum over all tiles. Nothing is added by two
    # threads, so the order of additions is fixed.
    step = max(8, min(-(-into // thread_count()), 8 * block_elements(xp) // (36 * out)))

    def add(first: int) -> None:
        part = slice(first, first + step)
        transposed = patches[:, :, part].transpose(0, 2, 1)
        shape = (PATCH * PATCH, transposed.shape[1], out)
        product = scratch(xp, "kernel sums", shape, patches.dtype)
        xp.matmul(transposed, errors, out=product)
        taps = xp.matmul(gg.T, product.reshape(PATCH * PATCH, -1))
        grad_w[:, part] += taps.reshape(9, -1, out)

    parallel_map(add, range(0, into, step), xp)


def transform_inputs(pixels: Array, block: Block, padding: int, out: Array | None = None) -> Array:
    """B' d B of the patches under a block: (H, W, C) -> (36, tiles, C)."""
    b, _, _ = _matrices(array_module(pixels), pixels.dtype.str)
    return _transform(pixels, block, b, PATCH, padding, out)


def transform_errors(grads: Array, block: Block, out: Array | None = None) -> Array:
    """A dE/dY A' of the tiles of a block: (H', W', K) -> (36, tiles, K)."""
    _, a, _ = _matrices(array_module(grads), grads.dtype.str)
    return _transform(grads, block, a.T, TILE, 0, out)


def _transform(
    pixels: Array, block: Block, matrix: Array, size: int, padding: int, out: Array | None
) -> Array:
    """M s M' for the squares of `size` that begin every four pixels; zeros outside the image."""
    xp = array_module(pixels)
    channels = pixels.shape[2]
    down, across = block.bottom - block.top, block.right - block.left
    height, width = TILE * (down - 1) + size, TILE * (across - 1) + size
    strip = padded_window(
        pixels, TILE * block.top - padding, TILE * block.left - padding, height, width
    )
    # Rows first, for all columns at once: squares overlap, and so the product of the rows that
    # two squares share is made once.
    # The stride of an axis of one element, such as a single channel, may be anything.
    row, number = strip.strides[0], strip.itemsize
    rows = xp.lib.stride_tricks.as_strided(
        strip, (down, size, width * channels), (TILE * row, row, number)
    )
    half = scratch(xp, "half", (down, PATCH, width * channels), pixels.dtype)
    xp.matmul(matrix, rows, out=half)
    line = width * channels * number
    windows = xp.lib.stride_tricks.as_strided(
        half,
        (PATCH, size, down, across, channels),
        (line, channels * number, PATCH * line, TILE * channels * number, number),
    )
    squares = scratch(xp, "squares", windows.shape, pixels.dtype)
    squares[...] = windows
    if out is None:
        out = scratch(xp, "patches", (PATCH * PATCH, block.tiles, channels), pixels.dtype)
    xp.matmul(matrix, squares.reshape(PATCH, size, -1), out=out.reshape(PATCH, PATCH, -1))
    return out


def _write_outputs(products: Array, results: Array, block: Block) -> None:
    """A' m A for every tile of a block, (36, tiles, K), to the (H', W', K) results."""
    xp = array_module(products, results)
    _, tiles, channels = products.shape
    _, a, _ = _matrices(xp, products.dtype.str)
    half = scratch(xp, "half", (PATCH, TILE, tiles * channels), products.dtype)
    xp.matmul(a, products.reshape(PATCH, PATCH, -1), out=half)
    whole = scratch(xp, "squares", (TILE, TILE, tiles * channels), products.dtype)
    # (columns of a tile, rows of a tile, ...)
    xp.matmul(a, half.transpose(1, 0, 2), out=whole)
    down, across = block.bottom - block.top, block.right - block.left
    squares = whole.reshape(TILE, TILE, down, across, channels)
    target = results[TILE * block.top : TILE * block.bottom, TILE * block.left : TILE * block.right]
    if target.shape[:2] == (TILE * down, TILE * across):
        target = target.reshape(down, TILE, across, TILE, channels)
        target[...] = squares.transpose(2, 1, 3, 0, 4)
        return
    for j, i in xp.ndindex(TILE, TILE):
        cut = target[i::TILE, j::TILE]
        cut[...] = squares[j, i, : cut.shape[0], : cut.shape[1]]


def _blocks(batch: int, rows: int, columns: int, channels: int, xp: ModuleType) -> list[Block]:
    """Rectangles of tiles: small enough for the cache, large enough for a GEMM."""
    down, across = -(-rows // TILE), -(-columns // TILE)
    elements = block_elements(xp) // PATCH**2 if is_device(xp) else BLOCK_ELEMENTS
    wanted = max(MIN_TILES_OF_BLOCK, elements // channels)
    columns_of_blocks = -(-across // wanted)
    width = -(-across // columns_of_blocks)
    rows_of_blocks = -(-down // max(1, wanted // width))
    if not is_device(xp) and columns_of_blocks == 1:
        threads = thread_count()
        rows_of_blocks = min(down, -(-rows_of_blocks // threads) * threads)
    vertical = [down * n // rows_of_blocks for n in range(rows_of_blocks + 1)]
    horizontal = [across * n // columns_of_blocks for n in range(columns_of_blocks + 1)]
    return [
        Block(image, top, bottom, left, right)
        for image in range(batch)
        for top, bottom in pairwise(vertical)
        for left, right in pairwise(horizontal)
    ]


def _groups(blocks: list[Block], channels: int, xp: ModuleType) -> Iterator[list[Block]]:
    """Blocks whose transforms together stay in the processor's last cache."""
    limit = GROUP_BLOCKS * block_elements(xp) // (PATCH * PATCH * channels)
    group: list[Block] = []
    tiles = 0
    for block in blocks:
        if group and tiles + block.tiles > limit:
            yield group
            group, tiles = [], 0
        group.append(block)
        tiles += block.tiles
    yield group
