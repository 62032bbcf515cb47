"""NumPy or CuPy: the only file that knows that two array libraries exist.

Everything above this file asks `array_module(x)` for the library that made `x`, calls
it `xp`, and writes one code path. What the two libraries do differently stands here:
choosing one, moving arrays between them, random generators, SciPy's image functions,
threads, scratch memory and GEMMs that add to their output.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from unet_np.errors import InputError, MissingExtraError

Array = Any  # numpy.ndarray or cupy.ndarray
Item = TypeVar("Item")
Result = TypeVar("Result")

NAMES = ("numpy", "cupy", "auto")

STREAMS = {"init": 0, "dropout": 1, "augment": 2, "sample": 3, "synthetic": 4}
"""The second number of a generator's key, so that no two uses share random numbers."""


def get(name: str | None = None) -> ModuleType:
    """The array library of that name.

    Parameters
    ----------
    name : {"numpy", "cupy", "auto"}, optional
        ``auto`` is CuPy where it is installed and finds a GPU, else NumPy. None reads
        the environment variable ``UNET_NP_BACKEND``, and is ``auto`` where that is unset.

    Raises
    ------
    InputError
        If the name is none of the three, or CuPy is asked for and finds no GPU.
    MissingExtraError
        If CuPy is asked for and not installed.

    Examples
    --------
    >>> get("numpy").__name__
    'numpy'
    """
    source = "backend"
    if name is None or name == "auto":
        name = os.environ.get("UNET_NP_BACKEND", "auto")
        source = "UNET_NP_BACKEND"
    if name not in NAMES:
        raise InputError(f"{source}: got {name!r}, expected one of {', '.join(NAMES)}")
    if name == "numpy":
        return np
    try:
        import cupy
    except ImportError:
        if name == "auto":
            return np
        raise MissingExtraError(
            "cupy: not installed, expected for backend 'cupy'; "
            "pip install 'unet-np[cuda12]' or 'unet-np[cuda13]'"
        ) from None
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except Exception:
        # CuPy raises an error type of its own when there is no driver; none is as good as zero.
        devices = 0
    if devices:
        return cupy
    if name == "auto":
        return np
    raise InputError(f"{source}: got 'cupy', expected a CUDA device and found none; use 'numpy'")


def array_module(*arrays: Array) -> ModuleType:
    """The library that made the arrays; mixing the two is an error.

    Raises
    ------
    TypeError
        If an argument is no array, or host and device arrays are mixed.

    Examples
    --------
    >>> array_module(np.zeros(2), np.ones(2)).__name__
    'numpy'
    >>> array_module([1.0])
    Traceback (most recent call last):
    ...
    TypeError: array: got list, expected numpy.ndarray or cupy.ndarray
    """
    # A program that never imported CuPy has no CuPy arrays, so it is not imported here.
    cupy = sys.modules.get("cupy")
    modules = set()
    for array in arrays:
        if cupy is not None and isinstance(array, cupy.ndarray):
            modules.add("cupy")
        elif isinstance(array, np.ndarray | np.generic):
            modules.add("numpy")
        else:
            raise TypeError(
                f"array: got {type(array).__name__}, expected numpy.ndarray or cupy.ndarray"
            )
    if len(modules) > 1:
        raise TypeError("arrays: got NumPy and CuPy arrays together, expected all on one device")
    return cupy if modules == {"cupy"} and cupy is not None else np


def is_device(xp: ModuleType) -> bool:
    """Whether arrays of this library live on a GPU."""
    return xp is not np


def to_numpy(array: Array) -> np.ndarray:
    """The array on the host; a copy if it was on a GPU.

    Examples
    --------
    >>> to_numpy(np.arange(3))
    array([0, 1, 2])
    """
    xp = array_module(array)
    return xp.asnumpy(array) if is_device(xp) else array


def asarray(array: Array, xp: ModuleType, dtype: Any = None) -> Array:
    """The array in library `xp`, copied to or from the GPU where it must be.

    Examples
    --------
    >>> asarray(np.arange(3), np, "float32")
    array([0., 1., 2.], dtype=float32)
    """
    if not is_device(xp) and not isinstance(array, list | tuple | int | float):
        array = to_numpy(array)
    return xp.asarray(array, dtype=dtype)


