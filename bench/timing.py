"""Interleaved timing: what is compared runs in turn, so that all share the same weather."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np

from unet_np.backend import default_rng, is_device, parallel_map, synchronize, thread_count


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int,
    wait: Callable[[], object] = lambda: None,
    settle: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds of each call of each contender; one call of each, in turn, `repeats` times.

    Parameters
    ----------
    contenders : dict
        Name to function. Each is called once before, unmeasured.
    repeats : int
        Measured calls of each.
    wait : function
        Called before each look at the clock: on a GPU, waits until it is done.
    settle : float, in seconds
        A contender whose calls take less is called once more, unmeasured, before each measured
        call. Threads that have slept through the others' turns may begin on one core, and the
        system takes some hundredths of a second to part them: much of a short call, nothing of
        a training that goes on.

    Examples
    --------
    >>> times = interleaved({"a": lambda: None, "b": lambda: sum(range(1000))}, 3)
    >>> {name: len(seconds) for name, seconds in times.items()}
    {'a': 3, 'b': 3}
    """

    def once(function: Callable[[], object]) -> float:
        wait()
        start = time.perf_counter()
        function()
        wait()
        return time.perf_counter() - start

    times: dict[str, list[float]] = {name: [] for name in contenders}
    short = {name: once(call) < settle for name, call in contenders.items()}
    for _ in range(repeats):
        gc.collect()
        gc.disable()  # or one contender's garbage would be collected in another's turn
        try:
            for name, function in contenders.items():
                if short[name]:
                    function()
                times[name].append(once(function))
        finally:
            gc.enable()
    return times


def ratios(times: dict[str, list[float]], name: str, peers: list[str]) -> list[float]:
    """Time of `name` over that of the fastest peer, round by round.

    Which peer is the fastest is decided once, by the medians.

    Examples
    --------
    >>> ratios({"a": [1.0, 2.0], "b": [2.0, 2.0], "c": [9.0, 9.0]}, "a", ["b", "c"])
    [0.5, 1.0]
    """
    best = min(peers, key=lambda peer: statistics.median(times[peer]))
    return [own / other for own, other in zip(times[name], times[best], strict=True)]


def clock_of(xp: ModuleType) -> Callable[[], float]:
    """Processor time of this thread, so that other programs count little; wall time on a GPU.

    Examples
    --------
    >>> clock_of(np).__name__
    'thread_time'
    """
    return time.perf_counter if is_device(xp) else time.thread_time


def least_seconds(
    function: Callable[[], object],
    repeats: int,
    clock: Callable[[], float] = time.thread_time,
    wait: Callable[[], object] = lambda: None,
) -> float:
    """Time of the fastest call, after one that warms up.

    Examples
    --------
    >>> least_seconds(lambda: sum(range(1000)), 3) > 0
    True
    """
    times = []
    for _ in range(repeats + 1):
        begin = clock()
        function()
        wait()
        times.append(clock() - begin)
    return min(times[1:])


def gemm_rate(xp: ModuleType = np, size: int = 4096, repeats: int = 3) -> float:
    """Operations a second of a square float32 matrix product: the machine's practical limit.

    Parameters
    ----------
    xp : module
        ``numpy`` or ``cupy``.
    size : int
        Rows and columns; 2 size^3 operations.
    repeats : int
        The fastest counts.

    Examples
    --------
    >>> gemm_rate(size=64, repeats=1) > 0
    True
    """
    rng = default_rng(xp, (0,))
    a = rng.random((size, size), dtype=xp.float32)
    b = rng.random((size, size), dtype=xp.float32)
    times = interleaved({"gemm": lambda: a @ b}, repeats, lambda: synchronize(xp))
    return 2 * size**3 / min(times["gemm"])


def copy_rate(xp: ModuleType = np, size: int = 2**28, repeats: int = 3) -> float:
    """Bytes a second that are read and written by a copy: the limit of the memory.

    Parameters
    ----------
    xp : module
        ``numpy`` or ``cupy``.
    size : int
        Bytes to copy; more than the caches hold.
    repeats : int
        The fastest counts.

    Examples
    --------
    >>> copy_rate(size=2**16, repeats=1) > 0
    True
    """
    threads = thread_count(xp)
    source, target = xp.zeros(size, "uint8"), xp.ones(size, "uint8")
    step = -(-size // threads)

    def copy(first: int) -> None:
        target[first : first + step] = source[first : first + step]

    call = {"copy": lambda: parallel_map(copy, range(0, size, step), xp)}
    return 2 * size / min(interleaved(call, repeats, lambda: synchronize(xp))["copy"])
