"""Training that begins from given weights: the first step has them, and a wrong file one line."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from unet_np import UNet, data, pretrained
from unet_np.cli import main
from unet_np.errors import InputError
from unet_np.training.checkpoint import load_checkpoint
from unet_np.training.config import TrainConfig
from unet_np.training.fine_tuning import start_from, weights_file
from unet_np.training.loop import train

TINY = {"base_channels": 2, "depth": 1, "input_size": 36, "tensorboard": False}


@pytest.fixture(scope="module")
def dataset():
    return data.load("synthetic-em", count=4, size=64)


@pytest.fixture
def start(tmp_path):
    path = tmp_path / "old.safetensors"
    UNet(base_channels=2, depth=1, seed=9, backend="numpy").save(path)
    return str(path)


@pytest.fixture
def config(tmp_path, start):
    return TrainConfig(**TINY, steps=4, checkpoint_every=2, start=start, out=str(tmp_path / "run"))


def test_step_0_has_the_weights(config, start, dataset):
    """A rate of almost nothing leaves them where they were; from scratch they are others."""
    config = config.replace(steps=1, learning_rate=1e-12)
    expected = UNet.load(start, backend="numpy").params
    found = train(config, progress=False, dataset=dataset).net.params
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-9)
    scratch = train(config.replace(start="", out=config.out + "2"), progress=False, dataset=dataset)
    name = "contract1.conv1.weight"
    assert not np.allclose(scratch.net.params[name], expected[name], atol=1e-3)


def test_resume_is_bit_for_bit_and_needs_the_file_no_more(config, start, dataset):
    def cut(row):
        if row["step"] == 3:
            raise RuntimeError("cut")

    whole = train(config, progress=False, dataset=dataset).folder
    broken = config.replace(out=config.out + "2")
    with pytest.raises(RuntimeError, match="cut"):
        train(broken, progress=cut, dataset=dataset)
    Path(start).unlink()
    again = train(broken, resume=True, progress=False, dataset=dataset).folder
    assert again.weights.read_bytes() == whole.weights.read_bytes()
    assert again.metrics.read_bytes() == whole.metrics.read_bytes()
    with pytest.raises(InputError, match=r"start: got '', expected '.*', with which the run was"):
        train(broken.replace(start=""), resume=True, progress=False, dataset=dataset)


def test_runs_from_before_the_setting_was_there_go_on(config, dataset):
    from unet_np.training.resume import check_same

    settings = config.replace(start="").to_dict()
    state = {"config": settings, "backend": "numpy", "data": 1, "step": 1}
    state |= {"metrics_bytes": 0, "threads": 1}
    del settings["start"]
    check_same(state, config.replace(start=""), 1, "numpy")
    with pytest.raises(InputError, match=r"start: got .*, expected '', with which"):
        check_same(state, config, 1, "numpy")


def test_the_networks_of_the_package(tmp_path, dataset):
    given = pretrained.load("u373", backend="numpy")
    config = TrainConfig(
        base_channels=16, norm=given.architecture.norm, start="u373", input_size=220, steps=1,
        learning_rate=1e-12, validation="none", weight_map=False, tensorboard=False,
        out=str(tmp_path / "run"),
    )  # fmt: skip
    found = train(config, progress=False, dataset=dataset).net.params
    for name, array in given.params.items():
        np.testing.assert_allclose(found[name], array, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_channels": 4}, "with base_channels 2, expected 4; --base-channels 2 goes with it"),
        ({"depth": 2, "input_size": 68}, "with depth 1, expected 2; --depth 1 goes with it"),
        ({"up": "nearest"}, "with up upconv, expected nearest; --up upconv goes with it"),
        (
            {"norm": "batch"},
            "with norm none, expected batch; --norm none goes with it",
        ),
        ({"task": "detect"}, "with task segment, expected detect; --task segment goes with it"),
        ({"padding": 1, "input_size": 32}, "with padding 0, expected 1; --padding 0 goes with it"),
    ],
)
def test_another_architecture_is_one_line(config, dataset, change, message):
    with pytest.raises(InputError, match=f"^start: got .*{re.escape(message)}$"):
        train(config.replace(**change), progress=False, dataset=dataset)


@pytest.mark.parametrize(("name", "expected"), [("num_classes", 2), ("in_channels", 1)])
def test_channels_and_classes_are_the_datas(tmp_path, config, dataset, name, expected):
    path = tmp_path / "wrong.safetensors"
    UNet(**{name: 3}, base_channels=2, depth=1, backend="numpy").save(path)
    message = f"with {name} 3, expected {expected}, which the data have$"
    with pytest.raises(InputError, match=message):
        train(config.replace(start=str(path)), progress=False, dataset=dataset)


def test_a_wrong_start_leaves_the_old_run(config, dataset):
    train(config, progress=False, dataset=dataset)
    before = Path(config.out, "weights.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"^weights: got no file at .*none\.safetensors"):
        train(
            config.replace(start="none.safetensors"),
            overwrite=True, progress=False, dataset=dataset,
        )  # fmt: skip
    assert Path(config.out, "weights.safetensors").read_bytes() == before


def test_the_weights_to_begin_from_are_never_replaced(config, dataset):
    train(config, progress=False, dataset=dataset)
    own = Path(config.out, "weights.safetensors")
    before = own.read_bytes()
    again = config.replace(start=str(own), steps=1)
    with pytest.raises(InputError, match=r"^start: got .*, which the run in --out replaces, exp"):
        train(again, overwrite=True, progress=False, dataset=dataset)
    assert own.read_bytes() == before
    shutil.copy(own, Path(config.out).parent / "copy.safetensors")
    again = again.replace(start=str(Path(config.out).parent / "copy.safetensors"))
    train(again, overwrite=True, progress=False, dataset=dataset)


def test_running_statistics_go_along(tmp_path):
    old = UNet(base_channels=2, depth=1, norm="batch", backend="numpy")
    old.forward(np.random.default_rng(0).normal(3, 2, (1, 1, 36, 36)), train=True)
    old.save(tmp_path / "old.safetensors")
    net = UNet(base_channels=2, depth=1, norm="batch", backend="numpy")
    start_from(net, str(tmp_path / "old.safetensors"))
    for name, array in old.buffers.items():
        np.testing.assert_array_equal(net.buffers[name], array)
    assert any(array.any() for name, array in net.buffers.items() if name.endswith("mean"))


def test_names(monkeypatch):
    assert weights_file("em") == pretrained.path("em")
    with pytest.raises(InputError, match=r"^start: got 'u37', expected a \.safetensors file or"):
        weights_file("u37")
    monkeypatch.setattr(pretrained, "available", lambda: ("em",))
    with pytest.raises(InputError, match="'u373', which is not in this installation, expected"):
        weights_file("u373")


def test_dtype_and_library_of_the_network_stay(start):
    net = UNet(base_channels=2, depth=1, dtype="float64", dropout=0.1, backend="numpy")
    start_from(net, start)
    assert net.params["output.bias"].dtype == np.float64
    assert net.dropout == 0.1


def test_the_command_line(tmp_path, start, capsys):
    out = tmp_path / "run"
    flags = ["--base-channels", "2", "--depth", "1", "--input-size", "36", "--no-tensorboard"]
    assert main(["train", *flags, "--steps", "2", "--start", start, "--out", str(out), "-q"]) == 0
    assert load_checkpoint(out / "checkpoint.safetensors")[2]["config"]["start"] == start
    assert main(["train", "--start", "u373", "--out", str(tmp_path / "b"), "-q"]) == 2
    error = capsys.readouterr().err
    assert "base_channels 16, expected 64; --base-channels 16 goes with it" in error
    assert error.count("\n") == 1
