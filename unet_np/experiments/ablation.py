"""What each part of the recipe is worth: experiment 1 without it, at a reduced scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unet_np.data import Dataset
from unet_np.errors import TrainingError
from unet_np.experiments import em, runner
from unet_np.experiments.protocol import Places, check_result, earlier, header, write_json
from unet_np.experiments.recipes import ABLATIONS, Fold, Recipe, changed
from unet_np.metrics import ISBI_METRICS

NOTE = (
    "At a reduced scale: a narrower network, a smaller tile and fewer steps than the full "
    "recipe, one fold and one seed. Differences of the size of those between seeds say nothing."
)


def ablate(
    chosen: Recipe,
    dataset: Dataset,
    fold: Fold,
    places: Places,
    variants: Sequence[str] = tuple(ABLATIONS),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train the variants of experiment 1 on one fold and score them alike.

    Parameters
    ----------
    chosen : Recipe
        Of ``em``; usually at the scale of `REDUCED`.
    dataset, fold, places
        As for `run_fold`.
    variants : sequence of str
        Among `ABLATIONS`.
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
    for name in variants:
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
    changes = ABLATIONS[name]
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
    assert dataset.labels is not None
    rest = folder, variant.averaging, places.say
    side, a = runner.predict_slices(net, dataset, fold.validation, *rest)
    maps, b = runner.predict_slices(net, dataset, fold.test, *rest)
    thresholds = em.choose_thresholds(dataset.labels[list(fold.validation)], side, ISBI_METRICS)
    slices = len(side) + len(maps)
    return {
        **row,
        "thresholds": thresholds,
        **em.score(dataset.labels[list(fold.test)], maps, thresholds, False),
        "time": runner.fold_timing(folder, variant.config.steps, a + b, slices),
        "curve": runner.curve(folder),
    }


def _line(name: str, row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{name:16}{row['error']}"
    figures = [row["scores"][metric]["value"] for metric in ISBI_METRICS]
    return f"{name:16}" + "".join(f"{value:12.6f}" for value in figures)
