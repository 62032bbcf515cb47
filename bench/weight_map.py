"""The weight map's time against one full-image distance transform for each cell.

    python bench/weight_map.py                             # a table
    python bench/weight_map.py --out results/weight_map.json

One thread, and its processor time, so that other programs count little; on a GPU, wall
time. Times are the least of several; a ratio of 10 means ten times faster than SciPy's
transforms, one for each cell, whose time for many cells is that of a few, scaled.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import scipy
from scipy.ndimage import distance_transform_edt

from unet_np import backend
from unet_np.files import atomic_write
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


def cells(size: int, per_side: int) -> np.ndarray:
    """Disks in a square grid, or nested rings where `per_side` is 0."""
    y, x = np.mgrid[:size, :size]
    if per_side == 0:
        return (np.hypot(y - size / 2, x - size / 2) / 10).astype(np.int32) + 1
    row, column = y * per_side // size, x * per_side // size
    step = size / per_side
    off = np.hypot(y - (row + 0.5) * step, x - (column + 0.5) * step)
    return np.where(off < 0.4 * step, row * per_side + column + 1, 0).astype(np.int32)


def clock_of(xp: ModuleType) -> Callable[[], float]:
    """What to time that library with."""
    return time.perf_counter if backend.is_device(xp) else time.thread_time


def least_seconds(
    function: Callable[[], object], repeats: int, clock: Callable[[], float] = time.thread_time
) -> float:
    """Time of the fastest call, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        begin = clock()
        function()
        times.append(clock() - begin)
    return min(times)


def measure(size: int, per_side: int, sigma: float, name: str, repeats: int) -> dict[str, object]:
    """One case."""
    instances = cells(size, per_side)
    xp = backend.get(name)
    there = backend.asarray(instances, xp)

    def ours() -> None:
        weight_map(there, sigma=sigma)
        backend.synchronize(xp)

    labels = np.unique(instances[instances > 0])
    some = labels[:: max(1, len(labels) // TRANSFORMS)]
    masks = [instances != label for label in some]
    times = [least_seconds(partial(distance_transform_edt, mask), 1) for mask in masks]
    one = sum(times) / len(times)
    seconds = least_seconds(ours, repeats, clock_of(xp))
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


def main() -> None:
    """Print the table and, if asked, write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the table to this JSON file")
    parser.add_argument("--backend", default="numpy", choices=backend.NAMES)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    backend.set_thread_count(1)
    print(f"{'size':>5} {'cells':>6} {'sigma':>5} {'shape':>6} {'ms':>8} {'ns/px':>6} {'ratio':>8}")
    rows = []
    for case in CASES:
        row = measure(*case, arguments.backend, arguments.repeats)
        rows.append(row)
        print(
            f"{row['size']:>5} {row['cells']:>6} {row['sigma']:>5} {row['shape']:>6} "
            f"{row['milliseconds']:>8} {row['nanoseconds_per_pixel']:>6} {row['ratio']:>8}"
        )
    if arguments.out:
        report = {
            "what": "weight_map against one full-image distance transform for each cell",
            "backend": arguments.backend,
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "threads": 1,
            "clock": clock_of(backend.get(arguments.backend)).__name__,
            "rows": rows,
        }
        with atomic_write(arguments.out) as path:
            path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
