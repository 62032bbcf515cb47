"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training; a checkpoint was saved."""


@contextmanager
def stop_after_step() -> Iterator[threading.Event]:
    """Set an event on Ctrl-C, so that the step is finished first; a second one stops at once.

    Outside the main thread, where Python delivers no signals, the event is never set.

    Yields
    ------
    threading.Event

    Examples
    --------
    >>> with stop_after_step() as stopped:
    ...     signal.raise_signal(signal.SIGINT)
    ...     stopped.is_set()
    True
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)
    if before is None:  # another program's, which Python cannot put back
        yield event
        return

    def handle(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    try:
        signal.signal(signal.SIGINT, handle)
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
