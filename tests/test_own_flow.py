"""What happens around files of a user: names, folders of results, what is left out."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet_np import UNet
from unet_np.cli import main
from unet_np.cli.classify import class_names
from unet_np.data.own.names import list_images, pair_labels, pair_names, without_results
from unet_np.errors import InputError
from unet_np.images import write_png
from unet_np.tasks import Classify
from unet_np.training.config import TrainConfig

SMALL = [
    "--base-channels",
    "2",
    "--depth",
    "1",
    "--input-size",
    "28",
    "--threads",
    "1",
    "--no-augment",
]


def image(number, size=(24, 28)):
    return np.random.default_rng(number).integers(0, 255, size).astype(np.uint8)


@pytest.fixture
def plate(tmp_path, monkeypatch):
    """Two images, and a network in weights.safetensors, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_png(tmp_path / "plate" / f"a{number}.png", image(number))
    UNet(base_channels=2, depth=1, backend="numpy").save("net.safetensors")
    return tmp_path


def segment(*arguments):
    return main(["segment", *arguments, "--weights", "net.safetensors"])


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# Names


def test_a_letter_with_its_accent_is_one_name_however_it_is_stored():
    shown = ["blüte", "gefäß", "å", "ñandú", "한글"]
    images = [Path(unicodedata.normalize("NFC", name) + ".png") for name in shown]
    for pattern in ("{}.png", "{}_mask.tif", "Mask_{}.png"):
        masks = [Path(unicodedata.normalize("NFD", pattern.format(name))) for name in shown]
        found = dict(pair_names(images, masks[::-1]))
        assert [found[one] for one in images] == masks
        assert pair_labels(masks, images[::-1]).how == "by name"


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.tiff", ".OME.TIF"])
def test_results_of_ome_files_go_with_their_labels(ending):
    images = [Path(name + ending) for name in ("left", "right", "middle")]
    results = [Path(f"{image.stem}-labels.tif") for image in images]
    for labels in (images, [Path(name + ".png") for name in ("left", "right", "middle")]):
        pairing = pair_labels(results, labels[:2])
        assert pairing.how == "by name"
        assert pairing.pairs == list(zip(results[:2], labels[:2], strict=True))
        assert pairing.left_out == results[2:]


def test_the_ending_of_the_image_may_stand_in_the_name_of_the_mask():
    images = [Path("left.jpg"), Path("right.jpg")]
    masks = [Path("right.jpg_mask.png"), Path("left.jpg_mask.png")]
    assert pair_names(images, masks) == [(images[0], masks[1]), (images[1], masks[0])]


def test_an_ome_file_is_segmented_and_scored(plate, capsys):
    for number, name in enumerate(("left", "right")):
        (plate / "images").mkdir(exist_ok=True)
        tifffile.imwrite(plate / "images" / f"{name}.ome.tif", image(number), ome=True)
        write_png(plate / "truth" / f"{name}.png", image(number) > 128)
    assert segment("images", "-o", "out", "-q") == 0
    (plate / "truth" / "left.png").unlink()
    assert main(["evaluate", "out", "truth", "--metrics", "iou"]) == 0
    assert "1 file has no labels and is left out, left.ome-prob" in capsys.readouterr().err


# Folders of results


def test_results_are_not_segmented_again(plate, capsys):
    for out in ("plate", "plate", "other"):
        code = segment("plate", "-o", out, "--instances")
        assert code == 0, capsys.readouterr().err
    results = [f"a{n}-{kind}" for n in range(2) for kind in ("cells.csv", "instances.tif")]
    results += [f"a{n}-{kind}.tif" for n in range(2) for kind in ("labels", "probabilities")]
    assert names_in("other") == sorted(results)
    assert names_in("plate") == sorted([*results, "a0.png", "a1.png"])
    remark = "left out, with the name of a result of an image beside it and 5 more"
    assert remark in capsys.readouterr().err


