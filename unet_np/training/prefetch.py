"""Make the next tiles, and write checkpoints, while the network works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from unet_np.backend import run_serially, start_thread

Item = TypeVar("Item")


@contextmanager
def prefetch(
    make: Callable[[int], Item], start: int, stop: int, ahead: int = 2
) -> Iterator[Iterator[Item]]:
    """Call ``make(step)`` in a background thread, a few steps ahead of the reader.

    `make` must depend on the step alone: its random numbers come from a generator keyed
    by the step. Then the results are those of a plain loop, whatever the threads do.

    Parameters
    ----------
    make : callable
        Step to item. An exception in it is raised where its item is read.
    start, stop : int
        The steps, as in `range`.
    ahead : int
        Items made before they are asked for; 0 makes each when it is asked for, with no
        thread.

    Yields
    ------
    iterator
        The items in order. On leaving the context, work not begun is dropped and the
        thread ends with the item in hand.

    Examples
    --------
    >>> with prefetch(lambda step: step**2, 3, 6) as squares:
    ...     list(squares)
    [9, 16, 25]
    """
    maker = _Maker(make, start, stop)
    try:
        if ahead < 1 or not start_thread(partial(copy_context().run, maker.work)):
            yield (make(step) for step in range(start, stop))
        else:
            yield maker.items(ahead)
    finally:
        maker.end()


class _Maker(Generic[Item]):
    """Items that one thread makes as others are read.

    On queues alone, which an interrupt of the reader leaves in order: see `start_thread`.
    """

    def __init__(self, make: Callable[[int], Item], start: int, stop: int) -> None:
        self.make, self.steps = make, range(start, stop)
        self.wanted: SimpleQueue[bool] = SimpleQueue()
        self.made: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.working = threading.Lock()
        self.over = False

    def work(self) -> None:
        run_serially()  # the pool of `parallel_map` is left to the network
        with self.working:
            for step in self.steps:
                self.wanted.get()
                if self.over:
                    return
                try:
                    self.made.put((self.make(step), None))
                except BaseException as error:
                    self.made.put((None, error))

    def items(self, ahead: int) -> Iterator[Item]:
        for _ in range(ahead):
            self.wanted.put(True)
        for _ in self.steps:
            self.wanted.put(True)
            item, error = self.made.get()
            if error is not None:
                raise error
            yield item

    def end(self) -> None:
        """Wait for the item in hand."""
        self.over = True
        self.wanted.put(False)
        with self.working:
            pass


class Background:
    """One thing at a time that is done beside the steps; an error of it is raised by `wait`.

    Examples
    --------
    >>> done = []
    >>> beside = Background()
    >>> beside.begin(lambda: done.append(1))
    >>> beside.wait()
    >>> done
    [1]
    """

    def __init__(self) -> None:
        self.over: SimpleQueue[BaseException | None] | None = None

    def begin(self, function: Callable[[], object]) -> None:
        """Do this, once what was begun before is done."""
        self.wait()
        over = self.over = SimpleQueue()

        def work() -> None:
            try:
                function()
                over.put(None)
            except BaseException as error:
                over.put(error)

        if not start_thread(work):
            work()

    def wait(self) -> None:
        """Until it is done."""
        over, self.over = self.over, None
        if over is not None and (error := over.get()) is not None:
            raise error
