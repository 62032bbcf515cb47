"""Normalisation before the ReLU: not in the paper, usual in those after it.

Batch normalisation (Ioffe and Szegedy 2015) takes mean and variance of a batch in training, and
running ones of many batches afterwards. Instance normalisation (Ulyanov, Vedaldi and Lempitsky
2016) takes those of each image, in training and afterwards. With one tile a step, as in the paper,
both learn the same, but only the latter sees in prediction what it saw in training.
"""

from __future__ import annotations

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    channel_sums,
    for_row_blocks,
    has_kernels,
)
from unet_np.errors import InputError
from unet_np.ops.activation import rectifier
from unet_np.ops.beyond import norm_cuda

Cache = tuple[Array, Array, bool]
Statistics = tuple[Array, Array]
MOMENTUM = 0.1
EPSILON = 1e-5


def batch_norm(
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    train: bool = True,
    keep: bool = True,
    overwrite: bool = False,
    rectify: bool = False,
) -> tuple[Array, Cache | None]:
    """Each channel to mean 0 and variance 1, then scaled and shifted by learned numbers.

    z[n, c, i, j] = (x[n, c, i, j] - m[c]) / sqrt(v[c] + 1e-5)
    y[n, c, i, j] = weight[c] z[n, c, i, j] + bias[c]

    In training m and v are mean and variance of channel c over all N = B H W pixels of the
    batch, and the running statistics move a tenth of the way to them:

    mean <- 0.9 mean + 0.1 m,    var <- 0.9 var + 0.1 v N / (N - 1)

    Otherwise m and v are the running statistics. All as in PyTorch.

    Parameters
    ----------
    x : array (B, C, H, W)
        Feature maps.
    weight, bias : array (C,)
        Called gamma and beta by Ioffe and Szegedy.
    mean, var : array (C,)
        Running statistics; changed in place in training.
    train : bool
        Whether the statistics are those of the batch.
    keep : bool
        Whether to keep what the backward pass needs.
    overwrite : bool
        Whether the memory of `x` may be used for results.
    rectify : bool
        Whether to give max(y, 0), the ReLU that follows, made while y is in the cache.

    Returns
    -------
    y : array (B, C, H, W)
        Of the dtype of `x`.
    cache : tuple or None
        z, weight / sqrt(v + 1e-5), and `train`; None without `keep`.

    Raises
    ------
    InputError
        If shapes disagree, or a training batch has one number in each channel, whose variance
        says nothing.

    Examples
    --------
    >>> import numpy as np
    >>> x, mean, var = np.array([[[[1.0, 5.0]]]]), np.zeros(1), np.ones(1)
    >>> y, cache = batch_norm(x, np.ones(1), np.zeros(1), mean, var)
    >>> y.round(3), mean, var
    (array([[[[-1.,  1.]]]]), array([0.3]), array([1.7]))
    """
    count = _check(
        x, {"weight": weight, "bias": bias, "mean": mean, "var": var}, "a batch" if train else ""
    )
    xp = array_module(x, weight, bias, mean, var)
    z = x if overwrite else xp.empty_like(x)
    y = xp.empty_like(x) if keep else z
    now, scale = _normalise(x, z, y, weight, bias, None if train else (mean, var), rectify)
    if train:
        _follow(mean, now[0])
        _follow(var, now[1] * (count / (count - 1)))
    return y, (z, scale, train) if keep else None


