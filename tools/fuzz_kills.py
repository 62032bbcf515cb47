"""Commands that are killed at random moments: what is lost, and what stays.

Each command runs where a file of somebody else's lies beside its outputs. After the signal, every
file is the old one or a whole new one; after SIGTERM, SIGINT and SIGHUP nothing temporary is there;
after SIGKILL the next run removes it; a training goes on bit for bit as if it had been left alone.

    python tools/fuzz_kills.py --count 100 --seed 0
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

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
LATE = 60  # seconds after which a command that was told to end hangs


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


def start(folder: Path, command: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "unet_np", *command.split(), "--threads", "1"]
        if command.split()[0] in ("segment", "detect", "classify", "train", "experiment")
        else [sys.executable, "-m", "unet_np", *command.split()],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
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


def trial(folder: Path, name: str, number: int, seconds: float) -> list[str]:
    """Start, wait, signal, look; the faults."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for own in ("mine.txt", ".tmpabcdef"):
        (out / own).write_text("mine")
    process = start(folder, COMMANDS[name])
    time.sleep(seconds)
    process.send_signal(number)
    faults = []
    try:
        _, text = process.communicate(timeout=LATE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ["hang"]
    # Before Python has read this package, it ends as Python does.
    if b"Traceback" in text and b"unet_np" in text:
        faults.append("traceback")
    if number != signal.SIGKILL and temporary(out):
        faults.append("temporary files")
    faults += broken(out)
    if any((out / own).read_text() != "mine" for own in ("mine.txt", ".tmpabcdef")):
        faults.append("a file of somebody else's")
    return faults


def same_weights(folder: Path, expected: bytes) -> bool:
    """Whether the training that was stopped ends as the one that was left alone."""
    process = start(folder, COMMANDS["train"] + " --resume -q")
    process.communicate(timeout=600)
    weights = folder / "out/run/weights.safetensors"
    return weights.is_file() and weights.read_bytes() == expected and not temporary(folder / "out")


def main() -> int:
    """Print the figures; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=[*COMMANDS])
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rng = np.random.default_rng(args.seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        lasts, expected = {}, b""
        for name in args.commands:
            (folder / "out").mkdir(exist_ok=True)
            began = time.monotonic()
            start(folder, COMMANDS[name]).communicate(timeout=600)
            lasts[name] = time.monotonic() - began
            if name == "train":
                expected = (folder / "out/run/weights.safetensors").read_bytes()
            shutil.rmtree(folder / "out")
        for turn in range(args.count):
            name = args.commands[turn % len(args.commands)]
            number = SIGNALS[int(rng.integers(len(SIGNALS)))]
            faults = trial(folder, name, number, float(rng.uniform(0, lasts[name])))
            if name == "train" and not same_weights(folder, expected):
                faults.append("another end")
            counts["kills"] += 1
            counts["faults"] += bool(faults)
            for fault in faults:
                print(turn, name, signal.Signals(number).name, fault, file=sys.stderr)
    print(json.dumps({**counts, "seed": args.seed}))
    return int(counts["faults"] > 0)


if __name__ == "__main__":
    sys.exit(main())
