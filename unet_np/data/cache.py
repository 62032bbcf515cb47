"""The files of the data sets: which there are, where they lie, how they are had and checked.

`registry.txt`, beside this file, holds the path, size and SHA-256 of each file and the public
address of each folder. Nothing is read that does not have the hash that stands there.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from unet_np.data.catalogue import Archive, Info, info
from unet_np.errors import InputError, require
from unet_np.files import atomic_write

PathLike = str | os.PathLike[str]

VARIABLE = "UNET_NP_DATA"
"""The environment variable that names the cache folder."""

# Fewer than that are fetched one by one, more as the official archive.
_FEW = 40
# (path, size, time of change) of files found whole: each is hashed once in a process.
_checked: set[tuple[str, int, int]] = set()


class DownloadError(InputError):
    """Data is missing and could not be downloaded; the message says where it belongs."""


@dataclass(frozen=True)
class File:
    """One file of a data set: path in its folder, size, SHA-256, address (or "")."""

    path: str
    bytes: int
    sha256: str
    url: str


@dataclass(frozen=True)
class Report:
    """What of a data set lies in the cache.

    Attributes
    ----------
    name : str
        The data set.
    folder : pathlib.Path
        Where its files belong.
    whole, missing, damaged : tuple of str
        Their paths in that folder. Damaged is any content but the one that was registered.
    """

    name: str
    folder: Path
    whole: tuple[str, ...]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every file is there and whole."""
        return not self.missing and not self.damaged


@lru_cache(maxsize=1)
def _registry() -> dict[str, tuple[File, ...]]:
    """The files of each folder."""
    found: dict[str, list[File]] = {}
    text = (Path(__file__).parent / "registry.txt").read_text(encoding="utf-8")
    base = ""
    for line in text.splitlines():
        if line.startswith("["):
            folder, base = line[1:].split("] ")
            files = found.setdefault(folder, [])
        elif line and not line.startswith("#"):
            path, size, sha256 = line.split(" ")
            files.append(File(path, int(size), sha256, "" if base == "-" else base + path))
    return {folder: tuple(files) for folder, files in found.items()}


def files(name: str) -> tuple[File, ...]:
    """The files of a data set; none if it is synthetic.

    Examples
    --------
    >>> len(files("isbi2012")), files("synthetic-em")
    (90, ())
    >>> files("isbi2012")[0].path
    'train/image/0.png'
    """
    folder = info(name).folder
    return _registry()[folder] if folder else ()


def cache_folder(cache: PathLike | None = None) -> Path:
    """Where data lies: `cache`, else the variable ``UNET_NP_DATA``, else the user's cache folder.

    Raises
    ------
    InputError
        If it is a file.
    MissingExtraError
        If neither is given and pooch, which knows the user's cache folder, is not installed.

    Examples
    --------
    >>> cache_folder("data").name
    'data'
    """
    source, text = "cache", cache
    if text is None:
        source, text = VARIABLE, os.environ.get(VARIABLE) or None
    if text is None:
        text = require("pooch", "io").os_cache("unet-np")
    folder = Path(text).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{source}: got the file {folder}, expected a folder")
    return folder


def is_available(name: str, cache: PathLike | None = None) -> bool:
    """Whether every file of a data set lies in the cache, by name and size; always if synthetic.

    Examples
    --------
    >>> is_available("synthetic-em"), is_available("isbi2012", "no such folder")
    (True, False)
    """
    wanted = files(name)
    if not wanted:
        return True
    folder = cache_folder(cache) / str(info(name).folder)
    return all(_size(folder / file.path) == file.bytes for file in wanted)


def verify(name: str, cache: PathLike | None = None) -> Report:
    """Hash every file of a data set.

    Examples
    --------
    >>> report = verify("dsb2018", "no such folder")
    >>> report.ok, len(report.missing)
    (False, 3)
    """
    folder = cache_folder(cache) / (info(name).folder or "")
    kinds: dict[str, list[str]] = {"whole": [], "missing": [], "damaged": []}
    for file in files(name):
        kinds[_state(folder / file.path, file)].append(file.path)
    return Report(name, folder, *(tuple(paths) for paths in kinds.values()))


def fetch(
    name: str,
    cache: PathLike | None = None,
    *,
    paths: Iterable[str] | None = None,
    download: bool = True,
    progress: bool = False,
) -> Path:
    """Make sure that a data set lies in the cache, whole; download what is missing.

    Parameters
    ----------
    name : str
        One of `unet_np.data.NAMES`.
    cache : path-like, optional
        The cache folder; see `cache_folder`.
    paths : iterable of str, optional
        Only these files of it.
    download : bool
        If False, missing files are an error.
    progress : bool
        Show a progress bar (tqdm) while downloading.

    Returns
    -------
    pathlib.Path
        The folder of the data set.

    Raises
    ------
    InputError
        If a file in the cache is damaged. It is not replaced: it may be the only copy of
        something else.
    DownloadError
        If files are missing and cannot be had.

    Examples
    --------
    >>> fetch("synthetic-em", "data").name
    'data'
    """
    entry = info(name)
    folder = cache_folder(cache) / (entry.folder or "")
    chosen = None if paths is None else set(paths)
    missing = []
    for file in files(name):
        if chosen is not None and file.path not in chosen:
            continue
        state = _state(folder / file.path, file)
        if state == "damaged":
            raise InputError(
                f"{name}: {folder / file.path} is damaged: got {_size(folder / file.path)} bytes "
                f"with another SHA-256, expected {file.bytes} bytes with {file.sha256[:16]}...; "
                "delete it and fetch again"
            )
        if state == "missing":
            missing.append(file)
    if missing:
        _download(entry, folder, missing, download, progress)
    return folder


