"""The search for a learning rate, which the paper does not give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_np.checkpoint import RunFolder
from unet_np.data import Dataset
from unet_np.errors import TrainingError
from unet_np.experiments import runner
from unet_np.experiments.experiment import Places
from unet_np.experiments.recipes import Fold, Recipe
from unet_np.logs import read_csv

RATES = (0.0001, 0.0003, 0.0005, 0.001, 0.003)
STEPS = 200
WARMUP = 50
LAST = 50
"""The last steps, over which the loss of a trial is the mean."""


def search(
    chosen: Recipe,
    dataset: Dataset,
    fold: Fold,
    places: Places,
    rates: Sequence[float] = RATES,
    steps: int = STEPS,
) -> dict[str, Any]:
    """Train a little with each learning rate, at a constant rate after the warm-up.

    Only the fold's training side is looked at. A trial that was done is not done again, one
    that was stopped goes on.

    Returns
    -------
    dict
        ``trials``: by rate the loss over the last steps, the validation and the curve, or the
        error that ended it. ``chosen``: the rate with the lowest loss on the validation slices.
    """
    trials = []
    for rate in rates:
        settings = chosen.config.replace(
            learning_rate=rate,
            schedule="constant",
            steps=steps,
            warmup=min(WARMUP, chosen.config.warmup),
        )
        trial = Recipe(chosen.name, chosen.data, settings, chosen.averaging, chosen.quick)
        folder = places.run(chosen, Fold(f"search/rate-{rate:g}", (), (), ()))
        row: dict[str, Any] = {"learning_rate": rate, "steps": steps}
        try:
            runner.train_fold(trial, dataset, fold, folder, True, False, places.progress)
        except TrainingError as error:
            row["error"] = str(error).split(";")[0]
        row |= _figures(folder)
        trials.append(row)
        places.say(_line(row))
    finished = [row for row in trials if "error" not in row]
    best = min(finished, key=lambda row: row["validation_loss"], default=None)
    result = {
        **runner.header(chosen, dataset, chosen.config, places.command),
        "fold": fold.to_dict(dataset.ids),
        "trials": trials,
        "chosen": best and best["learning_rate"],
    }
    path = places.result(f"search-{chosen.name}")
    runner.write_json(path, result)
    places.say(f"wrote {path}")
    return result


def _figures(folder: Any) -> dict[str, Any]:
    path = RunFolder(folder).metrics
    rows = read_csv(path) if path.exists() else []
    if not rows:
        return {}
    curve = runner.curve(folder)
    figures: dict[str, Any] = {
        "steps_done": int(rows[-1]["step"]),
        "loss": float(np.mean([row["loss"] for row in rows[-LAST:]])),
    }
    for name in ("validation_loss", "validation_pixel_error"):
        if curve[name]:
            figures[name] = curve[name][-1]
    return {**figures, "training_seconds": runner.training_seconds(folder), "curve": curve}


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"rate {row['learning_rate']:g}: {row['error']}"
    return (
        f"rate {row['learning_rate']:g}: loss {row['loss']:.4f}, "
        f"validation {row['validation_loss']:.4f}"
    )
