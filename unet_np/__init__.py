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

from unet_np.architecture import Architecture
from unet_np.errors import InputError, MissingExtraError, TrainingError
from unet_np.unet import UNet

try:
    __version__ = version("unet-np")
except PackageNotFoundError:  # the source without an installation
    __version__ = "0"

# Looked up when first asked for, so that `import unet_np` stays quick.
_LATER = {
    "weight_map": "unet_np.weight_map",
    "Augmentation": "unet_np.augment",
    "predict_tiled": "unet_np.tiling",
    "segment": "unet_np.predict",
    "SGD": "unet_np.optim",
    "TrainConfig": "unet_np.train",
    "train": "unet_np.train",
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
        # A function may have the name of its module; the function is what is asked for.
        value = getattr(import_module(_LATER[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'unet_np' has no attribute {name!r}")
