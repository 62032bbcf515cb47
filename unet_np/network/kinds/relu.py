"""The ReLU after each 3x3 convolution (Fig. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_np import ops
from unet_np.backend import Array
from unet_np.network.kinds.kind import Graph, Kind, register

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("relu")
class ReLU(Kind):
    """max(x, 0), in place: nobody needs the sums before it."""

    slot = "activation"
    words = "ReLU"
    in_place = True
    torch = "ReLU"

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        return (x, x) if layer.name in run.before_relu else ops.relu(x, out=x)

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        return grad if layer.name in run.after_relu else ops.relu_backward(grad, cache, out=grad)

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        return graph.node("Relu", layer, [value])
