"""Train, predict and write down one fold; whatever is done already is not done again."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import backend
from unet_np.data import Dataset
from unet_np.experiments.provenance import provenance
from unet_np.experiments.recipes import Fold, Recipe
from unet_np.experiments.start import begin
from unet_np.files import atomic_write
from unet_np.network.unet import UNet
from unet_np.tasks.segmentation import segment
from unet_np.training.checkpoint import RunFolder
from unet_np.training.config import TrainConfig
from unet_np.training.logs import Report, read_csv
from unet_np.training.loop import train

Say = Callable[[str], object]
CURVE_POINTS = 100


def train_fold(
    chosen: Recipe,
    dataset: Dataset,
    fold: Fold,
    folder: Path,
    resume: bool,
    overwrite: bool,
    progress: bool | Report = True,
) -> UNet:
    """The trained network of a fold; a training that has ended is not begun again.

    Where the recipe says so, it begins from feature maps of unit variance.

    Raises
    ------
    InputError, TrainingError, TrainingInterrupted
        As `unet_np.training.loop.train`.
    """
    config = chosen.fold_config(fold, folder)
    fresh = overwrite or not RunFolder(folder).checkpoint.exists()
    if chosen.unit_variance and fresh:
        begin(config, dataset, overwrite)
        resume, overwrite = True, False
    return train(config, resume, overwrite, progress, dataset=dataset).net


def predict_slices(
    net: UNet,
    images: Sequence[np.ndarray],
    names: Sequence[str],
    folder: Path,
    averaging: int,
    say: Say,
) -> tuple[np.ndarray, float]:
    """Probability of class 1 of some slices, kept on disk slice by slice.

    Parameters
    ----------
    net : UNet
        Its weights lie in `folder`, and name the folder of the predictions there: other weights
        make other files.
    images, names : sequences
        Each (H, W), and what its file is called.
    folder : Path
        Of the run.
    averaging : {1, 7, 8}
        As in `unet_np.tiling.predict_tiled`.
    say : callable
        Is given a line for each slice that is predicted and not read.

    Returns
    -------
    probabilities : numpy.ndarray
        (N, H, W), float32.
    seconds : float
        What the prediction took, that of earlier calls included.
    """
    digest = sha256(RunFolder(folder).weights.read_bytes())[:12]
    kept = folder / "predictions" / f"{digest}-{averaging}"
    maps, seconds = [], 0.0
    for image, name in zip(images, names, strict=True):
        path = kept / f"{name.replace('/', '-')}.npz"
        if not path.exists():
            begun = time.perf_counter()
            probability = segment(net, image, averaging=averaging).probabilities[1]
            took = time.perf_counter() - begun
            with atomic_write(path) as temporary:
                np.savez(temporary, probability=probability, seconds=took)
            say(f"predicted {name} in {took:.1f} s")
        with np.load(path) as file:
            maps.append(file["probability"])
            seconds += float(file["seconds"])
    # A mean of seven numbers in [0, 1] can lie a rounding outside.
    return np.clip(np.stack(maps), 0, 1), seconds


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256.

    Examples
    --------
    >>> sha256(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(content).hexdigest()


def data_hashes(dataset: Dataset) -> dict[str, Any]:
    """What the data were: name, slices and the SHA-256 of each stack's bytes.

    Examples
    --------
    >>> list(data_hashes(Dataset("mine", np.zeros((1, 2, 2)))))
    ['name', 'shape', 'sha256', 'citation']
    """
    stacks = {name: getattr(dataset, name) for name in ("images", "labels", "instances", "unknown")}
    return {
        "name": dataset.name,
        "shape": list(dataset.images.shape),
        "sha256": {
            name: sha256(np.ascontiguousarray(stack).tobytes())
            for name, stack in stacks.items()
            if stack is not None
        },
        "citation": dataset.citation,
    }


def curve(folder: Path) -> dict[str, Any]:
    """The learning curve of a run: loss in means over equal stretches, and each validation.

    Returns
    -------
    dict
        ``step``, ``loss``, ``learning_rate``: about a hundred points each, the step being the
        last of its stretch; ``validation_step`` and each figure of the validation.
    """
    rows = read_csv(RunFolder(folder).metrics)
    stretch = max(1, math.ceil(len(rows) / CURVE_POINTS))
    parts = [rows[i : i + stretch] for i in range(0, len(rows), stretch)]
    result: dict[str, Any] = {
        "step": [int(part[-1]["step"]) for part in parts],
        "loss": [_rounded(np.mean([row["loss"] for row in part])) for part in parts],
        "learning_rate": [_rounded(part[-1]["learning_rate"]) for part in parts],
    }
    validated = [row for row in rows if "validation_loss" in row]
    result["validation_step"] = [int(row["step"]) for row in validated]
    for name in ("validation_loss", "validation_pixel_error"):
        result[name] = [_rounded(row[name]) for row in validated]
    return result


def training_seconds(folder: Path) -> float:
    """What the steps of a run took, over all the times that it was resumed."""
    path = RunFolder(folder).times
    if not path.exists():
        return 0.0
    with open(path, newline="") as file:
        clock = [float(row["seconds"]) for row in csv.DictReader(file)]
    # The clock begins at 0 with each process.
    before = [0.0, *clock[:-1]]
    return sum(now - then if now >= then else now for then, now in zip(before, clock, strict=True))


def header(
    chosen: Recipe, dataset: Dataset, config: TrainConfig, command: list[str] | None
) -> dict[str, Any]:
    """The part of a result that says where it comes from."""
    return {
        "experiment": chosen.name,
        "quick": chosen.quick,
        **provenance(command),
        "seed": config.seed,
        "recipe": recorded(chosen, config),
        "data": data_hashes(dataset),
    }


def recorded(chosen: Recipe, config: TrainConfig) -> dict[str, Any]:
    """The settings that a result stands for."""
    settings = config.resolved().to_dict()
    return {key: settings[key] for key in settings if key not in ("images", "masks", "out")} | {
        "unit_variance": chosen.unit_variance,
        "averaging": chosen.averaging,
        "parameters": config.architecture.parameters,
    }


def fold_timing(folder: Path, steps: int, predicting: float, slices: int) -> dict[str, float]:
    """Seconds of a fold; wall clock, on a machine that may have had other work."""
    training = training_seconds(folder)
    return {
        "training_seconds": _rounded(training),
        "seconds_per_step": _rounded(training / max(steps, 1)),
        "prediction_seconds": _rounded(predicting),
        "seconds_per_slice": _rounded(predicting / max(slices, 1)),
        "threads": backend.thread_count(),
    }


def write_json(path: Path, result: Any) -> None:
    """Write a result, whole or not at all.

    Raises
    ------
    InputError
        If the path cannot be written to.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """A result that was written, None where there is none."""
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _rounded(value: Any, digits: int = 6) -> float:
    """Six significant digits; more would be noise in a diff."""
    return float(f"{float(value):.{digits}g}")
