"""Files that are whole or not there, and arrays in them."""

from unet_np.files.atomic import (
    atomic_write,
)

__all__ = [
    "atomic_write",
]
