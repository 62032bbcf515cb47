"""What a process of the command line needs around a command: signals, and streams that work."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Ended(BaseException):
    """SIGTERM or SIGHUP came. Raised, so that nothing half-written stays.

    Examples
    --------
    >>> Ended(signal.SIGTERM).code, str(Ended(signal.SIGTERM))
    (143, 'ended by SIGTERM')
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.code = 128 + number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Ended` on SIGTERM and SIGHUP, where nobody else has a use for them."""
    chosen = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is threading.main_thread():
        # One that is ignored, as under nohup, stays so.
        chosen = [number for number in chosen if signal.getsignal(number) is signal.SIG_DFL]
    else:
        chosen = []

    def end(number: int, frame: Any) -> None:
        raise Ended(number)

    try:
        for number in chosen:
            signal.signal(number, end)
        yield
    finally:
        for number in chosen:
            signal.signal(number, signal.SIG_DFL)


class _Stream:
    """A stream whose failures are named, or, of stderr, let pass: they must not end the work."""

    def __init__(self, stream: Any, name: str, needed: bool) -> None:
        self.stream = stream
        self.name = name
        self.needed = needed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _try(self, method: str, *args: Any) -> Any:
        try:
            return getattr(self.stream, method)(*args)
        except BrokenPipeError:
            self._drop()
            if self.needed:
                raise
        except OSError as error:
            self._drop()
            if self.needed:
                raise OSError(error.errno, error.strerror, self.name) from None
        return None

    def _drop(self) -> None:
        """Lose what is still to be written: Python flushes again at the end."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def write(self, text: str) -> Any:
        """As the stream's own."""
        return self._try("write", text)

    def flush(self) -> None:
        """As the stream's own."""
        self._try("flush")


@contextmanager
def usable_streams() -> Iterator[None]:
    """Streams to print to, whatever became of the process's own.

    A closed one is replaced; a full stderr is left alone; a full stdout is an error that names it;
    and what the terminal's encoding lacks, in the name of a file for instance, is escaped.
    """
    # Else the next file that is opened has their numbers, and what others print lands in it.
    while (handle := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(handle)
    before = sys.stdout, sys.stderr
    errors = [getattr(stream, "errors", None) for stream in before]
    streams = []
    for stream, name in zip(before, ("standard output", "standard error"), strict=True):
        open_stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115
        if hasattr(open_stream, "reconfigure"):
            open_stream.reconfigure(errors="backslashreplace")
        streams.append(_Stream(open_stream, name, needed=name == "standard output"))
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in streams:
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before
        for stream, old in zip(before, errors, strict=True):
            if old is not None and hasattr(stream, "reconfigure"):
                stream.reconfigure(errors=old)
