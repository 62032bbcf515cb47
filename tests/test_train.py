"""Training: it learns, it resumes bit for bit after kill -9, it fails with one line."""

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import guard
import numpy as np
import pytest
import scipy.ndimage

from unet_np import UNet, backend, data
from unet_np.cli import main
from unet_np.errors import InputError, MissingExtraError, TrainingError
from unet_np.images import write_png
from unet_np.tasks.segmentation import Segment
from unet_np.training import loop
from unet_np.training import run as runs
from unet_np.training.checkpoint import load_checkpoint
from unet_np.training.config import TrainConfig, parse_slices
from unet_np.training.interrupt import TrainingInterrupted
from unet_np.training.logs import CsvLog, TensorBoard, read_csv
from unet_np.training.loop import train
from unet_np.training.resume import check_same
from unet_np.training.samples import prepare, split
from unet_np.weighting.eq2 import weight_map

TINY = {"base_channels": 2, "depth": 1, "input_size": 36, "tensorboard": False}


@pytest.fixture(scope="module")
def dataset():
    """Four small micrographs."""
    return data.load("synthetic-em", count=4, size=64)


@pytest.fixture
def config(tmp_path):
    return TrainConfig(
        **TINY, steps=6, checkpoint_every=2, validate_every=3, seed=5, out=str(tmp_path / "run")
    )


def files_of(folder):
    """Everything in a run's folder that must not differ, as bytes."""
    names = ("weights.safetensors", "metrics.csv")
    return {name: Path(folder, name).read_bytes() for name in names}


def state_of(folder):
    from unet_np.training.checkpoint import RunFolder, load_checkpoint

    params, velocity, state = load_checkpoint(RunFolder(folder).checkpoint)
    arrays = [array.tobytes() for group in (params, velocity) for _, array in sorted(group.items())]
    return state["step"], state["metrics_bytes"], arrays


# The run as a whole


def test_the_loss_falls(config):
    dataset, rows = data.load("synthetic-em", count=4, size=128), []
    changes = {"base_channels": 8, "input_size": 100, "steps": 100, "learning_rate": 1e-2}
    longer = config.replace(**changes, weight_map=False, validate_every=10)
    result = train(longer, progress=rows.append, dataset=dataset)
    losses = [row["loss"] for row in rows]
    assert result.step == 100
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:20])
    held_out = [row["validation_loss"] for row in rows if "validation_loss" in row]
    assert held_out[-1] < 0.8 * held_out[0]


def test_a_step_on_a_device_waits_for_nothing(config, dataset, monkeypatch):
    """Loss and norm come with the next step. Before, both were waited for."""
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    real, asked = loop.train_step, []

    def step(run, tile):
        before = guard.round_trips.copy()
        row = real(run, tile)
        asked.append(guard.round_trips - before)
        asked[-1].pop("asarray", 0)  # uploads, of which the next tile's come in between
        return row

    monkeypatch.setattr(loop, "train_step", step)
    losses = []
    for library in ("cupy", "numpy"):
        rows = []
        settings = {"backend": library, "dropout": 0.0, "out": f"{config.out}-{library}"}
        settings["checkpoint_every"] = 100  # is written beside the steps, and asks for all
        train(config.replace(**settings), progress=rows.append, dataset=dataset)
        losses.append([row["loss"] for row in rows])
    assert asked == [{}] * 2 * config.steps
    assert len(losses[0]) == config.steps
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_on_a_device_steps_go_on_while_a_checkpoint_is_written(config, dataset, monkeypatch):
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    real, gone_on = runs.save_checkpoint, threading.Event()
    config = config.replace(backend="cupy", steps=6, checkpoint_every=3)

    def slow(path, params, velocity, state):
        if state["step"] == 3:
            assert gone_on.wait(30)
        real(path, params, velocity, state)

    monkeypatch.setattr(runs, "save_checkpoint", slow)
    note = lambda row: gone_on.set() if row["step"] == 4 else None  # noqa: E731
    train(config, progress=note, dataset=dataset)
    whole, (step, *_) = files_of(config.out), state_of(config.out)
    assert step == 6
    # What was written beside the steps is what a resumed run goes on from.
    train(config.replace(steps=3), overwrite=True, progress=False, dataset=dataset)
    train(config, resume=True, progress=False, dataset=dataset)
    assert files_of(config.out) == whole

    def fail(path, params, velocity, state):
        raise TrainingError("cannot write it")

    monkeypatch.setattr(runs, "save_checkpoint", fail)
    with pytest.raises(TrainingError, match="cannot write it"):
        train(config, overwrite=True, progress=False, dataset=dataset)


