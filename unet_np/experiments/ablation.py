"""What each part of a recipe is worth: the experiment without it, at a reduced scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unet_np.data import Dataset
from unet_np.errors import TrainingError
from unet_np.experiments import em, runner
from unet_np.experiments.experiment import Predicted, predict_fold, score_fold, threshold_slices
from unet_np.experiments.protocol import Places, check_result, earlier, header, write_json
from unet_np.experiments.recipes import Fold, Recipe, ablations, changed
from unet_np.metrics import ISBI_METRICS

NOTE = (
    "At a reduced scale: fewer steps than the full recipe, for EM a narrower network and a smaller "
    "tile too, one fold and one seed. Differences of the size of those between seeds say nothing."
)


def ablate(
    chosen: Recipe,
    dataset: Dataset,
    fold: Fold,
    places: Places,
    variants: Sequence[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train the variants of a recipe on one fold and score them alike.

    Parameters
    ----------
    chosen : Recipe
        Usually at the scale of `REDUCED`.
    dataset, fold, places
        As for `run_fold`.
    variants : sequence of str, optional
        Among those of `ablations`; by default all.
    overwrite : bool
        Begin anew; without, what was finished is kept and what was stopped goes on.

    Returns
    -------
    dict
        ``variants``: by name, the settings that differ, thresholds, scores and time, or the
        error that ended the training.

    Raises
    ------
    InputError
        If variants of another fold, recipe or data stand in the JSON file.
    """
    path = places.result(f"{chosen.key}-ablation")
    check_result(path, overwrite)
    result: dict[str, Any] = {
        **header(chosen, dataset, chosen.fold_config(fold, chosen.config.out), places.command),
        "fold": fold.to_dict(dataset.ids),
        "note": NOTE,
        "variants": {},
    }
    old = None if overwrite else earlier(path, result)
    kept = {} if old is None else old["variants"]
    for name in variants or ablations(chosen):
        row = kept.get(name) or _variant(chosen, dataset, fold, places, name, overwrite)
        result["variants"][name] = row
        # Written after each variant, so that one that is stopped costs none of the others.
        write_json(path, result)
        places.say(_line(name, row))
    places.say(f"wrote {path}")
    return result


def _variant(
    base: Recipe, dataset: Dataset, fold: Fold, places: Places, name: str, overwrite: bool
) -> dict[str, Any]:
    changes = ablations(base)[name]
    variant = changed(base, **changes)
    # Averaging is no part of the training: that variant is the full network, asked once.
    trained_as = "full" if name == "no-averaging" else name
    folder = places.folder(base.quick, base.key, "ablation", f"{trained_as}-{fold.name}")
    config = variant.fold_config(fold, folder).to_dict()
    recorded = {key: config[key] for key in ("input_size", "base_channels", "steps", "seed")}
    row: dict[str, Any] = {"changes": changes, "settings": recorded}
    try:
        renew = overwrite and trained_as == name
        net = runner.train_fold(variant, dataset, fold, folder, not renew, renew, places.progress)
    except TrainingError as error:
        return {**row, "error": str(error).split(";")[0]}
    # Judged by the rules of the recipe, whatever was left out of the training.
    predicted = predict_fold(net, base, dataset, fold, folder, variant.averaging, places.say)
    figures = _figures_em if base.name == "em" else score_fold
    return {
        **row,
        **figures(base, dataset, fold, predicted),
        "time": runner.fold_timing(folder, variant.config.steps, *predicted.timing),
        "curve": runner.curve(folder),
    }


def _figures_em(base: Recipe, dataset: Dataset, fold: Fold, predicted: Predicted) -> dict[str, Any]:
    """The challenge's three errors alone, and those of cells grown back."""
    assert dataset.labels is not None
    known = dataset.labels[list(threshold_slices(base, fold))]
    test = dataset.labels[list(fold.test)]
    thresholds = em.choose_thresholds(known, predicted.side, ISBI_METRICS)
    result = {"thresholds": thresholds, **em.score(test, predicted.maps, thresholds, False)}
    if base.config.norm != "none":
        result["grown"] = em.score_grown(known, predicted.side, test, predicted.maps)
    return result


def _line(name: str, row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{name:16}{row['error']}"
    scores = row["scores"]
    figures = [
        scores[metric]["value"] for metric in (*ISBI_METRICS, "seg_measure") if metric in scores
    ]
    return f"{name:16}" + "".join(f"{value:12.6f}" for value in figures)
