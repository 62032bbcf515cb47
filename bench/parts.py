"""The network against PyTorch (both memory layouts), plain im2col and the machine's matrix product.

All of it in one process, in turn, with the same number of threads; memory in processes of their
own. Ratios below 1 mean that this package is faster or smaller. `--quick` gives a first look.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.account import bench_account
from bench.layers import bench_layers, layer_cases
from bench.network import bench_memory, bench_network, bench_scaling, bench_widths
from bench.peers import torch_module
from bench.report import report, roofline
from bench.timing import copy_rate, gemm_rate
from unet_np import backend
from unet_np.errors import InputError
from unet_np.files import atomic_write
from unet_np.network.architecture import Architecture

FULL = {"base_channels": 64, "size": 572, "repeats": 5}
QUICK = {"base_channels": 16, "size": 252, "repeats": 2}
PARTS = ("layers", "network", "widths", "tiles", "memory", "scaling", "account")

text = report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Size of the network and of what is measured."""
    add = parser.add_argument
    add("--size", type=int, help="tile size (572)")
    add("--base-channels", type=int, help="width of level 1 (64)")
    add("--repeats", type=int, help="measured rounds (5)")
    add("--threads", type=int, help="for both (all cores)")
    add("--backend", choices=("numpy", "cupy"), default="numpy")
    add("--tf32", action="store_true", help="on a GPU: TF32 on in both")
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (all)")
    add("--quick", action="store_true", help="base 16, size 252, 2 rounds: a first look")
    add("--picture", type=Path, help="draw the roofline (PNG or SVG)")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The parts that are asked for, by name; the roofline of the layers is drawn."""
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.repeats < 1:
        raise InputError(f"--repeats: got {args.repeats}, expected an integer >= 1")
    width, size, some = args.base_channels, args.size, max(1, args.repeats // 2)
    architecture = Architecture(base_channels=width)
    architecture.output_size(size)
    backend.set_thread_count(args.threads)
    xp = backend.get(args.backend)
    backend.allow_tf32(args.tf32, xp)
    torch_module(tf32=args.tf32)
    sizes = [188, 380, size] if args.quick else [188, 316, 572, 828, 1084]
    widths = [8, 16] if args.quick else [8, 16, 32, 64]
    tiles = [(188, 1), (188, 4), *([] if args.quick else [(380, 1)])]
    large = [] if args.quick else [(1084, 1)]  # minutes a round with 64 channels
    parts = {
        "layers": lambda: bench_layers(
            layer_cases(architecture, size),
            args.repeats,
            xp,
            ("auto", "im2col", "winograd", "winograd_rows"),
            args.tf32,
        ),
        "network": lambda: bench_network(width, size, args.repeats, xp, args.tf32),
        "widths": lambda: bench_widths(widths, [(size, 1)], args.repeats, xp),
        "tiles": lambda: [
            *bench_widths(widths, tiles, some + 1, xp),
            *bench_widths(widths[:-1], large, some + 1, xp),
        ],
        "memory": lambda: {
            kind: bench_memory(kind, width, size, args.backend, backend.thread_count())
            for kind in ("forward", "step")
        },
        "scaling": lambda: bench_scaling(width, sizes, [1, 4], some, xp),
        "account": lambda: bench_account(width, size, some, xp),
    }
    result: dict[str, Any] = {"size": size, "tf32": args.tf32}
    with backend.limited_blas(backend.thread_count()):
        result["gemm_rate"] = gemm_rate(xp, 1024 if args.quick else 4096)
        result["copy_rate"] = copy_rate(xp, 2**24 if args.quick else 2**28)
        for part in PARTS:
            if part in args.only:
                result[part] = parts[part]()
    if args.picture and "layers" in result:
        with atomic_write(args.picture) as temporary:
            roofline(result, temporary)
    return result
