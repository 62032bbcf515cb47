"""``unet-np evaluate``: files in, the metrics' own values out."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unet_np import metrics
from unet_np.cli import main
from unet_np.data.own.compared import read_both
from unet_np.data.own.names import pair_labels
from unet_np.errors import InputError
from unet_np.images import write_png, write_tiff
from unet_np.metrics.scoring import probabilities


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


CELLS = np.zeros((3, 24, 24), np.uint16)
for _frame in range(3):  # three cells in each, elsewhere in every frame
    for _number in (1, 2, 3):
        _top, _left = 1 + 2 * _frame, 7 * _number - 5 + _frame
        CELLS[_frame, _top : _top + 6, _left : _left + 5] = _number


def write_frames(folder, names, frames=CELLS):
    folder.mkdir()
    for name, frame in zip(names, frames, strict=True):
        write_tiff(folder / name, frame)


def evaluated(tmp_path, capsys, *more):
    """Exit status, standard error, and what the JSON holds, of found against truth."""
    out = tmp_path / "scores.json"
    out.unlink(missing_ok=True)
    both = [
        next(str(path) for path in tmp_path.iterdir() if path.stem == name)
        for name in ("found", "truth")
    ]
    status = main(["evaluate", *both, "--json", str(out), *more])
    result = json.loads(out.read_text()) if out.exists() else None
    return status, capsys.readouterr().err, result


@pytest.mark.parametrize(
    ("found", "truth", "how"),
    [
        # Sorted as text, t10 and t11 stand before t9.
        (("t9", "t10", "t11"), ("man_seg009", "man_seg010", "man_seg011"), "by number"),
        (("mask009", "mask010", "mask011"), ("man_seg9", "man_seg10", "man_seg11"), "by name"),
        (("a9", "a10", "b9"), ("x09", "x10", "y09"), "in order"),
        (("a", "b", "c"), ("k_9", "k_10", "k_11"), "in order"),
    ],
)
def test_files_go_together_by_name_or_number_or_in_order(tmp_path, capsys, found, truth, how):
    write_frames(tmp_path / "found", [f"{name}.tif" for name in found])
    write_frames(tmp_path / "truth", [f"{name}.tif" for name in truth])
    # Neither of these is an image that could shift the others.
    for name in (".DS_Store", "._t1.tif", "man_track.txt", "cells.csv"):
        (tmp_path / "found" / name).write_bytes(b"x")
    write_frames(tmp_path / "truth" / "more", ["0.tif"], CELLS[:1])
    status, error, result = evaluated(tmp_path, capsys)
    assert status == 0
    assert result["scores"]["seg_measure"]["value"] == 1
    assert (result["pairs"], result["left_out"]) == (how, 0)
    assert ("go together in order" in error) == (how == "in order")


@pytest.mark.parametrize(
    ("found", "truth", "message"),
    [
        (("t006", "t007", "t014"), ("man_seg006", "man_seg014", "man_seg027"), "none for man_seg0"),
        (("a", "b", "c7"), ("x", "y", "z8"), "none for z8.tif"),
        (("a1", "b1", "b2"), ("x1", "x2", "y2"), "got b1.tif where, in order, x2.tif is"),
        (("a", "b", "c"), ("b", "c", "d"), "none for d.tif"),
        (("a", "b", "b_mask"), ("a", "b", "c"), "none for c.tif"),
        (("a", "b_p", "b_pred"), ("a", "b", "c"), "none for c.tif"),
        (("a", "b_mask", "b_pred"), ("a", "b", "c"), "b_mask.tif and b_pred.tif, which mean the"),
        (("a", "b", "c"), ("a", "b_gt", "b_mask"), "b_gt.tif and b_mask.tif, which mean the same"),
        (("d0.5", "d0.25", "e"), ("d0.5_gt", "d0.05_gt", "e"), "none for d0.05_gt.tif"),
    ],
)
def test_names_that_contradict_each_other_are_one_line(tmp_path, capsys, found, truth, message):
    write_frames(tmp_path / "found", [f"{name}.tif" for name in found])
    write_frames(tmp_path / "truth", [f"{name}.tif" for name in truth])
    status, error, result = evaluated(tmp_path, capsys)
    assert (status, result) == (2, None)
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("found", "truth"),
    [
        (("dose0.5", "dose0.05", "dose0.005"), ("dose0.5", "dose0.05", "dose0.005")),
        (("1", "image1", "image_1"), ("1", "image1", "image_1")),
        (("1-labels", "image1-labels", "1x-labels"), ("1", "image1", "1x")),
        (("A", "a", "a_mask"), ("A", "a", "a_mask")),
    ],
)
def test_names_that_are_alike_go_with_their_own(tmp_path, capsys, found, truth):
    write_frames(tmp_path / "found", [f"{name}.tif" for name in found])
    write_frames(tmp_path / "truth", [f"{name}.tif" for name in truth])
    status, error, result = evaluated(tmp_path, capsys)
    assert (status, error) == (0, "")
    assert result["scores"]["seg_measure"]["slices"] == [1, 1, 1]
    assert (result["pairs"], result["left_out"]) == ("by name", 0)


def test_what_has_its_own_name_needs_no_other(tmp_path, capsys):
    write_frames(tmp_path / "found", ["a.tif", "a_mask.tif", "b.tif"])
    write_frames(tmp_path / "truth", ["a.tif", "b_gt.tif"], CELLS[::2])
    status, error, result = evaluated(tmp_path, capsys)
    assert (status, error) == (
        0,
        "prediction: 1 file has no labels and is left out, a_mask.tif\n",
    )
    assert result["scores"]["seg_measure"]["slices"] == [1, 1]


@settings(deadline=None)
@given(st.sets(st.integers(0, 1200), min_size=1), st.data())
def test_numbers_never_go_with_others(numbers, data):
    annotated = data.draw(st.sets(st.sampled_from(sorted(numbers)), min_size=1))
    digits = data.draw(st.sampled_from([1, 3, 4]))
    frames = [Path(f"t{number:0{digits}}.tif") for number in numbers]
    labels = [Path(f"man_seg{number:03}.tif") for number in annotated]
    found = pair_labels(data.draw(st.permutations(frames)), data.draw(st.permutations(labels)))
    assert [int(frame.stem[1:]) for frame, _ in found.pairs] == sorted(annotated)
    assert all(int(frame.stem[1:]) == int(label.stem[7:]) for frame, label in found.pairs)
    assert [int(frame.stem[1:]) for frame in found.left_out] == sorted(numbers - annotated)
    other = Path(f"man_seg{data.draw(st.integers(1201, 1300))}.tif")
    with pytest.raises(InputError, match=f"prediction: got none for {other.name}, "):
        pair_labels(frames, [*labels, other])


def test_nothing_is_left_out_in_order(tmp_path, capsys):
    write_frames(tmp_path / "found", ["a.tif", "b.tif", "c.tif"])
    write_frames(tmp_path / "truth", ["x.tif", "y.tif"], CELLS[:2])
    status, error, _ = evaluated(tmp_path, capsys)
    assert status == 2
    assert "got 3 files, expected 2 as the labels; names such as a.tif and x.tif do not" in error


@pytest.mark.parametrize("pattern", ["mask{:03}.tif", "t{}.tif"])
def test_the_layout_of_the_cell_tracking_challenge(tmp_path, capsys, pattern):
    numbers = [6, 10, 14]
    frames = np.zeros((20, 24, 24), np.uint16)
    frames[numbers] = CELLS
    write_frames(tmp_path / "found", [pattern.format(number) for number in range(20)], frames)
    write_frames(tmp_path / "truth", [f"man_seg{number:03}.tif" for number in numbers])
    status, error, result = evaluated(tmp_path, capsys)
    assert status == 0
    assert error == (
        f"prediction: 17 files have no labels and are left out, the first {pattern.format(0)}\n"
    )
    assert result["left_out"] == 17
    assert result["scores"]["seg_measure"]["slices"] == [1, 1, 1]
    assert evaluated(tmp_path, capsys, "-q")[:2] == (0, "")
    (tmp_path / "found" / pattern.format(10)).unlink()
    status, error, result = evaluated(tmp_path, capsys)
    assert (status, result) == (2, None)
    assert "prediction: got none for man_seg010.tif" in error


def test_stacks_of_two_folders_are_compared_one_by_one(tmp_path, capsys):
    # As many slices in all, but not in each.
    write_frames(tmp_path / "found", ["a.tif", "b.tif"], [CELLS[:2], CELLS[2:]])
    write_frames(tmp_path / "truth", ["a.tif", "b.tif"], [CELLS[:1], CELLS[1:]])
    status, error, _ = evaluated(tmp_path, capsys)
    assert status == 2
    assert error.endswith("1 slices of 24 x 24 as the labels (a.tif with a.tif)\n")


def test_a_folder_and_a_stack_go_together_in_the_order_of_numbers(tmp_path, capsys):
    write_frames(tmp_path / "found", ["t9.tif", "t10.tif", "t11.tif"])
    write_tiff(tmp_path / "truth.tif", CELLS)
    status, error, result = evaluated(tmp_path, capsys)
    assert (status, error) == (0, "")
    assert result["scores"]["seg_measure"]["value"] == 1
    assert result["pairs"] == "in order"


def test_a_file_and_a_folder_of_one_other_file(tmp_path, capsys):
    write_tiff(tmp_path / "t006.tif", CELLS[0])
    write_frames(tmp_path / "truth", ["man_seg014.tif"], CELLS[:1])
    command = ["evaluate", str(tmp_path / "t006.tif"), str(tmp_path / "truth")]
    assert main(command) == 0
    assert capsys.readouterr().err == (
        "prediction and labels share no names: t006.tif is compared with man_seg014.tif\n"
    )
    (tmp_path / "truth" / "man_seg014.tif").rename(tmp_path / "truth" / "man_seg006.tif")
    assert main(command) == 0
    assert capsys.readouterr().err == ""


def test_colours_of_labels_are_classes_in_the_order_of_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes = np.zeros((24, 24), np.uint8)
    classes[2:8, 2:8], classes[10:16, 2:8], classes[2:8, 12:20] = 1, 2, 3
    # By brightness red, the third as a number, would be before green.
    colours = np.array([[0, 0, 0], [0, 0, 255], [0, 255, 0], [255, 0, 0]], np.uint8)
    write_png(tmp_path / "colours.png", colours[classes])
    write_tiff(tmp_path / "classes.tif", classes)
    write_png(tmp_path / "grey.png", np.stack([classes * np.uint8(80)] * 3, -1))
    hexadecimal = ["#" + colour.tobytes().hex() for colour in colours]
    for labels, values in (("colours.png", hexadecimal), ("grey.png", ["0", "80", "160", "240"])):
        found = scores_of("classes.tif", labels, "--classes", "--values", *values)["scores"]
        assert len(found) == 6
        assert {score["value"] for score in found.values()} == {1.0}
    found = scores_of("classes.tif", "colours.png")["scores"]
    assert found["seg_measure"]["value"] == 1


def classes_of(truth, prediction, *arguments):
    """Scores of two small maps of classes."""
    write_png(Path("truth.png"), np.array(truth, np.uint8))
    write_tiff(Path("found.tif"), np.array(prediction, np.uint8))
    found = scores_of("found.tif", "truth.png", "--classes", *arguments)["scores"]
    return {name: score["value"] for name, score in found.items() if name.startswith("iou")}


WIDE = np.repeat(np.repeat([[0, 0, 2, 2]], 12, 0), 6, 1)


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        (WIDE, WIDE, {2: 1.0}),
        (WIDE, WIDE // 2, {1: 0.0, 2: 0.0}),
        (WIDE, 0 * WIDE, {2: 0.0}),
        (0 * WIDE, WIDE, {2: 0.0}),
        (WIDE + 7, WIDE + 7, {7: 1.0, 9: 1.0}),
        (np.roll(WIDE, 6, 1), WIDE, {2: 1 / 3}),
        (np.where(np.indices(WIDE.shape)[1] < 3, 128, WIDE // 2 * 255), WIDE, {1: 0.0, 2: 1.0}),
    ],
)
def test_class_2_is_class_2(tmp_path, monkeypatch, truth, prediction, expected):
    monkeypatch.chdir(tmp_path)
    found = classes_of(truth, prediction)
    assert found == {f"iou of class {number}": value for number, value in expected.items()}


def test_classes_that_are_nowhere_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    classes_of(WIDE, WIDE)
    assert main(["evaluate", "found.tif", "truth.png", "--classes"]) == 0
    assert "class 1 occurs on neither side and is left out" in capsys.readouterr().err


def test_a_class_counts_in_the_slices_that_have_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = np.stack([WIDE, 0 * WIDE, 0 * WIDE]).astype(np.uint8)
    prediction = np.stack([WIDE, WIDE, 0 * WIDE]).astype(np.uint8)
    write_tiff(tmp_path / "truth.tif", truth)
    write_tiff(tmp_path / "found.tif", prediction)
    found = scores_of("found.tif", "truth.tif", "--classes")["scores"]["dice of class 2"]
    assert found == {"value": pytest.approx(2 / 3), "threshold": None, "slices": [1.0, 0.0, None]}


def test_the_table_of_what_classes_were_taken_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    truth = np.kron([[0, 80, 160, 160, 255]], np.ones((12, 6))).astype(np.uint8)
    found = np.kron([[0, 1, 1, 2, 2]], np.ones((12, 6))).astype(np.uint8)
    write_png(tmp_path / "truth.png", truth)
    write_tiff(tmp_path / "found.tif", found)
    line = "found.tif truth.png --classes --values 0 80 160 --ignore 255"
    assert scores_of(*line.split())["confusion"] == [[72, 0, 0], [0, 72, 0], [0, 72, 72]]
    capsys.readouterr()
    assert main(["evaluate", *line.split()]) == 0
    rows = [row.split() for row in capsys.readouterr().out.splitlines()[-3:]]
    assert rows[1:] == [
        ["class", "1", "72", "0.0%", "100.0%", "0.0%"],
        ["class", "2", "144", "0.0%", "50.0%", "50.0%"],
    ]


def test_values_of_classes_are_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    binary = WIDE // 2 * 255
    write_png(Path("truth.png"), binary.astype(np.uint8))
    for prediction in (WIDE, WIDE // 2):
        write_tiff(Path("found.tif"), prediction.astype(np.uint8))
        assert main(["evaluate", "found.tif", "truth.png", "--classes"]) == 2
        assert "labels: got the values 0, 255 and classes up to" in capsys.readouterr().err
    assert classes_of(binary, WIDE, "--values", "0", "128", "255") == {"iou of class 2": 1.0}
    assert classes_of(binary, WIDE // 2, "--values", "0", "255") == {"iou of class 1": 1.0}
    line = ["evaluate", "found.tif", "truth.png", "--classes", "--values", "0", "128"]
    assert main(line) == 2
    assert "labels: got the value 255, expected one of --values 0 128" in capsys.readouterr().err
    write_png(Path("truth.png"), np.array([[0, 0, 0], [255, 0, 0]], np.uint8)[WIDE // 2])
    assert main(["evaluate", "found.tif", "truth.png", "--classes"]) == 2
    assert "labels: got the colours #000000, #ff0000, expected" in capsys.readouterr().err


def test_ignored_pixels_count_in_no_score(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    columns = np.indices(WIDE.shape)[1]
    truth = np.where(columns < 8, 255, np.where(columns < 9, 254, WIDE))
    found = np.where(columns < 4, 3, np.where(columns < 9, 0, WIDE))
    values = ["--ignore", "255", "254"]
    assert classes_of(truth, found, *values) == {"iou of class 2": 1.0}
    mapped = np.where(truth == 2, 80, truth)
    assert classes_of(mapped, found // 2, *values, "--values", "0", "80") == {"iou of class 1": 1.0}
    classes_of(truth, found, *values)
    write_tiff(Path("map.tif"), (found > 0).astype(np.float32))
    assert main(["evaluate", "map.tif", "truth.png", *values]) == 0
    out, error = capsys.readouterr()
    assert out.splitlines()[0].split()[:2] == ["iou", "1.000000"]
    assert out.splitlines()[1].split()[:2] == ["dice", "1.000000"]
    assert "labels: 37.5% of the pixels are ignored" in error
    line = ["evaluate", "map.tif", "truth.png", *values, "--metrics", "rand_error"]
    assert main(line) == 2
    assert "--ignore: got it with rand_error, from which no pixels" in capsys.readouterr().err
    assert main(["evaluate", "map.tif", "truth.png", "--ignore", "9"]) == 2
    assert "ignore: got 9, expected values that the labels have" in capsys.readouterr().err


def test_ignored_pixels_are_of_no_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = np.zeros((20, 24), np.uint16)
    cells[2:8, 2:8], cells[10:16, 2:8], cells[2:8, 14:20] = 1, 2, 3
    truth = np.where(cells == 2, 65535, cells).astype(np.uint16)
    truth[2:8, 8:10] = 65535
    found = np.where(cells == 2, 0, cells).astype(np.uint16)
    found[2:8, 8:10] = 1
    write_tiff(tmp_path / "truth.tif", truth)
    write_tiff(tmp_path / "found.tif", found)
    line = ["found.tif", "truth.tif", "--metrics", "seg_measure"]
    assert scores_of(*line)["scores"]["seg_measure"]["value"] < 0.9
    assert scores_of(*line, "--ignore", "65535")["scores"]["seg_measure"]["value"] == 1


@pytest.mark.parametrize("quality", [75, 95, 100])
def test_labels_of_a_jpeg_are_cut_at_half(tmp_path, monkeypatch, capsys, quality):
    monkeypatch.chdir(tmp_path)
    rows, columns = np.indices((64, 64))
    disc = (rows - 30) ** 2 + (columns - 28) ** 2 < 250
    Image.fromarray(disc * np.uint8(255)).save("truth.jpg", quality=quality)
    write_tiff(tmp_path / "found.tif", disc.astype(np.float32))
    found = scores_of("found.tif", "truth.jpg", "--metrics", "iou")["scores"]["iou"]["value"]
    assert found == 1
    assert main(["evaluate", "found.tif", "truth.jpg", "--metrics", "iou"]) == 0
    assert "labels: blurred, as by a JPEG or by resizing, and cut at" in capsys.readouterr().err


def test_labels_that_are_nearly_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = np.zeros((20, 24), np.float32)
    cells[2:8, 2:8], cells[10:16, 2:8] = 1, 2
    write_tiff(tmp_path / "truth.tif", cells * np.float32(0.99999994) + np.float32(1e-7))
    write_tiff(tmp_path / "found.tif", cells)
    found = scores_of("found.tif", "truth.tif", "--metrics", "seg_measure")["scores"]
    assert found["seg_measure"]["value"] == 1
    write_tiff(tmp_path / "map.tif", (cells > 0).astype(np.float32))
    found = scores_of("map.tif", "truth.tif", "--metrics", "iou")["scores"]
    assert found["iou"]["value"] == 1


def test_more_axes_are_refused(stack, tmp_path, capsys):
    write_tiff(tmp_path / "deep.tif", np.stack([stack[1]] * 3), axes="TZYX")
    assert main(["evaluate", "deep.tif", "labels.tif"]) == 2
    assert (
        "deep.tif has 4 axes, TZYX of sizes (3, 2, 24, 24), expected (H, W)"
        in capsys.readouterr().err
    )


def test_channels_are_not_scored(stack, tmp_path, capsys):
    write_tiff(tmp_path / "two.tif", np.stack([stack[1], stack[1]], 1), axes="ZCYX")
    assert main(["evaluate", "two.tif", "labels.tif"]) == 2
    assert (
        "prediction: got 2 channels in prediction, expected 1, or 3 of a colour image"
        in capsys.readouterr().err
    )


def test_the_same_on_both_sides_is_remarked(tmp_path, capsys):
    write_tiff(tmp_path / "a.tif", CELLS)
    assert main(["evaluate", str(tmp_path / "a.tif"), str(tmp_path / "a.tif")]) == 0
    assert capsys.readouterr().err.startswith("prediction and labels are the same: ")


def test_help_says_how_files_go_together(capsys):
    assert main(["evaluate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "by the numbers in their names (t9.tif and man_seg009.tif)" in text
    assert "Predictions without labels are left out" in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((CELLS > 0).astype(np.uint8), "prediction: it holds one object only and the labels 3; se"),
        ((CELLS > 0) * np.uint8(255), "prediction: it holds one object only and the labels 3; se"),
        (
            (CELLS > 0) * np.uint8([[1], [2]] * 12),
            "prediction: most of its 2 numbers lie in several pieces; seg_",
        ),
        (
            np.random.default_rng(0).integers(0, 255, CELLS.shape, np.uint8),
            "prediction: most of its 254 numbers lie in several pieces; seg_measure needs",
        ),
        (CELLS, None),
    ],
)
def test_cells_that_are_not_numbered_apart_are_remarked(tmp_path, capsys, wrong, message):
    write_tiff(tmp_path / "found.tif", wrong)
    write_tiff(tmp_path / "truth.tif", CELLS)
    status, error, result = evaluated(tmp_path, capsys)
    assert status == 0
    assert list(result["scores"]) == ["seg_measure"]
    assert error.startswith(message or "")
    assert error.count("\n") == (message is not None)
    assert evaluated(tmp_path, capsys, "-q")[1] == ""


def test_labels_that_are_no_mask_are_remarked(stack, tmp_path, capsys):
    noisy = np.random.default_rng(0).integers(0, 18, stack[0].shape, np.uint8)
    write_tiff(tmp_path / "noisy.tif", noisy)
    assert main(["evaluate", "maps.tif", "noisy.tif"]) == 0
    assert capsys.readouterr().err == (
        "labels: got 18 values in many small pieces, and all but 0 is taken for cell; an image, a "
        "JPEG or a resized mask is no mask\n"
    )


def test_slices_of_nothing_but_membrane(stack, tmp_path, capsys):
    labels, maps = np.concatenate([stack[0], stack[0][:1] * 0]), np.concatenate([stack[1]] * 2)[:3]
    write_tiff(tmp_path / "labels.tif", labels)
    write_tiff(tmp_path / "maps.tif", maps)
    found = scores_of("maps.tif", "labels.tif", "--metrics", "rand_error", "v_rand")["scores"]
    assert found["rand_error"]["value"] == metrics.rand_error(*stack)
    assert found["v_rand"]["value"] == pytest.approx(metrics.v_rand(*stack) * 2 / 3)
    assert main(["evaluate", "maps.tif", "labels.tif", "--metrics", "rand_error", "v_rand"]) == 0
    assert capsys.readouterr().err == (
        "labels: nothing but membrane in slice 2, which counts as 0 in v_rand, as in the "
        "challenge's program\n"
    )
    assert main(["evaluate", "maps.tif", "labels.tif"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_numbers_of_many_cells_are_no_probabilities(dtype):
    cells = np.zeros((1, 60, 60), dtype)
    for number in range(40):
        top, left = 6 * (number // 8), 7 * (number % 8)
        cells[0, top : top + 4, left : left + 5] = number + 1
    with pytest.raises(InputError, match="whole numbers up to 40, expected probabilities"):
        probabilities(cells)


def test_a_weak_map_of_eight_bits_is_one():
    weak = np.random.default_rng(0).integers(0, 100, (1, 60, 60), np.uint8)
    assert probabilities(weak).max() == np.float32(99 / 255)


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