@pytest.mark.parametrize("library", ["numpy", "cupy"])
@pytest.mark.parametrize("broken", [(np.nan, 1.0), (1.0, np.inf), (1.0, 2e8), (2e3, 1.0)])
def test_a_bad_step_changes_nothing(config, dataset, monkeypatch, library, broken):
    """Also where a GPU has begun the next one before the host knows."""
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    number, seen = iter(range(1, 100)), []
    real_step, real_numbers = loop.train_step, backend.Arriving

    def numbers(loss, square):
        if next(number) != 4:
            return real_numbers(loss, square)
        xp = backend.array_module(loss)
        return real_numbers(*(backend.asarray(np.array(one), xp) for one in broken))

    def step(run, tile):
        seen.append(run)
        return real_step(run, tile)

    monkeypatch.setattr(loop, "train_step", step)
    monkeypatch.setattr(backend, "Arriving", numbers)
    config = config.replace(backend=library, steps=6, checkpoint_every=3)
    with pytest.raises(TrainingError, match=r"^step 4: loss"):
        train(config, progress=False, dataset=dataset)
    assert len(seen) == (4 if library == "numpy" else 5)
    assert [row["step"] for row in read_csv(f"{config.out}/metrics.csv")] == [1, 2, 3]
    params, velocity, _ = load_checkpoint(runs.RunFolder(config.out).checkpoint)
    run = seen[-1]
    for now, before in ((run.net.params, params), (run.optimiser.velocity, velocity)):
        for name, array in now.items():
            assert np.array_equal(backend.to_numpy(array), before[name]), name


def test_a_run_on_a_device_that_is_interrupted_loses_no_row(config, dataset, monkeypatch):
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    config = config.replace(backend="cupy", checkpoint_every=100)
    train(config, progress=False, dataset=dataset)
    whole, flag = files_of(config.out), threading.Event()
    stop = lambda: contextlib.nullcontext(flag)  # noqa: E731
    note = lambda row: flag.set() if row["step"] == 2 else None  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_after_step", stop)
        with pytest.raises(TrainingInterrupted, match="step 3 of"):
            train(config, overwrite=True, progress=note, dataset=dataset)
    assert [row["step"] for row in read_csv(f"{config.out}/metrics.csv")] == [1, 2, 3]
    train(config, resume=True, progress=False, dataset=dataset)
    assert files_of(config.out) == whole


