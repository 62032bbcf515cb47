"""The folder of a run: what else lies there, links, locks, and what becomes of it meanwhile."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet_np import UNet, pretrained
from unet_np.cli import main
from unet_np.errors import InputError, TrainingError
from unet_np.files import weights as weights_file
from unet_np.files.weights import read_weights, write_weights
from unet_np.training.checkpoint import load_checkpoint, save_checkpoint
from unet_np.training.config import TrainConfig
from unet_np.training.lock import FolderLock
from unet_np.training.loop import train

SMALL = {
    "base_channels": 2, "depth": 1, "steps": 2, "input_size": 36, "weight_map": False,
    "checkpoint_every": 1, "validation": "none", "augment": False,
}  # fmt: skip
FLAGS = [
    "--base-channels",
    "2",
    "--depth",
    "1",
    "--steps",
    "2",
    "--input-size",
    "36",
    "--no-weight-map",
    "--no-augment",
]
RUN = ["checkpoint.safetensors", "config.toml", "metrics.csv", "times.csv", "weights.safetensors"]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other links and locks")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(folder: str = "run", resume: bool = False, overwrite: bool = False, **more: Any) -> Any:
    progress = more.pop("progress", False)
    return train(TrainConfig(out=folder, **SMALL | more), resume, overwrite, progress)


def everything(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_files_of_others_are_not_touched() -> None:
    names = [".checkpoint-notes", ".config-backup", ".tmpabcdef", "times.csv", "notes.txt"]
    Path("run").mkdir()
    for name in names:
        Path("run", name).write_text("mine")
    before = everything("run")
    expected = r"holds notes.txt, times.csv and no run, .* --overwrite, which replaces times.csv$"
    for resume in (False, True):
        with pytest.raises(InputError, match=expected):
            run(resume=resume)
    assert everything("run") == before
    run(overwrite=True)
    after = everything("run")
    assert {name for name in names if after[name] == b"mine"} == {*names} - {"times.csv"}
    assert {*after} == {*names, *RUN}


def test_hidden_files_make_no_folder_somebody_s() -> None:
    Path("run").mkdir()
    Path("run/.DS_Store").write_text("")
    run()


def test_a_run_that_was_killed_before_its_first_checkpoint_is_one() -> None:
    run()
    for name in RUN:
        if name != "config.toml":
            Path("run", name).unlink()
    with pytest.raises(InputError, match="holds a run already"):
        run(steps=3)
    run(steps=3, resume=True)


def test_settings_that_were_read_keep_their_remarks(capsys: pytest.CaptureFixture[str]) -> None:
    text = "# mine\n" + TrainConfig(out="run", **SMALL).to_toml()
    Path("run").mkdir()
    Path("run/config.toml").write_text(text)
    command = ["train", "--config", "run/config.toml", "--out", "run", "-q"]
    assert main(command) == 0
    assert main([*command, "--overwrite"]) == 0
    assert main(["train", "--resume", "--out", "run", "-q"]) == 0
    assert Path("run/config.toml").read_text() == text
    assert main([*command, "--overwrite", "--steps", "3"]) == 2
    assert "--config: got run/config.toml, which the run in --out rep" in capsys.readouterr().err
    assert Path("run/config.toml").read_text() == text


@posix
@pytest.mark.parametrize("name", ["metrics.csv", "times.csv"])
def test_links_are_never_cut(name: str) -> None:
    run()
    shutil.move(f"run/{name}", "elsewhere.csv")
    Path("run", name).symlink_to(Path("elsewhere.csv").resolve())
    before = Path("elsewhere.csv").read_bytes()
    with pytest.raises(InputError, match=f"{name}: got a link, expected a file of the run's own"):
        run(resume=True, steps=3)
    assert Path("elsewhere.csv").read_bytes() == before
    run(overwrite=True)
    assert Path("elsewhere.csv").read_bytes() == before


@posix
def test_a_copy_by_hard_links_stays_as_it_was() -> None:
    run()
    Path("copy").mkdir()
    for name in RUN:
        os.link(f"run/{name}", f"copy/{name}")
    before = everything("copy")
    run(resume=True, steps=4)
    assert everything("copy") == before
    assert everything("run")["metrics.csv"].startswith(before["metrics.csv"])


@posix
def test_one_training_at_a_time() -> None:
    code = "import sys; from unet_np.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "train", *FLAGS, "--out", "run", "-q"]
    Path("run").mkdir()
    with FolderLock("run"):
        for more in ([], ["--resume"], ["--overwrite"]):
            done = subprocess.run([*command, *more], capture_output=True, text=True)
            assert done.returncode == 2
            assert done.stderr == (
                "unet-np train: error: out: got run, in which another training runs, expected "
                "another folder\n"
            )
        assert everything("run") == {}
    run()
    run(overwrite=True), "the lock ends with the training"


@posix
def test_an_interrupt_right_behind_the_lock_leaves_it_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def locked(path: str) -> None:
        _ = FolderLock(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("unet_np.training.run.FolderLock", locked)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert run().step == 2


@posix
@pytest.mark.parametrize("what", ["renamed", "removed", "replaced"])
def test_a_folder_that_goes_away_ends_the_training(what: str) -> None:
    def move(row: dict[str, Any]) -> None:
        if row["step"] == 1:
            shutil.move("run", "elsewhere")
            if what == "removed":
                shutil.rmtree("elsewhere")
            if what == "replaced":
                Path("run").mkdir()

    with pytest.raises(TrainingError, match="run was removed or renamed while training"):
        run(progress=move, steps=9)
    assert not Path("run").exists() or everything("run") == {}
    if what == "renamed":
        assert run("elsewhere", resume=True, steps=9).step == 9


ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float16)}


def test_any_flipped_bit_is_noticed() -> None:
    """Of the arrays, the names, the shapes, the strings: wherever it still is a whole file."""
    write_weights("a.safetensors", ARRAYS, {"about": "something", "more": "than that"})
    whole = Path("a.safetensors").read_bytes()
    found, about = read_weights("a.safetensors")
    assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)
    noticed = 0
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        Path("b.safetensors").write_bytes(damaged)
        try:
            arrays, metadata = read_weights("b.safetensors")
        except InputError as error:
            noticed += "its checksum is another" in str(error)
            continue
        # Spaces of the header and the key of the checksum itself say nothing about the content.
        assert {k: v.tolist() for k, v in arrays.items()} == {
            k: v.tolist() for k, v in found.items()
        }
        assert metadata["about"] == about["about"]
        assert metadata["more"] == about["more"]
    assert noticed > 8 * sum(array.nbytes for array in ARRAYS.values())


def test_the_same_content_gives_the_same_bytes() -> None:
    contents = set()
    for _ in range(8):
        write_weights("a.safetensors", ARRAYS, {f"key {i}": str(i) for i in range(6)})
        contents.add(Path("a.safetensors").read_bytes())
    assert len(contents) == 1


def test_checkpoints_are_checked_too() -> None:
    save_checkpoint("c.safetensors", {"w": np.ones(9)}, {"w": np.zeros(9)}, {"step": 3})
    damaged = bytearray(Path("c.safetensors").read_bytes())
    damaged[-30] ^= 4
    Path("c.safetensors").write_bytes(damaged)
    with pytest.raises(InputError, match=r"^checkpoint: got c.safetensors, damaged: its checksum"):
        load_checkpoint("c.safetensors")


def test_files_from_before_are_read_with_a_remark(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import save_file

    save_file(ARRAYS, "old.safetensors", {"about": "x"})
    # Whatever other tests and their libraries did to the loggers of this process.
    monkeypatch.setattr(logging.getLogger("unet_np.files"), "disabled", False)
    with caplog.at_level(logging.WARNING, "unet_np.files"):
        assert set(read_weights("old.safetensors")[0]) == {"w", "b"}
    assert caplog.messages == [
        "old.safetensors: has no checksum, so that damage would not be noticed"
    ]


def test_networks_of_the_package_are_checked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretrained._check.cache_clear()
    for name in pretrained.NAMES:
        pretrained.load(name)
    assert caplog.messages == []
    monkeypatch.setattr(pretrained, "registry", lambda: {"em": "0" * 64})
    pretrained._check.cache_clear()
    with pytest.raises(InputError, match=r"^model: got em, damaged: .* has another SHA-256 than"):
        pretrained.path("em")
    pretrained._check.cache_clear()


def test_a_network_is_saved_with_its_checksum() -> None:
    UNet(base_channels=2, depth=1, backend="numpy").save("n.safetensors", metadata={"cells": "{}"})
    arrays, metadata = read_weights("n.safetensors")
    assert metadata["checksum"] == weights_file.digest(arrays, metadata)
