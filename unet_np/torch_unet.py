"""The paper's U-Net as a PyTorch module, in one file that needs nothing but PyTorch.

The names in its state dict are those of ``unet_np``: ``contract1.conv1.weight`` and so on.
"""

import torch
from torch import nn


class BaseConvBlock(nn.Module):
    """(conv 3x3, ReLU) x 2."""

    def __init__(self, in_channels: int, out_channels: int, padding: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=padding)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H - 4, W - 4), if padding is 0."""
        return self.conv2(self.conv1(x).relu()).relu()


class UpSampleBlock(nn.Module):
    """Up-conv 2x2, crop and concatenate, (conv 3x3, ReLU) x 2."""

    def __init__(self, out_channels: int, padding: int):
        super().__init__()
        self.conv1 = nn.Conv2d(2 * out_channels, out_channels, 3, padding=padding)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=padding)
        self.upconv = nn.ConvTranspose2d(2 * out_channels, out_channels, 2, stride=2)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Joins the cropped feature maps of the contracting path and the up-convolved ones."""
        up = self.upconv(x)
        height, width = up.shape[2:]
        top, left = (skip.shape[2] - height) // 2, (skip.shape[3] - width) // 2
        x = torch.cat([skip[:, :, top : top + height, left : left + width], up], 1)
        return self.conv2(self.conv1(x).relu()).relu()


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer and Brox 2015, Fig. 1)."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = 64,
        depth: int = 4,
        padding: int = 0,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.depth = depth
        for level in range(1, depth + 2):
            channels = base_channels * 2 ** (level - 1)
            into = in_channels if level == 1 else channels // 2
            self.add_module(f"contract{level}", BaseConvBlock(into, channels, padding))
        for level in range(depth, 0, -1):
            block = UpSampleBlock(base_channels * 2 ** (level - 1), padding)
            self.add_module(f"expand{level}", block)
        self.output = nn.Conv2d(base_channels, num_classes, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to logits (B, num_classes, H - 184, W - 184), as in the paper."""
        skips = []
        for level in range(1, self.depth + 2):
            if level > 1:
                x = nn.functional.max_pool2d(x, 2)
            x = self.get_submodule(f"contract{level}")(x)
            if level >= self.depth:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()
        for level in range(self.depth, 0, -1):
            block = self.get_submodule(f"expand{level}")
            x = block(x, skips.pop())
        return self.output(x)