def test_files_of_a_run(config, dataset):
    result = train(config, progress=False, dataset=dataset)
    names = {path.name for path in Path(config.out).iterdir()}
    expected = "weights.safetensors checkpoint.safetensors metrics.csv times.csv config.toml"
    assert names == set(expected.split())
    assert TrainConfig.from_toml(result.folder.config) == config
    loaded = UNet.load(result.folder.weights, backend="numpy")
    for name, array in result.net.params.items():
        np.testing.assert_array_equal(loaded.params[name], array)
    rows = read_csv(result.folder.metrics)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert ["validation_loss" in row for row in rows] == [False, False, True] * 2
    assert rows[-1] == result.last
    with open(result.folder.times, newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == list("123456")


def test_same_seed_same_bytes(config, dataset, tmp_path):
    train(config, progress=False, dataset=dataset)
    other = config.replace(out=str(tmp_path / "other"))
    train(other, progress=False, dataset=dataset)
    assert files_of(config.out) == files_of(other.out)
    another = config.replace(out=str(tmp_path / "another"), seed=6)
    train(another, progress=False, dataset=dataset)
    assert files_of(config.out) != files_of(another.out)


def test_momentum_schedule_and_seed_reach_the_steps(config, dataset):
    rows = []
    changed = config.replace(schedule="cosine", warmup=2, learning_rate=0.01)
    train(changed, progress=rows.append, dataset=dataset)
    assert [row["learning_rate"] for row in rows] == [changed.rate(step) for step in range(6)]


def test_float64_and_padding(config, dataset):
    result = train(
        config.replace(dtype="float64", padding=1, input_size=32), progress=False, dataset=dataset
    )
    assert result.net.params["output.bias"].dtype == np.float64


@pytest.mark.data
def test_real_micrographs(tmp_path):
    if not data.is_available("isbi2012"):
        pytest.skip("isbi2012 is not in the cache")
    config = TrainConfig(
        data="isbi2012", base_channels=2, input_size=220, steps=3, out=str(tmp_path / "em")
    )
    result = train(config.replace(validation="26-29"), progress=False)
    assert result.step == 3
    assert 0 < result.last["validation_pixel_error"] < 1


# Going on


def test_resume_on_a_machine_with_other_cores(config, dataset, tmp_path, monkeypatch):
    """The order of sums depends on the number of threads, so a run keeps its own."""
    for name, steps in (("whole", (6,)), ("parts", (3, 6))):
        for part in steps:
            monkeypatch.setenv("UNET_NP_THREADS", "2" if part == steps[0] else "1")
            mine = config.replace(out=str(tmp_path / name), steps=part, validation="none")
            train(mine, resume=True, progress=False, dataset=dataset)
    backend.set_thread_count(None)
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "parts")


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_resume_is_bit_for_bit(config, dataset, tmp_path, stop):
    train(config, progress=False, dataset=dataset)

    def cut(row):
        if row["step"] == stop:
            raise RuntimeError("cut")

    broken = config.replace(out=str(tmp_path / "broken"))
    with pytest.raises(RuntimeError, match="cut"):
        train(broken, progress=cut, dataset=dataset)
    result = train(broken, resume=True, progress=False, dataset=dataset)
    assert result.step == 6
    assert files_of(broken.out) == files_of(config.out)
    assert state_of(broken.out) == state_of(config.out)


def test_more_steps_and_nothing_left_to_do(config, dataset, tmp_path):
    train(config.replace(validate_every=50), progress=False, dataset=dataset)
    again = train(config.replace(validate_every=50), resume=True, progress=False, dataset=dataset)
    assert (again.step, again.last) == (6, {})
    longer = config.replace(steps=9, validate_every=50, validation="none")
    with pytest.raises(InputError, match="validation: got 'none', expected 'auto', with which"):
        train(longer, resume=True, progress=False, dataset=dataset)
    result = train(
        config.replace(steps=9, validate_every=50), resume=True, progress=False, dataset=dataset
    )
    assert result.step == 9
    with pytest.raises(InputError, match="steps: got 6, expected at least 9"):
        train(config.replace(validate_every=50), resume=True, progress=False, dataset=dataset)


def test_resume_refuses_other_settings_and_other_data(config, dataset):
    train(config, progress=False, dataset=dataset)
    before = files_of(config.out), Path(config.out, "config.toml").read_bytes()
    changes = ({"learning_rate": 0.5}, {"seed": 6}, {"base_channels": 4})
    for change in changes:
        with pytest.raises(InputError, match=rf"^{next(iter(change))}: got .* the run was begun"):
            train(config.replace(**change), resume=True, progress=False, dataset=dataset)
    with pytest.raises(InputError, match="data: got other images or labels"):
        train(config, resume=True, progress=False, dataset=dataset.subset([3, 2, 1, 0]))
    cosine = config.replace(schedule="cosine", out=config.out + "2")
    train(cosine, progress=False, dataset=dataset)
    with pytest.raises(InputError, match="steps: got 9, expected 6"):
        train(cosine.replace(steps=9), resume=True, progress=False, dataset=dataset)
    assert before == (files_of(config.out), Path(config.out, "config.toml").read_bytes())


def test_resume_mends_weights_older_than_the_checkpoint(config, dataset):
    """As a kill between the two writes of the last step leaves them."""
    train(config, progress=False, dataset=dataset)
    whole = files_of(config.out)
    UNet(base_channels=2, depth=1).save(Path(config.out, "weights.safetensors"))
    train(config, resume=True, progress=False, dataset=dataset)
    assert files_of(config.out) == whole


