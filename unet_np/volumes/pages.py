"""A TIFF as slices that are read page by page, strip by strip or tile by tile."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.images import Calibration, open_bands
from unet_np.volumes.ome import Level, Multiscale

_UNITS = {"nm": "nanometer", "um": "micrometer", "mm": "millimeter", "cm": "centimeter"}


class Pages:
    """The slices of a file that stays open, as an array of which windows are read.

    Parameters
    ----------
    path : Path
        The file.
    axes : str or None
        As in `unet_np.images.read_image`.
    """

    def __init__(self, path: Path, axes: str | None) -> None:
        self.stack = ExitStack()
        self.image = self.stack.enter_context(open_bands(path, argument="image", axes=axes))
        self.shape = ((self.image.count,) if self.image.stacked else ()) + self.image.shape
        self.dtype, self.ndim = self.image.dtype, len(self.shape)
        # One place in the file, which threads would move for each other.
        self.lock = threading.Lock()

    def __del__(self) -> None:
        self.stack.close()

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        """A window of one slice: its number where there are several, rows, columns, channels."""
        number, (rows, *rest) = (index[0], index[1:]) if self.image.stacked else (0, index)
        parts = []
        with self.lock:
            for place, band in self.image.bands(number, rows.start):
                part = band[max(0, rows.start - place.start) : rows.stop - place.start]
                parts.append(part[(slice(None), *rest)])
                if place.stop >= rows.stop:
                    break
        return np.concatenate(parts)


def open_tiff(path: Path, axes: str | None) -> tuple[Pages, Multiscale]:
    """The slices, and their axes and scales as OME-Zarr names them.

    Raises
    ------
    InputError, MissingExtraError
        As `unet_np.images.open_bands`.
    """
    pages = Pages(path, axes)
    known = pages.image.calibration
    slices = ["t" if letter == "T" else "z" for letter in pages.image.axes if letter not in "YXC"]
    names = [*slices, "y", "x", *("c" for letter in pages.image.axes if letter == "C")]
    sizes = {"t": known.interval, "z": known.spacing, "y": known.height, "x": known.width}
    scale: list[dict[str, Any]] = [
        {"type": "scale", "scale": [float(sizes.get(name) or 1) for name in names]}
    ]
    described = [_axis(name, known) for name in names]
    return pages, Multiscale("0.5", described, (Level("0", pages.shape, scale),), [])


def _axis(name: str, known: Calibration) -> dict[str, Any]:
    kinds = {"t": "time", "c": "channel"}
    axis = {"name": name, "type": kinds.get(name, "space")}
    unit = "second" if name == "t" and known.interval else _UNITS.get(known.unit)
    return axis | ({"unit": unit} if unit and name != "c" else {})
