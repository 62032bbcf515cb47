"""A TIFF as slices that are read page by page, or tile by tile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unet_np.errors import InputError
from unet_np.volumes.ome import Multiscale


def open_tiff(path: Path, axes: str | None) -> tuple[Any, Multiscale]:
    """An array of which windows are read, and its axes.

    Raises
    ------
    InputError
        If it is no TIFF that can be read so.
    """
    raise InputError(f"image: {path} is no Zarr, expected one")