def _size(path: Path) -> int | None:
    """The size of a file, or None where there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _state(path: Path, file: File) -> str:
    """ "whole", "missing" or "damaged"."""
    if _size(path) is None:
        return "missing"
    facts = path.stat()
    key = (str(path.absolute()), facts.st_size, facts.st_mtime_ns)
    if key in _checked:
        return "whole"
    try:
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"data: {path} cannot be read ({error.strerror})") from None
    if digest != file.sha256:
        return "damaged"
    _checked.add(key)
    return "whole"


def _download(
    entry: Info, folder: Path, missing: list[File], download: bool, progress: bool
) -> None:
    """Get the missing files, each one hash-checked before it gets its name."""
    url = entry.archive.url if entry.archive else missing[0].url
    what = f"{entry.name}: {len(missing)} files are missing in {folder}"
    if len(missing) == 1:
        what = f"{entry.name}: {folder / missing[0].path} is missing"
    where = f"set {VARIABLE} to the folder that holds {folder.name}/"
    if not url:
        raise DownloadError(
            f"{what}, and no public address has them in this form; place them there or {where} "
            f"(the images come from {entry.source})"
        )
    if not download:
        raise DownloadError(f"{what}, expected them there; fetch them from {url} or {where}")
    try:
        # What the archive gave is kept; the rest, all of it in the worst case, comes file by file.
        if entry.archive and len(missing) > _FEW:
            _from_archive(entry.archive, folder, missing, progress)
            missing = [file for file in missing if _state(folder / file.path, file) != "whole"]
        for file in _with_progress(missing, entry.name, progress):
            _retrieve(file.url, file.sha256, folder / file.path)
    except InputError:
        raise
    # Requests, urllib3 and the system raise errors of many sorts where there is no network.
    except (OSError, ValueError) as error:
        raise DownloadError(
            f"{what} and cannot be downloaded from {url} ({_reason(error)}); place them there or "
            f"{where}"
        ) from None


def _reason(error: Exception) -> str:
    """Why a download failed, in a few words."""
    kind = type(error).__name__
    if kind in ("ConnectionError", "ConnectTimeout", "ReadTimeout", "SSLError", "ProxyError"):
        return f"no connection, {kind}"
    text = " ".join(str(error).split())
    return f"{kind}: {text[:77]}..." if len(text) > 80 else f"{kind}: {text}"


def _with_progress(items: list[File], name: str, progress: bool) -> Iterable[File]:
    if not progress or not items:
        return items
    return require("tqdm", "io").tqdm(items, desc=f"fetch {name}", unit="file")


def _retrieve(url: str, sha256: str, target: Path, bar: bool = False) -> None:
    """Download one file with pooch, which gives it its name only if its hash is right."""
    pooch = require("pooch", "io")
    pooch.get_logger().setLevel("ERROR")
    with atomic_write(target) as temporary:
        # Pooch takes a file that is there for one that is had already.
        temporary.unlink()
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}",
                fname=temporary.name,
                path=temporary.parent,
                downloader=pooch.HTTPDownloader(progressbar=bar, timeout=30),
            )
        except OSError as error:
            # Pooch leaves the connection of a refused request open.
            if getattr(error, "response", None) is not None:
                error.response.close()  # type: ignore[attr-defined]
            raise


def _from_archive(archive: Archive, folder: Path, missing: list[File], progress: bool) -> None:
    """Take the missing files from the official archive; do nothing where it cannot be had."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".archive-", dir=folder.parent) as temporary:
        path = Path(temporary) / f"{folder.name}.zip"
        try:
            _retrieve(archive.url, archive.sha256, path, progress)
            with zipfile.ZipFile(path) as opened:
                for file, content in _members(opened, folder.name, missing):
                    with atomic_write(folder / file.path) as target:
                        target.write_bytes(content)
        except (OSError, ValueError, zipfile.BadZipFile):
            return


def _members(opened: Any, folder: str, missing: list[File]) -> Iterator[tuple[File, bytes]]:
    """The wanted members of an archive that have the right content."""
    inside = set(opened.namelist())
    for file in missing:
        member = f"{folder}/{file.path}"
        if member in inside:
            content = opened.read(member)
            if hashlib.sha256(content).hexdigest() == file.sha256:
                yield file, content