def test_resume_refuses_another_array_library(config, dataset):
    state = {"config": config.to_dict(), "backend": "cupy", "data": 1, "step": 1}
    state |= {"metrics_bytes": 0, "threads": 1}
    with pytest.raises(InputError, match="backend: got numpy, expected cupy, with which the run"):
        check_same(state, config, 1, "numpy")


def test_an_old_run_is_not_overwritten(config, dataset):
    train(config, progress=False, dataset=dataset)
    before = files_of(config.out)
    with pytest.raises(InputError, match="holds a run already"):
        train(config.replace(seed=1), progress=False, dataset=dataset)
    assert files_of(config.out) == before
    train(config.replace(seed=1), overwrite=True, progress=False, dataset=dataset)
    assert files_of(config.out) != before


def test_a_second_interrupt_is_not_swallowed_and_the_first_saves(config, dataset):
    def interrupt(row):
        if row["step"] == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="stopped after step 3 of 6; --resume"):
        train(config, progress=interrupt, dataset=dataset)
    assert state_of(config.out)[0] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_training_outside_the_main_thread(config, dataset):
    steps = []
    thread = threading.Thread(
        target=lambda: steps.append(train(config, progress=False, dataset=dataset).step)
    )
    thread.start()
    thread.join()
    assert steps == [6]


# As a process that is killed


