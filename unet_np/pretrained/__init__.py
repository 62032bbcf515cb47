"""Trained networks that come with the package: EM, U373 and HeLa (Sec. 4).

Each is a float16 safetensors file with a model card beside it: data, split, recipe, scores and
the licence of the data. ``unet-np experiment NAME --fold N --export`` writes both.
"""

from __future__ import annotations

import difflib
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.errors import InputError
from unet_np.files import atomic_write
from unet_np.files.weights import known_whole

if TYPE_CHECKING:
    from unet_np.network.unet import UNet

NAMES = ("em", "u373", "hela")
"""What the networks were trained on; the first is the default of ``unet-np segment``."""

MAX_BYTES = 8_000_000

REGISTRY = Path(__file__).with_name("registry.txt")

__all__ = ["MAX_BYTES", "NAMES", "available", "card", "load", "path"]


def path(name: str = "em") -> Path:
    """Where the weights of a network lie.

    Parameters
    ----------
    name : {"em", "u373", "hela"}
        Membranes in electron micrographs, U373 cells in phase contrast, HeLa cells in DIC.

    Raises
    ------
    InputError
        If there is no such network, or its file is not as it was shipped.

    Examples
    --------
    >>> path("em").name
    'em.safetensors'
    >>> path("helo")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: model: got 'helo', expected one of em, u373, hela; nearest valid \
is 'hela'
    """
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, 1, cutoff=0)[0]
        raise InputError(
            f"model: got {name!r}, expected one of {', '.join(NAMES)}; nearest valid is {near!r}"
        )
    file = Path(__file__).with_name(f"{name}.safetensors")
    if file.is_file():
        _check(name, file)
    return file


@lru_cache
def _check(name: str, file: Path) -> None:
    """See once in a process that a network is as it was shipped."""
    if hashlib.sha256(file.read_bytes()).hexdigest() != registry().get(name):
        raise InputError(
            f"model: got {name}, damaged: {file} has another SHA-256 than it was shipped with, "
            "expected it whole; install the package again"
        )
    known_whole(file)


def registry() -> dict[str, str]:
    """SHA-256 of the file of each network.

    Examples
    --------
    >>> list(registry())
    ['em', 'u373', 'hela']
    """
    lines = REGISTRY.read_text("ascii", "replace").splitlines()
    pairs = (line.split() for line in lines if not line.startswith("#"))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def register(name: str) -> None:
    """Note the SHA-256 of a network that was just written."""
    file = Path(__file__).with_name(f"{name}.safetensors")
    found = registry() | {name: hashlib.sha256(file.read_bytes()).hexdigest()}
    remark = REGISTRY.read_text("ascii").splitlines()[0]
    with atomic_write(REGISTRY) as temporary:
        lines = [remark, *(f"{each} {sha256}" for each, sha256 in found.items())]
        temporary.write_text("\n".join(lines) + "\n", "ascii")
    _check.cache_clear()


def available() -> tuple[str, ...]:
    """The networks whose weights lie in this installation.

    Examples
    --------
    >>> set(available()) <= set(NAMES)
    True
    """
    return tuple(name for name in NAMES if path(name).is_file())


def load(name: str = "em", backend: str | None = "auto", dtype: Any = "float32") -> UNet:
    """A trained network; nothing is downloaded.

    Parameters
    ----------
    name : {"em", "u373", "hela"}
        As for `path`.
    backend, dtype
        As in `unet_np.UNet`.

    Returns
    -------
    UNet
        It reads one grey channel with zero mean and unit variance, as
        `unet_np.tasks.segmentation.segment` gives it, and tells class 1, cell, from class 0,
        membrane or background.

    Raises
    ------
    InputError
        If there is no such network.
    MissingExtraError
        If safetensors is not installed.
    """
    from unet_np.network.unet import UNet

    return UNet.load(path(name), backend=backend, dtype=dtype)


def card(name: str = "em") -> str:
    """The model card of a network, as Markdown.

    Raises
    ------
    InputError
        If there is no such network, or none in this installation.
    """
    file = path(name).with_suffix(".md")
    if not file.is_file():
        raise InputError(f"model: got {name!r}, which has no card here; expected {file}")
    return file.read_text("utf-8")
