"""What a process of the command line needs around a command: signals, and streams that work."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
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


class _Interrupted(KeyboardInterrupt):
    """Ctrl-C; unlike Python's own, it can be asked whether it is still on its way."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Ended` on SIGTERM and SIGHUP, KeyboardInterrupt on Ctrl-C; none of them is lost.

    Where an object is deleted, in a callback and in some imports, Python or a library drops what is
    raised, and the command would go on: then it is raised again. An error that another one was
    made of stays what it was. Signals that somebody else has a use for are left alone.
    """
    ends = {"SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    usual = {"SIGINT": signal.default_int_handler, **ends}
    numbers = {getattr(signal, name): usual[name] for name in usual if hasattr(signal, name)}
    chosen = {}
    if threading.current_thread() is threading.main_thread():
        # One that is ignored, as under nohup, stays so.
        chosen = {n: usual for n, usual in numbers.items() if signal.getsignal(n) is usual}
    over, heard, hook = threading.Event(), [], sys.unraisablehook

    def error_of(number: int) -> BaseException:
        return _Interrupted() if number == signal.SIGINT else Ended(number)

    def insist(number: int, raised: Callable[[], BaseException | None]) -> None:
        # Nobody holds an exception that was dropped.
        while raised() is not None:
            if over.wait(0.05):
                return
        if not over.is_set():
            _thread.interrupt_main(signal.Signals(number))

    def watched(number: int) -> BaseException:
        error = error_of(number)
        # Not by `threading`, whose locks the main thread may hold in this moment.
        _thread.start_new_thread(insist, (number, weakref.ref(error)))
        return error

    def end(number: int, frame: Any) -> None:
        heard.append(number)
        raise watched(number)

    def report(dropped: Any) -> None:
        if not isinstance(dropped.exc_value, Ended | _Interrupted):
            hook(dropped)

    try:
        for number in chosen:
            signal.signal(number, end)
        sys.unraisablehook = report
        yield
    except Exception as error:
        if heard:
            raise error_of(heard[-1]) from error
        raise
    finally:
        over.set()
        sys.unraisablehook = hook
        for number, before in chosen.items():
            signal.signal(number, before)


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
