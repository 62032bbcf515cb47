"""Outlines of cells, and the files in which Fiji and QuPath read them."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
import scipy.ndimage
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unet_np import UNet
from unet_np.cli import main
from unet_np.files.on_disk import new_array
from unet_np.images import read_image, write_png, write_tiff
from unet_np.images.shapes import ROI_SIZE, GeoJson, RoiZip
from unet_np.tasks.banded import Bands, measured
from unet_np.tasks.outlines import Polygon, traced

Rings = Iterable[list[tuple[int, int]]]


def within(shape: tuple[int, int], rings: Rings) -> np.ndarray:
    """The pixels whose middles lie inside, by the edges to the left of each."""
    crossed = np.zeros((shape[0], shape[1] + 1), int)
    for ring in rings:
        for (x, y), (right, below) in zip(ring, ring[1:] + ring[:1], strict=True):
            assert (x == right) != (y == below), "along the borders of pixels, turn by turn"
            if x == right:
                crossed[min(y, below) : max(y, below), x] += 1
    return (np.cumsum(crossed, axis=1) % 2 == 1)[:, :-1]


def signed_area(ring: list[tuple[int, int]]) -> float:
    ends = zip(ring, ring[1:] + ring[:1], strict=True)
    return sum(x * below - right * y for (x, y), (right, below) in ends) / 2


def without_gaps(labels: np.ndarray) -> np.ndarray:
    values = np.unique(labels)
    return np.searchsorted(np.append(0, values[values > 0]), labels)


label_images = arrays(
    np.int64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)
).map(without_gaps)


def outlines_of(ids: np.ndarray, rows: int | None = None) -> dict[int, list[Polygon]]:
    bands = Bands(ids.shape, rows or len(ids))
    return dict(traced(ids, measured(ids, bands).boxes, bands))


@given(label_images)
def test_filled_again_outlines_are_the_same_label_image(ids: np.ndarray) -> None:
    found = outlines_of(ids)
    assert list(found) == list(range(1, int(ids.max()) + 1))
    for number, polygons in found.items():
        parts, count = scipy.ndimage.label(ids == number)
        assert len(polygons) == count
        filled = [within(ids.shape, polygon) for polygon in polygons]
        # Each polygon is one part, with the holes that are its own.
        assert np.sum(filled, axis=0).max() == 1
        for mask in filled:
            part = np.unique(parts[mask])
            assert len(part) == 1
            assert np.array_equal(mask, parts == part[0])


@given(label_images)
def test_rings_are_simple_and_go_round_as_geojson_has_it(ids: np.ndarray) -> None:
    for polygons in outlines_of(ids).values():
        for outer, *holes in polygons:
            assert signed_area(outer) > 0
            assert all(signed_area(hole) < 0 for hole in holes)
            assert all(len(set(ring)) == len(ring) >= 4 for ring in (outer, *holes))


@given(label_images, st.integers(1, 9))
def test_by_bands_they_are_those_of_the_whole(ids: np.ndarray, rows: int) -> None:
    assert outlines_of(ids, rows) == outlines_of(ids)


def test_from_disk_they_are_those_of_the_array(tmp_path: Path) -> None:
    ids = without_gaps(np.random.default_rng(0).integers(0, 9, (30, 20)))
    with new_array(tmp_path / "ids", ids.shape, np.int32) as stored:
        stored[:] = ids
        bands = Bands(ids.shape, 4)
        boxes = measured(stored, bands).boxes
        assert dict(traced(stored, boxes, bands)) == outlines_of(ids)


def test_a_hole_belongs_to_the_part_around_it() -> None:
    """A part within the hole of another one, with a hole of its own."""
    ids = np.ones((9, 9), int)
    ids[1:8, 1:8] = 0
    ids[2:7, 2:7] = 1
    ids[4, 4] = 0
    outer, inner = outlines_of(ids)[1]
    assert [signed_area(ring) for ring in outer] == [81, -49]
    assert [signed_area(ring) for ring in inner] == [25, -1]


def test_too_many_corners_are_refused_with_what_would_do() -> None:
    def check(count: int, what: str = "cells") -> None:
        raise MemoryError(f"{count} {what}")

    ids = np.array([[1, 0], [0, 1]])
    with pytest.raises(MemoryError, match="8 corners of the outlines of cells"):
        list(traced(ids, np.array([[0, 0, 2, 2]]), Bands((2, 2), 2, check)))


def roi_rings(roi: Any) -> Rings:
    return [[(int(x), int(y)) for x, y in path] for path in roi.coordinates(multi=True)]


def read_rois(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The label image that a zip of ROIs draws, by roifile's own reader."""
    stack = np.zeros(shape, int)
    for roi in roifile.roiread(path) if zipfile.ZipFile(path).namelist() else ():
        number = int(roi.name.rpartition("-")[2])
        assert roi.name == (f"slice-{roi.position - 1}-cell-{number}" if roi.position else roi.name)
        rings = [ring[:-1] if ring[0] == ring[-1] else ring for ring in roi_rings(roi)]
        mask = within(shape[-2:], rings)
        stack.reshape(-1, *shape[-2:])[max(0, roi.position - 1)][mask] = number
    return stack


