"""Patience: when a training stops, which weights stay, and that a resumed run does the same."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_np import UNet
from unet_np.cli import main
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.training.config import TrainConfig
from unet_np.training.early_stopping import EarlyStopping
from unet_np.training.loop import train


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 5))
def test_it_stops_after_so_many_without_a_lower_one(losses, patience):
    early = EarlyStopping(patience)
    for step, loss in enumerate(losses, 1):
        early.update(step, loss)
        lowest = losses[:step].index(min(losses[:step])) + 1
        assert early.best_step == lowest
        assert early.best_loss == min(losses[:step])
        assert early.stops == (0 < patience <= step - lowest)
        assert EarlyStopping.of(patience, early.state()) == early


def test_nan_is_no_improvement():
    early = EarlyStopping(1)
    early.update(1, float("nan"))
    assert early.stops
    assert early.best_step == 0


@pytest.fixture
def dataset():
    """Labels that have nothing to do with the images: what is learned is of no use elsewhere."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 255, (4, 24, 24), np.uint8)
    return Dataset("noise", images, rng.integers(0, 2, images.shape, np.uint8))


@pytest.fixture
def config(tmp_path):
    return TrainConfig(
        base_channels=3,
        depth=1,
        input_size=36,
        steps=200,
        learning_rate=0.05,
        momentum=0.9,
        validation="3",
        validate_every=3,
        checkpoint_every=7,
        patience=4,
        weight_map=False,
        augment=False,
        seed=2,
        tensorboard=False,
        backend="numpy",
        out=str(tmp_path / "run"),
    )


def run(config, dataset, **options):
    return train(config, progress=options.pop("progress", False), dataset=dataset, **options)


def losses_of(config):
    with open(config.out + "/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return {int(r["step"]): float(r["validation_loss"]) for r in rows if r["validation_loss"]}


def content(config):
    names = ("weights.safetensors", "metrics.csv", "checkpoint.safetensors")
    return [Path(config.out, name).read_bytes() for name in names]


def test_it_stops_and_keeps_the_best_weights(config, dataset):
    result = run(config, dataset)
    losses = losses_of(config)
    assert result.stopped_early
    assert result.step == max(losses) < config.steps
    assert result.best_step == min(losses, key=losses.__getitem__)
    assert result.step == result.best_step + 4 * 3
    assert result.best_step > 3
    # The file, the result, and a run that ends where the best was are the same network.
    best = run(
        config.replace(steps=result.best_step, patience=0, out=config.out + "-best"), dataset
    )
    stored = UNet.load(result.folder.weights, "numpy")
    for name, array in best.net.params.items():
        assert np.array_equal(array, stored.params[name])
        assert np.array_equal(array, result.net.params[name])


def test_without_patience_the_last_weights_are_kept(config, dataset):
    result = run(config.replace(patience=0, steps=40), dataset)
    assert result.step == 40
    assert not result.stopped_early
    stored = UNet.load(result.folder.weights, "numpy")
    assert all(np.array_equal(a, stored.params[n]) for n, a in result.net.params.items())


class Killed(BaseException):
    pass


def test_killed_anywhere_and_resumed_it_is_the_same_run(config, dataset):
    whole = run(config, dataset)
    for number, last in enumerate((1, 4, whole.best_step, whole.best_step + 2, whole.step - 1)):
        part = config.replace(out=f"{config.out}-{number}")

        def kill(row, last=last):
            if row["step"] == last:
                raise Killed

        with pytest.raises(Killed):
            run(part, dataset, progress=kill)
        resumed = run(part, dataset, resume=True)
        assert (resumed.step, resumed.best_step) == (whole.step, whole.best_step)
        ours, theirs = content(part), content(config)
        assert ours[:2] == theirs[:2]
        # The checkpoint names its folder, and so differs in its header alone.
        assert ours[2][-1000:] == theirs[2][-1000:]


def test_weights_older_than_the_checkpoint_of_the_best_are_written_again(config, dataset):
    whole = run(config, dataset)
    expected = content(config)[0]
    part = config.replace(out=config.out + "-part")

    def kill(row):
        if row["step"] == whole.best_step:
            raise Killed

    with pytest.raises(Killed):
        run(part, dataset, progress=kill)
    # As if killed between the two files.
    UNet(base_channels=3, depth=1, backend="numpy").save(part.out + "/weights.safetensors")
    run(part, dataset, resume=True)
    assert content(part)[0] == expected


def test_a_run_that_stopped_stays_so_unless_it_gets_more_patience(config, dataset):
    whole = run(config, dataset)
    again = run(config, dataset, resume=True)
    assert (again.step, again.stopped_early, again.last) == (whole.step, True, {})
    more = run(config.replace(patience=6), dataset, resume=True)
    assert more.step >= whole.step + 6
    with pytest.raises(InputError, match="patience: got 0, expected 6, with which the run was"):
        run(config.replace(patience=0), dataset, resume=True)


@pytest.mark.parametrize("stops", [(7, 40), (2, 3, 9, 40), (4, 13, 40)])
def test_more_steps_go_on_with_the_same_run(config, dataset, stops):
    """A last step between two validations is validated, but what counts are those of all runs."""
    mine = config.replace(validate_every=4, patience=3, seed=3)
    whole = run(mine.replace(steps=40), dataset)
    assert whole.stopped_early
    for steps in stops:
        parts = mine.replace(steps=steps, out=config.out + "-parts")
        result = run(parts, dataset, resume=True)
        if not result.stopped_early:
            row = losses_of(parts)
            counted = [step for step in row if step % 4 == 0] or [steps]
            assert steps in row
            assert result.best_step == min(counted, key=row.__getitem__)
    assert (result.step, result.best_step) == (whole.step, whole.best_step)
    assert content(parts)[0] == content(mine)[0]
    assert content(parts)[2][-1000:] == content(mine)[2][-1000:]


def test_a_run_that_is_over_before_the_first_validation_keeps_its_last_weights(config, dataset):
    mine = config.replace(validate_every=50, steps=5)
    result = run(mine, dataset)
    assert (result.step, result.best_step, result.stopped_early) == (5, 5, False)
    last = run(mine.replace(patience=0, out=config.out + "-last"), dataset)
    assert last.best_step == 5
    for name, array in last.net.params.items():
        assert np.array_equal(array, result.net.params[name])
    again = run(mine, dataset, resume=True)
    assert again.best_step == 5


def test_patience_needs_held_out_images(config, dataset):
    expected = "patience: got 4 and no images held out, expected 0, or a validation of some of them"
    with pytest.raises(InputError, match=expected):
        run(config.replace(validation="none"), dataset)
    with pytest.raises(InputError, match=expected):
        run(config.replace(validation="auto"), dataset.subset([0]))
    with pytest.raises(InputError, match="patience: got -1, expected an integer >= 0"):
        config.replace(patience=-1)


def test_the_command_says_where_it_stopped(config, dataset, monkeypatch, capsys, tmp_path):
    module = importlib.import_module("unet_np.training.samples")
    monkeypatch.setattr(module, "load_data", lambda config: dataset)
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml())
    assert main(["train", "--config", str(file)]) == 0
    best = min(losses_of(config), key=losses_of(config).__getitem__)
    text = capsys.readouterr().out
    assert f"stopped early: the lowest validation loss is that of step {best}\n" in text
