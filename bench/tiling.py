"""Memory and time of overlap-tile prediction, each case in a process of its own.

Without arguments 4096 x 4096 pixels at base 16, as the project promises; with `--estimate`
forward_bytes against what a forward pass takes.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import unet_np.images  # noqa: F401  what the command line has loaded as well
from bench.process import in_own_process, peak
from unet_np import UNet
from unet_np.tiling import make_tiling, predict_tiled
from unet_np.tiling.memory import forward_bytes

ESTIMATED = [  # tile, base channels, depth, padding
    ((572, 572), 64, 4, 0),
    ((1148, 1148), 16, 4, 0),
    ((1564, 2236), 16, 4, 0),
    ((1024, 1024), 16, 4, 1),
    ((1020, 1020), 32, 2, 0),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The image, the network and the budget."""
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--base-channels", type=int, default=16)
    parser.add_argument("--memory", type=int, default=1024, help="budget in MB")
    parser.add_argument("--averaging", type=int, default=1)
    parser.add_argument("--estimate", action="store_true")


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row, or one for each estimate."""
    if args.estimate:
        return [in_own_process(forward, *case) for case in ESTIMATED]
    budget = args.memory * 2**20
    return [in_own_process(predict, args.size, args.base_channels, budget, args.averaging)]


def predict(size: int, base: int, budget: int, averaging: int) -> dict[str, Any]:
    """One image of size x size through the network, tile by tile."""
    net = UNet(base_channels=base, backend="numpy")
    image = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    tiling = make_tiling(net.architecture, image.shape, memory_budget=budget)
    before, start = peak(), time.perf_counter()
    result = predict_tiled(net, image, memory_budget=budget, averaging=averaging)
    seconds = time.perf_counter() - start
    return {
        "size": size,
        "base_channels": base,
        "averaging": averaging,
        "memory_budget_mb": budget // 2**20,
        "tile": tiling.tile,
        "tiles": len(tiling),
        "seconds": round(seconds, 1),
        "megapixels_per_second": round(averaging * size**2 / seconds / 1e6, 3),
        "rss_before_mb": before // 2**20,
        "peak_rss_mb": peak() // 2**20,
        "result_mb": result.nbytes // 2**20,
    }


def forward(tile: tuple[int, int], base: int, depth: int, padding: int) -> dict[str, Any]:
    """One forward pass, against the estimate."""
    net = UNet(base_channels=base, depth=depth, padding=padding, backend="numpy")
    architecture = net.architecture
    # A small pass first, so that libraries, threads and scratch memory are there already.
    smallest = architecture.min_input_size
    net.forward(np.zeros((1, 1, smallest, smallest), np.float32))
    x = np.zeros((1, 1, *tile), np.float32)
    x += 1
    before = peak()
    net.forward(x)
    taken, estimate = peak() - before, forward_bytes(architecture, tile)
    return {
        "base_channels": base,
        "depth": depth,
        "padding": padding,
        "tile": tile,
        "estimate_mb": round(estimate / 2**20, 1),
        "measured_mb": round(taken / 2**20, 1),
        "ratio": round(taken / estimate, 2),
    }
