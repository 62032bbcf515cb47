"""Long trainings in legs: what a stopped one leaves, in a file small enough to be committed.

It holds the weights as float16, the step and the curves so far, and not the velocity of the
gradient descent, which with momentum 0.9 is made of the last few dozen steps. A training that goes
on from it is therefore not bit for bit the one that was never stopped; its result names all legs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.backend import to_numpy
from unet_np.errors import InputError
from unet_np.experiments.provenance import last_name, provenance
from unet_np.files import atomic_write
from unet_np.files.ours import LEG
from unet_np.files.weights import read_weights, write_weights
from unet_np.training.checkpoint import RunFolder, load_checkpoint, save_checkpoint


@contextmanager
def leg(folder: Path, command: list[str] | None = None, anew: bool = False) -> Iterator[None]:
    """Write down the steps that a training does meanwhile, stopped or not.

    Parameters
    ----------
    folder : Path
        Of the run.
    command : list of str, optional
        As in `unet_np.experiments.provenance.provenance`.
    anew : bool
        Whether a run that is there is overwritten.
    """
    first = 0 if anew else _step(folder)
    before = recorded(folder) if first else []
    try:
        yield
    finally:
        last = _step(folder)
        if last > first:
            origin = provenance(command)
            new = {"first_step": first + 1, "last_step": last}
            new |= {key: origin[key] for key in ("command", "commit")}
            new["processor"] = origin["machine"]["processor"]
            with atomic_write(_record(folder)) as temporary:
                temporary.write_text(json.dumps([*before, new], indent=1) + "\n", "utf-8")


def recorded(folder: Path) -> list[dict[str, Any]]:
    """The legs of a run so far: first and last step, command, commit and processor of each."""
    path = _record(folder)
    if not path.exists():
        return []
    try:
        legs = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        legs = None
    if not (isinstance(legs, list) and all(isinstance(leg, dict) for leg in legs)):
        raise InputError(f"legs: got {path} with other content, expected the legs of a training")
    for one in legs:
        one["command"] = " ".join(map(last_name, str(one.get("command", "")).split(" ")))
    return legs


def keep(folder: Path, path: Path) -> None:
    """Write what goes on from here: a checkpoint as float16, without the velocity.

    Parameters
    ----------
    folder : Path
        Of a run with a checkpoint.
    path : Path
        Ends in ``.safetensors``; an old one is replaced.

    Raises
    ------
    InputError
        If there is no checkpoint, or the file cannot be written.
    """
    run = RunFolder(folder)
    params, velocity, state = load_checkpoint(run.checkpoint)
    arrays = {
        f"params.{name}": to_numpy(array).astype(np.float16) for name, array in params.items()
    }
    for file in (run.metrics, run.times):
        content = zlib.compress(file.read_bytes() if file.exists() else b"", 9)
        arrays[file.name] = np.frombuffer(content, np.uint8)
    if out := state["config"].get("out"):
        state["config"]["out"] = last_name(out)
    about = {"state": state, "legs": recorded(folder), "velocity": sorted(velocity)}
    write_weights(path, arrays, {LEG: json.dumps(about, sort_keys=True)})


def restore(path: Path, folder: Path) -> None:
    """Make the run that `keep` kept, with velocity 0.

    Raises
    ------
    InputError
        If the file is not one of `keep`'s.
    """
    arrays, metadata = read_weights(path)
    if LEG not in metadata:
        raise InputError(f"--legs: got {path}, a file of other content, expected a training's leg")
    run = RunFolder(folder)
    try:
        about = json.loads(metadata[LEG])
        state, legs = about["state"], json.dumps(about["legs"], indent=1)
        logs = {file: _unpacked(arrays.pop(file.name)) for file in (run.metrics, run.times)}
        dtype = state["config"].get("dtype", "float32")
        params = {
            name.removeprefix("params."): array.astype(dtype) for name, array in arrays.items()
        }
        velocity = {name: np.zeros_like(params[name]) for name in about["velocity"]}
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, zlib.error):
        raise InputError(f"--legs: got {path}, damaged, expected a training's leg") from None
    for file, content in logs.items():
        with atomic_write(file) as temporary:
            temporary.write_bytes(content)
    with atomic_write(_record(folder)) as temporary:
        temporary.write_text(legs + "\n", "utf-8")
    save_checkpoint(run.checkpoint, params, velocity, state)


def _unpacked(array: np.ndarray) -> bytes:
    """A file of a run; no more than the steps of a month."""
    stream = zlib.decompressobj()
    content = stream.decompress(array.tobytes(), 2**28)
    if not stream.eof:
        raise ValueError("cut short, or no end of it")
    return content


def _record(folder: Path) -> Path:
    return Path(folder, "legs.json")


def _step(folder: Path) -> int:
    """The step of the checkpoint; 0 where there is none."""
    path = RunFolder(folder).checkpoint
    return int(load_checkpoint(path)[2]["step"]) if path.exists() else 0
