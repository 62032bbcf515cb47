"""A short run of `tools/fuzz_files.py`, and what hostile files and settings cost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tools import fuzz_files as fuzz
from unet_np.errors import InputError
from unet_np.training import memory
from unet_np.training.config import TrainConfig


@pytest.mark.filterwarnings("ignore")
def test_mutated_files() -> None:
    found = list(fuzz.run(2500, seed=0))
    outcomes = Counter(outcome for _, outcome, _, _ in found)
    assert [one for one in found if one[1] in fuzz.FAULTS] == []
    assert outcomes["refused"] > 1000
    assert outcomes["read"] > 400
    # Each kind is read whole: what is refused is refused for what was done to it.
    assert {kind for kind, outcome, _, _ in found if outcome == "read"} >= {*fuzz.readers(Path())}


HOSTILE = {
    "depth": {"depth": 10**6},
    "deep": {"depth": 20},
    "channels": {"base_channels": 10**9},
    "classes": {"num_classes": 10**12},
}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux counts it")
@pytest.mark.parametrize("name", [*HOSTILE, "nested", "toml", "tiles", "batch", "slices"])
def test_bounds_before_memory(name: str, tmp_path: Path) -> None:
    """One line within a second of work and 200 MB, whatever a header or a setting promises."""
    about = {"in_channels": 1, "num_classes": 2, "base_channels": 2, "depth": 1, "padding": 0}
    lines = {"tiles": "input_size = 1000000012", "batch": "batch_size = 1000000000"}
    lines |= {"toml": "depth = 1000000", "slices": 'validation = "0-9999999999"'}
    if name in lines:
        (tmp_path / "c.toml").write_text(lines[name])
        command = ["train", "--config", "c.toml", "--out", "run"]
    else:
        text = json.dumps({"architecture": about | HOSTILE.get(name, {}), "dropout": 0.5})
        nested = "[" * 10**5 if name == "nested" else text
        save_file({"w": np.zeros(9, np.float32)}, tmp_path / "w.safetensors", {"unet_np": nested})
        command = ["summary", "--weights", "w.safetensors"]
    code = (
        "import resource, sys, time; from unet_np.cli import main; import unet_np.network.unet\n"
        "import unet_np.training.loop; begun = time.process_time(); code = main(sys.argv[1:])\n"
        "peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM')][0]\n"
        "print(code, time.process_time() - begun, peak.split()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    exit_code, seconds, peak = done.stdout.split()
    assert exit_code == "2", done.stderr
    assert next(line for line in done.stderr.splitlines() if "checksum" not in line).startswith(
        f"unet-np {command[0]}: error: "
    )
    assert float(seconds) < 1
    assert int(peak) < 200_000


def test_settings_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small = TrainConfig(base_channels=2, depth=1, input_size=36)
    memory.check_memory(small)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    begun = time.perf_counter()
    with pytest.raises(InputError, match=r"^base_channels: got base_channels 2, depth 1, batch_s"):
        memory.check_memory(small)
    assert time.perf_counter() - begun < 5
