"""Remarks on the files that were read: printed once, whatever the number of files."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Printer(logging.Handler):
    """Prints the first file of each remark, and counts the others.

    Examples
    --------
    >>> printer = Printer()
    >>> for file in ("a.png", "a.png", "b.png", "c.png"):
    ...     args = (file, "alpha is left out")
    ...     record = logging.LogRecord("", logging.WARNING, "", 0, "%s: %s", args, None)
    ...     printer.handle(record)
    True
    True
    True
    True
    >>> printer.last_words()
    ['2 more files: alpha is left out']
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a remark that is new."""
        file, remark = (str(one) for one in record.args or ("", record.msg))
        # A command reads an image twice: to check it, and to work on it.
        if (file, remark) in self.seen:
            return
        self.seen.add((file, remark))
        self.counts[remark] += 1
        if self.counts[remark] == 1:
            print(record.getMessage(), file=sys.stderr)

    def last_words(self) -> list[str]:
        """How many files had the same remarks."""
        return [
            f"{count - 1} more file{'s' * (count > 2)}: {remark}"
            for remark, count in self.counts.items()
            if count > 1
        ]


@contextmanager
def printed_remarks(quiet: bool) -> Iterator[None]:
    """Print the remarks on files on stderr while a command runs."""
    logger = logging.getLogger("unet_np")
    handler = logging.NullHandler() if quiet else Printer()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        for line in handler.last_words() if isinstance(handler, Printer) else ():
            print(line, file=sys.stderr)