def default_rng(xp: ModuleType, key: tuple[int, ...]) -> Any:
    """A random generator of library `xp`, made from a tuple such as (seed, stream, step).

    The same key gives the same numbers again, so the state of all randomness is the
    step number and nothing needs to be saved. NumPy and CuPy draw different numbers.

    Examples
    --------
    >>> a = default_rng(np, (0, STREAMS["dropout"], 7)).random(2)
    >>> b = default_rng(np, (0, STREAMS["dropout"], 7)).random(2)
    >>> bool((a == b).all())
    True
    """
    sequence = np.random.SeedSequence(key)
    if is_device(xp):
        return xp.random.default_rng(int(sequence.generate_state(1, np.uint64)[0]))
    return np.random.default_rng(sequence)


def ndimage(xp: ModuleType) -> ModuleType:
    """SciPy's image functions for arrays of library `xp`."""
    if is_device(xp):
        import cupyx.scipy.ndimage as module
    else:
        import scipy.ndimage as module
    return module


def synchronize(xp: ModuleType) -> None:
    """Wait until the GPU has done all it was asked; for timing. Nothing to do on the host."""
    if is_device(xp):
        xp.cuda.Stream.null.synchronize()


def allow_tf32() -> None:
    """Let a GPU round float32 matrix products to TF32; before the first use of CuPy."""
    os.environ["CUPY_TF32"] = "1"


def pool_bytes(xp: ModuleType) -> int:
    """The most bytes that large arrays of library `xp` have taken at once, scratch included.

    Counted since `release_memory` on the host, since the start on a GPU.

    Examples
    --------
    >>> release_memory()
    >>> before = pool_bytes(np)
    >>> _ = empty(np, (2**20,), "float32")
    >>> pool_bytes(np) - before
    4194304
    """
    if is_device(xp):
        return int(xp.get_default_memory_pool().total_bytes())
    return _host_pool.most


def empty_channels_last(
    xp: ModuleType, shape: tuple[int, int, int, int], dtype: Any, zero: bool = False
) -> Array:
    """A (B, C, H, W) array whose channels lie side by side in memory.

    Examples
    --------
    >>> empty_channels_last(np, (1, 3, 4, 5), "float32").strides
    (240, 4, 60, 12)
    """
    batch, channels, height, width = shape
    array = empty(xp, (batch, height, width, channels), dtype)
    if zero:
        array[...] = 0
    return array.transpose(0, 3, 1, 2)


def as_channels_last(x: Array) -> Array:
    """The (B, H, W, C) array behind a (B, C, H, W) one; a copy if its memory has another order.

    Examples
    --------
    >>> x = empty_channels_last(np, (1, 3, 4, 5), "float32")
    >>> as_channels_last(x).shape, np.shares_memory(as_channels_last(x), x)
    ((1, 4, 5, 3), True)
    """
    return array_module(x).ascontiguousarray(x.transpose(0, 2, 3, 1))


