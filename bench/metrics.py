"""Processor time of each ISBI-2012 metric on one 512 x 512 slice at all thresholds, in seconds.

Three kinds of input: membranes that are mostly right, a proposal that has nothing to do with the
label, and noise against noise, the worst that can come. Each metric runs on one core, so that
processor time is what a quiet machine takes.
"""

from __future__ import annotations

import argparse
from functools import partial
from time import process_time
from typing import Any

import numpy as np
from scipy import ndimage

from bench.timing import least_seconds
from unet_np import metrics

METRICS = ("warping_error", "rand_error", "rand_error_standard", "pixel_error", "v_rand", "v_info")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The size."""
    parser.add_argument("--size", type=int, default=512)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each metric, a column for each kind of input."""
    kinds = cases(args.size)
    return [
        {"metric": name}
        | {
            kind: round(least_seconds(partial(getattr(metrics, name), *pair), 1, process_time), 3)
            for kind, pair in kinds.items()
        }
        for name in METRICS
    ]


def membranes(size: int, seed: int, width: float) -> np.ndarray:
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


def cases(size: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
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
