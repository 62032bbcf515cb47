"""Where a result comes from: command, commit, versions and machine, for files under results/."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unet_np.backend import thread_count

LIBRARIES = ("numpy", "scipy", "torch", "cupy-cuda12x", "cupy-cuda13x")


def provenance(command: list[str] | None = None) -> dict[str, Any]:
    """What made a result.

    Parameters
    ----------
    command : list of str, optional
        By default the arguments of this process, without the path of the program. Of absolute
        paths the last name is kept: the rest is of one machine.

    Returns
    -------
    dict
        ``command``, ``commit`` (with ``+`` where the tree had changes; None outside a
        checkout of this project), ``versions``, ``machine`` (processor, cores, threads used,
        memory, BLAS).

    Examples
    --------
    >>> sorted(provenance(["bench"]))
    ['command', 'commit', 'machine', 'versions']
    >>> provenance(["bench"])["command"]
    'unet-np bench'
    >>> provenance(["experiment", "em", "--runs", "/home/me/runs"])["command"]
    'unet-np experiment em --runs runs'
    """
    arguments = sys.argv[1:] if command is None else command
    return {
        "command": " ".join(["unet-np", *map(last_name, arguments)]),
        "commit": _commit(),
        "versions": _versions(),
        "machine": machine(),
    }


def last_name(argument: str) -> str:
    """Of an absolute path the last name, and anything else as it is."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def machine() -> dict[str, Any]:
    """Processor, cores, memory and the BLAS that NumPy calls.

    Examples
    --------
    >>> machine()["threads"] == thread_count()
    True
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": thread_count(),
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "blas": _blas(),
    }


def _commit() -> str | None:
    folder = Path(__file__).parent.parent
    git = ["git", "-C", str(folder)]
    try:
        # An installed package may lie in somebody else's repository.
        if 'name = "unet-np"' not in (folder.parent / "pyproject.toml").read_text("utf-8"):
            return None
        root = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True)
        if Path(os.fsdecode(root.stdout).strip()).resolve() != folder.parent.resolve():
            return None
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", str(folder)],
            capture_output=True,
            text=True,
        )
    except (OSError, ValueError):
        return None
    if commit.returncode:
        return None
    return commit.stdout.strip()[:12] + ("+" if changes.stdout.strip() else "")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in ("unet-np", *LIBRARIES):
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _blas() -> list[str]:
    """Library, version and the processor family that it chose its kernels for."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    return sorted(
        {
            f"{library['internal_api']} {library['version']} {library.get('architecture', '')}"
            for library in threadpool_info()
            if library["user_api"] == "blas"
        }
    )
