"""One training in a folder at a time, and the folder must stay where it was."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from unet_np.errors import InputError, TrainingError


class FolderLock:
    """The right to train into a folder, until it is closed or the process ends.

    It is the system's lock of the folder itself, so that nothing is left behind, whatever ends the
    process. Where there are no such locks, as on Windows and some network drives, none is taken.

    Parameters
    ----------
    path : path-like
        The folder, which is there.

    Raises
    ------
    InputError
        If another training has it.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with FolderLock(folder):
    ...     FolderLock(folder)
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: out: got ..., in which another training runs, expected another folder
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._handle: int | None = None
        self.path = Path(path)
        try:
            import fcntl
        except ImportError:
            return
        self._handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise InputError(
                f"out: got {path}, in which another training runs, expected another folder"
            ) from None
        except OSError:
            pass

    def check(self) -> None:
        """See that the folder has not been removed or renamed.

        Raises
        ------
        TrainingError
            If what is written there now would not be where the run began.
        """
        if self._handle is None:
            return
        try:
            same = os.path.samestat(os.stat(self.path), os.fstat(self._handle))
        except OSError:
            same = False
        if not same:
            raise TrainingError(
                f"out: {self.path} was removed or renamed while training; the last checkpoint is "
                "in the folder that it was"
            )

    def close(self) -> None:
        """Let others have it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        # Ctrl-C may come after it was taken and before anyone knows of it who would close it.
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
