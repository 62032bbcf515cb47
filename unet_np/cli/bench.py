"""``unet-np bench``: speed and memory as ratios to PyTorch and to the machine's limit."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Measure the network against PyTorch (both memory layouts), against plain im2col and against
this machine's matrix product, all in one process, in turn, with the same number of threads.
Ratios below 1 mean that this package is faster or smaller."""

EXAMPLE = "example: unet-np bench --quick"

FULL = {"base_channels": 64, "size": 572, "repeats": 5}
QUICK = {"base_channels": 16, "size": 252, "repeats": 2}
PARTS = ("layers", "network", "memory", "scaling", "account")


def add_parser(subparsers: Any) -> None:
    """Add this command's arguments."""
    parser = subparsers.add_parser(
        "bench",
        help="measure speed and memory",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", type=int, help="tile size (572)")
    parser.add_argument("--base-channels", type=int, help="width of level 1 (64)")
    parser.add_argument("--repeats", type=int, help="measured rounds (5)")
    parser.add_argument("--threads", type=int, help="for both (all cores)")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--tf32", action="store_true", help="on a GPU: TF32 on in both")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="parts to measure (all)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="base 16, size 252, 2 rounds: seconds, for a first look",
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--picture", type=Path, help="draw the roofline (PNG or SVG)")


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    from unet_np import backend, bench
    from unet_np.bench.peers import torch_module
    from unet_np.bench.report import report, roofline
    from unet_np.errors import InputError
    from unet_np.experiments.provenance import provenance
    from unet_np.files import atomic_write
    from unet_np.network.architecture import Architecture

    defaults = QUICK if args.quick else FULL
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.repeats < 1:
        raise InputError(f"--repeats: got {args.repeats}, expected an integer >= 1")
    architecture = Architecture(base_channels=args.base_channels)
    architecture.output_size(args.size)
    backend.set_thread_count(args.threads)
    if args.tf32:
        backend.allow_tf32()
    xp = backend.get(args.backend)
    torch_module(tf32=args.tf32)
    result: dict[str, Any] = {**provenance(), "size": args.size, "tf32": args.tf32}
    with backend.limited_blas(backend.thread_count()):
        result["gemm_rate"] = bench.gemm_rate(xp, 1024 if args.quick else 4096)
        result["copy_rate"] = bench.copy_rate(xp, 2**24 if args.quick else 2**28)
        if "layers" in args.only:
            cases = bench.layer_cases(architecture, args.size)
            names = ("auto", "im2col", "winograd")
            result["layers"] = bench.bench_layers(cases, args.repeats, xp, names, args.tf32)
        if "network" in args.only:
            result["network"] = bench.bench_network(
                args.base_channels, args.size, args.repeats, xp, args.tf32
            )
        if "memory" in args.only:
            result["memory"] = bench.bench_memory(
                args.base_channels, args.size, args.backend, backend.thread_count()
            )
        if "scaling" in args.only:
            sizes = [188, 380, args.size] if args.quick else [188, 316, 572, 828, 1084]
            result["scaling"] = bench.bench_scaling(
                args.base_channels, sizes, [1, 4], max(1, args.repeats // 2), xp
            )
        if "account" in args.only:
            result["account"] = bench.bench_account(
                args.base_channels, args.size, max(1, args.repeats // 2), xp
            )
    print(report(result))
    if args.out:
        with atomic_write(args.out) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")
    if args.picture and "layers" in result:
        with atomic_write(args.picture) as temporary:
            roofline(result, temporary)
    return 0
