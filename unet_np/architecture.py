"""The network as one table (Fig. 1 of the paper): layers, shapes, parameters, sizes.

No arrays here. The network is built from `Architecture.layers`, and the specification
table, the shapes table and every message about sizes are printed from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

from unet_np.errors import InputError

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    Attributes
    ----------
    name : str
        Such as ``contract1.conv1``; a parameter's name is this with ``.weight`` or ``.bias``.
    block : str
        The block the row belongs to, in the words of the specification table.
    kind : {"conv", "relu", "pool", "upconv", "crop_concat", "dropout"}
        The operation.
    in_channels, out_channels : int
        Channels of the feature maps before and after.
    kernel : int
        Height and width of the kernel; 0 where the operation has none.
    padding : int
        Zeros added on each side of a convolution's input.
    skip : str
        For ``crop_concat``: the layer whose output is cropped; else empty.
    """

    name: str
    block: str
    kind: str
    in_channels: int
    out_channels: int
    kernel: int = 0
    padding: int = 0
    skip: str = ""

    @property
    def weight_shape(self) -> tuple[int, int, int, int] | None:
        """PyTorch's shape of the weight: (out, in, k, k), or (in, out, 2, 2) for an up-conv."""
        if self.kind == "conv":
            return (self.out_channels, self.in_channels, self.kernel, self.kernel)
        if self.kind == "upconv":
            return (self.in_channels, self.out_channels, self.kernel, self.kernel)
        return None

    @property
    def parameters(self) -> int:
        """Weights and biases of the layer."""
        return math.prod(self.weight_shape) + self.out_channels if self.weight_shape else 0

    @property
    def fan_in(self) -> int:
        """Incoming nodes N of one neuron (section 3): 9 x 64 in the paper's example.

        An output pixel of the 2x2 up-convolution with stride 2 lies under exactly one
        position of the kernel, so N is the number of input channels alone.
        """
        return self.in_channels * (self.kernel**2 if self.kind == "conv" else 1)

    def output_size(self, size: int) -> int:
        """Height or width after the layer, from the one before (crop_concat keeps `size`)."""
        if self.kind == "conv":
            return size - self.kernel + 1 + 2 * self.padding
        if self.kind == "pool":
            return size // 2
        return 2 * size if self.kind == "upconv" else size


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

    def __post_init__(self) -> None:
        minima = {"in_channels": 1, "num_classes": 2, "base_channels": 1, "depth": 1}
        for name, minimum in minima.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                raise InputError(f"{name}: got {value!r}, expected an integer >= {minimum}")
        if self.padding not in (0, 1):
            raise InputError(f"padding: got {self.padding!r}, expected 0 (the paper) or 1")

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
        for level in range(self.depth, 0, -1):
            out, block = self.channels(level), f"expand{level}"
            skip = f"contract{level}.{'dropout' if level >= self.depth else 'relu2'}"
            yield Layer(f"{block}.upconv", block, "upconv", 2 * out, out, 2)
            yield Layer(f"{block}.crop_concat", block, "crop_concat", out, 2 * out, skip=skip)
            yield from self._base_conv_block(block, 2 * out, out)
        yield Layer("output", "output", "conv", self.base_channels, self.num_classes, 1)

    def _base_conv_block(self, block: str, into: int, out: int) -> Iterator[Layer]:
        for number, channels in ((1, into), (2, out)):
            yield Layer(f"{block}.conv{number}", block, "conv", channels, out, 3, self.padding)
            yield Layer(f"{block}.relu{number}", block, "relu", out, out)

    @property
    def parameters(self) -> int:
        """Number of weights and biases: 31,030,658 for the paper's network."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def conv_layers(self) -> int:
        """Convolutional layers, up-convolutions included: 23 in the paper."""
        return sum(layer.kind in ("conv", "upconv") for layer in self.layers)

    @property
    def size_step(self) -> int:
        """Valid input sizes are this far apart: 16 for four poolings."""
        return 2**self.depth

    @property
    def margin(self) -> int:
        """Input size minus output size: 184 in the paper, 0 with padding 1."""
        if self.padding:
            return 0
        # A block of two convolutions takes 4 pixels of its level, which is 4 * 2^i of the image.
        # Every level above the lowest has two blocks.
        return 4 * self.size_step + 2 * 4 * (self.size_step - 1)

    @property
    def min_input_size(self) -> int:
        """Smallest valid input size: 188 in the paper, which gives an output of 4 pixels."""
        if self.padding:
            return self.size_step
        # One pixel at the lowest level is 2 s + 4 pixels a level higher, up to the image: this
        # fixes the remainder; the smallest size above the margin with it has an output left.
        size = 1 + 4
        for _ in range(self.depth):
            size = 2 * size + 4
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
        return size - self.margin

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
        current, reason = size, ""
        for layer in self.layers:
            if layer.kind == "pool" and current % 2:
                reason = f"which is odd ({current}) at {layer.name}"
                break
            current = layer.output_size(current)
            if current < 1:
                reason = f"which leaves no pixel at {layer.name}"
                break
        sizes = " and ".join(str(n) for n in self.nearest_input_sizes(size))
        plural = "sizes are" if " and " in sizes else "size is"
        raise InputError(f"{name}: got {size}, {reason}; nearest valid {plural} {sizes}")

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
        """Each layer with the shape (B, C, H, W) of its output.

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
        batch, _, height, width = input_shape
        rows = []
        for layer in self.layers:
            height, width = layer.output_size(height), layer.output_size(width)
            rows.append((layer, (batch, layer.out_channels, height, width)))
        return rows

    def receptive_field(self, pixel: int = 0) -> tuple[int, int]:
        """First and last input row (or column) that an output row (or column) depends on.

        An up-convolution makes two pixels of one, so the width depends on where the
        pixel stands in its 2 x 2 cell. The row is counted as in `forward`'s output, the
        result in its input; with padding it may lie outside the image.

        Examples
        --------
        >>> first, last = Architecture().receptive_field(0)
        >>> first, last, last - first + 1
        (0, 187, 188)
        """
        first = last = pixel
        for layer in reversed(self.layers):
            if layer.kind == "conv":
                first, last = first - layer.padding, last + layer.kernel - 1 - layer.padding
            elif layer.kind == "pool":
                first, last = 2 * first, 2 * last + 1
            elif layer.kind == "upconv":
                first, last = first // 2, last // 2
        return first, last

    def to_dict(self) -> dict[str, int]:
        """The constructor's arguments, for a file."""
        return asdict(self)
