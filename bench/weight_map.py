"""The weight map's time against one full-image distance transform for each cell.

One thread, and its processor time; on a GPU, wall time. Times are the least of several; a ratio
of 10 means ten times faster than SciPy's transforms, one for each cell, whose time for many cells
is that of a few, scaled.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from bench.timing import clock_of, least_seconds
from unet_np import backend
from unet_np.weighting.eq2 import weight_map

CASES = [  # side of the image, cells along one side, sigma; then rings in rings
    (512, 1, 5),
    (512, 2, 5),
    (512, 10, 5),
    (512, 32, 5),
    (512, 100, 5),
    (256, 5, 5),
    (1024, 20, 5),
    (2048, 40, 5),
    (512, 10, 20),
    (512, 10, 100),
    (512, 2, 100),
    (512, 0, 5),
]
TRANSFORMS = 8  # how many are timed to know the time of one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, and how often."""
    parser.add_argument("--backend", default="numpy", choices=backend.NAMES)
    parser.add_argument("--repeats", type=int, default=5)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each case."""
    backend.set_thread_count(1)
    return [_row(*case, args) for case in CASES]


def cells(size: int, per_side: int) -> np.ndarray:
    """Disks in a square grid, or nested rings where `per_side` is 0."""
    y, x = np.mgrid[:size, :size]
    if per_side == 0:
        return (np.hypot(y - size / 2, x - size / 2) / 10).astype(np.int32) + 1
    row, column = y * per_side // size, x * per_side // size
    step = size / per_side
    off = np.hypot(y - (row + 0.5) * step, x - (column + 0.5) * step)
    return np.where(off < 0.4 * step, row * per_side + column + 1, 0).astype(np.int32)


def _row(size: int, per_side: int, sigma: float, args: argparse.Namespace) -> dict[str, Any]:
    instances, xp = cells(size, per_side), backend.get(args.backend)
    ours = partial(weight_map, backend.asarray(instances, xp), sigma=sigma)
    seconds = least_seconds(ours, args.repeats, clock_of(xp), partial(backend.synchronize, xp))
    labels = np.unique(instances[instances > 0])
    some = labels[:: max(1, len(labels) // TRANSFORMS)]
    transforms = [partial(distance_transform_edt, instances != label) for label in some]
    one = sum(least_seconds(transform, 1) for transform in transforms) / len(some)
    return {
        "size": size,
        "cells": len(labels),
        "sigma": sigma,
        "shape": "disks" if per_side else "rings",
        "milliseconds": round(seconds * 1e3, 2),
        "nanoseconds_per_pixel": round(seconds * 1e9 / size**2, 1),
        "transform_milliseconds": round(one * 1e3, 2),
        "ratio": round(one * len(labels) / seconds, 1),
    }
