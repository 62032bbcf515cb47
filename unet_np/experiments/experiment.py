"""A whole fold, from the data to the JSON file and the pictures, and the table of all folds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.data import Dataset
from unet_np.errors import InputError, MissingExtraError
from unet_np.experiments import cells, em, legs, pictures, runner
from unet_np.experiments.provenance import provenance
from unet_np.experiments.recipes import Fold, Recipe
from unet_np.training.checkpoint import RunFolder
from unet_np.training.config import TrainConfig, recorded_settings
from unet_np.training.logs import Report

FREE = frozenset({"threads", "backend", "checkpoint_every", "tensorboard"})
"""Settings that change no result by more than a rounding."""


@dataclass(frozen=True)
class Places:
    """Where an experiment keeps its files, and how it talks.

    Attributes
    ----------
    runs, results : Path
        Folders of the trainings, and of JSON files and pictures.
    command : list of str or None
        For the JSON files; by default the arguments of this process.
    say : callable
        Is given lines for people.
    progress : bool or callable
        As in `unet_np.training.loop.train`.
    legs : Path or None
        Folder of what trainings leave, stopped or not: see `unet_np.experiments.legs`.
    """

    runs: Path = Path("runs")
    results: Path = Path("results")
    command: list[str] | None = None
    say: runner.Say = field(default=print, repr=False)
    progress: bool | Report = True
    legs: Path | None = None

    def run(self, chosen: Recipe, fold: Fold) -> Path:
        """The folder of a fold's training."""
        return self.runs / ("quick" if chosen.quick else "") / chosen.key / fold.name

    def leg(self, chosen: Recipe, fold: Fold) -> Path | None:
        """The file of a fold's last leg."""
        return self.legs / f"{chosen.key}-{fold.name}.safetensors" if self.legs else None

    def result(self, name: str) -> Path:
        """The path of a JSON file."""
        return self.results / f"{name}.json"


def choose_folds(folds: tuple[Fold, ...], number: int | None) -> tuple[Fold, ...]:
    """One fold by its number, or all.

    Raises
    ------
    InputError
        If there is no such fold.

    Examples
    --------
    >>> choose_folds((Fold("a", (0,), (1,), (2,)),), 1)
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: --fold: got 1, expected 0 (a)
    """
    if number is None:
        return folds
    if not 0 <= number < len(folds):
        known = ", ".join(f"{i} ({fold.name})" for i, fold in enumerate(folds))
        raise InputError(f"--fold: got {number}, expected {known}")
    return folds[number : number + 1]


