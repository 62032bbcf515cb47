"""Settings chosen by the data: what each rule proposes, what somebody said stays, memory holds."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unet_np import UNet
from unet_np.cli import main
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.images import write_png
from unet_np.training import plan as plans
from unet_np.training.checkpoint import RunFolder
from unet_np.training.config import TrainConfig
from unet_np.training.loop import train
from unet_np.training.memory import check_memory, training_bytes
from unet_np.training.plan import PLANNED, look, propose, seconds

OWN = TrainConfig(images="images", masks="masks", backend="numpy")


def discs(radius, side=200, gap=None, count=4, contrast=60.0):
    """Bright discs in rows in noise, `gap` pixels apart; by default as far as they are wide."""
    step = 2 * radius + (2 * radius if gap is None else gap)
    rows, columns = np.indices((side, side))
    places = np.arange(radius + 1, side - radius, step)
    instances = np.zeros((count, side, side), np.uint16)
    for number, (row, column) in enumerate([(r, c) for r in places for c in places], 1):
        instances[:, (rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = number
    noise = np.random.default_rng(0).normal(100, 20, instances.shape)
    images = (noise + contrast * (instances > 0)).astype(np.float32)
    return Dataset("discs", images, (instances > 0).astype(np.uint8), instances)


def proposed(dataset, config=OWN, **given):
    plan = propose(dataset, config.replace(**given), {"images", "masks", *given})
    assert set(plan.reasons) <= {*PLANNED, "norm", "learning_rate", "momentum"} - set(given)
    assert all(plan.reasons.values())
    return plan.config


def test_what_is_seen_is_what_is_there():
    found = look(discs(10, gap=6))
    assert (found.count, found.largest, found.channels, found.classes) == (4, (200, 200), 1, 2)
    assert found.diameter == pytest.approx(20, abs=1.5)
    assert found.narrowest == pytest.approx(20, abs=3)
    assert found.objects == 49
    assert found.contrast > 1.5
    assert look(discs(10, contrast=0)).contrast < 0.1
    # A gap of 6 pixels: the middle has d1 + d2 = 7, and exp(-49 / 50) of w0.
    assert look(discs(10, gap=6)).crowded > 5 * look(discs(10, gap=20)).crowded


def test_depth_follows_the_objects_and_the_contrast():
    assert proposed(discs(8, side=300)).depth == 2
    assert proposed(discs(16, side=300)).depth == 3
    assert proposed(discs(35, side=300)).depth == 4
    assert proposed(discs(8, side=300, contrast=0)).depth == 3
    # A network that sees more than the image sees mirrors.
    assert proposed(discs(35, side=72)).depth == 3


def test_the_tile_is_the_image_and_no_more_than_the_papers():
    small = proposed(discs(8, side=120))
    assert 120 <= small.architecture.output_size(small.tile_size) < 124
    large = proposed(discs(8, side=900, gap=80, count=1), validation="none")
    assert 388 <= large.architecture.output_size(large.tile_size) < 392
    assert proposed(discs(8), padding=1).tile_size == 200


def test_the_bend_is_that_of_the_paper_for_the_tile():
    config = proposed(discs(8))
    assert config.augmentation == {"sigma": round(10 * config.tile_size / 572, 1)}
    assert proposed(discs(8), input_size=572, depth=4).augmentation == {"sigma": 10.0}
    assert proposed(discs(8), augment=False).augmentation == {}


def test_the_weight_map_follows_objects_and_gaps():
    assert proposed(discs(16)).sigma == 5
    assert proposed(discs(5)).sigma == pytest.approx(2.5, abs=0.3)
    assert proposed(discs(16)).w0 == 10
    assert proposed(discs(16)).weight_term == "background"
    assert proposed(discs(12, gap=1)).weight_term == "everywhere"
    assert proposed(discs(16), weight_variant="falk2019").weighting == (50, 6)
    assert proposed(discs(16), weight_map=False).w0 is None


def test_steps_grow_with_the_area_and_have_bounds():
    few, more = proposed(discs(8, count=8)), proposed(discs(8, count=33))
    assert (few.steps, more.steps) == (500, 1150)
    assert (few.validate_every, few.patience) == (20, 10)
    many = replace(discs(8, count=2), images=np.repeat(discs(8, count=2).images, 40, 0),
                   labels=np.repeat(discs(8, count=2).labels, 40, 0), instances=None,
                   ids=(), groups=(), frames=())  # fmt: skip
    assert proposed(many).steps == 2500
    alone = proposed(discs(8, count=1), validation="none")
    assert alone.patience == 0
    said = proposed(discs(8), steps=7)
    assert (said.steps, said.validate_every, said.patience) == (7, 50, 0)


def test_what_is_said_stays_whatever_it_is():
    """The paper's values too: nothing is told from a default by being equal to one."""
    said = {
        "base_channels": 64, "depth": 4, "input_size": 572, "augmentation": {"sigma": 3.0},
        "w0": 10.0, "sigma": 5.0, "weight_term": "background", "steps": 300,
        "validate_every": 50, "patience": 0, "norm": "none", "learning_rate": 0.001,
        "momentum": 0.99,
    }  # fmt: skip
    plan = propose(discs(4), OWN.replace(**said), said)
    assert plan.reasons == {}
    assert all(getattr(plan.config, name) == value for name, value in said.items())
    assert proposed(discs(40, side=300), input_size=36, depth=1).tile_size == 36


