"""The ReLU after each convolution (Fig. 1) and the dropout of section 3.1."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    empty_channels_last,
    for_row_blocks,
    has_kernels,
    is_device,
    run_kernel,
)
from unet_np.errors import InputError
from unet_np.ops import fused_cuda


def relu(x: Array, out: Array | None = None) -> tuple[Array, Array]:
    """Rectified linear unit, y = max(x, 0).

    Parameters
    ----------
    x : array (B, C, H, W)
        Feature maps.
    out : array (B, C, H, W), optional
        Where to write y; may be `x` itself, which then is overwritten.

    Returns
    -------
    y : array (B, C, H, W)
        Of the dtype of `x`.
    cache : array
        `y`: it is positive exactly where x was.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = relu(np.array([[[[-1.0, 2.0]]]]))
    >>> y
    array([[[[0., 2.]]]])
    """
    xp = array_module(x)
    y = xp.empty_like(x) if out is None else out
    if is_device(xp):
        xp.maximum(x, 0, out=y)
        return y, y
    # NumPy's loop over two arrays is four times as fast as the one over an array and a number.
    zeros = xp.zeros((x.shape[3], x.shape[1]), x.dtype)
    for_row_blocks(lambda x, y: xp.maximum(x, zeros, out=y), x, y)
    return y, y


def rectifier(
    channels: int, columns: int, dtype: Any, xp: ModuleType
) -> Callable[[Array, tuple[Any, ...]], Array]:
    """The ReLU of blocks (h, w, K) of maps with so many channels and columns, in place.

    Examples
    --------
    >>> import numpy as np
    >>> rectifier(1, 2, float, np)(np.array([[[-1.0], [2.0]]]), ()).ravel()
    array([0., 2.])
    """
    if is_device(xp):
        return lambda block, _: xp.maximum(block, 0, out=block)
    zeros = xp.zeros((columns, channels), dtype)  # see `relu`
    return lambda block, _: xp.maximum(block, zeros[: block.shape[1], : block.shape[2]], out=block)


def kept_where_positive(x: Array) -> Callable[[Array, tuple[Any, ...]], Array]:
    """What a ReLU with output `x` hands back of blocks (h, w, C) of gradients, in place.

    Examples
    --------
    >>> import numpy as np
    >>> hand_back = kept_where_positive(np.array([[[[0.0, 2.0]]]]))
    >>> hand_back(np.array([[5.0], [5.0]]), (0, 0)).ravel()
    array([0., 5.])
    """
    xp, pixels = array_module(x), as_channels_last(x)
    return lambda block, place: xp.multiply(block, pixels[place] > 0, out=block)


def relu_backward(grad_output: Array, cache: Array, out: Array | None = None) -> Array:
    """dE/dx = dE/dy where x > 0, else 0 (also at x = 0, as in PyTorch).

    Parameters
    ----------
    grad_output : array (B, C, H, W)
        dE/dy.
    cache : array
        From `relu`.
    out : array (B, C, H, W), optional
        Where to write; may be `grad_output`.

    Returns
    -------
    array (B, C, H, W)
        dE/dx.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = relu(np.array([[[[-1.0, 2.0]]]]))
    >>> relu_backward(np.full((1, 1, 1, 2), 5.0), cache)
    array([[[[0., 5.]]]])
    """
    xp = array_module(grad_output, cache)
    if has_kernels(grad_output, cache) and grad_output.shape == cache.shape:
        return fused_cuda.relu_backward(grad_output, cache, out)
    grad_x = xp.empty_like(grad_output) if out is None else out
    for_row_blocks(lambda g, y, o: xp.multiply(g, y > 0, out=o), grad_output, cache, grad_x)
    return grad_x


DROPOUT_SOURCE = """
__global__ void drop(const REAL *x, const float *numbers, REAL *y, int count, double p,
                     double scale) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < count) y[n] = x[n] * (numbers[n] >= (float)p) * (REAL)scale;
}
"""
"""`dropout` on a GPU, forward and backward; see `run_kernel`."""


def dropout(x: Array, p: float, rng: Any) -> tuple[Array, tuple[Array, float]]:
    """Set each number to 0 with probability p, divide the others by 1 - p.

    The division ("inverted" scaling) keeps the expected value, so that nothing is to be
    done at test time.

    Parameters
    ----------
    x : array (B, C, H, W)
        Feature maps.
    p : float
        Probability of a zero, 0 <= p < 1; 0.5 in the paper's released network.
    rng : numpy.random.Generator or cupy.random.Generator
        Of the library that made `x`. The same state gives the same zeros.

    Returns
    -------
    y : array (B, C, H, W)
        Of the dtype of `x`.
    cache : tuple
        Which numbers were kept, and the factor 1 / (1 - p); on a GPU the random numbers, and p.

    Raises
    ------
    InputError
        If p is not in [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = dropout(np.ones((1, 1, 1, 8)), 0.5, np.random.default_rng(0))
    >>> y
    array([[[[2., 2., 2., 0., 0., 0., 0., 0.]]]])
    """
    if not 0 <= p < 1:
        raise InputError(f"p: got {p}, expected 0 <= p < 1")
    xp = array_module(x)
    numbers = rng.random((len(x), *x.shape[2:], x.shape[1]), dtype=xp.float32)
    cache = numbers, float(p)
    if not has_kernels(x):
        cache = (numbers >= p).transpose(0, 3, 1, 2), 1 / (1 - p)
    return dropout_backward(x, cache), cache


def dropout_backward(grad_output: Array, cache: tuple[Array, float]) -> Array:
    """The same zeros and the same factor, applied to the gradient.

    Parameters
    ----------
    grad_output : array (B, C, H, W)
        dE/dy.
    cache : tuple
        From `dropout`.

    Returns
    -------
    array (B, C, H, W)
        dE/dx.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = dropout(np.ones((1, 1, 1, 4)), 0.5, np.random.default_rng(0))
    >>> dropout_backward(np.full((1, 1, 1, 4), 3.0), cache)
    array([[[[6., 6., 6., 0.]]]])
    """
    if has_kernels(grad_output):
        return _drop(grad_output, *cache)
    keep, scale = cache
    xp = array_module(grad_output)
    grad_x = empty_channels_last(xp, grad_output.shape, grad_output.dtype)

    def drop(grad: Array, keep: Array, out: Array) -> None:
        xp.multiply(grad, keep, out=out)
        out *= scale

    for_row_blocks(drop, grad_output, keep, grad_x)
    return grad_x


def _drop(x: Array, numbers: Array, p: float) -> Array:
    """The zeros and the factor by one kernel, which compares the random numbers once more."""
    y = empty_channels_last(array_module(x), x.shape, x.dtype)
    how = x.size, p, 1 / (1 - p)
    run_kernel(DROPOUT_SOURCE, "drop", x.size, (as_channels_last(x), numbers, y), *how)
    return y
