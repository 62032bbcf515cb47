"""The search for a learning rate, which the paper does not give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.data import Dataset
from unet_np.errors import TrainingError
from unet_np.experiments import runner
from unet_np.experiments.protocol import Places, check_result, header, write_json
from unet_np.experiments.recipes import Fold, Recipe, changed
from unet_np.training.checkpoint import RunFolder
from unet_np.training.logs import read_csv

TRIALS: tuple[Mapping[str, Any], ...] = tuple(
    {"learning_rate": rate, "momentum": momentum, "warmup": warmup, "unit_variance": unit}
    for rate, momentum, warmup, unit in (
        (0.0003, 0.99, 50, True),
        (0.001, 0.99, 50, True),
        (0.002, 0.99, 50, True),
        (0.001, 0.99, 50, False),
        (0.003, 0.9, 50, True),
        (0.01, 0.9, 50, True),
        (0.03, 0.9, 50, True),
        (0.01, 0.9, 50, False),
    )
)
"""Settings that are tried, each at a constant rate after its warm-up."""

STEPS = 150

LAST = 50
"""The last steps, over which the loss of a trial is the mean."""


def search(
    chosen: Recipe,
    dataset: Dataset,
    fold: Fold,
    places: Places,
    trials: Sequence[Mapping[str, Any]] = TRIALS,
    steps: int = STEPS,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a little with each of some settings.

    Only the fold's training side is looked at. A trial that was done is not done again, one
    that was stopped goes on.

    Parameters
    ----------
    chosen, dataset, fold, places
        As for `run_fold`.
    trials : sequence of dict
        ``learning_rate``, ``momentum`` and ``warmup`` of each.
    steps : int
        Of each trial.
    overwrite : bool
        Do all trials anew.

    Returns
    -------
    dict
        ``trials``: settings, the loss over the last steps, the validation and the curve, or the
        error that ended it. ``best``: the settings with the lowest loss at the end.

    Raises
    ------
    InputError
        If the folder of a trial is that of other settings, or the result would replace a file of
        others.
    """
    path = places.result(f"search-{chosen.name}")
    check_result(path, overwrite)
    rows = []
    for settings in trials:
        row = _trial(chosen, dataset, fold, places, settings, steps, overwrite)
        rows.append(row)
        places.say(_line(row))
    finished = [row for row in rows if "error" not in row]
    best = min(finished, key=lambda row: row["loss"], default=None)
    tried = changed(chosen, schedule="constant", steps=steps)
    config = tried.fold_config(fold, chosen.config.out)
    result = {
        **header(tried, dataset, config, places.command),
        "fold": fold.to_dict(dataset.ids),
        "trials": rows,
        "best": best and {key: best[key] for key in trials[0]},
    }
    write_json(path, result)
    places.say(f"wrote {path}")
    return result


def _trial(
    chosen: Recipe,
    dataset: Dataset,
    fold: Fold,
    places: Places,
    settings: Mapping[str, Any],
    steps: int,
    overwrite: bool,
) -> dict[str, Any]:
    trial = changed(chosen, **settings, schedule="constant", steps=steps)
    name = "-".join(f"{key}-{value:g}" for key, value in settings.items()).replace("_", "-")
    folder = places.folder(chosen.quick, chosen.key, "search", fold.name, name)
    row: dict[str, Any] = {**settings, "steps": steps, "input_size": chosen.config.tile_size}
    try:
        runner.train_fold(trial, dataset, fold, folder, not overwrite, overwrite, places.progress)
    except TrainingError as error:
        row["error"] = str(error).split(";")[0]
    return row | _figures(folder, steps)


def _rows(folder: Path) -> list[dict[str, float]]:
    path = RunFolder(folder).metrics
    return read_csv(path) if path.exists() else []


def _figures(folder: Path, steps: int) -> dict[str, Any]:
    rows = _rows(folder)[:steps]
    if not rows:
        return {}
    curve = runner.curve(folder)
    figures: dict[str, Any] = {
        "steps_done": int(rows[-1]["step"]),
        "loss": float(np.mean([row["loss"] for row in rows[-LAST:]])),
    }
    for name in ("validation_loss", "validation_pixel_error"):
        found = [row[name] for row in rows if name in row]
        if found:
            figures[name] = found[-1]
    return {**figures, "training_seconds": runner.training_seconds(folder), "curve": curve}


def _line(row: dict[str, Any]) -> str:
    head = f"rate {row['learning_rate']:g}, momentum {row['momentum']:g}, warm-up {row['warmup']}: "
    if "error" in row:
        return head + row["error"]
    return f"{head}loss {row['loss']:.4f}, validation {row['validation_loss']:.4f}"
