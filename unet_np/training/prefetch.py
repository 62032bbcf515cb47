"""Make the next tiles while the network works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from unet_np.backend import run_serially, submit

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
    if ahead < 1:
        yield (make(step) for step in range(start, stop))
        return
    # The thread leaves the pool of `parallel_map` to the network.
    executor = ThreadPoolExecutor(1, "prefetch", initializer=run_serially)
    try:
        yield _in_order(executor, make, start, stop, ahead)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _in_order(
    executor: ThreadPoolExecutor, make: Callable[[int], Item], start: int, stop: int, ahead: int
) -> Iterator[Item]:
    waiting: deque[Future[Item]] = deque()
    for step in range(start, stop):
        waiting.append(submit(executor, make, step))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
