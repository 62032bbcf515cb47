"""Results on disk: an OME-Zarr whose chunks are there or missing, each written by one process."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError, require
from unet_np.volumes.ome import FORMATS, Multiscale

OURS = "unet_np"
"""The attribute by which a result is known, with the settings that made it."""

Index = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """One array of a result, cut into chunks of one slice each.

    Attributes
    ----------
    path : Path
        Of the array.
    shape : tuple of int
        The axes that count slices, height and width.
    chunk : tuple of int
        Height and width of a chunk.
    """

    path: Path
    shape: tuple[int, ...]
    chunk: tuple[int, int]

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes that count slices."""
        return self.shape[:-2]

    def open(self) -> Any:
        """The array, of which every chunk that is written becomes a file, an empty one too."""
        zarr = require("zarr", "scale")
        with zarr.config.set({"array.write_empty_chunks": True}):
            return zarr.open_array(str(self.path), mode="r+")

    def indices(self) -> Iterator[Index]:
        """Slice, row and column of each chunk."""
        for number in range(math.prod(self.leading)):
            yield from self.indices_of(number)

    def indices_of(self, number: int) -> Iterator[Index]:
        """Those of one slice."""
        sides = zip(self.shape[-2:], self.chunk, strict=True)
        yield from product([number], *(range(-(-side // part)) for side, part in sides))

    def missing(self) -> list[Index]:
        """The chunks that are not there."""
        metadata = self.open().metadata
        return [
            index
            for index in self.indices()
            if not (self.path / metadata.encode_chunk_key(self._place(index))).is_file()
        ]

    def _place(self, index: Index) -> Index:
        places = np.unravel_index(index[0], self.leading) if self.leading else ()
        return (*(int(place) for place in places), *index[1:])

    def region(self, index: Index) -> tuple[Any, ...]:
        """Where a chunk lies in the array."""
        *places, row, column = self._place(index)
        (height, width), (down, across) = self.shape[-2:], self.chunk
        return (
            *places,
            slice(row * down, min(height, (row + 1) * down)),
            slice(column * across, min(width, (column + 1) * across)),
        )

    def read(self, index: Index) -> np.ndarray:
        """A chunk, (h, w)."""
        return np.asarray(self.open()[self.region(index)])

    def write(self, values: np.ndarray, index: Index) -> None:
        """Write a whole chunk, (h, w)."""
        self.open()[self.region(index)] = values

    def slice(self, number: int) -> np.ndarray:
        """A whole slice, (H, W)."""
        return np.asarray(self.open()[self._place((number, 0, 0))[:-2]])


def prepare_target(
    path: Path,
    multiscale: Multiscale,
    dtype: Any,
    chunk: tuple[int, int],
    settings: dict[str, Any],
    overwrite: bool = False,
) -> list[Target]:
    """A result that can be written to: a new one, or one of the same settings to go on with.

    Parameters
    ----------
    path : Path
        Of the group.
    multiscale : Multiscale
        Its axes and scales, none of channels.
    dtype : dtype
        Of its numbers.
    chunk : tuple of int
        Height and width of a chunk.
    settings : dict
        What decides its numbers; kept in the file.
    overwrite : bool
        Whether another Zarr in its place is removed.

    Returns
    -------
    list of Target
        One for each level.

    Raises
    ------
    InputError
        If something else is there.
    """
    zarr = require("zarr", "scale")
    if path.exists() and (overwrite or not any(path.iterdir())):
        _remove(path)
    if path.exists():
        check_same(path, settings)
    else:
        attributes = multiscale.attributes(path.stem, np.dtype(dtype).kind == "u") | {
            OURS: settings
        }
        zarr.create_group(str(path), zarr_format=FORMATS[multiscale.version], attributes=attributes)
    return [
        _level(path, multiscale, number, dtype, chunk) for number in range(len(multiscale.levels))
    ]


def _level(
    path: Path, multiscale: Multiscale, number: int, dtype: Any, chunk: tuple[int, int]
) -> Target:
    zarr = require("zarr", "scale")
    level = multiscale.levels[number]
    names = [axis["name"] for axis in multiscale.axes]
    sides = min(chunk[0], level.shape[-2]), min(chunk[1], level.shape[-1])
    # Workers may run in other folders.
    target = Target((path / level.path).absolute(), level.shape, sides)
    if not any((target.path / name).is_file() for name in ("zarr.json", ".zarray")):
        new = multiscale.version != "0.4"
        zarr.create_array(
            str(target.path),
            shape=level.shape,
            chunks=(1,) * len(target.leading) + sides,
            dtype=dtype,
            fill_value=0,
            zarr_format=FORMATS[multiscale.version],
            chunk_key_encoding={"name": "default" if new else "v2", "separator": "/"},
            **({"dimension_names": names} if new else {}),
        )
    return target


def stored_settings(path: Path) -> dict[str, Any]:
    """Those of a result; empty where there is none of ours."""
    zarr = require("zarr", "scale")
    try:
        return dict(zarr.open_group(str(path), mode="r").attrs.get(OURS, {}))
    except Exception:  # no group, or a damaged one
        return {}


def check_same(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with a result that other settings began, as far as they are known.

    Raises
    ------
    InputError
        Naming what differs.
    """
    stored = stored_settings(path)
    if not stored:
        raise InputError(
            f"--out: got {path}, which unet-np did not write, expected another name or --overwrite"
        )
    differ = [name for name in settings if stored.get(name) != settings[name]]
    if differ:
        raise InputError(
            f"--out: got {path}, which was made with another {' and '.join(differ)}, expected the "
            "same, another name or --overwrite"
        )


def _remove(path: Path) -> None:
    marks = ("zarr.json", ".zgroup", ".zarray")
    if any(path.iterdir()) and not any((path / mark).is_file() for mark in marks):
        raise InputError(f"--out: got the folder {path}, which is no Zarr, expected another name")
    shutil.rmtree(path)
