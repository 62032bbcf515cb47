"""What a kind of layer is, and the register of them.

A new kind is one class, in one place: what it does to an array and to a gradient, and whatever is
not as in most kinds. Tables, sizes, initial weights, memory, files and exports follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from unet_np.backend import Array
from unet_np.errors import InputError, one_of

if TYPE_CHECKING:
    from unet_np.network.layer import Layer
    from unet_np.network.passes import Pass

Shape = tuple[int, ...]


class Graph(Protocol):
    """What a kind finds in the ONNX graph to which it adds its nodes."""

    outputs: dict[str, str]
    """Name of what each layer gives, by the layer's name."""

    def node(
        self, operator: str, layer: Layer, inputs: Sequence[str], part: str = "", **attributes: Any
    ) -> str:
        """Add a node; the name of its output. `part` tells the nodes of one layer apart."""

    def weights(self, layer: Layer) -> list[str]:
        """The names of the layer's parameters, then of its buffers."""

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add numbers that all layers may share; their name."""


class Kind(ABC):
    """A kind of layer; as it stands, one without weights that changes no size.

    Each method gets the `Layer`, a row of the network's table.

    Attributes
    ----------
    slot : str
        The option of `Architecture` that may name this kind: ``activation``, or none.
    words : str
        What it does, for the tables; ``{kernel}``, ``{padding}``, ``{mode}`` and ``{skip}`` stand
        for the layer's.
    details : str
        The same in the table of blocks; by default `words`.
    convolution : bool
        Whether the paper counts it among its 23 convolutional layers.
    needs_even : bool
        Whether an odd height or width would lose a row.
    least_size : int
        The least height or width that it works on.
    in_place : bool
        Whether a prediction needs no memory for its output beside that for its input.
    memory_order : tuple of int
        Axes in memory, outermost first, of the weight in PyTorch's axis order; by default the same.
    start : mapping
        The number that fills a parameter or buffer at the start. A parameter that is not in it is
        drawn from N(0, sqrt(2 / N)).
    torch : str
        The class in ``torch.nn`` that does the same, for a kind that fills a slot.

    Examples
    --------
    >>> from unet_np import Architecture
    >>> @register("hard_tanh")
    ... class HardTanh(Kind):
    ...     slot, words, torch = "activation", "hard tanh", "Hardtanh"
    ...     def forward(self, layer, x, run):
    ...         return x.clip(-1, 1), abs(x) < 1
    ...     def backward(self, layer, grad, cache, run):
    ...         return grad * cache
    >>> [layer.words for layer in Architecture(activation="hard_tanh").layers[:2]]
    ['conv 3x3', 'hard tanh']
    >>> del KINDS["hard_tanh"]
    """

    slot: str = ""
    words: str = ""
    details: str = ""
    convolution: bool = False
    needs_even: bool = False
    least_size: int = 1
    in_place: bool = False
    memory_order: tuple[int, ...] = ()
    start: ClassVar[Mapping[str, float]] = {"bias": 0.0}
    torch: str = ""

    def weight_shape(self, layer: Layer) -> Shape | None:
        """PyTorch's shape of the weight that is drawn at random; None without."""
        return None

    def parameter_shapes(self, layer: Layer) -> dict[str, Shape]:
        """The shapes of what is learned, by name: the weight, and the bias where there is one."""
        weight = self.weight_shape(layer)
        if weight is None:
            return {}
        return {"weight": weight} | ({"bias": (layer.out_channels,)} if layer.bias else {})

    def buffer_shapes(self, layer: Layer) -> dict[str, Shape]:
        """The shapes of what is kept and not learned, by name."""
        return {}

    def fan_in(self, layer: Layer) -> int:
        """Incoming nodes N of one neuron (section 3)."""
        return layer.in_channels

    def output_size(self, layer: Layer, size: int) -> int:
        """Height or width after the layer, from the one before."""
        return size

    def output_shape(self, layer: Layer, shape: Shape) -> Shape:
        """The whole shape after the layer, from the one before."""
        sides = (self.output_size(layer, size) for size in shape[2:])
        return (shape[0], layer.out_channels, *sides)

    def needed(self, layer: Layer, first: int, last: int) -> tuple[int, int]:
        """First and last row (or column) of the input that output rows first to last depend on."""
        return first, last

    @abstractmethod
    def forward(self, layer: Layer, x: Array, run: Pass) -> tuple[Array, Any]:
        """The output, and what `backward` will need. May change `x` if it is `in_place`."""

    @abstractmethod
    def backward(self, layer: Layer, grad: Array, cache: Any, run: Pass) -> Any:
        """The gradient of the input from that of the output, which it may change.

        Gradients of parameters go to `Pass.set_grads`.
        """

    def onnx(self, layer: Layer, value: str, graph: Graph) -> str:
        """Add the nodes that do the same to what is called `value`; the name of their output.

        Raises
        ------
        InputError
            If the kind has none.
        """
        raise InputError(
            f"{layer.name}: got a layer of kind {layer.kind}, which has no ONNX nodes, expected "
            "one that has"
        )


KINDS: dict[str, Kind] = {}
"""Every kind by its name, as in `Layer.kind`."""

_Class = TypeVar("_Class", bound=type[Kind])


def register(name: str) -> Callable[[_Class], _Class]:
    """Make a class known as the kind of that name; used as a decorator.

    Raises
    ------
    InputError
        If another class has the name.

    Examples
    --------
    >>> @register("relu")
    ... class Mine(type(KINDS["relu"])):
    ...     pass
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: kind: got 'relu', which is taken, expected another name
    """

    def known(kind: _Class) -> _Class:
        # The same class again, as from a cell that is run twice, takes its own place.
        before = type(KINDS.get(name))
        if name in KINDS and (before.__module__, before.__qualname__) != (
            kind.__module__,
            kind.__qualname__,
        ):
            raise InputError(f"kind: got {name!r}, which is taken, expected another name")
        KINDS[name] = kind()
        return kind

    return known


def find(name: str) -> Kind:
    """The kind of that name.

    Raises
    ------
    InputError
        If there is none; names the nearest.

    Examples
    --------
    >>> find("rellu")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: kind: got 'rellu', expected one of batch_norm, conv, \
crop_concat, dropout, global_pool, instance_norm, linear, pool, relu, upconv, upsample; \
nearest valid is 'relu'
    """
    return KINDS.get(name) or KINDS[one_of("kind", name, KINDS)]


def names(slot: str) -> list[str]:
    """The kinds that may fill a slot of the architecture.

    Examples
    --------
    >>> names("activation")
    ['relu']
    """
    return [name for name, kind in KINDS.items() if kind.slot == slot]
