"""The experiments on detection and classification, and what is stored of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from unet_np.cli import main
from unet_np.data import Dataset
from unet_np.experiments.protocol import Places
from unet_np.experiments.tasks import classification, detection
from unet_np.images import read_image
from unet_np.tasks.heat_map import find_objects

RESULTS = Path(__file__).resolve().parent.parent / "results"


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "runs", tmp_path / "results", ["test"], lambda _: None, False)


@pytest.mark.parametrize("name", ["detect", "classify"])
def test_a_quick_run_end_to_end(name, tmp_path, capsys):
    command = ["experiment", name, "--quick", "--threads", "1", "-q"]
    command += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert main(command) == 0
    table = capsys.readouterr().out
    result = json.loads((tmp_path / f"results/{name}.json").read_text("utf-8"))
    assert result["experiment"] == name
    assert result["quick"]
    assert f"{name}:" in table
    assert "figures say nothing" in table
    pictures = list((tmp_path / "results").glob("*.png"))
    assert len(pictures) == 1
    assert read_image(pictures[0]).ndim == 3
    # What is there is read, and not taken for that of other settings.
    assert main(command) == 0
    assert capsys.readouterr().out == table
    assert main([*command, "--steps", "13"]) == 2
    assert "steps: got 13, expected 12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "--fold", "1"], "--fold: got the experiment detect, expected em"),
        (["detect", "--fold", "0"], "--fold: got the experiment detect, expected em"),
        (["border", "--averaging", "0"], "--averaging: got the experiment border, expected em"),
        (["nuclei", "--fold", "0"], "--fold: got the experiment nuclei, expected em"),
        (["nuclei", "--learning-rate", "0"], "--learning-rate: got the experiment nuclei"),
        (["classify", "--draws", "0"], "--draws: got the experiment classify, expected nuclei"),
        (["em", "--draws", "2"], "--draws: got the experiment em, expected nuclei"),
        (["classify", "--search"], "--search: got the experiment classify, expected em"),
        (["classify", "--averaging", "7"], "--averaging: got the experiment classify"),
        (
            ["detect", "--ablation"],
            "--ablation: got the experiment detect, expected em, u373 or hela",
        ),
        (["detect", "--quick", "--steps", "0"], "steps: got 0, expected an integer >= 1"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys, tmp_path):
    assert main(["experiment", *arguments, "--runs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# Detection


def test_binning_keeps_objects_where_they_are():
    instances = np.zeros((1, 40, 60), np.uint16)
    instances[0, 8:24, 12:44] = 7
    markers = np.zeros_like(instances)
    markers[0, 15:18, 27:30] = 3
    whole = Dataset("mine", instances * 10, instances, instances, markers, instances == 99)
    small = detection.binned(whole, 4)
    assert small.images.shape == (1, 10, 15)
    assert small.images.max() == 70
    assert small.markers.max() == 3
    big, little = find_objects(whole.instances[0]), find_objects(small.instances[0])
    assert little.centres * 4 + 1.5 == pytest.approx(big.centres)
    assert little.sizes * 4 == pytest.approx(big.sizes)


def perfect(dataset):
    return [
        detection.Detections(one.centres, np.full(len(one.centres), 0.9), one.boxes)
        for one in detection.truth(dataset)
    ]


def test_scores_of_the_truth_are_perfect():
    part = detection.quick_parts()[0]
    found = detection.scores(part.test, perfect(part.test), detection.radius_of(part), 3)
    assert found["precision"] == found["recall"] == found["f1"] == 1
    assert found["distance"] == 0
    assert found["overlap"] == 1
    assert found["boxes"] == found["found"]
    assert len(found["f1_images"]) == len(part.test)


def test_the_threshold_is_the_best_of_the_guide():
    part = detection.quick_parts()[0]
    guide = perfect(part.test)
    extra = np.array([[0.0, 0.0]])
    worse = [
        detection.Detections(
            np.concatenate([one.centres, extra]),
            np.append(one.scores, 0.55),
            np.concatenate([one.boxes, [[0, 0, 1, 1]]]),
        )
        for one in guide
    ]
    assert detection.best_threshold(part.test, worse, detection.radius_of(part)) == 0.6
    assert detection.best_threshold(part.test, guide, detection.radius_of(part)) == 0.2


def test_no_image_serves_for_two_things():
    part = detection.quick_parts()[0]
    assert not set(part.side.ids) & set(part.test.ids)
    dataset, fold = classification.dataset_and_fold(True)
    used = [*fold.training, *fold.validation, *fold.test]
    assert sorted(used) == list(range(len(dataset)))


# Classification


def test_the_line_finds_what_is_linear():
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(300, 9)).astype(np.float32)
    true = rng.normal(size=9)
    labels = (patches @ true > 0.8).astype(int)
    weights = classification.fit_line(patches, labels, 1e-3)
    assert classification.auc(labels, classification.line_probabilities(patches, weights)) > 0.99
    cosine = weights[:-1] @ true / np.linalg.norm(weights[:-1]) / np.linalg.norm(true)
    assert cosine > 0.95


def test_the_line_is_at_the_minimum_that_torch_sees():
    rng = np.random.default_rng(1)
    patches = rng.normal(size=(200, 5)).astype(np.float32)
    labels = (rng.random(200) < 1 / (1 + np.exp(-patches[:, 0] * 2))).astype(int)
    penalty = 0.1
    weights = torch.from_numpy(classification.fit_line(patches, labels, penalty))
    weights.requires_grad_(True)
    logits = torch.from_numpy(patches).double() @ weights[:-1] + weights[-1]
    each = torch.from_numpy((0.5 / (np.bincount(labels) / len(labels)))[labels])
    energy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(labels).double(), each
    )
    (energy + penalty / 2 * (weights[:-1] ** 2).sum()).backward()
    assert weights.grad.abs().max() < 1e-4


def test_area_under_the_curve_counts_pairs():
    rng = np.random.default_rng(2)
    labels, found = rng.integers(0, 2, 60), rng.integers(0, 9, 60) / 8
    pairs = [(a > b) + 0.5 * (a == b) for a in found[labels == 1] for b in found[labels == 0]]
    assert classification.auc(labels, found) == pytest.approx(np.mean(pairs))


def test_points_are_the_same_again_and_others_elsewhere():
    dataset = Dataset("mine", np.zeros((4, 50, 60)))
    first = classification.draw_points(dataset, (1, 3), 20, 0)
    again = classification.draw_points(dataset, (3,), 20, 0)
    assert np.array_equal(first[1][1], again[0][1])
    assert not np.array_equal(first[0][1], first[1][1])
    assert not np.array_equal(classification.draw_points(dataset, (3,), 20, 1)[0][1], again[0][1])


# What is stored in the repository


def stored(name):
    path = RESULTS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{name} has not been run")
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("name", ["detect", "classify"])
def test_a_stored_result_says_where_it_comes_from(name):
    result = stored(name)
    assert result["command"].startswith(f"unet-np experiment {name}")
    assert not result["quick"]
    assert result["commit"]
    assert {"images", "labels"} <= set(result["data"]["sha256"])
    assert result["recipe"]["seed"] == result["seed"]


def test_stored_detections_add_up():
    for name, part in stored("detect")["parts"].items():
        found = part["scores"]
        hits, extra, missed = (found[key] for key in ("found", "spurious", "missed"))
        assert found["precision"] == pytest.approx(hits / (hits + extra), rel=1e-5)
        assert found["recall"] == pytest.approx(hits / (hits + missed), rel=1e-5)
        assert found["f1"] == pytest.approx(2 * hits / (2 * hits + extra + missed), rel=1e-5)
        assert found["distance"] <= part["radius"]
        assert len(found["f1_images"]) == len(part["test"])
        assert not set(part["test"]) & set(part["training"] + part["validation"])
        assert not set(part["training"]) & set(part["validation"])
        assert (RESULTS / f"detect-{name}.png").exists()


def test_stored_classes_have_three_answers():
    result = stored("classify")
    assert set(result["scores"]) == {"patches", "unet", "linear"}
    used = [one for part in ("training", "validation", "test") for one in result["fold"][part]]
    assert len(set(used)) == len(used) == 30
    for found in result["scores"].values():
        assert 0.5 < found["auc"] <= 1
