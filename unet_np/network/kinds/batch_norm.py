"""Batch normalisation (Ioffe and Szegedy 2015), between a convolution and its ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from unet_np import ops
from unet_np.backend import Array
from unet_np.network.kinds.kind import Graph, Kind, Shape, register
from unet_np.ops.beyond.norm import EPSILON

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("batch_norm")
class BatchNorm(Kind):
    """Each channel to mean 0 and variance 1, scaled and shifted; begins as identity."""

    words = "batch norm"
    in_place = True
    start: ClassVar = {"weight": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}

    def parameter_shapes(self, layer: Layer) -> dict[str, Shape]:
        return {"weight": (layer.out_channels,), "bias": (layer.out_channels,)}

    def buffer_shapes(self, layer: Layer) -> dict[str, Shape]:
        """The running statistics."""
        return {"mean": (layer.out_channels,), "var": (layer.out_channels,)}

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        # In place: what a convolution gives is read by nobody else.
        weight, bias, mean, var = run.arrays(layer)
        how = {"overwrite": True, "rectify": layer.name in run.before_relu}
        return ops.batch_norm(x, weight, bias, mean, var, run.train, run.keep, **how)

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        grad_x, *grads = ops.batch_norm_backward(grad, cache, out=grad)
        run.set_grads(layer, *grads)
        return grad_x

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        inputs = [value, *graph.weights(layer)]
        return graph.node("BatchNormalization", layer, inputs, epsilon=EPSILON)
