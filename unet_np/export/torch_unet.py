"""U-Net as a PyTorch module, in one file that needs nothing but PyTorch.

Without options it is the paper's network. The names in its state dict are those of ``unet_np``,
``contract1.conv1.weight`` and so on; only the running statistics of batch normalisation have
PyTorch's own (``running_mean`` for ``mean``, ``running_var`` for ``var``).
"""

from typing import Any

import torch
from torch import nn


class Convolutions(nn.Module):
    """Two 3x3 convolutions and activations, with a normalisation if asked for."""

    def __init__(
        self, in_channels: int, out_channels: int, padding: int, norm: str, activation: str
    ):
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=padding, bias=bias)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=padding, bias=bias)
        self.relu1, self.relu2 = getattr(nn, activation)(), getattr(nn, activation)()
        if norm == "batch":
            self.bn1, self.bn2 = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
        if norm == "instance":
            self.in1 = nn.InstanceNorm2d(out_channels, affine=True)
            self.in2 = nn.InstanceNorm2d(out_channels, affine=True)
        self.prefix = {"batch": "bn", "instance": "in"}.get(norm, "")

    def normalise(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """What stands between a convolution and its ReLU, if anything."""
        return self.get_submodule(f"{self.prefix}{number}")(x) if self.prefix else x

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H - 4, W - 4), if padding is 0."""
        x = self.relu1(self.normalise(self.conv1(x), 1))
        return self.relu2(self.normalise(self.conv2(x), 2))


class BaseConvBlock(Convolutions):
    """(conv 3x3, ReLU) x 2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `convolve`."""
        return self.convolve(x)


class UpSampleBlock(Convolutions):
    """Up-conv 2x2 or up-sampling and conv 3x3, crop and concatenate, (conv 3x3, ReLU) x 2."""

    def __init__(self, out_channels: int, padding: int, norm: str, activation: str, up: str):
        super().__init__(2 * out_channels, out_channels, padding, norm, activation)
        self.up, self.padding = up, padding
        if up == "upconv":
            self.upconv = nn.ConvTranspose2d(2 * out_channels, out_channels, 2, stride=2)
        else:
            self.conv0 = nn.Conv2d(2 * out_channels, out_channels, 3, padding=padding)

    def larger(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 2 C, H, W) to (B, C, 2H, 2W), or a few pixels less without padding."""
        if self.up == "upconv":
            return self.upconv(x)
        if self.up == "nearest":
            return self.conv0(nn.functional.interpolate(x, scale_factor=2.0))
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        # Without padding the outermost pixels, for which the edge was repeated, are left out.
        return self.conv0(x if self.padding else x[:, :, 1:-1, 1:-1])

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Joins the cropped feature maps of the contracting path and those from below."""
        up = self.larger(x)
        height, width = up.shape[2:]
        top, left = (skip.shape[2] - height) // 2, (skip.shape[3] - width) // 2
        x = torch.cat([skip[:, :, top : top + height, left : left + width], up], 1)
        return self.convolve(x)


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer and Brox 2015, Fig. 1).

    `activation` is the name of the class in ``torch.nn`` that follows each 3x3 convolution.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = 64,
        depth: int = 4,
        padding: int = 0,
        dropout: float = 0.5,
        up: str = "upconv",
        norm: str = "none",
        output: str = "map",
        activation: str = "ReLU",
    ):
        super().__init__()
        self.depth, self.vector = depth, output == "vector"
        how = padding, norm, activation
        for level in range(1, depth + 2):
            channels = base_channels * 2 ** (level - 1)
            into = in_channels if level == 1 else channels // 2
            self.add_module(f"contract{level}", BaseConvBlock(into, channels, *how))
        self.dropout = nn.Dropout(dropout)
        if self.vector:
            self.output: nn.Module = nn.Linear(base_channels * 2**depth, num_classes)
            return
        for level in range(depth, 0, -1):
            block = UpSampleBlock(base_channels * 2 ** (level - 1), *how, up)
            self.add_module(f"expand{level}", block)
        self.output = nn.Conv2d(base_channels, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to logits (B, num_classes, H - 184, W - 184), as in the paper.

        With output "vector" the logits are (B, num_classes).
        """
        skips = []
        for level in range(1, self.depth + 2):
            if level > 1:
                x = nn.functional.max_pool2d(x, 2)
            x = self.get_submodule(f"contract{level}")(x)
            if level >= self.depth:
                x = self.dropout(x)
            skips.append(x)
        if self.vector:
            return self.output(x.mean((2, 3)))
        skips.pop()
        for level in range(self.depth, 0, -1):
            block = self.get_submodule(f"expand{level}")
            x = block(x, skips.pop())
        return self.output(x)


class Probabilities(UNet):
    """Images of any size to class probabilities of that size, as a viewer expects them.

    What the convolutions take off is mirrored at the border first (Fig. 2), and up to a size that
    the poolings can halve; what that gives too much at the bottom and the right is left out.

    `margin` is input size minus output size of the network (184 in the paper), `rest` what its
    output sizes leave when divided by ``2**depth`` (4 in the paper).
    """

    def __init__(self, margin: int = 184, rest: int = 4, **options: Any):
        super().__init__(**options)
        self.border, self.rest = margin // 2, rest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W), normalised, to (B, num_classes, H, W)."""
        height, width = x.shape[2:]
        bottom, right = ((self.rest - size) % 2**self.depth for size in (height, width))
        border = self.border
        pads = [border, border + right, border, border + bottom]
        x = super().forward(nn.functional.pad(x, pads, mode="reflect"))
        return x[:, :, :height, :width].softmax(1)
