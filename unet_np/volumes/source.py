"""A stack of slices that is read window by window, from OME-Zarr or from TIFF."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError
from unet_np.images import to_grey
from unet_np.tiling import turn
from unet_np.volumes.levels import grey_levels
from unet_np.volumes.ome import Multiscale, read_multiscale
from unet_np.volumes.pages import open_tiff
from unet_np.windows import mirrored

Symmetry = tuple[bool, int]


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr, by its name or by what it holds.

    Examples
    --------
    >>> is_zarr(Path("volume.zarr")), is_zarr(Path("slice.tif"))
    (True, False)
    """
    marks = ("zarr.json", ".zgroup", ".zarray")
    return path.suffix.lower() == ".zarr" or any((path / mark).is_file() for mark in marks)


@dataclass(frozen=True)
class Volume:
    """Slices on disk, of which windows are read; each process opens the file for itself, once.

    Attributes
    ----------
    path : Path
        Of the file.
    shape : tuple of int
        Of all its axes.
    dtype : numpy.dtype
        Of its numbers.
    multiscale : Multiscale
        Names of the axes, and the scales.
    given_axes : str or None
        What was said of the axes of a TIFF.
    token : str
        Tells this opening of the file from every other.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    multiscale: Multiscale
    given_axes: str | None = None
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def names(self) -> list[str]:
        """Of the axes, in lower case."""
        return [axis["name"].lower() for axis in self.multiscale.axes]

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes that count slices."""
        sizes = zip(self.names, self.shape, strict=True)
        return tuple(size for name, size in sizes if name not in ("c", "y", "x"))

    def __len__(self) -> int:
        """How many slices there are."""
        return math.prod(self.leading)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a slice."""
        names = self.names
        return self.shape[names.index("y")], self.shape[names.index("x")]

    @property
    def channels(self) -> int:
        """1 where there is no axis of channels."""
        names = self.names
        return self.shape[names.index("c")] if "c" in names else 1

    def read(self, number: int, rows: slice, columns: slice) -> np.ndarray:
        """A window of a slice as the file has it, (h, w) or (h, w, channels)."""
        places = iter(np.unravel_index(number, self.leading) if self.leading else ())
        known = {"c": slice(None), "y": rows, "x": columns}
        index = tuple(known[name] if name in known else int(next(places)) for name in self.names)
        array, _ = _opened(self.path, self.given_axes, self.token)
        window = np.asarray(array[index])
        left = [name for name in self.names if name in known]
        return window.transpose([left.index(name) for name in "yxc" if name in left])

    def planes(self, number: int, rows: slice, columns: slice, channels: int) -> np.ndarray:
        """A window as the network reads it, (channels, h, w), not normalised."""
        window = self.read(number, rows, columns)
        if channels == 1:
            return to_grey(window)[None]
        return np.moveaxis(window[..., :channels], -1, 0)

    def levels(self, number: int, channels: int) -> np.ndarray:
        """The `grey_levels` of each channel of a slice, (channels, 3)."""
        width = slice(0, self.size[1])

        def rows_of(channel: int) -> Callable[[slice], np.ndarray]:
            return lambda rows: self.planes(number, rows, width, channels)[channel]

        try:
            return np.array([grey_levels(rows_of(one), self.size) for one in range(channels)])
        except InputError as error:
            raise InputError(f"{str(error).rstrip()}, in slice {number} of {self.path}") from None

    def window(
        self,
        number: int,
        rows: np.ndarray,
        columns: np.ndarray,
        levels: np.ndarray,
        version: Symmetry = (False, 0),
    ) -> np.ndarray:
        """A window of a slice, mirrored at its border, normalised as the whole slice is.

        Parameters
        ----------
        number : int
            Of the slice.
        rows, columns : numpy.ndarray
            Coordinates in the turned slice, beyond its border too.
        levels : numpy.ndarray
            (channels, 3), from `levels`.
        version : tuple
            Which of the 8 symmetries (``unet_np.tiling.SYMMETRIES``) turns the slice.

        Returns
        -------
        numpy.ndarray
            float32 (channels, len(rows), len(columns)).
        """
        # Where each pixel of the turned slice comes from: views that take no memory.
        down, across = (
            turn(np.broadcast_to(np.expand_dims(np.arange(n), 1 - axis), self.size), version)
            for axis, n in enumerate(self.size)
        )
        rows, columns = mirrored(rows, down.shape[0]), mirrored(columns, down.shape[1])
        swapped = version[1] % 2 == 1
        source = (
            (down[0, columns], across[rows, 0]) if swapped else (down[rows, 0], across[0, columns])
        )
        box = [slice(int(one.min()), int(one.max()) + 1) for one in source]
        values = self.planes(number, box[0], box[1], len(levels)).astype(np.float64)
        largest, mean, spread = (one[:, None, None] for one in levels.T)
        values /= largest
        values -= mean
        values /= spread
        inside = [one - part.start for one, part in zip(source, box, strict=True)]
        found = values.astype(np.float32)[:, inside[0][:, None], inside[1]]
        return found.swapaxes(1, 2) if swapped else found


def open_volume(path: Path, axes: str | None = None) -> Volume:
    """An OME-Zarr or a TIFF, of which nothing but the description is read.

    Parameters
    ----------
    path : Path
        The folder of the Zarr, or the file of the TIFF.
    axes : str, optional
        Those of a TIFF, where it names them wrong.

    Raises
    ------
    InputError
        If it cannot be read, or its axes are none of an image's.
    MissingExtraError
        If zarr or tifffile is not installed.
    """
    token = uuid.uuid4().hex
    array, multiscale = _opened(path.absolute(), axes, token)
    volume = Volume(path.absolute(), array.shape, array.dtype, multiscale, axes, token)
    names = volume.names
    if len(set(names)) < len(names) or not {"y", "x"} <= set(names):
        raise InputError(f"image: {path} has axes {names}, expected y, x and others but once each")
    if array.dtype.kind not in "buif" or 0 in array.shape:
        raise InputError(
            f"image: {path} has {array.dtype} {array.shape}, expected real numbers, one at least"
        )
    return volume


@lru_cache(maxsize=4)
def _opened(path: Path, axes: str | None, token: str) -> tuple[Any, Multiscale]:
    if not is_zarr(path):
        return open_tiff(path, axes)
    if axes is not None:
        raise InputError(f"--axes: got {axes} for {path}, expected none: OME-Zarr names them")
    return read_multiscale(path)
