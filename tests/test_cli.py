"""The command line: what it writes, how it fails, how quickly it starts."""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from unet_np import UNet, data
from unet_np import cli as package
from unet_np.cli import _common, main
from unet_np.cli import segment as segment_command
from unet_np.cli._common import bytes_of
from unet_np.errors import InputError, MissingExtraError, TrainingError
from unet_np.images import read_image, write_png, write_tiff
from unet_np.tasks.segmentation import grown_instances, instances, segment

ROOT = Path(__file__).parents[1]


def start(*arguments, **options):
    """`python -m unet_np` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "unet_np", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
        **options,
    )


def random_image(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNET_NP_DEBUG", raising=False)


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """Weights of small networks, by name."""
    folder = tmp_path_factory.mktemp("weights")
    for name, options in (
        ("grey", {}),
        ("rgb", {"in_channels": 3}),
        ("three", {"num_classes": 3}),
        ("padded", {"padding": 1}),
    ):
        net = UNet(base_channels=2, depth=2, backend="numpy", seed=3, **options)
        net.save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def weights(networks):
    return networks / "grey.safetensors"


def expect(image, path):
    return segment(UNet.load(path, backend="numpy"), image)


# segment: what it writes


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", random_image((30, 47))),
        ("deep.tif", random_image((30, 47), np.uint16)),
        ("float.tif", random_image((30, 47), np.float32) / 255),
        ("tiny.png", random_image((3, 5))),
    ],
)
def test_maps_have_the_size_of_the_input(name, image, weights, capsys):
    write = write_png if name.endswith("png") else write_tiff
    write(name, image)
    assert main(["segment", name, "-o", "out.tif", "--weights", str(weights)]) == 0
    probabilities, labels = read_image("out.tif"), read_image("out-labels.tif")
    assert probabilities.shape == labels.shape == image.shape
    assert probabilities.dtype == np.float32
    assert labels.dtype == np.uint8
    expected = expect(image, weights)
    np.testing.assert_allclose(probabilities, expected.probabilities[1], atol=1e-6)
    assert np.array_equal(labels, expected.labels)
    assert capsys.readouterr().out == "wrote out.tif, out-labels.tif\n"


def test_weights_may_be_the_folder_of_a_training(weights, tmp_path):
    write_png("a.png", random_image((60, 70)))
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(weights, folder / "weights.safetensors")
    for name, path in (("file", weights), ("folder", folder)):
        assert main(["segment", "a.png", "-o", f"{name}.tif", "--weights", str(path)]) == 0
    assert Path("file.tif").read_bytes() == Path("folder.tif").read_bytes()


def test_maps_are_imagej_files(weights):
    import tifffile

    write_png("a.png", random_image((20, 30)))
    assert main(["segment", "a.png", "-o", "out.tif", "--weights", str(weights), "-q"]) == 0
    for name in ("out.tif", "out-labels.tif"):
        with tifffile.TiffFile(name) as file:
            assert file.is_imagej


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_colour_is_segmented_as_grey(mode, weights):
    colour = Image.fromarray(random_image((20, 30, 3))).convert(mode)
    colour.save("a.png")
    assert main(["segment", "a.png", "-o", "out.tif", "--weights", str(weights)]) == 0
    assert read_image("out.tif").shape == (20, 30)


def test_the_command_says_that_colour_is_read_as_grey(weights, networks, capsys):
    for name, image in (("a", (20, 30, 3)), ("b", (20, 30, 3)), ("grey", (20, 30))):
        write_png(f"in/{name}.png", random_image(image))
    assert main(["segment", "in", "-o", "out", "--weights", str(weights)]) == 0
    printed = capsys.readouterr().err
    assert printed.count("a.png: is in colour and read as grey: 0.299 red + 0.587 green +") == 1
    assert "split the channels first" in printed
    assert "1 more file: is in colour" in printed
    assert "grey.png" not in printed
    assert main(["segment", "in/a.png", "--weights", str(weights), "-q"]) == 0
    path = networks / "rgb.safetensors"
    assert main(["segment", "in/b.png", "-o", "rgb.tif", "--weights", str(path)]) == 0
    assert "read as grey" not in capsys.readouterr().err


def test_colour_for_a_network_that_reads_colour(networks):
    image = random_image((20, 30, 3))
    write_png("a.png", image)
    path = networks / "rgb.safetensors"
    assert main(["segment", "a.png", "-o", "out.tif", "--weights", str(path)]) == 0
    expected = expect(image, path).probabilities[1]
    np.testing.assert_allclose(read_image("out.tif"), expected, atol=1e-6)


def test_a_stack_in_colour_gives_a_stack(weights):
    stack = random_image((4, 20, 30, 3))
    write_tiff("stack.tif", stack, axes="ZYXS")
    assert main(["segment", "stack.tif", "-o", "out.tif", "--weights", str(weights)]) == 0
    probabilities = read_image("out.tif")
    assert probabilities.shape == (4, 20, 30)
    expected = expect(stack[3], weights).probabilities[1]
    np.testing.assert_allclose(probabilities[3], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_stack_gives_stacks(dtype, weights):
    stack = random_image((4, 20, 30), dtype)
    write_tiff("stack.tif", stack)
    assert main(["segment", "stack.tif", "-o", "out.tif", "--weights", str(weights)]) == 0
    probabilities, labels = read_image("out.tif"), read_image("out-labels.tif")
    assert probabilities.shape == labels.shape == stack.shape
    for page, maps, classes in zip(stack, probabilities, labels, strict=True):
        expected = expect(page, weights)
        np.testing.assert_allclose(maps, expected.probabilities[1], atol=1e-6)
        assert np.array_equal(classes, expected.labels)


@pytest.mark.parametrize(
    ("network", "option", "shape", "expected"),
    [
        ("grey", ["--all-classes"], (20, 30), (2, 20, 30)),
        ("three", [], (20, 30), (3, 20, 30)),
        ("three", [], (5, 20, 30), (5, 3, 20, 30)),
    ],
)
def test_one_channel_for_each_class(network, option, shape, expected, networks):
    import tifffile

    write_tiff("a.tif", random_image(shape))
    path = networks / f"{network}.safetensors"
    assert main(["segment", "a.tif", "-o", "out.tif", "--weights", str(path), *option]) == 0
    maps = tifffile.imread("out.tif")
    assert maps.shape == expected
    np.testing.assert_allclose(maps.sum(axis=-3), 1, atol=1e-5)
    assert read_image("out-labels.tif").shape == shape


@pytest.mark.parametrize(
    "options",
    [["--tile", "56"], ["--memory", "8G"], ["--threads", "1"], ["--backend", "numpy"], ["-q"]],
)
def test_how_it_is_computed_does_not_change_the_result(options, weights):
    image = random_image((90, 70))
    write_png("a.png", image)
    command = ["segment", "a.png", "-o", "out.tif", "--weights", str(weights), *options]
    try:
        assert main(command) == 0
    finally:
        from unet_np import backend

        backend.set_thread_count(None)
    expected = expect(image, weights).probabilities[1]
    np.testing.assert_allclose(read_image("out.tif"), expected, atol=1e-5)


def test_averaging_reaches_the_network(weights):
    image = random_image((40, 30))
    write_png("a.png", image)
    options = ["-o", "out.tif", "--weights", str(weights), "--averaging", "7"]
    assert main(["segment", "a.png", *options]) == 0
    expected = segment(UNet.load(weights, backend="numpy"), image, averaging=7).probabilities[1]
    np.testing.assert_allclose(read_image("out.tif"), expected, atol=1e-6)


def test_several_images_go_to_a_folder(weights):
    for name in ("a", "b"):
        write_png(f"{name}.png", random_image((20, 30)))
    assert main(["segment", "a.png", "b.png", "-o", "maps", "--weights", str(weights)]) == 0
    assert sorted(os.listdir("maps")) == [
        "a-labels.tif",
        "a-probabilities.tif",
        "b-labels.tif",
        "b-probabilities.tif",
    ]


def test_without_out_the_maps_are_named_after_the_image(weights):
    os.mkdir("deep")
    write_png("deep/a.png", random_image((20, 30)))
    assert main(["segment", "deep/a.png", "--weights", str(weights)]) == 0
    assert {"a-labels.tif", "a-probabilities.tif"} <= set(os.listdir())


def test_labels_can_be_put_elsewhere(weights):
    write_png("a.png", random_image((20, 30)))
    options = ["-o", "out.tif", "--labels", "new/seg.tif", "--weights", str(weights)]
    assert main(["segment", "a.png", *options]) == 0
    assert sorted(path.name for path in Path().rglob("*.tif")) == ["out.tif", "seg.tif"]


@pytest.mark.parametrize("shape", [(40, 50), (2, 40, 50)])
def test_instances_come_with_a_table(shape, weights):
    write_tiff("a.tif", random_image(shape))
    options = ["-o", "out.tif", "--weights", str(weights), "--instances", "--min-area", "3"]
    assert main(["segment", "a.tif", *options]) == 0
    ids = read_image("out-instances.tif")
    assert ids.shape == shape
    with open("out-cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    pages = ids.reshape(-1, 40, 50)
    assert len(rows) == sum(int(page.max()) for page in pages) > 0
    for row in rows:
        mask = pages[int(row["slice"])] == int(row["id"])
        assert mask.sum() == int(row["area"]) >= 3
        assert np.nonzero(mask)[0].mean() == pytest.approx(float(row["row"]), abs=1e-3)


def limits_of(weights, *more):
    """The instances of a.png by the command."""
    command = ["segment", "a.png", "-o", "out.tif", "--weights", str(weights), "-q", *more]
    assert main([*command, "--instances"]) == 0
    return read_image("out-instances.tif")


def test_cells_begin_and_end_where_flags_or_the_file_say(weights):
    write_png("a.png", random_image((40, 50)))
    by_class = limits_of(weights)
    map_ = read_image("out.tif")
    assert np.array_equal(by_class, instances((map_ > 0.5).astype(int))[0])
    # Some are 1 after rounding, and nothing is above that.
    high, low = (float(np.quantile(map_[map_ < 1], q)) for q in (0.9, 0.4))
    flags = ["--seeds", f"{high:.9f}", "--threshold", f"{low:.9f}"]
    expected = grown_instances(map_, float(flags[1]), float(flags[3]))[0]
    assert 1 <= (expected > 0).sum() != (by_class > 0).sum()
    assert np.array_equal(limits_of(weights, *flags), expected)
    net = UNet.load(weights, backend="numpy")
    about = {"seeds": float(flags[1]), "threshold": float(flags[3])}
    net.save("told.safetensors", metadata={"cells": json.dumps(about)})
    assert np.array_equal(limits_of("told.safetensors"), expected)
    once = limits_of("told.safetensors", "--seeds", "0.5", "--threshold", "0.5")
    assert np.array_equal(once > 0, grown_instances(map_, 0.5, 0.5)[0] > 0)
    # The fewest pixels of a seed come from the file too, unless the flag says others.
    most = max(cell.area for cell in instances(map_ > about["seeds"])[1])
    for least, found in ((most, 1), (most + 1, 0)):
        net.save("told.safetensors", metadata={"cells": json.dumps(about | {"min_area": least})})
        assert limits_of("told.safetensors").max() == found
    assert np.array_equal(limits_of("told.safetensors", "--min-area", "1"), expected)
    eroded = grown_instances(map_, float(flags[1]), float(flags[3]), erosion=1)[0]
    assert not np.array_equal(eroded, expected)
    assert np.array_equal(
        limits_of("told.safetensors", "--erosion", "1", "--min-area", "1"), eroded
    )
    net.save("told.safetensors", metadata={"cells": json.dumps(about | {"erosion": 1.0})})
    assert np.array_equal(limits_of("told.safetensors"), eroded)


def test_the_file_says_how_many_versions_make_its_cells(weights):
    write_png("a.png", random_image((40, 50)))
    net = UNet.load(weights, backend="numpy")
    image = read_image("a.png")
    once, seven = (segment(net, image, averaging=n).probabilities[1] for n in (1, 7))
    assert not np.array_equal(once, seven)
    about = {"seeds": 0.6, "threshold": 0.4, "averaging": 7}
    net.save("told.safetensors", metadata={"cells": json.dumps(about)})
    assert np.array_equal(limits_of("told.safetensors"), grown_instances(seven, 0.6, 0.4)[0])
    np.testing.assert_array_equal(read_image("out.tif"), seven)
    limits_of("told.safetensors", "--averaging", "1")
    np.testing.assert_array_equal(read_image("out.tif"), once)
    # Without cells nobody asked for a mean.
    assert main(["segment", "a.png", "-o", "out.tif", "--weights", "told.safetensors", "-q"]) == 0
    np.testing.assert_array_equal(read_image("out.tif"), once)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "0.9"], "--seeds: got 0.9 without --instances, expected both"),
        (["--min-area", "9"], "--min-area: got 9 without --instances, expected both"),
        (["--instances", "--seeds", "2"], "--seeds: got 2.0, expected a probability, 0 to 1"),
        (["--instances", "--threshold", "nan"], "got nan, expected a probability"),
        (["--erosion", "2"], "--erosion: got 2.0 without --instances, expected both"),
        (
            ["--instances", "--erosion", "-1"],
            "--erosion: got -1.0, expected a number of pixels >= 0",
        ),
        (
            ["--instances", "--seeds", "0.3", "--threshold", "0.6"],
            "--seeds: got 0.3, expected at least the threshold, 0.6",
        ),
    ],
)
def test_wrong_limits_of_cells(weights, capsys, flags, message):
    write_png("a.png", random_image((20, 20)))
    before = everything()
    assert main(["segment", "a.png", "--weights", str(weights), *flags]) == 2
    assert message in capsys.readouterr().err
    assert everything() == before


@pytest.mark.data
def test_a_slice_of_the_real_stack(weights):
    if not data.is_available("isbi2012"):
        pytest.skip("isbi2012 is not in the cache")
    folder = data.fetch("isbi2012", paths=["test/0.png"], download=False)
    options = ["-o", "out.tif", "--weights", str(weights)]
    assert main(["segment", str(folder / "test" / "0.png"), *options]) == 0
    assert read_image("out.tif").shape == (512, 512)


# segment: bad input


def empty(path):
    path.write_bytes(b"")


def truncated_png(path):
    write_png(path, random_image((64, 64)))
    path.write_bytes(path.read_bytes()[:900])


def truncated_tiff(path):
    write_tiff(path, random_image((64, 64)))
    path.write_bytes(path.read_bytes()[:3000])


def text(path):
    path.write_text("slice,x,y\n1,2,3\n")


def with_nan(path):
    import tifffile

    tifffile.imwrite(path, np.array([[1, np.nan], [0, 1]], np.float32))


def with_infinity(path):
    import tifffile

    tifffile.imwrite(path, np.array([[1, np.inf], [0, 1]], np.float32))


def complex_numbers(path):
    import tifffile

    tifffile.imwrite(path, np.ones((4, 4), np.complex64))


def five_axes(path):
    import tifffile

    stack = np.zeros((2, 3, 4, 16, 16), np.uint8)
    tifffile.imwrite(path, stack, metadata={"axes": "TZCYX"}, photometric="minisblack")


def folder(path):
    path.mkdir()


BAD_IMAGES = [
    (lambda path: None, "missing.png", "does not exist"),
    (empty, "empty.png", "is empty"),
    (truncated_png, "cut.png", "truncated or damaged"),
    (truncated_tiff, "cut.tif", "truncated or damaged"),
    (text, "table.png", "is not an image"),
    (folder, "folder", "expected images in it"),
    (with_nan, "nan.tif", "NaN or infinite"),
    (with_infinity, "inf.tif", "NaN or infinite"),
    (complex_numbers, "complex.tif", "expected real numbers"),
    (five_axes, "five.tif", "axes"),
]


@pytest.mark.parametrize(("make", "name", "message"), BAD_IMAGES)
def test_bad_images(make, name, message, weights, capsys):
    make(Path(name))
    # A good image first: nothing is written for it either.
    write_png("good.png", random_image((20, 20)))
    before = everything()
    code = main(["segment", "good.png", name, "-o", "maps", "--weights", str(weights)])
    refused(capsys, code, before, "unet-np segment: error: image: ", message, name)


def metadata_only(path):
    save_file({"a": np.zeros(3, np.float32)}, path)


def cut_weights(path):
    UNet(base_channels=2, depth=2, backend="numpy").save(path)
    path.write_bytes(path.read_bytes()[:-100])


def other_shapes(path):
    """The architecture of one network, the arrays of another."""
    from safetensors import safe_open

    UNet(base_channels=2, depth=2, backend="numpy").save(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    wider = UNet(base_channels=3, depth=2, backend="numpy")
    save_file({name: np.array(a) for name, a in wider.params.items()}, path, metadata)


def fewer_arrays(path):
    from safetensors import safe_open

    UNet(base_channels=2, depth=2, backend="numpy").save(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in list(file.keys())[1:]}
    save_file(arrays, path, metadata)


def not_finite(path):
    net = UNet(base_channels=2, depth=2, backend="numpy")
    next(iter(net.params.values()))[...] = np.nan
    net.save(path)


def a_pickle(path):
    import pickle

    path.write_bytes(pickle.dumps({"weight": [1, 2, 3]}))


BAD_WEIGHTS = [
    (lambda path: None, "missing.safetensors"),
    (empty, "empty.safetensors"),
    (text, "text.safetensors"),
    (a_pickle, "model.pth"),
    (folder, "folder"),
    (truncated_png, "image.png"),
    (metadata_only, "foreign.safetensors"),
    (cut_weights, "cut.safetensors"),
    (other_shapes, "shapes.safetensors"),
    (fewer_arrays, "fewer.safetensors"),
    (not_finite, "nan.safetensors"),
]


@pytest.mark.parametrize(("make", "name"), BAD_WEIGHTS)
@pytest.mark.parametrize("command", ["segment", "summary"])
def test_bad_weights(make, name, command, capsys):
    make(Path(name))
    write_png("good.png", random_image((20, 20)))
    before = everything()
    arguments = ["good.png", "-o", "out.tif"] if command == "segment" else []
    code = main([command, *arguments, "--weights", name])
    refused(capsys, code, before, f"unet-np {command}: error: ", name)


BAD_OPTIONS = [
    (["a.png", "-o", "a.png"], "--out: got a.png, expected a name that ends in .tif"),
    (["b.tif", "-o", "b.tif"], "--out: got b.tif, which is an input"),
    (["b.tif", "-o", "./x/../b.tif"], "which is an input"),
    (["b.tif", "-o", "link.tif"], "which is an input"),
    (["b-labels.tif", "-o", "b.tif"], "--out: got b-labels.tif, which is an input"),
    (["a.png", "-o", "out.tif", "--labels", "out.tif"], "would be written twice"),
    (["a.png", "-o", "out.tif", "--labels", "out.png"], "--labels: got out.png, expected"),
    (["a.png", "b.tif", "-o", "out.tif"], "--out: got out.tif for 2 images, expected a folder"),
    (["a.png", "b.tif", "--labels", "l.tif"], "--labels: got l.tif for 2 images"),
    (["a.png", "deep/a.png", "-o", "maps"], "would be written twice"),
    (["a.png", "-o", "a.png/out.tif"], "--out: got a.png/out.tif, expected a place"),
    (["a.png", "-o", "/proc/none/out.tif"], "expected a place that can be written to"),
    (["a.png", "-o", "out.tif", "--labels", "dir.tif"], "got the folder dir.tif"),
    (["a.png", "-o", "out.tif", "--averaging", "3"], "averaging: got 3, expected 1, 7 or 8"),
    (["a.png", "-o", "out.tif", "--tile", "50"], "tile: got 50, expected an input size"),
    (["a.png", "-o", "out.tif", "--tile", "0"], "tile: got 0, expected an integer >= 1"),
    (["a.png", "-o", "out.tif", "--memory", "lots"], "--memory: got 'lots', expected a size"),
    (["a.png", "-o", "out.tif", "--memory", "0"], "--memory: got '0', expected a size"),
    (["a.png", "-o", "out.tif", "--memory", "100"], "--memory: got 0M, expected at least"),
    (["a.png", "-o", "out.tif", "--threads", "0"], "threads: got 0, expected an integer >= 1"),
    (["a.png", "-o", "out.tif", "--threads", "two"], "argument --threads: invalid int value"),
    (["a.png", "-o", "out.tif", "--instances", "--min-area", "0"], "--min-area: got 0, expected"),
    (["a.png", "-o", "out.tif", "--backend", "jax"], "argument --backend: invalid choice"),
    (["a.png", "-o", "out.tif", "--speed", "9"], "unrecognized arguments: --speed 9"),
    ([], "the following arguments are required: IMAGE"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_OPTIONS)
def test_bad_options(arguments, message, weights, capsys):
    for name in ("a.png", "deep/a.png"):
        write_png(name, random_image((20, 20)))
    for name in ("b.tif", "b-labels.tif"):
        write_tiff(name, random_image((20, 20)))
    os.symlink("b.tif", "link.tif")
    os.mkdir("dir.tif")
    before = everything()
    code = main(["segment", *arguments, "--weights", str(weights)])
    refused(capsys, code, before, "unet-np", message)


def test_the_weights_are_not_written_over(weights, capsys):
    Path("w.tif").write_bytes(weights.read_bytes())
    write_png("a.png", random_image((20, 20)))
    before = everything()
    code = main(["segment", "a.png", "-o", "w.tif", "--weights", "w.tif"])
    refused(capsys, code, before, "--out: got w.tif, which is an input")


@pytest.mark.parametrize("image", [random_image((20, 20)), random_image((3, 20, 20))])
def test_grey_for_a_network_that_reads_colour(image, networks, capsys):
    write_tiff("a.tif", image)
    before = everything()
    path = networks / "rgb.safetensors"
    code = main(["segment", "a.tif", "-o", "out.tif", "--weights", str(path)])
    refused(capsys, code, before, "image: a.tif has 1 channel, expected 3, which the network")


def everything():
    """Every file below the current folder, with its bytes."""
    return {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}


def refused(capsys, code, before, *messages):
    """Exit code 2, one line that holds the messages, no traceback, nothing written."""
    output = capsys.readouterr()
    assert code == 2, output.err
    assert output.out == ""
    assert output.err.count("\n") == 1
    for message in messages:
        assert message in output.err
    assert "Traceback" not in output.err
    assert everything() == before


# Failing while running


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (MemoryError("3 GiB"), 1, "out of memory (3 GiB); a smaller --memory"),
        (RuntimeError("two\nlines"), 1, "RuntimeError: two lines (--debug shows where)"),
        (TrainingError("loss is nan"), 1, "error: loss is nan"),
        (MissingExtraError("tqdm: not installed"), 1, "error: tqdm: not installed"),
        (InputError("depth: got 0"), 2, "error: depth: got 0"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(error, code, message, weights, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(segment_command, "stored", fail)
    write_png("a.png", random_image((20, 20)))
    before = everything()
    assert main(["segment", "a.png", "-o", "out.tif", "--weights", str(weights)]) == code
    captured = capsys.readouterr().err
    assert message in captured
    assert "Traceback" not in captured
    assert everything() == before


def test_a_full_disk_leaves_nothing(weights):
    write_png("a.png", np.zeros((60, 60), np.uint8))
    before = everything()
    result = start(
        *("segment", "a.png", "-o", "out.tif", "--weights", weights),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    assert result.returncode == 1, result.stderr
    assert result.stderr.count("\n") == 1
    assert "error: out.tif: " in result.stderr
    assert everything() == before


def test_all_files_of_an_image_or_none(weights, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    # The last of four files fails.
    monkeypatch.setattr(segment_command, "write_table", fail)
    write_png("a.png", random_image((20, 20)))
    before = everything()
    options = ["-o", "out.tif", "--weights", str(weights), "--instances"]
    assert main(["segment", "a.png", *options]) == 1
    assert everything() == before


def test_debug_shows_the_traceback(monkeypatch):
    with pytest.raises(InputError):
        main(["summary", "--depth", "0", "--debug"])
    with pytest.raises(InputError):
        main(["--debug", "summary", "--depth", "0"])
    monkeypatch.setenv("UNET_NP_DEBUG", "1")
    with pytest.raises(InputError):
        main(["summary", "--depth", "0"])


def test_ctrl_c_ends_with_130_and_leaves_nothing(weights):
    write_tiff("stack.tif", random_image((2000, 96, 96)))
    command = [sys.executable, "-m", "unet_np", "segment", "stack.tif", "-o", "out.tif"]
    process = subprocess.Popen(
        [*command, "--weights", str(weights), "--averaging", "8"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stderr is not None
    # The bar shows itself after two seconds.
    begin, seen = time.perf_counter(), b""
    while b"tile/s" not in seen:
        part = os.read(process.stderr.fileno(), 4096)
        assert part, seen
        seen += part
    assert time.perf_counter() - begin > 2
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode().rstrip().endswith("unet-np segment: interrupted")
    assert b"Traceback" not in errors
    assert output == b""
    assert os.listdir() == ["stack.tif"]


@pytest.mark.parametrize("module", ["argparse", "numpy", "unet_np.cli"])
@pytest.mark.parametrize("program", [["-m", "unet_np"], ["unet-np"]])
def test_ctrl_c_while_it_is_imported(module, program, tmp_path):
    """One line and 130, as later; the interrupt comes as the module is looked for."""
    interrupt = "class Finder:\n    def find_spec(name, *_):\n"
    interrupt += f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
    interrupt = f"import os, signal, sys\n{interrupt}sys.meta_path.insert(0, Finder)\n"
    (tmp_path / "sitecustomize.py").write_text(interrupt)
    script = tmp_path / "unet-np"
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["unet-np"]
    script.write_text("import sys\nfrom {} import {}\nsys.exit(main())".format(*entry.split(":")))
    program = [str(script)] if program == ["unet-np"] else program
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *program, "summary", "--depth", "2"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 130
    assert done.stderr.strip() in ("unet-np: interrupted", "unet-np summary: interrupted")


def test_the_bar_ends_though_its_lock_was_left_taken(monkeypatch):
    monkeypatch.setattr(_common, "_DELAY", 0.05)
    begin = time.perf_counter()
    with _common.progress_bar(3, "thinking", "tile") as bar:
        lock = bar.get_lock()
        lock.acquire()  # as an interrupted refresh does
        time.sleep(0.3)  # the thread that refreshes waits for it now
    lock.release()
    assert time.perf_counter() - begin < 10


def test_the_bar_shows_itself_while_one_step_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(_common, "_DELAY", 0.05)
    with _common.progress_bar(3, "thinking", "tile"):
        time.sleep(0.5)
    assert "thinking:   0%" in capsys.readouterr().err
    with _common.progress_bar(3, "thinking", "tile", quiet=True):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_quick_work_shows_no_bar(weights, capsys):
    write_png("a.png", random_image((20, 20)))
    assert main(["segment", "a.png", "-o", "out.tif", "--weights", str(weights)]) == 0
    assert capsys.readouterr().err == ""


# The other commands


def test_summary_is_the_papers_table(capsys):
    assert main(["summary", "--size", "572"]) == 0
    text = capsys.readouterr().out
    assert "23 convolutional layers, 31,030,658 parameters" in text
    assert "1 x 2 x 388 x 388" in text
    assert "1 x 1024 x 28 x 28" in text
    assert len([line for line in text.splitlines() if line.startswith("expand")]) > 4


def test_summary_names_the_valid_sizes(capsys):
    assert main(["summary"]) == 0
    assert "188, 204, 220, ... (every 16 pixels)" in capsys.readouterr().out


def test_summary_of_weights(networks, capsys):
    path = str(networks / "three.safetensors")
    assert main(["summary", "--weights", path, "--size", "44", "48"]) == 0
    assert "1 x 3 x 4 x 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "512"], "got 512, which is odd (121) at contract4.pool; nearest valid sizes"),
        (["--size", "1", "2", "3"], "--size: got 3 numbers, expected N, or H and W"),
        (["--depth", "0"], "depth: got 0, expected an integer >= 1"),
        (["--padding", "2"], "padding: got 2, expected 0 (the paper) or 1"),
        (["--depth", "2", "--weights", "w"], "--weights: got --depth as well"),
        (["--size", "big"], "argument --size: invalid int value: 'big'"),
    ],
)
def test_summary_refuses(arguments, message, capsys):
    refused(capsys, main(["summary", *arguments]), everything(), message)


def test_data_list_names_every_set(capsys):
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(data.NAMES)


def test_data_where_follows_the_variable(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("UNET_NP_DATA", str(tmp_path))
    assert main(["data", "where"]) == 0
    assert main(["data", "where", "isbi2012"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}\n{tmp_path / 'isbi2012'}\n"


def test_data_show_and_preview_of_a_synthetic_set(capsys):
    command = ["data", "show", "synthetic-cells", "--preview", "cells.png"]
    assert main(command) == 0
    assert "wrote cells.png" in capsys.readouterr().out
    assert read_image("cells.png").shape == (512, 1024, 3)


def test_data_verify_says_what_is_damaged(capsys, tmp_path):
    broken = tmp_path / "isbi2012" / "train" / "image" / "0.png"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not that")
    assert main(["data", "verify", "isbi2012", "--cache", str(tmp_path)]) == 1
    assert "1 damaged (first: train/image/0.png)" in capsys.readouterr().out
    assert main(["data", "verify", "dsb2018", "--cache", str(tmp_path)]) == 1
    assert main(["data", "verify", "--cache", str(tmp_path / "none")]) == 0


@pytest.mark.data
def test_data_verify_and_fetch_of_the_real_stack(capsys):
    if not data.is_available("isbi2012"):
        pytest.skip("isbi2012 is not in the cache")
    assert main(["data", "verify", "isbi2012"]) == 0
    assert "90 whole" in capsys.readouterr().out
    assert main(["data", "fetch", "isbi2012"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: ACTION"),
        (["steal"], "invalid choice: 'steal'"),
        (["show", "nope"], "nope"),
        (["fetch", "nope"], "nope"),
        (["fetch"], "the following arguments are required: NAME"),
        (["where", "nope"], "nope"),
        (["show", "isbi2012", "--preview", "a.jpg"], "--preview: got a.jpg, expected a name"),
        (["show", "synthetic-em", "--split", "x"], "split: got 'x'"),
        (["fetch", "dsb2018", "--cache", "none"], "dsb2018"),
    ],
)
def test_data_refuses(arguments, message, capsys):
    assert main(["data", *arguments]) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert message in captured
    assert everything() == {}


# The program


def test_it_starts_quickly_and_prints_help():
    begin = time.perf_counter()
    result = start("--help")
    assert result.returncode == 0
    assert "segment" in result.stdout
    assert time.perf_counter() - begin < 5
    # What takes long to import waits until it is needed.
    code = (
        "import sys, unet_np.cli as c; c.main(['--help']); sys.exit(bool({SLOW} & {*sys.modules}))"
    )
    code = code.replace(
        "SLOW", "'scipy', 'scipy.ndimage', 'tifffile', 'PIL', 'tqdm', 'pooch', 'torch'"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert (
        subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize("command", package._available())
def test_every_command_has_help_with_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: unet-np {command}" in text
    assert f"unet-np {command}" in text.split("example", 1)[1]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unet-np ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command given; expected one of summary, data,"),
        (["paint"], "invalid choice: 'paint'"),
        (["--loud"], "unrecognized arguments: --loud"),
    ],
)
def test_no_command(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert captured.startswith("unet-np: error: ")
    assert message in captured


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m unet_np summary --size 572 | head -1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert result.stdout.startswith("block")
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1G", 2**30), ("1.5g", 3 * 2**29), ("500 MB", 500 * 2**20), ("2KiB", 2048), ("77", 77)],
)
def test_bytes_of(text, expected):
    assert bytes_of(text) == expected


@pytest.mark.parametrize("text", ["", "G", "-1G", "1X", "1,5G", "nan"])
def test_bytes_of_refuses(text):
    with pytest.raises(InputError, match=r"--memory: got .*, expected a size such as 500M"):
        bytes_of(text)
