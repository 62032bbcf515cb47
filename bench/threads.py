"""What a second thread is worth, and what it could be worth at most.

For each width of level 1: one thread; all threads on one tile; as many threads, every one with a
network and a tile of its own; and as many processes of one thread each. Processes share nothing but
the machine's memory and caches, so what they lack to the number of cores, no sharing out of work
can give. Threads apart also share the interpreter's lock, and threads on one tile wait for each
other, and for the parts that one of them does alone. An interpreter without a lock tells its part.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from threading import Barrier
from typing import Any

from bench.network import SETTLE, OwnNetwork
from bench.timing import interleaved
from unet_np import backend
from unet_np.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Widths, and how long."""
    add = parser.add_argument
    add("--base-channels", type=int, nargs="+", default=[8, 16, 32, 64], help="8 16 32 64")
    add("--size", type=int, default=572, help="tile size (572)")
    add("--threads", type=int, help="all cores by default")
    add("--repeats", type=int, default=15, help="measured calls of each; medians count (15)")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each way, and what all cores are worth in units of one."""
    threads = args.threads or backend.thread_count()
    if threads < 2:
        raise InputError(f"--threads: got {threads}, expected 2 or more, to compare with one")
    locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    rows = []
    for width in args.base_channels:
        one = seconds(1, width, args.size, args.repeats)
        together = seconds(threads, width, args.size, args.repeats)
        own = of_threads(threads, width, args.size, args.repeats)
        apart = of_processes(threads, width, args.size, args.repeats)
        for kind in one:
            row = {"base_channels": width, "kind": kind, "one": one[kind]}
            row |= {"threads": together[kind], "apart": own[kind], "processes": apart[kind]}
            row["gain of threads"] = one[kind] / together[kind]
            row["gain apart"] = threads * one[kind] / own[kind]
            row["gain of processes"] = threads * one[kind] / apart[kind]
            rows.append(row)
    backend.set_thread_count(threads)  # for the provenance
    return {"count": threads, "interpreter_lock": locked, "rows": rows}


def text(result: dict[str, Any]) -> str:
    """A table in milliseconds."""
    from bench.__main__ import table

    def cell(key: str, value: Any) -> str:
        scale = 1 if key.startswith("gain") else 1000
        return f"{scale * value:.2f}" if isinstance(value, float) else str(value)

    return table([{key: cell(key, value) for key, value in row.items()} for row in result["rows"]])


def seconds(
    threads: int, width: int, size: int, repeats: int, together: Barrier | None = None
) -> dict[str, float]:
    """Medians of prediction and training step."""
    xp = backend.get("numpy")
    backend.set_thread_count(threads)
    own = OwnNetwork(width, size, 1, xp)
    result = {}
    for kind in ("forward", "step"):
        call = getattr(own, kind)
        call()
        if together is not None:
            together.wait()
        result[kind] = statistics.median(interleaved({"": call}, repeats, settle=SETTLE)[""])
    return result


def of_threads(count: int, width: int, size: int, repeats: int) -> dict[str, float]:
    """The same of several threads of this process at once, each with a network of its own."""
    with ThreadPoolExecutor(count) as pool:
        return _at_once(pool, Barrier(count), width, size, repeats)


def of_processes(count: int, width: int, size: int, repeats: int) -> dict[str, float]:
    """The same of several processes at once."""
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(count, context) as pool:
        return _at_once(pool, manager.Barrier(count), width, size, repeats)


def _at_once(
    pool: Executor, barrier: Barrier, width: int, size: int, repeats: int
) -> dict[str, float]:
    """Means over as many workers as the barrier waits for; each kind begins together."""
    waiting = [
        pool.submit(seconds, 1, width, size, repeats, barrier) for _ in range(barrier.parties)
    ]
    found = [one.result() for one in waiting]
    return {kind: statistics.mean(one[kind] for one in found) for kind in found[0]}
