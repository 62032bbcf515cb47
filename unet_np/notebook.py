"""What the book's notebooks share: tables, source listings, checks of answers, a plot style.

Nothing else in the package imports this module. Its outputs carry a plain-text form beside the
rich one, so that a terminal shows them too and stored outputs can be compared.
"""

from __future__ import annotations

import ast
import hashlib
import html
import inspect
import io
import json
import os
import re
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError, require

COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "yellow": "#F0E442",
    "black": "#000000",
}
"""Okabe and Ito's colours, which readers with any colour vision tell apart."""

RESULTS_URL = "https://raw.githubusercontent.com/unet-from-scratch/unet-from-scratch/main/results/"
"""Where stored results are had from if neither a checkout nor the installation holds them."""

SHORT = 20
"""Cells of a table with at most so many characters are not broken into lines."""

NUMBER = r"|[-+]?(\d[\d.,]*(e[-+]?\d+)?|inf) ?%?"
"""Cells of a table that are numbers: 1,024 and +0.2, 3e-16, 1.5 % and inf; or empty."""


class Table:
    """Rows under a header, shown as HTML in a notebook and as text elsewhere.

    Parameters
    ----------
    header : sequence of str
        The columns' names.
    rows : sequence of sequences
        One value for each column; None is an empty cell. Numbers, also as text,
        are set to the right.

    Raises
    ------
    InputError
        If a row has more or fewer values than the header.

    Examples
    --------
    >>> Table(["layer", "parameters"], [["conv", 36928], ["pool", 0]])
    layer  parameters
    -----  ----------
    conv       36,928
    pool            0
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        for number, row in enumerate(rows):
            if len(row) != len(header):
                raise InputError(
                    f"rows: got {len(row)} values in row {number}, expected {len(header)}"
                )
        self.header = [str(name) for name in header]
        self.cells = [[_text(value) for value in row] for row in rows]
        columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [() for _ in header]
        self.numeric = [bool(column) and all(map(_is_number, column)) for column in columns]

    def __repr__(self) -> str:
        rows = [self.header, *self.cells]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.header))]
        rows.insert(1, ["-" * width for width in widths])
        return "\n".join(
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, self.numeric, strict=True)
            ).rstrip()
            for row in rows
        )

    def _repr_html_(self) -> str:
        def line(cells: list[str], tag: str) -> str:
            sides = ("right" if right else "left" for right in self.numeric)
            return "".join(
                f'<{tag} style="text-align:{side}{wrap(cell, tag)}">{html.escape(cell)}</{tag}>'
                for cell, side in zip(cells, sides, strict=True)
            )

        def wrap(cell: str, tag: str) -> str:
            # A shape or a name is read at a glance only if it stays on one line.
            return ";white-space:nowrap" if tag == "td" and len(cell) <= SHORT else ""

        body = "\n".join(f"<tr>{line(cells, 'td')}</tr>" for cells in self.cells)
        # A wide table scrolls on its own, reachable by keyboard, and the page does not.
        return (
            '<div class="table-wrapper" style="overflow-x:auto" tabindex="0" role="region" '
            f'aria-label="Table: {html.escape(", ".join(self.header))}"><table class="dataframe">\n'
            f"<thead><tr>{line(self.header, 'th')}</tr></thead>\n<tbody>"
            f"\n{body}\n</tbody></table></div>"
        )


def _is_number(value: Any) -> bool:
    return re.fullmatch(NUMBER, _text(value)) is not None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


class Source:
    """Python source shown as a listing; made by `source`."""

    def __init__(self, place: str, text: str) -> None:
        self.place, self.text = place, text

    def __repr__(self) -> str:
        return f"# {self.place}\n{self.text}"

    def _repr_markdown_(self) -> str:
        return f"From `{self.place}`:\n\n```python\n{self.text}\n```"


def source(item: Any, docstring: bool = False) -> Source:
    """The package's own source of a function, method, property or class, to be shown in a chapter.

    Parameters
    ----------
    item : object
        What to show.
    docstring : bool
        Whether to keep docstrings; the API reference has them.

    Returns
    -------
    Source
        Shows itself as a listing.

    Examples
    --------
    >>> source(_is_number)
    # unet_np/notebook.py
    def _is_number(value: Any) -> bool:
        return re.fullmatch(NUMBER, _text(value)) is not None
    """
    for attribute in ("fget", "func", "__wrapped__"):
        item = getattr(item, attribute, item)
    text = textwrap.dedent(inspect.getsource(item)).rstrip()
    place = item.__module__.replace(".", "/") + ".py"
    return Source(place, text if docstring else _without_docstrings(text))


def _without_docstrings(text: str) -> str:
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or not ast.get_docstring(node):
            continue
        first, last = node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno
        # The blank line that sets a docstring off goes with it.
        if len(node.body) > 1 and last < len(lines) and not lines[last].strip():
            last += 1
        lines[first - 1 : last] = [None] * (last - first + 1)  # type: ignore[list-item]
    return "\n".join(line for line in lines if line is not None)


@dataclass(frozen=True)
class Hashed:
    """An answer that a checker recognises and does not show.

    Attributes
    ----------
    salt : str
        So that equal answers of two exercises look different: the name of the checker.
    digest : str
        The start of the SHA-256 of both, as `hashed` makes it.

    Examples
    --------
    >>> answer = hashed([4, 16], "check_cuts")
    >>> answer
    Hashed(salt='check_cuts', digest='10bb560afc78')
    >>> answer([4.0, 16]), answer([4, 17])
    (True, False)
    """

    salt: str
    digest: str

    def __call__(self, answer: Any) -> bool:
        """Whether it is the answer, numbers to six digits."""
        return hashed(answer, self.salt).digest == self.digest


def hashed(answer: Any, salt: str) -> Hashed:
    """The form in which an answer stands in a checker: numbers, texts, or lists of them.

    Examples
    --------
    >>> hashed(16, "check_cut") == hashed(np.float64(16), "check_cut") != hashed(16, "check_it")
    True
    """
    return Hashed(salt, hashlib.sha256(f"{salt}:{_plain(answer)}".encode()).hexdigest()[:12])


def _plain(answer: Any) -> str:
    if isinstance(answer, str):
        return answer.strip().lower()
    if isinstance(answer, list | tuple | np.ndarray):
        return "[" + ",".join(_plain(part) for part in answer) + "]"
    try:
        return f"{float(answer):.6g}"
    except (TypeError, ValueError):
        return repr(answer)


def check(answer: Any, expected: Any | Callable[[Any], bool], hint: str = "") -> None:
    """Tell a reader whether an answer is right, without showing the solution.

    Parameters
    ----------
    answer : object
        The reader's answer; ``...`` is none yet.
    expected : object or callable
        What it must equal, or a function of the answer that says whether it is right.
    hint : str
        Shown after a wrong answer.

    Examples
    --------
    >>> check(..., 184)
    No answer yet: replace the dots.
    >>> check(92, 184, "Count both sides.")
    Not yet. Count both sides.
    >>> check(184, 184)
    Right.
    """
    if answer is ...:
        print("No answer yet: replace the dots.")
    elif is_right(answer, expected):
        print("Right.")
    else:
        print(f"Not yet. {hint}".rstrip())


def is_right(answer: Any, expected: Any | Callable[[Any], bool]) -> bool:
    """Whether `check` would call the answer right; for the solutions, which assert it.

    Examples
    --------
    >>> is_right(4, 4), is_right(lambda x: x + 1, lambda f: f(2) == 3), is_right(..., 4)
    (True, True, False)
    """
    return bool(expected(answer) if callable(expected) else answer == expected)


def plot_style() -> Any:
    """Set the book's style of plots and return ``matplotlib.pyplot``.

    Five inches are the width of a phone's screen at 72 points an inch, so that text of 9
    points is as large there as text of the page. The ground is white in either theme.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> plt = plot_style()
    >>> float(plt.rcParams["figure.figsize"][0])
    5.0
    """
    plt = require("matplotlib.pyplot", "plot")
    cycler = require("cycler", "plot")
    plt.rcParams.update(
        {
            "figure.figsize": (5.0, 3.2),
            "figure.dpi": 160,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler.cycler(color=list(COLOURS.values())),
            "image.cmap": "gray",
            "image.interpolation": "nearest",
            "legend.frameon": False,
        }
    )
    return plt


def live_picture(out: str | os.PathLike[str]) -> Callable[[dict[str, Any]], None]:
    """What a training calls after each step, to show the picture of its run in a cell.

    ``train(config, progress=live_picture(config.out))`` shows ``progress.png`` whenever it is drawn
    anew.

    Parameters
    ----------
    out : path-like
        The folder of the run.

    Raises
    ------
    MissingExtraError
        If IPython is not installed.
    """
    show = require("IPython.display", "book")
    file, handle = Path(out, "progress.png"), show.display(show.Markdown(""), display_id=True)
    shown = file.stat().st_mtime_ns if file.exists() else 0

    def update(row: dict[str, Any]) -> None:
        nonlocal shown
        drawn = file.stat().st_mtime_ns if file.exists() else 0
        if drawn not in (0, shown):
            shown = drawn
            alt = f"Loss by step up to {row['step']}, and an image with what is found in it."
            handle.update(show.Image(file.read_bytes(), alt=alt))

    return update


def result(name: str, optional: bool = False) -> Any:
    """What an experiment wrote: the content of ``results/NAME.json``.

    Read from the checkout that the package is imported from; else from the copy that comes
    with an installed package; else from the project's repository.

    Parameters
    ----------
    name : str
        Such as ``em`` or ``u373-01-to-02``.
    optional : bool
        Whether the result may be missing.

    Returns
    -------
    dict or None
        None if it is missing and may be.

    Raises
    ------
    InputError
        If it is missing and may not be.

    Examples
    --------
    >>> sorted(result("em")["aim_met"])
    ['pixel_error', 'rand_error', 'warping_error']
    >>> result("no-such-experiment", optional=True)
    """
    content = _result_file(f"{name}.json")
    if content is not None:
        return json.loads(content)
    if optional:
        return None
    raise InputError(
        f"name: got {name!r}, expected a result that is in this installation or at {RESULTS_URL}; "
        "a checkout of the repository has them all"
    )


def result_panels(name: str, rows: int, columns: int) -> list[list[np.ndarray]] | None:
    """The single pictures of a montage ``results/NAME.png``.

    Parameters
    ----------
    name : str
        Such as ``em-fold-2-slices``.
    rows, columns : int
        How many pictures it has.

    Returns
    -------
    list of lists of numpy.ndarray or None
        (H, W, 3) each, uint8. None, after a line that says so, where the picture can neither
        be found nor fetched.

    Raises
    ------
    InputError
        If the picture is no montage of that many.
    MissingExtraError
        If Pillow is not installed.

    Examples
    --------
    >>> panels = result_panels("em-test-slices", rows=2, columns=3)
    >>> len(panels), len(panels[0]), panels[0][0].shape
    (2, 3, (512, 512, 3))
    """
    content = _result_file(f"{name}.png")
    if content is None:
        print(f"The picture {name}.png is neither here nor could it be fetched: {RESULTS_URL}")
        return None
    image = require("PIL.Image", "io").open(io.BytesIO(content)).convert("RGB")
    return _cut(np.asarray(image), rows, columns)


def _cut(montage: np.ndarray, rows: int, columns: int, gap: int = 8) -> list[list[np.ndarray]]:
    height, width = montage.shape[0] + gap, montage.shape[1] + gap
    if height % rows or width % columns:
        raise InputError(
            f"rows, columns: got {rows}, {columns}, expected those of a picture of "
            f"{width - gap} x {height - gap} pixels"
        )
    down, across = height // rows, width // columns
    return [
        [
            montage[y : y + down - gap, x : x + across - gap]
            for x in range(0, columns * across, across)
        ]
        for y in range(0, rows * down, down)
    ]


def _result_file(name: str) -> bytes | None:
    package = Path(__file__).resolve().parent
    checkout = package.parent
    # A folder named results beside an installed package may be anybody's.
    if (checkout / "_toc.yml").is_file():
        path = checkout / "results" / name
        return path.read_bytes() if path.is_file() else None
    shipped = package / "_results" / name
    if shipped.is_file():
        return shipped.read_bytes()
    try:
        with urllib.request.urlopen(RESULTS_URL + name, timeout=10) as answer:
            content: bytes = answer.read()
            return content
    except (OSError, urllib.error.URLError):
        return None


def as_jpeg(figure: Any) -> Any:
    """A figure of photographs as a JPEG, which is a fraction of its size as a PNG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        It is closed.

    Returns
    -------
    IPython.display.Image
        To be the last value of a cell.

    Examples
    --------
    >>> figure, axes = plot_style().subplots(figsize=(1, 1))
    >>> as_jpeg(figure).format
    'jpeg'
    """
    content = io.BytesIO()
    figure.savefig(content, format="jpeg", pil_kwargs={"quality": 85})
    require("matplotlib.pyplot", "plot").close(figure)
    return require("IPython.display", "book").Image(data=content.getvalue(), format="jpeg")
