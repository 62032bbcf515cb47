"""The dropout at the end of the contracting path (section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_np import ops
from unet_np.backend import Array
from unet_np.network.kinds.kind import Graph, Kind, register

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass


@register("dropout")
class Dropout(Kind):
    """In training some numbers are 0; in prediction it does nothing."""

    words = "dropout"
    in_place = True

    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        return ops.dropout(x, run.dropout, run.rng) if run.train and run.dropout else (x, None)

    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        return grad if cache is None else ops.dropout_backward(grad, cache)

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        return value
