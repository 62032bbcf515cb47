"""One training on a few images of nuclei, scored; what is finished is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.data import Dataset
from unet_np.experiments import runner
from unet_np.experiments.cells import smallest_area
from unet_np.experiments.nuclei import scores as scoring
from unet_np.experiments.nuclei.plan import Plan, Split, Trial
from unet_np.experiments.protocol import Places, kept, sha256, weights_sha256
from unet_np.experiments.recipes import Fold
from unet_np.files.weights import read_weights
from unet_np.metrics import confusion
from unet_np.network.unet import UNet
from unet_np.tasks.segmentation import RIM, cell_map, most_probable, segment
from unet_np.training.config import TrainConfig
from unet_np.training.fine_tuning import weights_file
from unet_np.weighting.separation import inside_and_rim

Predict = Callable[[np.ndarray], np.ndarray]
"""From an image (H, W) to probabilities (num_classes, H, W), or to that of a nucleus (H, W)."""


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

    def least(self, rim: float) -> int:
        """Fewest pixels that begin a nucleus: of its inside, where that is a class."""
        if not rim:
            return self.min_area
        cells = self.cells(self.split.validation)
        return smallest_area(np.where(inside_and_rim(cells, rim) == 1, cells, 0))

    def numbers(self, indices: Sequence[int]) -> list[int]:
        """How many nuclei each of some images has."""
        return [len(np.unique(one[one > 0])) for one in self.cells(indices)]

    def maps(self, predict: Predict, part: str) -> np.ndarray:
        """Probabilities of the ``test`` or ``validation`` images."""
        return np.stack([predict(self.dataset.images[i]) for i in getattr(self.split, part)])

    def score(
        self, predict: Predict, pairs: Sequence[tuple[float, float]] = scoring.PAIRS, rim: float = 0
    ) -> dict[str, Any]:
        """Where nuclei begin and end from the validation images, scores of the test images."""
        known, cells = self.cells(self.split.validation), self.cells(self.split.test)
        area = self.least(rim)
        sides = {part: self.maps(predict, part) for part in ("validation", "test")}
        classes: dict[str, Any] = {}
        if sides["test"].ndim == 4:
            if rim:
                truth = inside_and_rim(cells, rim)
                found = np.stack([most_probable(one) for one in sides["test"]])
                classes = {"confusion": confusion(truth, found).tolist()}
            sides = {
                part: np.stack([cell_map(one, RIM if rim else None) for one in maps])
                for part, maps in sides.items()
            }
        limits, validation = scoring.choose_limits(known, sides["validation"], area, pairs)
        nuclei = [scoring.find_nuclei(one, *limits, area) for one in sides["test"]]
        return {
            "seeds": limits[0],
            "threshold": limits[1],
            "min_area": area,
            "validation_seg": validation,
            **scoring.score(cells, np.stack(nuclei), self.kinds),
            **classes,
        }

    def folder(self, name: str) -> Path:
        """Of a run."""
        return self.places.folder(self.plan.quick, "nuclei", *name.split("/"))

    def config(self, trial: Trial) -> TrainConfig:
        """Of a training."""
        return self.plan.config.replace(**self.plan.ways[trial.way])

    def train(self, trial: Trial, folder: Path) -> UNet:
        """The trained network; a training that was stopped goes on."""
        training = self.split.draws[trial.draw][: trial.images]
        used = {*training, *self.split.validation}
        others = tuple(i for i in range(len(self.dataset)) if i not in used)
        fold = Fold(trial.name, tuple(sorted(training)), self.split.validation, others)
        chosen, resume = self.plan.recipe(self.config(trial)), not self.overwrite
        return runner.train_fold(
            chosen, self.dataset, fold, folder, resume, self.overwrite, self.places.progress
        )


def network(net: UNet) -> Predict:
    """From an image to probabilities."""
    return lambda image: segment(net, image).probabilities


def inverted(predict: Predict) -> Predict:
    """A network that is shown the image inverted.

    Examples
    --------
    >>> inverted(lambda image: image)(np.array([[0.25, 1.0]])).tolist()
    [[1.0, 0.25]]
    """

    def shown(image: np.ndarray) -> np.ndarray:
        seen = image.astype(np.float32)
        return predict(seen.max() + seen.min() - seen)

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
    result = bench.score(network(net), rim=bench.config(trial).rim)
    bench.places.say(f"draw {trial.draw}, {trial.name}: {_figures(result)}")
    return {
        **result,
        "training_seconds": round(runner.training_seconds(folder), 1),
        "curve": runner.curve(folder),
        "weights_sha256": weights_sha256(folder),
    }


def _settings(bench: Bench, trial: Trial) -> dict[str, Any]:
    config = bench.config(trial)
    names = ("steps", "base_channels", "depth", "norm", "learning_rate", "momentum", "rim")
    return {
        "way": trial.way,
        "start": config.start,
        "start_sha256": weights_digest(config.start) if config.start else None,
        "images": trial.images,
        "draw": trial.draw,
        "input_size": config.tile_size,
        "seed": config.seed,
        "weight_term": config.weight_term,
        **{name: getattr(config, name) for name in names},
        "training": [bench.dataset.ids[i] for i in bench.split.draws[trial.draw][: trial.images]],
    }


def weights_digest(start: str) -> str:
    """SHA-256 of the weights that a training begins from, whatever else their file says."""
    arrays, _ = read_weights(weights_file(start))
    return sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays)))


def _figures(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} {entry['value']:.4f}" for name, entry in result["scores"].items())
