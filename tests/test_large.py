"""Images larger than memory: what is done in parts is what the whole gives."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tools import fuzz_images
from unet_np import UNet
from unet_np.cli import main
from unet_np.errors import InputError
from unet_np.files.on_disk import DiskArray, new_array
from unet_np.images import bands, grey, normalise, open_bands, open_image, write_tiff
from unet_np.images.write import tiff_on_disk
from unet_np.tasks import banded, detection
from unet_np.tasks.classification import Classify, classified, classify, classify_points
from unet_np.tasks.segmentation import grown_instances, instances, segment
from unet_np.tasks.task import prepare
from unet_np.tiling import predict_tiled

SMALL: dict[str, Any] = {"base_channels": 2, "depth": 1, "backend": "numpy", "seed": 3}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arrays")


@contextmanager
def on_disk(room: Path, *arrays: np.ndarray) -> Iterator[list[DiskArray]]:
    with ExitStack() as stack:
        made = []
        for number, values in enumerate(arrays):
            place = new_array(room / str(number), values.shape, values.dtype)
            made.append(stack.enter_context(place))
            place[:] = values
        yield made


# Arrays on disk


@given(st.data())
def test_windows_are_those_of_the_array(room: Path, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    dtype = data.draw(st.sampled_from(["u1", ">f4", "<i8"]))
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    with on_disk(room, values) as (array,):
        for _ in range(4):
            key = tuple(
                data.draw(st.one_of(st.integers(0, n - 1), st.slices(n).filter(_plain)))
                for n in shape
            )
            found = array[key]
            assert found.dtype == values.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found, values[key])
            values[key] = array[key] = data.draw(st.integers(0, 9))
        np.testing.assert_array_equal(array[:], values)
        if len(shape) > 1:
            np.testing.assert_array_equal(array.part(shape[0] - 1)[:], values[-1])


def _plain(part: slice) -> bool:
    return part.step in (None, 1) and (part.start or 0) <= (99 if part.stop is None else part.stop)


@pytest.mark.parametrize(
    ("shape", "axes", "dtype"),
    [((9, 7), "YX", "f4"), ((3, 9, 7), "TYX", "u1"), ((3, 2, 9, 7), "ZCYX", "u2")],
)
def test_a_tiff_in_parts_is_the_same_file(
    tmp_path: Path, shape: Any, axes: str, dtype: str
) -> None:
    values = np.random.default_rng(0).integers(0, 99, shape).astype(dtype)
    write_tiff(tmp_path / "a.tif", values, axes=axes)
    with tiff_on_disk(tmp_path / "b.tif", shape, dtype, axes=axes) as array:
        for row in range(9):
            array[(*[slice(None)] * (len(shape) - 2), row)] = values[..., row, :]
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.parametrize("shape", [(3, 20000, 20000), (1, 40000, 40000)])
def test_a_tiff_of_more_than_four_gigabytes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Its file is sparse: nothing is there but the header and a row."""
    axes = "TYX" if shape[0] > 1 else "YX"
    row = np.arange(shape[2], dtype=np.float32)
    with tiff_on_disk(tmp_path / "a.tif", shape[-len(axes) :], "f4", axes=axes) as array:
        array.reshape(shape)[shape[0] - 1, 0] = row
    with open_bands(tmp_path / "a.tif", most=lambda needed: None) as image:
        assert (image.axes, image.count, image.shape) == (axes, shape[0], shape[1:])
        _, band = next(image.bands(shape[0] - 1))
        np.testing.assert_array_equal(band[0], row)


# Reading


@pytest.mark.parametrize("size", [1, 700, 2**20])
def test_bands_are_the_rows_of_the_image(tmp_path: Path, monkeypatch: Any, size: int) -> None:
    monkeypatch.setattr(bands, "_BAND", size)
    in_parts = set()
    for name, content in fuzz_images.seeds(np.random.default_rng(0)).items():
        path = tmp_path / name
        path.write_bytes(content)
        for axes in (None, "ZYX", "CYX", "YXC"):
            whole, expected = _opened(path, axes)
            if whole is None:
                with pytest.raises(InputError, match=re.escape(expected)):
                    open_bands(path, axes=axes).__enter__()
                continue
            with open_bands(path, axes=axes) as image:
                image.check()
                found = [[band for _, band in image.bands(i)] for i in range(image.count)]
                facts = image.axes, image.calibration, image.remarks
                assert facts == (whole.axes, whole.calibration, whole.remarks)
            for parts, page in zip(found, whole.pages, strict=True):
                assert image.shape == page.shape
                assert image.dtype == page.dtype
                np.testing.assert_array_equal(np.concatenate(parts), page)
                if len(parts) > 1 and name.endswith(".tif"):
                    in_parts.add(name)
    assert {"plain.tif", "tiled.tif", "strips.tif"} <= in_parts or size > 700


