"""Commands that are killed at random moments: what is lost, and what stays.

Each command runs where a file of somebody else's and its own earlier results lie beside its
outputs. After the signal, every file is the old one or a whole new one; after SIGTERM, SIGINT and
SIGHUP nothing temporary is there; after SIGKILL the next run removes it; a training goes on bit for
bit as if it had been left alone. Moments and times are the processor's, so that other work on the
machine is no hang: a command hangs that takes 2 s of it after the signal, or none for 10 s.

    python -m tools.fuzz_kills --count 100 --seed 0
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import UNet
from unet_np.files.weights import read_weights
from unet_np.images import read_image, write_png, write_tiff
from unet_np.tasks import Classify, Detect

SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP)
COMMANDS = {
    "segment": "segment a.png -o out/o.tif --weights w.safetensors --instances",
    "detect": "detect a.png -o out/o.csv --weights d.safetensors",
    "classify": "classify a.png -o out/o.csv --weights c.safetensors --stride 4",
    "evaluate": "evaluate p.tif l.png --json out/o.json",
    "onnx": "export --model em --onnx out/o.onnx",
    "torch": "export --model em --torch out",
    "preview": "data show synthetic-em --preview out/o.png",
    "train": "train --base-channels 8 --depth 2 --steps 12 --checkpoint-every 2 --out out/run",
    "experiment": "experiment em --quick --runs out/runs --results out",
}
BUSY, IDLE = 2.0, 10.0  # seconds after which a command that was told to end hangs


def prepare(folder: Path) -> None:
    """What the commands read."""
    small = {"base_channels": 4, "depth": 2, "backend": "numpy"}
    UNet(**small).save(folder / "w.safetensors")
    UNet(**small, **Detect.options).save(folder / "d.safetensors")
    UNet(**small, **Classify.options).save(folder / "c.safetensors")
    image = np.random.default_rng(0).integers(0, 200, (200, 200)).astype(np.uint8)
    write_png(folder / "a.png", image)
    write_png(folder / "l.png", (image > 99).astype(np.uint8))
    write_tiff(folder / "p.tif", image / np.float32(255))


def start(folder: Path, command: str, said: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """The command in a process of its own, and where its errors go."""
    return subprocess.Popen(
        [sys.executable, "-m", "unet_np", *command.split(), "--threads", "1"]
        if command.split()[0] in ("segment", "detect", "classify", "train", "experiment")
        else [sys.executable, "-m", "unet_np", *command.split()],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=said,
    )


def temporary(folder: Path) -> list[Path]:
    """Folders that writes have left."""
    return list(folder.rglob(".unet-np-*"))


def broken(folder: Path) -> list[str]:
    """Files that are not whole."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file() or path.name in ("mine.txt", ".tmpabcdef"):
            continue
        if any(part.startswith(".unet-np-") for part in path.parts):
            continue
        try:
            if path.suffix == ".safetensors":
                read_weights(path)
            elif path.suffix in (".tif", ".png"):
                read_image(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif not path.stat().st_size:
                raise ValueError("empty")
        except Exception as error:
            found.append(f"{path.name}: {error}")
    return found


def processor_seconds(process: int) -> float | None:
    """What a process has had of the processor; None once it has ended."""
    try:
        return time.clock_gettime((~process << 3) | 2)  # Linux: the number of its clock
    except OSError:
        return None


def wait_until(process: subprocess.Popen[bytes], seconds: float) -> float:
    """Wait until it has had so many seconds, or has ended; what it has had."""
    had = 0.0
    while (now := processor_seconds(process.pid)) is not None and process.poll() is None:
        had = now
        if had >= seconds:
            break
        time.sleep(0.001)
    return had


def wait_for_end(process: subprocess.Popen[bytes], had: float) -> tuple[bool, float]:
    """Whether it ends, and the processor's seconds until then."""
    last, since = had, time.monotonic()
    while process.poll() is None:
        now = processor_seconds(process.pid) or last
        # A process that is given nothing does not hang: it waits in the system's queue.
        if now > last or _waits_for_the_processor(process.pid):
            last, since = now, time.monotonic()
        if last - had > BUSY or time.monotonic() - since > IDLE:
            return False, last - had
        time.sleep(0.01)
    return True, last - had


def _waits_for_the_processor(process: int) -> bool:
    tasks = Path(f"/proc/{process}/task").glob("*/stat")
    with suppress(OSError):
        return any(task.read_text().rpartition(")")[2].split()[0] in "RD" for task in tasks)
    return False


def trial(
    folder: Path, name: str, number: int, moment: float, before: Path
) -> tuple[list[str], float]:
    """Start, wait, signal, look: the faults, and how long it took to end."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(before, out)
    for own in ("mine.txt", ".tmpabcdef"):
        (out / own).write_text("mine")
    with tempfile.TemporaryFile() as said:
        process = start(folder, COMMANDS[name], said)
        had = wait_until(process, moment)
        process.send_signal(number)
        ends, took = wait_for_end(process, had)
        process.kill()
        process.wait()
        said.seek(0)
        text = said.read()
    faults = [] if ends else ["hang"]
    # Before Python has read this package, it ends as Python does.
    if b"Traceback" in text and b"unet_np" in text:
        faults.append("traceback")
    if ends and number != signal.SIGKILL and temporary(out):
        faults.append("temporary files")
    lost = [path for path in before.rglob("*") if not (out / path.relative_to(before)).exists()]
    faults += [f"{path.name}: lost" for path in lost]
    faults += broken(out)
    if any((out / own).read_text() != "mine" for own in ("mine.txt", ".tmpabcdef")):
        faults.append("a file of somebody else's")
    return faults, took


def same_weights(folder: Path, expected: bytes) -> bool:
    """Whether the training that was stopped ends as the one that was left alone."""
    process = start(folder, COMMANDS["train"] + " --resume -q")
    process.wait(timeout=600)
    weights = folder / "out/run/weights.safetensors"
    return weights.is_file() and weights.read_bytes() == expected and not temporary(folder / "out")


def whole_run(folder: Path, name: str) -> tuple[float, Path, bytes]:
    """Of a run left alone: the processor's seconds, its results, and the weights of a training.

    A training or an experiment that finds its own results has nothing to do, so these have none.
    """
    (folder / "out").mkdir()
    process = start(folder, COMMANDS[name])
    seconds = wait_until(process, math.inf)
    if process.wait():
        raise SystemExit(f"{COMMANDS[name]}: exit code {process.returncode}")
    weights = folder / "out/run/weights.safetensors"
    content = weights.read_bytes() if weights.exists() else b""
    before = folder / f"before-{name}"
    if name in ("train", "experiment"):
        shutil.rmtree(folder / "out")
        before.mkdir()
    else:
        (folder / "out").rename(before)
    return seconds, before, content


def main() -> int:
    """Print the figures; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=[*COMMANDS])
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Commands would ignore it too where this was started in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.disable(logging.CRITICAL)  # remarks on pictures that are read here
    rng = np.random.default_rng(args.seed)
    counts: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        whole = {name: whole_run(folder, name) for name in args.commands}
        for turn in range(args.count):
            name = args.commands[turn % len(args.commands)]
            seconds, before, weights = whole[name]
            number = SIGNALS[int(rng.integers(len(SIGNALS)))]
            faults, took = trial(folder, name, number, float(rng.uniform(0, seconds)), before)
            slowest = max(slowest, took)
            if name == "train" and not same_weights(folder, weights):
                faults.append("another end")
            counts[signal.Signals(number).name] += 1
            counts["faults"] += bool(faults)
            for fault in faults:
                print(turn, name, signal.Signals(number).name, fault, file=sys.stderr)
    figures = {"kills": args.count, **counts, "slowest s": round(slowest, 2)}
    print(json.dumps(figures | {"seed": args.seed}))
    return int(counts["faults"] > 0)


if __name__ == "__main__":
    sys.exit(main())
