"""U-Net from scratch in NumPy and CuPy.

The network of Ronneberger, Fischer and Brox (2015), its gradients, its training and the
paper's own algorithms, written by hand.

Examples
--------
>>> import numpy as np
>>> import unet_np
>>> net = unet_np.UNet(base_channels=8, backend="numpy")
>>> net.forward(np.zeros((1, 1, 188, 188))).shape
(1, 2, 4, 4)
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from unet_np.errors import InputError, MissingExtraError, TrainingError
from unet_np.network.architecture import Architecture
from unet_np.network.unet import UNet

try:
    __version__ = version("unet-np")
except PackageNotFoundError:  # the source without an installation
    __version__ = "0"

# Looked up when first asked for, so that `import unet_np` stays quick.
_LATER = {
    "weight_map": "unet_np.weighting",
    "Augmentation": "unet_np.augmentation",
    "predict_tiled": "unet_np.tiling",
    "segment": "unet_np.tasks.segmentation",
    "SGD": "unet_np.training.optim",
    "TrainConfig": "unet_np.training.config",
    "train": "unet_np.training.loop",
}

__all__ = [
    "Architecture",
    "InputError",
    "MissingExtraError",
    "TrainingError",
    "UNet",
    "__version__",
    *_LATER,
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'unet_np' has no attribute {name!r}")
