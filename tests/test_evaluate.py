"""``unet-np evaluate``: files in, the metrics' own values out."""

import json

import numpy as np
import pytest

from unet_np import metrics
from unet_np.cli import main
from unet_np.cli.evaluate import probabilities, read_both
from unet_np.errors import InputError
from unet_np.images import write_png, write_tiff


@pytest.fixture
def stack(tmp_path, monkeypatch):
    """Labels and probabilities of two small slices, as files in the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    labels = np.ones((2, 24, 24), np.uint8)
    labels[:, 8] = labels[:, :, 15] = 0
    maps = np.clip(labels * 0.7 + rng.random(labels.shape) * 0.4, 0, 1).astype(np.float32)
    write_tiff(tmp_path / "labels.tif", labels * np.uint8(255))
    write_tiff(tmp_path / "maps.tif", maps)
    return labels, maps


def scores_of(*arguments):
    assert main(["evaluate", *arguments, "--json", "scores.json", "-q"]) == 0
    with open("scores.json") as file:
        return json.load(file)


def test_the_defaults_are_the_errors_of_table_1(stack):
    labels, maps = stack
    result = scores_of("maps.tif", "labels.tif")
    assert result["scores"] == json.loads(json.dumps(metrics.evaluate(labels, maps)))
    assert list(result["scores"]) == list(metrics.ISBI_METRICS)
    assert result["command"].startswith("unet-np")
    assert result["labels"] == "labels.tif"


@pytest.mark.parametrize("name", [n for n in metrics.METRIC_NAMES if n != "seg_measure"])
def test_a_fixed_threshold(stack, name):
    labels, maps = stack
    found = scores_of("maps.tif", "labels.tif", "--metrics", name, "--threshold", "0.6")
    assert found["scores"][name]["value"] == getattr(metrics, name)(labels, maps, 0.6)
    assert found["scores"][name]["threshold"] == 0.6
    assert len(found["scores"][name]["slices"]) == 2


def test_of_several_thresholds_the_best_counts(stack):
    labels, maps = stack
    flags = ("--metrics", "pixel_error", "--threshold", "0.05", "0.55")
    found = scores_of("maps.tif", "labels.tif", *flags)["scores"]["pixel_error"]
    assert found["value"] == metrics.pixel_error(labels, maps, [0.05, 0.55])


def test_numbered_cells_are_scored_by_seg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = np.zeros((12, 12), np.uint16)
    cells[1:5, 1:5], cells[7:11, 7:11] = 1, 300
    found = np.where(cells == 300, 2, 0).astype(np.float32)
    found[1:5, 1:4] = 7
    write_tiff(tmp_path / "cells.tif", cells)
    write_tiff(tmp_path / "found.tif", found)
    write_tiff(tmp_path / "same.tif", cells)
    assert scores_of("same.tif", "cells.tif")["scores"]["seg_measure"]["value"] == 1.0
    result = scores_of("found.tif", "cells.tif", "--metrics", "seg_measure")
    assert result["scores"]["seg_measure"]["value"] == pytest.approx((0.75 + 1) / 2)
    assert result["scores"]["seg_measure"]["threshold"] is None


def test_a_folder_is_a_stack_in_the_order_of_the_names(tmp_path):
    for number in (0, 1, 2):
        write_png(tmp_path / f"{number}.png", np.full((4, 5), number, np.uint8))
    for slices in read_both(tmp_path, tmp_path, "probabilities")[:2]:
        assert slices[:, 0, 0].tolist() == [0, 1, 2]


def test_folders_without_a_common_name_go_in_order_and_it_says_so(tmp_path, capsys):
    for number in (0, 1):
        write_png(tmp_path / f"found/{'xy'[number]}.png", np.full((4, 5), number, np.uint8))
        write_png(tmp_path / f"truth/{'ab'[number]}.png", np.full((4, 5), number, np.uint8))
    pair = read_both(tmp_path / "found", tmp_path / "truth", "probabilities")
    assert (pair.prediction == pair.labels).all()
    command = ["evaluate", str(tmp_path / "found"), str(tmp_path / "truth")]
    assert main([*command, "--metrics", "iou", "seg_measure"]) == 0
    error = capsys.readouterr().err
    assert error.endswith("in order: x.png with a.png, ..., y.png with b.png\n")
    assert error.count("\n") == 1
    assert main([*command, "--metrics", "iou", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_eight_and_sixteen_bits_are_probabilities():
    assert probabilities(np.array([51, 255], np.uint8)).tolist() == pytest.approx([0.2, 1])
    assert probabilities(np.array([13107, 65535], np.uint16)).tolist() == pytest.approx([0.2, 1])
    assert probabilities(np.array([0, 1], np.uint8)).tolist() == [0, 1]


def test_the_table_is_printed(stack, capsys):
    command = ["evaluate", "maps.tif", "labels.tif", "--metrics", "iou", "--per-slice"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "iou"
    assert lines[0].endswith("threshold 0.5")
    assert [line.split()[:2] for line in lines[1:]] == [["slice", "0"], ["slice", "1"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.tif", "labels.tif"], "prediction:"),
        (["small.png", "labels.tif"], "1 slices of 4 x 4, expected 2 slices of 24 x 24"),
        (["maps.tif", "labels.tif", "--metrics", "rand"], "nearest valid: v_rand"),
        (["maps.tif", "labels.tif", "--metrics", "seg_measure"], "numbers with fractions"),
        (["maps.tif", "labels.tif", "--json", "maps.tif"], "which is an input"),
        (["maps.tif", "labels.tif", "--threshold", "2"], "threshold"),
        (["empty", "labels.tif"], "expected images in it"),
        (["classes.tif", "labels.tif"], "a probability of each of 2 classes, expected classes"),
        (["mixed", "labels.tif"], "2 slices of 2 sizes, expected 2 slices of 24 x 24"),
    ],
)
def test_mistakes_are_one_line(stack, tmp_path, capsys, arguments, message):
    write_png(tmp_path / "small.png", np.zeros((4, 4), np.uint8))
    write_tiff(tmp_path / "classes.tif", np.stack([stack[1][0], 1 - stack[1][0]]))
    (tmp_path / "empty").mkdir()
    write_png(tmp_path / "mixed/a.png", np.zeros((4, 4), np.uint8))
    write_png(tmp_path / "mixed/b.png", np.zeros((4, 5), np.uint8))
    before = sorted(tmp_path.iterdir())
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_stack_of_vectors_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"prediction: .* is not an image"):
        read_both(tmp_path / "a.npy", tmp_path / "a.npy", "probabilities")
