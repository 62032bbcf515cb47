"""The files of the data sets: which there are, where they lie, how they are had and checked.

`registry.txt`, beside this file, holds the path and SHA-256 of each file, as pooch reads it.
Nothing is read that does not have the hash that stands there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from unet_np.data.catalogue import Info, info
from unet_np.errors import InputError, require
from unet_np.files import atomic_write

PathLike = str | os.PathLike[str]

VARIABLE = "UNET_NP_DATA"
"""The environment variable that names the cache folder."""

# Fewer than that are fetched one by one, more as the official archive.
_FEW = 40
_RETRIES = 2  # of one file
_LIMIT = 3600.0  # seconds for all that is missing of a data set, on a server that drips
# (path, size, time of change) of files found whole: each is hashed once in a process.
_checked: set[tuple[str, int, int]] = set()


class DownloadError(InputError):
    """Data is missing and could not be downloaded; the message says where it belongs."""


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
def _registry() -> dict[str, str]:
    """SHA-256 of each file by its path in the cache folder."""
    place = Path(__file__).parent / "registry.txt"
    lines = place.read_text("utf-8", "replace").splitlines()
    entries = [line.split(" ") for line in lines if not line.startswith("#")]
    if any(len(entry) != 2 for entry in entries):
        raise InputError(f"registry: got {place}, damaged; install the package again")
    return {path: sha256 for path, sha256 in entries}


def files(name: str) -> Mapping[str, str]:
    """The SHA-256 of each file of a data set, by its path in the set's folder.

    Examples
    --------
    >>> len(files("isbi2012")), files("synthetic-em")
    (90, {})
    >>> next(iter(files("isbi2012")))
    'train/image/0.png'
    """
    start = f"{info(name).folder}/"
    registry = _registry()
    return {path.removeprefix(start): registry[path] for path in registry if path.startswith(start)}


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
    """Whether every file of a data set lies in the cache, by name; always if synthetic.

    Examples
    --------
    >>> is_available("synthetic-em"), is_available("isbi2012", "no such folder")
    (True, False)
    """
    folder = info(name).folder
    if folder is None:
        return True
    place = cache_folder(cache) / folder
    return all(os.path.isfile(place / path) for path in files(name))


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
    for path, sha256 in files(name).items():
        kinds[_state(folder / path, sha256)].append(path)
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
        If files are missing and cannot be had, or not within an hour.

    Examples
    --------
    >>> fetch("synthetic-em", "data").name
    'data'
    """
    entry = info(name)
    folder = cache_folder(cache) / (entry.folder or "")
    chosen = None if paths is None else set(paths)
    missing = []
    for path, sha256 in files(name).items():
        if chosen is not None and path not in chosen:
            continue
        state = _state(folder / path, sha256)
        if state == "damaged":
            raise InputError(
                f"{name}: {folder / path} is damaged: got {(folder / path).stat().st_size} bytes "
                f"of another SHA-256 than {sha256[:16]}...; delete it and fetch again"
            )
        if state == "missing":
            missing.append(path)
    if missing:
        _download_or_say(entry, folder, missing, download, progress)
    return folder


def _state(path: Path, sha256: str) -> str:
    """ "whole", "missing" or "damaged"."""
    if not os.path.isfile(path):
        return "missing"
    try:
        facts = path.stat()
        key = (str(path.absolute()), facts.st_size, facts.st_mtime_ns)
        if key in _checked:
            return "whole"
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"data: {path} cannot be read ({error.strerror})") from None
    if digest != sha256:
        return "damaged"
    _checked.add(key)
    return "whole"


def _download_or_say(
    entry: Info, folder: Path, missing: list[str], download: bool, progress: bool
) -> None:
    """Get the missing files, or say in one line where they belong and can be had."""
    url = entry.archive.url if entry.archive else entry.mirror and entry.mirror + missing[0]
    what = f"{entry.name}: {len(missing)} files are missing in {folder}"
    if len(missing) == 1:
        what = f"{entry.name}: {folder / missing[0]} is missing"
    where = f"set {VARIABLE} to the folder that holds {folder.name}/"
    if not url:
        raise DownloadError(
            f"{what}, and no public address has them in this form; place them there or {where} "
            f"(the images come from {entry.source})"
        )
    if not download:
        raise DownloadError(f"{what}, expected them there; fetch them from {url} or {where}")
    try:
        _download(entry, folder, missing, progress)
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


def _download(entry: Info, folder: Path, missing: list[str], progress: bool) -> None:
    """Get each file whole into a temporary folder, and only then into the cache."""
    pooch = require("pooch", "io")
    pooch.get_logger().setLevel("ERROR")
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    # The system's, which is emptied after a process that was killed; the cache never is.
    with tempfile.TemporaryDirectory(prefix="unet-np-", ignore_cleanup_errors=True) as stage:
        if entry.archive and len(missing) > _FEW:
            # What the archive gives need not be fetched; the rest comes file by file.
            with suppress(OSError, ValueError, zipfile.BadZipFile):
                _before(
                    begin + _LIMIT / 2,
                    pooch.retrieve,
                    entry.archive.url,
                    entry.archive.sha256,
                    path=stage,
                    fname="archive.zip",
                    processor=pooch.Unzip(extract_dir="."),
                    downloader=_downloader(pooch, progress),
                )
        registry = pooch.create(
            Path(stage) / folder.name,
            entry.mirror,
            registry=dict(files(entry.name)),
            retry_if_failed=_RETRIES,
        )
        for path in _with_progress(missing, entry.name, progress):
            whole = _before(begin + _LIMIT, registry.fetch, path, downloader=_downloader(pooch))
            with atomic_write(folder / path) as temporary:
                shutil.copyfile(whole, temporary)


def _downloader(pooch: Any, progress: bool = False) -> Any:
    def close_if_refused(response: Any, *args: object, **kwargs: object) -> None:
        if not response.ok:
            response.close()  # pooch leaves it open

    return pooch.HTTPDownloader(progress, timeout=30, hooks={"response": close_if_refused})


def _before(end: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of a call that must be there by a time; requests' timeout is of one read only.

    A late call goes on in its thread till the server or the process ends it, as none can be
    stopped from outside; nobody sees what comes of it.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not wait([future], max(end - time.monotonic(), 0)).done:
        raise TimeoutError(f"not all came within {_LIMIT:g} seconds")
    return future.result()


def _with_progress(items: list[str], name: str, progress: bool) -> Iterable[str]:
    if not progress:
        return items
    return require("tqdm", "io").tqdm(items, desc=f"fetch {name}", unit="file")
