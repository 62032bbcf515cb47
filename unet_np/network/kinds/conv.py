"""The convolutions of Fig. 1: 3x3 twice in each block, 1x1 at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_np import ops
from unet_np.backend import Array, array_module
from unet_np.network.kinds.kind import Graph, Kind, Shape, register

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("conv")
class Conv(Kind):
    """A convolution, with or without a bias."""

    words = "conv {kernel}x{kernel}"
    details = "conv {kernel}x{kernel} pad {padding}"
    convolution = True
    # The output channels are innermost: they are the columns of the GEMM, next to each other as
    # in a feature map.
    memory_order = (2, 3, 1, 0)

    def weight_shape(self, layer: Layer) -> Shape:
        return (layer.out_channels, layer.in_channels, layer.kernel, layer.kernel)

    def fan_in(self, layer: Layer) -> int:
        """9 x 64 for 64 channels and a 3x3 kernel, the paper's example."""
        return layer.in_channels * layer.kernel**2

    def output_size(self, layer: Layer, size: int) -> int:
        return size - layer.kernel + 1 + 2 * layer.padding

    def needed(self, layer: Layer, first: int, last: int) -> tuple[int, int]:
        return first - layer.padding, last + layer.kernel - 1 - layer.padding

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        weight, *bias = run.arrays(layer)
        if not bias:
            bias = [array_module(weight).zeros(layer.out_channels, x.dtype)]
        rectify = layer.name in run.before_relu
        return ops.conv2d(x, weight, bias[0], padding=layer.padding, rectify=rectify)

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        rectified = layer.name in run.after_relu
        how = run.need_grad_x, rectified, layer.bias
        grad_x, *grads = ops.conv2d_backward(grad, cache, *how)
        run.set_grads(layer, *grads[: 1 + layer.bias])
        return grad_x

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        inputs = [value, *graph.weights(layer)]
        return graph.node("Conv", layer, inputs, pads=[layer.padding] * 4)
