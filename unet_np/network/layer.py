"""One row of the table of Fig. 1: an operation, its shapes and what it does to a size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from unet_np.network import kinds
from unet_np.network.kinds import Kind, Shape


@dataclass(frozen=True)
class Layer:
    """One row of the table; what it says of itself, it has from its kind.

    Attributes
    ----------
    name : str
        Such as ``contract1.conv1``; a parameter's name is this with ``.weight`` or ``.bias``,
        a buffer's with ``.mean`` or ``.var``.
    block : str
        The block the row belongs to, in the words of the specification table.
    kind : str
        The operation, one of ``unet_np.network.kinds``: ``conv``, ``relu``, ``pool``, ``upconv``,
        ``crop_concat`` and ``dropout`` in the paper; elsewhere also ``batch_norm``,
        ``instance_norm``, ``upsample``, ``global_pool`` and ``linear``.
    in_channels, out_channels : int
        Channels of the feature maps before and after.
    kernel : int
        Height and width of the kernel; 0 where the operation has none.
    padding : int
        Zeros added on each side of a convolution's input. For ``upsample`` as in
        `unet_np.ops.upsample`.
    skip : str
        For ``crop_concat``: the layer whose output is cropped; else empty.
    mode : str
        For ``upsample``: ``nearest`` or ``bilinear``; else empty.
    bias : bool
        Whether a convolution adds one number to each channel.
    """

    name: str
    block: str
    kind: str
    in_channels: int
    out_channels: int
    kernel: int = 0
    padding: int = 0
    skip: str = ""
    mode: str = ""
    bias: bool = True

    @property
    def its_kind(self) -> Kind:
        """The record of the layer's kind.

        Raises
        ------
        InputError
            If there is no kind of that name.
        """
        return kinds.find(self.kind)

    @property
    def words(self) -> str:
        """What the layer does, in the paper's words.

        Examples
        --------
        >>> Layer("output", "output", "conv", 64, 2, 1).words
        'conv 1x1'
        """
        return self._filled(self.its_kind.words)

    @property
    def details(self) -> str:
        """The same with padding and stride.

        Examples
        --------
        >>> Layer("output", "output", "conv", 64, 2, 1).details
        'conv 1x1 pad 0'
        """
        return self._filled(self.its_kind.details or self.its_kind.words)

    def _filled(self, text: str) -> str:
        skip = self.skip.split(".")[0]
        return text.format(kernel=self.kernel, padding=self.padding, mode=self.mode, skip=skip)

    @property
    def weight_shape(self) -> Shape | None:
        """PyTorch's shape of the matrix or kernels that are drawn at random; None without.

        (out, in, k, k) for a convolution, (in, out, 2, 2) for an up-convolution, (out, in)
        for a linear layer.
        """
        return self.its_kind.weight_shape(self)

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The shapes of what is learned: ``weight`` and ``bias``, as far as the layer has them.

        Examples
        --------
        >>> Layer("output", "output", "conv", 64, 2, 1).parameter_shapes
        {'weight': (2, 64, 1, 1), 'bias': (2,)}
        """
        return self.its_kind.parameter_shapes(self)

    @property
    def buffer_shapes(self) -> dict[str, Shape]:
        """The shapes of what is kept and not learned: running ``mean`` and ``var``."""
        return self.its_kind.buffer_shapes(self)

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """What the network calls them.

        Examples
        --------
        >>> Layer("output", "output", "conv", 64, 2, 1).parameter_names
        ('output.weight', 'output.bias')
        """
        return tuple(f"{self.name}.{part}" for part in self.parameter_shapes)

    @cached_property
    def array_names(self) -> tuple[str, ...]:
        """Those of the parameters, then those of the buffers."""
        return (*self.parameter_names, *(f"{self.name}.{part}" for part in self.buffer_shapes))

    @property
    def parameters(self) -> int:
        """Weights and biases of the layer."""
        return sum(math.prod(shape) for shape in self.parameter_shapes.values())

    @property
    def fan_in(self) -> int:
        """Incoming nodes N of one neuron (section 3): 9 x 64 in the paper's example.

        An output pixel of the 2x2 up-convolution with stride 2 lies under exactly one
        position of the kernel, so N is the number of input channels alone.
        """
        return self.its_kind.fan_in(self)

    def output_size(self, size: int) -> int:
        """Height or width after the layer, from the one before (crop_concat keeps `size`)."""
        return self.its_kind.output_size(self, size)

    def output_shape(self, shape: Shape) -> Shape:
        """(B, C, H, W) after the layer, from the one before; (B, C) after a global pooling."""
        return self.its_kind.output_shape(self, shape)

    def needed(self, first: int, last: int) -> tuple[int, int]:
        """First and last row (or column) of the input that output rows first to last depend on."""
        return self.its_kind.needed(self, first, last)
