"""One pass through the network: what the layers share beside the maps that they hand on."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unet_np.backend import Array, array_module, for_row_blocks
from unet_np.network.layer import Layer
from unet_np.ops import Statistics, center_crop


@dataclass
class Pass:
    """A forward pass, and the backward pass that follows it.

    Attributes
    ----------
    state : mapping
        Parameters and buffers of the network, name to array.
    wanted : frozenset of str
        The layers whose output the expanding path will ask for.
    train : bool
        Whether dropout is on, and batch normalisation takes the statistics of this batch.
    keep : bool
        Whether a backward pass will follow.
    dropout : float
        Probability of a zero.
    rng : generator
        For the dropout; not asked without it.
    statistics : dict
        For instance normalisation: mean and variance by the layer's name; where there are none,
        each image has its own.
    gather : bool
        Whether to fill `statistics` from the maps that come along.
    before_relu, after_relu : frozenset of str
        The convolutions and normalisations with a ReLU right behind them, or the convolutions with
        one before them, and these ReLUs, where the other layer does their work: on the way forward
        or back, while a block is in the cache.
    before_conv : frozenset of str
        The joinings with a convolution right behind them, which reads from both maps on a GPU.
    need_grad_x : bool
        Whether the gradient of the layer's input is of use: nobody may ask for the image's.
    skips : dict
        The maps that wait for the expanding path, by the name of the layer that gave them; in
        the backward pass their gradients, cropped, which wait for the contracting path.
    caches : dict
        What each layer's backward needs, by the layer's name; empty without `keep`.
    grads : dict
        The gradients of the parameters, as far as the backward pass has come.

    Examples
    --------
    >>> import numpy as np
    >>> from unet_np import UNet
    >>> net = UNet(base_channels=4, depth=1, backend="numpy")
    >>> run, x = net.begin_pass(), np.zeros((1, 1, 28, 28), "float32")
    >>> for layer in net.architecture.layers[:5]:
    ...     x = run.forward(layer, x)
    >>> x.shape, list(run.skips)
    ((1, 4, 24, 24), ['contract1.dropout'])
    """

    state: Mapping[str, Array]
    wanted: frozenset[str]
    train: bool = False
    keep: bool = False
    dropout: float = 0.0
    rng: Any = None
    statistics: dict[str, Statistics] = field(default_factory=dict)
    gather: bool = False
    before_relu: frozenset[str] = frozenset()
    after_relu: frozenset[str] = frozenset()
    before_conv: frozenset[str] = frozenset()
    need_grad_x: bool = True
    skips: dict[str, Array] = field(default_factory=dict)
    caches: dict[str, Any] = field(default_factory=dict)
    grads: dict[str, Array] = field(default_factory=dict)

    def forward(self, layer: Layer, x: Array) -> Array:
        """The layer's output, from its input, which may be overwritten."""
        y, cache = layer.its_kind.forward(layer, x, self)
        if self.keep:
            self.caches[layer.name] = cache
        if layer.name in self.wanted:
            self.skips[layer.name] = y
        return y

    def backward(self, layer: Layer, grad: Array) -> Any:
        """The gradient of the layer's input, from that of its output, which may be overwritten."""
        if layer.name in self.wanted:
            add, across = array_module(grad).add, self.skips.pop(layer.name)
            middle = center_crop(grad, *across.shape[2:])
            for_row_blocks(lambda a, b: add(a, b, out=a), middle, across)
        return layer.its_kind.backward(layer, grad, self.caches.pop(layer.name), self)

    def arrays(self, layer: Layer) -> list[Array]:
        """The layer's parameters, then its buffers, in the order of their shapes."""
        return [self.state[name] for name in layer.array_names]

    def set_grads(self, layer: Layer, *grads: Array) -> None:
        """Keep the gradients of the layer's parameters, in the order of their shapes."""
        self.grads.update(zip(layer.parameter_names, grads, strict=True))


class Waiting(threading.local):
    """The pass that waits for its backward, one for each thread: others may predict meanwhile."""

    run: Pass | None = None
    shape: tuple[int, ...] = ()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        # A copy of the network waits for nothing.
        return type(self), ()
