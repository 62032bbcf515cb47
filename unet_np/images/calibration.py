"""How large a pixel is and how long a frame takes, as ImageJ, OME and TIFF's own tags say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MICROMETRES = {
    "pm": 1e-6,
    "Å": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "inch": 25400.0,
}
"""Of each unit of length by its name here."""

_SPELLINGS = {
    "µm": "um",
    "μm": "um",
    "micron": "um",
    "microns": "um",
    "micrometer": "um",
    "micrometre": "um",
    "nanometer": "nm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "in": "inch",
    "angstrom": "Å",
}
_SECONDS = {"ns": 1e-9, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1}
_SECONDS |= {"min": 60, "h": 3600, "d": 86400}
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}
_SCREEN = {72, 96}  # dots per inch that programs write where nothing was measured


@dataclass(frozen=True)
class Calibration:
    """What a pixel and a step from slice to slice are in the world; None where nothing says so.

    Attributes
    ----------
    width, height : float or None
        Of a pixel, in `unit`.
    unit : str
        Such as ``um``; empty if there is none.
    spacing : float or None
        From slice to slice of a Z stack, in `unit`.
    interval : float or None
        From frame to frame, in seconds.
    """

    width: float | None = None
    height: float | None = None
    unit: str = ""
    spacing: float | None = None
    interval: float | None = None


def of_tags(tags: Mapping[Any, Any], imagej: Mapping[str, Any]) -> Calibration:
    """By TIFF's resolution, and by what ImageJ writes into the description.

    Parameters
    ----------
    tags : mapping
        Values by the numbers of the tags.
    imagej : mapping
        ImageJ's own entries; empty for other files.

    Examples
    --------
    >>> of_tags({282: (10, 1), 283: (10, 1)}, {"unit": "micron", "finterval": 2.0})
    Calibration(width=0.1, height=0.1, unit='um', spacing=None, interval=2.0)
    """
    unit = _unit(str(imagej.get("unit", ""))) or _RESOLUTION_UNITS.get(tags.get(296, 1), "")
    width, height = (_size(tags.get(code)) for code in (282, 283))
    screen = unit == "inch" and width is not None and round(1 / width) in _SCREEN
    if not unit or unit in ("pixel", "pixels") or screen:
        width, height, unit = None, None, ""
    spacing = _positive(imagej.get("spacing")) if unit else None
    return Calibration(width, height, unit, spacing, _interval(imagej))


def of_ome(pixels: Mapping[str, str]) -> Calibration:
    """By the attributes of OME's ``Pixels``; without a unit they are micrometres and seconds.

    Examples
    --------
    >>> of_ome({"PhysicalSizeX": "0.5", "PhysicalSizeY": "0.5", "PhysicalSizeYUnit": "nm"})
    Calibration(width=0.5, height=0.0005, unit='um', spacing=None, interval=None)
    """
    units = [_unit(pixels.get(f"PhysicalSize{axis}Unit", "um")) for axis in "XYZ"]
    sizes = [_positive(pixels.get(f"PhysicalSize{axis}")) for axis in "XYZ"]
    for i in (1, 2):
        if sizes[i] is not None and units[i] != units[0]:
            known = units[i] in MICROMETRES and units[0] in MICROMETRES
            factor = MICROMETRES[units[i]] / MICROMETRES[units[0]] if known else None
            sizes[i] = None if factor is None else sizes[i] * factor  # type: ignore[operator]
    step = _positive(pixels.get("TimeIncrement"))
    seconds = _SECONDS.get(pixels.get("TimeIncrementUnit", "s"))
    interval = step * seconds if step and seconds else None
    unit = units[0] if any(sizes) and units[0] != "pixel" else ""
    width, height, spacing = sizes if unit else (None, None, None)
    return Calibration(width, height, unit, spacing, interval)


def for_imagej(calibration: Calibration, axes: str) -> dict[str, Any]:
    """The arguments of ``tifffile.imwrite`` that make ImageJ show it.

    Parameters
    ----------
    calibration : Calibration
        Of the image.
    axes : str
        Of the array that is written.

    Examples
    --------
    >>> for_imagej(Calibration(0.5, 0.5, "um", None, 2.0), "TYX")
    {'metadata': {'unit': 'um', 'finterval': 2.0}, 'resolution': (2.0, 2.0)}
    """
    metadata: dict[str, Any] = {}
    found: dict[str, Any] = {"metadata": metadata}
    width, height = calibration.width, calibration.height
    if width or height:
        # ImageJ's descriptions are ASCII; it reads such escapes.
        metadata["unit"] = "".join(
            one if one.isascii() else f"\\u{ord(one):04x}" for one in calibration.unit
        )
        found["resolution"] = (1 / (width or height or 1), 1 / (height or width or 1))
    if calibration.spacing and calibration.unit:
        metadata["spacing"] = calibration.spacing
    if calibration.interval and "T" in axes:
        metadata["finterval"] = calibration.interval
    return found


def _unit(text: str) -> str:
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text.strip())
    return _SPELLINGS.get(plain.lower(), plain)


def _size(resolution: Any) -> float | None:
    """Of a pixel, from a number of pixels for each unit, as a fraction."""
    try:
        pixels, units = resolution
        return _positive(units / pixels)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < float("inf") else None


def _interval(imagej: Mapping[str, Any]) -> float | None:
    interval = _positive(imagej.get("finterval"))
    if interval is None:
        rate = _positive(imagej.get("fps"))
        return 1 / rate if rate else None
    return interval * _SECONDS.get(str(imagej.get("tunit", "s")), 1)
