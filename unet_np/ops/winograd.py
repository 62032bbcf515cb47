"""The 3x3 convolution with a quarter of the multiplications: Winograd's F(4x4, 3x3).

A 4x4 square of outputs needs a 6x6 square of inputs. Directly that is 16 x 9 = 144
multiplications; between transforms that hold only small constants, 36 are enough:

    Y = A' [ (G g G') * (B' d B) ] A        ' transposed, * number by number

with the 3x3 kernel g, the 6x6 inputs d and the 4x4 outputs Y (Lavin and Gray 2016,
equation 8, after Winograd 1980). Summed over input channels, the product in brackets is
36 matrix products of tiles x channels, one for each of the 36 places: work for a GEMM.

The three matrices follow from five points at which polynomials are multiplied (and
infinity as the sixth): 0, 1, -1, 2, -2, the ones of the reference.
"""

from __future__ import annotations

from functools import partial

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    empty,
    empty_channels_last,
    is_device,
    parallel_map,
    product,
    scratch,
    sum_of_products,
    thread_count,
)
from unet_np.ops.im2col import Finish
from unet_np.ops.winograd_tiles import (
    ALL,
    FEW_ELEMENTS,
    PATCH,
    Block,
    cut_blocks,
    group_blocks,
    group_elements,
    group_scratch,
    matrices,
    parts,
    transform_errors,
    transform_group,
    transform_inputs,
    write_outputs,
)

MIN_TILES = 40  # below, transforming the kernels does
MIN_TILES_OF_BLOCK = 144  # since a GEMM has to fetch the kernels for every block
SHARED = 2**14  # input x output channels, above which threads share the transform of kernels
WIDE = 2**17  # input x output channels, from which the transformed kernels get too large


def forward(
    x: Array, w: Array, b: Array | None, padding: int, finish: Finish | None = None
) -> Array:
    """(B, C, H, W) and (K, C, 3, 3) -> (B, K, H + 2 padding - 2, W + 2 padding - 2)."""
    return _convolve(x, w, b, padding, finish, turned=False)


def input_gradient(
    grad: Array, w: Array, x_shape: tuple[int, ...], padding: int, finish: Finish | None = None
) -> Array:
    """The gradient of a convolution is a convolution: padded, with the kernels turned by 180°."""
    cut = max(0, padding - 2)
    grad = grad[:, :, cut : cut + x_shape[2] + 2, cut : cut + x_shape[3] + 2]
    return _convolve(grad, w, None, max(0, 2 - padding), finish, turned=True)


