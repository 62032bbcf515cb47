"""The host's memory and cores: a pool for large arrays, and threads that share out blocks.

Memory: the system gives fresh memory page by page, zeroed, which for a feature map costs
about as much as reading it; so what one step frees, the next one uses again. CuPy has such
a pool; on the host this is it.

Threads: an operation is cut into blocks that fit the cache, and the blocks are shared out
among threads. Each GEMM in a block is too small for a BLAS to share out well, so BLAS is
told to use one thread meanwhile. NumPy drops the interpreter lock in its loops.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TypeVar

import numpy as np

from unet_np.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

POOLED_BYTES = 2**20
"""Smaller arrays are left to NumPy."""

SLACK = 1.1
"""A block is used again for an array if it is at most so many times as large."""


class Pool:
    """Blocks of memory that were freed, never more of them than were in use at the worst."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # Blocks come back whenever the last view of an array goes, even in the middle of
        # `take`; appending to a deque needs no lock.
        self.returned: deque[np.ndarray] = deque()
        self.free: list[np.ndarray] = []
        self.in_use = 0
        self.most = 0

    def take(self, size: int) -> np.ndarray:
        with self.lock:
            self._collect()
            fitting = [block for block in self.free if size <= block.size <= SLACK * size]
            if fitting:
                block = min(fitting, key=lambda block: block.size)
                self.free = [other for other in self.free if other is not block]
            else:
                self.most = max(self.most, self.in_use + size)
                held = self.in_use + sum(block.size for block in self.free) + size
                while self.free and held > self.most:
                    held -= self.free.pop(0).size
                block = _map(size)
            self.in_use += block.size
            self.most = max(self.most, self.in_use)
            return block

    def _collect(self) -> None:
        while self.returned:
            block = self.returned.popleft()
            self.in_use -= block.size
            self.free.append(block)

    def release(self) -> None:
        with self.lock:
            self._collect()
            self.free.clear()
            self.most = self.in_use


def _map(size: int) -> np.ndarray:
    """Memory straight from the system, to which it goes back as soon as it is dropped.

    What `malloc` is given back it often keeps, in a heap for each thread.
    """
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    memory = mmap.mmap(-1, size, **flags)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


pool = Pool()


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array, from memory that an array before it has freed.

    Examples
    --------
    >>> first = empty((512, 1024), "float32")
    >>> address = first.ctypes.data
    >>> del first
    >>> empty((1024, 512), "float32").ctypes.data == address
    True
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < POOLED_BYTES:
        return np.empty(shape, dtype)
    block = pool.take(size)
    # The array and all views of it hold the lease; when the last one goes, the block is free.
    lease = (ctypes.c_char * size).from_buffer(block.data)
    weakref.finalize(lease, pool.returned.append, block).atexit = False
    return np.frombuffer(lease, dtype).reshape(shape)


def release_memory() -> None:
    """Give the memory that freed arrays have left for others back to the system."""
    pool.release()


class _Depth(threading.local):
    """How many `single_threaded_blas` are open on this thread."""

    depth = 0


_local = threading.local()
_limited = _Depth()
_executor: ThreadPoolExecutor | None = None
_threads: int | None = None
_blas: Any = None


def thread_count() -> int:
    """How many threads work on one operation: ``UNET_NP_THREADS``, else the cores available."""
    global _threads
    if _threads is None:
        text = os.environ.get("UNET_NP_THREADS", "")
        if text and not (text.isdigit() and int(text) >= 1):
            raise InputError(f"UNET_NP_THREADS: got {text!r}, expected an integer >= 1")
        if text:
            _threads = int(text)
        elif hasattr(os, "sched_getaffinity"):
            _threads = len(os.sched_getaffinity(0))
        else:
            _threads = os.cpu_count() or 1
    return _threads


def set_thread_count(threads: int | None) -> None:
    """Use that many threads from now on; None goes back to the default.

    Examples
    --------
    >>> set_thread_count(1)
    >>> thread_count()
    1
    >>> set_thread_count(None)
    """
    global _threads, _executor
    if threads is not None and threads < 1:
        raise InputError(f"threads: got {threads}, expected an integer >= 1")
    if _executor is not None:
        _executor.shutdown()
    _executor, _threads = None, threads


def run_serially() -> None:
    """Let `parallel_map` use no further threads when called on this thread; for threads that
    work in the background, and would else change BLAS's threads under the network's feet.

    Examples
    --------
    >>> with ThreadPoolExecutor(1, initializer=run_serially) as executor:
    ...     executor.submit(parallel_map, abs, [-1, 2]).result()
    [1, 2]
    """
    _local.nested = True


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """A context in which BLAS uses one thread; no-op where threadpoolctl is not installed.

    The network keeps it open for a whole pass, so that one thing alone decides which core
    does what: `parallel_map`.
    """
    global _blas
    if _limited.depth or _blas is False:
        _limited.depth += 1
        try:
            yield
        finally:
            _limited.depth -= 1
        return
    if _blas is None:
        try:
            from threadpoolctl import ThreadpoolController

            _blas = ThreadpoolController()
        except ImportError:
            _blas = False
    _limited.depth += 1
    try:
        with _blas.limit(limits=1, user_api="blas") if _blas else nullcontext():
            yield
    finally:
        _limited.depth -= 1


def limited_blas(threads: int) -> Any:
    """A context in which BLAS uses at most that many threads, outside of `parallel_map` too.

    Examples
    --------
    >>> with limited_blas(1):
    ...     float(np.ones(3) @ np.ones(3))
    3.0
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(limits=threads, user_api="blas")


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call `function` on each item, on all cores; see `unet_np.backend.parallel_map`.

    Examples
    --------
    >>> parallel_map(abs, [-1, 2])
    [1, 2]
    """
    global _executor
    work = list(items)
    nested = getattr(_local, "nested", False)
    if nested or len(work) < 2 or thread_count() < 2:
        return [function(item) for item in work]
    if _executor is None:
        _executor = ThreadPoolExecutor(thread_count(), "unet_np")

    def call(item: Item) -> Result:
        _local.nested = True
        return function(item)

    with single_threaded_blas():
        return list(_executor.map(call, work))


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory of this thread for the next call with this name too; see `unet_np.backend.scratch`.

    Examples
    --------
    >>> scratch("columns", (2, 3), "float32").shape
    (2, 3)
    """
    buffers = _local.__dict__.setdefault("buffers", {})
    key, size = (name, np.dtype(dtype)), math.prod(shape)
    if key not in buffers or buffers[key].size < size:
        buffers.pop(key, None)
        buffers[key] = empty((size,), dtype)
    return buffers[key][:size].reshape(shape)
