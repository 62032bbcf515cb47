"""Files that are either whole or not there."""

from __future__ import annotations

import atexit
import errno
import hashlib
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from unet_np.errors import InputError

_NAME = re.compile(r"\.unet-np-(?P<host>[0-9a-f]{12})-(?P<process>[0-9]{1,10})-[0-9a-f]{16}")
_unfinished: set[Path] = set()
_swept: set[Path] = set()


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes `path`.

    It lies in a folder of its own beside `path`, is flushed to disk and renamed, so that a reader,
    a crash or a full disk finds the old file or the new one, never half of one. A file that is
    replaced keeps its mode; a new one has that of any new file.

    Parameters
    ----------
    path : path-like
        The file to write. Its folder is made where it is missing. A link stays one: the file
        that it leads to is written.

    Yields
    ------
    pathlib.Path
        Where to write. Its name is that of `path`.

    Raises
    ------
    InputError
        If `path` is a folder, a device, or a link to one or in a circle, or its folder cannot
        be made or written to.
    OSError
        If it cannot be written, with the name of `path`.

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
    with ExitStack() as stack:
        try:
            replaced = _mode(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(temporary_folder(target.parent))
            temporary, new = _new_file(folder / target.name)
        except OSError as error:
            raise InputError(
                f"path: got {path}, expected a place that can be written to ({error.strerror})"
            ) from None
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            # Whoever wrote it may have put a private file in its place.
            os.chmod(temporary, new if replaced is None else replaced)
            os.replace(temporary, target)
        except OSError as error:
            named = _named(error, folder, path)
            if named is error:
                raise
            raise named from error


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A private folder in `parent`, removed with all that is in it.

    Its name holds the machine and the process, so that what a killed process left is known for
    what it is, and removed by the next one that writes there. Nothing else ever is.

    Yields
    ------
    pathlib.Path

    Raises
    ------
    OSError
        If it cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> parent = Path(tempfile.mkdtemp())
    >>> with temporary_folder(parent) as folder:
    ...     folder.name.startswith(".unet-np-")
    True
    >>> list(parent.iterdir())
    []
    """
    _sweep(parent)
    folder = parent / f".unet-np-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}"
    # Noted before it is there: a signal that comes in between leaves nothing.
    _unfinished.add(folder)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        _remove(folder)
        _unfinished.discard(folder)


def _remove(folder: Path) -> None:
    """A folder of files, as far as it can be.

    Not by `shutil.rmtree`: an interrupt makes that close its file of the folder twice, and the
    error of the second time takes the place of the interrupt.
    """
    with suppress(OSError):
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
        folder.rmdir()


@atexit.register
def _remove_unfinished() -> None:
    """What an exception that came while a folder was being removed has left."""
    for folder in list(_unfinished):
        # A forked child must not remove those of its parent.
        if folder.name.split("-")[3] == str(os.getpid()):
            _remove(folder)


@lru_cache(maxsize=1)
def _machine() -> str:
    """A hash of what tells this machine, and the container on it, from all others.

    A process of another one may live although no process here has its number.
    """
    facts = [socket.gethostname()]
    for read, place in ((_text, "/etc/machine-id"), (os.readlink, "/proc/self/ns/pid")):
        try:
            facts.append(read(place))
        except OSError:
            continue
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]


def _text(place: str) -> str:
    return Path(place).read_text("utf-8", "replace")


def _sweep(parent: Path) -> None:
    """Remove the temporary folders of dead processes of this machine, once for each parent."""
    # On Windows there is no signal 0 that asks and does nothing.
    if parent in _swept or os.name == "nt":
        return
    _swept.add(parent)
    with os.scandir(parent) as entries:
        found = [entry for entry in entries if _NAME.fullmatch(entry.name)]
    for entry in found:
        match = _NAME.fullmatch(entry.name)
        if (
            match
            and match["host"] == _machine()
            and entry.is_dir(follow_symlinks=False)
            and not _lives(int(match["process"]))
        ):
            _remove(Path(entry.path))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's
    return True


def _named(error: OSError, folder: Path, path: str | os.PathLike[str]) -> OSError:
    """The same error with the name that the user knows."""
    name = error.filename
    if name is not None and folder not in Path(os.fsdecode(name)).parents:
        return error
    # NumPy's own on a full disk is a count of numbers.
    reason = error.strerror or f"{error}; is the disk full?"
    return OSError(error.errno or errno.EIO, reason, os.fspath(path))


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


def _new_file(path: Path) -> tuple[Path, int]:
    """An empty file, and its mode.

    Not by `tempfile`, whose files are private: to give one the mode of any other new file, the
    umask would have to be asked for, which for a moment changes it for all threads.
    """
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return path, stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
