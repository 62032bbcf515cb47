"""Volumes: bit for bit the slices segmented at once, whatever the chunks, whoever computes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import ome_zarr_models
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np import UNet, backend
from unet_np.cli import main
from unet_np.errors import InputError, MissingExtraError
from unet_np.images import Calibration, open_image, write_tiff
from unet_np.tasks.segmentation import (
    Segmentation,
    cell_map,
    grown_instances,
    instances,
    segment,
)
from unet_np.volumes import (
    Model,
    Settings,
    connected,
    number_cells,
    open_volume,
    probabilities,
    segment_volume,
)
from unet_np.volumes.blocks import _Part
from unet_np.volumes.cluster import compute, versions
from unet_np.volumes.objects import joined, numbered, parts_of
from unet_np.volumes.ome import FORMATS
from unet_np.volumes.target import Target

NET: dict[str, Any] = {"base_channels": 2, "depth": 1, "backend": "numpy", "seed": 1}
TILE = 40
"""Input of a tile: the network of one level has a margin of 16."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = backend.thread_count()
    backend.set_thread_count(1)
    yield
    backend.set_thread_count(before)


def write_ome(
    path: Path,
    data: np.ndarray,
    axes: str = "zyx",
    version: str = "0.5",
    chunks: tuple[int, ...] | None = None,
) -> Path:
    """An image of two levels, described as ome-zarr 0.18 does it."""
    scale = [{"y": 0.5, "x": 0.25}.get(name, 2.0) for name in axes]
    kinds = {"t": "time", "c": "channel"}
    multiscale: dict[str, Any] = {
        "datasets": [
            {
                "path": f"s{level}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [*scale[:-2], *(2**level * n for n in scale[-2:])]},
                    {"type": "translation", "translation": [0.0] * len(axes)},
                ],
            }
            for level in range(2)
        ],
        "name": "/",
        "axes": [{"name": name, "type": kinds.get(name, "space")} for name in axes],
    }
    described: dict[str, Any] = {"ome": {"version": version, "multiscales": [multiscale]}}
    if version == "0.4":
        described = {"multiscales": [multiscale | {"version": "0.4"}]}
    zarr_format: Any = FORMATS[version]
    group = zarr.create_group(str(path), zarr_format=zarr_format, attributes=described)
    chosen = chunks or (1,) * (data.ndim - 2) + (20, 30)
    for level, array in enumerate((data, data[..., ::2, ::2])):
        group.create_array(f"s{level}", data=array, chunks=chosen)
    return path


def cells(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Grey values of which the network makes both classes."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "w.safetensors"
    UNet(**NET).save(path)
    return path


def at_once(data: Iterable[np.ndarray], path: Path, **options: Any) -> list[Segmentation]:
    net = UNet.load(path, backend="numpy")
    return [segment(net, one, tile=TILE, **options) for one in data]


def labels_in(path: Path, level: str = "s0") -> np.ndarray:
    return np.asarray(zarr.open_array(str(path / level), mode="r"))


@settings(max_examples=8)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 2), st.integers(1, 80), st.integers(1, 80)),
    st.integers(8, 80),
    st.sampled_from(sorted(FORMATS)),
)
def test_any_chunking_gives_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory,
    weights: Path,
    size: tuple[int, int],
    stored: tuple[int, ...],
    chunk: int,
    version: str,
) -> None:
    folder, data = tmp_path_factory.mktemp("any"), cells((2, *size))
    volume = open_volume(write_ome(folder / "v.zarr", data, "zyx", version, stored))
    model = Model.load(weights, "numpy", 1)
    expected = at_once(data, weights)
    result = segment_volume(volume, folder / "o.zarr", model, Settings(tile=TILE, chunk=chunk))
    np.testing.assert_array_equal(labels_in(folder / "o.zarr"), [one.labels for one in expected])
    assert result.labels[0].open().chunks == (1, min(chunk, size[0]), min(chunk, size[1]))
    found = number_cells(result, volume, folder / "n.zarr", min_area=2)
    whole = [instances(one.labels, min_area=2) for one in expected]
    np.testing.assert_array_equal(labels_in(folder / "n.zarr"), [ids for ids, _ in whole])
    assert found == [list_of for _, list_of in whole]


