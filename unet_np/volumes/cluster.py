"""One process, a local cluster, or one that is there; and chunk after chunk as it is done."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unet_np.errors import InputError, require

WAIT = 30
"""Seconds for which a scheduler and its first worker are waited for."""

Progress = Callable[[int, int], None]


@contextmanager
def connected(
    workers: int | None = None, scheduler: str | None = None, threads: int | None = None
) -> Iterator[Any]:
    """A client of a cluster, or None where the work is for this process alone.

    Parameters
    ----------
    workers : int, optional
        Processes of a local cluster, which is started on the loopback interface and ended after.
    scheduler : str, optional
        Address of a scheduler that is there, such as ``tcp://10.0.0.1:8786``.
    threads : int, optional
        Of each worker of a local cluster; by default its share of the cores.

    Yields
    ------
    distributed.Client or None
        Its ``dashboard_link`` is where to watch the work.

    Raises
    ------
    InputError
        If both are given, no scheduler or worker answers, or a worker has other versions.
    MissingExtraError
        If distributed is not installed.
    """
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise InputError("--workers: got it with --scheduler, expected one of the two")
    distributed = require("distributed", "scale")
    with ExitStack() as stack:
        if scheduler is None:
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                # Memory is bounded by the tiles; a paused worker would only be waited for.
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
            client = distributed.Client(stack.enter_context(cluster))
        else:
            client = _client(distributed, scheduler)
        stack.enter_context(client)
        check_versions(client, scheduler or "--workers")
        yield client


def _client(distributed: Any, address: str) -> Any:
    try:
        client = distributed.Client(address, timeout=WAIT)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--scheduler: got {address}, expected the address of a Dask scheduler that answers "
            f"({reason})"
        ) from None
    return client


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of what decides the numbers or how processes talk, here.

    Examples
    --------
    >>> list(versions())
    ['python', 'numpy', 'dask', 'distributed', 'zarr', 'unet-np']
    """
    found = {"python": platform.python_version()}
    for name in ("numpy", "dask", "distributed", "zarr"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    # A checkout changes between two versions.
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    content = b"\0".join(file.read_bytes() for file in sources)
    return found | {"unet-np": hashlib.sha256(content).hexdigest()[:12]}


def _joining() -> dict[str, str]:
    """What a worker does first: remarks on files are for whoever started the work."""
    logging.getLogger("unet_np").addHandler(logging.NullHandler())
    return versions()


def check_versions(client: Any, address: str) -> None:
    """Refuse workers whose versions are not those of this process.

    Raises
    ------
    InputError
        Naming the first such worker, or if there is none at all.
    """
    try:
        client.wait_for_workers(1, timeout=WAIT)
    except TimeoutError:
        raise InputError(f"--scheduler: {address} has no worker, expected one at least") from None
    answers = client.run(_joining, on_error="return")
    for worker, theirs in sorted(answers.items()):
        if isinstance(theirs, BaseException):
            raise InputError(
                f"--scheduler: worker {worker} cannot run unet-np ({type(theirs).__name__}: "
                f"{theirs}), expected the same installation as here"
            )
        for name, ours in versions().items():
            if theirs.get(name) != ours:
                raise InputError(
                    f"--scheduler: worker {worker} has {name} {theirs.get(name)}, expected {ours} "
                    "as here"
                )


def share_of_threads(workers: int) -> int:
    """Cores for each of so many workers, one at least.

    Examples
    --------
    >>> share_of_threads(10**6)
    1
    """
    return max(1, (os.cpu_count() or 1) // workers)


def compute(tasks: Sequence[Any], client: Any, progress: Progress | None = None) -> list[Any]:
    """The results of delayed tasks, in their order, by a cluster or in this process.

    Parameters
    ----------
    tasks : sequence of dask.delayed.Delayed
        What to compute.
    client : distributed.Client or None
        Who computes; None is this process, one after the other.
    progress : callable, optional
        Called as ``progress(done, total)`` at the start and after each.

    Raises
    ------
    ChildProcessError
        If workers died at one task again and again.
    """
    show = progress or (lambda done, total: None)
    show(0, len(tasks))
    if not tasks:
        return []
    return _here(tasks, show) if client is None else _there(tasks, client, show)


def _here(tasks: Sequence[Any], show: Progress) -> list[Any]:
    dask, callbacks = require("dask", "scale"), require("dask.callbacks", "scale")
    waited = {task.key for task in tasks}
    total = len(tasks)

    def count(key: Any, *_: Any) -> None:
        if key in waited:
            waited.remove(key)
            show(total - len(waited), total)

    with callbacks.Callback(posttask=count):
        return list(dask.compute(*tasks, scheduler="synchronous"))


def _there(tasks: Sequence[Any], client: Any, show: Progress) -> list[Any]:
    distributed = require("distributed", "scale")
    futures = client.compute(list(tasks))
    try:
        for done, future in enumerate(distributed.as_completed(futures), 1):
            future.result()
            show(done, len(tasks))
        return list(client.gather(futures))
    except distributed.KilledWorker as error:
        raise ChildProcessError(
            f"worker {error.last_worker.address} and others before it died at the same chunk; a "
            "smaller --memory or --tile may help, and what is done stays done"
        ) from None
    finally:
        client.cancel(futures)