@pytest.fixture(scope="module")
def own_images(tmp_path_factory, dataset):
    folder = tmp_path_factory.mktemp("own")
    for number, (image, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
        write_png(folder / "images" / f"{number}.png", image)
        write_png(folder / "masks" / f"{number}.png", label.astype(bool))
    return folder


def command(own_images, out, *more):
    flags = "--base-channels 2 --depth 1 --input-size 36 --steps 60 --seed 5 --checkpoint-every 3"
    flags += " --validate-every 7 --no-tensorboard --backend numpy -q"
    files = ["--images", str(own_images / "images"), "--masks", str(own_images / "masks")]
    return [
        sys.executable,
        "-m",
        "unet_np",
        "train",
        *files,
        *flags.split(),
        "--out",
        str(out),
        *more,
    ]


@pytest.fixture(scope="module")
def uninterrupted(own_images, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command(own_images, out), check=True)
    return out


def wait_for_rows(out, count, process):
    metrics = out / "metrics.csv"
    while process.poll() is None and (
        not metrics.exists() or metrics.read_bytes().count(b"\n") < count
    ):
        time.sleep(0.001)


def test_kill_at_any_moment_and_resume_bit_for_bit(own_images, uninterrupted, tmp_path):
    rng, out, kills = random.Random(os.environ.get("UNET_NP_KILL_SEED", "5")), tmp_path / "run", 0
    for target in (0, 1, 9, 20, 38, 50):
        process = subprocess.Popen(command(own_images, out, "--resume"))
        wait_for_rows(out, target, process)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 4
    subprocess.run(command(own_images, out, "--resume"), check=True)
    assert files_of(out) == files_of(uninterrupted)
    assert state_of(out) == state_of(uninterrupted)
    assert not list(out.glob(".*"))


def test_ctrl_c_saves_and_exits_130(own_images, uninterrupted, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(own_images, out, "--steps", "100000"), stderr=subprocess.PIPE, text=True
    )
    wait_for_rows(out, 10, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("unet-np train: stopped after step ")
    assert errors.count("\n") == 1
    step = int(errors.split("step ")[1].split()[0])
    assert state_of(out)[0] == step
    rows = (out / "metrics.csv").read_bytes().splitlines()
    whole = (uninterrupted / "metrics.csv").read_bytes().splitlines()
    shared = min(len(rows), len(whole)) - 1  # the last step of the short run is validated
    assert rows[:shared] == whole[:shared]


def test_resume_needs_no_other_flags(own_images, uninterrupted, tmp_path, capsys):
    out = tmp_path / "run"
    process = subprocess.Popen(command(own_images, out))
    wait_for_rows(out, 5, process)
    process.kill()
    process.wait()
    assert main(["train", "--resume", "--out", str(out), "-q"]) == 0
    assert files_of(out) == files_of(uninterrupted)
    assert main(["train", "--resume", "--out", str(out), "--seed", "6"]) == 2
    assert "seed: got 6, expected 5, with which the run was begun" in capsys.readouterr().err


# What goes wrong


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_explosion_stops_with_advice(config, dataset):
    with pytest.raises(TrainingError) as caught:
        train(config.replace(learning_rate=1e6, steps=50), progress=False, dataset=dataset)
    text = str(caught.value)
    assert "try a learning rate 10 times lower" in text
    assert text.endswith(f"the last good checkpoint is {config.out}/checkpoint.safetensors")
    assert "\n" not in text
    net = UNet.load(Path(config.out, "weights.safetensors"), backend="numpy")
    assert all(np.isfinite(array).all() for array in net.params.values())


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(own_images, tmp_path, monkeypatch, capsys):
    import safetensors.numpy

    real, calls = safetensors.numpy.save_file, []

    def fill(arrays, path, metadata=None):
        calls.append(path)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        real(arrays, path, metadata)

    monkeypatch.setattr(safetensors.numpy, "save_file", fill)
    out = tmp_path / "run"
    assert main(command(own_images, out)[3:]) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "No space left on device" in errors
    assert "the one before it is kept" in errors
    assert state_of(out)[0] in (3, 6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--base-channels", "0"], "base_channels: got 0, expected an integer >= 1"),
        (["--dropout", "1"], "dropout: got 1.0, expected 0 <= dropout < 1"),
        (["--input-size", "37"], "input size: got 37, which is odd"),
        (["--data", "isbi"], "isbi"),
        (["--validation", "0-9"], "validation: got slice 9, expected 0 to 7"),
        (["--validation", "0-7"], "validation: got 0-7, expected a labelled slice of the 8"),
        (["--images", "x"], "masks: got none, expected a file or folder to go with images"),
        (["--schedule", "cosin"], "schedule: got 'cosin', expected one of constant, step"),
        (["--resume", "--overwrite"], "overwrite: got --overwrite with --resume"),
        (["--config", "missing.toml"], "config: got missing.toml, expected a TOML file"),
        (["--steps", "1.5"], "invalid int value"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, flags, message):
    out = tmp_path / "run"
    tiny = ["--base-channels", "2", "--depth", "1", "--input-size", "36", "--steps", "2", "-q"]
    assert main(["train", *tiny, "--out", str(out), *flags]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not out.exists()


def test_help_shows_an_example(capsys):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "unet-np train --data isbi2012 --base-channels 16 --steps 300 --seed 5" in text


# Settings


def test_config_survives_toml(tmp_path):
    config = TrainConfig(
        **TINY, learning_rate=1e-5, out='a "quoted" \\ caf\u00e9', augmentation={"sigma": 4.0}
    )
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), "utf-8")
    assert TrainConfig.from_toml(path) == config
    assert TrainConfig.from_toml(path, seed=3).seed == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 1", "got the unknown key 'learning_rat', expected a setting; nearest"),
        ("steps = 'x'", "steps: got 'x', expected an integer"),
        ("steps = 1.5", "steps: got 1.5, expected an integer"),
        ("seed = true", "seed: got True, expected an integer"),
        ("augment = 1", "augment: got 1, expected true or false"),
        ("learning_rate = nan", "learning_rate: got nan, expected a number"),
        ("augmentation = 3", "augmentation: got 3, expected a table"),
        ("data = 3", "data: got 3, expected a text"),
        ("w0 = -1", "w0: got -1.0, expected a number >= 0"),
        ("weight_variant = 'x'", "weight_variant: got 'x', expected one of paper, falk2019"),
        ("weight_term = 'x'", "weight_term: got 'x', expected one of background, everywhere"),
        (
            "weight_variant = 'falk2019'\nweight_term = 'everywhere'",
            "weight_term: got 'everywhere', expected background for falk2019",
        ),
        ("dtype = 'float16'", "dtype: got 'float16', expected one of float32, float64"),
        ("backend = 'torch'", "backend: got 'torch', expected numpy, cupy or auto"),
        ("out = ''", "out: got '', expected the name of a folder"),
        ("validation = '5-3'", "validation: got '5-3', expected slices such as 0-9,12, or none"),
        ("= 3", "expected a TOML file"),
    ],
)
def test_config_refuses(tmp_path, text, message):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        TrainConfig.from_toml(path)
    assert message.replace("numpy, cupy or auto", "one of numpy, cupy, auto") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_augmentation_is_refused_before_the_first_step(config, dataset):
    with pytest.raises(InputError, match="unknown key 'sigm', expected a setting; nearest"):
        train(config.replace(augmentation={"sigm": 3}), progress=False, dataset=dataset)
    with pytest.raises(InputError, match="sigma: got -3"):
        train(config.replace(augmentation={"sigma": -3}), progress=False, dataset=dataset)
    assert not Path(config.out).exists()


