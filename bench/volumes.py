"""A volume that does not fit in memory against a single image: time a pixel, and the peak.

Both are `unet-np segment` with the same network, bound and threads, each in a process of its own: a
slice as a TIFF, the volume as an OME-Zarr of as many slices as asked for. Seconds are those of the
processor, which a machine that others use as well changes less than those of the clock.
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
from unet_np.errors import integer
from unet_np.images import write_tiff

_CODE = """
import sys, time
from unet_np.cli import main
start = time.perf_counter()
code = main(sys.argv[1:])
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(code, time.process_time(), time.perf_counter() - start, int(peak.split()[1]) * 1024)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The size, the network and the bound."""
    add = parser.add_argument
    add("--slices", type=int, default=20)
    add("--side", type=int, default=4096)
    add("--base-channels", type=int, default=16)
    add("--memory", default="1300M")
    add("--tile", type=int, help="default: what --memory gives the volume")
    add("--note", default="", help="what a reader of the figures should know")
    add("--folder", type=Path, help="where the files go (default: a temporary folder)")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Two single images around the volume, so that a slower machine shows."""
    integer("--slices", args.slices, 1)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        pixels = _write(folder, args.slices, args.side)
        UNet(base_channels=args.base_channels, backend="numpy", seed=3).save(
            folder / "w.safetensors"
        )
        one = args.side**2
        rows = [_run("image, before", folder, "a.tif -o a-out.tif", args, one)]
        rows.append(_run("volume", folder, "v.zarr -o l.zarr", args, pixels))
        rows.append(_run("image, after", folder, "a.tif -o a-out.tif", args, one))
    image = (rows[0]["cpu_us_per_pixel"] + rows[2]["cpu_us_per_pixel"]) / 2
    return {
        "volume": [args.slices, args.side, args.side],
        "base_channels": args.base_channels,
        "memory": args.memory,
        "note": args.note,
        "rows": rows,
        "time_per_pixel_to_an_image": round(rows[1]["cpu_us_per_pixel"] / image, 4),
    }


def _write(folder: Path, slices: int, side: int) -> int:
    """A TIFF of one slice, and an OME-Zarr 0.5 of all; how many pixels that has."""
    import zarr

    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [50.0, 4.0, 4.0]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = zarr.create_group(str(folder / "v.zarr"), attributes={"ome": ome})
    array = group.create_array(
        "0", shape=(slices, side, side), chunks=(1, 1024, 1024), dtype="uint8"
    )
    for number in range(slices):
        page = np.random.default_rng(number).integers(0, 256, (side, side), np.uint8)
        array[number] = page
    write_tiff(folder / "a.tif", page)
    return slices * side**2


def _run(
    name: str, folder: Path, files: str, args: argparse.Namespace, pixels: int
) -> dict[str, Any]:
    tile = [] if args.tile is None else ["--tile", str(args.tile)]
    command = f"segment {files} -q --weights w.safetensors --threads 1 --memory {args.memory}"
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *command.split(), *tile],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    code, cpu, clock, peak = done.stdout.split()
    assert code == "0", done.stderr
    return {
        "what": name,
        "cpu_seconds": round(float(cpu), 2),
        "clock_seconds": round(float(clock), 2),
        "cpu_us_per_pixel": round(float(cpu) / pixels * 1e6, 4),
        "peak_bytes": int(peak),
    }
