"""The convolution of Fig. 1's blue arrows, by one of several algorithms that agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from unet_np.backend import (
    MIN_SHARE,
    Array,
    array_module,
    as_channels_last,
    channel_sums,
    is_device,
    parallel_map,
    sharing,
    sharing_threads,
)
from unet_np.errors import InputError, integer
from unet_np.ops import (
    few_pixels,
    im2col,
    naive,
    winograd,
    winograd_cuda,
    winograd_rows,
    winograd_tiles,
)
from unet_np.ops.activation import kept_where_positive, rectifier, relu, relu_backward
from unet_np.ops.crop import center_crop, check_joining
from unet_np.ops.joined import Joined, together

Cache = tuple[Array | Joined, Array, int, str]

ALGORITHMS: dict[str, ModuleType] = {
    "naive": naive,
    "im2col": im2col,
    "few_pixels": few_pixels,
    "winograd": winograd,
    "winograd_rows": winograd_rows,
    "winograd_cuda": winograd_cuda,
}

IN_BLOCKS = ("im2col", "few_pixels", "winograd", "winograd_rows")
"""Those that work block by block, and can do a ReLU while a block is in the cache."""

APART, APART_OF_MORE = 16, 2
"""Shares of work below which two threads make the two gradients of a layer, one each: they meet
once, and neither sums what the other has. Of more than two threads the others would have nothing
to do."""

ON_GPU = "winograd_cuda"
"""What ``auto`` is on a GPU for 3x3 kernels."""


def conv2d(
    x: Array | Joined,
    w: Array,
    b: Array,
    padding: int = 0,
    algorithm: str = "auto",
    rectify: bool = False,
) -> tuple[Array, Cache]:
    """Convolution with stride 1 (as in all of deep learning, a cross-correlation).

    y[n, k, i, j] = b[k] + sum over c, m, l of x[n, c, i + m, j + l] w[k, c, m, l]

    Parameters
    ----------
    x : array (B, C, H, W) or Joined
        Feature maps; a GPU reads two of them as one, see `unet_np.ops.joined`.
    w : array (K, C, kh, kw)
        Weights, in PyTorch's order.
    b : array (K,)
        Bias.
    padding : int
        Zeros added on each side of `x`; 0 in the paper.
    algorithm : str
        One of ``auto`` and the names that follow. ``naive`` are loops, ``im2col`` is one matrix
        product, and so is ``few_pixels``, with many kernels for the whole batch at once, shared out
        among threads by channels; for 3x3 kernels, ``winograd`` needs about a quarter of the
        multiplications and ``winograd_rows`` half. ``winograd_cuda`` is ``winograd`` in kernels of
        its own, for arrays of a GPU. ``auto`` picks by shape and array library what is fastest.
    rectify : bool
        Whether to give max(y, 0), the ReLU that follows, made while y is in the cache.

    Returns
    -------
    y : array (B, K, H + 2 padding - kh + 1, W + 2 padding - kw + 1)
        Of the dtype of `x`, channels last in memory.
    cache : tuple
        `x`, `w`, padding and algorithm: no copy, no column matrix.

    Raises
    ------
    InputError
        If shapes or dtypes disagree, the kernel is larger than the padded image, or the
        algorithm is unknown or cannot do this kernel.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> w = np.array([[[[1.0, 0.0], [0.0, 2.0]]]])
    >>> conv2d(x, w, np.array([100.0]))[0]
    array([[[[108., 111.],
             [117., 120.]]]])
    """
    xp = array_module(*(x if isinstance(x, Joined) else (x,)), w, b)
    _check(x, w, b, padding, algorithm)
    rows = x.shape[2] + 2 * padding - w.shape[2] + 1
    columns = x.shape[3] + 2 * padding - w.shape[3] + 1
    y_shape = x.shape[0], w.shape[0], rows, columns
    name = choose(w.shape, y_shape, algorithm, xp)
    if name != "winograd_cuda":
        x = together(x)
    finish: list[Any] = []
    if rectify and name in IN_BLOCKS:
        finish = [rectifier(w.shape[0], columns, x.dtype, xp)]
    elif name == "winograd_cuda":
        finish = [rectify]
    with _sharing(w.shape, y_shape, xp):
        y = ALGORITHMS[name].forward(x, w, b, padding, *finish)
    if rectify and not finish:
        relu(y, out=y)
    return y, (x, w, padding, algorithm)


def conv2d_backward(
    grad_output: Array,
    cache: Cache,
    need_grad_x: bool = True,
    rectified: bool = False,
    need_grad_b: bool = True,
) -> tuple[Array, Array, Array]:
    """Gradients of the convolution.

    dE/dx[n, c, i, j] = sum over k, m, l of w[k, c, m, l] dE/dy[n, k, i - m, j - l]
    dE/dw[k, c, m, l] = sum over n, i, j of x[n, c, i + m, j + l] dE/dy[n, k, i, j]
    dE/db[k]          = sum over n, i, j of dE/dy[n, k, i, j]

    Parameters
    ----------
    grad_output : array (B, K, H', W')
        dE/dy.
    cache : tuple
        From `conv2d`.
    need_grad_x : bool
        False leaves dE/dx out and returns None in its place: nobody asks the first layer.
    rectified : bool
        Whether x came out of a ReLU: dE/dx is that of the ReLU's input then, 0 where x is 0.
    need_grad_b : bool
        False leaves dE/db out likewise, for a convolution without a bias.

    Returns
    -------
    grad_x : array (B, C, H, W) or Joined
        Joined where x was, with the gradient of the cropped skip.
    grad_w : array (K, C, kh, kw)
    grad_b : array (K,)

    Examples
    --------
    >>> import numpy as np
    >>> x, w = np.ones((1, 1, 3, 3)), np.full((1, 1, 2, 2), 5.0)
    >>> y, cache = conv2d(x, w, np.zeros(1))
    >>> grad_x, grad_w, grad_b = conv2d_backward(np.ones((1, 1, 2, 2)), cache)
    >>> grad_x[0, 0]
    array([[ 5., 10.,  5.],
           [10., 20., 10.],
           [ 5., 10.,  5.]])
    >>> grad_w[0, 0], grad_b
    (array([[4., 4.],
           [4., 4.]]), array([4.]))
    """
    x, w, _, _ = cache
    xp = array_module(grad_output, w)
    grad_output = as_channels_last(grad_output).transpose(0, 3, 1, 2)  # once for all three
    parameters = partial(_parameter_gradients, grad_output, cache, need_grad_b)
    if not need_grad_x:
        return None, *parameters()
    tasks = [parameters, partial(_input_gradient, grad_output, cache, rectified)]
    if not is_device(xp) and _are_apart(_work(w.shape, x.shape) / MIN_SHARE, sharing_threads(xp)):
        (grad_w, grad_b), grad_x = parallel_map(_by_one_thread, tasks, xp)
    else:
        (grad_w, grad_b), grad_x = (task() for task in tasks)
    return grad_x, grad_w, grad_b


def _parameter_gradients(grad_output: Array, cache: Cache, need_grad_b: bool) -> tuple[Any, Any]:
    x, w, padding, algorithm = cache
    xp = array_module(w)
    name = choose(w.shape, grad_output.shape, algorithm, xp, "w")
    with _sharing(w.shape, grad_output.shape, xp):
        grad_w = ALGORITHMS[name].weight_gradient(grad_output, x, w.shape, padding)
    return grad_w, channel_sums(grad_output) if need_grad_b else None


def _input_gradient(grad_output: Array, cache: Cache, rectified: bool) -> Array | Joined:
    x, w, padding, algorithm = cache
    xp = array_module(w)
    name = choose(w.shape, x.shape, algorithm, xp, "x")
    if rectified:
        x = together(x)
    finish: list[Any] = []
    if isinstance(x, Joined):
        finish = [None, x.skip.shape[1]]
    elif rectified and name == "winograd_cuda":
        finish = [x]
    elif rectified and name in IN_BLOCKS and not is_device(xp):
        finish = [kept_where_positive(x)]
    with _sharing(w.shape, x.shape, xp):
        grad_x = ALGORITHMS[name].input_gradient(grad_output, w, x.shape, padding, *finish)
    if rectified and not finish:
        relu_backward(grad_x, x, out=grad_x)
    return grad_x


def _are_apart(shares: float, threads: int) -> bool:
    """Whether two threads make a layer's gradients of so many shares of work, one each."""
    return threads > 1 and 1 <= shares < (APART if threads == 2 else APART_OF_MORE)


