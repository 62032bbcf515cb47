"""The weight map of eq. 2 and what it stands on: distances to cells, and borders between them."""

from unet_np.weighting.cell_distance import two_nearest_cells
from unet_np.weighting.eq2 import separation_term, weight_map
from unet_np.weighting.separation import separate_touching

__all__ = ["separate_touching", "separation_term", "two_nearest_cells", "weight_map"]
