"""Classes of patches and images: points, windows, folders of classes, the command line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_np import InputError
from unet_np.cli import main
from unet_np.data.own.classes import class_names, read_classes
from unet_np.files.tables import csv_line
from unet_np.images import normalise, write_png, write_tiff
from unet_np.network.unet import UNet
from unet_np.tasks.classification import Classification, Classify, classify, classify_points
from unet_np.training.checkpoint import RunFolder


@pytest.fixture(scope="module")
def net():
    return UNet(1, 3, 2, 1, 1, **Classify.options, dropout=0, seed=5, backend="numpy")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def image_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


@pytest.fixture
def folders():
    """Two classes that differ in brightness of the middle, of 5 and 3 images."""
    row, column = np.indices((24, 24))
    spot = np.hypot(row - 12, column - 12) < 7
    for name, sign, count in (("bright", 1, 5), ("dark", -1, 3)):
        for i in range(count):
            noise = np.random.default_rng((sign + 1, i)).normal(0, 10, spot.shape)
            write_png(f"own/{name}/{i}.png", (128 + 60 * sign * spot + noise).astype(np.uint8))
    return "own"


def test_a_point_is_its_own_patch(net):
    image = image_of((40, 50))
    points = np.array([[20, 20], [0, 0], [39, 49], [7, 30]])
    found = classify_points(net, image, points, 15, batch=3)
    ready = np.pad(normalise(image), 7, mode="reflect")
    for (row, column), p in zip(points, found, strict=True):
        logits = net.forward(ready[row : row + 15, column : column + 15][None, None])[0]
        expected = np.exp(logits - logits.max())
        assert p == pytest.approx(expected / expected.sum(), abs=1e-5)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_stride_of_one_is_every_pixel_but_the_border(net):
    result = classify(net, image_of((20, 22)), 17, 1)
    assert len(result.points) == 4 * 6
    assert result.classes.tolist() == result.probabilities.argmax(axis=1).tolist()
    assert result.mean.sum() == pytest.approx(1, abs=1e-5)
    assert len(classify(net, image_of((20, 22)), 32).points) == 1


def test_mean_and_classes():
    result = Classification(np.zeros((2, 2), int), np.array([[0.9, 0.1], [0.3, 0.7]]))
    assert result.classes.tolist() == [0, 1]
    assert result.mean == pytest.approx([0.6, 0.4])


def test_a_folder_for_each_class(folders):
    found = read_classes(folders)
    assert len(found) == 8
    assert class_names(found) == ("bright", "dark")
    assert found.groups == tuple(name.split("/")[0] for name in found.ids)
    labels = [int(one[0, 0]) for one in found.labels]
    assert all((one == one[0, 0]).all() for one in found.labels)
    assert sum(labels) == 3
    # Any stretch has its share, so that the last images are fit for validation.
    assert set(labels[-4:]) == set(labels[:4]) == {0, 1}


def test_images_of_several_sizes():
    write_png("own/a/1.png", image_of((20, 30)))
    write_png("own/b/1.png", image_of((24, 22)))
    found = read_classes("own")
    assert sorted(found.sizes) == [(20, 30), (24, 22)]
    assert found.unknown.sum() == 2 * 24 * 30 - 20 * 30 - 24 * 22


def test_the_whole_way_on_a_folder_of_classes(folders, capsys):
    settings = ["--base-channels", "4", "--depth", "1", "--padding", "1", "--input-size", "24"]
    settings += ["--batch-size", "4", "--steps", "40", "--learning-rate", "0.03"]
    settings += ["--momentum", "0.9", "--dropout", "0", "--threads", "1", "--no-tensorboard"]
    command = ["train", "--task", "classify", "--images", folders, "--out", "run", "-q"]
    assert main([*command, *settings, "--norm", "batch"]) == 0
    images = [f"{folders}/{name}/{i}.png" for name in ("bright", "dark") for i in (0, 1)]
    assert main(["classify", *images, "--weights", "run", "-o", "out.csv"]) == 0
    with open("out.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["bright", "bright", "dark", "dark"]
    for row in rows:
        both = [float(row["p_bright"]), float(row["p_dark"])]
        assert sum(both) == pytest.approx(1, abs=1e-3)
    assert [row["image"] for row in rows] == images
    assert "0.png: bright, probability" in capsys.readouterr().out


def test_a_folder_is_its_images_and_the_weights_are_not_overwritten(net, capsys):
    net.save("weights.csv")
    write_png("new/a.png", image_of((20, 20)))
    write_png("new/b.png", image_of((20, 20)))
    command = ["classify", "new", "--weights", "weights.csv", "--patch", "20", "-q"]
    assert main(command) == 0
    with open("classes.csv", encoding="utf-8") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["new/a.png", "new/b.png"]
    assert main([*command, "-o", "weights.csv"]) == 2
    assert "--out: got weights.csv, which is an input" in capsys.readouterr().err


def test_names_read_back_as_they_are():
    """Commas, quotes and line ends are quoted; what a spreadsheet would run is marked as text."""
    names = ["a, round", 'the "big" one', "=1+1", "+1;x", "-x", "@b", "'c", "-1.5e3", "d\u2028e"]
    net = UNet(1, len(names), 2, 1, 1, **Classify.options, seed=5, backend="numpy")
    net.save("run/weights.safetensors")
    Path("run/classes.txt").write_text("\n".join(names) + "\n", "utf-8", newline="\n")
    images = ["=a\rb.png", "+c\nd.png", "e,f.png"]
    for image in images:
        write_png(image, image_of((20, 20)))
    for best, name in enumerate(names):
        net.params["output.bias"][:] = 50 * (np.arange(len(names)) == best)
        net.save("run/weights.safetensors")
        assert main(["classify", *images, "--weights", "run", "--patch", "20", "-q"]) == 0
        with open("classes.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        marked = ["'" + text if text[0] in "=+@'" or text == "-x" else text for text in names]
        assert {row["class"] for row in rows} == {marked[best]}
        assert [row["image"] for row in rows] == ["'=a\rb.png", "'+c\nd.png", "e,f.png"]
        assert [row[f"p_{name}"] for row in rows] == ["1.0000"] * 3
        assert len(rows[0]) == 5 + len(names)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("=+-@'\r\n,"))))
def test_any_text_comes_back_and_none_is_a_formula(cells):
    (found,) = csv.reader(io.StringIO(csv_line([*cells, ""]), newline=""))
    assert [
        cell.removeprefix("'") if cell != text else text
        for cell, text in zip(found, [*cells, ""], strict=True)
    ] == [*cells, ""]
    for cell in found:
        assert not cell.startswith(("=", "@", "\t", "\r"))
        assert cell[:1] not in ("+", "-") or cell[1:2].isdigit()


def test_a_line_break_in_the_name_of_a_class(folders):
    Path(folders, "bright").rename(f"{folders}/very\nbright")
    with pytest.raises(
        InputError, match=r"images: got the folder 'very\\nbright', expected a name"
    ):
        read_classes(folders)


def test_beginning_anew_forgets_the_names_of_the_classes(folders):
    """They would name those of the next network, if it has as many."""
    settings = "--base-channels 2 --depth 1 --padding 1 --input-size 24 --steps 1 --no-tensorboard"
    command = ["train", "--task", "classify", "--out", "run", "-q", *settings.split()]
    assert main([*command, "--images", folders]) == 0
    assert Path("run/classes.txt").read_text() == "bright\ndark\n"
    assert main([*command, "--overwrite", "--data", "synthetic-em"]) == 0
    assert not Path("run/classes.txt").exists()


def test_a_file_of_the_user_s_own_is_no_file_of_a_run():
    Path("own").mkdir()
    Path("own/classes.txt").write_text("mine")
    RunFolder("own").begin(10, resume=False, overwrite=True)
    assert Path("own/classes.txt").read_text() == "mine"


def test_a_stack_has_a_line_for_each_slice_and_patch(net):
    net.save("weights.safetensors")
    write_tiff("a,b.tif", image_of((2, 40, 40)))
    command = ["classify", "a,b.tif", "--weights", "weights.safetensors", "--patch", "20", "-q"]
    assert main(command) == 0
    with open("classes.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["slice"] for row in rows] == ["0"] * 4 + ["1"] * 4
    assert {row["image"] for row in rows} == {"a,b.tif"}
    assert {"p_0", "p_1", "p_2"} <= set(rows[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: classify_points(n, image_of((9, 9)), np.array([[9, 0]]), 5), "points: got"),
        (lambda n: classify_points(n, image_of((9, 9)), np.zeros((1, 2), int), 5, 0), "batch: got"),
        (lambda n: classify_points(n, image_of((9, 9)), np.zeros((1, 2), int), 1), "input height"),
        (lambda n: classify(n, image_of((9, 9)), 5, 0), "stride: got 0, expected an integer >= 1"),
        (
            lambda n: classify(UNet(base_channels=2, depth=1), image_of((9, 9)), 5),
            "made to segment, expected one to classify",
        ),
    ],
)
def test_refuses(call, message, net):
    with pytest.raises(InputError, match=message):
        call(net)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "no.png"], "image: no.png does not exist"),
        (["classify", "a.png", "--patch", "0"], "--patch: got 0, expected an integer >= 1"),
        (["classify", "a.png", "--stride", "-2"], "--stride: got -2, expected an integer >= 1"),
        (["classify", "a.png", "-o", "a.txt"], "--out: got a.txt, expected a name that ends in"),
        (["classify", "a.png", "--weights", "segment.safetensors"], "was made to segment"),
        (["train", "--task", "classify", "--images", "empty"], "with 0 folders in it, expected"),
        (["train", "--task", "classify", "--images", "no"], "images: got no, expected a folder"),
        (["train", "--task", "detect", "--images", "empty"], "masks: got none, expected a file"),
        (
            ["train", "--task", "clasify"],
            "task: got 'clasify', expected one of segment, ",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, message, net, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    write_png("a.png", image_of((30, 30)))
    net.save("weights.safetensors")
    UNet(base_channels=2, depth=1, backend="numpy").save("segment.safetensors")
    before = sorted(tmp_path.rglob("*"))
    if arguments[0] == "classify" and "--weights" not in arguments:
        arguments = [*arguments, "--weights", "weights.safetensors"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