def run_fold(
    chosen: Recipe,
    dataset: Dataset,
    fold: Fold,
    places: Places,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """One fold: train, predict, choose thresholds, score, write; or read what was written.

    Parameters
    ----------
    chosen : Recipe
        What to do.
    dataset : Dataset
        `Recipe.dataset`'s.
    fold : Fold
        One of `Recipe.folds`.
    places : Places
        Where files go.
    resume : bool
        Go on with a training that is there.
    overwrite : bool
        Begin anew, also where a result is there.

    Returns
    -------
    dict
        What stands in the JSON file.

    Raises
    ------
    InputError, TrainingError, TrainingInterrupted
        As `unet_np.training.loop.train`; InputError too if a result was made with other settings.
    """
    path, folder = places.result(f"{chosen.key}-{fold.name}"), places.run(chosen, fold)
    config = chosen.fold_config(fold, folder)
    head = runner.header(chosen, dataset, config, places.command)
    old = None if overwrite else earlier_result(path, head, places)
    if old is not None:
        return old
    net = _train(chosen, dataset, fold, places, resume, overwrite)
    side, a = _predict(net, chosen, dataset, fold.validation, folder, places)
    maps, b = _predict(net, chosen, dataset, fold.test, folder, places)
    begun = time.perf_counter()
    result = {
        **head,
        "fold": fold.to_dict(dataset.ids),
        **_score(chosen, dataset, fold, side, maps),
    }
    result["time"] = {
        **runner.fold_timing(folder, config.steps, a + b, len(side) + len(maps)),
        "scoring_seconds": round(time.perf_counter() - begun, 1),
    }
    result["curve"], result["legs"] = runner.curve(folder), legs.recorded(folder)
    result["weights_sha256"] = runner.sha256(RunFolder(folder).weights.read_bytes())
    runner.write_json(path, result)
    places.say(f"wrote {path}")
    _draw(result, dataset, fold, maps, path, places)
    return result


def _train(
    chosen: Recipe, dataset: Dataset, fold: Fold, places: Places, resume: bool, overwrite: bool
) -> Any:
    """The trained network of a fold; where legs are kept, one goes on from them and leaves one."""
    folder, kept = places.run(chosen, fold), places.leg(chosen, fold)
    if kept and kept.exists() and resume and not RunFolder(folder).checkpoint.exists():
        legs.restore(kept, folder)
    try:
        with legs.leg(folder, places.command, overwrite):
            return runner.train_fold(
                chosen, dataset, fold, folder, resume, overwrite, places.progress
            )
    finally:
        if kept and RunFolder(folder).checkpoint.exists():
            legs.keep(folder, kept)


def earlier_result(path: Path, head: dict[str, Any], places: Places) -> dict[str, Any] | None:
    """The result that an earlier run of the same recipe wrote, or None.

    Raises
    ------
    InputError
        If it was made with other settings or other data.
    """
    old = runner.read_json(path)
    if old is not None:
        check_same_recipe(old, head, path)
        places.say(f"{path} is there already; --overwrite begins anew")
    return old


def check_same_recipe(old: dict[str, Any], new: dict[str, Any], path: Path) -> None:
    """Refuse to take a result for that of other settings or other data.

    Raises
    ------
    InputError
        Naming the first setting that differs.
    """
    if (change := _first_change(old["recipe"], new["recipe"])) is not None:
        key, before, value = change
        raise InputError(
            f"{key}: got {value!r}, expected {before!r}, with which {path} was made; "
            "--overwrite or another --results begins anew"
        )
    if old["data"]["sha256"] != new["data"]["sha256"]:
        raise InputError(f"data: got others than those with which {path} was made")


def _first_change(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first setting that differs, and both values."""
    old = recorded_settings(old)
    for key, value in new.items():
        # A result from before a setting was there had its default.
        before = old.get(key, getattr(TrainConfig, key, None))
        if key not in FREE and before != value:
            return key, before, value
    return None


def summarise(chosen: Recipe, results: list[dict[str, Any]], places: Places) -> dict[str, Any]:
    """Write and print the table of the folds that there are."""
    if chosen.name == "em":
        summary = em.table(results)
        lines = em.table_lines(summary)
    else:
        summary = cells.table(chosen.name, results)
        lines = cells.table_lines(chosen.name, summary)
    if chosen.quick:
        lines.append("A quick run: it shows that all parts work, and its figures say nothing.")
    runner.write_json(
        places.result(chosen.key),
        {"experiment": chosen.name, "quick": chosen.quick, **provenance(places.command)}
        | {"seed": results[-1]["seed"], "data": results[-1]["data"]}
        | summary,
    )
    places.say("\n".join(lines))
    return summary


def finished_folds(chosen: Recipe, folds: tuple[Fold, ...], places: Places) -> list[dict[str, Any]]:
    """The results of this recipe that were written so far, in the order of the folds."""
    finished = []
    for fold in folds:
        path = places.result(f"{chosen.key}-{fold.name}")
        result = runner.read_json(path)
        if result is None:
            continue
        recipe = runner.recorded(chosen, chosen.fold_config(fold, chosen.config.out))
        if (change := _first_change(result["recipe"], recipe)) is None:
            finished.append(result)
        else:
            key, before, value = change
            places.say(f"{path} was made with {key} {before!r}, not {value!r}: not in the table")
    return finished


def _predict(
    net: Any,
    chosen: Recipe,
    dataset: Dataset,
    indices: tuple[int, ...],
    folder: Path,
    places: Places,
) -> tuple[np.ndarray, float]:
    images = [dataset.images[i] for i in indices]
    names = [dataset.ids[i] for i in indices]
    return runner.predict_slices(net, images, names, folder, chosen.averaging, places.say)


def _score(
    chosen: Recipe, dataset: Dataset, fold: Fold, side: np.ndarray, maps: np.ndarray
) -> dict[str, Any]:
    """Thresholds from the training side, scores of the test slices."""
    test, validation = list(fold.test), list(fold.validation)
    if chosen.name == "em":
        assert dataset.labels is not None
        labels = dataset.labels
        thresholds = em.choose_thresholds(labels[validation], side)
        learned = (*fold.training, *fold.validation)
        return {
            "thresholds": thresholds,
            **em.score(labels[test], maps, thresholds),
            "baseline": em.baseline(dataset.images, labels, learned, validation, test),
        }
    assert dataset.instances is not None
    known = dataset.instances
    unknown = None if dataset.unknown is None else dataset.unknown[test]
    min_area = cells.smallest_area(known[[*fold.training, *fold.validation]])
    high, low = cells.choose_thresholds(known[validation], side, min_area)
    single = cells.choose_thresholds(known[validation], side, min_area, cells.ONE)
    by_one = cells.score(known[test], maps, single, min_area)["scores"]["seg_measure"]
    return {
        "thresholds": {"seg_measure": high, "iou": low, "dice": low},
        "min_area": min_area,
        "field_of_interest_border": cells.BORDER,
        "rules": cells.RULES,
        "one_threshold": {"threshold": single[0], "seg_measure": by_one["value"]},
        **cells.score(known[test], maps, (high, low), min_area, unknown),
    }


def _draw(
    result: dict[str, Any],
    dataset: Dataset,
    fold: Fold,
    maps: np.ndarray,
    path: Path,
    places: Places,
) -> None:
    """The pictures of a fold, where Matplotlib is installed."""
    try:
        pictures.draw_curve(result, path.with_name(f"{path.stem}-curve.png"))
        pictures.draw_best_and_worst(
            result, dataset.subset(fold.test), maps, path.with_name(f"{path.stem}-slices.png")
        )
    except MissingExtraError as error:
        places.say(f"no pictures: {error}")
    else:
        places.say(f"wrote {path.stem}-curve.png and {path.stem}-slices.png beside it")
