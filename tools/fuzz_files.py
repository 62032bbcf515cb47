"""Mutated files of every kind but images through their readers, with seeds of hostile headers.

Each must be read or give one line: no other exception, no hang, no gigabyte.

    python -m tools.fuzz_files --count 10000 --seed 0
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from safetensors.numpy import save_file

from tools.fuzz import FAULTS, SECONDS, Outcome, keep_file, main, peak_memory
from unet_np import UNet, pretrained
from unet_np.cli.classify import class_names, patch_size
from unet_np.cli.segment import cell_limits
from unet_np.data import cache
from unet_np.errors import InputError, TrainingError
from unet_np.experiments import legs, protocol, runner
from unet_np.files.ours import is_ours
from unet_np.training import loop, samples
from unet_np.training.checkpoint import RunFolder, copy_into, load_checkpoint
from unet_np.training.config import TrainConfig
from unet_np.training.early_stopping import EarlyStopping
from unet_np.training.logs import read_csv
from unet_np.training.memory import check_memory
from unet_np.training.resume import check_same

SMALL: dict[str, Any] = {
    "base_channels": 2, "depth": 1, "steps": 2, "input_size": 36, "weight_map": False,
    "checkpoint_every": 1, "augmentation": {"grid": 3, "sigma": 10.0},
}  # fmt: skip

Reader = Callable[[Path], object]


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Whole files and hostile ones, by kind."""
    run, config = folder / "run", TrainConfig(out=str(folder / "run"), **SMALL)
    with mock.patch.object(samples, "load_data", wraps=samples.load_data):
        loop.train(config, progress=False)
    net = UNet.load(run / "weights.safetensors", backend="numpy")
    limits = json.dumps({"seeds": 0.9, "threshold": 0.6, "min_area": 3})
    net.save(folder / "cells.safetensors", metadata={"cells": limits})
    # Without a checksum nothing of what was changed is noticed but by itself.
    arrays = {name: np.asarray(array) for name, array in net.state.items()}
    about = {"architecture": net.architecture.to_dict(), "dropout": 0.5}
    hostile = [{}, {"depth": 10**6}, {"depth": 40}, {"base_channels": 10**9}, {"task": [1]}]
    weights = [(run / "weights.safetensors").read_bytes()]
    for changes in [*hostile, {"num_classes": 10**12}, {"in_channels": -1}, {"norm": None}]:
        text = json.dumps(about | {"architecture": about["architecture"] | changes})
        weights.append(_saved(folder, arrays, {"unet_np": text}))
    weights.append(_saved(folder, arrays, {"unet_np": "[" * 10**5}))
    cells = [(folder / "cells.safetensors").read_bytes()]
    for text in ("[1]", "{", "[" * 10**5, '{"seeds": null}', '{"seeds": NaN}', '{"min_area": 1.5}'):
        cells.append(_saved(folder, arrays, {"cells": text}))
    params, velocity, state = load_checkpoint(run / "checkpoint.safetensors")
    stored = {f"params.{name}": array for name, array in params.items()}
    stored |= {f"velocity.{name}": array for name, array in velocity.items()}
    key = "unet-np checkpoint 1"
    checkpoints = [(run / "checkpoint.safetensors").read_bytes()]
    for changes in ({}, {"step": -1}, {"step": "x"}, {"config": 3}, {"metrics_bytes": 10**9}):
        checkpoints.append(_saved(folder, stored, {key: json.dumps(state | changes)}))
    for text in ("[]", "{}", "[" * 10**5):
        checkpoints.append(_saved(folder, stored, {key: text}))
    legs.keep(run, folder / "leg.safetensors")
    leg_arrays = {"metrics.csv": np.zeros(9, np.uint8), "times.csv": np.zeros(0, np.uint8)}
    leg = [
        (folder / "leg.safetensors").read_bytes(),
        _saved(folder, leg_arrays, {"unet-np leg 1": '{"state": {}, "legs": []}'}),
    ]
    runner.write_weights(
        folder / "kept.safetensors", {"probability": np.ones((9, 9), np.float32)}, {"seconds": "1"}
    )
    result = {"experiment": "em", "recipe": dict(SMALL), "data": {"sha256": {"images": "0"}}}
    toml = config.to_toml()
    extremes = [
        f"{name} = {value}\n"
        for name in ("depth", "base_channels", "input_size", "batch_size", "steps", "touching")
        for value in (10**9, 400, -1, "inf", "[1]")
    ]
    lines = [*extremes, 'validation = "0-9999999999"\n', "validation = 99999999999999999999\n"]
    lines += ["[augmentation]\ngrid = 100000\n", "a = " + "[" * 10**5, "#" * 2_000_000]
    return {
        "weights": weights,
        "cells": cells,
        "checkpoint": checkpoints,
        "resume": checkpoints,
        "config": [toml.encode(), *(line.encode() for line in lines)],
        "metrics": [(run / "metrics.csv").read_bytes(), b"step,loss\n1\n", b'"' * 200_000],
        "times": [(run / "times.csv").read_bytes(), b"", b"step,seconds\n"],
        "result": [json.dumps(result).encode(), b"[" * 10**5, b"[]", b"{}", b'{"recipe": 3}'],
        "prediction": [(folder / "kept.safetensors").read_bytes()],
        "leg": leg,
        "legs": [b'[{"first_step": 1, "last_step": 2}]', b"{}", b"[" * 10**5],
        "registry": [cache.__file__.encode(), pretrained.REGISTRY.read_bytes(), b"a b\nc d e\n"],
        "classes": [b"a\nb\n", b"\xff\n\xfe\n"],
        "output": [toml.encode(), json.dumps(result).encode(), weights[0], b"II*\0" + bytes(99)],
    }