def test_slices():
    assert parse_slices("none") == ()
    assert TrainConfig(validation=[3, 1]).validation == "3,1"
    assert TrainConfig(validation=()).validation == "none"


def test_default_tile_sizes():
    assert TrainConfig().tile_size == 572
    assert TrainConfig(padding=1).tile_size == 384
    assert TrainConfig(depth=2).architecture.is_valid_input(TrainConfig(depth=2).tile_size)


# Samples


def test_split_is_contiguous_and_disjoint(dataset):
    config = TrainConfig(**TINY)
    assert split(config, dataset) == ((0, 1, 2), (3,))
    held_out = config.replace(validation="1", exclude="3")
    assert split(held_out, dataset) == ((0, 2), (1,))
    with pytest.raises(InputError, match="validation: got slice 1, which exclude has too"):
        split(config.replace(validation="1", exclude="0-1"), dataset)


def test_each_epoch_goes_once_through_all(config, dataset):
    samples = prepare(config.replace(validation="none"), dataset, np)
    orders = [[samples.index(4 * epoch + i) for i in range(4)] for epoch in range(20)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 5


def test_tiles_depend_on_the_step_alone(config, dataset):
    samples = prepare(config, dataset, np)
    first = samples.tile(3)
    samples.tile(9)
    again = samples.tile(3)
    for name in ("image", "labels", "weights"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert first.image.shape == (1, 1, 36, 36)
    assert first.labels.shape == first.weights.shape == (1, 20, 20)


def test_tiles_without_augmentation_are_crops(config, dataset):
    samples = prepare(config.replace(augment=False, weight_map=False), dataset, np)
    tile, number = samples.tile(0), samples.index(0)
    labels = samples.training.labels[number]
    windows = np.lib.stride_tricks.sliding_window_view(labels, (20, 20))
    assert (windows == tile.labels[0]).all(axis=(2, 3)).any()
    assert (tile.weights == 1).all()


def test_unknown_pixels_have_no_weight_and_no_say_in_validation(config, dataset):
    from dataclasses import replace

    unknown = np.zeros(dataset.images.shape, bool)
    unknown[:, :, 20:] = True
    partial = replace(dataset, unknown=unknown)
    samples = prepare(config.replace(validation="3"), partial, np)
    assert (samples.training.weights[:, :, 20:] == 0).all()
    assert (samples.training.weights[:, :, :20] > 0).all()
    unknown[0] = True
    assert 0 not in split(config, replace(dataset, unknown=unknown))[0]
    tile = samples.validation_tiles()[0]
    net = UNet(base_channels=2, depth=1, backend="numpy")
    before = Segment().validate(net.forward, [tile])
    tile.labels[tile.weights == 0] ^= 1
    assert Segment().validate(net.forward, [tile]) == pytest.approx(before)


def test_validation_without_held_out_slices_is_empty(config, dataset):
    net = UNet(base_channels=2, depth=1, backend="numpy")
    assert Segment().validate(net.forward, []) == {}
    result = train(config.replace(validation="none"), progress=False, dataset=dataset)
    assert "validation_loss" not in result.last


def test_validate_counts_wrong_pixels(config, dataset):
    samples = prepare(config.replace(validation="0-1"), dataset, np)
    net, tiles = UNet(base_channels=2, depth=1, backend="numpy"), samples.validation_tiles()
    wrong = [net.forward(tile.image).argmax(axis=1) != tile.labels for tile in tiles]
    figures = Segment().validate(net.forward, tiles)
    assert figures["validation_pixel_error"] == pytest.approx(np.mean(wrong))


def test_what_is_held_out_is_the_middle_mirrored_like_numpy():
    image = np.random.default_rng(0).random((7, 10))
    padded = np.pad(image, 20, mode="reflect")
    ((outer, labels, _),) = Segment().held_out((image, image, image), (16, 8))
    np.testing.assert_array_equal(outer, padded[20 - 1 - 4 :][:16, 20 + 1 - 4 :][:, :16])
    np.testing.assert_array_equal(labels, padded[20 - 1 :][:8, 20 + 1 :][:, :8])


def test_data_without_labels_is_refused(config, dataset):
    from dataclasses import replace

    with pytest.raises(InputError, match="data: got synthetic-em without labels"):
        train(config, progress=False, dataset=replace(dataset, labels=None, instances=None))


# Logs


def test_metrics_shorter_than_the_checkpoint_says_are_refused(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step\n")
    with pytest.raises(InputError, match="got 5 bytes, expected the 10 of the checkpoint"):
        CsvLog(path, ("step",), 10)


def test_the_bar_shows_loss_speed_and_time_left(config, dataset, capsys):
    train(config, progress=True, dataset=dataset)
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "loss=" in shown
    assert "validation pixel error=" in shown


def events(folder):
    """What TensorBoard reads: steps with their scalars, or with what was hidden from there on."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    (path,) = Path(folder).iterdir()
    read = [event for event in LegacyEventFileLoader(str(path)).Load() if not event.file_version]
    scalars = [{one.tag: one.simple_value for one in event.summary.value} for event in read]
    return [(e.step, s or e.session_log.status) for e, s in zip(read, scalars, strict=True)]


def test_tensorboard_gets_every_number(tmp_path):
    with TensorBoard(tmp_path / "a", 4) as board:
        board.write({"step": 5, "loss": 0.5, "validation_loss": 0.25})
        board.write({"step": 6, "loss": 0.125})
    hidden, *rest = events(tmp_path / "a")
    assert hidden == (4, 1)  # SessionLog.START
    assert rest == [(5, {"loss": 0.5, "validation_loss": 0.25}), (6, {"loss": 0.125})]
    with TensorBoard(tmp_path / "b", wanted=False) as board:
        board.write({"step": 5, "loss": 0.5})
    assert not (tmp_path / "b").exists()


def test_tensorboard_that_is_asked_for_and_missing_is_one_line(config, dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    train(config, progress=False, dataset=dataset)
    before = files_of(config.out)
    wanted = config.replace(tensorboard=True)
    with pytest.raises(MissingExtraError, match=r"pip install 'unet-np\[tensorboard\]'"):
        train(wanted, overwrite=True, progress=False, dataset=dataset)
    assert files_of(config.out) == before


@pytest.mark.parametrize("wanted", [False, True])
def test_training_does_not_import_torch(tmp_path, wanted):
    """With the default settings, and with TensorBoard, however the modules are imported."""
    code = (
        "import sys; from unet_np import TrainConfig, train\n"
        "assert TrainConfig().tensorboard is False\n"
        f"more = {{'tensorboard': True}} if {wanted} else {{}}\n"
        "config = TrainConfig(base_channels=2, depth=1, input_size=36, steps=2, "
        f"out={str(tmp_path / 'run')!r}, **more)\n"
        "train(config, progress=False)\n"
        "print(sorted({'torch', 'tensorflow'} & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert Path(tmp_path, "run", "tensorboard").exists() == wanted


def test_a_variant_of_the_weight_map_has_its_own_parameters(config, dataset):
    variant = config.replace(weight_map=True, weight_variant="falk2019")
    weights = prepare(variant, dataset, np).tile(0).weights
    own = prepare(variant.replace(w0=50.0, sigma=6.0), dataset, np)
    other = prepare(variant.replace(w0=20.0, sigma=6.0), dataset, np)
    assert np.array_equal(weights, own.tile(0).weights)
    assert not np.array_equal(weights, other.tile(0).weights)


@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (10, None), (None, 5)])
def test_the_paper_s_values_are_kept_where_a_user_sets_them(config, dataset, w0, sigma):
    """Equal to another variant's defaults they are not unset."""
    variant = config.replace(weight_map=True, weight_variant="falk2019", w0=w0, sigma=sigma)
    expected = 10 if w0 else 50, 5 if sigma else 6
    assert variant.weighting == expected
    weights = prepare(variant, dataset, np).training.weights
    instances = scipy.ndimage.label(dataset.labels[0] > 0)[0]
    assert np.array_equal(weights[0], weight_map(instances, *expected, "falk2019"))


def test_what_is_not_set_stays_so_in_files_and_copies(tmp_path):
    config = TrainConfig(weight_variant="falk2019")
    assert "w0" not in config.to_toml()
    (tmp_path / "a.toml").write_text(config.to_toml())
    again = TrainConfig.from_toml(tmp_path / "a.toml")
    assert again == config == TrainConfig.from_dict(config.to_dict())
    assert again.weighting == (50, 6)
    assert again.replace(weight_variant="paper").weighting == (10, 5)
    assert again.replace(task="detect").weighting == (10, 5)
    assert (again.resolved().w0, again.resolved().sigma) == (50, 6)
    explicit = config.replace(w0=10)
    (tmp_path / "b.toml").write_text(explicit.to_toml())
    assert TrainConfig.from_toml(tmp_path / "b.toml").weighting == (10, 6)


def test_resume_goes_by_what_the_weights_of_a_run_were(config):
    """Before 10 and 5 could be set for falk2019, they stood for its own 50 and 6."""

    def check(old, now, **more):
        settings = config.replace(**old).to_dict()
        state = {"config": settings, "backend": "numpy", "data": 1, "step": 1}
        state |= {"metrics_bytes": 0, "threads": 1, **more}
        check_same(state, config.replace(**now), 1, "numpy")

    falk, paper = {"weight_variant": "falk2019"}, {"w0": 10.0, "sigma": 5.0}
    check(paper, {})
    check({}, paper)
    check(falk | paper, falk)
    check(falk | paper, falk | {"w0": 50.0, "sigma": 6.0})
    check(falk | paper, falk | paper, weighting=[10.0, 5.0])
    check({"task": "detect"} | falk | paper, {"task": "detect"} | falk)
    with pytest.raises(InputError, match=r"w0: got 10.0, expected 50.0, with which the run"):
        check(falk | paper, falk | paper)
    with pytest.raises(InputError, match=r"w0: got 50.0, expected 10.0, with which the run"):
        check(falk | paper, falk, weighting=[10.0, 5.0])
    with pytest.raises(InputError, match=r"sigma: got 4.0, expected 5.0, with which the run"):
        check({}, {"sigma": 4})


def test_numbers_of_numpy_are_settings(tmp_path):
    given = {
        "seed": np.int64(3),
        "steps": np.uint8(20),
        "base_channels": np.int32(2),
        "padding": np.array(1),
        "learning_rate": np.float32(0.25),
        "dropout": np.float64(0.5),
        "w0": np.int16(7),
        "weight_map": np.bool_(False),
        "task": np.str_("segment"),
        "validation": range(26, 30),
        "exclude": np.arange(3),
        "augmentation": {"grid": np.int64(4), "flip": np.bool_(False), "gamma": np.float32(0.5)},
    }
    config = TrainConfig(**given)
    assert (config.validation, config.exclude) == ("26,27,28,29", "0,1,2")
    for name, value in config.to_dict().items():
        assert type(value) in (int, float, bool, str, dict, type(None)), name
    assert config.augmentation == {"grid": 4, "flip": False, "gamma": 0.5}
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert TrainConfig.from_toml(tmp_path / "config.toml") == config
    assert TrainConfig(exclude=np.int64(3)).exclude == "3"
    for wrong in (np.float32(2.5), np.arange(2), np.bool_(True)):
        with pytest.raises(InputError, match=r"seed: got .*, expected an integer"):
            TrainConfig(seed=wrong)


def test_resume_of_a_folder_without_a_run(tmp_path, capsys):
    from unet_np.cli import main

    assert main(["train", "--resume", "--out", str(tmp_path / "nosuch")]) == 2
    message = capsys.readouterr().err
    assert message.endswith("nosuch, which holds no run, expected one\n")
    assert not (tmp_path / "nosuch").exists()
