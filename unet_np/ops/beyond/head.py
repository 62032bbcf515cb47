"""What a classifier has at its end: the mean of each feature map, and a linear layer."""

from __future__ import annotations

from unet_np.backend import Array, array_module, channel_sums, empty_channels_last
from unet_np.errors import InputError

Shape = tuple[int, int, int, int]


def global_average_pool(x: Array) -> tuple[Array, Shape]:
    """The mean of each feature map.

    y[n, c] = 1 / (H W) sum over i, j of x[n, c, i, j]

    Parameters
    ----------
    x : array (B, C, H, W)
        Feature maps of any size.

    Returns
    -------
    y : array (B, C)
        Of the dtype of `x`.
    cache : tuple
        The shape of `x`.

    Raises
    ------
    InputError
        If `x` is not four-dimensional or has no pixel.

    Examples
    --------
    >>> import numpy as np
    >>> global_average_pool(np.array([[[[1.0, 2.0], [3.0, 6.0]]]]))[0]
    array([[3.]])
    """
    xp = array_module(x)
    if x.ndim != 4 or 0 in x.shape:
        raise InputError(f"x: got shape {x.shape}, expected (B, C, H, W) with pixels")
    sums = xp.stack([channel_sums(x[image : image + 1]) for image in range(x.shape[0])])
    sums /= x.shape[2] * x.shape[3]
    return sums, x.shape


def global_average_pool_backward(grad_output: Array, cache: Shape) -> Array:
    """Each pixel gets its share: dE/dx[n, c, i, j] = dE/dy[n, c] / (H W).

    Parameters
    ----------
    grad_output : array (B, C)
        dE/dy.
    cache : tuple
        From `global_average_pool`.

    Returns
    -------
    array (B, C, H, W)
        dE/dx.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = global_average_pool(np.zeros((1, 1, 1, 4)))
    >>> global_average_pool_backward(np.array([[8.0]]), cache)
    array([[[[2., 2., 2., 2.]]]])
    """
    grad_x = empty_channels_last(array_module(grad_output), cache, grad_output.dtype)
    grad_x[...] = (grad_output / (cache[2] * cache[3]))[:, :, None, None]
    return grad_x


def linear(x: Array, w: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
    """A weighted sum of all channels for each output: y = x w^T + b.

    Parameters
    ----------
    x : array (B, C)
        One vector for each image.
    w : array (K, C)
        Weights, in PyTorch's order.
    b : array (K,)
        Bias.

    Returns
    -------
    y : array (B, K)
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
    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([100.0]))[0]
    array([[111.]])
    """
    array_module(x, w, b)
    if x.ndim != 2:
        raise InputError(f"x: got shape {x.shape}, expected (B, C)")
    if w.ndim != 2 or w.shape[1] != x.shape[1]:
        raise InputError(f"w: got shape {w.shape}, expected (K, {x.shape[1]})")
    if b.shape != (w.shape[0],):
        raise InputError(f"b: got shape {b.shape}, expected ({w.shape[0]},)")
    if not x.dtype == w.dtype == b.dtype:
        raise InputError(f"x, w, b: got {x.dtype}, {w.dtype}, {b.dtype}, expected one dtype")
    y = x @ w.T
    y += b
    return y, (x, w)


def linear_backward(grad_output: Array, cache: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """Gradients of the linear layer: dE/dx = g w, dE/dw = g^T x, dE/db = sum of g over images.

    Parameters
    ----------
    grad_output : array (B, K)
        g = dE/dy.
    cache : tuple
        From `linear`.

    Returns
    -------
    grad_x : array (B, C)
    grad_w : array (K, C)
    grad_b : array (K,)

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.zeros(1))
    >>> linear_backward(np.array([[10.0]]), cache)
    (array([[30., 40.]]), array([[10., 20.]]), array([10.]))
    """
    x, w = cache
    array_module(grad_output, x)
    return grad_output @ w, grad_output.T @ x, grad_output.sum(axis=0)