def transform_kernels(w: Array, out: slice = ALL, turned: bool = False) -> Array:
    """G g G' for the kernels of some output channels: (K, C, 3, 3) -> (36, C, out).

    `turned` takes kernels turned by 180 degrees with input and output channels exchanged:
    (K, C, 3, 3) -> (36, K, out), `out` now being some of the C channels.
    """
    xp = array_module(w)
    _, _, gg = matrices(xp, w.dtype.str)
    taps = w.transpose(2, 3, 1, 0).reshape(9, w.shape[1], w.shape[0])
    if turned:
        gg, taps = xp.ascontiguousarray(gg[:, ::-1]), taps[:, out].transpose(0, 2, 1)
    else:
        taps = taps[:, :, out]
    rows, columns = taps.shape[1:]
    count = rows * columns
    kernels = scratch(xp, "kernels", (PATCH * PATCH, count), w.dtype)
    flat, step = taps.reshape(9, -1), -(-count // thread_count(xp)) if count > SHARED else count

    def call(first: int) -> None:
        xp.matmul(gg, flat[:, first : first + step], out=kernels[:, first : first + step])

    parallel_map(call, range(0, count, step), xp)
    return kernels.reshape(PATCH * PATCH, rows, columns)


def _convolve(
    x: Array, w: Array, b: Array | None, padding: int, finish: Finish | None, turned: bool
) -> Array:
    xp = array_module(x)
    batch, _, height, width = x.shape
    rows, columns = height + 2 * padding - 2, width + 2 * padding - 2
    y = empty_channels_last(xp, (batch, w.shape[turned], rows, columns), x.dtype)
    convolve = _convolve_wide if w.shape[0] * w.shape[1] >= WIDE else _convolve_narrow
    convolve(as_channels_last(x), w, b, y.transpose(0, 2, 3, 1), padding, finish, turned)
    return y


def _convolve_narrow(
    pixels: Array,
    w: Array,
    b: Array | None,
    results: Array,
    padding: int,
    finish: Finish | None,
    turned: bool,
) -> None:
    """Few channels, many tiles: all kernels once, then block by block."""
    xp = array_module(pixels)
    kernels = transform_kernels(w, ALL, turned)

    def call(block: Block) -> None:
        patches = transform_inputs(pixels[block.image], block, padding)
        _multiply(patches, kernels, b, results, finish, [block])

    channels = max(w.shape[:2])
    parallel_map(call, cut_blocks(results.shape, channels, MIN_TILES_OF_BLOCK, xp), xp)


def _convolve_wide(
    pixels: Array,
    w: Array,
    b: Array | None,
    results: Array,
    padding: int,
    finish: Finish | None,
    turned: bool,
) -> None:
    """Many channels, few tiles: all patches once, then some output channels at a time.

    The transformed kernels are four times the kernels and would be larger than all else.
    """
    xp = array_module(pixels)
    into, out = pixels.shape[3], results.shape[3]
    step = max(16, min(-(-out // thread_count(xp)), group_elements(xp) // 4 // (PATCH**2 * into)))
    transform = partial(transform_inputs, padding=padding)
    for group in group_blocks(cut_blocks(results.shape, into, 1, xp), into, xp):
        (patches,) = group_scratch(group, [into], pixels)
        transform_group(transform, pixels, group, patches)
        call = partial(_multiply_part, patches, w, b, results, finish, group, turned, step)
        parallel_map(call, range(0, out, step), xp)


def _multiply_part(
    patches: Array,
    w: Array,
    b: Array | None,
    results: Array,
    finish: Finish | None,
    group: list[Block],
    turned: bool,
    step: int,
    first: int,
) -> None:
    """Output channels `first` to `first + step` of all blocks of a group."""
    part = slice(first, first + step)
    kernels = transform_kernels(w, part, turned)
    b = None if b is None else b[part]
    _multiply(patches, kernels, b, results, finish, group, part)


def _multiply(
    patches: Array,
    kernels: Array,
    b: Array | None,
    results: Array,
    finish: Finish | None,
    group: list[Block],
    channels: slice = ALL,
) -> None:
    """(36, tiles, C) times (36, C, K), transformed back, to the results under the blocks."""
    xp = array_module(patches, kernels)
    shape = (PATCH * PATCH, patches.shape[1], kernels.shape[2])
    products = scratch(xp, "products", shape, patches.dtype)
    product(patches, kernels, products)
    if b is not None:
        # A tile's outputs all contain the place of point 1 (row 1, column 1) with factor 1.
        products[PATCH + 1] += b
    for block, part in zip(group, parts(group), strict=True):
        place = (*block.outputs, channels)
        write_outputs(products[:, part], results[place], block)
        if finish is not None:
            finish(results[place], place)


def weight_gradient(grad: Array, x: Array, w_shape: tuple[int, ...], padding: int) -> Array:
    """G' [ sum over tiles of (B' d B) * (A dE/dY A') ] G: the transposes of the same steps."""
    xp = array_module(grad, x)
    out, into = w_shape[:2]
    pixels, grads = as_channels_last(x), as_channels_last(grad)
    grad_w = empty(xp, (9, into, out), grad.dtype)
    grad_w[...] = 0
    transform = partial(transform_inputs, padding=padding)
    blocks, most = cut_blocks(grads.shape, max(into, out), 1, xp), group_elements(xp)
    if not is_device(xp):
        most = min(most, max(FEW_ELEMENTS, 4 * PATCH**2 * into * out))
    for group in group_blocks(blocks, into + out, xp, most):
        patches, errors = group_scratch(group, [into, out], pixels)
        transform_group(transform, pixels, group, patches)
        transform_group(transform_errors, grads, group, errors)
        _add_products(patches, errors, grad_w)
    return grad_w.reshape(3, 3, into, out).transpose(3, 2, 0, 1)


def _add_products(patches: Array, errors: Array, grad_w: Array) -> None:
    """Add the sums over tiles of patches * errors, transformed back, to (9, C, K)."""
    xp = array_module(patches, errors)
    into, out = grad_w.shape[1:]
    _, _, gg = matrices(xp, patches.dtype.str)
    # A thread takes some input channels of the sum over all tiles. Nothing is added by two
    # threads, so the order of additions is fixed.
    step = max(8, min(-(-into // thread_count(xp)), group_elements(xp) // 8 // (PATCH**2 * out)))

    def add(first: int) -> None:
        part = slice(first, first + step)
        some = patches[:, :, part]
        total = scratch(xp, "kernel sums", (PATCH * PATCH, some.shape[2], out), patches.dtype)
        sum_of_products(some, errors, total)
        taps = xp.matmul(gg.T, total.reshape(PATCH * PATCH, -1))
        grad_w[:, part] += taps.reshape(9, -1, out)

    parallel_map(add, range(0, into, step), xp)