def read_geojson(path: Path, shape: tuple[int, ...], axis: str = "z") -> np.ndarray:
    """The label image that features draw."""
    stack = np.zeros(shape, int)
    for feature in json.loads(path.read_text())["features"]:
        geometry = feature["geometry"]
        polygons = geometry["coordinates"]
        if geometry["type"] == "Polygon":
            polygons = [polygons]
        assert all(ring[0] == ring[-1] for polygon in polygons for ring in polygon)
        rings = [[tuple(p) for p in ring[:-1]] for polygon in polygons for ring in polygon]
        page = geometry.get("plane", {axis: 0})[axis]
        pages = stack.reshape(-1, *shape[-2:])
        pages[page][within(shape[-2:], rings)] = int(feature["properties"]["name"])
    return stack


@given(ids=label_images)
def test_both_files_draw_the_same_label_image(
    tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("shapes")
    with RoiZip(folder / "a.zip") as rois, GeoJson(folder / "a.geojson") as features:
        for number, polygons in outlines_of(ids).items():
            rois.add(0, number, polygons)
            features.add(0, number, polygons)
    assert np.array_equal(read_rois(folder / "a.zip", ids.shape), ids)
    assert np.array_equal(read_geojson(folder / "a.geojson", ids.shape), ids)


def test_a_roi_far_to_the_right(tmp_path: Path) -> None:
    """Past 32767 the 16 bits of a place have no sign."""
    square = [[(x, y) for x, y in ((ROI_SIZE - 5, 2), (ROI_SIZE, 2), (ROI_SIZE, 9), (60530, 9))]]
    with RoiZip(tmp_path / "a.zip") as rois:
        rois.add(0, 1, [square])
        rois.add(0, 2, [square, [[(0, 0), (1, 0), (1, 1), (0, 1)]]])
    for roi in roifile.roiread(tmp_path / "a.zip"):
        assert roi_rings(roi)[0][:4] == square[0]
        # ImageJ reads what is below -5000 as above 32767.
        assert roi.right % 2**16 == ROI_SIZE


def test_features_are_what_qupath_asks_for(tmp_path: Path) -> None:
    with GeoJson(tmp_path / "a.geojson", "T") as features:
        features.add(3, 1, [[[(0, 0), (2, 0), (2, 2), (0, 2)]]])
        features.add(3, 2, [[[(4, 0), (5, 0), (5, 1), (4, 1)]], [[(5, 1), (6, 1), (6, 2), (5, 2)]]])
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    first, second = content["features"]
    assert first == {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]],
            "plane": {"c": -1, "z": 0, "t": 3},
        },
        "properties": {
            "objectType": "detection",
            "name": "1",
            "classification": {"name": "cell", "color": [230, 159, 0]},
        },
    }
    assert second["geometry"]["type"] == "MultiPolygon"
    assert len(second["geometry"]["coordinates"]) == 2


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with RoiZip(tmp_path / name) as rois:
            rois.add(0, 1, [[[(0, 0), (2, 0), (2, 2), (0, 2)]]])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.fixture
def _blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    UNet(base_channels=2, depth=1, seed=1, backend="numpy").save("w.safetensors")
    noise = np.random.default_rng(0).random((3, 60, 70))
    images = scipy.ndimage.gaussian_filter(noise, (0, 2, 2))
    images = np.round(255 * (images - images.min()) / np.ptp(images)).astype(np.uint8)
    write_tiff("z.tif", images)
    write_tiff("t.tif", images, axes="TYX")
    write_tiff("a.tif", images[0])
    write_png("flat.png", np.zeros((30, 30), np.uint8))


