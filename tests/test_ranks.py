"""Training on several ranks: real ones on this machine, each start bounded in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import on_ranks
import pytest

from unet_np.cli import main
from unet_np.errors import FailedElsewhereError, InputError, MissingExtraError
from unet_np.images import write_png
from unet_np.training import ranks as ranks_module
from unet_np.training.checkpoint import load_checkpoint
from unet_np.training.logs import read_csv
from unet_np.training.loop import train
from unet_np.training.memory import check_memory, least_bytes
from unet_np.training.ranks import LAUNCHERS, Ranks, launch, launched
from unet_np.training.samples import prepare

MPIRUN = Path(sys.executable).with_name("mpirun")
SCRIPT = [sys.executable, on_ranks.__file__]
TRAIN = [sys.executable, "-m", "unet_np", "train"]
SECONDS = 180  # on a crowded machine; a hang is a failure, and not of this one alone

needs_mpi = pytest.mark.skipif(not MPIRUN.exists(), reason="no MPI beside this Python")


def start(*command, count=2):
    """Real ranks in a session of their own."""
    line = [str(MPIRUN), "-n", str(count), *command]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=environment(), start_new_session=True, **streams)


def environment():
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def end(process):
    """Exit code and the lines of stderr that are not mpirun's own, within the time."""
    try:
        _, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    lines = errors.splitlines()
    return process.returncode, [line for line in lines if not line.startswith("[mpiexec@")]


def wait_until(process, there):
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline and not there():
        time.sleep(0.05)


