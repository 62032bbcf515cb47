"""Train and predict one fold; whatever is done already is not done again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import backend
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.experiments.protocol import rounded, weights_sha256
from unet_np.experiments.recipes import Fold, Recipe
from unet_np.experiments.start import begin
from unet_np.files.weights import read_weights, write_weights
from unet_np.network.unet import UNet
from unet_np.tasks.segmentation import segment
from unet_np.training.checkpoint import RunFolder
from unet_np.training.logs import Report, read_csv
from unet_np.training.loop import train

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
    dataset: Dataset,
    indices: Sequence[int],
    folder: Path,
    averaging: int,
    say: Callable[[str], object],
) -> tuple[np.ndarray, float]:
    """Probability of class 1 of some slices, kept on disk slice by slice.

    Parameters
    ----------
    net : UNet
        Its weights lie in `folder`, and name the folder of the predictions there: other weights
        make other files.
    dataset, indices : Dataset, sequence of int
        Which slices of what; their ids name their files.
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
    digest = weights_sha256(folder)[:12]
    kept = folder / "predictions" / f"{digest}-{averaging}"
    maps, seconds = [], 0.0
    for index in indices:
        name = dataset.ids[index]
        path = kept / f"{name.replace('/', '-')}.safetensors"
        if not path.exists():
            begun = time.perf_counter()
            probability = segment(net, dataset.images[index], averaging=averaging).probabilities[1]
            took = time.perf_counter() - begun
            write_weights(path, {"probability": probability}, {"seconds": repr(took)})
            say(f"predicted {name} in {took:.1f} s")
        probability, took = _kept(path, dataset.images[index].shape[-2:])
        maps.append(probability)
        seconds += took
    # A mean of seven numbers in [0, 1] can lie a rounding outside.
    return np.clip(np.stack(maps), 0, 1), seconds


def _kept(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """A prediction that was kept, and what it took.

    Raises
    ------
    InputError
        If the file is damaged or of something else.
    """
    arrays, about = read_weights(path, "prediction")
    try:
        probability, seconds = arrays["probability"], float(about["seconds"])
    except (KeyError, ValueError):
        probability, seconds = np.zeros(()), 0.0
    if probability.shape != shape:
        raise InputError(f"prediction: got {path}, a file of other content; delete it, and again")
    return probability, seconds


def curve(folder: Path) -> dict[str, Any]:
    """The learning curve of a run: loss in means over equal stretches, and each validation.

    Returns
    -------
    dict
        ``step``, ``loss``, ``learning_rate``: about a hundred points each, the step being the
        last of its stretch; ``validation_step`` and each figure of the validation.
    """
    rows = read_csv(RunFolder(folder).metrics, ("step", "loss", "learning_rate"))
    stretch = max(1, math.ceil(len(rows) / CURVE_POINTS))
    parts = [rows[i : i + stretch] for i in range(0, len(rows), stretch)]
    result: dict[str, Any] = {
        "step": [int(part[-1]["step"]) for part in parts],
        "loss": [rounded(np.mean([row["loss"] for row in part])) for part in parts],
        "learning_rate": [rounded(part[-1]["learning_rate"]) for part in parts],
    }
    names = "validation_loss", "validation_pixel_error"
    validated = [row for row in rows if row.keys() >= {*names}]
    result["validation_step"] = [int(row["step"]) for row in validated]
    for name in names:
        result[name] = [rounded(row[name]) for row in validated]
    return result


def validations(folder: Path) -> dict[str, list[Any]]:
    """Each validation of a run, with the mean loss of the steps since the one before."""
    rows = read_csv(RunFolder(folder).metrics, ("step", "loss"))
    names = ("step", "loss", "validation_loss", "validation_f1", "validation_error")
    result: dict[str, list[Any]] = {name: [] for name in names if name in rows[-1]}
    losses = []
    for row in rows:
        losses.append(row["loss"])
        if "validation_loss" in row:
            row = row | {"loss": float(np.mean(losses))}
            losses = []
            for name, values in result.items():
                values.append(rounded(row[name]))
    return result


def training_seconds(folder: Path) -> float:
    """What the steps of a run took, over all the times that it was resumed."""
    path = RunFolder(folder).times
    clock = [row["seconds"] for row in read_csv(path, ("seconds",))] if path.exists() else []
    # The clock begins at 0 with each process.
    before = [0.0, *clock[:-1]]
    return sum(now - then if now >= then else now for then, now in zip(before, clock, strict=False))


def fold_timing(folder: Path, steps: int, predicting: float, slices: int) -> dict[str, Any]:
    """Seconds of a fold; wall clock, on a machine that may have had other work."""
    training = training_seconds(folder)
    return {
        "training_seconds": rounded(training),
        "seconds_per_step": rounded(training / max(steps, 1)),
        "prediction_seconds": rounded(predicting),
        "seconds_per_slice": rounded(predicting / max(slices, 1)),
        "threads": backend.thread_count(),
    }