def test_a_network_to_start_from_decides_on_its_own_settings(tmp_path):
    path = str(tmp_path / "old.safetensors")
    UNet(base_channels=2, depth=1, norm="batch", backend="numpy").save(path)
    config = TrainConfig(images="images", masks="masks", start=path, backend="numpy")
    found = propose(discs(40, side=300), config, {"images", "masks", "start"})
    assert found.config.architecture.base_channels == 2
    assert (found.config.depth, found.config.norm) == (1, "batch")
    assert found.reasons["depth"] == "as in the network to start from"


@pytest.mark.parametrize("free", [800, 300, 120])
def test_it_fits_in_the_memory_that_is_free(monkeypatch, free):
    monkeypatch.setattr(plans, "available_memory", lambda: free << 20)
    dataset = discs(16, side=400)
    config = proposed(dataset)
    assert training_bytes(config, 1, 2) + 16 * dataset.images.size <= free << 20
    monkeypatch.setattr("unet_np.training.memory.available_memory", lambda: free << 20)
    check_memory(config)
    if free > 200:
        two = propose(dataset, OWN, (), processes=2)
        assert training_bytes(two.config, 1, 2) <= free << 19


def test_it_shrinks_the_tile_before_the_width(monkeypatch):
    sizes = []
    for free in (10**4, 200, 100):
        monkeypatch.setattr(plans, "available_memory", lambda free=free: free << 20)
        config = proposed(discs(16, side=400))
        sizes.append((config.base_channels, config.tile_size))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0][0] == sizes[1][0] == 16
    assert sizes[0][1] > sizes[1][1] > sizes[2][1] * (sizes[2][0] == 16)


def test_no_memory_is_one_line(monkeypatch):
    monkeypatch.setattr(plans, "available_memory", lambda: 10 << 20)
    with pytest.raises(
        InputError, match=r"^base_channels: got 4 and tiles of \d+ pixels, .* 10 MiB"
    ):
        proposed(discs(16))


