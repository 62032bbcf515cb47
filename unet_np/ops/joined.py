"""Two maps that a convolution reads as one, on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

from unet_np.backend import Array
from unet_np.ops.crop import crop_concat


class Joined(NamedTuple):
    """What `crop_concat` would make of two maps, for the convolution behind it to read from them.

    In the paper's last level that would be a map of 75 MiB, written only to be read there.

    Attributes
    ----------
    skip : array (B, C1, H1, W1)
        Of the contracting path, to be cropped.
    up : array (B, C2, H2, W2)
        Output of the up-convolution.

    Examples
    --------
    >>> import numpy as np
    >>> both = Joined(np.zeros((1, 64, 568, 568)), np.ones((1, 64, 392, 392)))
    >>> both.shape, together(both).shape
    ((1, 128, 392, 392), (1, 128, 392, 392))
    """

    skip: Array
    up: Array

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, C1 + C2, H2, W2)."""
        batch, more, *size = self.up.shape
        return batch, self.skip.shape[1] + more, *size

    @property
    def ndim(self) -> int:
        """As of an array."""
        return 4

    @property
    def dtype(self) -> Any:
        """As of an array."""
        return self.up.dtype


def together(x: Array | Joined) -> Array:
    """The array itself, or the one that stands for the two.

    Examples
    --------
    >>> together(3)
    3
    """
    return crop_concat(*x)[0] if isinstance(x, Joined) else x
