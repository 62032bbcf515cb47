"""Up-convolution 2x2: the green arrows of Fig. 1, elsewhere called transposed convolution."""

from __future__ import annotations

from contextlib import AbstractContextManager

from unet_np.backend import (
    PASS,
    Array,
    array_module,
    as_channels_last,
    block_elements,
    channel_sums,
    copy_runs,
    empty_channels_last,
    has_kernels,
    parallel_map,
    scratch,
    sharing,
    sharing_threads,
    thread_count,
)
from unet_np.errors import InputError
from unet_np.ops import fused_cuda

Cache = tuple[Array, Array]


def conv_transpose2d(x: Array, w: Array, b: Array) -> tuple[Array, Cache]:
    """Each input pixel becomes a 2x2 square: kernel 2x2, stride 2.

    y[n, k, 2i + m, 2j + l] = b[k] + sum over c of x[n, c, i, j] w[c, k, m, l]

    The squares do not overlap, so the whole is one matrix product: pixels x channels
    times channels x (2 x 2 x K).

    Parameters
    ----------
    x : array (B, C, H, W)
        Feature maps.
    w : array (C, K, 2, 2)
        Weights, in PyTorch's order: input channels first.
    b : array (K,)
        Bias.

    Returns
    -------
    y : array (B, K, 2H, 2W)
        Of the dtype of `x`.
    cache : tuple
        `x` and `w`.

    Raises
    ------
    InputError
        If shapes or dtypes disagree.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, 10.0]]]])
    >>> w = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> conv_transpose2d(x, w, np.zeros(1))[0]
    array([[[[ 1.,  2., 10., 20.],
             [ 3.,  4., 30., 40.]]]])
    """
    xp = array_module(x, w, b)
    _check(x, w, b)
    if has_kernels(x):
        return fused_cuda.conv_transpose2d(x, _matrix(w), b), (x, w)
    batch, _, height, width = x.shape
    channels = w.shape[1]
    y = empty_channels_last(xp, (batch, channels, 2 * height, 2 * width), x.dtype)
    pixels, squares, weights = as_channels_last(x), _squares(y), _matrix(w)
    bias = xp.tile(b, 4 * width)

    def call(block: tuple[int, slice]) -> None:
        image, rows = block
        source = pixels[image, rows]
        shape = (source.shape[0], width, 2, 2 * channels)
        product = scratch(xp, "upconv", shape, x.dtype)
        xp.matmul(source.reshape(-1, source.shape[-1]), weights, out=_flat(product))
        lines = product.reshape(len(source), -1)
        lines += bias
        copy_runs(_runs(squares[image, rows]), product.swapaxes(1, 2))

    with _sharing(x, channels):
        parallel_map(call, _blocks(x, 4 * channels), xp)
    return y, (x, w)


