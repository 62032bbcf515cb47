"""Where a command prints to: a full disk, a closed stream, an encoding that lacks a letter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unet_np import UNet
from unet_np.images import write_png

ROOT = Path(__file__).parents[1]
TRAIN = (
    "train --base-channels 2 --depth 1 --steps 3 --input-size 36 --no-weight-map --out run "
    "--threads 1"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")


def shell(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        ["sh", "-c", command.replace("unet-np", f"{sys.executable} -m unet_np", 1)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_a_full_standard_output_is_one_line(tmp_path: Path) -> None:
    done = shell("unet-np summary > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "unet-np summary: error: standard output: No space left on device\n"


def test_a_closed_standard_output_is_nobody_s_fault(tmp_path: Path) -> None:
    done = shell("unet-np summary >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_a_training_does_not_need_its_progress_bar(tmp_path: Path, where: str) -> None:
    done = shell(f"unet-np {TRAIN} {where}", tmp_path)
    assert done.returncode == 0
    assert "weights: run/weights.safetensors" in done.stdout
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 4
    assert (tmp_path / "run" / "weights.safetensors").is_file()


@pytest.mark.parametrize("name", ["é漢.png", "caf\udce9.png"])
def test_names_that_the_encoding_lacks_are_escaped(tmp_path: Path, name: str) -> None:
    UNet(base_channels=2, depth=1, backend="numpy").save(tmp_path / "w.safetensors")
    write_png(tmp_path / "a.png", np.eye(40).astype(np.uint8))
    (tmp_path / "a.png").rename(tmp_path / name)
    command = "unet-np segment *.png --weights w.safetensors"
    done = shell(command, tmp_path, PYTHONIOENCODING="ascii:strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert done.stdout.startswith("wrote ")
    stem = name.removesuffix(".png")
    assert (tmp_path / f"{stem}-labels.tif").is_file()


def test_what_overflows_is_told_in_one_line(tmp_path: Path) -> None:
    done = shell(f"unet-np {TRAIN} --learning-rate 1e30 -q", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("unet-np train: error: step 2: loss nan, gradient norm nan")
    assert done.stderr.count("\n") == 1
