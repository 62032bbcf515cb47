"""Nuclei from elsewhere: no image serves for two things, scores by hand, a quick run end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np import data, pretrained
from unet_np.cli import main
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.experiments import protocol, runner
from unet_np.experiments.nuclei import pictures as nuclei_pictures
from unet_np.experiments.nuclei import scores as scoring
from unet_np.experiments.nuclei import study as nuclei
from unet_np.experiments.nuclei import trials as nuclei_trials
from unet_np.experiments.nuclei.plan import COUNTS, WAYS, Trial, plan
from unet_np.experiments.protocol import Places
from unet_np.images import read_image
from unet_np.metrics import match_objects
from unet_np.network.unet import UNet
from unet_np.tasks.segmentation import RIM, cell_map
from unet_np.weighting.separation import inside_and_rim

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


def test_what_is_compared_with_a_start_differs_from_it_in_nothing_else():
    ways = plan().ways
    assert ways["from-u373"] == ways["wide"] | {"start": "u373"}
    configs = {way: plan().config.replace(**changes) for way, changes in ways.items()}
    outputs = {c.architecture.output_size(c.tile_size) for c in configs.values()}
    assert len(outputs) == 1
    for name in ("u373", "em"):
        assert configs[f"from-{name}"].architecture == pretrained.load(name).architecture


def test_steps_that_are_given_are_those_of_all_ways():
    for chosen in (plan(steps=7), plan(quick=True, steps=7)):
        assert {chosen.config.replace(**way).steps for way in chosen.ways.values()} == {7}
    assert plan(quick=True).ways["from-em"]["start"] == "em"


def test_too_few_images_are_one_line():
    with pytest.raises(InputError, match=r"^images: got 53, expected at least 54"):
        plan().split(53)


def test_smaller_sets_lie_in_larger_ones(tmp_path):
    bench = tiny_bench(tmp_path)
    seen = []
    for count in (1, 2):
        trial = Trial("two-classes", count, 0)
        seen.append(set(nuclei_trials._settings(bench, trial)["training"]))
    assert seen[0] < seen[1]


def test_the_trainer_sees_the_trials_images_and_no_test_image(tmp_path, monkeypatch):
    from unet_np.training.samples import split

    bench, seen = tiny_bench(tmp_path), {}

    def look(chosen, dataset, fold, folder, *rest):
        seen["split"] = split(chosen.fold_config(fold, folder), dataset)
        seen["start"] = chosen.config.start, chosen.unit_variance, chosen.config.rim

    monkeypatch.setattr(runner, "train_fold", look)
    for way, start, rim in (
        ("two-classes", "", 0),
        ("three-classes", "", 2),
        ("wide", "", 0),
        ("from-u373", "u373", 0),
        ("from-em", "em", 0),
    ):
        bench.train(Trial(way, 2, 0), tmp_path)
        assert seen["split"] == (tuple(sorted(bench.split.draws[0][:2])), bench.split.validation)
        assert not set(bench.split.test) & {i for part in seen["split"] for i in part}
        assert seen["start"] == (start, False, rim)


# Scores


def test_touching_nuclei_are_merged_and_apart_they_are_found():
    for gap, expected in ((0, "merged"), (2, "found")):
        cells = two_squares(gap)[None]
        found = scoring.find_nuclei((cells[0] > 0).astype(float), 0.5, 0.5, 1)[None]
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
    chosen = scoring.choose_limits(known, maps, other.min_area)[0]
    assert chosen == (first["seeds"], first["threshold"])
    assert other.min_area == bench.min_area


def test_inverted():
    image = np.add.outer(np.linspace(0, 40, 12), np.linspace(0, 200, 18)).astype(np.uint8)
    np.testing.assert_array_equal(nuclei_trials.inverted(lambda seen: seen)(image), 240.0 - image)


def found(bench, predict, result):
    """The nuclei of the test images, by what a result says of them."""
    limits = [result[name] for name in ("seeds", "threshold", "min_area")]
    maps = [cell_map(one, RIM) for one in bench.maps(predict, "test")]
    return np.stack([scoring.find_nuclei(one, *limits) for one in maps])


def test_three_classes_are_scored_as_nuclei_and_as_classes(tmp_path):
    """A network that is right: all nuclei are found, and nothing is taken for something else."""
    bench = tiny_bench(tmp_path)
    images, cells = bench.dataset.images, bench.dataset.instances

    def predict(image):
        number = next(i for i, one in enumerate(images) if one is image or (one == image).all())
        classes = inside_and_rim(cells[number])
        return np.stack([classes == n for n in range(3)]).astype(np.float32)

    result = bench.score(predict, rim=2)
    # Growth gives the pixels of a rim to the nearest inside, at most a corner amiss.
    assert result["nuclei"]["merged"] == 0
    large = [
        match.jaccard
        for match in match_objects(cells[list(bench.split.test)], found(bench, predict, result))
        if (cells[bench.split.test[match.frame]] == match.label).sum() >= 2 * result["min_area"]
    ]
    assert len(large) == 4
    assert min(large) > 0.95
    assert result["min_area"] < bench.min_area
    table = np.array(result["confusion"])
    assert (table == np.diag(np.diag(table))).all()
    assert table.sum() == sum(images[i].size for i in bench.split.test)


# The whole


def tiny(**changes):
    config = plan(quick=True, steps=2, **changes).config
    return replace(plan(quick=True), config=config, counts=dict.fromkeys(WAYS, (1,)))


def tiny_bench(tmp_path, dataset=None):
    chosen = plan(quick=True)
    places = Places(tmp_path / "runs", tmp_path / "results", ["x"], lambda _: None, False)
    return nuclei_trials.Bench(chosen, dataset or chosen.dataset(), places)


def test_a_run_end_to_end_and_again(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    said = []
    places = Places(tmp_path / "runs", tmp_path / "results", ["experiment"], said.append, False)
    monkeypatch.setattr(nuclei, "AS_THEY_ARE", nuclei.AS_THEY_ARE[:1])
    result = nuclei.Nuclei(tiny()).run(places)
    assert json.loads(places.result("nuclei").read_text()) == json.loads(json.dumps(result))
    check_result(result, counts=dict.fromkeys(WAYS, (1,)), draws=1)
    assert result["quick"]
    assert "its figures say nothing" in said[-1]
    for name in ("curve", "images", "compared", "rims"):
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
    assert {line["way"] for line in result["summary"]} == set(nuclei.NAMES)
    for line in result["summary"]:
        assert line["images"] == list(counts[line["way"]])
        for metric in nuclei.METRICS:
            assert all(0 <= value <= 1 for value in line[metric])
            assert [len(some) for some in line["draws"][metric]] == [draws] * len(line["images"])
    split, test = result["split"], set(result["split"]["test"])
    assert not test & {name for part in (split["validation"], *split["draws"]) for name in part}
    numbers = result["nuclei"]
    assert [len(some) for some in numbers["draws"]] == [len(draw) for draw in split["draws"]]
    for trial in result["trials"]:
        assert sum(group["number"] for group in trial["kinds"].values()) >= sum(numbers["test"])
        outcomes = ("found", "split", "merged", "missed")
        assert sum(trial["nuclei"][name] for name in outcomes) == sum(numbers["test"])
    assert len(result["trials"]) == draws * sum(len(line["images"]) for line in result["summary"])
    for trial in result["trials"]:
        assert not test & set(trial["training"])
        assert len(trial["training"]) == trial["images"]
        assert ("confusion" in trial) == (trial["way"] == "three-classes")
        assert len(trial["scores"]["seg_measure"]["slices"]) == len(test)
        own = result["recipe"] | result["recipe"]["ways"][trial["way"]]
        for name in ("steps", "base_channels", "depth", "norm", "learning_rate", "start"):
            assert trial[name] == own[name]


def test_a_trial_of_other_settings_is_not_taken(tmp_path):
    bench = tiny_bench(tmp_path)
    trial = Trial("two-classes", 1, 0)
    path = bench.folder(f"draw-0/{trial.name}") / "trial.json"
    settings_ = nuclei_trials._settings(bench, trial)
    protocol.write_json(path, settings_ | {"scores": {}})
    assert nuclei_trials.run_trial(bench, trial)["scores"] == {}
    for changed, message in (
        ({"weight_term": "everywhere"}, "weight_term: got 'background', expected 'everywhere'"),
        ({"rim": 2.0}, "rim: got 0.0, expected 2.0"),
    ):
        protocol.write_json(path, settings_ | changed | {"scores": {}})
        with pytest.raises(InputError, match=f"^{message}"):
            nuclei_trials.run_trial(bench, trial)


def test_the_command_line(capsys):
    assert main(["experiment", "nuclei", "--fold", "1"]) == 2
    assert main(["experiment", "nuclei", "--ablation"]) == 2
    assert main(["experiment", "nuclei", "--quick", "--draws", "2"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "--fold: got the experiment nuclei, expected em, u373 or hela" in errors[0]
    assert "--ablation: got the experiment nuclei, expected em, u373 or hela" in errors[1]
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
    check_result(result, counts=COUNTS, draws=2)
    assert result["summary"] == nuclei.summary(result["trials"])


def test_the_digest_of_a_start_is_that_of_its_weights(tmp_path):
    digests = []
    for number, (about, seed) in enumerate((({}, 0), ({"cells": "{}"}, 0), ({}, 1))):
        path = tmp_path / f"{number}.safetensors"
        UNet(base_channels=2, depth=1, seed=seed, backend="numpy").save(path, metadata=about)
        digests.append(nuclei_trials.weights_digest(str(path)))
    assert digests[0] == digests[1] != digests[2]
