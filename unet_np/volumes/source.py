"""A stack of slices that is read window by window, from OME-Zarr or from TIFF."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError
from unet_np.files.on_disk import Windows
from unet_np.images.grey import Normalisation
from unet_np.images.prepared import Prepared
from unet_np.volumes.ome import Multiscale, read_multiscale
from unet_np.volumes.pages import open_tiff


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

    def page(self, number: int) -> Slice:
        """A slice, of which windows are read."""
        return Slice(self, number)

    def window(self, number: int, rows: slice, columns: slice) -> np.ndarray:
        """A window of a slice as the file has it, (h, w) or (h, w, channels)."""
        places = iter(np.unravel_index(number, self.leading) if self.leading else ())
        known = {"c": slice(None), "y": rows, "x": columns}
        index = tuple(known[name] if name in known else int(next(places)) for name in self.names)
        array, _ = _opened(self.path, self.given_axes, self.token)
        window = np.asarray(array[index])
        left = [name for name in self.names if name in known]
        return window.transpose([left.index(name) for name in "yxc" if name in left])

    def levels(self, number: int, channels: int) -> list[Normalisation]:
        """What normalises each channel of a slice, as a network reads it.

        Raises
        ------
        InputError
            If there is NaN or infinity.
        """
        levels = Prepared(self.page(number), channels).values
        if not np.isfinite([[one.largest, one.mean] for one in levels]).all():
            raise InputError(
                f"image: got NaN or infinity in slice {number} of {self.path}, expected finite "
                "numbers"
            )
        return levels


class Slice(Windows):
    """One slice of a volume, (H, W) or (H, W, channels).

    Parameters
    ----------
    volume : Volume
        Where it is.
    number : int
        Which one.
    """

    def __init__(self, volume: Volume, number: int) -> None:
        self.volume, self.number = volume, number
        self.shape = volume.size + ((volume.channels,) if "c" in volume.names else ())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the file."""
        return self.volume.dtype

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (
            slice(*part.indices(side)[:2]) for part, side in zip(key, self.shape[:2], strict=True)
        )
        return self.volume.window(self.number, rows, columns)


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
