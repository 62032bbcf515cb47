"""A whole fold, from the data to the JSON file and the pictures, and the table of all folds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.backend import STREAMS
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.experiments import cells, em, legs, pictures, runner
from unet_np.experiments.protocol import (
    QUICK,
    Experiment,
    Places,
    Result,
    first_change,
    header,
    read_json,
    recorded,
    weights_sha256,
    write_json,
)
from unet_np.experiments.provenance import provenance
from unet_np.experiments.recipes import Fold, Recipe
from unet_np.files.ours import check_ours
from unet_np.network.unet import UNet
from unet_np.training import samples
from unet_np.training.checkpoint import RunFolder
from unet_np.training.touching import with_touching_cells

THE_RULE = "two thresholds, seeds eroded"
"""The one of the rules that are compared by which cells are scored."""


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


class FoldExperiment(Experiment):
    """One fold: trained, predicted, thresholds chosen, scored, drawn; see `run_fold`."""

    def __init__(self, chosen: Recipe, dataset: Dataset, fold: Fold) -> None:
        super().__init__(f"{chosen.key}-{fold.name}", chosen, dataset)
        self.fold = fold
        self.maps: np.ndarray | None = None

    def head(self, command: list[str] | None) -> Result:
        """Settings with the slices of the fold."""
        config = self.chosen.fold_config(self.fold, self.chosen.config.out)
        return header(self.chosen, self.dataset, config, command)

    def measure(self, places: Places, resume: bool, overwrite: bool) -> Iterator[Result]:
        """Thresholds, scores, times and the learning curve."""
        chosen, dataset, fold = self.chosen, self.dataset, self.fold
        folder = places.run(chosen, fold)
        net = _train(chosen, dataset, fold, places, resume, overwrite)
        rest = folder, chosen.averaging, places.say
        predicted = predict_fold(net, chosen, dataset, fold, *rest)
        self.maps = predicted.maps
        begun = time.perf_counter()
        figures = score_fold(chosen, dataset, fold, predicted)
        yield {
            "fold": fold.to_dict(dataset.ids),
            **figures,
            "time": {
                **runner.fold_timing(folder, chosen.config.steps, *predicted.timing),
                "scoring_seconds": round(time.perf_counter() - begun, 1),
            },
            "curve": runner.curve(folder),
            "legs": legs.recorded(folder),
            "weights_sha256": weights_sha256(folder),
        }

    def draw(self, result: Result, path: Path) -> None:
        """The learning curve, and the best and the worst slice."""
        assert self.maps is not None
        pictures.draw_curve(result, path.with_name(f"{path.stem}-curve.png"))
        test, slices = self.dataset.subset(self.fold.test), f"{path.stem}-slices.png"
        pictures.draw_best_and_worst(result, test, self.maps, path.with_name(slices))


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
    places, resume, overwrite
        As for `unet_np.experiments.protocol.Experiment.run`, which also says what is returned
        and raised.
    """
    return FoldExperiment(chosen, dataset, fold).run(places, resume, overwrite)


def _train(
    chosen: Recipe, dataset: Dataset, fold: Fold, places: Places, resume: bool, overwrite: bool
) -> Any:
    """The trained network of a fold; where legs are kept, one goes on from them and leaves one."""
    folder, kept = places.run(chosen, fold), places.leg(chosen, fold)
    check_ours([kept] if kept else [], overwrite, "--legs")
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


