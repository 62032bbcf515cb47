"""Objects found in images that the network has not seen: HeLa cells and nuclei.

Centres and boxes need no fine pixels, so images are binned first: HeLa cells of 117 pixels become
29, and a tile is a whole frame. Of HeLa every frame has markers, one spot in each cell, and few
frames have masks. One training learns from all frames of a sequence, the sizes from the masks
alone; another learns from the frames with masks only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import data
from unet_np.backend import thread_count
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.experiments import runner
from unet_np.experiments.nuclei import plan as nuclei_plan
from unet_np.experiments.nuclei import scores as nuclei_scores
from unet_np.experiments.pictures import montage
from unet_np.experiments.protocol import (
    Experiment,
    Places,
    Result,
    data_hashes,
    rounded,
    weights_sha256,
)
from unet_np.experiments.recipes import Recipe
from unet_np.images import write_png
from unet_np.metrics import PointScores, box_iou, match_points, score_points
from unet_np.network.unet import UNet
from unet_np.tasks.detection import all_object_ids, detect, overlay
from unet_np.tasks.heat_map import Detections, Objects, find_objects, typical_size
from unet_np.training.config import TrainConfig
from unet_np.training.loop import train

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(4, 19))
RULES = (
    "An object is the middle of its box. A detection is right within a radius of a quarter of the "
    "typical size, one to one by an optimal assignment. The threshold is that of the highest F1 on "
    "the validation images; of equals the lowest. Distances are in pixels of the original image. "
    "The overlap is the mean intersection over union of the boxes of the pairs, where the true "
    "box is known."
)


@dataclass(frozen=True)
class Part:
    """One training and its test.

    Attributes
    ----------
    name : str
        For files and tables.
    factor : int
        Pixels along each axis that become one.
    side, test : Dataset
        What is learned from and validated on, and what is tested on; binned.
    validation : tuple of int
        Indices in `side`.
    baseline : callable or None
        An image (H, W) to points (n, 2), without a network.
    """

    name: str
    factor: int
    side: Dataset
    test: Dataset
    validation: tuple[int, ...]
    baseline: Callable[[np.ndarray], np.ndarray] | None = None


def study(quick: bool = False, **settings: Any) -> Detection:
    """All parts, with these settings of every training.

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
        task="detect",
        base_channels=8,
        depth=3,
        padding=1,
        norm="batch",
        dropout=0.0,
        steps=1500,
        input_size=128,
        learning_rate=0.1,
        momentum=0.9,
        schedule="poly",
        warmup=20,
        validate_every=100,
        checkpoint_every=100,
        augmentation={"sigma": 3.0, "shift": 10.0},
    )
    if quick:
        config = config.replace(base_channels=4, depth=2, input_size=64, steps=12, warmup=2)
        config = config.replace(validate_every=6, checkpoint_every=6)
    given = {key: value for key, value in settings.items() if value is not None}
    chosen = Recipe("detect", "hela", config.replace(**given), 1, unit_variance=False, quick=quick)
    return Detection(chosen, quick_parts() if quick else all_parts())


