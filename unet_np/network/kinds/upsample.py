"""Up-sampling by 2 without weights, before a convolution that halves the channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from unet_np import ops
from unet_np.backend import Array
from unet_np.network.kinds.kind import Graph, Kind, register

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("upsample")
class UpSample(Kind):
    """Each pixel four times, or bilinear interpolation."""

    words = "up-sample {kernel}x{kernel} {mode}"

    def output_size(self, layer: Layer, size: int) -> int:
        return 2 * size - 2 * _left_out(layer)

    def needed(self, layer: Layer, first: int, last: int) -> tuple[int, int]:
        if layer.mode == "nearest":
            return first // 2, last // 2
        lost = _left_out(layer)
        return (first + lost - 1) // 2, (last + lost + 1) // 2

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        return ops.upsample(x, layer.mode, layer.padding)

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        return ops.upsample_backward(grad, cache)

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        scales = graph.constant("scales", np.array([1, 1, 2, 2], np.float32))
        if layer.mode == "nearest":
            rule = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        else:
            rule = {"coordinate_transformation_mode": "half_pixel"}
        mode = "nearest" if layer.mode == "nearest" else "linear"
        result = graph.node("Resize", layer, [value, "", scales], mode=mode, **rule)
        if not _left_out(layer):
            return result
        window = {"one": [1, 1], "minus_one": [-1, -1], "height_and_width": [2, 3]}
        inputs = [graph.constant(name, np.array(numbers)) for name, numbers in window.items()]
        return graph.node("Slice", layer, [result, *inputs], "inner")


def _left_out(layer: Layer) -> int:
    """Rows (or columns) that are left out on each side.

    Bilinear pixels at the edge need what lies beyond it. A valid network leaves them out,
    or a tile would differ from the whole image.
    """
    return int(layer.mode == "bilinear" and not layer.padding)
