"""Membrane or cell, pixel by pixel: the sliding window that the U-Net replaced, and a line.

Before the U-Net, the best entry of the EM challenge classified each pixel by a patch around it
(Ciresan et al. 2012; section 1 of the paper). Here the contracting path does so, on the fold of the
EM stack that is tested on slices 26 to 29. Beside it stand a linear classifier of the patch's
pixels, which is what the patch's grey values say without any layers, and a small U-Net, which
answers for all pixels at once. All are asked the same pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats

from unet_np import data
from unet_np.backend import STREAMS, default_rng, thread_count
from unet_np.data import Dataset
from unet_np.experiments import runner
from unet_np.experiments.pictures import BLUE, ORANGE, grey, montage, paint
from unet_np.experiments.protocol import Experiment, Places, Result, rounded, weights_sha256
from unet_np.experiments.recipes import Fold, Recipe, em_fold, ranges
from unet_np.images import normalise, write_png
from unet_np.network.unet import UNet
from unet_np.ops import weighted_cross_entropy
from unet_np.tasks.classification import classify_points
from unet_np.tasks.segmentation import segment
from unet_np.training.config import TrainConfig
from unet_np.training.loop import train
from unet_np.windows import crop_window

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Of the linear classifier's weights, to choose from on the validation slices."""

RULES = (
    "All three are asked the same pixels, drawn uniformly from the test slices. The area under the "
    "ROC curve needs no threshold; balanced accuracy is the mean of the two classes' shares of "
    "right answers at the threshold that is best on pixels of the validation slices, accuracy is "
    "at the same threshold. Seconds for an image are measured on the pixels asked, times the "
    "262,144 of an image for what answers for one pixel at a time."
)


def study(quick: bool = False, **settings: Any) -> Classification:
    """All three, with these settings of the patch network; the U-Net has `unet_config`'s.

    Parameters
    ----------
    quick : bool
        Seconds, to see that all parts work.
    **settings
        Of `TrainConfig`, in the place of these; None leaves them.

    Examples
    --------
    >>> study(quick=True, steps=7).chosen.config.steps
    7
    """
    config = TrainConfig(
        task="classify",
        data="isbi2012",
        base_channels=8,
        depth=3,
        norm="batch",
        dropout=0.0,
        steps=800,
        batch_size=16,
        input_size=69,
        learning_rate=0.03,
        momentum=0.9,
        schedule="poly",
        warmup=20,
        validate_every=100,
        checkpoint_every=100,
    )
    if quick:
        config = config.replace(base_channels=4, depth=1, input_size=17, steps=12, warmup=2)
        config = config.replace(validate_every=6, checkpoint_every=6, batch_size=4)
    given = {key: value for key, value in settings.items() if value is not None}
    chosen = Recipe("classify", "isbi2012", config.replace(**given), 1, False, quick)
    return Classification(chosen, *dataset_and_fold(quick))


def unet_config(chosen: Recipe) -> TrainConfig:
    """A U-Net of the same width and depth, for comparison: large tiles, one at a time."""
    config = chosen.config.replace(
        task="segment", batch_size=1, input_size=0, steps=chosen.config.steps * 3 // 4
    )
    size = config.architecture.input_size_for_output(28 if chosen.quick else 160)
    return config.replace(input_size=size)


def dataset_and_fold(quick: bool) -> tuple[Dataset, Fold]:
    """The EM stack and its fold 2; in a quick run synthetic slices."""
    if quick:
        return data.load("synthetic-em", count=6, size=96), em_fold(
            2, np.arange(4), np.arange(4, 6)
        )
    return data.load("isbi2012"), em_fold(2, np.arange(26), np.arange(26, 30))