def test_a_training_takes_no_more_than_the_account(tmp_path):
    """In pages that a process of its own touched: see bench for what is measured exactly."""
    import subprocess
    import sys

    program = f"""
import numpy as np
from unet_np.data import Dataset
from unet_np.training.config import TrainConfig
from unet_np.training.loop import train
from unet_np.training.memory import training_bytes
def now(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
labels = np.zeros((2, 96, 96), np.uint8)
labels[:, 20:60, 20:60] = 1
images = np.random.default_rng(0).random(labels.shape, np.float32)
config = TrainConfig(base_channels=16, depth=3, input_size=252, norm="instance", steps=2,
                     threads=1, out={str(tmp_path / "run")!r}, backend="numpy")
before = now("VmRSS")
train(config, progress=False, dataset=Dataset("mine", images, labels))
print((now("VmHWM") - before) / training_bytes(config))
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not say what a process holds")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 0.2 < float(done.stdout) < 1


def test_seconds_are_those_of_the_steps():
    plan = propose(discs(8, side=100), OWN.replace(base_channels=2, threads=1), ["base_channels"])
    times = iter([10.0, 10.5, 10.75])
    looks = plan.config.steps / plan.config.validate_every
    found = seconds(plan, discs(8, side=100), lambda: next(times))
    assert found == pytest.approx(plan.config.steps * 0.5 + looks * 0.25)


# The command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = discs(6, side=60)
    for number, (image, cells) in enumerate(zip(dataset.images, dataset.instances, strict=True)):
        write_png(Path("images", f"{number}.png"), np.clip(image, 0, 255).astype(np.uint8))
        write_png(Path("masks", f"{number}.png"), cells.astype(np.uint8))
    return tmp_path


PLACES = ["--images", "images", "--masks", "masks"]
QUICK = ["--base-channels", "2", "--backend", "numpy", "--threads", "1"]


@pytest.mark.parametrize("name", ["plan.toml", "plan.json"])
def test_the_plan_is_printed_and_train_takes_its_file(folder, capsys, name):
    assert main(["plan", *PLACES, *QUICK, "--out", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("images: 4 of 60 x 60; masks: ")
    assert lines[1].startswith("4 images of 60 x 60, channels 1, classes 2; objects: 4 an image")
    assert lines[-1].startswith("minutes: ")
    printed = {line.split()[0]: line.split()[1] for line in lines[3:-2] if line[:1] != " "}
    read = tomllib.loads if name.endswith("toml") else json.loads
    stored = read(Path(name).read_text())
    assert stored["base_channels"] == 2
    assert "base_channels" not in printed, "what was said has no reason"
    assert printed["depth"] == str(stored["depth"]) == "2"
    assert printed["augmentation.sigma"] == str(stored["augmentation"]["sigma"])
    assert (stored["norm"], stored["learning_rate"], stored["momentum"]) == ("instance", 0.02, 0.9)
    assert main(["train", "--config", name, "--steps", "1", "--out", "run", "-q"]) == 0
    done = TrainConfig.from_toml("run/config.toml")
    assert all(getattr(done, key) == value for key, value in stored.items() if key != "steps")


def test_train_plans_where_nothing_is_said_and_goes_on_with_it(folder, capsys, monkeypatch):
    quick = [*QUICK, "--validate-every", "1", "--patience", "0", "--no-tensorboard"]
    assert main(["train", *PLACES, *quick, "--steps", "4", "--out", "whole"]) == 0
    line = next(one for one in capsys.readouterr().out.splitlines() if one.startswith("plan: "))
    config = TrainConfig.from_toml("whole/config.toml")
    assert f"depth {config.depth}, input_size {config.input_size}, augm" in line
    assert line.endswith("(unet-np plan says why)")
    assert main(["train", *PLACES, *quick, "--steps", "2", "--out", "run"]) == 0
    # What is open is as the run was begun, although less memory would make it another plan now.
    monkeypatch.setattr(plans, "available_memory", lambda: 1)
    again = ["train", *PLACES, *quick, "--steps", "4", "--out", "run", "--resume"]
    Path("mine.toml").write_text('images = "images"\nmasks = "masks"\n')
    assert main([*again, "--config", "mine.toml"]) == 0
    for name in ("weights.safetensors", "metrics.csv"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()
    assert RunFolder("run").begun_with(["depth"]) == {"depth": config.depth}


def test_data_sets_and_python_are_not_planned(tmp_path):
    config = TrainConfig(base_channels=2, depth=1, input_size=36, steps=1, out=str(tmp_path / "r"))
    train(config, progress=False, dataset=discs(8, side=60))
    assert TrainConfig.from_toml(tmp_path / "r" / "config.toml").steps == 1


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (lambda: None, ["--data", "hela"], ""),
        (lambda: [f.unlink() for f in Path("masks").iterdir()], [], "masks: got the folder masks"),
        (
            lambda: [write_png(f, np.zeros((60, 60), np.uint8)) for f in Path("masks").iterdir()],
            [],
            "masks: got only 0 in every mask",
        ),
        (
            lambda: [write_png(f, np.eye(61, 60, dtype=bool)) for f in Path("masks").iterdir()],
            [],
            "expected 60 x 60, the size of image 0",
        ),
        (
            lambda: [
                write_png(Path(side, "3.png"), np.eye(12, 40, dtype=np.uint8))
                for side in ("images", "masks")
            ],
            [],
            "images: got 3 of 12 x 40, expected at least 18 x 18, the smallest tile of any network",
        ),
        (lambda: None, ["--out", "plan.txt"], "expected a name that ends in .toml or .json"),
        (lambda: None, ["--out", "images"], "--out: got images, expected a name that ends in"),
        (lambda: None, ["--input-size", "571"], "input size: got 571"),
        (lambda: None, ["--task", "detect"], "for task detect, expected --images and --masks to"),
        (lambda: None, ["--images", ""], "images: got none, expected a file or folder"),
        (lambda: None, ["--base-channels", "100000"], "base_channels: got 100000 and tiles of"),
        (lambda: Path("plan.toml").write_text("mine"), ["--out", "plan.toml"], "which is there"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, change, more, message):
    change()
    code = main(["plan", *PLACES, *QUICK, "-q", *more])
    error = capsys.readouterr().err
    assert code == (2 if message else 0), error
    assert message in error
    assert error.count("\n") == bool(message)
    assert sorted(p.name for p in Path().iterdir() if p.is_file()) in ([], ["plan.toml"])
