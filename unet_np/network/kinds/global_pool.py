"""The mean of each feature map, at the end of a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_np import ops
from unet_np.backend import Array
from unet_np.network.kinds.kind import Graph, Kind, Shape, register

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("global_pool")
class GlobalPool(Kind):
    """(B, C, H, W) to (B, C)."""

    words = "global average pool"

    def output_size(self, layer: Layer, size: int) -> int:
        return 1

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        return shape[:2]

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        return ops.global_average_pool(x)

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        return ops.global_average_pool_backward(grad, cache)

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        pooled = graph.node("GlobalAveragePool", layer, [value], "pooled")
        return graph.node("Flatten", layer, [pooled])
