"""Scores of segmentations, as the challenges' own programs compute them.

Each metric takes ``(labels, proposals)`` of shape (H, W) or (N, H, W) and gives one float;
curves, maps and matches give the details. The arrays are NumPy arrays.

==================================  ===============================  =====================
ISBI 2012 (U-Net paper, Table 1)    lower is better                  details
==================================  ===============================  =====================
`warping_error`                     topology                         `warping_curve`
`rand_error`                        pairs of pixels                  `rand_curve`
`pixel_error`                       pixels                           `pixel_curve`
`rand_error_standard`               pairs, background is an object   `rand_curve_standard`
==================================  ===============================  =====================

==================================  ===============================  =====================
Others                              higher is better                 details
==================================  ===============================  =====================
`v_rand`, `v_info`                  ISBI scores of 2015              `thinned_curves`
`seg_measure`                       U-Net paper, Table 2             `match_objects`
`iou`, `dice`                       two masks                        `overlap_counts`
`score_points`, `box_iou`           detections                       `match_points`
==================================  ===============================  =====================

`evaluate` gives several of them at once, for a stack and for each slice; `best_threshold` chooses
a threshold on one data set for use on another, ``rand_error(labels, proposals, threshold)`` uses
it. `warping_map` and `outcome_map` show where the errors are.
"""

from unet_np.metrics.evaluation import (
    ISBI_METRICS,
    METRIC_NAMES,
    Evaluation,
    best_threshold,
    evaluate,
)
from unet_np.metrics.isbi.deformation import warp
from unet_np.metrics.isbi.information import InfoCurve, info_curve
from unet_np.metrics.isbi.mismatches import Mismatch, classify_mismatches, count_clusters
from unet_np.metrics.isbi.pixel import PixelCurve, pixel_curve, pixel_error
from unet_np.metrics.isbi.rand import (
    RandCurve,
    StandardRandCurve,
    rand_curve,
    rand_curve_standard,
    rand_error,
    rand_error_standard,
)
from unet_np.metrics.isbi.thinning import thin_borders, thinned_curves, v_info, v_rand
from unet_np.metrics.isbi.thresholds import CHALLENGE_THRESHOLDS, WARPING_THRESHOLDS
from unet_np.metrics.isbi.warping import (
    WarpingCurve,
    WarpingMap,
    warping_curve,
    warping_error,
    warping_map,
)
from unet_np.metrics.objects.detection import (
    PointMatch,
    PointScores,
    box_iou,
    match_points,
    score_points,
)
from unet_np.metrics.objects.overlap import dice, iou, overlap_counts
from unet_np.metrics.objects.seg import (
    ObjectMatch,
    Outcome,
    match_objects,
    outcome_map,
    seg_measure,
)
from unet_np.metrics.scoring import confusion

__all__ = [
    "CHALLENGE_THRESHOLDS",
    "ISBI_METRICS",
    "METRIC_NAMES",
    "WARPING_THRESHOLDS",
    "Evaluation",
    "InfoCurve",
    "Mismatch",
    "ObjectMatch",
    "Outcome",
    "PixelCurve",
    "PointMatch",
    "PointScores",
    "RandCurve",
    "StandardRandCurve",
    "WarpingCurve",
    "WarpingMap",
    "best_threshold",
    "box_iou",
    "classify_mismatches",
    "confusion",
    "count_clusters",
    "dice",
    "evaluate",
    "info_curve",
    "iou",
    "match_objects",
    "match_points",
    "outcome_map",
    "overlap_counts",
    "pixel_curve",
    "pixel_error",
    "rand_curve",
    "rand_curve_standard",
    "rand_error",
    "rand_error_standard",
    "score_points",
    "seg_measure",
    "thin_borders",
    "thinned_curves",
    "v_info",
    "v_rand",
    "warp",
    "warping_curve",
    "warping_error",
    "warping_map",
]