def instance_norm(
    x: Array,
    weight: Array,
    bias: Array,
    statistics: Statistics | None = None,
    keep: bool = True,
    overwrite: bool = False,
    rectify: bool = False,
) -> tuple[Array, list[Cache] | None]:
    """Each channel of each image to mean 0 and variance 1, then scaled and shifted.

    z[n, c, i, j] = (x[n, c, i, j] - m[n, c]) / sqrt(v[n, c] + 1e-5)
    y[n, c, i, j] = weight[c] z[n, c, i, j] + bias[c]

    with m and v over the H W pixels of channel c of image n, as in PyTorch, or as they are given:
    the tiles of one image share the statistics of the whole.

    Parameters
    ----------
    x : array (B, C, H, W)
        Feature maps.
    weight, bias : array (C,)
        Learned.
    statistics : (array (C,), array (C,)), optional
        m and v for all of `x`, such as `channel_statistics` gives; by default those of each image.
    keep, overwrite, rectify : bool
        As in `batch_norm`.

    Returns
    -------
    y : array (B, C, H, W)
        Of the dtype of `x`.
    cache : list or None
        What `batch_norm` keeps, for each image, or once for all where `statistics` are given; None
        without `keep`.

    Raises
    ------
    InputError
        If shapes disagree, or an image has one number in each channel, whose variance says nothing.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, 5.0]]], [[[10.0, 50.0]]]])
    >>> instance_norm(x, np.ones(1), np.zeros(1))[0].round(3).tolist()
    [[[[-1.0, 1.0]]], [[[-1.0, 1.0]]]]
    """
    given = {} if statistics is None else {"mean": statistics[0], "var": statistics[1]}
    whose = "an image" if statistics is None else ""
    _check(x, {"weight": weight, "bias": bias, **given}, whose)
    xp = array_module(x, weight, bias, *given.values())
    z = x if overwrite else xp.empty_like(x)
    y = xp.empty_like(x) if keep else z
    together = statistics is not None or len(x) == 1
    views = [[a] if together else _images(a) for a in (x, z, y)]
    cache = []
    for part, centred, result in zip(*views, strict=True):
        _, scale = _normalise(part, centred, result, weight, bias, statistics, rectify)
        cache.append((centred, scale, statistics is None))
    return y, cache if keep else None


def channel_statistics(x: Array) -> Statistics:
    """Mean and variance of each channel over all B H W pixels.

    Parameters
    ----------
    x : array (B, C, H, W)
        Feature maps.

    Returns
    -------
    mean, var : array (C,)
        The variance is that of the differences from the mean: it is as good far from zero.

    Raises
    ------
    InputError
        If there is one number in each channel, or the shape is another.

    Examples
    --------
    >>> import numpy as np
    >>> channel_statistics(np.array([[[[1.0, 5.0]]], [[[1.0, 5.0]]]]))
    (array([3.]), array([4.]))
    """
    count = _check(x, {}, "a batch")
    if has_kernels(x):
        return norm_cuda.channel_moments(as_channels_last(x))
    mean = channel_sums(x) / count
    centred = (as_channels_last(x) - mean).transpose(0, 3, 1, 2)
    return mean, channel_sums(centred, times=centred) / count


def batch_norm_backward(
    grad_output: Array, cache: Cache, out: Array | None = None
) -> tuple[Array, Array, Array]:
    """Gradients of the batch normalisation, through the statistics of the batch too.

    With g = dE/dy and sums over the N = B H W pixels of a channel:

    dE/dbias   = sum of g
    dE/dweight = sum of g z
    dE/dx      = weight / sqrt(v + 1e-5) (g - dE/dbias / N - z dE/dweight / N)

    The two means are what mean and variance hand on. They are absent if the running
    statistics were used, which do not depend on x.

    Parameters
    ----------
    grad_output : array (B, C, H, W)
        dE/dy.
    cache : tuple
        From `batch_norm`.
    out : array (B, C, H, W), optional
        Where to write dE/dx; may be `grad_output`.

    Returns
    -------
    grad_x : array (B, C, H, W)
    grad_weight : array (C,)
    grad_bias : array (C,)

    Examples
    --------
    >>> import numpy as np
    >>> x, mean, var = np.array([[[[1.0, 5.0]]]]), np.zeros(1), np.ones(1)
    >>> y, cache = batch_norm(x, np.ones(1), np.zeros(1), mean, var)
    >>> grad_x, grad_weight, grad_bias = batch_norm_backward(np.array([[[[1.0, 3.0]]]]), cache)
    >>> bool(abs(grad_x).max() < 1e-5), grad_weight.round(3), grad_bias
    (True, array([2.]), array([4.]))
    """
    z, scale, train = cache
    xp = array_module(grad_output, z)
    grad_x = xp.empty_like(grad_output) if out is None else out
    if _by_kernels(z, grad_x) and has_kernels(z, grad_output):
        return grad_x, *norm_cuda.backward(grad_output, z, scale, train, grad_x)
    grad_bias, grad_weight = channel_sums(grad_output), channel_sums(grad_output, times=z)
    count = z.size // z.shape[1]
    means = grad_bias / count, grad_weight / count

    def call(grad: Array, z: Array, target: Array) -> None:
        if train:
            grad = grad - means[0]
            grad -= z * means[1]
        xp.multiply(grad, scale, out=target)

    for_row_blocks(call, grad_output, z, grad_x)
    return grad_x, grad_weight, grad_bias