@pytest.mark.parametrize(
    ("options", "averaging"),
    [({}, 8), ({"padding": 1}, 1), ({"padding": 1}, 7), ({"norm": "instance"}, 7)],
)
def test_probabilities_are_those_of_each_slice_at_once(
    options: dict[str, Any], averaging: int, tmp_path: Path
) -> None:
    data = cells((2, 60, 75))
    UNet(**NET, **options).save(tmp_path / "w.safetensors")
    volume = open_volume(write_ome(tmp_path / "v.zarr", data))
    model = Model.load(tmp_path / "w.safetensors", "numpy", 1)
    levels = [volume.levels(number, 1) for number in range(2)]
    array = probabilities(volume, model, levels, (TILE, TILE), averaging)
    expected = at_once(data, model.path, averaging=averaging)
    found = array.rechunk((1, 2, 33, 19)).compute(scheduler="synchronous")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [one.probabilities for one in expected])


def test_a_slice_larger_than_its_reference_windows_has_one_set_of_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_np.tiling.statistics.REFERENCE_PIXELS", 40**2)
    data = cells((1, 70, 90))
    UNet(**NET, norm="instance").save(tmp_path / "w.safetensors")
    volume = open_volume(write_ome(tmp_path / "v.zarr", data))
    model = Model.load(tmp_path / "w.safetensors", "numpy", 1)
    segment_volume(volume, tmp_path / "o.zarr", model, Settings(tile=TILE))
    expected = at_once(data, model.path)
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr"), [expected[0].labels])


