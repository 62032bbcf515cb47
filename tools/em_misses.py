"""Write what the errors of the EM networks with normalisation are made of, for Table 1.

    unet-np experiment em --norm instance --resume --legs results/legs
    unet-np experiment em --norm instance --fold 2 --seed 1    # and --seed 2
    python tools/em_misses.py

Asks of the slices that each network was tested on, and of some that it learned from: how many
walls are missing or too many, how sure the network is there, and how far from the drawn line wrong
pixels lie. Of the fold that was trained with several seeds also what the mean of their
probabilities gives, at the thresholds of the first. Needs the data set isbi2012 and the folders of
the first commands; two minutes. The result goes to results/em-misses.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np import data
from unet_np.experiments import em, experiment, recipes, runner
from unet_np.experiments.protocol import Places, write_json
from unet_np.experiments.provenance import provenance
from unet_np.metrics import pixel_error, rand_error, warping_error, warping_map
from unet_np.network.unet import UNet

RESULTS = Path(__file__).resolve().parent.parent / "results"
SEEDS = (0, 1, 2)
DISTANCES = (1, 2, 3, 5, 10)
SURE, UNSURE = (0.1, 0.9), (0.3, 0.7)
"""Probabilities outside of the first are sure of themselves, those within the second are not."""


def from_the_line(label: np.ndarray) -> np.ndarray:
    """How far each pixel is from the nearest one on the other side of a drawn outline.

    Examples
    --------
    >>> from_the_line(np.array([[1, 1, 0, 0, 0]])).tolist()
    [[2.0, 1.0, 1.0, 2.0, 3.0]]
    """
    inside, outside = (scipy.ndimage.distance_transform_edt(m) for m in (label == 1, label != 1))
    return np.where(label == 1, inside, outside)


def near_the_line(labels: np.ndarray, maps: np.ndarray, threshold: float) -> dict[str, Any]:
    """Wrong pixels by their distance to the drawn outline, and the error without the nearest."""
    wrong = (maps > threshold) != (labels == 1)
    far = np.stack([from_the_line(one) for one in labels])
    forgiven = np.where(far <= 1, labels, maps > threshold)
    return {
        "error": pixel_error(labels, maps, threshold),
        "share_within": {
            str(d): float((wrong & (far <= d)).sum() / wrong.sum()) for d in DISTANCES
        },
        "error_but_for_the_first_pixel": pixel_error(labels, forgiven.astype(np.float32), 0.5),
    }


def groups(mask: np.ndarray, probability: np.ndarray) -> list[dict[str, float]]:
    """Size and median probability of each 8-connected group of wrong pixels."""
    numbers, count = scipy.ndimage.label(mask, np.ones((3, 3)))
    at = range(1, count + 1)
    sizes = scipy.ndimage.sum_labels(mask, numbers, at)
    sure = scipy.ndimage.median(probability, numbers, at) if count else []
    return [{"pixels": float(a), "cell": float(b)} for a, b in zip(sizes, sure, strict=True)]


def walls(labels: np.ndarray, maps: np.ndarray, pair: tuple[float, float]) -> dict[str, Any]:
    """What is left after warping, with cells grown back: walls too many and walls missing."""
    found: dict[str, list[dict[str, float]]] = {"too_many": [], "missing": []}
    for label, probability in zip(labels, maps, strict=True):
        grown = em.grown(probability, *pair).astype(np.float32)
        left = warping_map(label, grown, 0.5)
        found["too_many"] += groups(left.splits, probability)
        found["missing"] += groups(left.merges, probability)
    return {name: _of_groups(rows, labels.size) for name, rows in found.items()}


def _of_groups(rows: list[dict[str, float]], pixels: int) -> dict[str, Any]:
    """Sums over groups; shares by pixels, since these are what the error counts.

    A wall too many that is joined to a right one is warped there but for one pixel, whatever its
    length.
    """
    sizes = np.array([row["pixels"] for row in rows])
    cell = np.array([row["cell"] for row in rows])
    total = max(sizes.sum(), 1)
    sure = (cell < SURE[0]) | (cell > SURE[1])
    unsure = (cell >= UNSURE[0]) & (cell <= UNSURE[1])
    return {
        "error": float(sizes.sum() / pixels),
        "groups": len(rows),
        "pixels": np.quantile(sizes, (0.25, 0.5, 0.75)).tolist() if rows else None,
        "share_sure": float(sizes[sure].sum() / total),
        "share_unsure": float(sizes[unsure].sum() / total),
    }


def of_fold(fold: recipes.Fold, dataset: data.Dataset, places: Places) -> dict[str, Any]:
    """The errors of one network, on its test slices and on slices that it learned from."""
    chosen = recipes.recipe("em", norm="instance")
    result = json.loads((RESULTS / f"{chosen.key}-{fold.name}.json").read_text("utf-8"))
    folder = places.run(chosen, fold)
    net = UNet.load(folder / "weights.safetensors", backend="numpy")
    pair = tuple(result["grown"]["thresholds"]["warping_error"])
    threshold = result["thresholds"]["pixel_error"]
    slices = experiment.threshold_slices(chosen, fold)
    parts = {"test": fold.test, "learned": [k for k in slices if k in fold.training]}
    rows: dict[str, Any] = {"fold": fold.name}
    assert dataset.labels is not None
    for part, indices in parts.items():
        labels = dataset.labels[list(indices)]
        maps, _ = runner.predict_slices(net, dataset, indices, folder, chosen.averaging, places.say)
        rows[part] = {
            "slices": len(labels),
            "walls": walls(labels, maps, pair),
            "pixels": near_the_line(labels, maps, threshold),
        }
    return rows


def of_mean(fold: recipes.Fold, dataset: data.Dataset, places: Places) -> dict[str, Any]:
    """Errors of the probabilities of each seed that was trained, and of their mean.

    All at the thresholds of the first.
    """
    maps = {}
    for seed in SEEDS:
        chosen = recipes.recipe("em", norm="instance", seed=seed)
        if not places.result(f"{chosen.key}-{fold.name}").exists():
            continue
        folder = places.run(chosen, fold)
        net = UNet.load(folder / "weights.safetensors", backend="numpy")
        rest = fold.test, folder, chosen.averaging, places.say
        maps[f"seed {seed}"], _ = runner.predict_slices(net, dataset, *rest)
    maps["mean"] = np.mean(list(maps.values()), axis=0)
    result = json.loads((RESULTS / f"em-norm-{fold.name}.json").read_text("utf-8"))
    pairs, threshold = result["grown"]["thresholds"], result["thresholds"]["pixel_error"]
    assert dataset.labels is not None
    labels = dataset.labels[list(fold.test)]
    rows: dict[str, Any] = {}
    for name, one in maps.items():
        rows[name] = {"pixel_error": pixel_error(labels, one, threshold)}
        for metric, error in (("warping_error", warping_error), ("rand_error", rand_error)):
            cells = np.stack([em.grown(each, *pairs[metric]) for each in one])
            rows[name][metric] = error(labels, cells.astype(np.float32), 0.5)
    return {"fold": fold.name, "errors": rows}


def main() -> int:
    """Ask all folds and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    places = Places(parser.parse_args().runs, RESULTS, None, print, False)
    chosen = recipes.recipe("em", norm="instance")
    dataset = chosen.dataset()
    folds = chosen.folds(dataset)
    result: dict[str, Any] = {
        **provenance([]),
        "command": "python tools/em_misses.py",
        "folds": [of_fold(fold, dataset, places) for fold in folds],
        "mean_of_seeds": of_mean(folds[-1], dataset, places),
    }
    write_json(RESULTS / "em-misses.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
