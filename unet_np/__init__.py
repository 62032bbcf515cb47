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

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
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
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'unet_np' has no attribute {name!r}")


class _Package(ModuleType):
    """Two functions have the name of their module, as in the paper: here the function counts.

    When Python has imported a module it sets it as an attribute of its package. Without
    this class `unet_np.weight_map` would be a function before that and a module after.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LATER and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
