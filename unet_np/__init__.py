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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_np.errors import InputError as InputError
    from unet_np.errors import MissingExtraError as MissingExtraError
    from unet_np.errors import TrainingError as TrainingError
    from unet_np.network.architecture import Architecture as Architecture
    from unet_np.network.unet import UNet as UNet

    __version__: str

# Looked up when first asked for, so that the command line and `import unet_np` stay quick.
_LATER = {
    "Architecture": "unet_np.network.architecture",
    "InputError": "unet_np.errors",
    "MissingExtraError": "unet_np.errors",
    "TrainingError": "unet_np.errors",
    "UNet": "unet_np.network.unet",
    "weight_map": "unet_np.weighting",
    "Augmentation": "unet_np.augmentation",
    "predict_tiled": "unet_np.tiling",
    "segment": "unet_np.tasks.segmentation",
    "SGD": "unet_np.training.optim",
    "TrainConfig": "unet_np.training.config",
    "train": "unet_np.training.loop",
}

__all__ = ["__version__", *_LATER]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'unet_np' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("unet-np")
    except PackageNotFoundError:  # the source without an installation
        return "0"