class Detection(Experiment):
    """Each part trained, its threshold chosen, tested: ``detect.json``, and a picture for each."""

    def __init__(self, chosen: Recipe, parts: Sequence[Part]) -> None:
        super().__init__("detect", chosen, parts[0].side)
        self.parts = parts
        self.found: dict[str, list[Detections]] = {}

    def measure(self, places: Places, resume: bool, overwrite: bool) -> Iterator[Result]:
        """``parts``, by name."""
        parts = {}
        for part in self.parts:
            places.say(f"detect, {part.name}: {len(part.side)} images to learn from")
            parts[part.name] = self._measure(part, places, resume, overwrite)
        yield {"rules": RULES, "parts": parts}

    def _measure(self, part: Part, places: Places, resume: bool, overwrite: bool) -> Result:
        chosen, own = self.chosen, part.side.subset(part.validation)
        folder = places.folder(chosen.quick, "detect", part.name)
        validation = ",".join(str(i) for i in part.validation)
        config = chosen.config.replace(data=part.side.name, validation=validation, out=str(folder))
        net = train(config, resume, overwrite, places.progress, dataset=part.side).net
        radius = radius_of(part)
        threshold = best_threshold(own, find(net, own, min(THRESHOLDS)), radius)
        begun = time.perf_counter()
        found = self.found[part.name] = find(net, part.test, threshold)
        seconds = time.perf_counter() - begun
        baseline = None
        if part.baseline is not None:
            points = [as_detections(part.baseline(image)) for image in part.test.images]
            baseline = scores(part.test, points, radius, part.factor, boxes=False)
        return {
            "data": data_hashes(part.test),
            "factor": part.factor,
            "training": [i for k, i in enumerate(part.side.ids) if k not in part.validation],
            "validation": [part.side.ids[i] for i in part.validation],
            "test": list(part.test.ids),
            "typical_size": [side * part.factor for side in typical(part.side)],
            "radius": radius * part.factor,
            "threshold": threshold,
            "scores": scores(part.test, found, radius, part.factor),
            "baseline": baseline,
            "curve": runner.validations(folder),
            "time": {
                "training_seconds": runner.training_seconds(folder),
                "seconds_per_image": seconds / len(part.test),
                "threads": thread_count(),
            },
            "weights_sha256": weights_sha256(folder),
        }

    def draw(self, result: Result, path: Path) -> None:
        """The best image and the worst of each part."""
        for part in self.parts:
            draw(part, self.found[part.name], path.with_name(f"detect-{part.name}.png"))

    def table(self, result: Result) -> list[str]:
        """Scores of the networks and of what needs none."""
        lines = ["detect: precision, recall, F1, mean distance in pixels, overlap of boxes"]
        keys = ("precision", "recall", "f1", "distance", "overlap")
        for name, part in result["parts"].items():
            for what, found in (("", part["scores"]), (" (no network)", part["baseline"])):
                if found is not None:
                    texts = ["-" if found.get(k) is None else f"{found[k]:.3f}" for k in keys]
                    lines.append(f"  {name + what:24}" + "".join(f"{text:>10}" for text in texts))
        return lines


def find(net: UNet, dataset: Dataset, threshold: float) -> list[Detections]:
    """The objects of each image."""
    return [detect(net, image, threshold) for image in dataset.images]


def truth(dataset: Dataset) -> list[Objects]:
    """The true objects of each image, by masks and markers."""
    return [find_objects(ids) for ids in all_object_ids(dataset)]


def typical(dataset: Dataset) -> tuple[float, float]:
    """Median height and width of the objects."""
    return typical_size(all_object_ids(dataset))


def radius_of(part: Part) -> float:
    """A quarter of the typical size, in pixels of the binned images."""
    height, width = typical(part.side)
    return float(np.sqrt(height * width)) / 4


def best_threshold(dataset: Dataset, found: Sequence[Detections], radius: float) -> float:
    """The threshold of the highest F1; of equals the lowest."""
    real = [objects.centres for objects in truth(dataset)]

    def f1(threshold: float) -> float:
        points = [one.above(threshold).centres for one in found]
        value = score_points(real, points, radius).f1
        return value if np.isfinite(value) else 0.0

    return max(THRESHOLDS, key=lambda threshold: (f1(threshold), -threshold))


def scores(
    dataset: Dataset,
    found: Sequence[Detections],
    radius: float,
    factor: int,
    boxes: bool = True,
) -> dict[str, Any]:
    """Scores over all images and of each, and the overlap of boxes."""
    real = truth(dataset)
    centres = [one.centres for one in found]
    total = score_points([one.centres for one in real], centres, radius)
    result = as_dict(total, factor)
    result["f1_images"] = [
        rounded(score_points([a.centres], [b], radius).f1)
        for a, b in zip(real, centres, strict=True)
    ]
    if boxes:
        overlaps = np.concatenate([overlap(a, b, radius) for a, b in zip(real, found, strict=True)])
        result["boxes"] = len(overlaps)
        result["overlap"] = rounded(overlaps.mean()) if len(overlaps) else None
    return result


def overlap(real: Objects, found: Detections, radius: float) -> np.ndarray:
    """Intersection over union of the boxes of each pair whose true box is known."""
    pairs = match_points(real.centres, found.centres, radius).pairs
    pairs = pairs[~np.isnan(real.sizes[pairs[:, 0], 0])]
    table = box_iou(real.boxes[pairs[:, 0]], found.boxes[pairs[:, 1]])
    return np.asarray(np.diagonal(table))


def as_dict(total: PointScores, factor: int) -> dict[str, Any]:
    """Counts and what follows from them; the distance in pixels of the original image."""
    return {
        "found": total.found,
        "spurious": total.spurious,
        "missed": total.missed,
        "precision": rounded(total.precision),
        "recall": rounded(total.recall),
        "f1": rounded(total.f1),
        "distance": rounded(total.distance * factor),
    }