def run(*command, count=2):
    return end(start(*command, count=count))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, dataset = tmp_path_factory.mktemp("own"), on_ranks.dataset()
    for number, (image, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
        write_png(folder / "images" / f"{number}.png", image)
        write_png(folder / "other" / f"{number}.png", image.max() - image)
        write_png(folder / "masks" / f"{number}.png", label.astype(bool))
    return folder


def flags(folder, out, *more, images="images"):
    shown = "--base-channels 2 --depth 1 --input-size 36 --seed 5 --checkpoint-every 3 -q"
    shown += " --validate-every 4 --backend numpy --threads 1"
    files = ["--images", str(folder / images), "--masks", str(folder / "masks")]
    return [*TRAIN, *shown.split(), *files, "--out", str(out), *more]


def files_of(out):
    """What must not differ, as bytes."""
    return [Path(out, name).read_bytes() for name in ("weights.safetensors", "metrics.csv")]


# The same steps


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    if not MPIRUN.exists():
        pytest.skip("no MPI beside this Python")
    folder = tmp_path_factory.mktemp(f"on {request.param}")
    assert run(*SCRIPT, "same", str(folder), count=request.param) == (0, [])
    return folder, request.param


@pytest.mark.parametrize("name", ["paper", "two tiles each", "instance", "patience"])
def test_ranks_make_the_steps_of_a_larger_batch(together, tmp_path, name):
    folder, count = together
    config = on_ranks.settings(tmp_path, name)
    batch = config.replace(batch_size=count * config.batch_size, threads=1)
    alone = train(batch, progress=False, dataset=on_ranks.dataset())
    found, expected = (read_csv(Path(f, name, "metrics.csv")) for f in (folder, tmp_path))
    assert len(found) == len(expected) >= 20 - 10 * (name == "patience")
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=1e-12)
    if name == "patience":
        assert alone.stopped_early
        return
    for key, array in np.load(folder / f"{name} 1.npz").items():
        np.testing.assert_allclose(array, alone.net.state[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["paper", "batch", "detect", "begun"])
def test_all_ranks_end_with_the_same_weights(together, name):
    """Also where the ranks do not make the steps of a larger batch: see `Ranks.mean`."""
    folder, count = together
    states = [np.load(folder / f"{name} {rank}.npz") for rank in range(count)]
    for state in states[1:]:
        for key, array in states[0].items():
            assert array.tobytes() == state[key].tobytes()


def test_running_statistics_are_the_mean_of_the_ranks_ones(together, tmp_path):
    """Batch normalisation goes by the tiles of a rank; of the first layer the means add up."""
    folder, count = together
    config = on_ranks.settings(tmp_path, "batch, one step").replace(batch_size=count, threads=1)
    alone = train(config, progress=False, dataset=on_ranks.dataset()).net.buffers
    found = np.load(folder / "batch, one step 0.npz")
    first, *_, last = (key for key in alone if key.endswith(".mean"))
    np.testing.assert_allclose(found[first], alone[first], rtol=1e-12)
    assert not np.allclose(found[last], alone[last], rtol=1e-6)


def test_each_tile_is_learned_from_once(images, tmp_path):
    config = on_ranks.settings(tmp_path, "two tiles each")
    of_three = [prepare(config, on_ranks.dataset(), np, rank, 3) for rank in range(3)]
    taken = [number for step in range(4) for one in of_three for number in one.numbers(step)]
    assert taken == list(range(24))
    whole = prepare(config.replace(batch_size=6), on_ranks.dataset(), np)
    parts = np.concatenate([one.tile(2).image for one in of_three])
    assert parts.tobytes() == whole.tile(2).image.tobytes()
    shape = (2, 3, 4, 5)
    drawn = [one.dropout(2, np).random(shape, np.float32) for one in of_three]
    all_six = whole.dropout(2, np).random((6, *shape[1:]), np.float32)
    assert np.concatenate(drawn).tobytes() == all_six.tobytes()


@needs_mpi
@pytest.mark.parametrize("what", ["device", "nccl"])
def test_ranks_on_the_stand_in_for_cupy(together, tmp_path, what, monkeypatch):
    """No array of the host meets one of the device, and the steps are the host's."""
    _, count = together
    assert run(*SCRIPT, what, str(tmp_path), count=count) == (0, [])
    config = on_ranks.settings(tmp_path / "alone", "paper")
    config = config.replace(batch_size=count, dropout=0.0, threads=1)
    # As there.
    monkeypatch.setattr("unet_np.ops.conv.choose", lambda *_, **__: "im2col")
    train(config, progress=False, dataset=on_ranks.dataset())
    folders = tmp_path / "paper", tmp_path / "alone" / "paper"
    found, expected = (read_csv(folder / "metrics.csv") for folder in folders)
    losses = [[row["loss"] for row in rows] for rows in (found, expected)]
    # Tiles are warped by another function there, in float32.
    assert losses[0] == pytest.approx(losses[1], rel=1e-7)


# Files of a run


@needs_mpi
def test_resume_is_bit_for_bit_at_the_same_number_of_ranks(images, tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*flags(images, whole, "--steps", "12")) == (0, [])
    assert run(*flags(images, parts, "--steps", "8")) == (0, [])
    # Begun alone it would make other steps: refused, and nothing is lost.
    assert main(["train", "--resume", "--out", str(parts), "--steps", "12", "-q"]) == 2
    assert "ranks: got 1, expected 2, with which the run was begun" in capsys.readouterr().err
    resumed = run(*TRAIN, "--resume", "--out", str(parts), "--steps", "12", "-q")
    assert resumed == (0, [])
    assert files_of(parts) == files_of(whole)
    found, expected = (load_checkpoint(out / "checkpoint.safetensors") for out in (parts, whole))
    for group in (0, 1):
        for key, array in expected[group].items():
            assert found[group][key].tobytes() == array.tobytes()


@needs_mpi
def test_a_rank_that_is_killed_ends_all_and_the_run_goes_on(tmp_path):
    code, _ = run(*SCRIPT, "killed", str(tmp_path))
    assert code != 0
    out = tmp_path / "paper"
    assert load_checkpoint(out / "checkpoint.safetensors")[2]["step"] == 6
    assert not list(out.glob(".*"))


@needs_mpi
def test_ctrl_c_finishes_the_step_and_saves(images, tmp_path):
    out = tmp_path / "run"
    process = start(*flags(images, out, "--steps", "100000"))
    times = out / "times.csv"
    wait_until(process, lambda: times.exists() and len(read_csv(times)) > 5)
    process.send_signal(signal.SIGINT)
    code, lines = end(process)
    assert code == 130
    assert len(lines) == 1
    assert lines[0].startswith("unet-np train: stopped after step ")
    step = int(lines[0].split("step ")[1].split()[0])
    assert load_checkpoint(out / "checkpoint.safetensors")[2]["step"] == step
    assert len(read_csv(out / "metrics.csv")) == step


# What goes wrong


@needs_mpi
@pytest.mark.parametrize(("number", "word"), [("SIGINT", "interrupted"), ("SIGTERM", "SIGTERM")])
def test_a_signal_before_the_first_step_ends_all_with_one_line(tmp_path, number, word):
    process = start(*SCRIPT, "slow", str(tmp_path))
    wait_until(process, lambda: {"0", "1"} <= {path.name for path in tmp_path.iterdir()})
    process.send_signal(getattr(signal, number))
    code, lines = end(process)
    assert code == 128 + getattr(signal, number)
    assert len(lines) == 1
    assert lines[0].startswith("unet-np: ")
    assert word in lines[0]


@needs_mpi
@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("fails", 1, "unet-np train on rank 1: error: out of memory (no room for tile 7)"),
        ("full", 1, "(No space left on device); the one before it is kept"),
    ],
)
def test_an_error_on_one_rank_ends_all_with_one_line(tmp_path, what, code, message):
    found, lines = run(*SCRIPT, what, str(tmp_path))
    assert found == code
    assert len(lines) == 1
    assert message in lines[0]
    kept = load_checkpoint(tmp_path / "paper" / "checkpoint.safetensors")[2]
    assert kept["step"] == {"fails": 6, "full": 3}[what]


