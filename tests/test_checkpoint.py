"""Checkpoints that are whole or not there."""

import subprocess
import sys

import numpy as np
import pytest

from unet_np.errors import InputError, TrainingError
from unet_np.network.init import store_weight
from unet_np.training.checkpoint import RunFolder, copy_into, load_checkpoint, save_checkpoint

PARAMS = {"w": store_weight("conv", np.arange(36.0).reshape(2, 2, 3, 3), np, "float32")}
VELOCITY = {"w": PARAMS["w"] * 2}


def test_round_trip(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    state = {"step": 3, "config": {"seed": 5, "data": "a \u00e9"}, "metrics_bytes": 10}
    save_checkpoint(path, PARAMS, VELOCITY, state)
    params, velocity, loaded = load_checkpoint(path)
    assert loaded == state
    np.testing.assert_array_equal(params["w"], PARAMS["w"])
    np.testing.assert_array_equal(velocity["w"], VELOCITY["w"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_same_state_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_checkpoint(tmp_path / f"{name}.safetensors", PARAMS, VELOCITY, {"b": 1, "a": 2})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_failing_write_keeps_the_old_one(tmp_path, monkeypatch):
    import safetensors.numpy

    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, PARAMS, VELOCITY, {"step": 1})

    def fail(arrays, file, metadata):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(TrainingError) as caught:
        save_checkpoint(path, PARAMS, VELOCITY, {"step": 2})
    assert str(caught.value) == (
        f"cannot write {path} (No space left on device); the one before it is kept"
    )
    assert load_checkpoint(path)[2] == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", "cut"])
def test_a_broken_file_is_one_line(tmp_path, content):
    path = tmp_path / "checkpoint.safetensors"
    if content == "cut":
        save_checkpoint(path, PARAMS, VELOCITY, {})
        content = path.read_bytes()[:-10]
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint: got .*, expected a whole checkpoint") as e:
        load_checkpoint(path)
    assert "\n" not in str(e.value)


def test_missing_or_another_file_is_one_line(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        load_checkpoint(path)
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(InputError, match="a file of other content, expected a checkpoint"):
        load_checkpoint(path)


def test_copy_into_keeps_the_memory_order_and_refuses_other_shapes():
    target = {"w": store_weight("conv", np.zeros((2, 2, 3, 3)), np, "float32")}
    strides = target["w"].strides
    copy_into(target, {"w": np.ascontiguousarray(PARAMS["w"])}, "checkpoint")
    np.testing.assert_array_equal(target["w"], PARAMS["w"])
    assert target["w"].strides == strides
    with pytest.raises(InputError, match=r"checkpoint: got shape \(3,\) for w, expected \(2, 2"):
        copy_into(target, {"w": np.zeros(3)}, "checkpoint")
    with pytest.raises(InputError, match="checkpoint: got shape none for w"):
        copy_into(target, {}, "checkpoint")
    with pytest.raises(InputError, match="for v, expected none"):
        copy_into(target, {**PARAMS, "v": np.zeros(3)}, "checkpoint")


def test_begin_refuses_a_folder_that_holds_a_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.begin(1000, resume=False, overwrite=False)
    save_checkpoint(folder.checkpoint, PARAMS, VELOCITY, {"step": 1})
    old = folder.checkpoint.read_bytes()
    folder.metrics.write_bytes(b"old")
    with pytest.raises(InputError, match="holds a run already, expected a new folder, or --res"):
        folder.begin(1000, resume=False, overwrite=False)
    folder.begin(1000, resume=True, overwrite=False)
    assert folder.checkpoint.read_bytes() == old
    folder.begin(1000, resume=False, overwrite=True)
    assert list((tmp_path / "run").iterdir()) == []


def test_begin_refuses_a_place_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder that can be written to"):
        RunFolder(tmp_path / "file" / "run").begin(1000, resume=False, overwrite=False)
    with pytest.raises(InputError, match="expected a folder that can be written to"):
        RunFolder(tmp_path / "file").begin(1000, resume=False, overwrite=False)


def test_begin_refuses_a_disk_without_room(tmp_path):
    # A limit on the size of files fails as a full disk does, and needs no disk.
    code = (
        "import resource; from unet_np.training.checkpoint import RunFolder;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000));"
        f"RunFolder({str(tmp_path / 'run')!r}).begin(1_000_000, False, False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "expected a folder that can be written to with room for 7 MB" in last
    assert last.startswith("unet_np.errors.InputError: out: got ")
    assert list((tmp_path / "run").iterdir()) == []
