"""Errors and changes by distance to a border, for the border study."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from unet_np.experiments.protocol import rounded

EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
"""Distances at which the bins begin; the last one ends the last bin."""

WAYS = ("valid", "tiles", "overlap", "whole", "mirrored")
"""No padding and overlap-tile; padding 1 in four ways of cutting."""


def scores(
    maps: dict[str, np.ndarray], truth: np.ndarray, thresholds: dict[str, float], side: int
) -> dict[str, Any]:
    """Errors and changes of each way, by distance to a cut and to the border of the slice.

    Parameters
    ----------
    maps : dict
        By way, (N, H, W) probabilities.
    truth : numpy.ndarray
        (N, H, W) bool.
    thresholds : dict
        Of ``valid`` and ``same``.
    side : int
        Of the tiles side by side.
    """
    wrong = {
        way: (probability > thresholds["valid" if way == "valid" else "same"]) != truth
        for way, probability in maps.items()
    }
    cuts = distance_to_cut(truth.shape[1:], side)
    border = distance_to_border(truth.shape[1:])
    ways = {}
    for way in WAYS:
        ways[way] = {
            "wrong": rounded(wrong[way].mean(), 5),
            "wrong_by_slice": [rounded(one.mean(), 5) for one in wrong[way]],
            "wrong_by_distance": by_distance(wrong[way], cuts),
        }
        if way != "valid":
            ways[way] |= changes(maps[way], maps["whole"], thresholds["same"], cuts)
    return {
        "distance": bins(cuts),
        "ways": ways,
        "image_border": {
            "distance": bins(border),
            "wrong_by_distance": {
                way: by_distance(wrong[way], border) for way in ("valid", "whole", "mirrored")
            },
        },
    }


def changes(
    maps: np.ndarray, whole: np.ndarray, threshold: float, distance: np.ndarray
) -> dict[str, Any]:
    """How a way of predicting differs from the prediction of whole slices by the same network."""
    difference = np.abs(maps - whole)
    flipped = (maps > threshold) != (whole > threshold)
    return {
        "largest_change": rounded(difference.max(), 5),
        "change_by_distance": by_distance(difference, distance),
        "flipped": rounded(flipped.mean(), 5),
        "flipped_by_distance": by_distance(flipped, distance),
    }


def distance_to_cut(shape: tuple[int, ...], side: int) -> np.ndarray:
    """Pixels between each pixel and the nearest cut between tiles; 0 beside a cut.

    The border of the image is no cut: the prediction of the whole image meets it too.

    Parameters
    ----------
    shape : tuple of int
        (H, W).
    side : int
        Of the tiles, which begin at (0, 0).

    Examples
    --------
    >>> distance_to_cut((1, 8), 4).tolist()
    [[3, 2, 1, 0, 0, 1, 2, 3]]
    """
    axes = []
    for size in shape:
        place, nearest = np.arange(size), np.full(size, sum(shape))
        for cut in range(side, size, side):
            nearest = np.minimum(nearest, np.where(place < cut, cut - 1 - place, place - cut))
        axes.append(nearest)
    return np.minimum(axes[0][:, None], axes[1][None])


def distance_to_border(shape: tuple[int, ...]) -> np.ndarray:
    """Pixels between each pixel and the border of the image; 0 at the border.

    Examples
    --------
    >>> distance_to_border((3, 4)).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    height, width = (np.minimum(np.arange(size), size - 1 - np.arange(size)) for size in shape)
    return np.minimum(height[:, None], width[None])


def bins(distance: np.ndarray) -> list[list[int]]:
    """First and last distance of each bin that holds pixels.

    Examples
    --------
    >>> bins(np.arange(5))
    [[0, 0], [1, 1], [2, 2], [3, 3], [4, 5]]
    """
    return [[a, b - 1] for a, b in pairwise(EDGES) if ((distance >= a) & (distance < b)).any()]


def by_distance(values: np.ndarray, distance: np.ndarray) -> list[float | None]:
    """Mean of (N, H, W) values in each of the `bins`."""
    return [
        rounded(values[:, (distance >= a) & (distance <= b)].mean(), 5) for a, b in bins(distance)
    ]
