"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training; a checkpoint was saved."""


class Stop:
    """Whether Ctrl-C was pressed.

    No `threading.Event`: a second Ctrl-C may come while the first one holds its lock.
    """

    asked = False

    def is_set(self) -> bool:
        """Whether to stop after this step."""
        return self.asked


@contextmanager
def stop_after_step() -> Iterator[Stop]:
    """Note a Ctrl-C, so that the step is finished first; a second one stops at once.

    Outside the main thread, where Python delivers no signals, none is noted.

    Yields
    ------
    Stop

    Examples
    --------
    >>> with stop_after_step() as stopped:
    ...     signal.raise_signal(signal.SIGINT)
    ...     stopped.is_set()
    True
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)
    if before is None:  # another program's, which Python cannot put back
        yield stop
        return

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        stop.asked = True

    try:
        signal.signal(signal.SIGINT, handle)
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