def conv_transpose2d_backward(grad_output: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients of the up-convolution: the transposes of its one matrix product.

    dE/dx[n, c, i, j] = sum over k, m, l of w[c, k, m, l] dE/dy[n, k, 2i + m, 2j + l]
    dE/dw[c, k, m, l] = sum over n, i, j of x[n, c, i, j] dE/dy[n, k, 2i + m, 2j + l]
    dE/db[k]          = sum over n, i, j, m, l of dE/dy[n, k, 2i + m, 2j + l]

    Parameters
    ----------
    grad_output : array (B, K, 2H, 2W)
        dE/dy.
    cache : tuple
        From `conv_transpose2d`.

    Returns
    -------
    grad_x : array (B, C, H, W)
    grad_w : array (C, K, 2, 2)
    grad_b : array (K,)

    Examples
    --------
    >>> import numpy as np
    >>> x, w = np.full((1, 1, 1, 1), 3.0), np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> y, cache = conv_transpose2d(x, w, np.zeros(1))
    >>> grad_x, grad_w, grad_b = conv_transpose2d_backward(np.ones((1, 1, 2, 2)), cache)
    >>> float(grad_x.item()), grad_w.ravel(), grad_b
    (10.0, array([3., 3., 3., 3.]), array([4.]))
    """
    x, w = cache
    xp = array_module(grad_output, x)
    width, into, out = x.shape[3], x.shape[1], w.shape[1]
    expected = x.shape[0], out, 2 * x.shape[2], 2 * width
    if has_kernels(x, grad_output) and grad_output.shape == expected:
        grad_x, total = fused_cuda.conv_transpose2d_backward(grad_output, x, _matrix(w))
        return grad_x, _gradient(total, out), channel_sums(grad_output)
    grad_x = empty_channels_last(xp, x.shape, x.dtype)
    pixels, grad_pixels = as_channels_last(x), grad_x.transpose(0, 2, 3, 1)
    squares, weights = _squares(grad_output), _matrix(w)

    def call(share: int) -> None:
        total = sums[share]
        product = xp.empty_like(total)
        for image, rows in blocks[share::shares]:
            source = pixels[image, rows].reshape(-1, into)
            shape = (source.shape[0] // width, width, 2, 2 * out)
            gathered = scratch(xp, "upconv", shape, x.dtype)
            copy_runs(gathered.swapaxes(1, 2), _runs(squares[image, rows]))
            target = grad_pixels[image, rows].reshape(-1, into)
            xp.matmul(_flat(gathered), weights.T, out=target)
            total += xp.matmul(source.T, _flat(gathered), out=product)

    with _sharing(x, out):
        blocks = _blocks(x, 4 * out)
        # Each share of the blocks has a sum of its own: the order of all additions is fixed.
        shares = min(len(blocks), sharing_threads(xp))
        sums = xp.zeros((shares, into, 4 * out), x.dtype)
        parallel_map(call, range(shares), xp)
    return grad_x, _gradient(sums.sum(axis=0), out), channel_sums(grad_output)


def _matrix(w: Array) -> Array:
    """Weights as (C, 2 x 2 x K); a view if they are stored in that order."""
    return w.transpose(0, 2, 3, 1).reshape(w.shape[0], -1)


def _gradient(total: Array, out: int) -> Array:
    """That of `_matrix`, (C, 2 x 2 x K), as one of the weights, (C, K, 2, 2)."""
    return total.reshape(-1, 2, 2, out).transpose(0, 3, 1, 2)


def _squares(y: Array) -> Array:
    """(B, K, 2H, 2W) as (B, H, 2, W, 2, K): rows, rows in the square, columns, the same."""
    pixels = as_channels_last(y)
    batch, height, width, channels = pixels.shape
    return pixels.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _runs(squares: Array) -> Array:
    """(rows, 2, columns, 2, K) as (rows, 2, columns, 2 K): what lies side by side."""
    return squares.reshape(*squares.shape[:3], -1)


def _flat(product: Array) -> Array:
    """(rows, columns, 2, 2 K) as (pixels, 4 K)."""
    return product.reshape(product.shape[0] * product.shape[1], -1)


def _blocks(x: Array, channels: int) -> list[tuple[int, slice]]:
    """Rows of an image whose products fit the cache, and enough of them for all threads."""
    batch, _, height, width = x.shape
    xp = array_module(x)
    rows = block_elements(xp) // (width * channels)
    rows = max(1, min(rows, -(-height // thread_count(xp))), -(-256 // width))
    starts = range(0, height, rows)
    return [(image, slice(first, first + rows)) for image in range(batch) for first in starts]


def _sharing(x: Array, out: int) -> AbstractContextManager[None]:
    """As many threads as the up-convolution of x to so many channels is worth."""
    into = x.shape[1]
    work = x.size // into * (4 * into * out / 9 + PASS * (into + 4 * out))
    return sharing(work, array_module(x))


def _check(x: Array, w: Array, b: Array) -> None:
    if x.ndim != 4:
        raise InputError(f"x: got shape {x.shape}, expected (B, C, H, W)")
    if w.ndim != 4 or w.shape[0] != x.shape[1] or w.shape[2:] != (2, 2):
        raise InputError(f"w: got shape {w.shape}, expected ({x.shape[1]}, K, 2, 2)")
    if b.shape != (w.shape[1],):
        raise InputError(f"b: got shape {b.shape}, expected ({w.shape[1]},)")
    if not x.dtype == w.dtype == b.dtype:
        raise InputError(f"x, w, b: got {x.dtype}, {w.dtype}, {b.dtype}, expected one dtype")
