"""The network of Fig. 1: its table, its sizes, its initial weights, forward and backward."""

from unet_np.network.architecture import Architecture
from unet_np.network.unet import UNet

__all__ = ["Architecture", "UNet"]
