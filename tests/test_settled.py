"""Settings that are left open: what they become, and that nobody's own value is taken for none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from unet_np import UNet
from unet_np.cli import main
from unet_np.errors import InputError
from unet_np.images import write_png
from unet_np.training.checkpoint import RunFolder
from unet_np.training.config import OPEN, TrainConfig

OWN = {"images": "images", "masks": "masks"}
RECIPE, PAPER = ("instance", 0.02, 0.9), ("none", 0.001, 0.99)


def settled(**settings):
    config = TrainConfig(**settings)
    return tuple(getattr(config, name) for name in OPEN)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, PAPER),
        ({"data": "hela"}, PAPER),
        ({"norm": "instance"}, ("instance", *PAPER[1:])),
        (OWN, RECIPE),
        (OWN | {"norm": "instance"}, RECIPE),
        # Values of the paper that somebody asks for are no defaults.
        (OWN | {"norm": "none"}, PAPER),
        (OWN | {"norm": "batch"}, ("batch", *PAPER[1:])),
        (OWN | {"learning_rate": 0.001}, ("instance", 0.001, 0.9)),
        (OWN | {"momentum": 0.99}, ("instance", 0.002, 0.99)),
        (OWN | {"task": "detect"}, PAPER),
        ({"images": "folders", "task": "classify"}, PAPER),
    ],
)
def test_what_is_left_open_follows_from_the_rest(settings, expected):
    assert settled(**settings) == expected


def test_a_changed_copy_keeps_what_was_settled():
    config = TrainConfig(**OWN).replace(images="", masks="")
    assert tuple(getattr(config, name) for name in OPEN) == RECIPE
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
def test_the_norm_is_that_of_the_network_to_start_from(tmp_path, norm):
    path = str(tmp_path / "old.safetensors")
    UNet(base_channels=2, depth=1, norm=norm, backend="numpy").save(path)
    rest = RECIPE[1:] if norm == "instance" else PAPER[1:]
    assert settled(**OWN, start=path) == (norm, *rest)
    assert settled(data="hela", start=path) == (norm, *PAPER[1:])
    other = "none" if norm == "instance" else "instance"
    assert settled(**OWN, start=path, norm=other)[0] == other


def test_a_start_that_is_none_is_told_later_or_in_one_line(tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    assert settled(**OWN, start=str(tmp_path / "text.safetensors")) == PAPER
    assert settled(**OWN, start="gone.safetensors") == PAPER
    with pytest.raises(
        InputError, match=r"^start: got 'u374', expected .*nearest valid is 'u373'$"
    ):
        TrainConfig(start="u374")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four images of a square in the current folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 99, (40, 40), np.uint8)
        square = np.zeros((40, 40), np.uint8)
        square[8:28, 4 + 3 * number : 24 + 3 * number] = 1
        write_png(Path("images", f"{number}.png"), noise + 100 * square)
        write_png(Path("masks", f"{number}.png"), square)
    return tmp_path


SMALL = ["--base-channels", "2", "--depth", "1", "--input-size", "36", "--seed", "3", "-q"]
PLACES = ["--images", "images", "--masks", "masks"]


def train(*more):
    return main(
        ["train", *SMALL, "--backend", "numpy", "--no-tensorboard", "--validate-every", "1", *more]
    )


def test_a_run_stands_in_its_folder_with_what_was_settled(folder):
    assert train(*PLACES, "--steps", "1", "--out", "run") == 0
    text = Path("run/config.toml").read_text()
    assert all(
        line in text for line in ('norm = "instance"', "learning_rate = 0.02", "momentum = 0.9\n")
    )
    recorded = RunFolder("run").begun_with(OPEN)
    assert tuple(recorded[name] for name in OPEN) == RECIPE
    assert UNet.load("run/weights.safetensors", backend="numpy").architecture.norm == "instance"


def test_another_normalisation_than_that_of_the_start_is_one_line(folder, capsys):
    assert train(*PLACES, "--steps", "1", "--out", "old") == 0
    start = ["--start", "old/weights.safetensors", "--steps", "1"]
    assert train(*PLACES, *start, "--out", "new") == 0
    capsys.readouterr()
    assert train(*PLACES, *start, "--out", "other", "--norm", "none") == 2
    error = capsys.readouterr().err
    assert error.endswith("with norm instance, expected none; --norm instance goes with it\n")
    assert error.count("\n") == 1
    assert not Path("other/checkpoint.safetensors").exists()


@pytest.mark.parametrize("by_config", [True, False])
def test_an_old_run_whose_file_leaves_them_open_goes_on_bit_for_bit(folder, by_config):
    """Before, own images were trained on with the paper's values."""
    values = ["--norm", "none", "--learning-rate", "0.001", "--momentum", "0.99"]
    assert train(*PLACES, *values, "--steps", "4", "--out", "whole") == 0
    assert train(*PLACES, *values, "--steps", "2", "--out", "run") == 0
    kept = [
        line
        for line in Path("run/config.toml").read_text().splitlines()
        if line.split(" =")[0] not in OPEN
    ]
    Path("run/config.toml").write_text("# mine\n" + "\n".join(kept) + "\n")
    shutil.copy("run/config.toml", "mine.toml")
    more = ["--config", "mine.toml"] if by_config else []
    assert train(*more, "--steps", "4", "--out", "run", "--resume") == 0
    for name in ("weights.safetensors", "metrics.csv"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


def test_an_old_run_is_refused_where_something_else_is_said(folder, capsys):
    assert train(*PLACES, "--norm", "none", "--steps", "1", "--out", "run") == 0
    capsys.readouterr()
    assert train("--norm", "instance", "--steps", "2", "--out", "run", "--resume") == 2
    assert "norm: got 'instance', expected 'none', with which the run" in capsys.readouterr().err
