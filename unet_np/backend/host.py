"""The host's memory and cores: freed arrays used again, and threads that share out blocks.

Memory: the system gives fresh memory page by page, zeroed, which for a feature map costs
about as much as reading it; so what one step frees, the next one uses again. CuPy has such
a pool; on the host this is it.

Threads: an operation is cut into blocks that fit the cache, and the blocks are shared out among
threads. Each GEMM in a block is too small for a BLAS to share out well, so BLAS is told to
use one thread meanwhile. NumPy drops the interpreter lock in its loops.

Whatever is kept here for the whole process may be asked for by several threads at once, left
by an interrupt at any line, and found half done by a child after a fork.
"""

from __future__ import annotations

import _thread
import math
import mmap
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar, copy_context
from operator import itemgetter
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np

from unet_np.errors import InputError, integer

Item = TypeVar("Item")
Result = TypeVar("Result")

POOLED_BYTES = 2**17
"""Smaller arrays are left to NumPy."""

ALIGNMENT = 64
"""Arrays begin at multiples of so many bytes: a line of the cache."""

MIN_SHARE = 2_800_000
"""Work of one thread, in the unit of `sharing`; to wake it takes about a fifth of that time."""

NOTHING = nullcontext()

HALF = 0
"""Threads of BLAS for which nobody asks: an interrupt may have come between two libraries."""

_local = threading.local()
_threads: int | None = None
_threads_here: ContextVar[int | None] = ContextVar("threads", default=None)
_worth_here: ContextVar[int] = ContextVar("worth", default=sys.maxsize)
_asking: SimpleQueue[Any] = SimpleQueue()
_helpers: list[None] = []
_starting = threading.Lock()


class Region:
    """Memory from the system, of which arrays have slices.

    All views of a NumPy array refer to the one at their root. So a slice is free when nothing
    but the list of slices refers to its root, which CPython counts anyway.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = _map(size)
        self.starts: list[int] = []
        self.slices: list[np.ndarray] = []

    def references(self) -> list[int]:
        """How many there are to each slice."""
        return [sys.getrefcount(part) for part in self.slices]

    def gaps(self, alone: int) -> list[tuple[int, int, int]]:
        """What lies between the slices that are in use; the others go.

        Each as its size, its start, and the number of the slice behind it.
        """
        counts = self.references()
        if alone in counts:
            used = [number for number, count in enumerate(counts) if count != alone]
            self.starts = [self.starts[number] for number in used]
            self.slices = [self.slices[number] for number in used]
        gaps, end = [], 0
        for number, start in enumerate(self.starts):
            if start > end:
                gaps.append((start - end, end, number))
            end = start + self.slices[number].size
        if self.size > end:
            gaps.append((self.size - end, end, len(self.starts)))
        return gaps

    def cut(self, number: int, start: int, size: int) -> np.ndarray:
        """A new slice."""
        part = np.frombuffer(self.memory, np.uint8, size, start)
        self.starts.insert(number, start)
        self.slices.insert(number, part)
        return part


class Pool:
    """Memory for arrays: what some have freed, in parts or together, the next ones use again.

    Where no gap is large enough it grows, and first gives back regions that nobody uses, as long
    as it holds more than was in use at the worst.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.regions: list[Region] = []
        self.most = 0
        # Whatever else an interpreter counts while it counts, it counts here too.
        trial = Region(1)
        trial.cut(0, 0, 1)
        self.alone = trial.references()[0]

    def take(self, size: int) -> np.ndarray:
        """At least so many bytes; in use until the last array on them goes."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        with self.lock:
            fitting, in_use, held = [], size, 0
            for region in self.regions:
                held += region.size
                in_use += region.size
                for gap in region.gaps(self.alone):
                    in_use -= gap[0]
                    if gap[0] >= size:
                        fitting.append((*gap, region))
            self.most = max(self.most, in_use)
            if fitting:
                _, start, number, region = min(fitting, key=itemgetter(0))
                return region.cut(number, start, size)
            for region in [region for region in self.regions if not region.slices]:
                if held + size > self.most:
                    held -= region.size
                    self.regions.remove(region)
            self.regions.append(Region(size))
            return self.regions[-1].cut(0, 0, size)


def _map(size: int) -> mmap.mmap:
    """Memory straight from the system, to which it goes back as soon as it is dropped.

    What `malloc` is given back it often keeps, in a heap for each thread.
    """
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    memory = mmap.mmap(-1, size, **flags)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


_pool = Pool()


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
    if size < POOLED_BYTES or not _counts_references():
        return np.empty(shape, dtype)
    return _pool.take(size)[:size].view(dtype).reshape(shape)


def _counts_references() -> bool:
    """Whether an array that another thread lets go cannot be counted half."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def thread_count() -> int:
    """How many threads work on one operation: ``UNET_NP_THREADS``, else the cores available.

    Unless `using_threads` or `set_thread_count` say otherwise.
    """
    return _threads_here.get() or _threads or _default_threads()


