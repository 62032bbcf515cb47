"""What a training reports: a CSV of metrics, the times, and if asked for TensorBoard."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unet_np.errors import InputError, require
from unet_np.files import atomic_write
from unet_np.files.tables import csv_line

Report = Callable[[dict[str, Any]], None]
"""What is called with each row of the metrics."""

TRAINING_COLUMNS = ("step", "learning_rate", "loss", "gradient_norm")
"""Columns of ``metrics.csv`` before the task's, whose cells are empty between validations."""


class CsvLog:
    """A CSV that a resumed run continues as if it had never been interrupted.

    Numbers are written with all their digits, so that two runs are equal exactly when
    their files are.

    Parameters
    ----------
    path : path-like
        The file.
    columns : tuple of str
        Its header.
    offset : int
        Bytes to keep of a file that is there: what stands behind them was written after
        the checkpoint from which the run goes on. 0 begins anew.

    Raises
    ------
    InputError
        If the file is shorter than `offset`, or a link.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/metrics.csv"
    >>> with CsvLog(path, ("step", "loss")) as log:
    ...     log.write({"step": 1, "loss": 0.5})
    ...     kept = log.offset()
    ...     log.write({"step": 2})
    >>> with CsvLog(path, ("step", "loss"), kept) as log:
    ...     log.write({"step": 2, "loss": 0.25})
    >>> Path(path).read_text().split()
    ['step,loss', '1,0.5', '2,0.25']
    """

    def __init__(
        self, path: str | os.PathLike[str], columns: tuple[str, ...], offset: int = 0
    ) -> None:
        self.columns = columns
        file, size = Path(path), Path(path).stat().st_size if Path(path).exists() else 0
        if size < offset:
            raise InputError(f"{file}: got {size} bytes, expected the {offset} of the checkpoint")
        if file.is_symlink():
            raise InputError(f"{file}: got a link, expected a file of the run's own")
        kept = csv_line(columns).encode()
        if offset:
            with open(file, "rb") as old:
                kept = old.read(offset)
        # In a new file: the old one may have another name too, in somebody's copy of the run.
        with atomic_write(file) as temporary:
            temporary.write_bytes(kept)
        self._file = open(file, "ab")  # noqa: SIM115 (closed in __exit__)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; columns that it lacks stay empty."""
        self._file.write(csv_line(row.get(column) for column in self.columns).encode())
        self._file.flush()

    def offset(self) -> int:
        """Bytes written so far, all of them safe on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def __enter__(self) -> CsvLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_csv(path: str | os.PathLike[str], needed: tuple[str, ...] = ()) -> list[dict[str, float]]:
    """The rows of a metrics file, numbers only: an empty cell is left out.

    Columns in `needed` have a number in each row, and there is a row.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "metrics.csv")
    >>> _ = path.write_text("step,loss\\n1,0.5\\n2,\\n")
    >>> read_csv(path)
    [{'step': 1.0, 'loss': 0.5}, {'step': 2.0}]

    Raises
    ------
    InputError
        If the file is missing or holds something else.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise ValueError("no regular file")
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        numbers = [{key: float(cell) for key, cell in row.items() if cell} for row in rows]
        if needed:
            _ = rows[0], [[row[name] for name in needed] for row in numbers]
        return numbers
    except (LookupError, OSError, ValueError, TypeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path}: expected the numbers of a training ({reason})") from None


class TensorBoard:
    """Scalars for TensorBoard, in event files as its own library writes them.

    Parameters
    ----------
    folder : path-like
        Of the event files.
    step : int
        Where the run begins; what an earlier process wrote from there on is hidden.
    wanted : bool
        False writes nothing.

    Raises
    ------
    MissingExtraError
        If it is wanted and not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], step: int = 0, wanted: bool = True) -> None:
        self._writer: Any = None
        if wanted:
            require("tensorboard", "tensorboard")
            from tensorboard.compat.proto.event_pb2 import SessionLog
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self._writer = EventFileWriter(os.fspath(folder))
            if step:
                self._add(step, session_log=SessionLog(status=SessionLog.START))

    def _add(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, **content))

    def write(self, row: Mapping[str, Any]) -> None:
        """Add each number of the row at the row's ``step``."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=key, simple_value=row[key]) for key in row if key != "step"]
        self._add(row["step"], summary=Summary(value=values))

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def progress_bar(progress: bool | Report, done: int, total: int) -> Iterator[Report]:
    """What to call with each row: a bar on the terminal, the caller's own function, or nothing.

    Parameters
    ----------
    progress : bool or callable
        True is a bar with loss, steps a second and the time left.
    done, total : int
        Steps.

    Raises
    ------
    MissingExtraError
        If a bar is wanted and tqdm not installed.
    """
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda row: None
        return
    with require("tqdm", "io").tqdm(initial=done, total=total, unit="step", desc="train") as bar:
        figures: dict[str, str] = {}

        def show(row: dict[str, Any]) -> None:
            # Measured now and then, the validation's figures stay until the next.
            hidden = {*TRAINING_COLUMNS, "validation_loss"} - {"loss"}
            shown = [key for key in row if key not in hidden]
            figures.update({key.replace("_", " "): f"{row[key]:.4f}" for key in shown})
            bar.set_postfix(figures, refresh=False)
            bar.update()

        yield show
