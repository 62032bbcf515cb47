"""One training on a few images of nuclei, scored; what is finished is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np.data import Dataset
from unet_np.errors import TrainingError
from unet_np.experiments import runner
from unet_np.experiments.cells import smallest_area
from unet_np.experiments.nuclei import scores as scoring
from unet_np.experiments.nuclei.plan import Plan, Split, Trial
from unet_np.experiments.protocol import Places, kept, sha256, weights_sha256
from unet_np.experiments.recipes import Fold
from unet_np.files.weights import read_weights
from unet_np.network.unet import UNet
from unet_np.tasks.segmentation import segment
from unet_np.training.fine_tuning import weights_file

Predict = Callable[[np.ndarray], np.ndarray]
"""From an image (H, W) to the probability of a nucleus."""


@dataclass
class Bench:
    """What all trials share: the data, what they are measured on, and where files go."""

    plan: Plan
    dataset: Dataset
    places: Places
    overwrite: bool = False
    split: Split = field(init=False)
    min_area: int = field(init=False)
    kinds: dict[tuple[int, int], dict[str, bool]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.split = self.plan.split(len(self.dataset))
        self.min_area = smallest_area(self.cells(self.split.validation))
        test = list(self.split.test)
        self.kinds = scoring.kinds(self.dataset.images[test], self.cells(self.split.test))

    def cells(self, indices: Sequence[int]) -> np.ndarray:
        """The annotated nuclei of some images."""
        assert self.dataset.instances is not None
        return self.dataset.instances[list(indices)]

    def numbers(self, indices: Sequence[int]) -> list[int]:
        """How many nuclei each of some images has."""
        return [len(np.unique(one[one > 0])) for one in self.cells(indices)]

    def maps(self, predict: Predict, part: str) -> np.ndarray:
        """Probabilities of the ``test`` or ``validation`` images."""
        return np.stack([predict(self.dataset.images[i]) for i in getattr(self.split, part)])

    def score(self, predict: Predict) -> dict[str, Any]:
        """Threshold from the validation images, scores of the test images."""
        known = self.cells(self.split.validation)
        threshold, validation = scoring.choose_threshold(
            known, self.maps(predict, "validation"), self.min_area
        )
        maps, cells = self.maps(predict, "test"), self.cells(self.split.test)
        found, half = (
            np.stack([scoring.find_nuclei(one, t, self.min_area) for one in maps])
            for t in (threshold, 0.5)
        )
        at_half = scoring.score(cells, half, self.kinds)["scores"]
        return {
            "threshold": threshold,
            "validation_seg": validation,
            **scoring.score(cells, found, self.kinds),
            "at_one_half": {name: entry["value"] for name, entry in at_half.items()},
        }

    def folder(self, name: str) -> Path:
        """Of a run."""
        return self.places.folder(self.plan.quick, "nuclei", *name.split("/"))

    def train(self, trial: Trial, folder: Path) -> UNet:
        """The trained network; a training that was stopped goes on."""
        training = self.split.draws[trial.draw][: trial.images]
        used = {*training, *self.split.validation}
        others = tuple(i for i in range(len(self.dataset)) if i not in used)
        fold = Fold(trial.name, tuple(sorted(training)), self.split.validation, others)
        config = self.plan.config.replace(
            start=trial.start, augment=trial.augment, learning_rate=trial.rate
        )
        chosen, resume = self.plan.recipe(config), not self.overwrite
        return runner.train_fold(
            chosen, self.dataset, fold, folder, resume, self.overwrite, self.places.progress
        )


def network(net: UNet) -> Predict:
    """From an image to the probability of class 1."""
    return lambda image: segment(net, image).probabilities[1]


def seen_through(predict: Predict, invert: bool, enlarge: int) -> Predict:
    """A network that is shown the image inverted, enlarged, or both.

    Examples
    --------
    >>> bright = seen_through(lambda image: image, invert=True, enlarge=2)
    >>> bright(np.array([[0.25, 0.75], [0.25, 0.75]])).tolist()
    [[0.6875, 0.3125], [0.6875, 0.3125]]
    """

    def shown(image: np.ndarray) -> np.ndarray:
        seen = image.astype(np.float32)
        if invert:
            seen = seen.max() + seen.min() - seen
        if enlarge > 1:
            seen = scipy.ndimage.zoom(seen, enlarge, order=1, mode="nearest", grid_mode=True)
        probability = predict(seen)
        height, width = image.shape
        # Each pixel was made enlarge times enlarge: their mean.
        parts = probability.reshape(height, enlarge, width, enlarge)
        return np.clip(parts.mean(axis=(1, 3)), 0, 1) if enlarge > 1 else probability

    return shown


def run_trial(bench: Bench, trial: Trial) -> dict[str, Any]:
    """Train, predict and score; or read what was written.

    Raises
    ------
    InputError
        If what was written is of other settings.
    TrainingError, TrainingInterrupted
        As `unet_np.training.loop.train`.
    """
    folder = bench.folder(f"draw-{trial.draw}/{trial.name}")
    settings = _settings(bench, trial)
    make = partial(_trial, bench, trial, folder)
    return kept(folder / "trial.json", settings, make, bench.overwrite)


def _trial(bench: Bench, trial: Trial, folder: Path) -> dict[str, Any]:
    net = bench.train(trial, folder)
    result = bench.score(network(net))
    bench.places.say(f"draw {trial.draw}, {trial.name}: {_figures(result)}")
    return {
        **result,
        "training_seconds": round(runner.training_seconds(folder), 1),
        "curve": runner.curve(folder),
        "weights_sha256": weights_sha256(folder),
    }


def try_rate(bench: Bench, start: str, rate: float) -> dict[str, Any]:
    """SEG on the validation images after a training at one rate; the test images stay shut."""
    trial = Trial(start, True, bench.plan.search_count, 0, rate)
    folder = bench.folder(f"search/{trial.name}-rate-{rate:g}")

    def measure() -> dict[str, Any]:
        try:
            net = bench.train(trial, folder)
        except TrainingError as error:
            return {"validation_seg": 0.0, "error": str(error).split(";")[0]}
        known = bench.cells(bench.split.validation)
        maps = bench.maps(network(net), "validation")
        threshold, seg = scoring.choose_threshold(known, maps, bench.min_area)
        bench.places.say(f"rate {rate:g}, {start or 'scratch'}: validation SEG {seg:.4f}")
        return {"threshold": threshold, "validation_seg": seg, "curve": runner.curve(folder)}

    return kept(folder / "trial.json", _settings(bench, trial), measure, bench.overwrite)


def _settings(bench: Bench, trial: Trial) -> dict[str, Any]:
    ids = bench.dataset.ids
    config = bench.plan.config
    return {
        "start": trial.start,
        "start_sha256": weights_digest(trial.start) if trial.start else None,
        "augment": trial.augment,
        "images": trial.images,
        "draw": trial.draw,
        "learning_rate": trial.rate,
        "steps": config.steps,
        "input_size": config.tile_size,
        "base_channels": config.base_channels,
        "seed": config.seed,
        "weight_term": config.weight_term,
        "training": [ids[i] for i in bench.split.draws[trial.draw][: trial.images]],
    }


def weights_digest(start: str) -> str:
    """SHA-256 of the weights that a training begins from, whatever else their file says."""
    arrays, _ = read_weights(weights_file(start))
    return sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays)))


def _figures(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} {entry['value']:.4f}" for name, entry in result["scores"].items())