def _by_one_thread(task: Callable[[], Any]) -> Any:
    with sharing(0):
        return task()


def choose(
    w_shape: tuple[int, ...],
    shape: tuple[int, ...],
    algorithm: str,
    xp: ModuleType = np,
    of: str = "y",
) -> str:
    """The algorithm that ``auto`` stands for, by the shapes of kernels and maps (B, C, H, W).

    The maps are the output's `of` "y", the output itself, and of "w", the gradient of the kernels;
    of "x", that of the input, they are the input's. How many images there are does not count: what
    one of them gets is not to depend on those beside it.

    Examples
    --------
    >>> wide, narrow = (64, 64, 3, 3), (16, 1, 3, 3)
    >>> choose(wide, (1, 64, 568, 568), "auto"), choose(narrow, (1, 16, 570, 570), "auto")
    ('winograd', 'winograd_rows')
    """
    if algorithm != "auto":
        return algorithm
    out, into, kh, kw = w_shape
    if (kh, kw) != (3, 3):
        return "im2col"
    if is_device(xp):
        return ON_GPU
    rows, columns = shape[2:]
    if rows * columns <= few_pixels.MAX_PIXELS[of]:
        return "few_pixels"
    tiles = -(-rows // winograd_tiles.TILE) * -(-columns // winograd_tiles.TILE)
    few = winograd_rows.FEW_KERNELS
    if of == "w" or tiles < winograd.MIN_TILES:
        few = winograd_rows.FEW_KERNELS_ELSE
    if into * out <= few:
        return "winograd_rows"
    return "winograd" if tiles >= winograd.MIN_TILES else "few_pixels"


def _sharing(
    w_shape: tuple[int, ...], shape: tuple[int, ...], xp: ModuleType
) -> AbstractContextManager[None]:
    """As many threads as these kernels on these maps are worth."""
    return sharing(0 if is_device(xp) else _work(w_shape, shape), xp)


def _work(w_shape: tuple[int, ...], shape: tuple[int, ...]) -> float:
    """What these kernels take on these maps, in the unit of `sharing`."""
    out, into, kh, kw = w_shape
    pixels = math.prod(shape) // shape[1]
    return pixels * (out * into * kh * kw / 9 + 9 * (out + into))


def _check(x: Array | Joined, w: Array, b: Array, padding: int, algorithm: str) -> None:
    if isinstance(x, Joined):
        check_joining(*x)
        center_crop(x.skip, *x.shape[2:])
    if x.ndim != 4:
        raise InputError(f"x: got shape {x.shape}, expected (B, C, H, W)")
    if w.ndim != 4 or w.shape[1] != x.shape[1]:
        raise InputError(f"w: got shape {w.shape}, expected (K, {x.shape[1]}, kh, kw)")
    if b.shape != (w.shape[0],):
        raise InputError(f"b: got shape {b.shape}, expected ({w.shape[0]},)")
    if not x.dtype == w.dtype == b.dtype:
        raise InputError(f"x, w, b: got {x.dtype}, {w.dtype}, {b.dtype}, expected one dtype")
    integer("padding", padding, 0)
    for name, size, kernel in zip(("height", "width"), x.shape[2:], w.shape[2:], strict=True):
        if size + 2 * padding < kernel:
            raise InputError(
                f"x: got {name} {size} with padding {padding}, expected at least the kernel's "
                f"{kernel}; nearest valid {name} is {kernel - 2 * padding}"
            )
    if algorithm not in ("auto", *ALGORITHMS):
        names = ", ".join(("auto", *ALGORITHMS))
        raise InputError(f"algorithm: got {algorithm!r}, expected one of {names}")
    if algorithm.startswith("winograd") and w.shape[2:] != (3, 3):
        kernel = "x".join(map(str, w.shape[2:]))
        raise InputError(f"algorithm: got {algorithm!r} for a {kernel} kernel, expected 3x3")
    if algorithm == "winograd_cuda" and not is_device(array_module(w)):
        raise InputError(
            f"algorithm: got {algorithm!r} for arrays of NumPy, expected CuPy's; use 'winograd'"
        )
