"""The network as one table (Fig. 1 of the paper): layers, shapes, parameters, sizes.

No arrays here. The network is built from `Architecture.layers`, and the specification
table, the shapes table and every message about sizes are printed from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from unet_np.errors import InputError, integer, one_of
from unet_np.network import kinds
from unet_np.network.kinds import Shape
from unet_np.network.layer import Layer

UPS = ("upconv", "nearest", "bilinear")
NORMS = {"none": ("", ""), "batch": ("bn", "batch_norm"), "instance": ("in", "instance_norm")}
"""What each normalisation's layers are called, and their kind."""
OUTPUTS = ("map", "vector")


MAX_DEPTH = 20
"""Of poolings: the smallest image has some 2**depth pixels a side."""


@dataclass(frozen=True)
class Architecture:
    """The paper's network, and its relatives of other depth, width and padding.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output.
    base_channels : int
        Channels of the first level (64 in the paper); each level below has twice as many.
    depth : int
        Number of max poolings (4 in the paper).
    padding : {0, 1}
        Of the 3x3 convolutions: 0 as in the paper, 1 keeps the size.
    up : {"upconv", "nearest", "bilinear"}
        The way up: the paper's up-convolution, or an up-sampling by 2 with a 3x3 convolution
        after it that halves the channels.
    norm : {"none", "batch", "instance"}
        What stands between each 3x3 convolution and its ReLU: nothing, as in the paper, a batch
        normalisation (Ioffe and Szegedy 2015), or an instance normalisation (Ulyanov, Vedaldi and
        Lempitsky 2016). With either the convolution has no bias, which the mean would take away.
    task : str
        What the network is for, a name that stands in its files so that it is not asked for
        something else: ``segment`` is the paper's, a class for each pixel. The layers do not depend
        on it; `unet_np.tasks.TASKS` has the others, each with its ``options``.
    output : {"map", "vector"}
        ``map`` is the paper's: `num_classes` channels for each pixel. ``vector`` gives
        (B, num_classes) for whole images: the contracting path, the mean over all pixels and a
        linear layer. To be given for every task but the paper's.
    activation : str
        What stands after each 3x3 convolution: ``relu`` in the paper, or any kind of layer that is
        registered for it (`unet_np.network.kinds.kind`).

    Raises
    ------
    InputError
        If a value is out of its range.

    Examples
    --------
    >>> paper = Architecture()
    >>> paper.parameters, paper.conv_layers, paper.output_size(572), paper.margin
    (31030658, 23, 388, 184)
    """

    in_channels: int = 1
    num_classes: int = 2
    base_channels: int = 64
    depth: int = 4
    padding: int = 0
    up: str = "upconv"
    norm: str = "none"
    task: str = "segment"
    output: str = ""
    activation: str = "relu"

    def __post_init__(self) -> None:
        if self.task == "segment" and not self.output:
            object.__setattr__(self, "output", "map")
        # One class is certain before anyone looks; one number is not.
        classes = 2 if self.task == "segment" else 1
        minima = {"in_channels": 1, "num_classes": classes, "base_channels": 1, "depth": 1}
        for name, minimum in minima.items():
            object.__setattr__(self, name, integer(name, getattr(self, name), minimum))
        if self.depth > MAX_DEPTH:
            raise InputError(
                f"depth: got {self.depth}, expected 1 to {MAX_DEPTH}; each halves the image"
            )
        if isinstance(self.padding, bool | float) or self.padding not in (0, 1):
            raise InputError(f"padding: got {self.padding!r}, expected 0 (the paper) or 1")
        object.__setattr__(self, "padding", int(self.padding))
        activations = kinds.names("activation")
        for name, allowed in (("up", UPS), ("norm", NORMS), ("activation", activations)):
            one_of(name, getattr(self, name), allowed)
        if self.output not in OUTPUTS:
            raise InputError(
                f"output: got {self.output!r}, expected map or vector; for task {self.task} as in "
                f"unet_np.tasks.TASKS[{self.task!r}].options"
            )

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The table: every operation, in the order in which data meets it."""
        return tuple(self._rows())

    def channels(self, level: int) -> int:
        """Channels of a level, counted from 1 at the top: 64, 128, 256, 512, 1024."""
        return self.base_channels * 2 ** (level - 1)

    def _rows(self) -> Iterator[Layer]:
        bottom = self.depth + 1
        for level in range(1, bottom + 1):
            out, block = self.channels(level), f"contract{level}"
            into = self.in_channels if level == 1 else out // 2
            if level > 1:
                yield Layer(f"{block}.pool", block, "pool", into, into, 2)
            yield from self._base_conv_block(block, into, out)
            # The released network drops out after the last ReLU of the two lowest levels.
            if level >= self.depth:
                yield Layer(f"{block}.dropout", block, "dropout", out, out)
        if self.output == "vector":
            yield Layer("global_pool", "output", "global_pool", out, out)
            yield Layer("output", "output", "linear", out, self.num_classes)
            return
        for level in range(self.depth, 0, -1):
            out, block = self.channels(level), f"expand{level}"
            skip = f"contract{level}.{'dropout' if level >= self.depth else 'relu2'}"
            yield from self._up(block, 2 * out, out)
            yield Layer(f"{block}.crop_concat", block, "crop_concat", out, 2 * out, skip=skip)
            yield from self._base_conv_block(block, 2 * out, out)
        yield Layer("output", "output", "conv", self.base_channels, self.num_classes, 1)

    def _base_conv_block(self, block: str, into: int, out: int) -> Iterator[Layer]:
        for number, channels in ((1, into), (2, out)):
            bias = self.norm == "none"
            name = f"{block}.conv{number}"
            yield Layer(name, block, "conv", channels, out, 3, self.padding, bias=bias)
            if not bias:
                prefix, kind = NORMS[self.norm]
                yield Layer(f"{block}.{prefix}{number}", block, kind, out, out)
            yield Layer(f"{block}.relu{number}", block, self.activation, out, out)

    def _up(self, block: str, into: int, out: int) -> Iterator[Layer]:
        if self.up == "upconv":
            yield Layer(f"{block}.upconv", block, "upconv", into, out, 2)
            return
        padding = self.padding
        yield Layer(f"{block}.upsample", block, "upsample", into, into, 2, padding, mode=self.up)
        yield Layer(f"{block}.conv0", block, "conv", into, out, 3, padding)

    @cached_property
    def skips(self) -> frozenset[str]:
        """The layers whose output the expanding path copies and crops."""
        return frozenset(layer.skip for layer in self.layers if layer.skip)

    @cached_property
    def beside_relus(self) -> tuple[frozenset[str], frozenset[str]]:
        """What makes the ReLU right behind it too, and ReLUs with convolutions behind them.

        Convolutions and normalisations with their ReLUs, then ReLUs with their convolutions: those
        of which nobody else sees what lies between.

        Examples
        --------
        >>> sorted(Architecture(depth=1).beside_relus[1])[-3:]
        ['expand1.relu1', 'expand1.relu2', 'output']
        """
        makers = "conv", *(kind for _, kind in NORMS.values())
        before = (self._neighbours(kind, "relu") for kind in makers)
        return frozenset().union(*before), self._neighbours("relu", "conv")

    @cached_property
    def joined_by_convs(self) -> frozenset[str]:
        """The joinings with the convolutions behind them, which can read both maps themselves.

        Examples
        --------
        >>> sorted(Architecture(depth=1).joined_by_convs)
        ['expand1.conv1', 'expand1.crop_concat']
        """
        return self._neighbours("crop_concat", "conv")

    def _neighbours(self, *kinds: str) -> frozenset[str]:
        pairs = (pair for pair in pairwise(self.layers) if pair[0].name not in self.skips)
        return frozenset(
            layer.name
            for pair in pairs
            if tuple(row.kind for row in pair) == kinds
            for layer in pair
        )

    @property
    def parameters(self) -> int:
        """Number of weights and biases: 31,030,658 for the paper's network."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def conv_layers(self) -> int:
        """Convolutional layers, up-convolutions included: 23 in the paper."""
        return sum(layer.its_kind.convolution for layer in self.layers)

    @property
    def has_map(self) -> bool:
        """Whether the output is a map, as large as the input but for the margin."""
        return self.output == "map"

    @property
    def size_step(self) -> int:
        """Valid input sizes are this far apart: 16 for four poolings, 1 without a map.

        Without an expanding path there is nothing that an odd size would not fit: a pooling
        leaves a last odd row out.
        """
        return 2**self.depth if self.has_map else 1

    @cached_property
    def margin(self) -> int:
        """Input size minus output size: 184 in the paper, 0 with padding 1 or without a map."""
        if not self.has_map:
            return 0
        # The difference is the same for all valid sizes; this one has pixels left everywhere.
        size = current = self._contracted + 64 * self.size_step
        for layer in self.layers:
            current = layer.output_size(current)
        return size - current

    @cached_property
    def _contracted(self) -> int:
        """The smallest input size that leaves each layer of the contracting path enough pixels."""
        contracting = [layer for layer in self.layers if layer.block.startswith("contract")]
        last = 0
        for layer in reversed(contracting):
            last = max(last, layer.its_kind.least_size - 1)
            last = layer.needed(0, last)[1] - layer.padding
        return last + 1

    @cached_property
    def min_input_size(self) -> int:
        """Smallest valid input size: 188 in the paper, which gives an output of 4 pixels."""
        # What leaves whole pixels at the lowest level fixes the remainder; the smallest size above
        # the margin with it has an output left.
        size = self._contracted
        return size + max(0, -(-(self.margin + 1 - size) // self.size_step)) * self.size_step

    def is_valid_input(self, size: int) -> bool:
        """Whether every pooling sees an even size and every convolution enough pixels.

        Examples
        --------
        >>> Architecture().is_valid_input(572), Architecture().is_valid_input(512)
        (True, False)
        """
        return size >= self.min_input_size and (size - self.min_input_size) % self.size_step == 0

    def output_size(self, size: int) -> int:
        """Output size of a valid input size: 16k + 60 gives 16k - 124 in the paper.

        Where the output is a vector it is 1: one answer for an image.

        Raises
        ------
        InputError
            If the size does not work; says where, and which sizes near it do.

        Examples
        --------
        >>> Architecture().output_size(572)
        388
        >>> Architecture().output_size(512)
        Traceback (most recent call last):
        ...
        unet_np.errors.InputError: input size: got 512, which is odd (121) at contract4.pool; \
nearest valid sizes are 508 and 524
        """
        self._check_size(size)
        return size - self.margin if self.has_map else 1

    def nearest_input_sizes(self, size: int) -> tuple[int, ...]:
        """The valid sizes on both sides of `size` (one, if `size` is valid or below all).

        Examples
        --------
        >>> Architecture().nearest_input_sizes(512), Architecture().nearest_input_sizes(10)
        ((508, 524), (188,))
        """
        if size <= self.min_input_size:
            return (self.min_input_size,)
        below = size - (size - self.min_input_size) % self.size_step
        return (below,) if below == size else (below, below + self.size_step)

    def input_size_for_output(self, size: int) -> int:
        """The smallest valid input size whose output has at least `size` pixels.

        Examples
        --------
        >>> Architecture().input_size_for_output(388), Architecture().input_size_for_output(1)
        (572, 188)
        """
        wanted = max(size + self.margin, self.min_input_size)
        return self.nearest_input_sizes(wanted)[-1]

    def _check_size(self, size: int, name: str = "input size") -> None:
        if self.is_valid_input(size):
            return
        sizes = " and ".join(str(n) for n in self.nearest_input_sizes(size))
        plural = "sizes are" if " and " in sizes else "size is"
        raise InputError(
            f"{name}: got {size}, {self._obstacle(size)}; nearest valid {plural} {sizes}"
        )

    def _obstacle(self, size: int) -> str:
        """Where in the network an invalid size comes to an end."""
        for layer in self.layers:
            kind = layer.its_kind
            if kind.needs_even and size % 2 and self.has_map:
                return f"which is odd ({size}) at {layer.name}"
            size = layer.output_size(size)
            if size < kind.least_size:
                left = f"{size} pixel" if size > 0 else "no pixel"
                more = f", which needs {kind.least_size}" if kind.least_size > 1 else ""
                return f"which leaves {left} at {layer.name}{more}"
        return "which does not fit"

    def check_input(self, shape: tuple[int, ...]) -> None:
        """Refuse, before any arithmetic, a shape that the network cannot take.

        Parameters
        ----------
        shape : tuple of int
            (B, C, H, W).

        Raises
        ------
        InputError
            If it is not four-dimensional, has other channels than `in_channels`, or a
            height or width that does not work.
        """
        if len(shape) != 4:
            raise InputError(f"x: got shape {shape}, expected (B, {self.in_channels}, H, W)")
        if shape[0] < 1:
            raise InputError(f"x: got a batch of {shape[0]}, expected at least 1 image")
        if shape[1] != self.in_channels:
            raise InputError(f"x: got {shape[1]} channels, expected {self.in_channels}")
        self._check_size(shape[2], "input height")
        self._check_size(shape[3], "input width")

    def shapes(self, input_shape: Shape) -> list[tuple[Layer, Shape]]:
        """Each layer with the shape (B, C, H, W) of its output; (B, C) after a global pooling.

        Raises
        ------
        InputError
            As `check_input`.

        Examples
        --------
        >>> Architecture().shapes((1, 1, 572, 572))[-1][1]
        (1, 2, 388, 388)
        """
        self.check_input(input_shape)
        shape, rows = input_shape, []
        for layer in self.layers:
            shape = layer.output_shape(shape)
            rows.append((layer, shape))
        return rows

    def receptive_field(self, pixel: int = 0) -> tuple[int, int]:
        """First and last input row (or column) that an output row (or column) depends on.

        An up-convolution makes two pixels of one, so the width depends on where the
        pixel stands in its 2 x 2 cell. The row is counted as in `forward`'s output, the
        result in its input; with padding it may lie outside the image.

        Raises
        ------
        InputError
            Where the output is a vector: all of it depends on the whole image.

        Examples
        --------
        >>> first, last = Architecture().receptive_field(0)
        >>> first, last, last - first + 1
        (0, 187, 188)
        """
        if not self.has_map:
            raise InputError("output: got vector, expected a network whose output is a map")
        first = last = pixel
        for layer in reversed(self.layers):
            first, last = layer.needed(first, last)
        return first, last

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments, for a file; the paper's activation goes without saying.

        Versions that know no other can so read the file.
        """
        options = asdict(self)
        if self.activation == "relu":
            del options["activation"]
        return options


def with_norm(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a file from when there was a flag ``batch_norm``, with `norm` in its place.

    Examples
    --------
    >>> with_norm({"batch_norm": True, "depth": 4}), with_norm({"depth": 4})
    ({'depth': 4, 'norm': 'batch'}, {'depth': 4})
    """
    settings = dict(settings)
    if "batch_norm" in settings:
        settings["norm"] = "batch" if settings.pop("batch_norm") else "none"
    return settings
