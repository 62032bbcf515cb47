"""OME-Zarr 0.4 and 0.5: what a file says of its image, and a file of labels that says the same.

The specification is at https://ngff.openmicroscopy.org. An image is a group with ``multiscales``:
its axes, and the same image in several sizes, each with its scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_np.errors import InputError, require

FORMATS = {"0.4": 2, "0.5": 3}
"""The format of Zarr for each version of OME-Zarr."""


@dataclass(frozen=True)
class Level:
    """One size of an image.

    Attributes
    ----------
    path : str
        Of the array in the group.
    shape : tuple of int
        Of the array.
    transformations : list of dict
        Its scale and translation, a number for each axis.
    """

    path: str
    shape: tuple[int, ...]
    transformations: list[dict[str, Any]]


@dataclass(frozen=True)
class Multiscale:
    """What ``multiscales`` says.

    Attributes
    ----------
    version : {"0.4", "0.5"}
        Of OME-Zarr.
    axes : list of dict
        Name, and type and unit where there are any, of each axis.
    levels : tuple of Level
        The largest first.
    transformations : list of dict
        What is done to all levels alike.
    """

    version: str
    axes: list[dict[str, Any]]
    levels: tuple[Level, ...]
    transformations: list[dict[str, Any]]

    def without(self, name: str) -> Multiscale:
        """The same without an axis; itself where it has none of that name.

        Examples
        --------
        >>> scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
        >>> axes = [{"name": name} for name in "cyx"]
        >>> whole = Multiscale("0.5", axes, (Level("0", (3, 8, 8), scale),), [])
        >>> whole.without("c").levels[0]
        Level(path='0', shape=(8, 8), transformations=[{'type': 'scale', 'scale': [0.5, 0.5]}])
        """
        names = [axis["name"] for axis in self.axes]
        if name not in names:
            return self
        at = names.index(name)
        levels = tuple(
            Level(one.path, (*_left(one.shape, at),), _without(one.transformations, at))
            for one in self.levels
        )
        axes = _left(self.axes, at)
        return Multiscale(self.version, axes, levels, _without(self.transformations, at))

    def attributes(self, name: str, labels: bool = True) -> dict[str, Any]:
        """As they stand in the group of an image, or of one that is a map of labels."""
        multiscale: dict[str, Any] = {"name": name, "axes": self.axes}
        multiscale["datasets"] = [
            {"path": one.path, "coordinateTransformations": one.transformations}
            for one in self.levels
        ]
        if self.transformations:
            multiscale["coordinateTransformations"] = self.transformations
        marks: dict[str, Any] = {"image-label": {"version": self.version}} if labels else {}
        if self.version == "0.4":
            return {"multiscales": [{**multiscale, "version": "0.4"}], **marks}
        return {"ome": {"version": self.version, "multiscales": [multiscale], **marks}}


def _left(values: Any, at: int) -> list[Any]:
    return [value for place, value in enumerate(values) if place != at]


def _without(transformations: list[dict[str, Any]], at: int) -> list[dict[str, Any]]:
    return [
        {key: _left(value, at) if isinstance(value, list) else value for key, value in one.items()}
        for one in transformations
    ]


def read_multiscale(path: Path) -> tuple[Any, Multiscale]:
    """The array of the largest level, and what the file says of all.

    Raises
    ------
    InputError
        If it is no Zarr, has no multiscales, or is of another version.
    MissingExtraError
        If zarr is not installed.
    """
    zarr = require("zarr", "scale")
    try:
        group = zarr.open_group(str(path), mode="r")
        attributes = dict(group.attrs)
    # What is no group, or a damaged one, ends in errors of many sorts.
    except Exception as error:
        if not path.exists():
            raise InputError(f"image: {path} does not exist, expected an OME-Zarr") from None
        kind = type(error).__name__
        raise InputError(f"image: {path} is no OME-Zarr that can be read ({kind})") from None
    ome = attributes.get("ome", attributes)
    try:
        multiscale = ome["multiscales"][0]
        version = str(ome.get("version") or multiscale.get("version"))
        axes = [dict(axis) for axis in multiscale["axes"]] if version in FORMATS else []
        names = [axis["name"] for axis in axes]
        arrays = [group[one["path"]] for one in multiscale["datasets"]] if axes else []
        levels = tuple(
            Level(one["path"], array.shape, list(one["coordinateTransformations"]))
            for one, array in zip(multiscale["datasets"], arrays, strict=bool(arrays))
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise InputError(_no_multiscales(path, group, error)) from None
    if not levels:
        known = " or ".join(FORMATS)
        raise InputError(f"image: {path} is OME-Zarr {version}, expected {known}")
    if arrays[0].ndim != len(names):
        raise InputError(
            f"image: {path} has {len(names)} axes in its multiscales and {arrays[0].ndim} in its "
            "array, expected as many"
        )
    whole = list(multiscale.get("coordinateTransformations", []))
    return arrays[0], Multiscale(version, axes, levels, whole)


def _no_multiscales(path: Path, group: Any, error: Exception) -> str:
    """What is wrong, with the nearest group that has what is missing."""
    where = "expected an OME-Zarr 0.4 or 0.5"
    for name, child in group.groups():
        if "multiscales" in child.attrs.get("ome", child.attrs):
            where += f"; nearest: {path / name}"
            break
    if "multiscales" not in str(error):
        return f"image: {path} has multiscales without {error}, {where}"
    return f"image: {path} has no multiscales, {where}"