def _saved(folder: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    save_file(arrays, folder / "seed", metadata)
    return (folder / "seed").read_bytes()


def readers(folder: Path) -> dict[str, Reader]:
    """What reads each kind, as a command would."""
    config = TrainConfig(out=str(folder / "again"), **SMALL)
    run = RunFolder(config.out)
    net = UNet(base_channels=2, depth=1, backend="numpy")

    def placed(name: str, read: Callable[[Path], object]) -> Reader:
        """A file of a run, in its place."""

        def place(file: Path) -> object:
            Path(run.path, name).write_bytes(file.read_bytes())
            return read(Path(run.path))

        return place

    def resume(file: Path) -> object:
        params, velocity, state = load_checkpoint(file)
        loop_net = UNet(base_channels=2, depth=1, backend="numpy")
        check_same(state, config, state.get("data", 0), "numpy")
        copy_into(loop_net.state, params, "checkpoint")
        return velocity, EarlyStopping.of(0, state.get("early_stopping", {}))

    def settings(file: Path) -> object:
        found = TrainConfig.from_toml(file)
        check_memory(found)
        samples.check_augmentation(found.augmentation)
        return found

    def limits(file: Path) -> object:
        names = ("seeds", "threshold", "erosion", "min_area", "averaging", "rim")
        args = types.SimpleNamespace(instances=True, weights=file, **dict.fromkeys(names))
        return cell_limits(args)  # type: ignore[arg-type]

    def result(file: Path) -> object:
        head = {"recipe": dict(SMALL), "data": {"sha256": {"images": "0"}}}
        return protocol.earlier(file, head)

    def registry(file: Path) -> object:
        with mock.patch.object(pretrained, "REGISTRY", file):
            return pretrained.registry()

    return {
        "weights": lambda file: UNet.load(file, backend="numpy"),
        "cells": limits,
        "checkpoint": load_checkpoint,
        "resume": resume,
        "config": settings,
        "metrics": placed("metrics.csv", runner.curve),
        "times": placed("times.csv", runner.training_seconds),
        "result": result,
        "prediction": lambda file: runner._kept(file, (9, 9)),
        "leg": lambda file: legs.restore(file, folder / "leg"),
        "legs": placed("legs.json", legs.recorded),
        "registry": registry,
        "classes": placed("classes.txt", lambda place: (class_names(net, place), read_csv)),
        "output": is_ours,
    } | {"patch": placed("config.toml", lambda place: patch_size(net, place))}


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with a few bytes changed, cut, repeated, or numbers in it made large."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        if not data:
            break
        # Headers and texts stand at the beginning.
        most = len(data) if rng.random() < 0.5 else min(len(data), 400)
        at = int(rng.integers(most))
        kind = int(rng.integers(7))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at] = int(rng.integers(256))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + int(rng.integers(1, 9))]
        elif kind == 4:
            data[at:at] = data[at : at + int(rng.integers(1, 40))]
        elif kind == 5:
            digits = [i for i in range(min(len(data), 4000)) if chr(data[i]).isdigit()]
            if digits:
                spot = int(rng.choice(digits))
                data[spot : spot + 1] = rng.choice([b"-1", b"0", b"99999999999", b"1e308", b"null"])
        else:
            data[at : at + 1] = rng.choice([b"{", b"[", b'"', b",", b"\n", b"\\", b"\xff", b"NaN"])
    return bytes(data)


def check(read: Reader, file: Path) -> tuple[str, str]:
    """Outcome and detail of one file."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        read(file)
    except (InputError, TrainingError) as error:
        return ("refused", "") if "\n" not in str(error) else ("two lines", str(error))
    except TimeoutError:
        return "hang", ""
    except BaseException as error:
        return "foreign", repr(error)[:300]
    finally:
        signal.alarm(0)
    return "read", ""


def _late(number: int, frame: Any) -> None:
    raise TimeoutError


def run(count: int, seed: int, keep: Path | None = None) -> Iterator[Outcome]:
    """Whole and hostile seeds, then mutated ones."""
    logging.disable(logging.CRITICAL)
    rng = np.random.default_rng(seed)
    with ExitStack() as stack:
        stack.callback(logging.disable, logging.NOTSET)
        # Half a minute of waiting for the disk, of files that nobody keeps.
        stack.enter_context(mock.patch("os.fsync", return_value=None))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        originals, by_kind = seeds(folder), readers(folder)
        Path(folder, "again").mkdir()
        originals["patch"] = originals["config"]
        file = folder / "mutated.safetensors"
        for kind, contents in originals.items():
            for content in contents:
                file.write_bytes(content)
                yield (kind, *check(by_kind[kind], file), peak_memory())
        names = sorted(originals)
        for number in range(count):
            kind = names[number % len(names)]
            contents = originals[kind]
            file.write_bytes(mutated(contents[int(rng.integers(len(contents)))], rng))
            outcome, detail = check(by_kind[kind], file)
            if outcome in FAULTS:
                keep_file(file, keep, f"{number}-{kind}")
            yield kind, outcome, detail, peak_memory()


if __name__ == "__main__":
    sys.exit(main(__doc__, run))
