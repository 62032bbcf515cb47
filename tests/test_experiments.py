"""The experiments: splits without leaks, quick runs end to end, results that name their source."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

from unet_np import data, metrics, pretrained
from unet_np.cli import main
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.experiments import (
    RECIPES,
    Places,
    ablate,
    ablations,
    cells,
    choose_folds,
    em,
    experiment,
    finished_folds,
    pictures,
    protocol,
    recipe,
    run_fold,
    runner,
    search,
    summarise,
)
from unet_np.experiments.export import draw_test_slices, export, why_this_fold
from unet_np.experiments.recipes import both_fold, changed, ranges
from unet_np.files.weights import read_metadata
from unet_np.images import read_image
from unet_np.network.unet import UNet

ROOT = Path(__file__).resolve().parent.parent
TINY = {"base_channels": 2, "steps": 4, "input_size": 68, "averaging": 1}


@pytest.fixture(autouse=True)
def no_data(request, monkeypatch, tmp_path):
    """Quick runs take synthetic data here, whatever lies on this machine."""
    if request.node.get_closest_marker("data") is None:
        monkeypatch.setenv(data.VARIABLE, str(tmp_path / "no data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def places(tmp_path):
    said = []
    return Places(tmp_path / "runs", tmp_path / "results", ["experiment"], said.append, False)


# Splits


@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.data
def test_no_slice_serves_for_two_things(name):
    chosen = RECIPES[name]
    if not data.is_available(chosen.data):
        pytest.skip(f"{chosen.data} is not in the cache")
    dataset = chosen.dataset()
    folds = chosen.folds(dataset)
    tested = [i for fold in folds for i in fold.test]
    assert sorted(tested) == list(range(len(dataset)))
    for fold in folds:
        parts = [set(fold.training), set(fold.validation), set(fold.test)]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(dataset)
        if name != "em":
            sides = [{dataset.groups[i] for i in part} for part in parts]
            assert sides[0] == sides[1]
            assert not sides[0] & sides[2]


def test_the_trainer_sees_the_folds_split():
    from unet_np.training.samples import split

    chosen = recipe("em", quick=True)
    dataset = chosen.dataset()
    for fold in chosen.folds(dataset):
        config = chosen.fold_config(fold, "runs/x")
        assert split(config, dataset) == (fold.training, fold.validation)


def test_the_blocks_of_the_em_stack():
    folds = RECIPES["em"].folds(Dataset("isbi2012", np.zeros((30, 4, 4))))
    assert [ranges(fold.test) for fold in folds] == ["0-9", "10-25", "26-29"]
    assert [ranges(fold.validation) for fold in folds] == ["28-29", "0-1", "0-1"]


def test_folds_by_number():
    chosen = recipe("u373", quick=True)
    folds = chosen.folds(chosen.dataset())
    assert [fold.name for fold in folds] == ["01-to-02", "02-to-01"]
    assert choose_folds(folds, None) == folds
    assert choose_folds(folds, 1) == folds[1:]
    with pytest.raises(InputError, match=r"--fold: got 2, expected 0 \(01-to-02\), 1"):
        choose_folds(folds, 2)


def test_recipes():
    for name, chosen in RECIPES.items():
        parameters = chosen.config.architecture.parameters
        assert 2 * parameters <= pretrained.MAX_BYTES, name
    assert RECIPES["em"].averaging == 7
    assert changed(RECIPES["em"], base_channels=8).config.base_channels == 8
    with pytest.raises(InputError, match="experiment: got 'me'"):
        recipe("me")


def test_with_padding_about_as_many_pixels_are_learned_from():
    padded = changed(RECIPES["em"], padding=1).config
    valid = RECIPES["em"].config
    output = valid.architecture.output_size(valid.tile_size)
    assert abs(padded.input_size - output) <= padded.architecture.size_step


# Scores


def test_thresholds_come_from_the_training_side(places):
    """Whatever the test labels are, the thresholds and the baseline's settings stay."""
    chosen = recipe("em", quick=True, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    maps = em.smoothed(dataset.images, 1.0)
    results = []
    for labels in (dataset.labels, np.where(np.arange(6)[:, None, None] < 2, 1, dataset.labels)):
        other = replace(dataset, labels=labels.astype(np.uint8))
        results.append(
            experiment.score_fold(
                chosen,
                other,
                fold,
                experiment.Predicted(maps[list(fold.validation)], maps[:2], None, (0.0, 0)),
            )
        )
    assert results[0]["thresholds"] == results[1]["thresholds"]
    for key in ("sigma", "thresholds"):
        assert results[0]["baseline"][key] == results[1]["baseline"][key]
    assert results[0]["scores"] != results[1]["scores"]
    # What the same thresholds give on the slices that they were chosen on.
    chosen_on = list(fold.validation)
    own = em.score(dataset.labels[chosen_on], maps[chosen_on], results[0]["thresholds"], False)
    for result in results:
        assert result["training_side"] == {"validation": own["scores"]}


def test_scores_are_those_of_the_metrics():
    dataset = data.load("synthetic-em", count=2, size=64)
    maps = em.smoothed(dataset.images, 1.0)
    thresholds = {name: 0.4 for name in em.METRICS}
    result = em.score(dataset.labels, maps, thresholds)
    for name, threshold in thresholds.items():
        metric = getattr(metrics, name)
        assert result["scores"][name]["value"] == metric(dataset.labels, maps, threshold)
        assert result["scores_at_best_threshold"][name]["value"] == metric(dataset.labels, maps)


def test_the_baseline_beats_a_blank_guess_and_not_the_truth():
    dataset = data.load("synthetic-em", count=4, size=96)
    result = em.baseline(dataset.images, dataset.labels, [0, 1], [0, 1], [2, 3])
    blank = metrics.pixel_error(dataset.labels[2:], np.ones((2, 96, 96)), 0.5)
    assert 0 < result["scores"]["pixel_error"]["value"] < blank


def fake(fold, **scores):
    return {"fold": {"name": fold}, "scores": {k: {"value": v} for k, v in scores.items()}}


def test_mean_and_spread_stand_beside_the_paper():
    first = fake("a", warping_error=0.0002, rand_error=0.03, pixel_error=0.07)
    second = fake("b", warping_error=0.0004, rand_error=0.04, pixel_error=0.09)
    summary = em.table([first, second])
    ours = summary["rows"]["this network, thresholds from the training side"]
    assert ours["rand_error"]["mean"] == pytest.approx(0.035)
    assert ours["rand_error"]["sd"] == pytest.approx(0.0070710678)
    assert summary["aim_met"] == {"warping_error": True, "rand_error": True, "pixel_error": False}
    assert summary["verdict"] == "Aim missed: pixel_error 0.08 against 0.0611."
    text = "\n".join(em.table_lines(summary))
    assert "0.000353" in text
    assert "0.0350 ± 0.0071" in text
    assert em.NOT_THE_SAME_TEST in text


def test_the_aim_of_table_2():
    summary = cells.table("hela", [fake("01-to-02", seg_measure=0.8)])
    assert summary["aim_met"]
    assert summary["verdict"] == "Aim met: SEG 0.8000 against 0.7756."
    assert not cells.table("u373", [fake("01-to-02", seg_measure=0.8)])["aim_met"]
    lines = cells.table_lines("hela", summary)
    assert any("HOUS-US" in line and line.endswith("-") for line in lines)


def test_small_cells_and_cells_outside_of_the_field_are_left_out():
    probability = np.zeros((200, 200))
    probability[80:100, 80:100] = probability[10:30, 10:30] = 0.9
    probability[120:122, 120:122] = probability[40:60, 100:120] = 0.9
    found = cells.find_cells(probability, 0.5, min_area=5)
    assert found[90, 90]
    assert not found[20, 20]
    assert not found[121, 121]
    assert found[45, 110]  # reaches into the field of interest
    assert sorted(np.unique(found)) == [0, 1, 2]
    assert cells.find_cells(probability[:60, :60], 0.5, 5).max() == 1


def test_the_thresholds_of_cells_are_those_with_the_highest_seg():
    truth = np.zeros((1, 120, 120), int)
    truth[0, 55:65, 52:60], truth[0, 55:65, 62:70] = 1, 2
    maps = np.where(truth > 0, 0.95, 0.05)
    maps[0, 55:65, 60:62] = 0.65  # joins the two below this
    high, low = cells.choose_thresholds(truth, maps, 1)
    assert 0.7 <= low <= high <= 0.9
    result = cells.score(truth, maps, (0.5, 0.5), 1)
    assert result["cells"]["merged"] == 2


def test_pixels_of_cells_that_nobody_outlined_are_in_no_score():
    truth = np.zeros((2, 8, 8), int)
    truth[0, 2:4, 2:4] = 1
    maps = np.where(truth > 0, 0.9, 0.1)
    maps[:, 5:7, 5:7] = 0.9  # a cell without an outline
    unknown = np.zeros(truth.shape, bool)
    unknown[:, 5:7, 5:7] = True
    counted = cells.score(truth, maps, (0.5, 0.5), 1)["scores"]
    assert counted["iou"]["value"] == pytest.approx(4 / 12)
    assert counted["iou"]["slices"] == [pytest.approx(0.5), None]
    left_out = cells.score(truth, maps, (0.5, 0.5), 1, unknown)["scores"]
    assert left_out["iou"] == {"value": 1.0, "threshold": 0.5, "slices": [1.0, None]}
    assert left_out["dice"]["value"] == 1
    assert left_out["seg_measure"] == counted["seg_measure"]


def test_two_thresholds_part_cells_and_keep_their_borders():
    truth = np.zeros((1, 120, 120), int)
    truth[0, 50:70, 40:60], truth[0, 50:70, 60:80] = 1, 2
    maps = np.where(truth > 0, 0.75, 0.05)
    maps[0, 54:66, 44:58] = maps[0, 54:66, 62:76] = 0.92  # sure of the middles only
    high, low = cells.choose_thresholds(truth, maps, 1)
    assert 0.1 <= low < 0.75 < high < 0.92
    by_two = cells.score(truth, maps, (0.8, 0.4), 1)
    assert by_two["scores"]["seg_measure"]["value"] == 1
    one = cells.choose_thresholds(truth, maps, 1, cells.ONE)
    assert one[0] == one[1]
    assert by_two["scores"]["iou"] == {"value": 1.0, "threshold": 0.4, "slices": [1.0]}
    ways = [cells.score(truth, maps, pair, 1) for pair in cells.ONE[:9]]
    assert max(way["scores"]["seg_measure"]["value"] for way in ways) <= 0.5


# Runs


@pytest.mark.data
@pytest.mark.parametrize("name", ["u373", "hela"])
def test_every_frame_of_a_quick_run_on_real_data_has_cells(name):
    chosen = recipe(name, quick=True)
    if not data.is_available(name):
        pytest.skip(f"{name} is not here")
    dataset = chosen.dataset()
    assert dataset.shape == (192, 192)
    assert dataset.images.shape == dataset.instances.shape == dataset.labels.shape
    assert all(frame.any() for frame in dataset.instances)
    assert np.array_equal(dataset.instances > 0, dataset.labels > 0)
    assert {len(fold.test) for fold in chosen.folds(dataset)} == {3}


@pytest.mark.parametrize("name", ["em", "u373", "hela"])
def test_a_quick_fold_end_to_end(name, places):
    chosen = recipe(name, quick=True, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    result = run_fold(chosen, dataset, fold, places)
    path = places.result(f"{name}-{fold.name}")
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    wanted = {"command", "seed", "commit", "data", "machine", "time", "curve", "scores", "fold"}
    assert wanted <= set(result)
    assert result["time"]["training_seconds"] > 0
    assert result["curve"]["step"][-1] == 4
    assert result["curve"]["validation_loss"]
    for metric, scores in result["scores"].items():
        assert metric in metrics.METRIC_NAMES
        assert len(scores["slices"]) == len(fold.test)
    for part in ("curve", "slices"):
        assert read_image(path.with_name(f"{path.stem}-{part}.png")).shape[0] > 100
    # Again: nothing is done, and other settings are refused.
    before = path.stat().st_mtime_ns
    assert run_fold(chosen, dataset, fold, places, resume=True)["scores"] == result["scores"]
    assert path.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="steps: got 5, expected 4"):
        run_fold(changed(chosen, steps=5), dataset, fold, places)
    with pytest.raises(InputError, match="data: got others"):
        run_fold(chosen, replace(dataset, images=dataset.images + np.uint8(1)), fold, places)
    summary = summarise(chosen, [result], places)
    stored = json.loads(places.result(name).read_text())
    assert stored["folds"] == summary["folds"]
    assert {"command", "commit", "machine", "seed", "data"} <= set(stored)


def test_a_table_is_of_one_recipe(places):
    chosen = recipe("em", quick=True, **TINY)
    dataset = chosen.dataset()
    folds = chosen.folds(dataset)
    said = []
    places = replace(places, say=said.append)
    run_fold(chosen, dataset, folds[1], places)
    other = changed(chosen, steps=5)
    run_fold(other, dataset, folds[2], places)
    for one, kept, left in ((chosen, 1, "steps 5, not 4"), (other, 2, "steps 4, not 5")):
        found = finished_folds(one, folds, places)
        assert [result["fold"]["name"] for result in found] == [folds[kept].name]
        assert left in said[-1]


def test_a_stopped_fold_goes_on_and_ends_the_same(places, tmp_path):
    chosen = recipe("em", quick=True, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[1]
    whole = run_fold(chosen, dataset, fold, replace(places, runs=tmp_path / "a"))
    places.result(f"em-{fold.name}").unlink()
    stopped = replace(places, runs=tmp_path / "b", progress=stop_after(2))
    with pytest.raises(RuntimeError):
        run_fold(changed(chosen, checkpoint_every=1), dataset, fold, stopped)
    with pytest.raises(InputError, match="--resume"):
        run_fold(chosen, dataset, fold, replace(places, runs=tmp_path / "b"))
    resumed = run_fold(chosen, dataset, fold, replace(places, runs=tmp_path / "b"), resume=True)
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["scores"] == whole["scores"]


def stop_after(steps):
    def stop(row):
        if row["step"] == steps:
            raise RuntimeError("stopped")

    return stop


def test_predictions_are_kept_for_the_weights_that_made_them(tmp_path):
    slices = np.random.default_rng(0).integers(0, 255, (1, 40, 40), np.uint8)
    images = Dataset("mine", slices, ids=("a/0",))
    said = []
    for seed, news in ((0, 1), (0, 1), (1, 2)):
        net = UNet(base_channels=2, depth=1, seed=seed)
        net.save(tmp_path / "weights.safetensors")
        maps, seconds = runner.predict_slices(net, images, [0], tmp_path, 1, said.append)
        assert maps.shape == (1, 40, 40)
        assert seconds > 0
        assert len(said) == news


def test_seconds_add_up_over_resumes(tmp_path):
    (tmp_path / "times.csv").write_text("step,seconds\n1,2.0\n2,5.0\n3,1.5\n4,2.0\n")
    assert runner.training_seconds(tmp_path) == pytest.approx(7.0)


def test_the_search_says_which_settings_explode(places):
    chosen = recipe("em", quick=True, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[1]
    trials = [{"learning_rate": rate, "momentum": 0.9, "warmup": 1} for rate in (0.001, 0.002)]
    result = search(chosen, dataset, fold, places, trials, steps=3)
    assert result["best"] in trials
    stored = json.loads(places.result("search-em").read_text())
    assert [row["steps_done"] for row in stored["trials"]] == [3, 3]
    strict = changed(chosen, gradient_limit=1e-9)
    result = search(strict, dataset, fold, replace(places, runs=places.runs / "b"), trials, steps=3)
    assert result["best"] is None
    assert all("above the limit" in row["error"] for row in result["trials"])


def test_trials_of_other_settings_are_not_taken(places):
    chosen = recipe("em", quick=True, **TINY)
    dataset = chosen.dataset()
    folds = chosen.folds(dataset)
    trials = [{"learning_rate": 0.001, "momentum": 0.9, "warmup": 1}]
    first = search(chosen, dataset, folds[1], places, trials, steps=3)
    again = search(chosen, dataset, folds[1], places, trials, steps=3)
    assert again["trials"] == first["trials"]
    other = search(chosen, dataset, folds[2], places, trials, steps=3)
    assert other["trials"][0]["loss"] != first["trials"][0]["loss"]
    assert (other["recipe"]["schedule"], other["recipe"]["steps"]) == ("constant", 3)
    wider = changed(chosen, base_channels=3)
    with pytest.raises(InputError, match="base_channels: got 3, expected 2"):
        search(wider, dataset, folds[1], places, trials, steps=3)
    anew = search(wider, dataset, folds[1], places, trials, 3, overwrite=True)
    assert anew["trials"][0]["loss"] != first["trials"][0]["loss"]


def test_variants_differ_in_what_they_say(places):
    chosen = recipe("em", quick=True, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[2]
    variants = ("full", "no-averaging", "padding-1")
    result = ablate(changed(chosen, averaging=7), dataset, fold, places, variants)
    assert set(result["variants"]) == set(variants) < set(ablations(chosen))
    kept = places.result("em-ablation")
    again = ablate(changed(chosen, averaging=7), dataset, fold, places, variants)
    assert again["variants"] == json.loads(kept.read_text())["variants"]
    trained = sorted(p.name for p in (places.runs / "quick/em/ablation").iterdir())
    assert trained == [f"full-{fold.name}", f"padding-1-{fold.name}"]
    # Rows of another fold or recipe are not taken for these.
    first = chosen.folds(dataset)[0]
    with pytest.raises(InputError, match="validation: got '4-5', expected '0-1'"):
        ablate(changed(chosen, averaging=7), dataset, first, places, variants)
    other = changed(chosen, averaging=7, learning_rate=0.02)
    with pytest.raises(InputError, match=r"learning_rate: got 0\.02"):
        ablate(other, dataset, fold, places, variants)
    anew = ablate(changed(chosen, averaging=7), dataset, first, places, ["full"], overwrite=True)
    assert anew["fold"]["name"] == first.name
    assert anew["variants"]["full"]["scores"] != result["variants"]["full"]["scores"]


@pytest.mark.parametrize(("name", "term"), [("hela", "term-everywhere"), ("em", "term-background")])
def test_the_recipe_with_normalisation_is_taken_apart(places, name, term):
    chosen = recipe(name, quick=True, norm="instance", **TINY)
    dataset = chosen.dataset()
    parts = ablations(chosen)
    assert {"no-norm", term, "neither"} <= set(parts)
    assert "padding-1" not in parts
    assert parts["neither"] == parts["no-norm"] | parts[term]
    rows = ablate(chosen, dataset, chosen.folds(dataset)[0], places, ["full", "neither"])[
        "variants"
    ]
    losses = {key: row["curve"]["loss"] for key, row in rows.items()}
    assert losses["full"] != losses["neither"]
    # A network without normalisation is judged by the same rule as all others.
    assert len({"grown" in row or "erosion" in row for row in rows.values()}) == 1
    assert places.result(f"{name}-norm-ablation").exists()


# What leaves an experiment


def test_weights_are_exported_with_their_card(places, tmp_path):
    chosen = recipe("em", quick=True, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    with pytest.raises(InputError, match="fold-0, which is not finished"):
        export(chosen, fold, places, tmp_path / "out")
    with pytest.raises(InputError, match="--export: got --quick, expected a full run"):
        export(chosen, fold, places)
    result = run_fold(chosen, dataset, fold, places)
    target = export(chosen, fold, places, tmp_path / "out")
    net = UNet.load(target, backend="numpy")
    assert target.stat().st_size < 3 * net.architecture.parameters + 20_000
    card = target.with_suffix(".md").read_text()
    for text in ("Cardona", "non-commercial", "`rand_error`", "0.0382", "train/2", "learning_rate"):
        assert text in card, text
    assert f"{result['scores']['rand_error']['value']:.6f}" in card
    weights = places.run(chosen, fold) / "weights.safetensors"
    weights.write_bytes(target.read_bytes())
    with pytest.raises(InputError, match="that were scored"):
        export(chosen, fold, places, tmp_path / "out")


def test_unlabelled_slices_are_drawn(places):
    chosen = recipe("em", quick=True, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    run_fold(chosen, dataset, fold, places)
    path = draw_test_slices(chosen, fold, places, (0, 2))
    assert read_image(path).shape == (128 * 2 + 8, 128 * 2 + 8, 3)
    assert json.loads(path.with_suffix(".json").read_text())["slices"] == ["test/0", "test/2"]
    with pytest.raises(InputError, match="--test-slices: got 3, expected 0 to 2"):
        draw_test_slices(chosen, fold, places, (3,))


@pytest.mark.parametrize("name", pretrained.NAMES)
def test_a_network_that_ships_loads_and_is_small(name):
    if name not in pretrained.available():
        pytest.skip(f"no weights for {name} yet")
    assert pretrained.path(name).stat().st_size <= pretrained.MAX_BYTES
    net = pretrained.load(name, backend="numpy")
    assert net.architecture.in_channels == 1
    assert net.architecture.num_classes == 2
    assert "Licence of the data" in pretrained.card(name)


def test_segment_works_out_of_the_box(tmp_path):
    if "em" not in pretrained.available():
        pytest.skip("no weights for em yet")
    from unet_np.images import write_png

    write_png("a.png", data.load("synthetic-em", count=1, size=64).images[0])
    assert main(["segment", "a.png", "-o", "out.tif", "--instances", "-q"]) == 0
    assert read_image("out.tif").shape == (64, 64)
    assert Path("out-cells.csv").exists()


def test_segment_says_which_networks_there_are(capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "path", lambda name="em": Path(f"{name}.safetensors"))
    Path("a.png").touch()
    Path("u373.safetensors").touch()
    assert main(["segment", "a.png", "--model", "hela"]) == 2
    assert "not in this installation; has u373" in capsys.readouterr().err


def test_segment_refuses_an_unknown_model(capsys):
    Path("a.png").touch()
    assert main(["segment", "a.png", "--model", "hella"]) == 2
    assert "nearest valid is 'hela'" in capsys.readouterr().err
    assert main(["segment", "a.png", "--model", "em", "--weights", "w"]) == 2
    assert "with --weights, expected one of the two" in capsys.readouterr().err


# Pictures


def test_colours_of_errors():
    label = np.ones((32, 32), np.uint8)
    label[:, 16] = 0
    merged = np.ones((32, 32))
    picture = pictures.em_errors(np.arange(1024.0).reshape(32, 32), label, merged, 0.5)
    assert (picture == pictures.RED).all(-1).any()
    assert not (picture == pictures.BLUE).all(-1).any()
    cell = np.zeros((32, 32), int)
    cell[8:20, 8:20] = 1
    image = np.zeros((32, 32))
    missed = pictures.cell_errors(image, cell, np.zeros_like(cell))
    assert np.ptp(missed[12, 12]) > 0
    assert np.ptp(missed[30, 30]) == 0


def test_growing_back_gives_cells_their_size_and_keeps_them_apart():
    label = np.ones((1, 40, 61), np.uint8)
    label[:, :, 30] = 0
    # A wall that is pale in one place, and grey on both sides.
    probability = np.full(label.shape, 0.95)
    probability[:, :, 26:35] = 0.65
    probability[:, :, 30] = 0.05
    probability[:, 20, 30] = 0.62
    one = em.score(label, probability, {"rand_error": 0.7})["scores_at_best_threshold"]
    result = em.score_grown(label, probability, label, probability)
    assert one["rand_error"]["value"] > 0.05
    assert result["scores"]["rand_error"]["value"] < 0.01
    assert result["scores"] == result["training_side"]
    high, low = result["thresholds"]["rand_error"]
    assert high > 0.65 > low
    assert scipy.ndimage.label(em.grown(probability[0], high, low))[1] == 2


# The command


def test_the_command(capsys, monkeypatch, tmp_path):
    flags = ["--quick", "--base-channels", "2", "--steps", "3", "--averaging", "1"]
    assert main(["experiment", "em", "--fold", "1", "-q", *flags]) == 0
    printed = capsys.readouterr().out
    assert "Aim missed" in printed
    assert "A quick run" in printed
    stored = json.loads(Path("runs/quick/em-fold-1.json").read_text())
    assert stored["quick"]
    assert stored["data"]["name"] == "synthetic-em"
    assert main(["experiment", "em", "--fold", "1", *flags]) == 0
    assert "is there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["em", "--quick", "--fold", "3"], "--fold: got 3"),
        (["em", "--all", "--fold", "1"], "--all: got --fold 1 too"),
        (["em", "--resume", "--overwrite"], "overwrite"),
        (["hela", "--both", "--ablation"], "--both: got --ablation too"),
        (["em", "--quick", "--averaging", "3"], "--averaging: got 3"),
        (["em", "--quick", "--steps", "0"], "steps: got 0"),
        (["em", "--quick", "--export"], "--export: got --quick, expected a full run"),
        (["em", "--quick", "--search", "--learning-rate", "0.1"], "got 0.1 with --search"),
        (["em", "--both"], "--both: got the experiment em, expected u373 or hela"),
        (["hela", "--both", "--fold", "1"], "--both: got --fold 1 too"),
        (["hela", "--both", "--export"], "--both: got --export too"),
        (["nuclei", "--both"], "--both: got the experiment nuclei"),
        (["hella"], "invalid choice"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert main(["experiment", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("results").exists()


def test_a_frame_of_unknown_pixels_is_no_validation():
    unknown = np.zeros((5, 8, 8), bool)
    unknown[2, 0, 0] = True
    frames = Dataset(
        "mine", np.zeros((5, 8, 8)), np.zeros((5, 8, 8), np.uint8), unknown=unknown,
        groups=("01",) * 4 + ("02",),
    )  # fmt: skip
    folds = RECIPES["hela"].folds(frames.subset([0, 1, 2, 3, 4, 4]))
    assert folds[0].validation == (1, 3)
    assert folds[0].training == (0, 2)


def test_both_sequences_with_a_pause_before_the_test():
    times = ("02", "05", "21", "31", "39", "54", "67", "01", "02", "04", "30")
    groups = ("01",) * 7 + ("02",) * 4
    ids = tuple(f"{group}/{time}" for group, time in zip(groups, times, strict=True))
    unknown = np.zeros((11, 8, 8), bool)
    unknown[4, 0, 0] = True
    frames = Dataset("mine", np.zeros((11, 8, 8)), ids=ids, groups=groups, unknown=unknown)
    fold = both_fold(frames)
    assert (fold.training, fold.validation, fold.test) == ((0, 1, 2, 4, 7, 8), (3, 9), (5, 6, 10))


def test_both_sequences_by_the_command(capsys):
    flags = ["--quick", "--base-channels", "2", "--steps", "3", "--averaging", "1"]
    assert main(["experiment", "hela", "--both", "--norm", "instance", "--seed", "7", *flags]) == 0
    stored = json.loads(Path("runs/quick/hela-norm-seed-7-both.json").read_text())
    assert stored["fold"]["name"] == "both"
    assert not Path("runs/quick/hela-norm-seed-7.json").exists()


# What is stored in the repository

RESULTS = Path(__file__).resolve().parent.parent / "results"
FOLDS = sorted(RESULTS.glob("em*-fold-*.json")) + sorted(RESULTS.glob("*-to-*.json"))
FOLDS += sorted(RESULTS.glob("*-both.json"))


@pytest.mark.parametrize("path", FOLDS, ids=lambda path: path.stem)
def test_a_stored_result_says_where_it_comes_from(path):
    result = json.loads(path.read_text("utf-8"))
    assert result["command"].startswith(f"unet-np experiment {result['experiment']}")
    assert not result["quick"]
    assert result["commit"]
    assert " /" not in json.dumps(result), "a path of one machine"
    assert {"images", "labels"} <= set(result["data"]["sha256"])
    assert result["recipe"]["seed"] == result["seed"]
    used = [one for part in ("training", "validation", "test") for one in result["fold"][part]]
    assert len(set(used)) == len(used)
    for name, found in result["scores"].items():
        assert name in metrics.METRIC_NAMES
        assert len(found["slices"]) == len(result["fold"]["test"])
        if name != "iou" and name != "dice" and found["threshold"] is not None:
            assert found["threshold"] == pytest.approx(result["thresholds"][name])


@pytest.mark.parametrize("row", ["", "-norm"])
@pytest.mark.parametrize("name", list(RECIPES))
def test_a_stored_table_is_that_of_its_folds(name, row):
    path = RESULTS / f"{name}{row}.json"
    if not path.exists():
        pytest.skip(f"{name}{row} has not been run")
    table = json.loads(path.read_text("utf-8"))
    places = [RESULTS / f"{name}{row}-{fold}.json" for fold in table["folds"]]
    folds = [json.loads(place.read_text("utf-8")) for place in places]
    made = em.table(folds) if name == "em" else cells.table(name, folds)
    assert json.loads(json.dumps(made)) == {key: table[key] for key in made}


@pytest.mark.parametrize("name", pretrained.available())
def test_the_card_of_a_network_gives_the_stored_scores(name):
    cards = [path for path in FOLDS if path.stem.startswith(name)]
    results = [json.loads(path.read_text("utf-8")) for path in cards]
    text = pretrained.card(name)
    assert any(
        all(f"{found['value']:.6f}" in text for found in result["scores"].values())
        for result in results
    )


@pytest.mark.parametrize("name", ["u373", "hela"])
def test_a_network_that_ships_makes_cells_as_its_result_did(name):
    """The better training side of both; rule, thresholds and averaging are in the header."""
    folds = json.loads((RESULTS / f"{name}-norm.json").read_text("utf-8"))["folds"]
    files = [RESULTS / f"{name}-norm-{fold}.json" for fold in folds]
    results = [json.loads(path.read_text("utf-8")) for path in files]
    rules = [one["rules_compared"][experiment.THE_RULE] for one in results]
    sides = [rule["validation"] + rule["composites"] for rule in rules]
    best = results[int(np.argmax(sides))]
    about = json.loads(read_metadata(pretrained.path(name))["cells"])
    assert about == {
        "seeds": best["thresholds"]["seg_measure"],
        "threshold": best["thresholds"]["iou"],
        "min_area": best["min_area"],
        "erosion": best["erosion"],
        "averaging": best["recipe"]["averaging"],
    }
    assert pretrained.load(name, backend="numpy").architecture.norm == "instance"
    card = pretrained.card(name)
    assert f"Of the folds {best['fold']['name']} is shipped" in card
    assert "They were measured with these weights." in card


def test_the_reason_for_a_fold_is_its_training_side(places):
    def written(fold, validation, composites):
        rule = {"validation": validation, "composites": composites, "test": 0.5}
        result = {"rules_compared": {experiment.THE_RULE: rule}, "fold": {"name": fold}}
        places.results.mkdir(parents=True, exist_ok=True)
        places.result(f"u373-norm-{fold}").write_text(json.dumps(result))
        return result

    chosen = recipe("u373", norm="instance")
    folds = written("01-to-02", 0.5, 0.9), written("02-to-01", 0.8, 0.7)
    assert why_this_fold(chosen, folds[1], places) == ""
    places.result("u373-norm").write_text('{"folds": ["01-to-02", "02-to-01"]}')
    assert why_this_fold(chosen, folds[0], places) == ""
    why = why_this_fold(chosen, folds[1], places)
    assert "02-to-01 is shipped" in why
    assert "0.700 for 01-to-02, 0.750 for 02-to-01" in why
    places.result("u373-norm-01-to-02").write_text('{"fold": {"name": "01-to-02"}}')
    assert why_this_fold(chosen, folds[1], places) == ""


def test_a_result_from_before_a_setting_was_there_had_its_default():
    from unet_np.experiments.protocol import check_same

    new = {"recipe": {**RECIPES["em"].config.to_dict()}, "data": {"sha256": "same"}}
    old = {"recipe": dict(new["recipe"]), "data": {"sha256": "same"}}
    del old["recipe"]["task"]
    check_same(old, new, Path("em.json"))
    new["recipe"]["task"] = "detect"
    with pytest.raises(InputError, match="task: got 'detect', expected 'segment', with which em"):
        check_same(old, new, Path("em.json"))


# Cells with eroded seeds


def test_weighted_thresholds_undo_the_class_weights():
    """A network that learns with w_c gives p' for p; the threshold is where p is what is asked."""
    rng = np.random.default_rng(0)
    for probability in rng.random(20):
        pair = tuple(rng.uniform(0.1, 5, 2))
        learned = cells.weighted(probability, pair)
        odds = pair[1] / pair[0] * probability / (1 - probability)
        assert learned == pytest.approx(odds / (1 + odds))
        # The minimum of the weighted cross entropy of a pixel that is cell with that probability.
        guesses = np.linspace(0.001, 0.999, 9999)
        background, cell = pair
        loss = -cell * probability * np.log(guesses)
        loss -= background * (1 - probability) * np.log(1 - guesses)
        assert guesses[loss.argmin()] == pytest.approx(learned, abs=1e-3)


def test_the_narrowest_cell():
    some = np.zeros((2, 40, 60), np.int32)
    some[0, 5:16, 10:50] = 1
    some[0, 20:35, 5:30] = 2
    some[1, 10:31, 10:31] = 7
    some[1, 0:3, 40:60] = 8  # cut by the edge: nobody knows how wide it is
    assert cells.narrowest(some) == 6
    assert cells.narrowest(some[1:]) == 11
    assert cells.narrowest(np.zeros((1, 5, 5), int)) == 0


def test_a_fold_with_normalisation_erodes_its_seeds(places):
    chosen = recipe("u373", quick=True, norm="instance", **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    result = run_fold(chosen, dataset, fold, places)
    written = json.loads(places.result("u373-norm-01-to-02").read_text())
    assert written["recipe"]["norm"] == "instance"
    own = dataset.instances[[*fold.training, *fold.validation]]
    assert result["erosion"] == cells.EROSION * cells.narrowest(own)
    compared = result["rules_compared"]
    assert len(compared) == 5
    rule = compared[experiment.THE_RULE]
    assert rule["seeds"] == result["thresholds"]["seg_measure"]
    assert rule["threshold"] == result["thresholds"]["iou"]
    assert rule["erosion"] == result["erosion"]
    assert rule["test"] == result["scores"]["seg_measure"]["value"]
    assert rule["test_cells"] == result["cells"]
    pair = result["class_weights"]
    implied = compared["the threshold that the class weights imply"]["threshold"]
    assert implied == pytest.approx(pair["cell"] / (pair["cell"] + pair["background"]))
    for eroded in (", seeds eroded", ""):
        two, one = (compared[f"{n} threshold{x}{eroded}"] for n, x in (("two", "s"), ("one", "")))
        assert two["validation"] >= one["validation"]
    summary = summarise(chosen, [result], places)
    assert places.result("u373-norm").exists()
    assert summary["folds"] == ["01-to-02"]
    # The paper's network has files of its own.
    assert not places.result("u373-01-to-02").exists()
    plain = recipe("u373", quick=True, **TINY)
    assert finished_folds(plain, plain.folds(dataset), places) == []


DISCS = ((40, 40), (40, 110), (110, 75))


def test_thresholds_are_chosen_on_composites_of_the_held_out_frames(tmp_path):
    """Frames on which no cells touch say nothing of what parts cells; copies of them do."""
    chosen = replace(recipe("u373", quick=True, norm="instance", **TINY), quick=False, averaging=1)
    y, x = np.mgrid[:160, :160]
    one = sum((np.hypot(y - a, x - b) < 14) * n for n, (a, b) in enumerate(DISCS, 1))
    instances = np.stack([np.roll(one, 5 * n, axis=1) for n in range(6)]).astype(np.uint16)
    images = np.where(instances > 0, 0.8, 0.2) + np.random.default_rng(0).normal(0, 0.05, one.shape)
    labels = (instances > 0).astype(np.uint8)
    dataset = Dataset("mine", images, labels, instances, groups=("01",) * 3 + ("02",) * 3)
    fold = chosen.folds(dataset)[0]
    crowd = experiment.composites(chosen, dataset, fold)
    assert len(crowd) == cells.COMPOSITES * len(fold.validation)
    assert len({*crowd.ids} - {*dataset.ids}) == len(crowd)
    assert np.array_equal(crowd.instances, experiment.composites(chosen, dataset, fold).instances)
    own = [dataset.instances[dataset.ids.index(name.split("+")[0])] for name in crowd.ids]
    count = [len(np.unique(one)) for one in crowd.instances]
    assert sum(count) > sum(len(np.unique(one)) for one in own)
    result = run_fold(chosen, dataset, fold, Places(tmp_path, tmp_path, say=print))
    rule = result["rules_compared"][experiment.THE_RULE]
    assert sum(rule["composites_cells"].values()) == sum(count) - len(count)
    for norm in ("none", "instance"):
        assert experiment.composites(recipe("u373", quick=True, norm=norm), dataset, fold) is None


def test_thresholds_by_the_mean_of_frames_and_composites():
    frames = np.array([[[1, 1, 1, 1, 0, 0, 0]]]), np.array([[[0.75] * 4 + [0.0] * 3]])
    crowd = np.array([[[1, 1, 1, 0, 2, 2, 2]]]), np.array([[[0.96] * 3 + [0.75] + [0.96] * 3]])
    choose = cells.choose_thresholds
    assert choose(*frames, 1, cells.ONE)[0] < 0.75
    assert choose(*crowd, 1, cells.ONE)[0] >= 0.8
    # Half of a frame lost weighs more than two cells that merge into one, whose SEG is 0 or a half.
    both = choose(*frames, 1, cells.TWO, composites=crowd)
    scores = {
        pair: np.mean(
            [
                cells.score(truth, maps, pair, 1)["scores"]["seg_measure"]["value"]
                for truth, maps in (frames, crowd)
            ]
        )
        for pair in cells.TWO
    }
    assert scores[both] == max(scores.values()) > min(scores.values())


def test_norms_of_an_experiment():
    assert recipe("hela", norm="none").config == recipe("hela").config == RECIPES["hela"].config
    assert recipe("hela").config.weight_term == "everywhere"
    assert recipe("hela", norm="instance").config.weight_term == "background"
    assert recipe("u373", norm="instance", steps=7).config.steps == 7
    with pytest.raises(InputError, match=r"^norm: got 'batch', expected none or instance$"):
        recipe("hela", norm="batch")
    for name in ("em", "u373", "hela"):
        result = json.loads((ROOT / "results" / f"{name}.json").read_text())
        first = json.loads((ROOT / "results" / f"{name}-{result['folds'][0]}.json").read_text())
        chosen = RECIPES[name]
        new = protocol.recorded(chosen, chosen.config)
        kept = {key: new[key] for key in new if key not in ("data", "exclude", "validation")}
        assert protocol.first_change(first["recipe"], kept) is None


def test_em_thresholds_with_normalisation_come_of_training_slices_too(places):
    chosen = recipe("em", quick=True, norm="instance", **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[2]
    result = run_fold(chosen, dataset, fold, places)
    expected = [dataset.ids[i] for i in (*fold.validation, *fold.training[::3])]
    assert result["threshold_slices"] == expected
    assert not set(expected) & set(result["fold"]["test"])
    kept = {
        p.stem for p in (places.runs / "quick/em-norm/fold-2").glob("predictions/*/*.safetensors")
    }
    assert kept == {name.replace("/", "-") for name in (*expected, *result["fold"]["test"])}


def test_the_commit_is_of_this_project_s_repository(tmp_path, monkeypatch):
    import subprocess

    from unet_np.experiments import provenance as module

    assert module._commit() is None or len(module._commit().rstrip("+")) == 12
    package = tmp_path / "venv" / "unet_np"
    (package / "experiments").mkdir(parents=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    monkeypatch.setattr(module, "__file__", str(package / "experiments" / "provenance.py"))
    assert module._commit() is None
    (package.parent / "pyproject.toml").write_text('name = "unet-np"')
    assert module._commit() is None  # its root is another folder
