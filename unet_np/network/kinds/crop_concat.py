"""Copy and crop (Fig. 1): the skip connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from unet_np import ops
from unet_np.backend import Array, has_kernels
from unet_np.network.kinds.kind import Graph, Kind, register
from unet_np.ops.joined import Joined

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("crop_concat")
class CropConcat(Kind):
    """The middle of a map of the contracting path, before the channels from below."""

    words = "crop and concat {skip}"
    details = "crop and concatenate {skip}"

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array | Joined, Any]:
        skip = run.skips.pop(layer.skip)
        # The skip's gradient is made without the zeros around; `Pass.backward` adds to the middle.
        cache = (*skip.shape[:2], *x.shape[2:]), skip.shape[1]
        if layer.name in run.before_conv and has_kernels(skip, x):
            return Joined(skip, x), cache
        return ops.crop_concat(skip, x)[0], cache

    def backward(self, layer: Layer, grad: Array | Joined, cache: Any, run: Pass) -> Any:
        parts = grad if isinstance(grad, Joined) else ops.crop_concat_backward(grad, cache)
        run.skips[layer.skip], grad_up = parts
        return grad_up

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        """Height and width are free, so where the crop begins is computed in the graph."""
        skip = graph.outputs[layer.skip]
        two = graph.constant("two", np.array([2, 2]))
        axes = graph.constant("height_and_width", np.array([2, 3]))
        size = graph.node("Shape", layer, [value], "size", start=2)
        whole = graph.node("Shape", layer, [skip], "skip_size", start=2)
        lost = graph.node("Sub", layer, [whole, size], "lost")
        begin = graph.node("Div", layer, [lost, two], "begin")
        end = graph.node("Add", layer, [begin, size], "end")
        cropped = graph.node("Slice", layer, [skip, begin, end, axes], "cropped")
        return graph.node("Concat", layer, [cropped, value], axis=1)
