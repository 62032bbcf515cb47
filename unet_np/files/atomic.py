"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unet_np.errors import InputError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success it becomes `path`.

    The temporary file is flushed to disk and renamed, so that a reader, a crash or
    a full disk finds the old file or the new one, never half of one. A file that is replaced
    keeps its mode; a new one has that of any new file.

    Parameters
    ----------
    path : path-like
        The file to write. Its folder is made where it is missing. A link stays one: the file
        that it leads to is written.

    Yields
    ------
    pathlib.Path
        Where to write. Its suffix is that of `path`.

    Raises
    ------
    InputError
        If `path` is a folder, a device, or a link to one or in a circle, or its folder cannot
        be made or written to.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with atomic_write(f"{folder}/a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> Path(folder, "a.txt").read_text()
    'whole'
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".{target.stem}-{secrets.token_hex(8)}{target.suffix}"
    try:
        replaced, new = _new_file(target, temporary)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # Whoever wrote it may have put a private file in its place.
        os.chmod(temporary, new if replaced is None else replaced)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):  # where it could not be made
            temporary.unlink(missing_ok=True)
        raise


def _mode(target: Path) -> int | None:
    """Of the file that will be replaced; None where there is none."""
    try:
        mode = target.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(mode):
        return stat.S_IMODE(mode)
    kinds = {stat.S_IFDIR: "folder", stat.S_IFLNK: "link in a circle"}
    kind = kinds.get(stat.S_IFMT(mode), "device")
    raise InputError(f"path: got the {kind} {target}, expected the name of a file")


def _new_file(target: Path, temporary: Path) -> tuple[int | None, int]:
    """Make the temporary file; the modes of the file that it will replace, and its own.

    Not by `tempfile`, whose files are private: to give one the mode of any other new file, the
    umask would have to be asked for, which for a moment changes it for all threads.
    """
    try:
        replaced = _mode(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except OSError as error:
        raise InputError(
            f"path: got {target}, expected a place that can be written to ({error.strerror})"
        ) from None
    try:
        return replaced, stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