@settings(max_examples=50)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.floats(0.2, 0.8),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_objects_across_chunks_are_one(
    size: tuple[int, int], chunk: tuple[int, int], share: float, min_area: int, seed: int
) -> None:
    labels = (np.random.default_rng(seed).random(size) < share).astype(np.uint8)
    blocks = {
        (row // chunk[0], column // chunk[1]): (row, column)
        for row in range(0, size[0], chunk[0])
        for column in range(0, size[1], chunk[1])
    }
    cut = {
        place: labels[row : row + chunk[0], column : column + chunk[1]]
        for place, (row, column) in blocks.items()
    }
    parts = {place: parts_of(cut[place], blocks[place], size[1]) for place in blocks}
    numbers, found = joined(parts, min_area)
    ids = np.zeros(size, np.int32)
    for place, (row, column) in blocks.items():
        block = numbers[place][numbered(cut[place])]
        ids[row : row + chunk[0], column : column + chunk[1]] = block
    expected, measured = instances(labels, min_area=min_area)
    np.testing.assert_array_equal(ids, expected)
    assert found == measured


@pytest.mark.parametrize("version", sorted(FORMATS))
def test_axes_and_scales_are_kept(version: str, tmp_path: Path, weights: Path) -> None:
    data = cells((2, 1, 3, 40, 50))
    write_ome(tmp_path / "v.zarr", data, "tczyx", version)
    command = f"segment {tmp_path}/v.zarr -o {tmp_path}/o.zarr --weights {weights} --tile {TILE} -q"
    assert main(command.split()) == 0
    group = zarr.open_group(str(tmp_path / "o.zarr"), mode="r")
    read = ome_zarr_models.open_ome_zarr(group)
    assert type(read).__name__ == "ImageLabel"
    assert read.ome_zarr_version == version
    (found,) = getattr(read.attributes, "ome", read.attributes).multiscales
    assert [one.name for one in found.axes] == list("tzyx")
    scales = [level.coordinateTransformations[0].scale for level in found.datasets]
    assert scales == [[2.0, 2.0, 0.5, 0.25], [2.0, 2.0, 1.0, 0.5]]
    expected = at_once(data.reshape(6, 40, 50), weights)
    whole = np.stack([one.labels for one in expected]).reshape(2, 3, 40, 50)
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr"), whole)
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr", "s1"), whole[..., 1::2, 1::2])


def test_colour_becomes_grey(tmp_path: Path, weights: Path) -> None:
    data = cells((3, 1, 45, 50))
    volume = open_volume(write_ome(tmp_path / "v.zarr", data, "czyx"))
    model = Model.load(weights, "numpy", 1)
    segment_volume(volume, tmp_path / "o.zarr", model, Settings(tile=TILE))
    expected = at_once(np.moveaxis(data, 0, -1), weights)
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr")[0], expected[0].labels)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ({"photometric": "minisblack", "compression": "deflate", "tile": (32, 16)}, (3, 60, 70)),
        ({"photometric": "minisblack", "compression": "lzw", "rowsperstrip": 7}, (3, 60, 70)),
        ({"imagej": True, "metadata": {"axes": "TYX"}}, (2, 45, 50)),
        ({"photometric": "rgb"}, (2, 45, 50, 3)),
        ({"photometric": "miniswhite"}, (45, 50)),
    ],
)
def test_a_stack_of_tiff_is_read_in_parts(
    kind: dict[str, Any],
    shape: tuple[int, ...],
    tmp_path: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unet_np.images.bands._BAND", 2000)
    tifffile.imwrite(tmp_path / "v.tif", cells(shape), **kind)
    command = f"segment {tmp_path}/v.tif -o {tmp_path}/o.zarr --weights {weights} -q --tile {TILE}"
    assert main([*command.split(), "--instances"]) == 0
    image = open_image(tmp_path / "v.tif")
    expected = [one.labels for one in at_once(image.pages, weights)]
    stacked = image.stacked
    found = labels_in(tmp_path / "o.zarr", "0")
    np.testing.assert_array_equal(found, expected if stacked else expected[0])
    ids = [instances(one)[0] for one in expected]
    found = labels_in(tmp_path / "o-instances.zarr", "0")
    np.testing.assert_array_equal(found, ids if stacked else ids[0])


def test_the_calibration_of_a_tiff_is_kept(tmp_path: Path, weights: Path) -> None:
    known = Calibration(0.5, 0.25, "um", 3.0, None)
    write_tiff(tmp_path / "v.tif", cells((2, 30, 30)), axes="ZYX", calibration=known)
    command = f"segment {tmp_path}/v.tif -o {tmp_path}/o.zarr --weights {weights} -q"
    assert main(command.split()) == 0
    read = ome_zarr_models.open_ome_zarr(zarr.open_group(str(tmp_path / "o.zarr"), mode="r"))
    (found,) = getattr(read.attributes, "ome", read.attributes).multiscales
    assert [(one.name, one.unit) for one in found.axes] == [(n, "micrometer") for n in "zyx"]
    assert found.datasets[0].coordinateTransformations[0].scale == [3.0, 0.25, 0.5]


def run(folder: Path, weights: Path, *more: str) -> int:
    """The command on ``v.zarr`` of a folder."""
    command = f"segment {folder}/v.zarr -o {folder}/o.zarr --weights {weights} --tile {TILE}"
    return main([*command.split(), *more])


def test_an_interrupted_run_goes_on_with_what_is_missing(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cells((2, 60, 70))
    write_ome(tmp_path / "v.zarr", data)
    assert run(tmp_path, weights, "-q") == 0
    before = labels_in(tmp_path / "o.zarr")
    missing = [(0, 1, 2), (1, 0, 0)]
    for place in missing:
        (tmp_path / "o.zarr/s0/c").joinpath(*map(str, place)).unlink()
    shutil.rmtree(tmp_path / "o.zarr/s1/c/1")
    computed = []
    predict = _Part.__call__

    def counted(part: _Part, block_id: tuple[int, ...]) -> np.ndarray:
        computed.append((block_id[0], *block_id[2:]))
        return predict(part, block_id)

    monkeypatch.setattr(_Part, "__call__", counted)
    assert run(tmp_path, weights, "-q") == 0
    assert sorted(computed) == missing
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr"), before)
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr", "s1"), before[:, 1::2, 1::2])


def test_no_space_left_keeps_what_is_done(
    tmp_path: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = cells((1, 60, 70))
    write_ome(tmp_path / "v.zarr", data)
    write, done = Target.write, []

    def full(target: Target, values: np.ndarray, index: tuple[int, ...]) -> None:
        if len(done) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(index)
        write(target, values, index)

    monkeypatch.setattr(Target, "write", full)
    assert run(tmp_path, weights, "-q") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "o.zarr: No space left on device; what is done stays done" in error
    monkeypatch.setattr(Target, "write", write)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "o.zarr/s0/c").rglob("*")}
    kept = [file for file in times if file.is_file()]
    assert len(kept) == 3
    assert run(tmp_path, weights, "-q") == 0
    assert all(file.stat().st_mtime_ns == times[file] for file in kept)
    expected = at_once(data, weights)
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr"), [expected[0].labels])


def test_cells_that_grow_are_those_of_whole_slices(tmp_path: Path, weights: Path) -> None:
    data = cells((2, 60, 70))
    write_ome(tmp_path / "v.zarr", data)
    more = ["--instances", "--seeds", "0.52", "--threshold", "0.48", "--min-area", "2", "-q"]
    assert run(tmp_path, weights, *more) == 0
    maps = [one.probabilities[1] for one in at_once(data, weights)]
    expected = [grown_instances(one, 0.52, 0.48, min_area=2) for one in maps]
    np.testing.assert_array_equal(labels_in(tmp_path / "o-probability.zarr"), maps)
    np.testing.assert_array_equal(
        labels_in(tmp_path / "o-instances.zarr"), [ids for ids, _ in expected]
    )
    rows = (tmp_path / "o-cells.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(len(found) for _, found in expected) > 3


def test_cells_with_rims_grow_by_the_map_of_both_classes(tmp_path: Path) -> None:
    net = UNet(base_channels=2, depth=1, num_classes=3, seed=3, backend="numpy")
    net.save(tmp_path / "rims.safetensors", metadata={"cells": '{"rim": 2}'})
    data = cells((2, 60, 70))
    write_ome(tmp_path / "v.zarr", data)
    more = ["--instances", "--seeds", "0.52", "--threshold", "0.48", "-q"]
    assert run(tmp_path, tmp_path / "rims.safetensors", *more) == 0
    maps = [cell_map(one.probabilities, 2) for one in at_once(data, tmp_path / "rims.safetensors")]
    np.testing.assert_allclose(labels_in(tmp_path / "o-probability.zarr"), maps, atol=1e-6)
    expected = [grown_instances(one, 0.52, 0.48)[0] for one in maps]
    np.testing.assert_array_equal(labels_in(tmp_path / "o-instances.zarr"), expected)
    assert np.max(expected) > 1


def test_the_process_stays_within_a_small_budget(tmp_path: Path, weights: Path) -> None:
    write_ome(tmp_path / "v.zarr", cells((1, 60, 70)))
    assert run(tmp_path, weights, "-q", "--memory", "400M") == 0


NO_GROUP = {"zarr_format": 2, "shape": [2, 2], "chunks": [2, 2], "dtype": "|u1"}


def _broken(folder: Path, what: str) -> None:
    """A volume that is none."""
    path = folder / "v.zarr"
    if what == "missing":
        return
    write_ome(path, cells((1, 40, 40)), version="0.4")
    attributes = json.loads((path / ".zattrs").read_text())
    if what == "nested":
        shutil.move(path, folder / "inner")
        zarr.open_group(str(path), mode="w", zarr_format=2)
        shutil.move(folder / "inner", path / "series")
        return
    if what == "plain":
        attributes = {}
    elif what == "old":
        attributes["multiscales"][0]["version"] = "0.2"
    elif what == "no axes":
        del attributes["multiscales"][0]["axes"]
    elif what == "no level":
        attributes["multiscales"][0]["datasets"][0]["path"] = "9"
    elif what == "more axes":
        attributes["multiscales"][0]["axes"].insert(0, {"name": "t", "type": "time"})
    elif what == "damaged":
        (path / ".zattrs").write_text("{")
        return
    (path / ".zattrs").write_text(json.dumps(attributes))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "does not exist, expected an OME-Zarr"),
        ("plain", "has no multiscales, expected an OME-Zarr 0.4 or 0.5"),
        ("nested", "v.zarr has no multiscales, expected an OME-Zarr 0.4 or 0.5; nearest: "),
        ("old", "is OME-Zarr 0.2, expected 0.4 or 0.5"),
        ("no axes", "has multiscales without 'axes', expected"),
        ("no level", "has multiscales without '9', expected"),
        ("more axes", "has 4 axes in its multiscales and 3 in its array"),
        ("damaged", "is no OME-Zarr that can be read"),
    ],
)
def test_what_is_no_volume_is_told_in_one_line(
    what: str,
    message: str,
    tmp_path: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _broken(tmp_path, what)
    assert run(tmp_path, weights) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o.zarr").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--chunk 7", "--chunk: got 7, thinner than the halo, the 8 pixels"),
        ("--chunk 0", "--chunk: got 0, expected an integer >= 1"),
        ("--workers 0", "--workers: got 0, expected an integer >= 1"),
        ("--workers 1 --scheduler tcp://127.0.0.1:1", "got it with --scheduler, expected one of"),
        ("--tile 41", "tile: got 41, expected an input size of the network"),
        ("--memory 200M", "--memory: got 200M, expected at least"),
        ("--all-classes", "--all-classes: got it for a volume"),
        ("--labels a.tif", "--labels: got it for a volume"),
        ("--axes ZYX", "--axes: got ZYX for"),
        ("-o {0}/o.tif", "o.tif for a volume, expected a name that ends in .zarr"),
        ("-o {0}/v.zarr", "v.zarr, which is an input, expected another name"),
        ("-o {0}/v.zarr/labels.zarr", "labels.zarr, which is an input, expected another"),
        ("-o {0}/file.zarr", "--out: got the file"),
        ("-o {0}/folder.zarr --overwrite", "folder.zarr, which is no Zarr, expected another name"),
        ("-o {0}/other.zarr", "other.zarr, which unet-np did not write"),
    ],
)
def test_bad_options(
    more: str, message: str, tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ome(tmp_path / "v.zarr", cells((1, 40, 40)))
    (tmp_path / "file.zarr").write_text("mine")
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr/mine.txt").write_text("mine")
    zarr.open_group(str(tmp_path / "other.zarr"), mode="w")
    assert run(tmp_path, weights, *more.format(tmp_path).split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (tmp_path / "folder.zarr/mine.txt").read_text() == "mine"


def test_options_of_volumes_are_refused_for_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(tmp_path / "a.tif"), "--workers", "2"]) == 2
    assert "--workers: got 2 for images, expected an OME-Zarr" in capsys.readouterr().err
    assert main(["segment", "a.tif", "v.zarr"]) == 2
    assert "image: got 2 with a volume, expected one" in capsys.readouterr().err


