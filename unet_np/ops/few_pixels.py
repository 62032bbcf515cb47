"""The convolution of few pixels and many kernels, as at the bottom of the U on a small tile.

There it is the kernels that take time to fetch. So all pixels of the batch make one column matrix
(see `im2col`), the kernels are read as they lie in memory, and threads share out channels. On few
kernels it takes less Python than the faster algorithms.
"""

from __future__ import annotations

from types import ModuleType

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    empty,
    empty_channels_last,
    parallel_map,
    scratch,
    sharing_threads,
    strided,
)
from unet_np.ops.im2col import Finish, kernel_matrix

ALL = slice(None)
WIDE = 2**17  # numbers in the kernels

MAX_PIXELS = {"y": 512, "w": 512, "x": 200}
"""Outputs of an image up to which nothing is much faster at any width: for the convolution itself,
the gradient of its kernels, and that of its input, which has more passes."""


def forward(
    x: Array, w: Array, b: Array | None, padding: int, finish: Finish | None = None
) -> Array:
    """(B, C, H, W) and (K, C, kh, kw) -> (B, K, H', W')."""
    xp = array_module(x)
    out, _, kh, kw = w.shape
    rows, columns = x.shape[2] + 2 * padding - kh + 1, x.shape[3] + 2 * padding - kw + 1
    y = empty_channels_last(xp, (len(x), out, rows, columns), x.dtype)
    weights = kernel_matrix(w)
    # Wide kernels are fetched once for all images. With narrow ones a product is so small that BLAS
    # may add in another order if it has more rows or columns: one for each image, and whole.
    wide = weights.size >= WIDE
    groups = 1 if wide else len(x)
    pixels = rows * columns * (len(x) if wide else 1)
    cols = _columns(x, (kh, kw), padding).reshape(groups, pixels, len(weights))
    results = y.transpose(0, 2, 3, 1)
    flat = results.reshape(groups, pixels, out)

    def call(part: tuple[slice, slice]) -> None:
        some, channels = part
        target = flat[some, :, channels]
        xp.matmul(cols[some], weights[:, channels], out=target)
        if b is not None:
            target += b[channels]
        _finish(finish, results, channels, ALL if wide else some)

    by_channel = [(ALL, channels) for channels in parts(out, xp)]
    parallel_map(call, by_channel if wide else [(some, ALL) for some in parts(groups, xp)], xp)
    return y


def input_gradient(
    grad: Array, w: Array, x_shape: tuple[int, ...], padding: int, finish: Finish | None = None
) -> Array:
    """The columns' gradient, each number of it added where `im2col` had copied it from (col2im)."""
    xp = array_module(grad, w)
    out, into, kh, kw = w.shape
    batch, _, height, width = x_shape
    rows, columns = grad.shape[2:]
    grads = as_channels_last(grad).reshape(-1, out)
    taps = kernel_matrix(w).reshape(kh * kw, into, out).transpose(0, 2, 1)
    padded = batch, into, height + 2 * padding, width + 2 * padding
    sums = empty_channels_last(xp, padded, grad.dtype, zero=True).transpose(0, 2, 3, 1)
    inner = sums[:, padding : padding + height, padding : padding + width]

    def call(part: slice) -> None:
        shares = taps[:, :, part]
        product = scratch(xp, "product", (kh * kw, len(grads), shares.shape[2]), grad.dtype)
        xp.matmul(grads, shares, out=product)
        for (m, n), tap in zip(xp.ndindex(kh, kw), product, strict=True):
            sums[:, m : m + rows, n : n + columns, part] += tap.reshape(batch, rows, columns, -1)
        _finish(finish, inner, part)

    parallel_map(call, parts(into, xp), xp)
    return inner.transpose(0, 3, 1, 2)


def weight_gradient(grad: Array, x: Array, w_shape: tuple[int, ...], padding: int) -> Array:
    """The columns' transpose times the output's gradient."""
    xp = array_module(grad, x)
    out, into, kh, kw = w_shape
    cols, grads = _columns(x, (kh, kw), padding), as_channels_last(grad).reshape(-1, out)
    grad_w = empty(xp, (kh * kw * into, out), grad.dtype)

    def call(part: slice) -> None:
        xp.matmul(cols[:, part].T, grads, out=grad_w[part])

    parallel_map(call, parts(len(grad_w), xp), xp)
    return grad_w.reshape(kh, kw, into, out).transpose(3, 2, 0, 1)


def _columns(x: Array, kernel: tuple[int, int], padding: int) -> Array:
    """The windows of all images, each as a row: (B, C, H, W) -> (B H' W', kh x kw x C)."""
    xp, pixels = array_module(x), as_channels_last(x)
    if padding:
        pixels = xp.pad(pixels, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    (batch, height, width, channels), (kh, kw) = pixels.shape, kernel
    image, row, column, number = pixels.strides
    shape = (batch, height - kh + 1, width - kw + 1, kh, kw, channels)
    windows = strided(pixels, shape, (image, row, column, row, column, number))
    cols = scratch(xp, "columns", shape, x.dtype)
    cols[...] = windows
    return cols.reshape(-1, kh * kw * channels)


def _finish(finish: Finish | None, results: Array, channels: slice, images: slice = ALL) -> None:
    if finish is not None:
        for image in range(len(results))[images]:
            place = image, ALL, ALL, channels
            finish(results[place], place)


def parts(count: int, xp: ModuleType) -> list[slice]:
    """A share of so many channels or images for each thread.

    Examples
    --------
    >>> import numpy as np
    >>> from unet_np.backend import using_threads
    >>> with using_threads(2):
    ...     parts(5, np)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    step = max(1, -(-count // sharing_threads(xp)))
    return [slice(first, min(first + step, count)) for first in range(0, count, step)]
