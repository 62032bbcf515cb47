"""The max pooling of the contracting path (Fig. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_np import ops
from unet_np.backend import Array
from unet_np.network.kinds.kind import Graph, Kind, register

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("pool")
class Pool(Kind):
    """The largest of 2x2 pixels."""

    words = "max pool {kernel}x{kernel}"
    details = "max pool {kernel}x{kernel} stride 2"
    needs_even = True

    def output_size(self, layer: Layer, size: int) -> int:
        return size // 2

    def needed(self, layer: Layer, first: int, last: int) -> tuple[int, int]:
        return 2 * first, 2 * last + 1

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        return ops.max_pool2d(x)

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        return ops.max_pool2d_backward(grad, cache)

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        return graph.node("MaxPool", layer, [value], kernel_shape=[2, 2], strides=[2, 2])
