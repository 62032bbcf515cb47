"""Tables as CSV files that read back as they were written and run nothing in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", re.IGNORECASE)


def csv_line(cells: Iterable[Any]) -> str:
    """One line of a CSV file, with its end.

    A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula. Where
    a text does, and is no number, an apostrophe goes before it, which spreadsheets know as the
    mark of a text. So that no two texts become the same cell, one that begins with an apostrophe
    gets another: whoever reads the file with a program takes one off.

    Parameters
    ----------
    cells : iterable
        Texts, numbers, or None for an empty cell. Commas, quotes and line breaks in a text are
        quoted.

    Examples
    --------
    >>> csv_line(["a, round", "=1+1", "-0.5", 3, None])
    '"a, round",\\'=1+1,-0.5,3,\\n'
    """
    text = io.StringIO(newline="")
    # Python 3.11 quotes of line breaks only those in the line's own end.
    csv.writer(text, lineterminator="\r\n").writerow(map(_cell, cells))
    return text.getvalue().removesuffix("\r\n") + "\n"


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """A whole table; the first row is its header.

    Written to a file in UTF-8 with ``newline=""``, so that line breaks in names stay theirs.

    Examples
    --------
    >>> csv_text([("name", "area"), ("a", 2)])
    'name,area\\na,2\\n'
    """
    return "".join(map(csv_line, rows))


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value