def summarise(chosen: Recipe, results: list[dict[str, Any]], places: Places) -> dict[str, Any]:
    """Write and print the table of the folds that there are."""
    if chosen.name == "em":
        summary = em.table(results)
        lines = em.table_lines(summary)
    else:
        summary = cells.table(chosen.name, results)
        lines = cells.table_lines(chosen.name, summary)
    if chosen.quick:
        lines.append(QUICK)
    write_json(
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
        result = read_json(path)
        if result is None:
            continue
        recipe = recorded(chosen, chosen.fold_config(fold, chosen.config.out))
        if (change := first_change(result["recipe"], recipe)) is None:
            finished.append(result)
        else:
            key, before, value = change
            places.say(f"{path} was made with {key} {before!r}, not {value!r}: not in the table")
    return finished


def threshold_slices(chosen: Recipe, fold: Fold) -> tuple[int, ...]:
    """The slices of the training side that thresholds are chosen on.

    Those held out; for the EM stack with normalisation every third training slice as well. The Rand
    error jumps where a threshold is a little too low, each slice at another place, and two slices
    say little of the next. On training slices it jumps where it does on those held out.

    Examples
    --------
    >>> from unet_np.experiments.recipes import recipe
    >>> fold = Fold("a", (0, 1, 2, 3), (4,), (5,))
    >>> threshold_slices(recipe("em"), fold), threshold_slices(recipe("em", norm="instance"), fold)
    ((4,), (4, 0, 3))
    """
    if chosen.name == "em" and chosen.config.norm != "none":
        return (*fold.validation, *fold.training[::3])
    return fold.validation


def composites(chosen: Recipe, dataset: Dataset, fold: Fold) -> Dataset | None:
    """Copies of the held-out frames with cells brought together; None where none are asked for.

    Frames of one sequence may show no two cells that touch, and say nothing then of what parts
    them. A quick run has too little image around its cells.
    """
    if chosen.name == "em" or chosen.config.norm == "none" or chosen.quick:
        return None
    held_out = dataset.subset(fold.validation)
    rng = np.random.default_rng((chosen.config.seed, STREAMS["touching"], 1))
    crowd = with_touching_cells(held_out, cells.COMPOSITES, rng)
    return crowd.subset(range(len(held_out), len(crowd)))


@dataclass(frozen=True)
class Predicted:
    """What the network of a fold makes of the slices that are asked about.

    Attributes
    ----------
    side, maps : numpy.ndarray
        (N, H, W): probabilities of `threshold_slices` and of the test slices.
    crowded : (numpy.ndarray, numpy.ndarray) or None
        Cells and probabilities of `composites`.
    timing : (float, int)
        Seconds, and of how many slices.
    """

    side: np.ndarray
    maps: np.ndarray
    crowded: tuple[np.ndarray, np.ndarray] | None
    timing: tuple[float, int]


def predict_fold(
    net: UNet,
    chosen: Recipe,
    dataset: Dataset,
    fold: Fold,
    folder: Path,
    averaging: int,
    say: Callable[[str], object],
) -> Predicted:
    """Ask the network of a fold about the slices by which it is judged.

    Parameters
    ----------
    net, folder, averaging, say
        As for `unet_np.experiments.runner.predict_slices`.
    chosen, dataset, fold
        As for `run_fold`.
    """
    rest = folder, averaging, say
    side, a = runner.predict_slices(net, dataset, threshold_slices(chosen, fold), *rest)
    maps, b = runner.predict_slices(net, dataset, fold.test, *rest)
    seconds, slices = a + b, len(side) + len(maps)
    crowd, crowded = composites(chosen, dataset, fold), None
    if crowd is not None:
        assert crowd.instances is not None
        found, c = runner.predict_slices(net, crowd, range(len(crowd)), *rest)
        crowded, seconds, slices = (crowd.instances, found), seconds + c, slices + len(found)
    return Predicted(side, maps, crowded, (seconds, slices))


def score_fold(
    chosen: Recipe, dataset: Dataset, fold: Fold, predicted: Predicted
) -> dict[str, Any]:
    """Thresholds from the training side, scores of the test slices."""
    side, maps, crowded = predicted.side, predicted.maps, predicted.crowded
    test, validation = list(fold.test), list(fold.validation)
    if chosen.name == "em":
        assert dataset.labels is not None
        labels = dataset.labels
        chosen_on = list(threshold_slices(chosen, fold))
        thresholds = em.choose_thresholds(labels[chosen_on], side)
        learned = (*fold.training, *fold.validation)
        grown = {}
        if chosen.config.norm != "none":
            grown["grown"] = em.score_grown(labels[chosen_on], side, labels[test], maps)
        return {
            "thresholds": thresholds,
            "threshold_slices": [dataset.ids[i] for i in chosen_on],
            "training_side": _training_side(fold, labels, chosen_on, side, thresholds),
            **em.score(labels[test], maps, thresholds),
            **grown,
            "baseline": em.baseline(dataset.images, labels, learned, validation, test),
        }
    assert dataset.instances is not None
    known = dataset.instances
    unknown = None if dataset.unknown is None else dataset.unknown[test]
    min_area = cells.smallest_area(known[[*fold.training, *fold.validation]])
    if chosen.config.norm != "none":
        return _score_with_erosion(chosen, dataset, fold, side, maps, crowded)
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


def _training_side(
    fold: Fold,
    labels: np.ndarray,
    chosen_on: list[int],
    side: np.ndarray,
    thresholds: dict[str, float],
) -> dict[str, Any]:
    """Scores at the same thresholds of slices held out, and of slices that were learned from.

    What is wrong on the latter already is not for want of training slices; what is worse on slices
    held out and on the test slices may be.
    """
    parts = {}
    for name, own in (("validation", fold.validation), ("training", fold.training)):
        at = [n for n, index in enumerate(chosen_on) if index in own]
        if at:
            chosen = labels[[chosen_on[n] for n in at]]
            parts[name] = em.score(chosen, side[at], thresholds, False)["scores"]
    return parts


def _score_with_erosion(
    chosen: Recipe,
    dataset: Dataset,
    fold: Fold,
    side: np.ndarray,
    maps: np.ndarray,
    crowded: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, Any]:
    """Cells by `cells.ERODED_RULES`, and what other rules give."""
    test, validation, known = list(fold.test), list(fold.validation), dataset.instances
    assert known is not None
    unknown = None if dataset.unknown is None else dataset.unknown[test]
    own = known[[*fold.training, *fold.validation]]
    min_area, erosion = cells.smallest_area(own), cells.EROSION * cells.narrowest(own)
    background, cell = samples.class_weights(chosen.fold_config(fold, "unused"), dataset)
    implied = cells.weighted(0.5, (background, cell))

    def best(pairs: Any, eroded: float) -> tuple[tuple[float, float], float]:
        settings = min_area, pairs, eroded, crowded
        return cells.choose_thresholds(known[validation], side, *settings), eroded

    rules = {
        THE_RULE: best(cells.TWO, erosion),
        "one threshold, seeds eroded": best(cells.ONE, erosion),
        "two thresholds": best(cells.TWO, 0),
        "one threshold": best(cells.ONE, 0),
        "the threshold that the class weights imply": ((implied, implied), 0.0),
    }
    scored = {"validation": (known[validation], side), "test": (known[test], maps)}
    if crowded:
        scored["composites"] = crowded
    compared = {}
    for name, (limits, eroded) in rules.items():
        compared[name] = {"seeds": limits[0], "threshold": limits[1], "erosion": eroded}
        for part, (truth, some) in scored.items():
            got = cells.score(truth, some, limits, min_area, erosion=eroded)
            compared[name][part] = got["scores"]["seg_measure"]["value"]
            compared[name][f"{part}_cells"] = got["cells"]
    limits, _ = rules[THE_RULE]
    return {
        "thresholds": {"seg_measure": limits[0], "iou": limits[1], "dice": limits[1]},
        "erosion": erosion,
        "min_area": min_area,
        "class_weights": {"background": background, "cell": cell},
        "field_of_interest_border": cells.BORDER,
        "rules": cells.ERODED_RULES,
        "rules_compared": compared,
        **cells.score(known[test], maps, limits, min_area, unknown, erosion),
    }
