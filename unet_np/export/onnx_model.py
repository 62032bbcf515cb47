"""To other people's tools: the network as an ONNX file.

The graph is built from the same table of layers as the network (`Architecture.layers`), without
PyTorch. Batch, height and width are free: each crop is computed inside the graph.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_np import backend
from unet_np.errors import require
from unet_np.files import atomic_write
from unet_np.files.ours import PRODUCER
from unet_np.network.layer import Layer

if TYPE_CHECKING:
    from unet_np.network.unet import UNet

OPSET = 17
"""Version of ONNX's operators; runtimes since 2022 know it."""

NORMALISATION = "zero mean and unit variance of each channel of each image"
"""What the network expects of its input; see `unet_np.images.normalise`."""

TOLERANCE = 1e-4
"""Largest difference of logits between this package and ONNX Runtime that `save_onnx` accepts."""


def to_onnx(net: UNet) -> Any:
    """The network as an ONNX model.

    Parameters
    ----------
    net : UNet
        The network; dropout is off, and batch normalisation takes its running statistics.

    Returns
    -------
    onnx.ModelProto
        Input ``image``, float32 (batch, in_channels, height, width); output ``logits``, (batch,
        num_classes, height - margin, width - margin), or (batch, num_classes) where the output
        is a vector. Weights have the names of ``net.params``. The metadata hold the architecture
        as JSON, the normalisation of the input and the sizes that work.

    Raises
    ------
    MissingExtraError
        If onnx is not installed.

    Examples
    --------
    >>> from unet_np import UNet
    >>> model = to_onnx(UNet(base_channels=2, depth=1))
    >>> [node.op_type for node in model.graph.node][:4]
    ['Conv', 'Relu', 'Conv', 'Relu']
    """
    onnx = require("onnx", "onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    table = net.architecture
    graph = _Graph(onnx, net)
    value = "image"
    for layer in table.layers:
        value = graph.add(layer, value)
    image = ["batch", table.in_channels, "height", "width"]
    logits: list[Any] = ["batch", table.num_classes]
    if table.has_map:
        logits += ["output_height", "output_width"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "unet",
            [helper.make_tensor_value_info("image", kind, image)],
            [helper.make_tensor_value_info("logits", kind, logits)],
            graph.tensors,
        ),
        producer_name=PRODUCER,
        opset_imports=[helper.make_opsetid("", OPSET)],
        # The oldest that knows the operators: newer ones are refused by older runtimes.
        ir_version=8,
    )
    helper.set_model_props(model, _metadata(net))
    onnx.checker.check_model(model)
    return model


def to_onnx_probabilities(net: UNet) -> Any:
    """`to_onnx` from any size to probabilities of that size.

    Returns
    -------
    onnx.ModelProto
        Input ``image``, output ``probabilities``.

    Raises
    ------
    MissingExtraError
        If onnx is not installed.
    """
    onnx = require("onnx", "onnx")
    model, table = to_onnx(net), net.architecture
    graph, make, half = model.graph, onnx.helper.make_node, table.margin // 2
    rest = (table.min_input_size - table.margin) % table.size_step
    numbers = {
        "corner": [0, 0],
        "plane": [2, 3],
        "half": [half, half],
        "before": [0, 0, half, half, 0, 0],
        "rest": [rest] * 2,
        "step": [table.size_step] * 2,
    }
    for name, values in numbers.items():
        graph.initializer.append(
            onnx.numpy_helper.from_array(np.array(values, np.int64), f"mirror.{name}")
        )
    for node in graph.node:
        node.input[:] = ["mirrored" if name == "image" else name for name in node.input]
    before = [
        make("Shape", ["image"], ["size"], start=2),
        make("Sub", ["mirror.rest", "size"], ["over"]),
        make("Mod", ["over", "mirror.step"], ["more"]),
        make("Add", ["more", "mirror.half"], ["after"]),
        make("Concat", ["mirror.before", "after"], ["pads"], axis=0),
        make("Pad", ["image", "pads"], ["mirrored"], mode="reflect"),
    ]
    after = [
        make("Slice", ["logits", "mirror.corner", "size", "mirror.plane"], ["cropped"]),
        make("Softmax", ["cropped"], ["probabilities"], axis=1),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    shape = ["batch", table.num_classes, "height", "width"]
    graph.output.append(
        onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, shape)
    )
    # What the metadata say of sizes is true of the network within.
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    return model