def _opened(path: Path, axes: str | None) -> tuple[Any, str]:
    try:
        return open_image(path, axes=axes), ""
    except InputError as error:
        return None, str(error)


def test_what_is_damaged_or_not_finite_is_found(tmp_path: Path) -> None:
    values = np.zeros((3, 40, 30), np.float32)
    values[1, 20, 3] = values[2, 0, 0] = np.nan
    tifffile.imwrite(
        tmp_path / "a.tif", values, rowsperstrip=4, photometric="minisblack", compression="zlib"
    )
    with pytest.raises(InputError) as caught:
        open_image(tmp_path / "a.tif", argument="image")
    expected = re.escape(str(caught.value))
    with (
        open_bands(tmp_path / "a.tif", argument="image") as image,
        pytest.raises(InputError, match=expected),
    ):
        image.check()
    tifffile.imwrite(tmp_path / "b.tif", values[0], photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+b") as file:
        file.pages[0].tags["ImageLength"].overwrite(0)
    with pytest.raises(InputError) as caught:
        open_image(tmp_path / "b.tif")
    with pytest.raises(InputError, match=re.escape(str(caught.value))):
        open_bands(tmp_path / "b.tif").__enter__()
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[1].dataoffsets[2]
    data[place : place + 9] = b"\xff" * 9
    (tmp_path / "a.tif").write_bytes(data)
    with (
        open_bands(tmp_path / "a.tif", argument="image") as image,
        pytest.raises(InputError, match="is truncated or damaged"),
    ):
        image.check()


# The one normalisation


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_the_sums_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Bit for bit, though no more than a leaf of the image is read."""
    rng = np.random.default_rng(1)
    for leaf in (128, 1000):
        monkeypatch.setattr(grey, "_LEAF", leaf)
        for _ in range(20):
            image = rng.normal(100, 30, tuple(rng.integers(1, 90, 2))).astype(dtype)
            values = image.astype(np.float64)
            values /= np.abs(values).max()
            whole = (values - values.mean()) / (values.std() or 1)
            np.testing.assert_array_equal(normalise(image), whole.astype(np.float32))


# Prediction


@pytest.mark.parametrize("norm", ["none", "instance"])
@pytest.mark.parametrize(("channels", "shape"), [(1, (61, 40)), (1, (40, 61, 3)), (3, (40, 61, 3))])
def test_prediction_of_what_is_on_disk(
    room: Path, norm: str, channels: int, shape: tuple[int, ...]
) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    net = UNet(in_channels=channels, norm=norm, **SMALL)
    result = np.zeros((2, *shape[:2]), np.float32)
    for averaging in (1, 8):
        options: dict[str, Any] = {"tile": 28, "batch": 5, "averaging": averaging}
        whole = predict_tiled(net, prepare(image, channels), **options)
        with on_disk(room, image, result) as (stored, out):
            predict_tiled(net, prepare(stored, channels), out=out, **options)
            np.testing.assert_array_equal(out[:], whole)


# Cells


@st.composite
def maps(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """A probability map of blots and lines, and how many rows are in memory."""
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = scipy.ndimage.gaussian_filter(rng.random(shape), draw(st.sampled_from([0, 0.6, 1, 2])))
    values = (values - values.min()) / (np.ptp(values) or 1)
    if draw(st.booleans()):
        # Cells that enclose others, and are taller than a band.
        values[:: draw(st.integers(2, 9))] = 0.95
        values[:, :: draw(st.integers(2, 9))] = 0.92
    return values.astype(np.float32), draw(st.integers(1, 12))


@settings(max_examples=60)
@given(maps(), st.integers(1, 4), st.tuples(st.floats(0, 1), st.floats(0, 1)), st.data())
def test_cells_by_bands_are_those_of_the_whole(
    room: Path, drawn: Any, min_area: int, limits: tuple[float, float], data: st.DataObject
) -> None:
    values, rows = drawn
    threshold, seeds = sorted(limits)
    erosion = data.draw(st.sampled_from([0, 0, 1, 1.5, 3]))
    labels = (values > 0.5).astype(np.uint8)
    numbers, ways = np.zeros(values.shape, np.int32), np.zeros(values.shape, np.int64)
    cut = banded.Bands((values.shape[0], values.shape[1]), rows)
    with on_disk(room, values, labels, numbers, ways) as (some, classes, ids, scratch):
        found = banded.instances_on_disk(classes, ids, cut, min_area=min_area)
        whole, cells = instances(labels, min_area=min_area)
        np.testing.assert_array_equal(ids[:], whole)
        assert list(found) == cells
        rule = {"seeds": seeds, "threshold": threshold, "min_area": min_area, "erosion": erosion}
        found = banded.grown_on_disk(some, ids, scratch, cut, **rule)
        whole, cells = grown_instances(values, **rule)
        np.testing.assert_array_equal(ids[:], whole)
        assert list(found) == cells


# Classes and objects


@pytest.mark.parametrize("shape", [(70, 90), (70, 90, 3)])
def test_classes_by_windows_are_those_of_the_whole(room: Path, shape: tuple[int, ...]) -> None:
    net = UNet(**SMALL, **Classify.options)
    image = np.random.default_rng(2).integers(0, 255, shape).astype(np.uint8)
    with new_array(room / "image", shape, np.uint8) as stored:
        stored[:] = image
        parts = list(classified(net, stored, 20, 7, batch=32))
        points = np.array([[0, 0], [69, 89], [31, 7]])
        found = classify_points(net, stored, points, 21)
    whole = classify(net, image, 20, 7)
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate([part.points for part in parts]), whole.points)
    np.testing.assert_array_equal(
        np.concatenate([part.probabilities for part in parts]), whole.probabilities
    )
    np.testing.assert_array_equal(found, classify_points(net, image, points, 21))


@pytest.mark.parametrize("radius", [None, 0.0, 5.0])
def test_objects_by_bands_are_those_of_the_whole(
    room: Path, monkeypatch: pytest.MonkeyPatch, radius: float | None
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (61, 40)).astype(np.uint8)
    net = UNet(**SMALL, **detection.Detect.options)
    net.params["output.bias"][1:] = 1.5
    whole = detection.detect(net, image, 0.4, radius, tile=28)
    assert len(whole.scores) > 3
    maps = np.zeros((3, *image.shape), np.float32)
    for rows in (1, 7, 256):
        monkeypatch.setattr(detection, "_ROWS", rows)
        with on_disk(room, image, maps) as (stored, out):
            found = detection.detect_on_disk(net, stored, out, 0.4, radius, tile=28)
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_array_equal(one, other)


# The command


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--instances"],
        ["--instances", "--seeds", "0.5", "--threshold", "0.4"],
        ["--all-classes"],
    ],
)
@pytest.mark.parametrize("kind", ["plain", "tiled", "stack", "colour", "png"])
def test_every_file_is_that_of_the_whole_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, more: list[str]
) -> None:
    """Byte for byte what arrays in memory give."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bands, "_BAND", 1000)
    monkeypatch.setattr("unet_np.cli._memory._BANDS", 1)
    monkeypatch.setattr("unet_np.cli._memory._LEAST_ROWS", 7)
    rng = np.random.default_rng(0)
    image = scipy.ndimage.gaussian_filter(rng.random((2, 70, 90)), (0, 2, 2))
    image = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    stack, options = kind == "stack", {"tile": (16, 16), "compression": "zlib"}
    ending = "png" if kind == "png" else "tif"
    if kind == "png":
        from PIL import Image

        Image.fromarray(image[0]).save("a.png")
    elif kind == "colour":
        image = np.stack([image[0], image[1], image[0]], -1)[None]
        tifffile.imwrite("a.tif", image[0], photometric="rgb")
    else:
        tifffile.imwrite(
            "a.tif", image if stack else image[0], **(options if kind == "tiled" else {})
        )
    net = UNet(**SMALL)
    net.save("w.safetensors")
    command = ["segment", f"a.{ending}", "-q", "-o", "o.tif", "--weights", "w.safetensors"]
    assert main([*command, "--tile", "28", "--threads", "1", *more]) == 0
    pages = list(image) if stack else [image[0]]
    results = [segment(net, page, tile=28) for page in pages]
    chosen = slice(None) if "--all-classes" in more else slice(1, 2)
    probabilities = np.stack([one.probabilities[chosen] for one in results])
    axes = "Z" * stack + "C" * ("--all-classes" in more) + "YX"
    expected = {"o.tif": probabilities.reshape([n for n in probabilities.shape if n != 1])}
    expected["o-labels.tif"] = np.stack([one.labels for one in results]).squeeze()
    rows = []
    if "--instances" in more:
        rule = {"seeds": 0.5, "threshold": 0.4}
        found = [
            grown_instances(one.probabilities[1], **rule)
            if "--seeds" in more
            else instances(one.labels)
            for one in results
        ]
        expected["o-instances.tif"] = np.stack([ids for ids, _ in found]).astype("u2").squeeze()
        rows = [(number, cell) for number, (_, cells) in enumerate(found) for cell in cells]
        assert len(rows) > 3
        lines = Path("o-cells.csv").read_text().splitlines()[1:]
        assert [line.split(",")[:3] for line in lines] == [
            [str(number), str(cell.id), str(cell.area)] for number, cell in rows
        ]
    for name, values in expected.items():
        letters = axes if name == "o.tif" else axes.replace("C", "")
        largest = {"o.tif": None, "o-labels.tif": 1}.get(name, int(values.max()))
        write_tiff("expected.tif", values, axes=letters, largest=largest)
        assert Path(name).read_bytes() == Path("expected.tif").read_bytes(), name
    assert not list(tmp_path.glob(".unet-np-*"))


def test_too_many_parts_are_refused_with_what_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many there are is known only once they are predicted; the prediction is not lost."""
    monkeypatch.chdir(tmp_path)
    # What earlier tests left in this process has no say.
    monkeypatch.setattr("unet_np.cli.segment.resident_bytes", lambda: 2**27)
    UNet(**SMALL).save("w.safetensors")
    write_tiff("a.tif", np.random.default_rng(0).random((2, 64, 64)))
    command = ["segment", "a.tif", "-q", "--weights", "w.safetensors", "--memory", "1G"]
    assert main([*command, "-o", "b.tif", "--threads", "1"]) == 0
    monkeypatch.setattr(banded, "PART_BYTES", 2**26)
    assert main([*command, "-o", "o.tif", "--instances", "--threads", "1"]) == 2
    line = capsys.readouterr().err
    assert re.search(
        r"--memory: got 1024M, expected at least \d+M for \d+ cells of a.tif; "
        r"wrote o.tif, o-labels.tif\n$",
        line,
    )
    names = {"a.tif", "w.safetensors", "b.tif", "b-labels.tif", "o.tif", "o-labels.tif"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in ("{}.tif", "{}-labels.tif"):
        assert Path(name.format("o")).read_bytes() == Path(name.format("b")).read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux counts it")
@pytest.mark.parametrize(
    "command", ["segment --instances", "detect --no-overlay", "classify --stride=400"]
)
def test_an_image_larger_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """With its maps it would take more than twice as much."""
    monkeypatch.chdir(tmp_path)
    name, more = command.split()
    options = {"detect": detection.Detect.options, "classify": Classify.options}.get(name, {})
    net = UNet(**SMALL | {"base_channels": 1}, **options)
    net.params["output.bias"][0] -= 99 * (name == "detect")  # no object
    net.save("w.safetensors")
    rows, columns = np.indices((4096, 4096), np.int16) % 64 - 32
    tifffile.imwrite("a.tif", (np.hypot(rows, columns) < 20).astype(np.uint16), rowsperstrip=64)
    code = (
        "import sys; from unet_np.cli import main; code = main(sys.argv[1:])\n"
        "peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM')][0]\n"
        "print(code, int(peak.split()[1]) // 1024)"
    )
    words = [sys.executable, "-c", code, name, "a.tif", "-q", "--weights", "w.safetensors", more]
    words += ["--threads", "1", "--memory", "256M"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    code, peak = map(int, done.stdout.split())
    assert code == 0, done.stderr
    assert peak < 256
