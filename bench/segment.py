"""Peak memory of `unet-np segment` where --memory names a bound, or the line that refuses it.

An image full of cells and a small network: what grows with the image is the same with any.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import UNet
from unet_np.images import write_tiff

_CODE = """
import sys
from unet_np.cli import main
code = main(sys.argv[1:])
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(code, int(peak.split()[1]) >> 10)
"""

_CELLS = {
    "": "",
    "instances": "--instances",
    "seeds": "--instances --seeds 0.55 --threshold 0.5 --erosion 2",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Bounds and sizes."""
    default = [
        f"{size}{more}"
        for size in ("8192:300M", "20000:2000M")
        for more in ("", ":instances", ":seeds")
    ]
    form = "SIDE:MEMORY[:instances or seeds]"
    parser.add_argument("--cases", nargs="+", default=default, metavar=form)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each case, each in a process of its own."""
    return [_one(*case.split(":")) for case in args.cases]


def _one(side: str, memory: str, cells: str = "") -> dict[str, Any]:
    rows, columns = np.indices((64, 64)) - 32
    cell = (100 * (np.hypot(rows, columns) < 20)).astype(np.uint8)
    count = -(-int(side) // 64)
    with tempfile.TemporaryDirectory() as folder:
        write_tiff(Path(folder, "a.tif"), np.tile(cell, (count, count))[: int(side), : int(side)])
        net = UNet(base_channels=2, depth=1, backend="numpy", seed=3)
        net.save(Path(folder, "w.safetensors"))
        command = f"segment a.tif -q -o o.tif --weights w.safetensors --threads 1 --memory {memory}"
        done = subprocess.run(
            [sys.executable, "-c", _CODE, *command.split(), *_CELLS[cells].split()],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
    said = done.stderr.strip().rpartition("error: ")[2]
    peak = int(done.stdout.split()[1])
    named = {"side": int(side), "memory": memory, "cells": cells}
    return {**named, "peak_mib": peak, "said": said}
