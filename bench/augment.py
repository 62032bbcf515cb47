"""Data augmentation's time, in milliseconds and against scipy.ndimage.map_coordinates.

    python bench/augment.py                             # a table
    python bench/augment.py --out results/augment.json

One thread, and its processor time, so that other programs count little; on a GPU, wall
time. Times are the least of several. The reference is given the finished dense field and
only interpolates: image, labels and weights as here, without random numbers, field or grey
values. A ratio below 1 is faster than it.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import scipy
from scipy.ndimage import gaussian_filter, map_coordinates

from unet_np import backend
from unet_np.augmentation.augment import Augmentation
from unet_np.files import atomic_write

DEFORM_ONLY = replace(Augmentation.off(), sigma=10.0, order=3)
CASES = {
    "all, cubic": Augmentation(),
    "all, linear": Augmentation(order=1),
    "deformation only, cubic": DEFORM_ONLY,
}
LIMIT = 60.0  # milliseconds, at 512 x 512


def clock_of(xp: ModuleType) -> Callable[[], float]:
    """What to time that library with."""
    return time.perf_counter if backend.is_device(xp) else time.thread_time


def least_milliseconds(
    function: Callable[[], object], repeats: int, clock: Callable[[], float] = time.thread_time
) -> float:
    """Time of the fastest call, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        begin = clock()
        function()
        times.append(clock() - begin)
    return 1e3 * min(times)


def scene(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A smooth random image, its labels and weights."""
    image = gaussian_filter(np.random.default_rng(0).normal(size=(size, size)), 2)
    image = (image / image.std()).astype(np.float32)
    labels = (image > 0).astype(np.uint8)
    return image, labels, (1 + 9 * (abs(image) < 0.2)).astype(np.float32)


def measure(name: str, size: int, library: str, repeats: int) -> dict[str, object]:
    """One setting: whole image, training tile, and the reference."""
    augmentation, host = CASES[name], scene(size)
    xp = backend.get(library)
    image, labels, weights = (backend.asarray(a, xp) for a in host)
    rng = np.random.default_rng(0)
    places = augmentation.coordinates((size, size), rng)

    def whole() -> None:
        augmentation(image, labels, weights, rng=rng)
        backend.synchronize(xp)

    def tile() -> None:
        augmentation.tile(image, labels, weights, 572, 388, rng)
        backend.synchronize(xp)

    def reference() -> None:
        for array, order in zip(host, (augmentation.order, 0, 1), strict=True):
            map_coordinates(array, places, order=order, mode="mirror")

    clock = clock_of(xp)
    ours, theirs = least_milliseconds(whole, repeats, clock), least_milliseconds(reference, repeats)
    return {
        "settings": name,
        "size": size,
        "milliseconds": round(ours, 2),
        "tile_572_388_milliseconds": round(least_milliseconds(tile, repeats, clock), 2),
        "map_coordinates_milliseconds": round(theirs, 2),
        "ratio": round(ours / theirs, 3),
    }


def main() -> None:
    """Print the table and, if asked, write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the table to this JSON file")
    parser.add_argument("--backend", default="numpy", choices=backend.NAMES)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    backend.set_thread_count(1)
    print(f"{'settings':<24} {'size':>5} {'ms':>8} {'tile ms':>8} {'SciPy ms':>8} {'ratio':>6}")
    rows = []
    for size in (512, 1024):
        for name in CASES:
            row = measure(name, size, arguments.backend, arguments.repeats)
            rows.append(row)
            print(
                f"{name:<24} {size:>5} {row['milliseconds']:>8} "
                f"{row['tile_572_388_milliseconds']:>8} "
                f"{row['map_coordinates_milliseconds']:>8} {row['ratio']:>6}"
            )
    slowest = max(float(str(row["milliseconds"])) for row in rows if row["size"] == 512)
    print(
        f"slowest at 512 x 512: {slowest} ms, {slowest / LIMIT:.2f} of the {LIMIT:.0f} ms allowed"
    )
    if arguments.out:
        report = {
            "what": "Augmentation against map_coordinates on the finished field",
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
