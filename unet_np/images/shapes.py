"""Outlines of cells as files of other programs: ROIs for Fiji and ImageJ, GeoJSON for QuPath.

Both count pixels from the upper left corner of the image, so that a corner of a pixel is a whole
number.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import require
from unet_np.files.ours import GEOJSON, PRODUCER
from unet_np.images.colours import ORANGE

ROI_SIZE = 60535
"""Where the 16 bits of a ROI's coordinates end, by ImageJ's reading."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # so that equal content gives equal bytes
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0

Polygons = Sequence[Sequence[Sequence[tuple[int, int]]]]
"""Of `unet_np.tasks.outlines`: the parts of a cell, each an outer ring and its holes."""


class RoiZip:
    """A zip of ROIs, one for each cell, which the ROI manager opens.

    A cell without holes is a polygon; another one is a composite of paths.

    Parameters
    ----------
    path : Path
        The file; use `unet_np.files.atomic_write` for one that is whole or not there.
    axis : str
        "Z" or "T", the axis of the slices; empty for a single image.

    Raises
    ------
    MissingExtraError
        If roifile is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "rois.zip")
    >>> with RoiZip(path) as rois:
    ...     rois.add(0, 7, [[[(0, 0), (2, 0), (2, 2), (0, 2)]]])
    >>> zipfile.ZipFile(path).namelist()
    ['cell-7.roi']
    """

    def __init__(self, path: Path, axis: str = "") -> None:
        self.roifile, self.axis = require("roifile", "io"), axis
        self.file = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self.file.comment = PRODUCER.encode()

    def __enter__(self) -> RoiZip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left; a second time does nothing."""
        self.file.close()

    def add(self, page: int, number: int, polygons: Polygons) -> None:
        """A cell of a slice."""
        rings = [np.array(ring) for polygon in polygons for ring in polygon]
        corners = np.concatenate(rings)
        (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
        roi = self.roifile.ImagejRoi(left=left, top=top, right=right, bottom=bottom)
        if len(rings) == 1:
            roi.roitype = self.roifile.ROI_TYPE.TRACED
            roi.n_coordinates = len(corners)
            roi.integer_coordinates = corners - (left, top)
        else:
            roi.roitype = self.roifile.ROI_TYPE.RECT
            roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
            roi.shape_roi_size = len(roi.multi_coordinates)
        roi.name = f"slice-{page}-cell-{number}" if self.axis else f"cell-{number}"
        if self.axis:
            roi.position = page + 1
        about = zipfile.ZipInfo(f"{roi.name}.roi", _EPOCH)
        about.compress_type = zipfile.ZIP_DEFLATED
        self.file.writestr(about, roi.tobytes())


def _path(ring: np.ndarray) -> np.ndarray:
    """As ImageJ stores shapes: a move, lines, and the end."""
    steps = np.full((len(ring), 3), _LINE, np.float32)
    steps[0, 0] = _MOVE
    steps[:, 1:] = ring
    return np.append(steps.ravel(), np.float32(_CLOSE))


class GeoJson:
    """A feature for each cell, as QuPath imports and exports its objects.

    Parameters
    ----------
    path, axis
        As for `RoiZip`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "cells.geojson")
    >>> with GeoJson(path) as cells:
    ...     cells.add(0, 7, [[[(0, 0), (2, 0), (2, 2), (0, 2)]]])
    >>> feature = json.loads(path.read_text())["features"][0]
    >>> feature["geometry"]
    {'type': 'Polygon', 'coordinates': [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]]}
    >>> feature["properties"]["objectType"], feature["properties"]["name"]
    ('detection', '7')
    """

    def __init__(self, path: Path, axis: str = "") -> None:
        self.axis = axis
        self.file = open(path, "wb")  # noqa: SIM115
        self.file.write(GEOJSON)
        self.between = b"\n"

    def __enter__(self) -> GeoJson:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left; a second time does nothing."""
        if not self.file.closed:
            self.file.write(b"\n]}\n")
            self.file.close()

    def add(self, page: int, number: int, polygons: Polygons) -> None:
        """A cell of a slice."""
        # A ring ends where it began.
        closed = [[[*ring, ring[0]] for ring in polygon] for polygon in polygons]
        several = len(closed) > 1
        geometry: dict[str, Any] = {
            "type": "MultiPolygon" if several else "Polygon",
            "coordinates": closed if several else closed[0],
        }
        if self.axis:
            geometry["plane"] = {"c": -1, "z": 0, "t": 0, self.axis.lower(): page}
        kind = {"name": "cell", "color": list(ORANGE)}
        properties = {"objectType": "detection", "name": str(number), "classification": kind}
        feature = {"type": "Feature", "geometry": geometry, "properties": properties}
        self.file.write(self.between + json.dumps(feature, separators=(",", ":")).encode())
        self.between = b",\n"
