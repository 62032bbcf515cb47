"""Volumes that do not fit in memory: the overlap-tile strategy (Fig. 2) as a map with a halo.

Every tile of every slice is a block of a `dask.array`. A block reads its window of the image, which
is its output and the network's margin around it, mirrored at the border of the slice as in Fig. 2;
so blocks need nothing of each other, any process can compute any of them, and one that is lost is
computed again. The tiles are those of `unet_np.tiling`, so the result is bit for bit that of
`unet_np.tasks.segmentation.segment` on a slice with the same tile and as many threads.
"""

from unet_np.volumes.blocks import Model, probabilities
from unet_np.volumes.cluster import connected
from unet_np.volumes.run import Settings, number_cells, segment_volume
from unet_np.volumes.source import Volume, is_zarr, open_volume

__all__ = [
    "Model",
    "Settings",
    "Volume",
    "connected",
    "is_zarr",
    "number_cells",
    "open_volume",
    "probabilities",
    "segment_volume",
]
