"""The round trip of a user's folder: train, segment, evaluate, export, by the command line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from unet_np import UNet
from unet_np.cli import main
from unet_np.images import read_image, write_png, write_tiff

NETWORK = "--base-channels 4 --depth 1 --input-size 44"
TRAINING = "--steps 60 --validate-every 20 --patience 2 --no-tensorboard --backend numpy --seed 1"


def slide(number, size):
    """Bright discs in noise, each with a number, and their image."""
    rng = np.random.default_rng(number)
    rows, columns = np.indices(size)
    mask = np.zeros(size, np.uint16)
    for cell in range(1, 5):
        row, column = 6 + (rng.random(2) * (np.array(size) - 12)).astype(int)
        mask[((rows - row) ** 2 + (columns - column) ** 2 < 20) & (mask == 0)] = cell
    return (3000 * (mask > 0) + rng.integers(0, 500, size)).astype(np.uint16), mask


@pytest.fixture(scope="module")
def trip(tmp_path_factory):
    """Five images of two sizes, a trained network and the results, which tests only read."""
    folder = tmp_path_factory.mktemp("trip")
    for number in range(5):
        image, mask = slide(number, (40, 48) if number % 2 else (48, 36))
        write_tiff(folder / "images" / f"plate_{number}.tif", image)
        write_png(folder / "masks" / f"plate_{number}_mask.png", mask)
    places = ["--images", str(folder / "images"), "--masks", str(folder / "masks")]
    out = ["--out", str(folder / "run")]
    assert main(["train", *places, *NETWORK.split(), *TRAINING.split(), *out]) == 0
    weights, results = ["--weights", str(folder / "run")], ["-o", str(folder / "results")]
    assert main(["segment", str(folder / "images"), *weights, *results, "--instances"]) == 0
    return folder


def scores(trip, tmp_path, *more):
    out = tmp_path / "scores.json"
    both = [str(trip / "results"), str(trip / "masks")]
    assert main(["evaluate", *both, "--json", str(out), *more]) == 0
    return json.loads(out.read_text())["scores"]


def test_a_folder_of_several_sizes_is_segmented(trip):
    for number in range(5):
        image = read_image(trip / "images" / f"plate_{number}.tif")
        labels = read_image(trip / "results" / f"plate_{number}-labels.tif")
        assert labels.shape == image.shape
        assert (labels == (image > 1700)).mean() > 0.9


def test_a_folder_is_scored_by_name(trip, tmp_path):
    found = scores(trip, tmp_path, "--metrics", "iou", "dice", "seg_measure")
    assert found["iou"]["value"] > 0.7
    assert found["dice"]["value"] > 0.8
    assert 0.3 < found["seg_measure"]["value"] <= 1
    assert len(found["iou"]["slices"]) == 5
    # The first alone has the score that it has among the others: what pads it is not counted.
    one = [str(trip / "results" / "plate_0-probabilities.tif")]
    one += [str(trip / "masks" / "plate_0_mask.png"), "--json", str(tmp_path / "one.json"), "-q"]
    assert main(["evaluate", *one, "--metrics", "iou"]) == 0
    alone = json.loads((tmp_path / "one.json").read_text())["scores"]["iou"]["value"]
    assert alone == pytest.approx(found["iou"]["slices"][0])


def test_metrics_by_default(trip, tmp_path):
    # There are maps of cells, and the masks number them.
    assert set(scores(trip, tmp_path)) == {"seg_measure"}


def test_metrics_that_need_one_size_say_so(trip, capsys):
    both = [str(trip / "results"), str(trip / "masks")]
    assert main(["evaluate", *both, "--metrics", "rand_error"]) == 2
    assert capsys.readouterr().err == (
        "unet-np evaluate: error: --metrics: got rand_error for images of different sizes, "
        "expected one of iou, dice, seg_measure\n"
    )


def test_a_missing_result_is_named(trip, tmp_path, capsys):
    for number in range(6):
        _, mask = slide(number, (48, 36))
        write_png(tmp_path / f"plate_{number}.png", mask)
    assert main(["evaluate", str(trip / "results"), str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "prediction: got none for plate_5.png, expected one with its name" in error
    assert error.count("\n") == 1


def test_results_without_masks_are_left_out(trip, tmp_path, capsys):
    for number in (1, 3):
        old = trip / "masks" / f"plate_{number}_mask.png"
        write_png(tmp_path / "some" / old.name, read_image(old))
    both = [str(trip / "results"), str(tmp_path / "some")]
    out = ["--json", str(tmp_path / "scores.json")]
    assert main(["evaluate", *both, "--metrics", "iou", "seg_measure", *out]) == 0
    remark = "prediction: 3 files have no labels and are left out, the first plate_0-"
    error = capsys.readouterr().err
    assert error.startswith(remark)
    assert error.count(remark) == 1
    found = json.loads((tmp_path / "scores.json").read_text())
    assert (found["pairs"], found["left_out"]) == ("by name", 3)
    both[1] = str(trip / "masks")
    assert main(["evaluate", *both, "--metrics", "iou", "--threshold", "0.5", *out, "-q"]) == 0
    every = json.loads((tmp_path / "scores.json").read_text())["scores"]["iou"]["slices"]
    assert found["scores"]["iou"]["slices"] == pytest.approx([every[1], every[3]])


def test_names_that_say_nothing_go_in_order(tmp_path, capsys):
    for number, name in enumerate("ab"):
        _, mask = slide(number, (20, 20))
        write_png(tmp_path / "found" / f"{name}.png", mask)
        write_png(tmp_path / "truth" / f"x{name}.png", mask)
    both = [str(tmp_path / side) for side in ("found", "truth")]
    assert main(["evaluate", *both, "--metrics", "seg_measure"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["seg_measure", "1.000000"]


def test_the_network_leaves(trip, tmp_path):
    pytest.importorskip("onnx")
    command = ["export", "--weights", str(trip / "run"), "--onnx", str(tmp_path / "cells.onnx")]
    assert main([*command, "-q"]) == 0


def test_the_command_tells_how_it_read_the_folder(trip, tmp_path, capsys):
    places = ["--images", str(trip / "images"), "--masks", str(trip / "masks")]
    more = ["--steps", "1", "--no-weight-map", "--out", str(tmp_path / "run")]
    assert main(["train", *places, *NETWORK.split(), "--no-tensorboard", *more]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("images: 5 of 2 sizes, 40 x 48 to 48 x 36; masks: ")
    assert " numbered cells, 4 on average in a mask; each mask holds the same numbers" in first


def test_three_classes(tmp_path, capsys):
    for number in range(3):
        image, mask = slide(number, (40, 48))
        write_tiff(tmp_path / "images" / f"{number}.tif", image)
        write_png(
            tmp_path / "masks" / f"{number}.png", np.array([0, 128, 255, 255, 255], "u1")[mask]
        )
    places = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    out = str(tmp_path / "run")
    more = ["--steps", "2", "--no-tensorboard", "-q", "--out", out]
    assert main(["train", *places, *NETWORK.split(), *more]) == 0
    one = str(tmp_path / "images" / "0.tif")
    assert main(["segment", one, "--weights", out, "-o", str(tmp_path / "0.tif"), "-q"]) == 0
    assert read_image(tmp_path / "0.tif").shape == (40, 48, 3)
    results = str(tmp_path / "results")
    assert main(["segment", str(tmp_path / "images"), "--weights", out, "-o", results, "-q"]) == 0
    for number in range(3):
        _, mask = slide(number, (40, 48))
        # As if the network had found all but a part of class 2.
        found = np.minimum(mask, 2).astype(np.uint8)
        found[:20][found[:20] == 2] = 0
        write_tiff(tmp_path / "results" / f"{number}-labels.tif", found)
    capsys.readouterr()
    both = [results, str(tmp_path / "masks")]
    assert main(["evaluate", *both, "--classes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if line.startswith(("iou", "dice"))]
    scores = {line[:22].strip(): float(line[22:]) for line in shown}
    assert scores["iou of class 1"] == scores["dice of class 1"] == 1
    assert 0 < scores["iou of class 2"] < scores["dice of class 2"] < 1
    one = [f"{results}/0-labels.tif", str(tmp_path / "masks" / "0.png")]
    assert main(["evaluate", *one, "--metrics", "iou"]) == 2
    assert "whole numbers up to 2, expected probabilities; --classes" in capsys.readouterr().err
    assert main(["evaluate", *both, "--classes", "--metrics", "rand_error"]) == 2
    assert "--classes: got --metrics rand_error, expected iou or dice" in capsys.readouterr().err
    write_png(tmp_path / "binary.png", np.eye(40, 48, dtype=bool))
    assert main(["evaluate", one[0], str(tmp_path / "binary.png"), "--classes"]) == 2
    assert "labels: got the values 0, 255 and classes up to 2" in capsys.readouterr().err


def test_a_tile_far_larger_than_the_images_is_remarked(trip, tmp_path, capsys):
    places = ["--images", str(trip / "images"), "--masks", str(trip / "masks")]
    more = ["--steps", "1", "--no-weight-map", "--no-tensorboard", "--out", str(tmp_path / "run")]
    sizes = ["--base-channels", "2", "--depth", "1", "--input-size", "100"]
    assert main(["train", *places, *sizes, *more]) == 0
    second = capsys.readouterr().out.splitlines()[1]
    assert second == (
        "input_size: the tile of 100 pixels gives 84, more than the images have (48 x 48); 64 fits"
    )


def test_a_patience_that_cannot_end_the_run_is_remarked(trip, tmp_path, capsys):
    places = ["--images", str(trip / "images"), "--masks", str(trip / "masks")]
    sizes = ["--base-channels", "2", "--depth", "1", "--input-size", "64", "--steps", "3"]
    out = str(tmp_path / "run")
    more = ["--patience", "3", "--validate-every", "1", "--no-weight-map", "--no-tensorboard"]
    assert main(["train", *places, *sizes, *more, "--out", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == (
        "patience: 3 validations after the first, one every 1 steps, are not over by step 3; the "
        "best weights are kept, but nothing stops early"
    )
    with open(tmp_path / "run/metrics.csv") as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    best = 1 + losses.index(min(losses))
    assert lines[-1] == f"weights: {tmp_path / 'run' / 'weights.safetensors'}, of step {best}"


def test_grey_weights_to_begin_with_and_images_in_colour(tmp_path, capsys):
    rng = np.random.default_rng(0)
    write_png(tmp_path / "a.png", rng.integers(0, 255, (40, 40, 3), np.uint8))
    write_png(tmp_path / "a_mask.png", np.eye(40, dtype=bool))
    UNet(base_channels=2, depth=1, backend="numpy").save(tmp_path / "grey.safetensors")
    places = ["--images", str(tmp_path / "a.png"), "--masks", str(tmp_path / "a_mask.png")]
    more = ["--start", str(tmp_path / "grey.safetensors"), "--out", str(tmp_path / "run"), "-q"]
    sizes = ["--base-channels", "2", "--depth", "1", "--input-size", "36", "--steps", "1"]
    assert main(["train", *places, *sizes, *more]) == 2
    assert capsys.readouterr().err.endswith(
        "with in_channels 1, expected 3, which the data have; --colour grey makes grey of them\n"
    )
    assert main(["train", *places, *sizes, *more, "--colour", "grey", "--no-tensorboard"]) == 0