def save_onnx(net: UNet, path: str | os.PathLike[str]) -> float | None:
    """Write an ONNX file, after a comparison with this package where ONNX Runtime is installed.

    Parameters
    ----------
    net : UNet
        The network.
    path : path-like
        The file.

    Returns
    -------
    float or None
        Largest difference of the logits, relative where they are above 1; None if ONNX Runtime
        is not there.

    Raises
    ------
    InputError
        If the path cannot be written to.
    MissingExtraError
        If onnx is not installed.
    RuntimeError
        If the two differ by more than `TOLERANCE`. Nothing is written then.
    """
    content = to_onnx(net).SerializeToString()
    try:
        require("onnxruntime", "onnx")
        largest: float | None = difference(net, content)
    except ImportError:
        largest = None
    if largest is not None and not largest <= TOLERANCE:
        raise RuntimeError(f"the ONNX model differs from the network by {largest:.2g}")
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return largest


def difference(net: UNet, model: bytes, sizes: Sequence[tuple[int, int]] = ()) -> float:
    """How far ONNX Runtime's logits are from those of the network, on random images.

    Parameters
    ----------
    net : UNet
        The network.
    model : bytes
        `to_onnx` of it, serialised.
    sizes : sequence of (int, int)
        Heights and widths of the images, valid ones; by default two near the smallest.

    Returns
    -------
    float
        Largest absolute difference, divided by the largest logit if that is above 1.

    Raises
    ------
    MissingExtraError
        If onnxruntime is not installed.
    """
    runtime = require("onnxruntime", "onnx")
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    table = net.architecture
    smallest, step = table.min_input_size, table.size_step
    largest, scale = 0.0, 1.0
    for batch, (height, width) in enumerate(sizes or [(smallest, smallest + step)] * 2, 1):
        rng = np.random.default_rng(batch)
        image = rng.standard_normal((batch, table.in_channels, height, width), np.float32)
        logits = backend.to_numpy(net.forward(backend.asarray(image, net.xp)))
        (other,) = session.run(["logits"], {"image": image})
        largest = max(largest, float(np.abs(other - logits).max()))
        scale = max(scale, float(np.abs(logits).max()))
    return largest / scale


def _metadata(net: UNet) -> dict[str, str]:
    table = net.architecture
    # Nothing in the file refuses others: pooling drops a row or a column, and maps are shifted.
    sizes = f"{table.min_input_size} + {table.size_step} k for k = 0, 1, 2, ..., and no others"
    return {
        "unet_np": json.dumps(
            {"architecture": table.to_dict(), "dropout": net.dropout}, sort_keys=True
        ),
        "normalisation": NORMALISATION,
        "input_sizes": sizes,
        "margin_on_each_side": str(table.margin // 2),
    }


class _Graph:
    """Nodes and weights, as layers are added: the `Graph` that a kind of layer is handed."""

    def __init__(self, onnx: Any, net: UNet) -> None:
        self.onnx, self.net = onnx, net
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.outputs: dict[str, str] = {}
        self._constants: set[str] = set()

    def add(self, layer: Layer, value: str) -> str:
        """Add a layer that reads `value`; the name of what it gives."""
        self.outputs[layer.name] = layer.its_kind.onnx(layer, value, self)
        return self.outputs[layer.name]

    def node(
        self, operator: str, layer: Layer, inputs: Sequence[str], part: str = "", **attributes: Any
    ) -> str:
        """Add a node; the name of its output."""
        name = f"{layer.name}.{part}" if part else layer.name
        output = "logits" if layer is self.net.architecture.layers[-1] else name
        make = self.onnx.helper.make_node
        self.nodes.append(make(operator, inputs, [output], name=name, **attributes))
        return output

    def weights(self, layer: Layer) -> list[str]:
        """The names of the layer's parameters, then of its buffers."""
        names = [f"{layer.name}.{n}" for n in (*layer.parameter_shapes, *layer.buffer_shapes)]
        for name in names:
            array = backend.to_numpy(self.net.state[name])
            self.constant(name, np.ascontiguousarray(array, np.float32))
        return names

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add numbers that all layers may share; their name."""
        if name not in self._constants:
            self._constants.add(name)
            self.tensors.append(self.onnx.numpy_helper.from_array(array, name))
        return name
