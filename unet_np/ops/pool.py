"""Max pooling 2x2 with stride 2: the red arrows of Fig. 1."""

from __future__ import annotations

from unet_np.backend import (
    Array,
    array_module,
    empty_channels_last,
    for_row_blocks,
    has_kernels,
    scratch,
)
from unet_np.errors import InputError
from unet_np.ops import fused_cuda

# The four pixels of a window, row by row. The order decides ties.
WINDOW = ((0, 0), (0, 1), (1, 0), (1, 1))


def max_pool2d(x: Array) -> tuple[Array, tuple[Array, Array]]:
    """The largest of each 2x2 window.

    y[b, c, i, j] = max of x[b, c, 2i + m, 2j + n] over m, n in {0, 1}

    A last odd row or column belongs to no window and is left out, as in PyTorch. (The
    paper chooses sizes for which that never happens, and `UNet` insists on it.)

    Parameters
    ----------
    x : array (B, C, H, W)
        Feature maps, H and W at least 2.

    Returns
    -------
    y : array (B, C, H // 2, W // 2)
        Of the dtype of `x`.
    cache : tuple
        `x` and `y`, from which the backward pass finds the largest pixel again.

    Raises
    ------
    InputError
        If H or W is below 2.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4))[0]
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    xp = array_module(x)
    batch, channels, height, width = x.shape
    if min(height, width) < 2:
        raise InputError(f"x: got {height} x {width} pixels, expected at least 2 x 2")
    if has_kernels(x):
        y = fused_cuda.max_pool2d(x)
        return y, (x, y)
    y = empty_channels_last(xp, (batch, channels, height // 2, width // 2), x.dtype)

    def pool(x: Array, y: Array) -> None:
        # Whole rows first, in one long loop; pixels are as many short ones.
        rows = scratch(xp, "rows", x[::2].shape, x.dtype)
        xp.maximum(x[::2], x[1::2], out=rows)
        xp.maximum(rows[:, ::2], rows[:, 1::2], out=y)

    for_row_blocks(pool, _even(x), y, passes=2)
    return y, (x, y)


def max_pool2d_backward(grad_output: Array, cache: tuple[Array, Array]) -> Array:
    """Each window's gradient goes to its largest pixel: to the first one of several.

    Parameters
    ----------
    grad_output : array (B, C, H // 2, W // 2)
        dE/dy.
    cache : tuple
        From `max_pool2d`.

    Returns
    -------
    array (B, C, H, W)
        dE/dx.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = max_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]))
    >>> max_pool2d_backward(np.array([[[[7.0]]]]), cache)
    array([[[[0., 7.],
             [0., 0.]]]])
    """
    x, y = cache
    xp = array_module(grad_output, x)
    if has_kernels(x, grad_output) and grad_output.shape == y.shape:
        return fused_cuda.max_pool2d_backward(grad_output, x, y)
    grad_x = empty_channels_last(xp, x.shape, x.dtype)
    grad_x[:, :, 2 * y.shape[2] :] = 0
    grad_x[:, :, :, 2 * y.shape[3] :] = 0

    def route(x: Array, y: Array, grad: Array, grad_x: Array) -> None:
        free = xp.ones(y.shape, dtype=bool)
        for pixel, grad_pixel in zip(_windows(x), _windows(grad_x), strict=True):
            largest = (pixel == y) & free
            free ^= largest
            xp.multiply(grad, largest, out=grad_pixel)

    for_row_blocks(route, _even(x), y, grad_output, _even(grad_x), passes=4)
    return grad_x


def _even(x: Array) -> Array:
    """Without a last odd row or column."""
    return x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]


def _windows(x: Array) -> list[Array]:
    """The four pixels of each window of (h, W, C), as four views of half the size."""
    return [x[row::2, column::2] for row, column in WINDOW]
