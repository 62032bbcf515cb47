"""The initial weights (section 3 of the paper): Gaussian, standard deviation sqrt(2 / N).

With N the incoming nodes of a neuron, a convolution followed by a ReLU passes on the mean
square of its input (He et al. 2015), so that none of the 23 layers makes the feature maps
larger or smaller. What stands between those layers does: a max pooling picks the largest of
four, and an up-convolution has no ReLU behind it that would halve what it doubled. Through
the whole network the feature maps therefore grow, about fivefold in standard deviation on
white noise.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from unet_np.backend import STREAMS, Array, asarray, default_rng
from unet_np.network import kinds
from unet_np.network.architecture import Architecture


def store_weight(kind: str, weight: Array, xp: ModuleType, dtype: Any) -> Array:
    """The weight in the memory order that the convolutions read fastest.

    Parameters
    ----------
    kind : str
        The layer's kind, as in `Layer.kind`.
    weight : array
        In PyTorch's shape: (K, C, kh, kw) for a convolution, (C, K, 2, 2) for an
        up-convolution, (K, C) for a linear layer, with C channels in and K channels out.
        Those of fewer axes, such as biases, stay as they are.
    xp : module
        The library of the result, ``numpy`` or ``cupy``.
    dtype : dtype
        Of the result.

    Returns
    -------
    array
        A copy of the same shape and values: a view of an array laid out (kh, kw, C, K),
        for an up-convolution (C, 2, 2, K), for a linear layer (C, K).

    Examples
    --------
    >>> weight = store_weight("conv", np.zeros((8, 4, 3, 3)), np, "float32")
    >>> weight.shape, weight.transpose(2, 3, 1, 0).flags.c_contiguous
    ((8, 4, 3, 3), True)
    >>> weight = store_weight("upconv", np.zeros((8, 4, 2, 2)), np, "float32")
    >>> weight.shape, weight.transpose(0, 2, 3, 1).flags.c_contiguous
    ((8, 4, 2, 2), True)
    """
    order = kinds.find(kind).memory_order
    if len(order) != weight.ndim:
        order = tuple(range(weight.ndim))
    back = tuple(order.index(axis) for axis in range(weight.ndim))
    # Where it is: on a GPU, float64 would leave gaps in the memory pool.
    stored = weight.transpose(order).astype(dtype, order="C", copy=True)
    return asarray(stored, xp).transpose(back)


def gaussian_init(
    architecture: Architecture, seed: int, xp: ModuleType = np, dtype: Any = "float32"
) -> dict[str, Array]:
    """Weights drawn from N(0, sqrt(2 / N)); biases begin as zero, others as their kind says.

    N is the number of incoming nodes of one neuron (`Layer.fan_in`): 9 x 64 for a 3x3
    convolution of 64 channels, the paper's example. In the 2x2 up-convolution with stride
    2 each output pixel has one incoming pixel, so there N is the number of input channels.
    The paper makes no exception for the layers without a ReLU behind them, the up-convolutions
    and the 1x1 output layer, nor does this function.

    Parameters
    ----------
    architecture : Architecture
        The table of layers.
    seed : int
        At least 0. The numbers are drawn on the host in float64, layer by layer, so every
        library and dtype starts from the same weights up to rounding.
    xp : module
        ``numpy`` or ``cupy``.
    dtype : dtype
        Of the result.

    Returns
    -------
    dict
        Name to array, in the order in which data meets the layers, a weight before its
        bias; shapes as in PyTorch, memory order as `store_weight`.

    Examples
    --------
    >>> params = gaussian_init(Architecture(base_channels=4), seed=0)
    >>> list(params)[:2], len(params)
    (['contract1.conv1.weight', 'contract1.conv1.bias'], 46)
    >>> sum(p.size for p in params.values()) == Architecture(base_channels=4).parameters
    True
    """
    rng = default_rng(np, (seed, STREAMS["init"]))
    params: dict[str, Array] = {}
    for layer in architecture.layers:
        start = layer.its_kind.start
        for name, shape in layer.parameter_shapes.items():
            if name in start:
                array = np.full(shape, start[name])
            else:
                array = rng.normal(0.0, np.sqrt(2.0 / layer.fan_in), shape)
            params[f"{layer.name}.{name}"] = store_weight(layer.kind, array, xp, dtype)
    return params


def initial_buffers(
    architecture: Architecture, xp: ModuleType = np, dtype: Any = "float32"
) -> dict[str, Array]:
    """The running statistics of batch normalisation before any training: means 0, variances 1.

    Examples
    --------
    >>> initial_buffers(Architecture())
    {}
    >>> list(initial_buffers(Architecture(norm="batch")))[:2]
    ['contract1.bn1.mean', 'contract1.bn1.var']
    """
    return {
        f"{layer.name}.{name}": xp.full(shape, layer.its_kind.start[name], dtype)
        for layer in architecture.layers
        for name, shape in layer.buffer_shapes.items()
    }
