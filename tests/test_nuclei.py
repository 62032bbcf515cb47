"""Nuclei from elsewhere: no image serves for two things, scores by hand, a quick run end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np import data
from unet_np.cli import main
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.experiments import protocol, runner
from unet_np.experiments.nuclei import pictures as nuclei_pictures
from unet_np.experiments.nuclei import scores as scoring
from unet_np.experiments.nuclei import study as nuclei
from unet_np.experiments.nuclei import trials as nuclei_trials
from unet_np.experiments.nuclei.plan import Plan, Trial, plan
from unet_np.experiments.protocol import Places
from unet_np.images import read_image
from unet_np.network.unet import UNet

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_data(request, monkeypatch, tmp_path):
    """Quick runs take synthetic data here, whatever lies on this machine."""
    if request.node.get_closest_marker("data") is None:
        monkeypatch.setenv(data.VARIABLE, str(tmp_path / "no data"))
    monkeypatch.chdir(tmp_path)


def two_squares(gap):
    """Two nuclei of 8 by 8 pixels, `gap` pixels apart, one brighter than the other."""
    cells = np.zeros((24, 40), np.uint16)
    cells[8:16, 8:16], cells[8:16, 16 + gap : 24 + gap] = 1, 2
    return cells


# The split


def test_no_image_serves_for_two_things():
    whole = plan()
    split = whole.split(90)
    parts = [set(part) for part in (split.test, split.validation, *split.draws)]
    assert [len(part) for part in parts] == [20, 2, 16, 16]
    assert len(set.union(*parts)) == 54
    assert set.union(*parts) <= set(range(90))


@pytest.mark.parametrize("change", [{"steps": 7}, {"seed": 3}, {"base_channels": 8}])
def test_the_test_images_stay_whatever_the_settings(change):
    assert plan(**change).split(90) == plan().split(90)


def test_too_few_images_are_one_line():
    with pytest.raises(InputError, match=r"^images: got 53, expected at least 54"):
        plan().split(53)


def test_smaller_sets_lie_in_larger_ones(tmp_path):
    bench = tiny_bench(tmp_path)
    seen = []
    for count in (1, 2):
        trial = Trial("", True, count, 0, 0.01)
        seen.append(set(nuclei_trials._settings(bench, trial)["training"]))
    assert seen[0] < seen[1]


def test_the_trainer_sees_the_trials_images_and_no_test_image(tmp_path, monkeypatch):
    from unet_np.training.samples import split

    bench, seen = tiny_bench(tmp_path), {}

    def look(chosen, dataset, fold, folder, *rest):
        seen["split"] = split(chosen.fold_config(fold, folder), dataset)
        seen["start"] = chosen.config.start, chosen.unit_variance, chosen.config.augment

    monkeypatch.setattr(runner, "train_fold", look)
    for start in ("u373", ""):
        bench.train(Trial(start, False, 2, 0, 0.01), tmp_path)
        assert seen["split"] == (tuple(sorted(bench.split.draws[0][:2])), bench.split.validation)
        assert not set(bench.split.test) & {i for part in seen["split"] for i in part}
        # Scaling to unit variance would undo the weights that a fine-tuning begins with.
        assert seen["start"] == (start, not start, False)


# Scores


def test_touching_nuclei_are_merged_and_apart_they_are_found():
    for gap, expected in ((0, "merged"), (2, "found")):
        cells = two_squares(gap)[None]
        found = scoring.find_nuclei((cells[0] > 0).astype(float), 0.5, 1)[None]
        kind = scoring.kinds(cells * 10.0, cells)
        result = scoring.score(cells, found, kind)
        assert result["nuclei"][expected] == 2
        assert kind[0, 1]["touching"] == (gap == 0)
        assert result["kinds"]["touching"]["number"] == (2 if gap == 0 else 0)
    assert result["scores"]["seg_measure"]["value"] == 1


def test_kinds():
    cells = np.zeros((1, 30, 60), np.uint16)
    for number, left in enumerate((5, 20, 35, 45), 1):
        cells[0, 10:20, left : left + 8] = number
    cells[0, 12:14, 56:58], cells[0, 25:30, 5:13] = 5, 6
    light = np.array([0, 10, 10, 10, 2, 10, 10])[cells]
    kind = scoring.kinds(light, cells)
    only = {name: {n for (_, n), v in kind.items() if v[name]} for name in kind[0, 1]}
    assert only == {"touching": set(), "dim": {4}, "small": {5}, "at_the_border": {6}}


def test_spurious_segments_cost_f1_and_not_seg():
    cells, found = two_squares(2)[None], two_squares(2)[None].copy()
    found[0, 20:23, 2:6] = 3
    result = scoring.score(cells, found, scoring.kinds(cells * 1.0, cells))
    assert result["scores"]["seg_measure"]["value"] == 1
    assert result["nuclei"]["spurious"] == 1
    assert result["scores"]["f1"]["value"] == pytest.approx(2 * 2 / (2 + 3))


def test_an_image_without_nuclei_scores_nothing():
    cells = np.zeros((2, 24, 40), np.uint16)
    cells[0] = two_squares(2)
    result = scoring.score(cells, cells, scoring.kinds(cells * 1.0, cells))
    for name in ("seg_measure", "dice", "f1"):
        assert result["scores"][name]["slices"] == [1, None]


@given(
    st.lists(st.integers(0, 255), min_size=2, max_size=60).filter(lambda v: len(set(v)) > 1),
)
@settings(deadline=None, max_examples=60)
def test_otsu_finds_the_least_variance_within(values):
    """Against the definition, by trying each split between two grey values."""
    image = np.array(values, np.float64)

    def within(t):
        low, high = image[image <= t], image[image > t]
        return (low.var() * low.size + high.var() * high.size) / image.size

    levels = np.unique(image)[:-1]
    best = min(within(t) for t in levels)
    found = scoring.otsu(image)
    assert image.min() <= found < image.max()
    # The histogram's bins are a 256th of the range wide.
    assert within(found) <= best + (np.ptp(image) / 256) * np.ptp(image)


def test_otsu_parts_two_groups_in_the_middle():
    assert 60 < scoring.otsu(np.array([10, 12, 11, 120, 118])) < 70


def test_a_blank_image_has_no_nuclei():
    for find in (scoring.otsu_nuclei, lambda i, a: scoring.seeded_nuclei(i, a, 5)):
        assert find(np.full((20, 20), 7, np.uint8), 1).max() == 0


def test_seeds_cut_touching_nuclei_apart():
    row, column = np.indices((30, 60))
    image = np.zeros((30, 60))
    for centre in (14, 29, 46):
        image[np.hypot(row - 15, column - centre) < 9] = 100
    assert scoring.otsu_nuclei(image, 1).max() == 1
    found = scoring.seeded_nuclei(image, 1, 5)
    assert found.max() == 3
    assert len({found[15, centre] for centre in (14, 29, 46)}) == 3
    assert ((found > 0) == (image > 0)).all()


def test_the_threshold_is_of_the_validation_images(tmp_path):
    bench = tiny_bench(tmp_path)
    changed = bench.dataset.instances.copy()
    changed[list(bench.split.test)] = 0
    other = tiny_bench(tmp_path, replace(bench.dataset, instances=changed))

    def predict(image):
        return np.clip(image / image.max(), 0, 1).astype(np.float32)

    other.kinds = bench.kinds
    first = bench.score(predict)
    known = other.cells(other.split.validation)
    maps = other.maps(predict, "validation")
    assert scoring.choose_threshold(known, maps, other.min_area)[0] == first["threshold"]
    assert other.min_area == bench.min_area


@pytest.mark.parametrize("enlarge", [1, 2, 3])
@pytest.mark.parametrize("invert", [False, True])
def test_seen_through(invert, enlarge):
    image = np.add.outer(np.linspace(0, 40, 12), np.linspace(0, 200, 18)).astype(np.uint8)
    shapes = []

    def predict(seen):
        shapes.append(seen.shape)
        return (seen - seen.min()) / np.ptp(seen)

    found = nuclei_trials.seen_through(predict, invert, enlarge)(image)
    assert found.shape == image.shape
    assert shapes == [(12 * enlarge, 18 * enlarge)]
    assert (found[0, 0] > found[-1, -1]) == invert


# The whole


def tiny(**changes):
    config = plan(quick=True, steps=2, **changes).config
    return Plan(config, (1,), 1, 2, 1, (0.003,), 2, quick=True)


def tiny_bench(tmp_path, dataset=None):
    chosen = plan(quick=True)
    places = Places(tmp_path / "runs", tmp_path / "results", ["x"], lambda _: None, False)
    return nuclei_trials.Bench(chosen, dataset or chosen.dataset(), places)


def test_a_run_end_to_end_and_again(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    said = []
    places = Places(tmp_path / "runs", tmp_path / "results", ["experiment"], said.append, False)
    monkeypatch.setattr(nuclei, "AS_THEY_ARE", nuclei.ZERO_SHOT[1:2])
    monkeypatch.setattr(nuclei, "ZERO_SHOT", nuclei.ZERO_SHOT[1:2])
    result = nuclei.Nuclei(tiny()).run(places)
    assert json.loads(places.result("nuclei").read_text()) == json.loads(json.dumps(result))
    check_result(result, counts=[1], draws=1)
    assert result["quick"]
    assert "its figures say nothing" in said[-1]
    for name in ("curve", "images", "compared"):
        picture = read_image(places.results / f"nuclei-{name}.png")
        assert picture.shape[-1] in (3, 4)
        assert np.ptp(picture) > 100
    # What is finished is not done again.
    monkeypatch.setattr(runner, "train_fold", None)
    again = nuclei.Nuclei(tiny()).run(places)
    assert again["trials"] == result["trials"]
    with pytest.raises(InputError, match=r"^seed: got 1, expected 0, with which .*trial\.json was"):
        nuclei.Nuclei(tiny(seed=1)).run(places)


def check_result(result, counts, draws):
    assert result["draws_done"] == draws
    arms = {(line["start"], line["augment"]) for line in result["summary"]}
    assert arms == set(nuclei.ARMS)
    for line in result["summary"]:
        assert line["images"] == counts
        for metric in nuclei.METRICS:
            assert all(0 <= value <= 1 for value in line[metric])
            assert [len(some) for some in line["draws"][metric]] == [draws] * len(counts)
    split, test = result["split"], set(result["split"]["test"])
    assert not test & {name for part in (split["validation"], *split["draws"]) for name in part}
    numbers = result["nuclei"]
    assert [len(some) for some in numbers["draws"]] == [len(draw) for draw in split["draws"]]
    for trial in result["trials"]:
        assert sum(group["number"] for group in trial["kinds"].values()) >= sum(numbers["test"])
        outcomes = ("found", "split", "merged", "missed")
        assert sum(trial["nuclei"][name] for name in outcomes) == sum(numbers["test"])
    assert len(result["trials"]) == draws * len(counts) * len(nuclei.ARMS)
    for trial in result["trials"]:
        assert not test & set(trial["training"])
        assert len(trial["training"]) == trial["images"]
        assert trial["learning_rate"] == result["rates"][trial["start"] or "scratch"]
        assert len(trial["scores"]["seg_measure"]["slices"]) == len(test)
        assert len({trial["steps"], result["recipe"]["steps"]}) == 1


def test_a_trial_of_before_is_one_with_the_border_term_everywhere(tmp_path):
    bench = tiny_bench(tmp_path)
    trial = Trial("", True, 1, 0, 0.01)
    settings_ = nuclei_trials._settings(bench, trial)
    old = {key: value for key, value in settings_.items() if key != "weight_term"}
    path = bench.folder(f"draw-0/{trial.name}") / "trial.json"
    protocol.write_json(path, old | {"scores": {}})
    with pytest.raises(InputError, match=r"^weight_term: got 'background', expected 'everywhere'"):
        nuclei_trials.run_trial(bench, trial)


def test_the_rate_is_the_validations_best():
    tried = [
        {"learning_rate": rate, "validation_seg": seg}
        for rate, seg in ((0.003, 0.2), (0.01, 0.7), (0.03, 0.7))
    ]
    assert nuclei.best_rate(tried) == 0.01


def test_a_training_that_explodes_is_a_row_with_its_error(tmp_path, monkeypatch):
    from unet_np.errors import TrainingError

    def explode(*_):
        raise TrainingError("step 3: the gradient is not finite; more")

    monkeypatch.setattr(nuclei_trials.Bench, "train", explode)
    row = nuclei_trials.try_rate(tiny_bench(tmp_path), "", 0.01)
    assert row["validation_seg"] == 0
    assert row["error"] == "step 3: the gradient is not finite"


def test_the_command_line(capsys):
    assert main(["experiment", "nuclei", "--fold", "1"]) == 2
    assert main(["experiment", "nuclei", "--ablation"]) == 2
    assert main(["experiment", "nuclei", "--quick", "--draws", "2"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "--fold: got the experiment nuclei, expected em, u373 or hela" in errors[0]
    assert "--ablation: got the experiment nuclei, expected em" in errors[1]
    assert "--draws: got 2, expected 1 to 1" in errors[2]


def test_the_most_crowded_square():
    cells = np.zeros((40, 60), int)
    cells[22:24, 42:44], cells[30:32, 50:52], cells[2:4, 2:4] = 1, 2, 3
    rows, columns = nuclei_pictures.crowded(cells, 20)
    assert set(np.unique(cells[rows, columns])) == {0, 1, 2}
    assert nuclei_pictures.crowded(cells[:10, :10], 20) == (slice(0, 20), slice(0, 20))


@pytest.mark.data
def test_the_images_are_those_of_the_result():
    if not data.is_available("dsb2018"):
        pytest.skip("dsb2018 is not in the cache")
    stored = ROOT / "results" / "nuclei.json"
    if not stored.exists():
        pytest.skip("no result")
    dataset = plan().dataset()
    result = json.loads(stored.read_text())
    assert isinstance(dataset, Dataset)
    assert result["data"]["sha256"] == protocol.data_hashes(dataset)["sha256"]
    assert result["split"] == plan().split(len(dataset)).to_dict(dataset.ids)


def test_the_stored_result():
    stored = ROOT / "results" / "nuclei.json"
    if not stored.exists():
        pytest.skip("no result")
    result = json.loads(stored.read_text())
    assert not result["quick"]
    check_result(result, counts=[1, 2, 4, 8, 16], draws=result["draws_done"])
    assert result["summary"] == nuclei.summary(result["trials"])


def test_the_digest_of_a_start_is_that_of_its_weights(tmp_path):
    digests = []
    for number, (about, seed) in enumerate((({}, 0), ({"cells": "{}"}, 0), ({}, 1))):
        path = tmp_path / f"{number}.safetensors"
        UNet(base_channels=2, depth=1, seed=seed, backend="numpy").save(path, metadata=about)
        digests.append(nuclei_trials.weights_digest(str(path)))
    assert digests[0] == digests[1] != digests[2]
