"""Instance normalisation (Ulyanov, Vedaldi and Lempitsky 2016), in the place of that of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from unet_np import ops
from unet_np.backend import Array
from unet_np.network.kinds.kind import Graph, Kind, Shape, register
from unet_np.ops.beyond.norm import EPSILON

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("instance_norm")
class InstanceNorm(Kind):
    """Each channel of each image to mean 0 and variance 1, scaled and shifted."""

    words = "instance norm"
    least_size = 2  # one pixel has no variance
    in_place = True
    start: ClassVar = {"weight": 1.0, "bias": 0.0}

    def parameter_shapes(self, layer: Layer) -> dict[str, Shape]:
        return {"weight": (layer.out_channels,), "bias": (layer.out_channels,)}

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        if run.gather:
            run.statistics[layer.name] = ops.channel_statistics(x)
        weight, bias = run.arrays(layer)
        given = run.statistics.get(layer.name)
        how = {"overwrite": True, "rectify": layer.name in run.before_relu}
        return ops.instance_norm(x, weight, bias, given, run.keep, **how)

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        grad_x, *grads = ops.instance_norm_backward(grad, cache, out=grad)
        run.set_grads(layer, *grads)
        return grad_x

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        inputs = [value, *graph.weights(layer)]
        return graph.node("InstanceNormalization", layer, inputs, epsilon=EPSILON)