def test_a_result_of_other_settings_is_not_gone_on_with(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ome(tmp_path / "v.zarr", cells((1, 40, 40)))
    assert run(tmp_path, weights, "-q") == 0
    assert run(tmp_path, weights, "-q", "--averaging", "7") == 2
    assert "which was made with another averaging, expected" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "v.zarr")
    write_ome(tmp_path / "v.zarr", cells((1, 40, 40), seed=1))
    assert run(tmp_path, weights, "-q") == 2
    assert "which was made with another image, expected" in capsys.readouterr().err
    assert run(tmp_path, weights, "-q", "--overwrite") == 0
    expected = at_once(cells((1, 40, 40), seed=1), weights)
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr"), [expected[0].labels])


@pytest.mark.parametrize(
    ("data", "axes", "message"),
    [
        (np.full((1, 30, 30), np.nan, np.float32), "zyx", "got NaN or infinity"),
        (np.zeros((2, 1, 30, 30), np.uint8), "czyx", "has 2 channels, expected 1, or 3 of"),
        (np.zeros((1, 30, 30), np.complex64), "zyx", "has complex64 (1, 30, 30), expected real"),
    ],
)
def test_images_that_no_network_reads(
    data: np.ndarray, axes: str, message: str, tmp_path: Path, weights: Path
) -> None:
    write_ome(tmp_path / "v.zarr", data, axes)
    model = Model.load(weights, "numpy", 1)
    with pytest.raises(InputError, match=message.replace("(", r"\(").replace(")", r"\)")):
        segment_volume(open_volume(tmp_path / "v.zarr"), tmp_path / "o.zarr", model)


