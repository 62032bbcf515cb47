"""Where a step's time goes: each layer, forward and backward, against what the machine can do.

The least time is that of the operations of the direct sum at the rate of a large matrix product,
or that of the bytes that must be read and written at the rate of a copy, whichever is longer.
Winograd's algorithms do fewer operations, so a convolution may lie below it. "cores" is processor
time over time: what it lacks to the number of threads, threads waited, for the interpreter's lock,
for one another, or for a pass that one of them does alone.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from typing import Any

from bench.network import OwnNetwork
from bench.timing import copy_rate, gemm_rate
from unet_np import backend, ops
from unet_np.network.layer import Layer

BYTES = 4  # float32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The network, and how it is measured."""
    parser.add_argument("--base-channels", type=int, default=16, help="width of level 1 (16)")
    parser.add_argument("--size", type=int, default=572, help="tile size (572)")
    parser.add_argument("--threads", type=int, help="all cores by default")
    parser.add_argument("--repeats", type=int, default=5, help="steps; the fastest counts (5)")


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a layer; then one for each kind, the loss, and all together."""
    backend.set_thread_count(args.threads)
    xp = backend.get("numpy")
    own = OwnNetwork(args.base_channels, args.size, 1, xp)
    with backend.limited_blas(backend.thread_count()):
        rates = gemm_rate(xp, 2048), copy_rate(xp, 2**26)
        steps = [one_step(own) for _ in range(1 + args.repeats)][1:]
    rows = []
    sums: Counter[tuple[str, str]] = Counter()
    before = own.x.size
    shapes = own.net.architecture.shapes(own.x.shape)
    for layer, shape in shapes:
        after = math.prod(shape)
        work = operations(layer, after)
        # Backward: two such sums; the input is read beside the gradients.
        cost = {
            "forward": (work, BYTES * (before + after)),
            "backward": (2 * work, BYTES * (2 * before + after)),
        }
        row: dict[str, Any] = {"layer": layer.name, "output": "x".join(map(str, shape[1:]))}
        for way, (flop, moved) in cost.items():
            times = [step[layer.name, way] for step in steps]
            seconds, busy = min(times)
            least = max(flop / rates[0], moved / rates[1])
            row |= figures(way, flop, moved, seconds, least, busy)
            sums += Counter(
                {
                    (layer.kind, f"{way} s"): seconds,
                    (layer.kind, f"{way} least"): least,
                    (layer.kind, f"{way} flop"): flop,
                    (layer.kind, f"{way} bytes"): moved,
                    (layer.kind, f"{way} busy"): busy,
                }
            )
        rows.append(row)
        before = after
    for kind in dict.fromkeys(layer.kind for layer, _ in shapes):
        row = {"layer": f"all {kind}", "output": ""}
        for way in ("forward", "backward"):
            part = [sums[kind, f"{way} {key}"] for key in ("flop", "bytes", "s", "least", "busy")]
            row |= figures(way, *part)
        rows.append(row)
    loss, busy = min(step["loss", "forward"] for step in steps)
    empty = dict.fromkeys(rows[0], "")
    rows.append(empty | {"layer": "loss", "forward ms": f"{1000 * loss:.2f}"})
    return rows


def figures(
    way: str, flop: float, moved: float, seconds: float, least: float, busy: float
) -> dict[str, str]:
    """The cells of one direction."""
    return {
        f"{way} MFLOP": f"{flop / 1e6:.0f}",
        "MB" if way == "forward" else "MB ": f"{moved / 1e6:.1f}",
        f"{way} ms": f"{1000 * seconds:.2f}",
        "least" if way == "forward" else "least ": f"{1000 * least:.2f}",
        "cores" if way == "forward" else "cores ": f"{busy / seconds:.2f}",
    }


def operations(layer: Layer, outputs: int) -> int:
    """Multiplications and additions of the direct sum, for so many output numbers.

    Examples
    --------
    >>> from unet_np import Architecture
    >>> operations(Architecture().layers[0], 64 * 570**2) == 2 * 9 * 64 * 570**2
    True
    """
    if layer.kind not in ("conv", "upconv"):
        return 0
    taps = layer.kernel**2 if layer.kind == "conv" else 1
    return 2 * taps * layer.in_channels * outputs


def one_step(own: OwnNetwork) -> dict[tuple[str, str], tuple[float, float]]:
    """Seconds and processor seconds of each layer's two passes, and of the loss."""
    times = {}
    run, x = own.net.begin_pass(train=True, keep=True), own.x
    layers = own.net.architecture.layers
    with backend.single_threaded_blas():
        for layer in layers:
            start = time.perf_counter(), time.process_time()
            x = run.forward(layer, x)
            times[layer.name, "forward"] = since(start)
        start = time.perf_counter(), time.process_time()
        _, grad = ops.weighted_cross_entropy(x, own.labels, reduction="mean", check=False)
        times["loss", "forward"] = since(start)
        for layer in reversed(layers):
            run.need_grad_x = layer is not layers[0]
            start = time.perf_counter(), time.process_time()
            grad = run.backward(layer, grad)
            times[layer.name, "backward"] = since(start)
    return times


def since(start: tuple[float, float]) -> tuple[float, float]:
    """Seconds and processor seconds since then.

    Examples
    --------
    >>> since((time.perf_counter(), time.process_time()))[0] >= 0
    True
    """
    return time.perf_counter() - start[0], time.process_time() - start[1]