def channel_sums(x: Array) -> Array:
    """Sum of a (B, C, H, W) array over all but its channels: the gradient of a bias.

    Rows are summed first, so that rounding errors do not pile up over a whole image.

    Examples
    --------
    >>> channel_sums(np.ones((2, 3, 4, 4)))
    array([32., 32., 32.])
    """
    xp = array_module(x)
    pixels = as_channels_last(x)
    ones = xp.ones(pixels.shape[2], x.dtype)
    rows = pixels.reshape(-1, *pixels.shape[2:])
    step = max(1, block_elements(xp) // max(1, pixels.shape[2] * pixels.shape[3]))
    starts = range(0, len(rows), step)
    sums = parallel_map(lambda row: (ones @ rows[row : row + step]).sum(axis=0), starts, xp)
    return xp.stack(sums).sum(axis=0)


# Memory. The system gives fresh memory page by page, zeroed, which for a feature map costs
# about as much as reading it; so what one step frees, the next one uses again. CuPy has such
# a pool; on the host this is it.

POOLED_BYTES = 2**20
"""Smaller arrays are left to NumPy."""

SLACK = 1.1
"""A block is used again for an array if it is at most so many times as large."""


class _Pool:
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


_host_pool = _Pool()


def empty(xp: ModuleType, shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array, on the host from memory that an array before it has freed.

    Examples
    --------
    >>> first = empty(np, (512, 1024), "float32")
    >>> address = first.ctypes.data
    >>> del first
    >>> empty(np, (1024, 512), "float32").ctypes.data == address
    True
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if is_device(xp) or size < POOLED_BYTES:
        return xp.empty(shape, dtype)
    block = _host_pool.take(size)
    # The array and all views of it hold the lease; when the last one goes, the block is free.
    lease = (ctypes.c_char * size).from_buffer(block.data)
    weakref.finalize(lease, _host_pool.returned.append, block).atexit = False
    return np.frombuffer(lease, dtype).reshape(shape)


def release_memory() -> None:
    """Give the memory that freed arrays have left for others back to the system."""
    _host_pool.release()


# Threads. A convolution is cut into blocks that fit the cache, and the blocks are shared
# out among threads. Each GEMM in a block is too small for a BLAS to share out well, so
# BLAS is told to use one thread meanwhile. NumPy drops the interpreter lock in its loops.


class _Depth(threading.local):
    """How many `single_threaded_blas` are open on this thread."""

    depth = 0


_local = threading.local()
_limited = _Depth()
_pool: ThreadPoolExecutor | None = None
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
    global _threads, _pool
    if threads is not None and threads < 1:
        raise InputError(f"threads: got {threads}, expected an integer >= 1")
    if _pool is not None:
        _pool.shutdown()
    _pool, _threads = None, threads


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


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], xp: ModuleType = np
) -> list[Result]:
    """Call `function` on each item, on all cores if the arrays are on the host.

    The calls must write to places of their own. Their order is not defined, so nothing
    may depend on it: sums over the results are taken afterwards, in the items' order.

    Examples
    --------
    >>> parallel_map(abs, [-1, 2])
    [1, 2]
    """
    global _pool
    work = list(items)
    nested = getattr(_local, "nested", False)
    if is_device(xp) or nested or len(work) < 2 or thread_count() < 2:
        return [function(item) for item in work]
    if _pool is None:
        _pool = ThreadPoolExecutor(thread_count(), "unet_np")

    def call(item: Item) -> Result:
        _local.nested = True
        return function(item)

    with single_threaded_blas():
        return list(_pool.map(call, work))


def block_elements(xp: ModuleType) -> int:
    """How many numbers a block of an operation's temporaries should hold.

    On the host a block and what is made from it fit a core's cache; on a GPU a block is
    large enough to keep the whole device busy.
    """
    return 2**25 if is_device(xp) else 2**17


def for_row_blocks(function: Callable[..., Any], *arrays: Array) -> None:
    """Call `function` on blocks of rows of (B, C, H, W) arrays, on all cores.

    Arrays may differ in height by whole factors (a pooled map has half the rows); each
    is cut at the same share of its rows. `function` gets one (C, h, W) view of each.

    Examples
    --------
    >>> x = np.ones((1, 2, 4, 4))
    >>> for_row_blocks(lambda rows: np.negative(rows, out=rows), x)
    >>> float(x.sum())
    -32.0
    """
    xp = array_module(*arrays)
    height = min(array.shape[2] for array in arrays)
    row_size = max(math.prod(array.shape[1:]) for array in arrays) // height
    rows = max(1, block_elements(xp) // max(1, row_size))

    def call(block: tuple[int, int]) -> None:
        image, first = block
        last = min(first + rows, height)
        views = []
        for array in arrays:
            factor = array.shape[2] // height
            views.append(array[image, :, first * factor : last * factor])
        function(*views)

    images = range(arrays[0].shape[0])
    parallel_map(call, [(image, row) for image in images for row in range(0, height, rows)], xp)


def scratch(xp: ModuleType, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uninitialised memory that the next call with this name, on this thread, uses again.

    Fresh memory must be mapped by the system page by page, which costs more than the
    arithmetic on it; CuPy has a memory pool of its own.

    Examples
    --------
    >>> scratch(np, "columns", (2, 3), "float32").shape
    (2, 3)
    """
    if is_device(xp):
        return xp.empty(shape, dtype)
    buffers = _local.__dict__.setdefault("buffers", {})
    key, size = (name, np.dtype(dtype)), math.prod(shape)
    if key not in buffers or buffers[key].size < size:
        buffers.pop(key, None)
        buffers[key] = empty(xp, (size,), dtype)
    return buffers[key][:size].reshape(shape)
