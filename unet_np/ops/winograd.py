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

import numpy as np

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    asarray,
    block_elements,
    empty_channels_last,
    is_device,
    parallel_map,
    scratch,
    thread_count,
)
from unet_np.ops.im2col import padded_rows, rotated

TILE = 4  # outputs of a tile, in each direction
PATCH = 6  # inputs of a tile
MIN_CHANNELS = 16  # below, the transforms cost more than they save
MIN_TILES = 100  # below, transforming the kernels does
GEMM_TILES = 144  # rows of a GEMM, at least, so that fetching the kernels pays
GROUP_BLOCKS = 32  # tiles of this many blocks are kept for the gradient of the kernels

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
    return _convolve(grad, transform_kernels(rotated(w)), zero, max(0, 2 - padding))


def transform_kernels(w: Array) -> Array:
    """G g G' for every kernel: (K, C, 3, 3) -> (36, C, K)."""
    xp = array_module(w)
    out, into = w.shape[:2]
    taps = w.transpose(2, 3, 1, 0).reshape(9, into * out)
    kernels = xp.empty((PATCH * PATCH, into * out), w.dtype)
    _, _, gg = _matrices(xp, w.dtype.str)
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
    _, a, _ = _matrices(xp, x.dtype.str)

    def call(block: tuple[int, int, int]) -> None:
        image, first, last = block
        patches = transform_inputs(pixels[image], first, last, columns, padding)
        shape = (PATCH * PATCH, patches.shape[1], out)
        products = scratch(xp, "products", shape, x.dtype)
        xp.matmul(patches, kernels, out=products)
        tiles = _both_axes(a, products, "outputs")
        _write_tiles(tiles, b, results[image, first * TILE : last * TILE])

    parallel_map(call, _blocks(batch, rows, columns, max(x.shape[1], out), xp), xp)
    return y


