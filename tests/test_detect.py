"""From an image to objects: maps by overlap-tile, the command line, the picture."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from unet_np import InputError, data
from unet_np.cli import main
from unet_np.files.tables import csv_text
from unet_np.images import read_image, write_png, write_tiff
from unet_np.network.unet import UNet
from unet_np.tasks.detection import Detect, detect, detection_maps, overlay, table_rows, within
from unet_np.tasks.heat_map import Detections
from unet_np.tasks.segmentation import segment

COLUMNS = ["slice", "row", "column", "score", "top", "left", "bottom", "right"]


@pytest.fixture(scope="module")
def net():
    """Not trained, but of all heats between 0 and 1 and boxes of some pixels."""
    made = UNet(base_channels=2, depth=2, **Detect.options, dropout=0, seed=3, backend="numpy")
    made.params["output.bias"][...] = [0.5, np.log(9), np.log(14)]
    return made


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights(net, tmp_path):
    path = tmp_path / "weights.safetensors"
    net.save(path)
    return path


def image_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize("padding", [0, 1])
def test_tiles_make_no_difference(padding):
    net = UNet(base_channels=2, depth=1, **Detect.options, padding=padding, dropout=0, seed=1)
    image = image_of((90, 110))
    whole = detection_maps(net, image)
    tiled = detection_maps(net, image, tile=net.architecture.nearest_input_sizes(48)[0])
    assert whole.shape == (3, 90, 110)
    assert whole.dtype == np.float32
    assert np.abs(whole - tiled).max() < 1e-4
    assert 0 <= whole[0].min() <= whole[0].max() <= 1
    found, again = (detect(net, image, tile=tile) for tile in (None, 48))
    assert len(found.scores) == len(again.scores)


def test_one_image_gives_a_table_and_a_picture(net, weights, capsys):
    image = image_of((70, 90))
    write_png("cells.png", image)
    assert main(["detect", "cells.png", "--weights", str(weights)]) == 0
    with open("cells-objects.csv", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    expected = within(detect(net, image), image.shape)
    assert list(rows[0]) == COLUMNS
    assert len(rows) == len(expected.scores) > 1
    for row, centre, score, box in zip(rows, *expected, strict=True):
        assert [float(row["row"]), float(row["column"])] == centre.tolist()
        assert float(row["score"]) == pytest.approx(score, abs=1e-4)
        assert [float(row[key]) for key in COLUMNS[4:]] == pytest.approx(box, abs=0.051)
    picture = read_image("cells-objects-overlay.png")
    assert picture.shape == (70, 90, 3)
    assert np.array_equal(picture, overlay(image, expected))
    assert f"{len(rows)} objects" in capsys.readouterr().out


def test_a_stack_gives_one_table_and_a_picture_for_each_slice(net, weights):
    stack = image_of((3, 60, 64))
    write_tiff("stack.tif", stack)
    assert main(["detect", "stack.tif", "--weights", str(weights), "-o", "out.csv", "-q"]) == 0
    with open("out.csv", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    counts = [len(detect(net, page).scores) for page in stack]
    assert [sum(row["slice"] == str(i) for row in rows) for i in range(3)] == counts
    for i in range(3):
        assert read_image(f"out-overlay-{i}.png").shape == (60, 64, 3)


def test_several_images_threshold_radius_and_no_picture(net, weights, tmp_path):
    for i in range(2):
        write_png(f"{i}.png", image_of((60, 60), i))
    options = ["--threshold", "0.7", "--radius", "20", "--no-overlay", "-q", "-o", "found"]
    assert main(["detect", "0.png", "1.png", "--weights", str(weights), *options]) == 0
    assert sorted(p.name for p in (tmp_path / "found").iterdir()) == [
        "0-objects.csv",
        "1-objects.csv",
    ]
    for i in range(2):
        text = (tmp_path / f"found/{i}-objects.csv").read_text()
        expected = within(detect(net, image_of((60, 60), i), 0.7, 20), (60, 60))
        assert text == csv_text(table_rows([expected]))
        assert ((expected.boxes >= 0) & (expected.boxes <= 60)).all()


def test_a_folder_is_its_images(weights, tmp_path):
    for name in "ab":
        write_png(f"plate/{name}.png", image_of((60, 60)))
    (tmp_path / "plate/notes.txt").write_text("not an image")
    command = ["detect", "plate", "--weights", str(weights), "--no-overlay", "-q", "-o", "found"]
    assert main(command) == 0
    names = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert names == ["a-objects.csv", "b-objects.csv"]


def test_colour_and_a_folder_of_a_run(net, weights):
    write_png("colour.png", image_of((60, 60, 3)))
    assert main(["detect", "colour.png", "--weights", str(weights.parent), "-q"]) == 0


def test_the_picture_cuts_boxes_at_its_border():
    boxes = np.array([[-5.0, -5, 8, 8], [10, 10, 50, 50], [-9, -9, -1, -1]])
    found = Detections(np.array([[1.0, 1.0], [29, 29], [0, 0]]), np.ones(3), boxes)
    picture = overlay(np.zeros((30, 30)), found, 2)
    assert picture[6, 2].tolist() == [230, 159, 0]
    assert picture[20, 11].tolist() == [230, 159, 0]
    assert picture[3, 20].tolist() == [0, 0, 0]
    assert (
        overlay(np.zeros((9, 9)), Detections(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 4)))).sum()
        == 0
    )


def test_the_whole_way_on_a_folder_of_masks(tmp_path, capsys):
    cells = data.load("synthetic-cells", count=3, size=64)
    for i, (image, mask) in enumerate(zip(cells.images, cells.instances, strict=True)):
        write_png(tmp_path / f"images/{i}.png", image)
        write_tiff(tmp_path / f"masks/{i}.tif", mask)
    settings = ["--base-channels", "2", "--depth", "1", "--input-size", "44", "--steps", "3"]
    command = ["train", "--task", "detect", "--images", "images", "--masks", "masks"]
    command += [*settings, "--threads", "1", "--no-tensorboard", "--out", "run", "-q"]
    assert main(command) == 0
    assert main(["detect", "images/0.png", "--weights", "run", "--threshold", "0.01"]) == 0
    assert (tmp_path / "0-objects.csv").exists()
    assert "0.png:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.png"], "image: no.png does not exist"),
        (["a.png", "--threshold", "0"], "--threshold: got 0.0, expected 0 < threshold <= 1"),
        (["a.png", "--threshold", "nan"], "--threshold: got nan"),
        (["a.png", "--radius", "-1"], "--radius: got -1.0, expected a number >= 0"),
        (["a.png", "-o", "a.tif"], "--out: got a.tif, expected a name that ends in .csv"),
        (["a.png", "b.png", "-o", "a.csv"], "--out: got a.csv for 2 images, expected a folder"),
        (["a.png", "x/a.png"], "would be written twice"),
        (["a.png", "--tile", "37"], "tile: got 37, expected an input size of the network"),
        (["a.png", "--memory", "much"], "--memory: got 'much'"),
        (["a.png", "--weights", "no.safetensors"], "no.safetensors"),
        (["a.png", "--weights", "segment.safetensors"], "a network that was made to segment"),
    ],
)
def test_mistakes_are_one_line(arguments, message, weights, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    for name in ("a.png", "b.png", "x/a.png"):
        write_png(name, image_of((60, 60)))
    UNet(base_channels=2, depth=1, backend="numpy").save("segment.safetensors")
    before = sorted(tmp_path.rglob("*"))
    given = [] if "--weights" in arguments else ["--weights", str(weights)]
    assert main(["detect", *arguments, *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_segment_refuses_a_detecting_network(net, weights, capsys):
    write_png("a.png", image_of((60, 60)))
    assert main(["segment", "a.png", "--weights", str(weights)]) == 2
    assert "a network that was made to detect, expected one to segment" in capsys.readouterr().err
    with pytest.raises(InputError, match="made to detect"):
        segment(net, image_of((60, 60)))
    with pytest.raises(InputError, match="averaging: got 7, expected 1 for task detect"):
        detect(net, image_of((60, 60)), averaging=7)


def test_all_files_or_none(weights, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    write_png("a.png", image_of((60, 60)))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("unet_np.images.write_png", fail)
    assert main(["detect", "a.png", "--weights", str(weights), "-q"]) == 1
    assert sorted(tmp_path.rglob("*")) == before
