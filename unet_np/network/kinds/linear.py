"""The linear layer that ends a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_np import ops
from unet_np.backend import Array
from unet_np.network.kinds.kind import Graph, Kind, Shape, register

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("linear")
class Linear(Kind):
    """(B, C) to (B, K): a weighted sum of all channels for each class."""

    words = "linear"
    memory_order = (1, 0)

    def weight_shape(self, layer: Layer) -> Shape:
        return (layer.out_channels, layer.in_channels)

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        return ops.linear(x, *run.arrays(layer))

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        grad_x, *grads = ops.linear_backward(grad, cache)
        run.set_grads(layer, *grads)
        return grad_x

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        return graph.node("Gemm", layer, [value, *graph.weights(layer)], transB=1)