def weight_gradient(grad: Array, x: Array, w_shape: tuple[int, ...], padding: int) -> Array:
    """G' [ sum over tiles of (B' d B) * (A dE/dY A') ] G: the transposes of the same steps."""
    xp = array_module(grad, x)
    out, into = w_shape[:2]
    batch, _, rows, columns = grad.shape
    across = -(-columns // TILE)
    pixels, grads = as_channels_last(x), as_channels_last(grad)
    grad_w = xp.zeros((9, into, out), grad.dtype)
    blocks = _blocks(batch, rows, columns, max(into, out), xp)
    for group in _groups(blocks, across, into + out, xp):
        patches, errors = _transform_group(pixels, grads, group, padding)
        _add_products(patches, errors, grad_w)
    return grad_w.reshape(3, 3, into, out).transpose(3, 2, 0, 1)


def _transform_group(
    pixels: Array, grads: Array, group: list[tuple[int, int, int]], padding: int
) -> tuple[Array, Array]:
    """B' d B and A dE/dY A' of all tiles of some blocks, side by side."""
    xp = array_module(pixels, grads)
    columns = grads.shape[2]
    sizes = [(last - first) * -(-columns // TILE) for _, first, last in group]
    ends = list(accumulate(sizes))
    patches = scratch(xp, "all patches", (PATCH * PATCH, ends[-1], pixels.shape[3]), pixels.dtype)
    errors = scratch(xp, "all errors", (PATCH * PATCH, ends[-1], grads.shape[3]), grads.dtype)

    def transform(number: int) -> None:
        image, first, last = group[number]
        part = slice(ends[number] - sizes[number], ends[number])
        transform_inputs(pixels[image], first, last, columns, padding, patches[:, part])
        _transform_errors(grads[image], first, last, errors[:, part])

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


def transform_inputs(
    pixels: Array, first: int, last: int, columns: int, padding: int, out: Array | None = None
) -> Array:
    """B' d B of tile rows `first` to `last`: (H, W, C) -> (36, tiles, C)."""
    xp = array_module(pixels)
    across = -(-columns // TILE)
    top, bottom = first * TILE - padding, last * TILE + 2 - padding
    right = across * TILE + 2 - pixels.shape[1] - padding
    strip = padded_rows(pixels, top, bottom, padding, right)
    row, column, number = strip.strides
    windows = xp.lib.stride_tricks.as_strided(
        strip,
        (PATCH, PATCH, last - first, across, strip.shape[2]),
        (row, column, TILE * row, TILE * column, number),
    )
    patches = scratch(xp, "patches", windows.shape, pixels.dtype)
    patches[...] = windows
    b, _, _ = _matrices(xp, pixels.dtype.str)
    flat = patches.reshape(PATCH * PATCH, -1, pixels.shape[2])
    return _both_axes(b, flat, "inputs", out)


def _transform_errors(grads: Array, first: int, last: int, out: Array) -> None:
    """A dE/dY A' of tile rows `first` to `last`: (H', W', K) -> (36, tiles, K)."""
    xp = array_module(grads)
    across = -(-grads.shape[1] // TILE)
    right = across * TILE - grads.shape[1]
    strip = padded_rows(grads, first * TILE, last * TILE, 0, right)
    row, column, number = strip.strides
    windows = xp.lib.stride_tricks.as_strided(
        strip,
        (TILE, TILE, last - first, across, strip.shape[2]),
        (row, column, TILE * row, TILE * column, number),
    )
    tiles = scratch(xp, "patches", windows.shape, grads.dtype)
    tiles[...] = windows
    _, a, _ = _matrices(xp, grads.dtype.str)
    _both_axes(a.T, tiles.reshape(TILE * TILE, -1, grads.shape[2]), "inputs", out)


def _both_axes(matrix: Array, squares: Array, name: str, out: Array | None = None) -> Array:
    """M s M' for every square s: (n n, tiles, C) -> (m m, tiles, C), with M of (m, n)."""
    xp = array_module(matrix, squares)
    after, before = matrix.shape
    _, tiles, channels = squares.shape
    columns = squares.reshape(before, before, tiles * channels).transpose(1, 0, 2)
    half = scratch(xp, "half", (before, after, tiles * channels), squares.dtype)
    xp.matmul(matrix, columns, out=half)
    if out is None:
        out = scratch(xp, name, (after * after, tiles, channels), squares.dtype)
    # Of (squares' columns, rows, ...) the second product makes (rows, columns, ...) again.
    xp.matmul(matrix, half.transpose(1, 0, 2), out=out.reshape(after, after, -1))
    return out


def _write_tiles(tiles: Array, b: Array, results: Array) -> None:
    """4x4 squares, (16, tiles, K), to the rows (H', W', K) they cover, cut at the edge."""
    xp = array_module(tiles, b, results)
    across = -(-results.shape[1] // TILE)
    squares = tiles.reshape(TILE, TILE, -1, across, tiles.shape[2])
    for i in range(TILE):
        for j in range(TILE):
            target = results[i::TILE, j::TILE]
            xp.add(squares[i, j, : target.shape[0], : target.shape[1]], b, out=target)


def _blocks(
    batch: int, rows: int, columns: int, channels: int, xp: ModuleType
) -> list[tuple[int, int, int]]:
    """(image, first, last row of tiles): so many tiles that a GEMM is worth its while."""
    down, across = -(-rows // TILE), -(-columns // TILE)
    tiles = max(GEMM_TILES, block_elements(xp) // (PATCH * PATCH * channels))
    count = -(-down * across // tiles)
    if not is_device(xp):
        threads = thread_count()
        count = -(-count // threads) * threads
    count = min(down, count)
    edges = [down * block // count for block in range(count + 1)]
    return [(image, first, last) for image in range(batch) for first, last in pairwise(edges)]


def _groups(
    blocks: list[tuple[int, int, int]], across: int, channels: int, xp: ModuleType
) -> Iterator[list[tuple[int, int, int]]]:
    """Blocks whose transforms together stay in the processor's last cache."""
    limit = GROUP_BLOCKS * block_elements(xp) // (PATCH * PATCH * channels)
    group: list[tuple[int, int, int]] = []
    tiles = 0
    for block in blocks:
        size = (block[2] - block[1]) * across
        if group and tiles + size > limit:
            yield group
            group, tiles = [], 0
        group.append(block)
        tiles += size
    yield group
