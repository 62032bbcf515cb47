"""Winograd's convolution on a GPU: the transforms as CUDA kernels, the products by cuBLAS.

The algorithm is `winograd`'s, F(4x4, 3x3), without its blocks. There a transform is a product
with a small matrix; here a thread has one tile of one channel in its registers, and the matrices
are written out as sums. Neighbouring threads have neighbouring channels, which lie side by side
in memory. No thread writes where another one does, so that the order of all sums is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from types import ModuleType
from typing import Any

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    empty,
    empty_channels_last,
    products_within,
    run_kernel,
    scratch,
)
from unet_np.ops.winograd_tiles import A_TRANSPOSED, B_TRANSPOSED, PATCH, TILE, G

ELEMENTS = 3 * 2**24  # transformed numbers of tiles at a time, which memory bounds
ROOM = 13 * 2**22  # numbers for them and for the kernels' of most layers: 208 MiB in float32
ALIGNED = 64  # numbers: where a matrix begins in memory
BLOCK = 64  # rows and columns of a product that one multiprocessor makes
BLOCKS = 1024  # of them at a time; some for each multiprocessor
PLACES = PATCH * PATCH


def _written_out(name: str, matrix: Sequence[Sequence[float]]) -> str:
    """CUDA functions for a matrix times a vector in memory, and for M s M' of a square.

    Examples
    --------
    >>> print(_written_out("both", [(1, -2), (0, 1)]).splitlines()[2].strip())
    a[0 * step] = (REAL)1 * v0 + (REAL)-2 * v1;
    """
    rows, columns = len(matrix), len(matrix[0])
    read = " ".join(f"REAL v{n} = a[{n} * step];" for n in range(columns))
    terms = [
        " + ".join(f"(REAL){factor!r} * v{n}" for n, factor in enumerate(row) if factor)
        for row in matrix
    ]
    write = "\n    ".join(f"a[{n} * step] = {sum_};" for n, sum_ in enumerate(terms))
    return f"""static __device__ void {name}_line(REAL *a, const int step) {{
    {read}
    {write}
}}
static __device__ void {name}(REAL a[{PLACES}]) {{
    #pragma unroll
    for (int n = 0; n < {columns}; n++) {name}_line(a + n, {PATCH});
    #pragma unroll
    for (int n = 0; n < {rows}; n++) {name}_line(a + {PATCH} * n, 1);
}}
"""


def _transposed(matrix: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    return list(zip(*matrix, strict=True))


_NUMBER = "const int n = blockIdx.x * blockDim.x + threadIdx.x;"
_FIND = f"""
    if (n >= tiles * channels) return;
    const int channel = n % channels, tile = first + n / channels, place = tile % (down * across);
    const int top = {TILE} * (place / across) - padding, left = {TILE} * (place % across) - padding;
    const size_t line = (size_t)(tile / (down * across)) * height + top;
    REAL a[{PLACES}];"""
"""Which tile and channel a thread has, and where in the image they lie."""

_INSIDE = "top + i >= 0 && top + i < height && left + j >= 0 && left + j < width && tile < last"
_PIXEL = "[((line + i) * width + left + j) * channels + channel]"
_PART = "down, across, first, tiles, last"
_PLACE = "int height, int width, int channels, int padding, int down, int across, int first"


def _cut_out(kernel: str, transform: str, size: int) -> str:
    """What transforms the squares of `size` that begin every four pixels, one for each thread."""
    return f"""
static __device__ void {kernel}(const int n, const REAL *image, REAL *out, {_PLACE}, int tiles,
                                int last) {{
    {_FIND}
    #pragma unroll
    for (int i = 0; i < {size}; i++)
        #pragma unroll
        for (int j = 0; j < {size}; j++)
            a[{PATCH} * i + j] = {_INSIDE} ? image{_PIXEL} : (REAL)0;
    {transform}(a);
    #pragma unroll
    for (int p = 0; p < {PLACES}; p++) out[p * (size_t)(tiles * channels) + n] = a[p];
}}
"""


SOURCE = (
    _written_out("inputs", B_TRANSPOSED)
    + _written_out("errors", _transposed(A_TRANSPOSED))
    + _written_out("outputs", A_TRANSPOSED)
    + _written_out("kernels", G)
    + _written_out("gradients", _transposed(G))
    + _cut_out("patch", "inputs", PATCH)
    + _cut_out("error", "errors", TILE)
    + f"""
