"""Arrays in safetensors files: no code in them, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from unet_np.errors import InputError, require
from unet_np.files import atomic_write


def write_weights(
    path: str | os.PathLike[str], arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write named arrays and a few strings.

    Parameters
    ----------
    path : path-like
        The file; an old one is replaced once the new one is complete.
    arrays : dict
        Name to array on the host; stored in C order, whatever their memory order.
    metadata : dict of str to str
        Stands in the file's header.

    Raises
    ------
    InputError
        If the path cannot be written to.
    MissingExtraError
        If safetensors is not installed.
    """
    safetensors = require("safetensors.numpy", "io")
    ordered = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_write(path) as temporary:
        safetensors.save_file(ordered, temporary, metadata)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The strings of a file that `write_weights` wrote; empty where there are none to read.

    Raises
    ------
    MissingExtraError
        If safetensors is not installed.
    """
    safetensors = require("safetensors", "io")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, TypeError):
        return {}


def read_weights(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What `write_weights` wrote: arrays by name, and the strings.

    Raises
    ------
    InputError
        If the file is missing, a folder, empty, cut short or no safetensors file.
    MissingExtraError
        If safetensors is not installed.
    """
    safetensors = require("safetensors", "io")
    if not Path(path).is_file():
        what = "a folder" if Path(path).is_dir() else "no file"
        raise InputError(f"weights: got {what} at {path}, expected a .safetensors file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, file.metadata() or {}
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"weights: got {path}, expected a whole .safetensors file ({reason})"
        ) from None