@needs_mpi
def test_ranks_with_other_data_settings_or_files(images, tmp_path):
    good, out = flags(images, tmp_path / "run"), tmp_path / "run"
    one = [str(MPIRUN), "-n", "1", *good, ":", "-n", "1"]
    cases = {
        "data: got checksum ": flags(images, out, images="other"),
        "seed: got 6 on rank 1, expected 5 as on rank 0": [*good, "--seed", "6"],
        " on rank 1: error: images: ": flags(images, out, images="mising"),
    }
    for message, other in cases.items():
        done = subprocess.run(
            [*one, *other], env=environment(), capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
        assert not out.exists()


@needs_mpi
@pytest.mark.parametrize("wrong", [["--depth", "0"], ["--dept", "0"], ["--momentum", "x"]])
def test_what_is_wrong_on_all_ranks_is_said_once(tmp_path, wrong):
    code, lines = run(*TRAIN, "--out", str(tmp_path / "run"), *wrong)
    assert (code, len(lines)) == (2, 1)


def of_rank(monkeypatch, rank, size):
    for names in LAUNCHERS:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name, value in zip(LAUNCHERS[0], (rank, size), strict=True):
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(("rank", "lines"), [(0, 1), (1, 0)])
def test_without_the_extra_one_line_names_it(monkeypatch, capsys, rank, lines):
    of_rank(monkeypatch, rank, 2)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert main(["train", "-q"]) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == lines
    assert ("pip install 'unet-np[scale]'" in errors) == (rank == 0)


def test_an_mpi_that_cannot_be_loaded_or_is_another(monkeypatch):
    of_rank(monkeypatch, 0, 2)

    def missing():
        raise RuntimeError("cannot load MPI library")

    monkeypatch.setattr(ranks_module, "_mpi", missing)
    with (
        pytest.raises(MissingExtraError, match=r"found no MPI \(cannot load MPI library\)"),
        launched(),
    ):
        pass
    world = type("World", (), {"Get_size": lambda self: 1})()
    monkeypatch.setattr(ranks_module, "_mpi", lambda: type("MPI", (), {"COMM_WORLD": world}))
    with pytest.raises(InputError, match=r"^mpirun: got 2 processes that do not find"), launched():
        pass


def test_one_process_asks_for_no_mpi(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    of_rank(monkeypatch, 0, 1)
    assert launch() == (0, 1)
    with launched() as ranks:
        assert ranks is ranks_module.ALONE
    of_rank(monkeypatch, 3, 4)
    assert launch() == (3, 4)
    monkeypatch.setenv("PMI_SIZE", "four")
    assert launch() == (0, 1)


class Said:
    """A communicator whose other ranks have said what they will."""

    def __init__(self, *others, rank=0):
        self.others, self.rank = list(others), rank

    def allgather(self, mine):
        return [*self.others[: self.rank], mine, *self.others[self.rank :]]


def of(*others, rank=0):
    ranks = Ranks()
    ranks.comm, ranks.rank, ranks.size = Said(*others, rank=rank), rank, len(others) + 1
    return ranks


def test_the_first_error_counts_and_is_that_rank_s_to_say():
    failed = (None, InputError("images: gone"))
    with pytest.raises(FailedElsewhereError, match="images: gone"):
        of(failed).agree(1)
    with pytest.raises(FailedElsewhereError, match="images: gone"):
        of(failed, rank=1).agree(error=OSError("mine"))
    assert of(failed).agree(error=InputError("mine")) == [None, None]
    assert of((True, None)).any(False)


def test_memory_is_shared_by_the_ranks_of_a_machine(tmp_path, monkeypatch):
    config = on_ranks.settings(tmp_path, "paper")
    free = least_bytes(config) * 3
    monkeypatch.setattr("unet_np.training.memory.available_memory", lambda: free)
    check_memory(config, 3)
    with pytest.raises(InputError, match=r"^base_channels: got base_channels 2"):
        check_memory(config, 4)


class FirstIsInRows:
    """A communicator of two ranks, of which the first has its numbers in memory row by row."""

    def Get_rank(self):
        return 1

    def Get_size(self):
        return 2

    def Split_type(self, _kind):
        return self

    def allgather(self, mine):
        (loss, orders), _ = mine
        return [((loss, [sorted(order) for order in orders]), None), mine]

    def Allreduce(self, _place, numbers):
        numbers += np.arange(numbers.size)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_ranks_add_the_same_numbers_however_they_lie_in_memory(axes, monkeypatch):
    monkeypatch.setattr(
        ranks_module, "_mpi", lambda: SimpleNamespace(COMM_TYPE_SHARED=0, IN_PLACE=0)
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which ranks share out
    other = np.arange(24.0).reshape(2, 3, 4)
    mine = np.ascontiguousarray(other.transpose(axes)).transpose(np.argsort(axes))
    assert (mine == other).all()
    assert Ranks(FirstIsInRows()).mean(0.5, [mine]) == 0.5
    np.testing.assert_array_equal(mine, other)
