"""The convolution as loops: slow, and obviously right."""

from __future__ import annotations

from unet_np.backend import Array, array_module


def forward(x: Array, w: Array, b: Array, padding: int) -> Array:
    """For each output number, the sum of the products of a window and a kernel."""
    xp = array_module(x)
    x = _pad(x, padding)
    batch, _, height, width = x.shape
    out, _, kh, kw = w.shape
    y = xp.empty((batch, out, height - kh + 1, width - kw + 1), x.dtype)
    for n, k, i, j in xp.ndindex(*y.shape):
        y[n, k, i, j] = (x[n, :, i : i + kh, j : j + kw] * w[k]).sum() + b[k]
    return y


def input_gradient(grad: Array, w: Array, x_shape: tuple[int, ...], padding: int) -> Array:
    """Each output number hands its gradient to the pixels of its window."""
    xp = array_module(grad, w)
    kh, kw = w.shape[2:]
    batch, into, height, width = x_shape
    grad_x = xp.zeros((batch, into, height + 2 * padding, width + 2 * padding), grad.dtype)
    for n, k, i, j in xp.ndindex(*grad.shape):
        grad_x[n, :, i : i + kh, j : j + kw] += grad[n, k, i, j] * w[k]
    return grad_x[:, :, padding : padding + height, padding : padding + width]


def weight_gradient(grad: Array, x: Array, w_shape: tuple[int, ...], padding: int) -> Array:
    """Each output number hands its gradient to the kernel that made it."""
    xp = array_module(grad, x)
    x = _pad(x, padding)
    kh, kw = w_shape[2:]
    grad_w = xp.zeros(w_shape, grad.dtype)
    for n, k, i, j in xp.ndindex(*grad.shape):
        grad_w[k] += grad[n, k, i, j] * x[n, :, i : i + kh, j : j + kw]
    return grad_w


def _pad(x: Array, padding: int) -> Array:
    sides = (padding, padding)
    return array_module(x).pad(x, ((0, 0), (0, 0), sides, sides))