def instance_norm_backward(
    grad_output: Array, cache: list[Cache], out: Array | None = None
) -> tuple[Array, Array, Array]:
    """Gradients of the instance normalisation: `batch_norm_backward` for each image by itself.

    Parameters
    ----------
    grad_output : array (B, C, H, W)
        dE/dy.
    cache : list
        From `instance_norm`.
    out : array (B, C, H, W), optional
        Where to write dE/dx; may be `grad_output`.

    Returns
    -------
    grad_x : array (B, C, H, W)
    grad_weight, grad_bias : array (C,)
        Sums over the images.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = instance_norm(np.array([[[[1.0, 5.0]]]]), np.ones(1), np.zeros(1))
    >>> instance_norm_backward(np.array([[[[1.0, 3.0]]]]), cache)[1:]
    (array([1.9999975]), array([4.]))
    """
    xp = array_module(grad_output)
    grad_x = xp.empty_like(grad_output) if out is None else out
    if len(cache) == 1:
        return batch_norm_backward(grad_output, cache[0], grad_x)
    parts = zip(_images(grad_output), cache, _images(grad_x), strict=True)
    sums = [batch_norm_backward(*part)[1:] for part in parts]
    weight, bias = (xp.stack(pair).sum(axis=0) for pair in zip(*sums, strict=True))
    return grad_x, weight, bias


def _normalise(
    x: Array,
    z: Array,
    y: Array,
    weight: Array,
    bias: Array,
    statistics: Statistics | None,
    rectify: bool,
) -> tuple[Statistics, Array]:
    """Fill z and y, one of which may be the other or x; the statistics, and what z is scaled by."""
    xp = array_module(x)
    if _by_kernels(x, z, y) and has_kernels(x, weight, bias, *(statistics or ())):
        return norm_cuda.normalise(x, z, y, weight, bias, statistics, EPSILON, rectify)
    count = x.size // x.shape[1]
    mean = channel_sums(x) / count if statistics is None else statistics[0]
    for_row_blocks(lambda x, z: xp.subtract(x, mean, out=z), x, z)
    var = channel_sums(z, times=z) / count if statistics is None else statistics[1]
    scale = 1 / xp.sqrt(var + EPSILON)
    positive = rectifier(x.shape[1], x.shape[3], x.dtype, xp) if rectify else None

    def finish(z: Array, y: Array) -> None:
        z *= scale
        xp.multiply(z, weight, out=y)
        y += bias
        if positive is not None:
            positive(y, ())

    for_row_blocks(finish, z, y)
    return (mean, var), weight * scale


def _images(maps: Array) -> list[Array]:
    """Each image as a batch of its own."""
    return [maps[n : n + 1] for n in range(len(maps))]


def _by_kernels(*maps: Array) -> bool:
    """Whether the maps are a GPU's and lie in memory as its kernels read and write them."""
    return has_kernels(*maps) and all(m.transpose(0, 2, 3, 1).flags.c_contiguous for m in maps)


def _follow(running: Array, now: Array) -> None:
    running *= 1 - MOMENTUM
    running += MOMENTUM * now


def _check(x: Array, numbers: dict[str, Array], whose: str = "") -> int:
    """The numbers in each channel; at least two where a batch or an image is measured."""
    if x.ndim != 4:
        raise InputError(f"x: got shape {x.shape}, expected (B, C, H, W)")
    for name, array in numbers.items():
        if array.shape != (x.shape[1],):
            raise InputError(f"{name}: got shape {array.shape}, expected ({x.shape[1]},)")
    count = x.shape[0] * x.shape[2] * x.shape[3]
    if whose == "an image":
        count = x.shape[2] * x.shape[3]
    if whose and count < 2:
        more = "tile or batch" if whose == "a batch" else "tile"
        raise InputError(
            f"x: got 1 number in each channel, expected at least 2 for the statistics of {whose}; "
            f"a larger {more} has them"
        )
    return count