@pytest.mark.parametrize(("library", "more"), [("zarr", []), ("distributed", ["--workers", "1"])])
def test_without_the_extra_a_line_names_it(
    library: str,
    more: list[str],
    tmp_path: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_ome(tmp_path / "v.zarr", cells((1, 30, 30)))
    monkeypatch.setitem(sys.modules, library, None)
    assert run(tmp_path, weights, *more) == 1
    error = capsys.readouterr().err
    assert f"{library}: not installed" in error
    assert "pip install 'unet-np[scale]'" in error
    assert error.count("\n") == 1
    assert issubclass(MissingExtraError, ImportError)


def test_images_need_none_of_it() -> None:
    code = (
        "import sys\n"
        "from unet_np.cli import main\n"
        "main(['segment', 'missing.tif'])\n"
        "print([name for name in ('dask', 'distributed', 'zarr') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# A real cluster on the loopback interface, one for all that follows.


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with connected(workers=2, threads=1) as client:
        yield client


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(client: Any, tmp_path: Path, weights: Path) -> None:
    data = cells((3, 60, 70))
    write_ome(tmp_path / "v.zarr", data)
    victims = list(client.run(os.getpid).values())
    killed: list[int] = []

    def kill(text: str, done: int, total: int) -> None:
        if text == "chunks" and done == 2 and not killed:
            killed.append(victims[0])
            os.kill(victims[0], signal.SIGKILL)

    volume, model = open_volume(tmp_path / "v.zarr"), Model.load(weights, "numpy", 1)
    result = segment_volume(
        volume, tmp_path / "o.zarr", model, Settings(tile=TILE), client=client, progress=kill
    )
    assert killed
    assert result.computed == 3 * 3 * 3
    expected = at_once(data, weights)
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr"), [one.labels for one in expected])
    found = number_cells(result, volume, tmp_path / "n.zarr", client=client)
    assert found == [instances(one.labels)[1] for one in expected]


@pytest.mark.slow
def test_a_scheduler_that_is_there(
    client: Any, tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = cells((2, 40, 40))
    write_ome(tmp_path / "v.zarr", data)
    assert run(tmp_path, weights, "--scheduler", client.scheduler.address) == 0
    printed = capsys.readouterr().out
    assert f"dashboard {client.dashboard_link}" in printed
    expected = at_once(data, weights)
    np.testing.assert_array_equal(labels_in(tmp_path / "o.zarr"), [one.labels for one in expected])


@pytest.mark.slow
def test_a_chunk_at_which_workers_die_is_told_in_one_line(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(
        ChildProcessError, match=r"worker tcp://\S+ .*died at the same chunk; a sma"
    ):
        compute([dask.delayed(os._exit)(1)], client)


@pytest.mark.slow
def test_a_worker_of_another_version_is_named(client: Any, tmp_path: Path, weights: Path) -> None:
    package = Path(sys.modules["unet_np"].__file__ or "").parent
    shutil.copytree(package, tmp_path / "unet_np", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "unet_np/paper.py").open("a") as file:
        file.write("# changed\n")
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            client.scheduler.address,
            "--no-nanny",
        ],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    try:
        client.wait_for_workers(3, timeout=60)
        with (
            pytest.raises(InputError, match=f"has unet-np .*expected {versions()['unet-np']} as"),
            connected(scheduler=client.scheduler.address),
        ):
            pass
    finally:
        worker.terminate()
        worker.wait(30)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://here"])
def test_no_scheduler_there(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_np.volumes.cluster.WAIT", 0.5)
    with (
        pytest.raises(InputError, match="expected the address of a Dask scheduler that answers"),
        connected(scheduler=address),
    ):
        pass
