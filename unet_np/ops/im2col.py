"""The convolution as one matrix product: im2col.

Every window of the input becomes a row of a matrix, the columns; the kernels are the
columns of a second one; their product holds every output number. The column matrix is
kh x kw times as large as the input, so it is made for some rows of the image at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    block_elements,
    empty,
    empty_channels_last,
    is_device,
    parallel_map,
    scratch,
    sharing_threads,
    strided,
    thread_count,
)

# A matrix product needs some hundred rows to be worth fetching the weights for.
MIN_PIXELS = 384


# What is done to each block of the (B, H', W', K) results while it is in the cache: block, place.
Finish = Callable[[Array, tuple[Any, ...]], object]


def forward(
    x: Array, w: Array, b: Array | None, padding: int, finish: Finish | None = None
) -> Array:
    """(B, C, H, W) and (K, C, kh, kw) -> (B, K, H', W')."""
    xp = array_module(x)
    out, into, kh, kw = w.shape
    batch, _, height, width = x.shape
    rows, columns = height + 2 * padding - kh + 1, width + 2 * padding - kw + 1
    y = empty_channels_last(xp, (batch, out, rows, columns), x.dtype)
    pixels, results = as_channels_last(x), y.transpose(0, 2, 3, 1)
    weights, bias = kernel_matrix(w), b
    if b is not None and not is_device(xp):
        bias = xp.tile(b, columns)  # NumPy's loop over long lines is the faster one

    def call(block: tuple[int, int, int]) -> None:
        image, first, last = block
        cols = im2col(pixels[image], first, last, (kh, kw), padding)
        target = results[image, first:last].reshape(last - first, -1)
        xp.matmul(cols, weights, out=target.reshape(-1, out))
        if bias is not None:
            lines = target.reshape(-1, len(bias))
            lines += bias
        if finish is not None:
            finish(results[image, first:last], (image, slice(first, last)))

    parallel_map(call, _blocks(batch, rows, columns, into * kh * kw, xp), xp)
    return y


def input_gradient(
    grad: Array,
    w: Array,
    x_shape: tuple[int, ...],
    padding: int,
    finish: Finish | None = None,
    convolve: Callable[..., Array] = forward,
) -> Array:
    """The gradient of a convolution is a convolution: padded, with the kernels turned by 180°."""
    xp = array_module(grad, w)
    kh, kw = w.shape[2:]
    down, across = kh - 1 - padding, kw - 1 - padding
    cut = grad[:, :, max(-down, 0) :, max(-across, 0) :]
    cut = cut[:, :, : x_shape[2] + kh - 1, : x_shape[3] + kw - 1]
    if kh != kw:
        sides = (max(down, 0),) * 2, (max(across, 0),) * 2
        cut, down = xp.pad(cut, ((0, 0), (0, 0), *sides)), 0
    return convolve(cut, rotated(w), None, max(down, 0), finish)


def weight_gradient(grad: Array, x: Array, w_shape: tuple[int, ...], padding: int) -> Array:
    """The columns' transpose times the output's gradient."""
    xp = array_module(grad, x)
    out, into, kh, kw = w_shape
    batch, _, rows, columns = grad.shape
    pixels, grads = as_channels_last(x), as_channels_last(grad)
    blocks = _blocks(batch, rows, columns, into * kh * kw, xp)
    # Each share of the blocks has a sum of its own, so that the order of all additions is fixed.
    shares = min(len(blocks), sharing_threads(xp))
    sums = empty(xp, (shares, kh * kw * into, out), grad.dtype)

    def call(share: int) -> None:
        total = sums[share]
        total[...] = 0
        product = scratch(xp, "product", total.shape, grad.dtype)
        for image, first, last in blocks[share::shares]:
            cols = im2col(pixels[image], first, last, (kh, kw), padding)
            block = grads[image, first:last].reshape(-1, out)
            total += xp.matmul(cols.T, block, out=product)

    parallel_map(call, range(shares), xp)
    return sums.sum(axis=0).reshape(kh, kw, into, out).transpose(3, 2, 0, 1)


def im2col(
    pixels: Array, first: int, last: int, kernel: tuple[int, int], padding: int = 0
) -> Array:
    """The windows under output rows `first` to `last`, each as one row of a matrix.

    Parameters
    ----------
    pixels : array (H, W, C)
        One image, channels last.
    first, last : int
        Output rows, `last` not included.
    kernel : (int, int)
        kh, kw.
    padding : int
        Zeros around the image.

    Returns
    -------
    array ((last - first) x W', kh x kw x C)
        Scratch memory that the thread's next call overwrites; for a 1x1 kernel a view.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(9.0).reshape(3, 3, 1)
    >>> im2col(image, 0, 2, (2, 2))
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    xp = array_module(pixels)
    kh, kw = kernel
    rows, columns = last - first, pixels.shape[1] + 2 * padding - kw + 1
    strip = padded_window(
        pixels, first - padding, -padding, rows + kh - 1, pixels.shape[1] + 2 * padding
    )
    channels = strip.shape[2]
    if kernel == (1, 1):
        return strip.reshape(-1, channels)
    row, column, number = strip.strides
    shape = (rows, columns, kh, kw, channels)
    windows = strided(strip, shape, (row, column, row, column, number))
    cols = scratch(xp, "columns", windows.shape, pixels.dtype)
    cols[...] = windows
    return cols.reshape(rows * columns, -1)


def padded_window(pixels: Array, top: int, left: int, height: int, width: int) -> Array:
    """A window of an (H, W, C) image; zeros where it lies outside.

    `top` and `left` may be negative. A view where the window lies inside; else scratch memory
    that the thread's next call overwrites.

    Examples
    --------
    >>> import numpy as np
    >>> padded_window(np.ones((2, 2, 1)), -1, 0, 2, 3)[:, :, 0]
    array([[0., 0., 0.],
           [1., 1., 0.]])
    """
    channels = pixels.shape[2]
    inside = pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inside.shape[:2] == (height, width):
        return inside
    window = scratch(array_module(pixels), "window", (height, width, channels), pixels.dtype)
    first_row, first_column = max(-top, 0), max(-left, 0)
    last_row, last_column = first_row + inside.shape[0], first_column + inside.shape[1]
    window[:first_row] = 0
    window[last_row:] = 0
    window[first_row:last_row, :first_column] = 0
    window[first_row:last_row, last_column:] = 0
    window[first_row:last_row, first_column:last_column] = inside
    return window


def kernel_matrix(w: Array) -> Array:
    """(K, C, kh, kw) as (kh x kw x C, K); a view if the weights are stored in that order."""
    return w.transpose(2, 3, 1, 0).reshape(-1, w.shape[0])


def rotated(w: Array) -> Array:
    """Kernels turned by 180 degrees, input and output channels exchanged."""
    return w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)


def _blocks(
    batch: int, rows: int, columns: int, length: int, xp: ModuleType
) -> list[tuple[int, int, int]]:
    """(image, first row, last row): each with a column matrix that fits the cache."""
    pixels = max(MIN_PIXELS, block_elements(xp) // length)
    return cut(batch, rows, -(-rows * columns // pixels), xp)


def cut(batch: int, rows: int, count: int, xp: ModuleType) -> list[tuple[int, int, int]]:
    """(image, first row, last row): each image in `count` parts, or some more for all threads."""
    # What fits one block takes less time than another thread takes to wake.
    threads = thread_count(xp) if count > 1 else 1
    count = min(rows, -(-count // threads) * threads)
    # All of one height but the last, so that memory laid out for one block does for the next.
    edges = [*range(0, rows, -(-rows // count)), rows]
    return [(image, first, last) for image in range(batch) for first, last in pairwise(edges)]