class Classification(Experiment):
    """Two networks and the line, all of them asked the same pixels: ``classify.json``."""

    def __init__(self, chosen: Recipe, dataset: Dataset, fold: Fold) -> None:
        super().__init__("classify", chosen, dataset)
        self.fold = fold
        self.seen: tuple[tuple[slice, slice, np.ndarray], np.ndarray] | None = None

    def measure(self, places: Places, resume: bool, overwrite: bool) -> Iterator[Result]:
        """``scores`` of all three, with the facts of each."""
        chosen, dataset, fold = self.chosen, self.dataset, self.fold
        count, size = (60 if chosen.quick else 1000), chosen.config.tile_size
        side = draw_points(dataset, fold.validation, count, 1)
        asked = draw_points(dataset, fold.test, count, 2)
        pixels = dataset.shape[0] * dataset.shape[1]
        folder = places.folder(chosen.quick, "classify")
        held_out = {"exclude": ranges(fold.test), "validation": ranges(fold.validation)}
        answers: dict[str, tuple[np.ndarray, np.ndarray, dict[str, Any]]] = {}

        def trained(name: str, config: TrainConfig) -> UNet:
            config = config.replace(out=str(folder / name), **held_out)
            net = train(config, resume, overwrite, places.progress, dataset=dataset).net
            places.say(f"{name}: trained")
            return net

        net = trained("patches", chosen.config)
        begun = time.perf_counter()
        guide = [classify_points(net, dataset.images[i], p, size)[:, 1] for i, p in side]
        found = [classify_points(net, dataset.images[i], p, size)[:, 1] for i, p in asked]
        each = (time.perf_counter() - begun) / (count * (len(side) + len(asked)))
        facts = _facts(folder / "patches", net.architecture.parameters, each * pixels)
        answers["patches"] = np.concatenate(guide), np.concatenate(found), facts
        window = sliding_window(net, dataset, fold.test[0], size, chosen.quick)

        net = trained("unet", unet_config(chosen))
        begun = time.perf_counter()
        maps = {i: segment(net, dataset.images[i]).probabilities[1] for i, _ in (*side, *asked)}
        each = (time.perf_counter() - begun) / len(maps)
        facts = _facts(folder / "unet", net.architecture.parameters, each)
        guide, found = ([maps[i][tuple(p.T)] for i, p in part] for part in (side, asked))
        answers["unet"] = np.concatenate(guide), np.concatenate(found), facts
        self.seen = window, maps[fold.test[0]]

        answers["linear"] = _linear(dataset, fold, (side, asked), size, chosen)
        real = [_labels(dataset, part) for part in (side, asked)]
        settings = unet_config(chosen).replace(**held_out).resolved().to_dict()
        settings.pop("out")
        yield {
            "fold": fold.to_dict(dataset.ids),
            "rules": RULES,
            "points": {"validation": len(real[0]), "test": len(real[1])},
            "share_of_cells": rounded(real[1].mean()),
            "unet_recipe": settings,
            "scores": {
                name: facts | score(real[0], guide, real[1], found)
                for name, (guide, found, facts) in answers.items()
            },
        }

    def draw(self, result: Result, path: Path) -> None:
        """A part of a test slice as both networks see it."""
        assert self.seen is not None
        draw(self.dataset, self.fold.test[0], *self.seen, path.with_suffix(".png"))

    def table(self, result: Result) -> list[str]:
        """What the three are worth, and what they cost."""
        lines = [
            "classify: area under the ROC curve, balanced accuracy, accuracy, seconds for an image"
        ]
        keys = ("auc", "balanced_accuracy", "accuracy", "seconds_per_image")
        for name, found in result["scores"].items():
            lines.append(f"  {name:12}" + "".join(f"{found[key]:>12.4g}" for key in keys))
        return lines


def _facts(folder: Path, parameters: int, seconds: float) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "training_seconds": round(runner.training_seconds(folder), 1),
        "seconds_per_image": rounded(seconds, 3),
        "threads": thread_count(),
        "curve": runner.validations(folder),
        "weights_sha256": weights_sha256(folder),
    }


Points = list[tuple[int, np.ndarray]]


def draw_points(dataset: Dataset, slices: Sequence[int], count: int, key: int) -> Points:
    """Pixels of each slice, drawn uniformly; the same whenever they are drawn.

    Examples
    --------
    >>> points = draw_points(Dataset("mine", np.zeros((2, 9, 9))), (1,), 3, 0)
    >>> points[0][0], points[0][1].shape
    (1, (3, 2))
    """
    found = []
    for number in slices:
        rng = default_rng(np, (key, STREAMS["sample"], number))
        found.append((int(number), rng.integers(0, dataset.shape, (count, 2))))
    return found


def _labels(dataset: Dataset, points: Points) -> np.ndarray:
    assert dataset.labels is not None
    return np.concatenate([dataset.labels[i][tuple(p.T)] for i, p in points])


def score(
    known: np.ndarray, guide: np.ndarray, labels: np.ndarray, found: np.ndarray
) -> dict[str, Any]:
    """Scores of probabilities of class 1, at the threshold that is best on the guide.

    Parameters
    ----------
    known, guide : numpy.ndarray
        Labels and probabilities on the validation side.
    labels, found : numpy.ndarray
        On the test side.

    Returns
    -------
    dict
        ``auc``, ``threshold``, ``balanced_accuracy``, ``accuracy``.

    Examples
    --------
    >>> labels, p = np.array([0, 1, 1]), np.array([0.2, 0.6, 0.9])
    >>> score(labels, p, labels, p)["balanced_accuracy"]
    1.0
    """
    thresholds = np.unique(np.round(guide, 3))
    best = max(thresholds, key=lambda t: balanced_accuracy(known, guide >= t))
    return {
        "auc": rounded(auc(labels, found)),
        "threshold": float(best),
        "balanced_accuracy": rounded(balanced_accuracy(labels, found >= best)),
        "accuracy": rounded((labels == (found >= best)).mean()),
    }


