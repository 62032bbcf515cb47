"""Long trainings in legs: stopped, kept small, and gone on with elsewhere."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unet_np.cli import main
from unet_np.errors import InputError
from unet_np.experiments import Places, export, legs, recipe, run_fold
from unet_np.files.weights import read_metadata
from unet_np.images import read_image, write_tiff
from unet_np.network.unet import UNet
from unet_np.tasks.segmentation import grown_instances, segment
from unet_np.training.checkpoint import RunFolder, load_checkpoint
from unet_np.training.loop import TrainingInterrupted

TINY = {"base_channels": 2, "steps": 4, "input_size": 68, "averaging": 1}


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNET_NP_DATA", str(tmp_path / "no data"))
    monkeypatch.chdir(tmp_path)


def places(root: Path, progress: object = False) -> Places:
    return Places(
        root / "runs", root / "results", ["experiment"], lambda _: None, progress, root / "legs"
    )


def stopped_after(step: int):
    def stop(row: dict[str, float]) -> None:
        if row["step"] == step:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_a_training_goes_on_elsewhere_from_its_leg(tmp_path: Path, norm: str) -> None:
    chosen = recipe("u373", quick=True, norm=norm, checkpoint_every=1, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    first = places(tmp_path / "here", stopped_after(2))
    with pytest.raises((KeyboardInterrupt, TrainingInterrupted)):
        run_fold(chosen, dataset, fold, first)
    kept = first.leg(chosen, fold)
    assert kept is not None
    assert (
        kept.name == ("u373-01-to-02" if norm == "none" else "u373-norm-01-to-02") + ".safetensors"
    )
    assert bytes(tmp_path) not in kept.read_bytes()
    other = places(tmp_path / "there")
    (tmp_path / "there" / "legs").mkdir(parents=True)
    (tmp_path / "there" / "legs" / kept.name).write_bytes(kept.read_bytes())
    result = run_fold(chosen, dataset, fold, other, resume=True)
    steps = [(leg["first_step"], leg["last_step"]) for leg in result["legs"]]
    assert steps == [(1, 2), (3, 4)]
    assert all(leg["command"] == "unet-np experiment" for leg in result["legs"])
    assert result["curve"]["step"] == [1, 2, 3, 4]
    assert json.loads(other.result(f"{chosen.key}-{fold.name}").read_text()) == result


def test_what_a_leg_holds(tmp_path: Path) -> None:
    chosen = recipe("em", quick=True, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[2]
    here = places(tmp_path)
    run_fold(chosen, dataset, fold, here)
    folder, kept = here.run(chosen, fold), here.leg(chosen, fold)
    assert kept is not None
    weights = UNet.load(RunFolder(folder).weights, backend="numpy").params
    numbers = sum(array.size for array in weights.values())
    assert kept.stat().st_size < 2 * numbers + 30_000
    legs.restore(kept, tmp_path / "again")
    params, velocity, state = load_checkpoint(RunFolder(tmp_path / "again").checkpoint)
    before = load_checkpoint(RunFolder(folder).checkpoint)
    state["config"]["out"] = str(folder)  # of which the leg keeps the last name
    assert state == before[2]
    assert params.keys() == before[0].keys()
    assert velocity.keys() == before[1].keys()
    assert not any(array.any() for array in velocity.values())
    for name, array in params.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, before[0][name], rtol=1e-3, atol=1e-6)
    for name in ("metrics", "times"):
        copies = [getattr(RunFolder(f), name).read_bytes() for f in (folder, tmp_path / "again")]
        assert copies[0] == copies[1]
    assert legs.recorded(tmp_path / "again") == legs.recorded(folder)


def test_a_new_run_forgets_the_legs_of_the_old_one(tmp_path: Path) -> None:
    chosen = recipe("u373", quick=True, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    run_fold(chosen, dataset, fold, places(tmp_path))
    other = replace(places(tmp_path), command=["experiment", "again"])
    again = run_fold(chosen, dataset, fold, other, overwrite=True)
    assert [(leg["first_step"], leg["last_step"]) for leg in again["legs"]] == [(1, 4)]
    assert again["legs"][0]["command"] == "unet-np experiment again"


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_weights_are_exported_from_the_leg_of_a_run_that_is_gone(tmp_path: Path, norm: str) -> None:
    chosen = recipe("hela", quick=True, norm=norm, **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    here = places(tmp_path)
    result = run_fold(chosen, dataset, fold, here)
    there = tmp_path / "out"
    whole = export(chosen, fold, here, there / "run")
    shutil.rmtree(here.run(chosen, fold))
    kept = export(chosen, fold, here, there / "leg")
    assert kept.read_bytes() == whole.read_bytes()
    assert kept.with_suffix(".md").read_text() == whole.with_suffix(".md").read_text()
    assert UNet.load(kept, backend="numpy").architecture.norm == norm
    limits = json.loads(read_metadata(kept)["cells"])
    high, low = (result["thresholds"][name] for name in ("seg_measure", "iou"))
    expected = {"seeds": high, "threshold": low, "min_area": result["min_area"], "averaging": 1}
    if norm == "instance":
        expected["erosion"] = result["erosion"]
    assert limits == expected
    card = kept.with_suffix(".md").read_text()
    assert f"* `norm`: {norm}\n" in card
    assert "They were measured with float32 weights." in card
    # A run that the leg brings back is scored with the numbers that are exported.
    here.result(f"{chosen.key}-{fold.name}").unlink()
    run_fold(chosen, dataset, fold, here, resume=True)
    again = export(chosen, fold, here, there / "again")
    assert again.read_bytes() == kept.read_bytes()
    assert "They were measured with these weights." in again.with_suffix(".md").read_text()


def test_a_leg_of_another_training_is_not_exported(tmp_path: Path) -> None:
    chosen = recipe("hela", quick=True, norm="instance", **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    here = places(tmp_path)
    run_fold(chosen, dataset, fold, here)
    other = replace(places(tmp_path / "other"), command=["experiment", "again"])
    run_fold(chosen, dataset, fold, other)
    shutil.rmtree(here.run(chosen, fold))
    with pytest.raises(InputError, match=r"^--export: got .*hela-norm.*, expected the last leg of"):
        export(chosen, fold, replace(here, legs=other.legs), tmp_path / "out")
    for legs_folder in (None, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"^--export: got no .*, or its last leg in --legs$"):
            export(chosen, fold, replace(here, legs=legs_folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_network_exported_from_a_leg_makes_its_own_cells(tmp_path: Path) -> None:
    chosen = recipe("hela", quick=True, norm="instance", **TINY)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    here = places(tmp_path)
    result = run_fold(chosen, dataset, fold, here)
    shutil.rmtree(here.run(chosen, fold))
    weights = export(chosen, fold, here, tmp_path / "out")
    image = dataset.images[fold.test[0]]
    write_tiff(tmp_path / "frame.tif", image, axes="YX")
    command = ["segment", "frame.tif", "--weights", str(weights), "--instances", "-q"]
    assert main([*command, "-o", "maps.tif"]) == 0
    probability = segment(UNet.load(weights, backend="numpy"), image).probabilities[1]
    high, low = (result["thresholds"][name] for name in ("seg_measure", "iou"))
    more = {"min_area": result["min_area"], "erosion": result["erosion"]}
    expected, cells = grown_instances(probability, high, low, **more)
    assert cells
    np.testing.assert_array_equal(read_image(tmp_path / "maps-instances.tif"), expected)


def test_another_file_is_no_leg(tmp_path: Path) -> None:
    UNet(base_channels=1, depth=1, backend="numpy").save(tmp_path / "net.safetensors")
    with pytest.raises(
        InputError, match=r"^--legs: got .*net.safetensors, a file of other content"
    ):
        legs.restore(tmp_path / "net.safetensors", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="checkpoint: got"):
        legs.keep(tmp_path / "run", tmp_path / "leg.safetensors")
