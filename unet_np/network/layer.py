"""One row of the table of Fig. 1: an operation, its shapes and what it does to a size."""

from __future__ import annotations

import math
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    Attributes
    ----------
    name : str
        Such as ``contract1.conv1``; a parameter's name is this with ``.weight`` or ``.bias``,
        a buffer's with ``.mean`` or ``.var``.
    block : str
        The block the row belongs to, in the words of the specification table.
    kind : str
        The operation: ``conv``, ``relu``, ``pool``, ``upconv``, ``crop_concat`` and ``dropout``
        in the paper; elsewhere also ``batch_norm``, ``instance_norm``, ``upsample``,
        ``global_pool`` and ``linear``.
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
    def weight_shape(self) -> Shape | None:
        """PyTorch's shape of the matrix or kernels that are drawn at random; None without.

        (out, in, k, k) for a convolution, (in, out, 2, 2) for an up-convolution, (out, in)
        for a linear layer.
        """
        if self.kind == "conv":
            return (self.out_channels, self.in_channels, self.kernel, self.kernel)
        if self.kind == "upconv":
            return (self.in_channels, self.out_channels, self.kernel, self.kernel)
        return (self.out_channels, self.in_channels) if self.kind == "linear" else None

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """The shapes of ``weight`` and ``bias``, as far as the layer has them.

        Examples
        --------
        >>> Layer("output", "output", "conv", 64, 2, 1).parameter_shapes
        {'weight': (2, 64, 1, 1), 'bias': (2,)}
        """
        channels = (self.out_channels,)
        if self.kind in ("batch_norm", "instance_norm"):
            return {"weight": channels, "bias": channels}
        if self.weight_shape is None:
            return {}
        return {"weight": self.weight_shape} | ({"bias": channels} if self.bias else {})

    @property
    def buffer_shapes(self) -> dict[str, Shape]:
        """The shapes of what is kept and not learned: running ``mean`` and ``var``."""
        channels = (self.out_channels,)
        return {"mean": channels, "var": channels} if self.kind == "batch_norm" else {}

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
        return self.in_channels * (self.kernel**2 if self.kind == "conv" else 1)

    def output_size(self, size: int) -> int:
        """Height or width after the layer, from the one before (crop_concat keeps `size`)."""
        if self.kind == "conv":
            return size - self.kernel + 1 + 2 * self.padding
        if self.kind == "pool":
            return size // 2
        if self.kind == "global_pool":
            return 1
        if self.kind == "upsample":
            return 2 * size - 2 * self.dropped
        return 2 * size if self.kind == "upconv" else size

    @property
    def dropped(self) -> int:
        """Rows (or columns) that an up-sampling leaves out on each side.

        Bilinear pixels at the edge need what lies beyond it. A valid network leaves them out,
        or a tile would differ from the whole image.
        """
        return int(self.mode == "bilinear" and not self.padding)

    def needed(self, first: int, last: int) -> tuple[int, int]:
        """First and last row (or column) of the input that output rows first to last depend on."""
        if self.kind == "conv":
            return first - self.padding, last + self.kernel - 1 - self.padding
        if self.kind == "pool":
            return 2 * first, 2 * last + 1
        if self.mode == "bilinear":
            return (first + self.dropped - 1) // 2, (last + self.dropped + 1) // 2
        if self.kind in ("upconv", "upsample"):
            return first // 2, last // 2
        return first, last
