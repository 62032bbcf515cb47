"""Runs that an earlier version began go on: the folders in ``old_runs`` were cut after step 5 of 8.

They hold what it wrote (a checkpoint of step 4), and the weights at the end of the run that it made
without a cut.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from unet_np import UNet
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.tasks import TASKS
from unet_np.training import samples
from unet_np.training.checkpoint import load_checkpoint
from unet_np.training.config import TrainConfig
from unet_np.training.loop import train
from unet_np.training.run import Run

OLD = Path(__file__).with_name("old_runs")


def dataset() -> Dataset:
    """Blocks in noise of integers, the same on every machine."""
    rng = np.random.default_rng(0)
    instances = np.zeros((4, 40, 44), np.uint16)
    for number, (top, left) in enumerate([(3, 4), (20, 8), (9, 25)], 1):
        instances[:, top : top + 12, left : left + 14] = number
    labels = (instances > 0).astype(np.uint8)
    images = (rng.integers(0, 100, labels.shape) + 120 * labels).astype(np.uint8)
    return Dataset("blocks", images, labels, instances)


@pytest.fixture(params=TASKS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> TrainConfig:
    """The settings that the old run stored, in a copy of its folder."""
    shutil.copytree(OLD / request.param, tmp_path / "run")
    return TrainConfig.from_toml(tmp_path / "run" / "config.toml", out=str(tmp_path / "run"))


def test_nothing_of_the_old_state_is_lost(config: TrainConfig) -> None:
    params, velocity, state = load_checkpoint(Path(config.out, "checkpoint.safetensors"))
    prepared = samples.prepare(config, dataset(), np)
    run = Run.begin(config, prepared, np, resume=True, overwrite=False)
    assert run.step == state["step"] == 4
    for now, before in ((run.net.state, params), (run.optimiser.velocity, velocity)):
        assert set(now) == set(before)
        assert all(np.array_equal(now[name], array) for name, array in before.items())


def test_it_goes_on_as_it_would_have(config: TrainConfig, tmp_path: Path) -> None:
    """To rounding: the old run was made on another processor, which may sum in another order."""
    begun = Path(config.out, "metrics.csv").read_text().splitlines()[:5]
    result = train(config, resume=True, progress=False, dataset=dataset())
    assert result.step == 8
    assert Path(config.out, "metrics.csv").read_text().splitlines()[:5] == begun
    expected = UNet.load(OLD / config.task / "at-the-end.safetensors", backend="numpy")
    assert expected.architecture == result.net.architecture
    begin = load_checkpoint(OLD / config.task / "checkpoint.safetensors")[0]
    near = {"rtol": 1e-4, "atol": 1e-5}
    for name, array in expected.state.items():
        np.testing.assert_allclose(result.net.state[name], array, **near)
    moved = [
        name
        for name, array in begin.items()
        if not np.allclose(expected.state[name], array, **near)
    ]
    assert len(moved) > len(begin) / 2


def test_it_goes_on_bit_for_bit_however_often_it_is_cut(
    config: TrainConfig, tmp_path: Path
) -> None:
    parts = config.replace(out=str(tmp_path / "parts"))
    shutil.copytree(config.out, parts.out)
    train(config, resume=True, progress=False, dataset=dataset())

    def cut(row: dict[str, float]) -> None:
        raise RuntimeError("cut")

    for _ in range(3):
        with pytest.raises(RuntimeError, match="cut"):
            train(parts.replace(checkpoint_every=1), True, progress=cut, dataset=dataset())
    train(parts, resume=True, progress=False, dataset=dataset())
    for name in ("weights.safetensors", "metrics.csv"):
        assert Path(parts.out, name).read_bytes() == Path(config.out, name).read_bytes()


def test_other_data_or_another_task_is_refused_with_a_reason(config: TrainConfig) -> None:
    other = dataset()
    other.labels[0, 0, 0] = 1
    with pytest.raises(InputError, match=r"^data: got other images or labels than those the run"):
        train(config, resume=True, progress=False, dataset=other)
    task = "detect" if config.task == "segment" else "segment"
    with pytest.raises(InputError, match=rf"^task: got '{task}', expected '{config.task}', with"):
        train(
            config.replace(task=task, input_size=36), resume=True, progress=False, dataset=dataset()
        )