def test_results_alone_are_images():
    paths = [Path("a-labels.tif"), Path("b.png"), Path("a-objects-overlay-3.png")]
    assert without_results(paths) == paths
    assert without_results([*paths, Path("a.tif")]) == [paths[1], Path("a.tif")]


def test_images_are_trained_on_without_their_results(plate):
    assert segment("plate", "-o", "plate", "-q") == 0
    for number in range(2):
        write_png(plate / "masks" / f"a{number}.png", image(number) > 128)
    places = ["--images", "plate", "--masks", "masks", "--steps", "1", "--out", "run", "-q"]
    assert main(["train", *places, *SMALL]) == 0


def test_a_folder_of_results_may_have_a_dot_in_its_name(plate, capsys):
    assert segment("plate/a0.png", "-o", "results_v1.2", "-q") == 0
    assert segment("plate", "-o", "24.11.2026", "-q") == 0
    assert names_in("results_v1.2") == ["a0-labels.tif", "a0-probabilities.tif"]
    assert len(names_in("24.11.2026")) == 4
    assert segment("plate/a0.png", "-o", "map.png", "-q") == 2
    expected = "got map.png, expected a name that ends in .tif, or a folder, as in map.png/"
    assert expected in capsys.readouterr().err
    assert segment("plate/a0.png", "-o", "map.png/", "-q") == 0
    assert names_in("map.png") == ["a0-labels.tif", "a0-probabilities.tif"]


# What is left out


def test_what_may_be_an_image_and_is_not_read_is_named(plate, caplog):
    folder = plate / "plate"
    (folder / "b.png").symlink_to(folder / "gone.png")
    (folder / "c.png").symlink_to(folder / "a0.png")
    for name in ("d.bmp", "e.bmp", "noending", "notes.txt", "Thumbs.db", ".hidden.gif"):
        (folder / name).touch()
    (folder / "old.png").mkdir()
    with caplog.at_level(logging.WARNING, "unet_np"):
        found = list_images(folder, "images")
    assert [path.name for path in found] == ["a0.png", "a1.png", "c.png"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder}: left out: 1 link that leads nowhere (b.png), 2 .bmp (d.bmp, ...), "
        "1 without an ending (noending); read are .png, .jpg, .jpeg, .tif, .tiff"
    ]


def test_what_is_left_out_is_printed(plate, capsys):
    (plate / "plate" / "d.bmp").touch()
    assert segment("plate", "-o", "out") == 0
    assert "plate: left out: 1 .bmp (d.bmp); read are .png" in capsys.readouterr().err


# Names that are no UTF-8


@pytest.fixture
def latin(plate):
    """A folder of images and one of masks, with names of Latin 1."""
    for number, mask in ((0, False), (1, False), (0, True), (1, True)):
        folder = os.fsencode("latinm" if mask else "latin")
        os.makedirs(folder, exist_ok=True)
        write_png("one.png", image(number) > 128 if mask else image(number))
        with open(folder + b"/gef\xe4\xdf%d.png" % number, "wb") as file:
            file.write(Path("one.png").read_bytes())
    return plate


def test_every_image_is_segmented_whatever_its_name(latin):
    # As a terminal of UTF-8 has it: what cannot be encoded is an error.
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command = [
        "-m",
        "unet_np",
        "segment",
        "latin",
        "-o",
        "out",
        "--weights",
        "net.safetensors",
        "--threads",
        "1",
    ]
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert len(names_in("out")) == 4
    assert rb"gef\udce4\udcdf0-labels.tif" in done.stdout


def test_a_run_of_such_names_is_written_and_resumed(latin):
    run = os.fsdecode(b"run\xe4")
    places = ["--images", "latin", "--masks", "latinm", "--out", run, "-q", *SMALL]
    assert main(["train", *places, "--steps", "1"]) == 0
    text = Path(run, "config.toml").read_text("utf-8")
    assert tomllib.loads(text)["steps"] == 1
    assert TrainConfig.from_toml(Path(run, "config.toml")).out == run
    assert main(["train", "--resume", "--out", run, "--steps", "2", "-q"]) == 0
    with pytest.raises(InputError, match=r"out: got .*, expected a name that a file may have"):
        TrainConfig(out="run\ud800")