static __device__ void taps_of(const int n, const REAL *taps, REAL *out, int rows, int columns,
                               int turned) {{
    const int count = rows * columns;
    if (n >= count) return;
    const int from = turned ? n % rows * columns + n / rows : n;
    REAL a[{PLACES}];
    #pragma unroll
    for (int t = 0; t < 9; t++)
        a[t / 3 * {PATCH} + t % 3] = taps[(turned ? 8 - t : t) * (size_t)count + from];
    kernels(a);
    #pragma unroll
    for (int p = 0; p < {PLACES}; p++) out[p * (size_t)count + n] = a[p];
}}

__global__ void cut_inputs(const REAL *image, const REAL *taps, REAL *memory, {_PLACE}, int tiles,
                           int last, int rows, int columns, int turned, int place_of_taps) {{
    {_NUMBER}
    const int m = n - tiles * channels;
    if (m < 0)
        patch(n, image, memory, height, width, channels, padding, {_PART});
    else
        taps_of(m, taps, memory + place_of_taps, rows, columns, turned);
}}

__global__ void cut_both(const REAL *image, const REAL *grad, REAL *memory, {_PLACE}, int tiles,
                         int last, int rows, int columns, int kernels, int errs) {{
    {_NUMBER}
    const int m = n - tiles * channels;
    if (m < 0)
        patch(n, image, memory, height, width, channels, padding, {_PART});
    else
        error(m, grad, memory + errs, rows, columns, kernels, 0, {_PART});
}}

__global__ void put_outputs(const REAL *memory, const REAL *bias, const REAL *kept, REAL *image,
                            {_PLACE}, int tiles, int last, int place_of_products, int biased,
                            int relu, int masked) {{
    {_NUMBER}
    {_FIND}
    const REAL *products = memory + place_of_products;
    #pragma unroll
    for (int p = 0; p < {PLACES}; p++) a[p] = products[p * (size_t)(tiles * channels) + n];
    outputs(a);
    #pragma unroll
    for (int i = 0; i < {TILE}; i++)
        #pragma unroll
        for (int j = 0; j < {TILE}; j++) {{
            const REAL sum = a[{PATCH} * i + j] + (biased ? bias[channel] : 0);
            if ({_INSIDE}) {{
                const int zero = (relu && sum < 0) || (masked && !(kept{_PIXEL} > 0));
                image{_PIXEL} = zero ? (REAL)0 : sum;
            }}
        }}
}}

__global__ void add_parts(REAL *memory, int sums, int products, int count, int parts) {{
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= {PLACES} * count) return;
    const REAL *part = memory + products + n / count * (size_t)parts * count + n % count;
    REAL sum = 0;
    for (int i = 0; i < parts; i++) sum += part[i * (size_t)count];
    memory[sums + n] = sum;
}}

__global__ void add_gradients(const REAL *memory, REAL *taps, int sums, int count, int more) {{
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    REAL a[{PLACES}];
    #pragma unroll
    for (int p = 0; p < {PLACES}; p++) a[p] = memory[sums + p * (size_t)count + n];
    gradients(a);
    #pragma unroll
    for (int t = 0; t < 9; t++) {{
        const REAL before = more ? taps[t * (size_t)count + n] : (REAL)0;
        taps[t * (size_t)count + n] = before + a[t / 3 * {PATCH} + t % 3];
    }}
}}
"""
)
"""All kernels; REAL is the arrays' type. Without a word of C++, so that a C compiler reads it."""


def forward(x: Array, w: Array, b: Array, padding: int, relu: bool = False) -> Array:
    """(B, C, H, W) and (K, C, 3, 3) -> (B, K, H + 2 padding - 2, W + 2 padding - 2)."""
    return _convolve(x, w, b, padding, relu=relu)


def input_gradient(
    grad: Array, w: Array, x_shape: tuple[int, ...], padding: int, kept: Array | None = None
) -> Array:
    """As in `winograd`: a convolution with the kernels turned by 180 degrees; 0 where `kept` is."""
    if (cut := padding - 2) > 0:
        grad = grad[:, :, cut : cut + x_shape[2] + 2, cut : cut + x_shape[3] + 2]
    return _convolve(grad, w, None, max(0, 2 - padding), turned=True, kept=kept)


