"""The way from im2col to the final version as Markdown, from the file of `make bench`.

python -m bench speed > results/speed.md
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from bench.report import layer_ratio

EXPECTED = {
    "im2col": (
        "The forward pass is {gflop:.0f} GFLOP of 3x3 convolutions, the step three times as much. "
        "At the rate of a large matrix product that is {direct:.2f} s and {direct3:.2f} s. The "
        "column matrix is nine times the input, and has to be written and read."
    ),
    "Winograd, small blocks": (
        "36 multiplications in the place of 144 make {quarter:.2f} s and {quarter3:.2f} s, if the "
        "transforms were free. Blocks of 48 tiles stay in a core's own cache."
    ),
    "larger blocks": (
        "Each call of NumPy gives up the interpreter's lock and must wait for it again. Three to "
        "six times fewer calls leave more of both cores, at the price of the cache."
    ),
    "memory used again": (
        "The system hands out zeroed pages, and the step asks for all its feature maps and their "
        "gradients anew. Using the memory of the step before should save that work."
    ),
    "Winograd at the bottom too": (
        "With kernels transformed some channels at a time, the 49 tiles of the 1024-channel layers "
        "pay as well: a quarter of the multiplications for 15 % of all work."
    ),
    "from row to row": (
        "With few channels the products are small, and cutting tiles out and putting them back "
        "takes longer. In one dimension, F(4, 3), half of the multiplications are needed, and each "
        "step is a matrix product of whole rows as they lie in memory. In this wide network that "
        "does the first layer and some gradients of kernels; in a narrow one, most."
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file."""
    parser.add_argument("--figures", type=Path, default=Path("results/bench-cpu.json"))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """What was measured before."""
    return dict(json.loads(args.figures.read_text("utf-8")))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines)


def width_table(rows: list[dict[str, Any]], first: list[str]) -> str:
    """Widths of level 1, one line each; `first` are columns before those of the times."""
    header = [*first, "forward", "ratio", "step", "ratio"]
    return table(header, [[*(f"{row[key]}" for key in first), *_times(row)] for row in rows])


def _times(row: dict[str, Any]) -> list[str]:
    """Seconds, and the ratio from the lowest to the highest round, of both kinds."""
    return [
        cell
        for kind in ("forward", "step")
        for cell in (
            f"{row[kind]['seconds']['unet_np']:.3f}",
            "{:.2f} ({:.2f} to {:.2f})".format(row[kind]["ratio"], *row[kind]["ratio_range"]),
        )
    ]


def text(result: dict[str, Any]) -> str:
    """All of it."""
    rate = result["gemm_rate"]
    work = result["account"]["operations"]
    direct = work / rate
    numbers = {
        "gflop": work / 1e9,
        "direct": direct,
        "direct3": 3 * direct,
        "quarter": direct / 4,
        "quarter3": 3 * direct / 4,
    }
    steps, measured = [], []
    for row in result["account"]["rows"]:
        expected = EXPECTED[row["name"]].format(**numbers)
        steps.append(f"**{row['name'].capitalize()}**: {row['change']}. {expected}")
        measured.append([row["name"], f"{row['forward']:.2f}", f"{row['step']:.2f}"])
    for layout, times in result["account"]["torch"].items():
        measured.append([f"PyTorch, {layout}", f"{times['forward']:.2f}", f"{times['step']:.2f}"])
    network, memory = result["network"], result["memory"]
    ratios = [
        [
            kind,
            f"{network[kind]['ratio']:.2f}",
            "{:.2f} to {:.2f}".format(*network[kind]["ratio_range"]),
            f"{memory[kind]['ratio']:.2f}",
        ]
        for kind in ("forward", "step")
    ]
    layers = [
        statistics.median(layer_ratio(row, direction) for row in result["layers"])
        for direction in ("forward", "backward")
    ]
    machine = result["machine"]
    return "\n\n".join(
        [
            "# From im2col to as fast as PyTorch",
            f"The paper's network: 64 base channels, one tile of {result['size']} pixels, float32. "
            f"{machine['processor']}, {machine['threads']} threads, "
            f"{', '.join(machine['blas'])}; matrix product {rate / 1e9:.0f} GFLOP/s. Written by "
            "`python -m bench speed` from `bench-cpu.json`, which `make bench` wrote at commit "
            f"{result['commit']}.",
            "## What each step was expected to give",
            *steps,
            "## What it gave",
            "Seconds, medians of rounds in turn. Each line is the one before with one thing more.",
            table(["version", "forward", "training step"], measured),
            "## Where it stands",
            "Time and peak memory over those of PyTorch's better layout; below 1 is faster or "
            "smaller.",
            table(["", "time", "from round to round", "peak memory"], ratios),
            f"Layer by layer, the median ratio is {layers[0]:.2f} forward and {layers[1]:.2f} "
            "backward.",
            "## Narrow networks",
            "Seconds on the same tile, and the ratio to PyTorch's better layout, from the lowest "
            "to the highest round. `python -m bench passes` tells where it goes.",
            width_table(result["widths"], ["base_channels", "threads"]),
            "## Other tiles and batches",
            "The same for other sides of the tile, in pixels, and for batches.",
            width_table(result["tiles"], ["size", "batch", "base_channels", "threads"]),
            "![Roofline of the network's convolutions: GFLOP/s over operations per byte, for this "
            "package, im2col and PyTorch](roofline-cpu.png)",
            "## What failed",
            "* Transforming with NumPy's ufuncs: each addition is a pass over memory.",
            "* The transform as one product with a 36x36 matrix: five times the arithmetic of two "
            "products with a 6x6 matrix, and slower than those.",
            "* Blocks as small as a core's cache: no better on one thread, the worst on two.",
            "* Moving pixels of a tile as one element each: no faster from 64 channels on. Below, "
            "they are copied twice as fast so.",
            "* Max pooling's backward on gathered pixels: its passes over memory are the same.",
            "* Blocks of four rows, for two threads: each of NumPy's calls may have to wait for "
            "the interpreter's lock, and a thread takes longer to wake than a small call lasts.",
            "* Two threads of BLAS in the place of two of Python: products of a block are below "
            "what OpenBLAS shares out, and larger blocks leave the cache.",
            "* Blocks two to four times as large for two threads: fewer calls, and as much more "
            "time outside of the cache.",
            "* Another switch interval of the interpreter: NumPy gives the lock up by itself.",
            "* An up-convolution that writes where the maps are joined: a pass less, no faster: "
            "short runs of a pixel's channels are what costs.",
            "* Leaving layers with little work to one thread, on a tile of 572 pixels: 1 % at 8 "
            "channels, nothing at 16. On smaller tiles it pays, and stayed.",
            "* Max pooling's backward on whole rows, with each maximum repeated: faster with 8 "
            "channels, slower with 16 and with 64.",
            "* Setting BLAS to one thread once for a whole pass in the place of each operation: no "
            "difference that could be measured. It stayed, as the simpler rule.",
        ]
    )