def test_classes_of_such_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [os.fsdecode(b"gr\xfcn"), "rot"]
    for folder in names:
        for number in range(3):
            os.makedirs(Path("classes", folder), exist_ok=True)
            write_png(Path("classes", folder, f"{number}.png"), image(number, (40, 40)))
    line = [
        "train",
        "--task",
        "classify",
        "--images",
        "classes",
        "--steps",
        "1",
        "--out",
        "run",
        "-q",
        "--input-size",
        "0",
    ]
    assert main([*line, *["--base-channels", "2", "--depth", "1", "--threads", "1"]]) == 0
    net = UNet(base_channels=2, depth=1, **Classify.options)
    assert class_names(net, Path("run")) == names
    line = ["classify", f"classes/{names[0]}", "--weights", "run", "-o", "classes.csv", "-q"]
    assert main(line) == 0
    assert r"gr\udcfcn" in Path("classes.csv").read_text("utf-8")


# Runs that move


@pytest.fixture
def run(plate):
    """A run of one step in begun/runs/one, with its images and masks in begun."""
    for number in range(3):
        write_png(plate / "begun" / "images" / f"a{number}.png", image(number))
        write_png(plate / "begun" / "masks" / f"a{number}.png", image(number) > 128)
    os.chdir(plate / "begun")
    line = "train --images images --masks masks --steps 1 --out runs/one -q"
    assert main([*line.split(), *SMALL]) == 0
    os.chdir(plate)
    return plate


def resume(out, *arguments):
    return main(["train", "--resume", "--out", out, "--steps", "3", "-q", *arguments])


def weights(folder):
    return (Path(folder) / "weights.safetensors").read_bytes()


def test_a_run_goes_on_wherever_it_and_its_images_are(run):
    shutil.copytree("begun", "alone")
    os.chdir("alone")
    assert resume("runs/one") == 0
    os.chdir("..")
    shutil.copytree("begun", "moved")
    assert resume("moved/runs/one") == 0
    shutil.copytree("begun/runs/one", "elsewhere")
    shutil.move("begun", "data")
    (run / "data" / "images" / "a0.png").rename(run / "data" / "images" / "A0.PNG")
    assert resume("elsewhere", "--images", "data/images", "--masks", "data/masks") == 0
    assert weights("moved/runs/one") == weights("elsewhere") == weights("alone/runs/one")
    # From then on, they are known to be there.
    assert TrainConfig.from_toml("elsewhere/config.toml").images == "data/images"
    assert main(["train", "--resume", "--out", "elsewhere", "--steps", "4", "-q"]) == 0


@pytest.mark.parametrize("place", ["images", "masks"])
def test_other_images_are_no_reason_to_go_on(run, place, capsys):
    before = weights("begun/runs/one")
    shutil.copytree("begun", "moved")
    changed = image(7) if place == "images" else image(7) > 128
    write_png(run / "moved" / place / "a1.png", changed)
    places = ["--images", "moved/images", "--masks", "moved/masks"]
    assert resume("begun/runs/one", *places) == 2
    assert "data: got other images or labels than those the run" in capsys.readouterr().err
    assert weights("begun/runs/one") == before


def test_images_that_are_gone_are_asked_for(run, capsys):
    shutil.move("begun/runs/one", "one")
    assert resume("one") == 2
    error = capsys.readouterr().err
    assert "images: got images, which is not there, expected --images with the place" in error


# Weights


def test_the_name_of_a_network_that_comes_along_is_no_file(plate, capsys):
    assert main(["segment", "plate/a0.png", "--weights", "u373"]) == 2
    error = capsys.readouterr().err
    assert "weights: got no file at u373, expected one; the network u373" in error
    assert "--model u373" in error