def weight_gradient(grad: Array, x: Array, w_shape: tuple[int, ...], padding: int) -> Array:
    """As in `winograd`; the sum over tiles in parts, enough of them for all multiprocessors."""
    xp = array_module(grad, x)
    out, into = w_shape[:2]
    count = into * out
    pixels, grads = as_channels_last(x), as_channels_last(grad)
    taps = empty(xp, (9, into, out), grad.dtype)
    blocks = PLACES * -(-into // BLOCK) * -(-out // BLOCK)
    for first, tiles, last in _chunks(grad.shape, into + out, ELEMENTS):
        parts = max(1, min(BLOCKS // blocks, tiles // BLOCK))
        tiles = -(-tiles // parts) * parts  # those behind the last are zeros
        more = parts * count if parts > 1 else 0
        memory, patches, errors, sums, products = _memory(
            xp, grad.dtype, tiles * into, tiles * out, count, more
        )
        where = *pixels.shape[1:], padding, *_place(grad.shape), first, tiles, last
        cut = *where, *grads.shape[1:], errors
        run_kernel(SOURCE, "cut_both", tiles * (into + out), (pixels, grads, memory), *cut)
        sizes, places = (into, tiles // parts, out), (patches, errors, products if more else sums)
        products_within(memory, PLACES * parts, sizes, places, transposed=True)
        if more:
            run_kernel(SOURCE, "add_parts", PLACES * count, (memory,), sums, products, count, parts)
        run_kernel(SOURCE, "add_gradients", count, (memory, taps), sums, count, first > 0)
    return taps.reshape(3, 3, into, out).transpose(3, 2, 0, 1)


def _convolve(
    x: Array,
    w: Array,
    b: Array | None,
    padding: int,
    turned: bool = False,
    relu: bool = False,
    kept: Array | None = None,
) -> Array:
    xp = array_module(x, w)
    batch, into, height, width = x.shape
    out = w.shape[1 if turned else 0]
    shape = (batch, out, height + 2 * padding - 2, width + 2 * padding - 2)
    y = empty_channels_last(xp, shape, x.dtype)
    pixels = as_channels_last(x)
    taps = xp.ascontiguousarray(w.transpose(2, 3, 1, 0))
    # A kernel wants an array in each place, also where it does not look at it.
    bias = y if b is None else xp.ascontiguousarray(b)
    zeros = y if kept is None else as_channels_last(kept)
    chunks = _chunks(shape, into + out, ELEMENTS)
    most = chunks[0][1]
    memory, patches, products, kernels = _memory(xp, x.dtype, most * into, most * out, into * out)
    for first, tiles, last in chunks:
        where = *_place(shape), first, tiles, last
        # The kernels are transformed beside the first squares, and stay.
        sides = taps.shape[2:] if first == 0 else (0, 0)
        cut = height, width, into, padding, *where, *sides, turned, kernels
        threads = tiles * into + math.prod(sides)
        run_kernel(SOURCE, "cut_inputs", threads, (pixels, taps, memory), *cut)
        products_within(memory, PLACES, (tiles, into, out), (patches, kernels, products))
        put = *shape[2:], out, 0, *where, products, b is not None, relu, kept is not None
        run_kernel(SOURCE, "put_outputs", tiles * out, (memory, bias, zeros, y), *put)
    return y


def _memory(xp: ModuleType, dtype: Any, *counts: int) -> tuple[Any, ...]:
    """Uninitialised memory for 36 times so many numbers each, and where in it each part begins.

    It is one piece, which all layers use: pieces that come and go between maps that stay would
    leave gaps in CuPy's memory pool.
    """
    size, places = _layout(*counts)
    return scratch(xp, "winograd", (size,), dtype), *places


@lru_cache
def _layout(*counts: int) -> tuple[int, list[int]]:
    ends = list(accumulate(ALIGNED * -(-PLACES * count // ALIGNED) for count in counts))
    # A layer of small maps does not take what the largest may; the first of a network is large.
    size = min(2 ** (ends[-1] - 1).bit_length(), max(ends[-1], ROOM))
    return size, [0, *ends[:-1]]


def _place(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many tiles an image of (B, K, H', W') outputs has down and across."""
    return -(-shape[2] // TILE), -(-shape[3] // TILE)


@lru_cache
def _chunks(shape: tuple[int, ...], channels: int, elements: int) -> list[tuple[int, int, int]]:
    """The tiles of all images in parts of so many numbers at most: first, how many, and last.

    Examples
    --------
    >>> _chunks((2, 64, 568, 568), 128, ELEMENTS)
    [(0, 10082, 10082), (10082, 10082, 20164), (20164, 10082, 30246), (30246, 10082, 40328)]
    """
    down, across = _place(shape)
    total = shape[0] * down * across
    tiles = -(-total // -(-total * PLACES * channels // elements))
    starts = range(0, total, tiles)
    return [(first, min(tiles, total - first), min(first + tiles, total)) for first in starts]
