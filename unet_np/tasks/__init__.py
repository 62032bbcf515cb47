"""What a network is for: segmentation as in the paper; classification and detection beside it."""

from unet_np.tasks.task import (
    DETECT_CHANNELS,
    PRIOR,
    Arrays,
    Classify,
    Detect,
    Task,
    all_object_ids,
    crop_window,
    middles,
    mirrored,
)

__all__ = [
    "DETECT_CHANNELS",
    "PRIOR",
    "Arrays",
    "Classify",
    "Detect",
    "Task",
    "all_object_ids",
    "crop_window",
    "middles",
    "mirrored",
]