def auc(labels: np.ndarray, found: np.ndarray) -> float:
    """Area under the ROC curve: how often a pixel of class 1 gets more than one of class 0.

    Examples
    --------
    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.5, 0.9]))
    0.75
    """
    ranks = scipy.stats.rankdata(found)
    ones = int((labels == 1).sum())
    zeros = len(labels) - ones
    return float((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / max(ones * zeros, 1))


def balanced_accuracy(labels: np.ndarray, answers: np.ndarray) -> float:
    """Mean over the classes of the share of right answers.

    Examples
    --------
    >>> balanced_accuracy(np.array([0, 1, 1, 1]), np.array([False, True, True, False]))
    0.8333333333333333
    """
    return float(
        np.mean([(answers[labels == k] == k).mean() for k in (0, 1) if (labels == k).any()])
    )


def _linear(
    dataset: Dataset, fold: Fold, asked: tuple[Points, Points], size: int, chosen: Recipe
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Probabilities of the linear classifier on both sides, and the facts."""
    count = 40 if chosen.quick else 320
    known = draw_points(dataset, fold.training, count, 0)
    begun = time.perf_counter()
    patches, labels = patches_of(dataset, known, size), _labels(dataset, known)
    both = [patches_of(dataset, part, size) for part in asked]
    real = _labels(dataset, asked[0])
    tried = []
    for penalty in PENALTIES:
        weights = fit_line(patches, labels, penalty)
        guide = line_probabilities(both[0], weights)
        tried.append((auc(real, guide), penalty, weights, guide))
    _, penalty, weights, guide = max(tried, key=lambda one: one[:2])
    training = time.perf_counter() - begun
    begun = time.perf_counter()
    found = line_probabilities(patches_of(dataset, asked[1], size), weights)
    each = (time.perf_counter() - begun) / len(found)
    pixels = dataset.shape[0] * dataset.shape[1]
    facts = {
        "parameters": len(weights),
        "training_seconds": round(training, 1),
        "seconds_per_image": rounded(each * pixels, 3),
        "threads": thread_count(),
        "penalty": penalty,
        "patches": len(labels),
    }
    return guide, found, facts


def patches_of(dataset: Dataset, points: Points, size: int) -> np.ndarray:
    """Patches around pixels, each a row: float32 (n, size * size), of normalised slices."""
    rows = []
    for number, where in points:
        image = normalise(dataset.images[number])
        corners = where - size // 2
        rows.append(np.stack([crop_window(image, r, c, size).ravel() for r, c in corners]))
    return np.concatenate(rows)


def fit_line(patches: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    """Weights of a linear classifier, the bias last: balanced cross entropy, quadratic penalty.

    Logistic regression is the network's last layer without the network: the same energy with the
    same gradient, and the whole problem is convex.

    Examples
    --------
    >>> x = np.array([[-1.0], [-2.0], [1.0], [2.0]], np.float32)
    >>> weights = fit_line(x, np.array([0, 0, 1, 1]), 0.01)
    >>> line_probabilities(x, weights).round().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    shares = np.bincount(labels, minlength=2) / len(labels)
    each = (0.5 / np.maximum(shares, 1e-9))[labels]

    def energy(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = patches @ weights[:-1].astype(np.float32) + weights[-1]
        # Two classes need one logit: that of class 0 is 0.
        both = np.stack([np.zeros_like(logits), logits], axis=1)[:, :, None, None]
        pixel = (slice(None), None, None)
        loss, grad = weighted_cross_entropy(both, labels[pixel], each[pixel], "mean")
        slope = grad[:, 1, 0, 0]
        bent = penalty * weights[:-1]
        whole = np.append(slope @ patches + bent, slope.sum())
        return float(loss) + float(bent @ weights[:-1]) / 2, whole.astype(np.float64)

    start = np.zeros(patches.shape[1] + 1)
    found = scipy.optimize.minimize(
        energy, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}
    )
    return np.asarray(found.x)


def line_probabilities(patches: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Probability of class 1 of each patch."""
    logits = patches @ weights[:-1].astype(np.float32) + weights[-1]
    return np.asarray(1 / (1 + np.exp(-logits)))


def sliding_window(
    net: Any, dataset: Dataset, number: int, size: int, quick: bool
) -> tuple[slice, slice, np.ndarray]:
    """The patch network on every fourth pixel each way of a part of a slice: rows, columns, map."""
    side, step = (16, 4) if quick else (192, 4)
    top, left = ((length - side) // 2 for length in dataset.shape)
    rows, columns = np.arange(top, top + side, step), np.arange(left, left + side, step)
    points = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    found = classify_points(net, dataset.images[number], points, size)[:, 1]
    part = slice(top, top + side), slice(left, left + side)
    return *part, np.kron(found.reshape(len(rows), len(columns)), np.ones((step, step)))


def draw(
    dataset: Dataset,
    number: int,
    window: tuple[slice, slice, np.ndarray],
    probability: np.ndarray,
    path: Path,
) -> None:
    """A part of a test slice: image, truth, sliding window, U-Net; membranes orange."""
    rows, columns, map_ = window
    picture = grey(dataset.images[number])[rows, columns]
    assert dataset.labels is not None
    real = paint(picture, dataset.labels[number][rows, columns] == 0, BLUE, 0.7)
    shown = [picture, real]
    shown += [paint(picture, one <= 0.5, ORANGE, 0.7) for one in (map_, probability[rows, columns])]
    write_png(path.with_suffix(".png"), montage([shown]))
