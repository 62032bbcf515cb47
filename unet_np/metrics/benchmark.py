"""Processor time of each ISBI-2012 metric on one 512 x 512 slice at all thresholds.

    python -m unet_np.metrics.benchmark

prints a table for three kinds of input: membranes that are mostly right, a proposal that has
nothing to do with the label, and noise against noise, the worst that can come. Each metric runs
on one core, so that processor time is what a quiet machine takes.
"""

from __future__ import annotations

import sys
from time import process_time

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_np.metrics import (
    pixel_error,
    rand_error,
    rand_error_standard,
    v_info,
    v_rand,
    warping_error,
)

METRICS = (warping_error, rand_error, rand_error_standard, pixel_error, v_rand, v_info)


def membranes(size: int, seed: int, width: float) -> NDArray[np.float64]:
    """Smooth probability of interior with curved membranes, (size, size).

    Examples
    --------
    >>> image = membranes(64, 0, 1.0)
    >>> image.shape, bool(image.min() >= 0), bool(image.max() <= 1)
    ((64, 64), True, True)
    """
    noise = np.random.default_rng(seed).normal(size=(size, size))
    smooth = ndimage.gaussian_filter(noise, 8)
    return np.clip(np.abs(smooth) / smooth.std() / width, 0, 1)


def cases(size: int = 512) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    """Pairs of label and proposal by name.

    Examples
    --------
    >>> list(cases(32))
    ['mostly right', 'unrelated', 'noise']
    """
    rng = np.random.default_rng(1)
    image = membranes(size, 0, 0.4)
    blurred = ndimage.gaussian_filter(image, 1) + rng.normal(scale=0.15, size=image.shape)
    return {
        "mostly right": (image > 0.5, np.clip(blurred, 0, 1)),
        "unrelated": (image > 0.5, membranes(size, 2, 0.4)),
        "noise": (rng.random((size, size)) > 0.2, rng.random((size, size))),
    }


def run(size: int = 512) -> dict[str, dict[str, float]]:
    """Processor seconds by case and metric, one run each.

    Examples
    --------
    >>> run(32)["noise"]["pixel_error"] < 1
    True
    """
    seconds: dict[str, dict[str, float]] = {}
    for name, (label, proposal) in cases(size).items():
        seconds[name] = {}
        for metric in METRICS:
            start = process_time()
            metric(label, proposal)
            seconds[name][metric.__name__] = process_time() - start
    return seconds


def main(size: int = 512) -> None:
    """Print the table.

    Examples
    --------
    >>> main(32)  # doctest: +ELLIPSIS
    processor seconds for 32 x 32, all thresholds
    ...
    """
    seconds = run(size)
    lines = [f"processor seconds for {size} x {size}, all thresholds", f"{'':20}"]
    lines[1] += "".join(f"{name:>14}" for name in seconds)
    for metric in METRICS:
        row = "".join(f"{times[metric.__name__]:14.3f}" for times in seconds.values())
        lines.append(f"{metric.__name__:20}{row}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
