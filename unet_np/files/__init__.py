"""Files that are whole or not there, and arrays in them."""

from unet_np.files.atomic import (
    atomic_write,
    temporary_folder,
)

__all__ = [
    "atomic_write",
    "temporary_folder",
]
