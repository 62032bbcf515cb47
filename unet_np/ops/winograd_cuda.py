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
from unet_np.ops.joined import Joined
from unet_np.ops.winograd_tiles import A_TRANSPOSED, B_TRANSPOSED, PATCH, TILE, G

ROOM = 46 * 2**20  # transformed numbers at a time: 184 MiB in float32
LEAST = 8  # part of them for tiles, also where the kernels' are more than there is room for
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
    REAL a[{PLACES}];"""
"""Which tile and channel a thread has, and where in the image they lie."""

_INSIDE = "top + i >= 0 && top + i < height && left + j >= 0 && left + j < width && tile < last"
_PART = "down, across, first, tiles, last"
_PLACE = "int height, int width, int channels, int padding, int down, int across, int first"
_SKIP = "before, tall, wide"
_JOINED = "int before, int tall, int wide"
"""How many channels the first of two maps has, of which the second ones are as large as the image,
and its height and width, of which the middle counts: the maps of `crop_concat`."""
_WHICH = """
    const int other = channel >= before, step = other ? channels - before : before;"""


def _cut_out(kernel: str, transform: str, size: int) -> str:
    """What transforms the squares of `size` that begin every four pixels, one for each thread."""
    return f"""
static __device__ void {kernel}(const int n, const REAL *image, const REAL *more, REAL *out,
                                {_PLACE}, int tiles, int last, {_JOINED}) {{
    {_FIND}
    {_WHICH}
    if (other) tall = height, wide = width;
    const size_t above = tile / (down * across) * (size_t)tall + (tall - height) / 2 + top;
    const size_t corner = (above * wide + (wide - width) / 2 + left) * step;
    const REAL *from = (other ? more + channel - before : image + channel) + corner;
    #pragma unroll
    for (int i = 0; i < {size}; i++)
        #pragma unroll
        for (int j = 0; j < {size}; j++)
            a[{PATCH} * i + j] = {_INSIDE} ? from[(i * wide + j) * step] : (REAL)0;
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

__global__ void cut_inputs(const REAL *image, const REAL *more, const REAL *taps, REAL *memory,
                           {_PLACE}, int tiles, int last, {_JOINED}, int rows, int columns,
                           int turned, int place_of_taps) {{
    {_NUMBER}
    const int m = n - tiles * channels;
    if (m < 0)
        patch(n, image, more, memory, height, width, channels, padding, {_PART}, {_SKIP});
    else
        taps_of(m, taps, memory + place_of_taps, rows, columns, turned);
}}

__global__ void cut_both(const REAL *image, const REAL *more, const REAL *grad, REAL *memory,
                         {_PLACE}, int tiles, int last, {_JOINED}, int rows, int columns,
                         int kernels, int errs) {{
    {_NUMBER}
    const int m = n - tiles * channels;
    if (m < 0)
        patch(n, image, more, memory, height, width, channels, padding, {_PART}, {_SKIP});
    else
        error(m, grad, grad, memory + errs, rows, columns, kernels, 0, {_PART}, kernels, rows,
              columns);
}}

__global__ void put_outputs(const REAL *memory, const REAL *bias, const REAL *kept, REAL *image,
                            REAL *more, {_PLACE}, int tiles, int last, int place_of_products,
                            int biased, int relu, int masked, int before) {{
    {_NUMBER}
    {_FIND}
    {_WHICH}
    const size_t line = (size_t)(tile / (down * across)) * height + top;
    const REAL *products = memory + place_of_products;
    const size_t corner = (line * width + left) * step;
    // There is no mask of two maps.
    const REAL *mask = kept + channel + corner;
    REAL *to = (other ? more + channel - before : image + channel) + corner;
    #pragma unroll
    for (int p = 0; p < {PLACES}; p++) a[p] = products[p * (size_t)(tiles * channels) + n];
    outputs(a);
    #pragma unroll
    for (int i = 0; i < {TILE}; i++)
        #pragma unroll
        for (int j = 0; j < {TILE}; j++) {{
            const REAL sum = a[{PATCH} * i + j] + (biased ? bias[channel] : 0);
            if ({_INSIDE}) {{
                const int at = (i * width + j) * step, kill = masked && !(mask[at] > 0);
                to[at] = kill || (relu && sum < 0) ? (REAL)0 : sum;
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


def forward(x: Array | Joined, w: Array, b: Array, padding: int, relu: bool = False) -> Array:
    """(B, C, H, W) and (K, C, 3, 3) -> (B, K, H + 2 padding - 2, W + 2 padding - 2)."""
    return _convolve(x, w, b, padding, relu=relu)


def input_gradient(
    grad: Array,
    w: Array,
    x_shape: tuple[int, ...],
    padding: int,
    kept: Array | None = None,
    before: int | None = None,
) -> Array | Joined:
    """As in `winograd`: a convolution with the kernels turned by 180 degrees; 0 where `kept` is.

    Of x whose first channels, so many as `before` says, were the cropped ones of a `Joined`, the
    gradients are two, of one size.
    """
    if (cut := padding - 2) > 0:
        grad = grad[:, :, cut : cut + x_shape[2] + 2, cut : cut + x_shape[3] + 2]
    how = True, False, kept, before
    return _convolve(grad, w, None, max(0, 2 - padding), *how)


def weight_gradient(
    grad: Array, x: Array | Joined, w_shape: tuple[int, ...], padding: int
) -> Array:
    """As in `winograd`; the sum over tiles in parts, enough of them for all multiprocessors."""
    xp = array_module(grad)
    out, into = w_shape[:2]
    count = into * out
    maps, crop = _maps(x)
    grads = as_channels_last(grad)
    taps = empty(xp, (9, into, out), grad.dtype)
    blocks = PLACES * -(-into // BLOCK) * -(-out // BLOCK)
    most = max(1, BLOCKS // blocks)
    kept = count * (1 + most if most > 1 else 1) + most * (into + out)
    for first, tiles, last in _chunks(grad.shape, into + out, _left(kept)):
        parts = max(1, min(most, tiles // BLOCK))
        tiles = -(-tiles // parts) * parts  # those behind the last are zeros
        more = parts * count if parts > 1 else 0
        memory, patches, errors, sums, products = _memory(
            xp, grad.dtype, tiles * into, tiles * out, count, more
        )
        where = *x.shape[2:], into, padding, *_place(grad.shape), first, tiles, last
        cut = *where, *crop, *grads.shape[1:], errors
        run_kernel(SOURCE, "cut_both", tiles * (into + out), (*maps, grads, memory), *cut)
        sizes, places = (into, tiles // parts, out), (patches, errors, products if more else sums)
        products_within(memory, PLACES * parts, sizes, places, transposed=True)
        if more:
            run_kernel(SOURCE, "add_parts", PLACES * count, (memory,), sums, products, count, parts)
        run_kernel(SOURCE, "add_gradients", count, (memory, taps), sums, count, first > 0)
    return taps.reshape(3, 3, into, out).transpose(3, 2, 0, 1)


def _maps(x: Array | Joined) -> tuple[tuple[Array, Array], tuple[int, int, int]]:
    """Both maps, channels last, or the one twice; channels, height and width of the first."""
    if isinstance(x, Joined):
        return (as_channels_last(x.skip), as_channels_last(x.up)), x.skip.shape[1:]
    pixels = as_channels_last(x)
    return (pixels, pixels), x.shape[1:]


def _convolve(
    x: Array | Joined,
    w: Array,
    b: Array | None,
    padding: int,
    turned: bool = False,
    relu: bool = False,
    kept: Array | None = None,
    before: int | None = None,
) -> Array | Joined:
    xp = array_module(w)
    batch, into, height, width = x.shape
    out = w.shape[1 if turned else 0]
    shape = (batch, out, height + 2 * padding - 2, width + 2 * padding - 2)
    own = out if before is None else before
    y = empty_channels_last(xp, (batch, own, *shape[2:]), x.dtype)
    rest = y if own == out else empty_channels_last(xp, (batch, out - own, *shape[2:]), x.dtype)
    maps, crop = _maps(x)
    taps = xp.ascontiguousarray(w.transpose(2, 3, 1, 0))
    # A kernel wants an array in each place, also where it does not look at it.
    bias = y if b is None else xp.ascontiguousarray(b)
    zeros = y if kept is None else as_channels_last(kept)
    chunks = _chunks(shape, into + out, _left(into * out))
    most = chunks[0][1]
    memory, patches, products, kernels = _memory(xp, x.dtype, most * into, most * out, into * out)
    for first, tiles, last in chunks:
        where = *_place(shape), first, tiles, last
        # The kernels are transformed beside the first squares, and stay.
        sides = taps.shape[2:] if first == 0 else (0, 0)
        cut = height, width, into, padding, *where, *crop, *sides, turned, kernels
        threads = tiles * into + math.prod(sides)
        run_kernel(SOURCE, "cut_inputs", threads, (*maps, taps, memory), *cut)
        products_within(memory, PLACES, (tiles, into, out), (patches, kernels, products))
        put = *shape[2:], out, 0, *where, products, b is not None, relu, kept is not None, own
        run_kernel(SOURCE, "put_outputs", tiles * out, (memory, bias, zeros, y, rest), *put)
    return y if rest is y else Joined(y, rest)


def _memory(xp: ModuleType, dtype: Any, *counts: int) -> tuple[Any, ...]:
    """Uninitialised memory for 36 times so many numbers each, and where in it each part begins.

    It is one piece, which all layers use: pieces that come and go between maps that stay would
    leave gaps in CuPy's memory pool.
    """
    size, places = _layout(ROOM, *counts)
    return scratch(xp, "winograd", (size,), dtype), *places


@lru_cache
def _layout(room: int, *counts: int) -> tuple[int, list[int]]:
    ends = list(accumulate(ALIGNED * -(-PLACES * count // ALIGNED) for count in counts))
    # A layer of small maps does not take what the largest may; the first of a network is large.
    few = 2 * ends[-1] <= room
    return 2 ** (ends[-1] - 1).bit_length() if few else max(ends[-1], room), [0, *ends[:-1]]


def _left(kept: int) -> int:
    """How many numbers of tiles there is room for, beside 36 times so many that are not cut."""
    return max(ROOM - PLACES * kept - 4 * ALIGNED, ROOM // LEAST, 1)


def _place(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many tiles an image of (B, K, H', W') outputs has down and across."""
    return -(-shape[2] // TILE), -(-shape[3] // TILE)


@lru_cache
def _chunks(shape: tuple[int, ...], channels: int, elements: int) -> list[tuple[int, int, int]]:
    """The tiles of all images in parts of so many numbers at most: first, how many, and last.

    Examples
    --------
    >>> _chunks((2, 64, 568, 568), 128, 3 * 2**24)
    [(0, 10082, 10082), (10082, 10082, 20164), (20164, 10082, 30246), (30246, 10082, 40328)]
    """
    down, across = _place(shape)
    total = shape[0] * down * across
    tiles = -(-total // -(-total * PLACES * channels // elements))
    starts = range(0, total, tiles)
    return [(first, min(tiles, total - first), min(first + tiles, total)) for first in starts]