def _default_threads() -> int:
    text = os.environ.get("UNET_NP_THREADS", "")
    if text and not (text.isdigit() and int(text) >= 1):
        raise InputError(f"UNET_NP_THREADS: got {text!r}, expected an integer >= 1")
    if text:
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_thread_count(threads: int | None) -> None:
    """Use that many threads from now on, in the whole process; None goes back to the default.

    Examples
    --------
    >>> set_thread_count(1)
    >>> thread_count()
    1
    >>> set_thread_count(None)
    """
    global _threads
    _check(threads)
    _threads = threads


@contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """A context in which operations called on this thread use that many threads.

    Other threads are not concerned. None is the default, whatever `set_thread_count` said.

    Examples
    --------
    >>> with using_threads(3):
    ...     thread_count()
    3
    """
    _check(threads)
    before, threads = _threads_here.get(), threads or _default_threads()
    try:
        _threads_here.set(threads)  # an interrupt right behind it is met by `finally`
        yield
    finally:
        _threads_here.set(before)


def sharing(work: float) -> AbstractContextManager[None]:
    """A context in which operations are shared out among as many threads as their `work` is worth.

    Its unit is a multiplication of a fast convolution; to read or write a number costs five to
    ten of them. `thread_count` stays, and with it how an operation is cut into blocks: what a
    batch is worth must not change how one of its images is rounded.

    Examples
    --------
    >>> with sharing(10_000):
    ...     sharing_threads()
    1
    """
    worth = max(1, int(work // MIN_SHARE))
    return NOTHING if worth >= sharing_threads() else _at_most(worth)


@contextmanager
def _at_most(threads: int) -> Iterator[None]:
    before = _worth_here.get()
    try:
        _worth_here.set(threads)  # as in `using_threads`
        yield
    finally:
        _worth_here.set(before)


def sharing_threads() -> int:
    """How many threads `parallel_map` uses: `thread_count`, or fewer by `sharing`."""
    return min(thread_count(), _worth_here.get())


def _check(threads: int | None) -> None:
    if threads is not None:
        integer("threads", threads, 1)


def run_serially() -> None:
    """Let `parallel_map` use no further threads when called on this thread; for threads that
    work in the background, and leave the cores to the network.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(1, initializer=run_serially) as executor:
    ...     executor.submit(parallel_map, abs, [-1, 2]).result()
    [1, 2]
    """
    _local.serial = True


class _Blas:
    """BLAS at the fewest threads that anyone asks for, for as long as anyone does.

    How many threads it uses is known to the process alone. If each caller put back what it
    had found, two that overlap would leave behind what the first one set.
    """

    def __init__(self) -> None:
        # Reentrant: an asking that an interrupt left ends with its garbage, maybe in here.
        self.lock = threading.RLock()
        self.asked: dict[object, int] = {}
        self.applied: int | None = None
        self.libraries: Any = None
        self.before: list[tuple[Any, int]] = []

    @contextmanager
    def limit(self, threads: int) -> Iterator[None]:
        me = object()
        try:
            self.asked[me] = threads
            self.apply()
            yield
        finally:
            # First of all and without a lock to wait for; `apply` can be made up for.
            self.asked.pop(me, None)
            self.apply()

    def apply(self) -> None:
        """Bring BLAS to what is asked; mends what an interrupt left undone before."""
        with self.lock:
            wanted = min(list(self.asked.values()), default=None)
            if wanted == self.applied or not self._load():
                return
            if not self.before:
                self.before = [(blas, blas.num_threads) for blas in self.libraries]
            self.applied = HALF
            for blas, number in self.before:
                _set_threads(blas, number if wanted is None else wanted)
            if wanted is None:
                self.before = []
            self.applied = wanted

    def _load(self) -> bool:
        """Whether threadpoolctl is there."""
        if self.libraries is None:
            try:
                from threadpoolctl import ThreadpoolController

                self.libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            except ImportError:
                self.libraries = []
        return bool(self.libraries)

    def after_fork(self) -> None:
        """The threads that asked are not in the child."""
        self.lock = threading.RLock()
        self.asked.clear()
        self.apply()


def _set_threads(blas: Any, number: int) -> None:
    """Set a library's number of threads, from whichever thread.

    For OpenBLAS, threadpoolctl (as of 3.8) listens only to the thread that asked first, as long as
    that lives, and drops what others ask without a word. Here `_Blas` settles between them.
    """
    if hasattr(blas, "clear_controlling_thread"):
        blas.clear_controlling_thread(force=True)
    blas.set_num_threads(number)


_blas = _Blas()


def single_threaded_blas() -> AbstractContextManager[None]:
    """A context in which BLAS uses one thread; no-op where threadpoolctl is not installed.

    The network keeps it open for a whole pass, so that one thing alone decides which core
    does what: `parallel_map`.
    """
    return _blas.limit(1)


def limited_blas(threads: int) -> AbstractContextManager[None]:
    """A context in which BLAS uses that many threads, outside of `parallel_map` too.

    Examples
    --------
    >>> with limited_blas(1):
    ...     float(np.ones(3) @ np.ones(3))
    3.0
    """
    return _blas.limit(threads)


class _Batch(Generic[Item, Result]):
    """Items that several threads take one by one, until none is left."""

    def __init__(self, function: Callable[[Item], Result], items: list[Item]) -> None:
        self.function = function
        # Several threads may take from a deque at once, also where Python has no lock.
        self.todo = deque(enumerate(items))
        self.results: list[Any] = [None] * len(items)
        self.errors: dict[int, BaseException] = {}
        self.helpers: list[Any] = []

    def ask_for_help(self) -> None:
        """The next helper that has nothing else to do takes items."""
        busy = threading.Lock()
        self.helpers.append(busy)
        _asking.put((copy_context(), self, busy))

    def help(self, busy: Any) -> None:
        with busy:
            self.work()

    def work(self) -> None:
        while self.todo:
            try:
                number, item = self.todo.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                self.results[number] = self.function(item)
            except BaseException as error:
                self.errors[number] = error
                self.stop()

    def stop(self) -> None:
        """Leave nothing to do, and wait for nobody."""
        self.todo.clear()

    def wait(self) -> None:
        """Until no helper is at an item; those that come later find none."""
        for busy in self.helpers:
            with busy:
                pass


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call `function` on each item, on all cores; see `unet_np.backend.parallel_map`.

    Examples
    --------
    >>> parallel_map(abs, [-1, 2])
    [1, 2]
    """
    work = list(items)
    helpers = min(sharing_threads(), len(work)) - 1
    if helpers < 1 or getattr(_local, "serial", False) or not _have_helpers(helpers):
        return [function(item) for item in work]
    batch = _Batch(function, work)
    with single_threaded_blas():
        try:
            for _ in range(helpers):
                batch.ask_for_help()
            _local.serial = True
            batch.work()
            _local.serial = False
            batch.wait()
        except BaseException:
            # Whoever still works may write to memory that this thread would use next.
            _local.serial, _local.buffers = False, {}
            batch.stop()
            batch.wait()
            raise
    if batch.errors:
        _local.buffers = {}
        interrupts = [e for e in batch.errors.values() if not isinstance(e, Exception)]
        raise interrupts[0] if interrupts else batch.errors[min(batch.errors)]
    return batch.results


def _have_helpers(number: int) -> bool:
    """Whether there are any."""
    with _starting:
        while len(_helpers) < number and start_thread(_help):
            _helpers.append(None)
    return bool(_helpers)


def _help() -> None:
    run_serially()
    while True:
        context, batch, busy = _asking.get()
        context.run(batch.help, busy)
        del context, batch, busy  # and the arrays that they hold


def start_thread(function: Callable[[], object]) -> bool:
    """Start a thread that ends with the program; False if none can be had, as at its end.

    What the main thread shares with others is built on locks and queues of C alone. An
    interrupt in the Python of `threading.Condition`, which threads, events and futures stand on,
    can leave its lock closed for ever.

    Examples
    --------
    >>> answer = SimpleQueue()
    >>> start_thread(lambda: answer.put("here")), answer.get()
    (True, 'here')
    """
    try:
        _thread.start_new_thread(function, ())
    except RuntimeError:
        return False
    return True


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
        # Not from the pool: what stays where it is would keep whole maps' memory from its return.
        buffers[key] = np.frombuffer(_map(max(1, size) * key[1].itemsize), dtype)
    return buffers[key][:size].reshape(shape)


def _after_fork() -> None:
    """A child has one thread, and of all others what they had just been at."""
    global _asking, _starting, _pool
    _asking, _starting, _pool = SimpleQueue(), threading.Lock(), Pool()
    _helpers.clear()
    _local.__dict__.clear()
    _blas.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
