"""Overlap-tile prediction (Fig. 2 of the paper): an image of any size, seams invisible."""

from unet_np.tiling.overlap_tile import (
    SYMMETRIES,
    Network,
    make_tiling,
    predict_tiled,
    turn,
)

__all__ = [
    "SYMMETRIES",
    "Network",
    "make_tiling",
    "predict_tiled",
    "turn",
]