def as_detections(points: np.ndarray) -> Detections:
    """Points of a method that has neither scores nor boxes."""
    points = np.asarray(points, np.float64).reshape(-1, 2)
    return Detections(points, np.ones(len(points)), np.zeros((len(points), 4)))


def draw(part: Part, found: Sequence[Detections], path: Path) -> None:
    """The best image and the worst, by F1, with what was found in them."""
    radius, real = radius_of(part), truth(part.test)
    values = [
        score_points([a.centres], [b.centres], radius).f1 for a, b in zip(real, found, strict=True)
    ]
    order = np.argsort(np.nan_to_num(values))
    size = 2 if part.factor > 1 else 1
    shown = []
    for index in (order[-1], order[0]):
        image = np.repeat(np.repeat(part.test.images[index], size, 0), size, 1)
        one = found[index]
        shown.append(overlay(image, Detections(one.centres * size, one.scores, one.boxes * size)))
    write_png(path, montage([shown]))


def binned(dataset: Dataset, factor: int) -> Dataset:
    """A data set of a smaller scale: images are means over squares, masks every so many pixels.

    Examples
    --------
    >>> small = binned(Dataset("mine", np.arange(16.0).reshape(1, 4, 4)), 2)
    >>> small.images.tolist()
    [[[2.5, 4.5], [10.5, 12.5]]]
    """
    height, width = (side // factor * factor for side in dataset.shape)
    middle = slice(factor // 2, height, factor), slice(factor // 2, width, factor)

    def squares(stack: np.ndarray) -> np.ndarray:
        cut = stack[:, :height, :width]
        return cut.reshape(len(cut), height // factor, factor, width // factor, factor)

    changes: dict[str, Any] = {
        "images": squares(dataset.images.astype(np.float32)).mean(axis=(2, 4))
    }
    for name in ("labels", "instances", "unknown"):
        stack = getattr(dataset, name)
        changes[name] = None if stack is None else stack[:, *middle]
    if dataset.markers is not None:
        changes["markers"] = squares(dataset.markers).max(axis=(2, 4))
    return replace(dataset, **changes)


def all_parts() -> list[Part]:
    """HeLa from all frames and from those with masks, and nuclei."""
    frames = binned(data.load("hela", split="01", every_frame=True), 4)
    masked = binned(data.load("hela", split="01"), 4)
    test = binned(data.load("hela", split="02", every_frame=True), 4)
    last = tuple(range(len(frames) - 12, len(frames)))
    parts = [
        Part("hela", 4, frames, test, last, grid_like(frames)),
        Part("hela-masks", 4, masked, test, tuple(range(len(masked) - 2, len(masked)))),
    ]
    nuclei = binned(data.load("dsb2018"), 2)
    split = nuclei_plan.plan().split(len(nuclei))
    rest = [i for i in range(len(nuclei)) if i not in split.test]
    count = len(rest)
    part = Part(
        "nuclei",
        2,
        nuclei.subset(rest),
        nuclei.subset(split.test),
        tuple(range(count - 8, count)),
        otsu_points,
    )
    return [*parts, part]


def quick_parts() -> list[Part]:
    """Synthetic cells, few and small."""
    cells = data.load("synthetic-cells", count=5, size=128)
    test = data.load("synthetic-cells", count=2, size=128, split="test")
    return [Part("synthetic", 1, cells, test, (4,), otsu_points)]


def grid_like(dataset: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    """A regular grid with as many points as the images have objects: what no knowledge gives.

    Examples
    --------
    >>> labels = np.zeros((1, 8, 8), np.uint8)
    >>> labels[:, ::4, ::4] = 1
    >>> grid_like(Dataset("mine", labels, labels))(labels[0]).tolist()
    [[1.5, 1.5], [1.5, 5.5], [5.5, 1.5], [5.5, 5.5]]
    """
    counts = [len(one.centres) for one in truth(dataset)]
    if not counts:
        raise InputError("data: got no image, expected at least one")
    side = max(round(float(np.sqrt(np.mean(counts)))), 1)

    def points(image: np.ndarray) -> np.ndarray:
        axes = [(np.arange(side) + 0.5) * length / side - 0.5 for length in image.shape]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)

    return points


def otsu_points(image: np.ndarray) -> np.ndarray:
    """Middles of the boxes of bright components, at Otsu's threshold; no network."""
    return find_objects(nuclei_scores.otsu_nuclei(image, 8)).centres
