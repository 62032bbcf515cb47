"""Data augmentation (Sec. 3.1): smooth random deformations and all that goes with them."""

from unet_np.augmentation.augment import Augmentation
from unet_np.augmentation.warp import displacement_field, sample

__all__ = ["Augmentation", "displacement_field", "sample"]