@pytest.mark.usefixtures("_blobs")
@pytest.mark.parametrize("name", ["a", "z", "t"])
def test_segment_writes_outlines_of_its_instances(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_np.cli._memory._BANDS", 1)
    monkeypatch.setattr("unet_np.cli._memory._LEAST_ROWS", 7)
    command = f"segment {name}.tif --weights w.safetensors --instances --rois --geojson -q"
    assert main(command.split()) == 0
    ids = read_image(f"{name}-instances.tif").astype(int)
    assert ids.max() > 1
    assert np.array_equal(read_rois(Path(f"{name}-rois.zip"), ids.shape), ids)
    axis = "t" if name == "t" else "z"
    assert np.array_equal(read_geojson(Path(f"{name}-cells.geojson"), ids.shape, axis), ids)


@pytest.mark.usefixtures("_blobs")
def test_no_cell_gives_files_without_any() -> None:
    command = "segment flat.png --weights w.safetensors --instances --min-area 9999 -q"
    assert main([*command.split(), "--rois", "--geojson"]) == 0
    assert json.loads(Path("flat-cells.geojson").read_text())["features"] == []
    assert zipfile.ZipFile("flat-rois.zip").namelist() == []


@pytest.mark.usefixtures("_blobs")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.tif --rois", "--rois: got it without --instances, expected both"),
        ("a.tif --geojson", "--geojson: got it without --instances, expected both"),
        ("a.tif --instances --rois -o v.zarr", "--rois: got it for a volume, expected none"),
        ("wide.tif --instances --rois", "of 1 x 60536 pixels, expected at most 60535 on a side"),
    ],
)
def test_what_has_no_outlines_is_refused_at_once(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite("wide.tif", np.zeros((1, 60536), np.uint8))
    before = sorted(Path().iterdir())
    assert main(["segment", *line.split(), "--weights", "w.safetensors"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(Path().iterdir()) == before


@pytest.mark.usefixtures("_blobs")
def test_without_roifile_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "roifile", None)
    command = "segment a.tif --weights w.safetensors --instances --rois"
    assert main(command.split()) == 1
    assert "roifile: not installed, expected for this command; pip install 'unet-np[io]'" in (
        capsys.readouterr().err
    )
    assert not list(Path().glob("a-*"))


def shown_by_imagej(path: Path, label: int) -> tuple[int, ...]:
    """The colour in which ImageJ shows a label, by its sources: 256 colours over a range."""
    with tifffile.TiffFile(path) as file:
        page, about = file.pages[0], file.imagej_metadata
        table = np.reshape(page.tags[320].value, (3, 256)).T // 257
    assert page.photometric == 1
    if page.dtype == np.uint8:
        return tuple(table[label].tolist())
    low, high = about["min"], about["max"]
    scale = 256 / (high - low + 1) if page.dtype == np.uint16 else 255 / (high - low)
    return tuple(table[min(255, math.floor((label - low) * scale + 0.5))].tolist())


@pytest.mark.parametrize(
    ("dtype", "largest"), [("u1", 3), ("u2", 4), ("u2", 255), ("u2", 900), ("f4", 70000)]
)
def test_colours_of_labels_leave_the_values(tmp_path: Path, dtype: str, largest: int) -> None:
    labels = np.linspace(0, largest, 400).round().reshape(20, 20).astype(dtype)
    write_tiff(tmp_path / "a.tif", labels, largest=largest)
    for read in (read_image, tifffile.imread):
        assert np.array_equal(read(tmp_path / "a.tif"), labels)
    values = read_image(tmp_path / "a.tif", palette="index")
    assert np.array_equal(values, labels)
    colours = [shown_by_imagej(tmp_path / "a.tif", label) for label in range(min(largest, 600) + 1)]
    assert colours[0] == (0, 0, 0)
    assert (0, 0, 0) not in colours[1:], "no cell looks like background"
    if largest <= 255:
        neighbours = pairwise(colours)
        assert all(one != other for one, other in neighbours)
        assert len(set(colours[:22])) == len(colours[:22])


@pytest.mark.usefixtures("_blobs")
def test_results_are_in_colour_and_score_as_before() -> None:
    assert main(["segment", "t.tif", "--weights", "w.safetensors", "--instances", "-q"]) == 0
    for name in ("t-labels.tif", "t-instances.tif"):
        labels = read_image(name)
        assert shown_by_imagej(Path(name), 1) == (230, 159, 0)
        # As files were written before: the same values without colours.
        write_tiff("before.tif", labels, axes="TYX")
        assert np.array_equal(read_image("before.tif"), labels)
        metrics = "seg_measure" if "instances" in name else "iou"
        line = f"evaluate before.tif {name} --metrics {metrics} --json scores.json -q"
        assert main(line.split()) == 0
        assert json.loads(Path("scores.json").read_text())["scores"][metrics]["value"] == 1
