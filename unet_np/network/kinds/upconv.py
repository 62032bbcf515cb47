"""The up-convolution of the expansive path (Fig. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_np import ops
from unet_np.backend import Array
from unet_np.network.kinds.kind import Graph, Kind, Shape, register

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("upconv")
class UpConv(Kind):
    """A 2x2 convolution with stride 2, transposed."""

    words = "up-conv {kernel}x{kernel}"
    details = "up-conv {kernel}x{kernel} stride 2"
    convolution = True
    memory_order = (0, 2, 3, 1)

    def weight_shape(self, layer: Layer) -> Shape:
        return (layer.in_channels, layer.out_channels, layer.kernel, layer.kernel)

    def fan_in(self, layer: Layer) -> int:
        """An output pixel lies under exactly one position of the kernel."""
        return layer.in_channels

    def output_size(self, layer: Layer, size: int) -> int:
        return 2 * size

    def needed(self, layer: Layer, first: int, last: int) -> tuple[int, int]:
        return first // 2, last // 2

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        return ops.conv_transpose2d(x, *run.arrays(layer))

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        grad_x, *grads = ops.conv_transpose2d_backward(grad, cache)
        run.set_grads(layer, *grads)
        return grad_x

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        inputs = [value, *graph.weights(layer)]
        return graph.node("ConvTranspose", layer, inputs, strides=[2, 2])
