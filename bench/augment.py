"""Data augmentation's time, in milliseconds and against scipy.ndimage.map_coordinates.

One thread, and its processor time; on a GPU, wall time. Times are the least of several. The
reference is given the finished dense field and only interpolates: image, labels and weights as
here, without random numbers, field or grey values. A ratio below 1 is faster than it. The aim at
512 x 512 is 60 ms.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from bench.timing import clock_of, least_seconds
from unet_np import backend
from unet_np.augmentation.augment import Augmentation

CASES = {
    "all, cubic": Augmentation(),
    "all, linear": Augmentation(order=1),
    "deformation only, cubic": replace(Augmentation.off(), sigma=10.0, order=3),
}


SIZES = (512, 1024)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, and how often."""
    parser.add_argument("--backend", default="numpy", choices=backend.NAMES)
    parser.add_argument("--repeats", type=int, default=15)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each setting and size of the image."""
    backend.set_thread_count(1)
    return [_row(name, size, args) for size in SIZES for name in CASES]


def scene(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A smooth random image, its labels and weights."""
    image = gaussian_filter(np.random.default_rng(0).normal(size=(size, size)), 2)
    image = (image / image.std()).astype(np.float32)
    labels = (image > 0).astype(np.uint8)
    return image, labels, (1 + 9 * (abs(image) < 0.2)).astype(np.float32)


def _row(name: str, size: int, args: argparse.Namespace) -> dict[str, Any]:
    augmentation, host = CASES[name], scene(size)
    xp = backend.get(args.backend)
    image, labels, weights = (backend.asarray(a, xp) for a in host)
    rng = np.random.default_rng(0)
    places = augmentation.coordinates((size, size), rng)

    def reference() -> None:
        for array, order in zip(host, (augmentation.order, 0, 1), strict=True):
            map_coordinates(array, places, order=order, mode="mirror")

    calls: dict[str, Callable[[], object]] = {
        "milliseconds": partial(augmentation, image, labels, weights, rng=rng),
        "tile_572_388_milliseconds": partial(
            augmentation.tile, image, labels, weights, 572, 388, rng
        ),
        "map_coordinates_milliseconds": reference,
    }
    wait = partial(backend.synchronize, xp)
    times = {
        what: 1e3 * least_seconds(call, args.repeats, clock_of(xp), wait)
        for what, call in calls.items()
    }
    ratio = times["milliseconds"] / times["map_coordinates_milliseconds"]
    rounded = {what: round(time, 2) for what, time in times.items()}
    return {"settings": name, "size": size, **rounded, "ratio": round(ratio, 3)}
