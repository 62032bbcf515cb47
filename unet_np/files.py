"""Files that are either whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet_np.errors import InputError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success it becomes `path`.

    The temporary file is flushed to disk and renamed, so that a reader, a crash or
    a full disk finds the old file or the new one, never half of one.

    Parameters
    ----------
    path : path-like
        The file to write. Its folder is made where it is missing.

    Yields
    ------
    pathlib.Path
        Where to write. Its suffix is that of `path`.

    Raises
    ------
    InputError
        If `path` is a folder, or its folder cannot be made or written to.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with atomic_write(f"{folder}/a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> Path(folder, "a.txt").read_text()
    'whole'
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"path: got the folder {target}, expected the name of a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent
        )
    except OSError as error:
        raise InputError(
            f"path: got {target}, expected a place that can be written to ({error.strerror})"
        ) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; a result is as readable as any other new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
