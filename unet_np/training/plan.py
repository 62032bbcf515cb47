"""Settings chosen by the data: width, depth, tile, deformation, weight map and steps, with reasons.

The rules are few and plain. Where the paper has a number, it is the start; where images and objects
are other ones, the number is scaled so that it means the same.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np import backend
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.images.bounds import available_memory, shown
from unet_np.network.architecture import Architecture
from unet_np.tasks.segmentation import cells_of
from unet_np.training.config import TrainConfig, to_toml
from unet_np.training.fine_tuning import architecture_of
from unet_np.training.loop import train_step
from unet_np.training.memory import training_bytes
from unet_np.training.ranks import ALONE
from unet_np.training.run import Run
from unet_np.training.samples import prepare, split
from unet_np.weighting.eq2 import DEFAULTS, weight_map

PLANNED = (
    "base_channels", "depth", "input_size", "augmentation", "w0", "sigma", "weight_term", "steps",
    "validate_every", "patience",
)  # fmt: skip
"""Settings that a plan proposes where nothing else does."""

_LOOKED_AT = 8  # images, evenly over all
_PAPER_OUTPUT, _PAPER_TILE, _PAPER_BEND = 388, 572, 10.0
_WIDTH = 16
_LOOKS = 40  # at each tile's worth of labelled area
_STEPS = 500, 2500
_VALIDATIONS, _PATIENCE = 25, 10
_DEPTHS = (2, 3, 4)
_LEAST = Architecture(base_channels=1, depth=1).min_input_size
_WEAK = 0.3  # standard deviations between objects and background
_NOTHING = 1e-9
_EACH_PIXEL = 16  # bytes of the images' values, classes, cells and weights
_CROWDED = 0.1  # of the background, weighed by the second term of eq. 2


_Advice = tuple[dict[str, Any], str]


@dataclass(frozen=True)
class Findings:
    """What images and masks look like.

    Attributes
    ----------
    count : int
        Images.
    smallest, largest : tuple of int
        Least and largest height and width.
    channels, classes : int
        Of images and masks.
    objects : float
        On average in an image.
    diameter, large : float
        Of the circles that have the objects' areas, in pixels: median and 90th percentile.
    narrowest : float
        Width of objects at their widest place, in pixels: 10th percentile.
    contrast : float
        How far objects and background are apart, in standard deviations of the image.
    crowded : float
        Mean of the second term of eq. 2 over the background, for a w0 of 1.
    memory : int or None
        Bytes that a training may take.
    """

    count: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    channels: int
    classes: int
    objects: float
    diameter: float
    large: float
    narrowest: float
    contrast: float
    crowded: float
    memory: int | None

    def __str__(self) -> str:
        low, high = (f"{height} x {width}" for height, width in (self.smallest, self.largest))
        sizes = low if low == high else f"{low} to {high}"
        return (
            f"{self.count} images of {sizes}, channels {self.channels}, classes {self.classes}; "
            f"objects: {self.objects:.0f} an image, {self.diameter:.0f} pixels across (large ones "
            f"{self.large:.0f}, narrow ones {self.narrowest:.0f}), contrast {self.contrast:.1f}"
        )


@dataclass(frozen=True)
class Plan:
    """What a training is to be like, and why.

    Attributes
    ----------
    config : TrainConfig
        With what was given and what is proposed.
    findings : Findings
        On which it rests.
    reasons : dict
        Setting to a sentence, for what is proposed.
    """

    config: TrainConfig
    findings: Findings
    reasons: dict[str, str]

    def rows(self) -> list[tuple[str, str, str]]:
        """Setting, value and reason, for a table."""
        values = {name: getattr(self.config, name) for name in self.reasons}
        if "augmentation" in values:
            values["augmentation"] = values["augmentation"]["sigma"]
        names = {"augmentation": "augmentation.sigma"}
        return [
            (names.get(name, name), f"{values[name]}", reason)
            for name, reason in self.reasons.items()
        ]

    def settings(self, given: Collection[str] = ()) -> dict[str, Any]:
        """What is given and what is proposed, as a file of settings has it."""
        chosen = [name for name in self.config.to_dict() if name in {*given, *self.reasons}]
        return {name: getattr(self.config, name) for name in chosen}

    def to_toml(self, given: Collection[str] = ()) -> str:
        """A file for ``unet-np train --config``, each proposal under its reason."""
        return to_toml(self.settings(given), self.reasons)


def is_own(config: TrainConfig) -> bool:
    """Whether a training is one that plans are for: to segment own images."""
    return bool(config.images and config.masks) and config.task == "segment"


def look(dataset: Dataset, processes: int = 1) -> Findings:
    """Sizes, objects, classes and contrast of labelled images; of at most eight, evenly chosen.

    Raises
    ------
    InputError
        If there is no object, or an image is smaller than the smallest tile of any network.

    Examples
    --------
    >>> from unet_np.data import load
    >>> found = look(load("synthetic-cells", count=2, size=128))
    >>> found.count, found.largest, found.classes
    (2, (128, 128), 2)
    """
    assert dataset.labels is not None
    free = available_memory()
    sizes = dataset.sizes or (dataset.shape,) * len(dataset)
    least, narrow = _LEAST, min(range(len(sizes)), key=lambda i: min(sizes[i]))
    if min(sizes[narrow]) < least:
        height, width = sizes[narrow]
        raise InputError(
            f"images: got {dataset.ids[narrow]} of {height} x {width}, expected at least {least} x "
            f"{least}, the smallest tile of any network"
        )
    heights, widths = zip(*sizes, strict=True)
    usable = [i for i in range(len(dataset)) if dataset.labels[i].any()]
    if not usable:
        raise InputError("masks: got only background, expected objects to learn from")
    chosen = [usable[i] for i in np.linspace(0, len(usable) - 1, _LOOKED_AT).round().astype(int)]
    some = dataset.subset(sorted(set(chosen)))
    cells = cells_of(some)
    areas = np.concatenate([_areas(one) for one in cells])
    diameters = 2 * np.sqrt(areas / math.pi)
    return Findings(
        len(dataset),
        (min(heights), min(widths)),
        (max(heights), max(widths)),
        dataset.channels,
        max(int(dataset.labels.max()) + 1, 2),
        len(areas) / len(some),
        float(np.median(diameters)),
        float(np.percentile(diameters, 90)),
        float(np.percentile(np.concatenate([_widths(one) for one in cells]), 10)),
        float(np.mean([_contrast(some, cells, number) for number in range(len(some))])),
        _crowded(cells, _border(float(np.median(diameters)))),
        None if free is None else free // processes,
    )


def _areas(cells: np.ndarray) -> np.ndarray:
    areas = np.bincount(cells.ravel())[1:]
    return areas[areas > 0]


def _widths(cells: np.ndarray) -> np.ndarray:
    """Twice the largest distance to the border, of each cell."""
    inside = scipy.ndimage.distance_transform_edt(cells > 0)
    numbers = np.unique(cells)[1:]
    return 2 * np.asarray(scipy.ndimage.maximum(inside, cells, numbers))


def _contrast(dataset: Dataset, cells: np.ndarray, number: int) -> float:
    image = dataset.images[number].astype(float)
    image = image if image.ndim == 2 else image.mean(axis=0)
    known = np.ones(image.shape, bool) if dataset.unknown is None else ~dataset.unknown[number]
    inside, outside = image[(cells[number] > 0) & known], image[(cells[number] == 0) & known]
    spread = float(image[known].std())
    if not (inside.size and outside.size and spread):
        return 0.0
    return abs(float(inside.mean() - outside.mean())) / spread


def _border(diameter: float) -> float:
    """Sigma of eq. 2: the paper's, or so that a gap of half an object is hardly one."""
    return round(min(DEFAULTS["paper"][1], max(1.0, diameter / 4)), 1)


def _crowded(cells: np.ndarray, sigma: float) -> float:
    some = cells[:: max(len(cells) // 3, 1)]
    weights = weight_map(some, 1, sigma, class_weights=(_NOTHING, _NOTHING))
    outside = some == 0
    return float(weights[outside].mean()) if outside.any() else 0.0


def propose(
    dataset: Dataset, config: TrainConfig, given: Collection[str] = (), processes: int = 1
) -> Plan:
    """A plan for a training: what is not given is proposed.

    Parameters
    ----------
    dataset : Dataset
        Images and labels.
    config : TrainConfig
        With what is given.
    given : collection of str
        The settings that somebody chose; they stay as they are.
    processes : int
        How many on this machine have the same settings, and share its memory.

    Raises
    ------
    InputError
        As `look`, or if not even the smallest network and tile fit into the memory that is free.

    Examples
    --------
    >>> from unet_np.data import load
    >>> some = load("synthetic-cells", count=4, size=128)
    >>> plan = propose(some, TrainConfig(images="a", masks="b", steps=100), ["steps"])
    >>> plan.config.norm, plan.config.steps, "steps" in plan.reasons
    ('instance', 100, False)
    """
    found, reasons, given = look(dataset, processes), {}, set(given)
    for name, value in _of_the_start(config, given).items():
        config, reasons[name] = config.replace(**{name: value}), "as in the network to start from"
    if config.norm == "instance":
        reasons |= {name: text for name, text in _RECIPE.items() if name not in {*given, *reasons}}
    said = given | set(reasons)
    for name, rule in _RULES.items():
        if name not in said:
            changes, reason = rule(config, found, dataset, said)
            config, reasons[name] = config.replace(**changes), reason
    return Plan(config, found, {name: text for name, text in reasons.items() if text})


_RECIPE = {
    "norm": "each image's own statistics: the recipe that went best in the experiments here",
    "learning_rate": "of the same recipe: the length of a step",
    "momentum": "of the same recipe: how long the network goes on in a direction it once took",
}


def _of_the_start(config: TrainConfig, given: set[str]) -> dict[str, Any]:
    """What a network to start from decides on; it has been settled for `norm` already."""
    if not config.start:
        return {}
    names = ("base_channels", "depth", "padding", "up", "norm", "activation")
    theirs = architecture_of(config.start)
    return {name: theirs[name] for name in names if name in theirs and name not in given}


def _depth(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    times = 3 if found.contrast < _WEAK else 2
    nets = [replace(config.architecture, base_channels=1, depth=depth) for depth in _DEPTHS]
    if "input_size" in said:
        nets = [net for net in nets if net.is_valid_input(config.tile_size)]
        if not nets:
            return {}, ""
    # More than that would be mirror.
    nets = [net for net in nets if net.margin <= 2 * min(found.smallest)] or nets[:1]
    seen = [last - first + 1 for first, last in (net.receptive_field() for net in nets)]
    place = next((i for i, one in enumerate(seen) if one >= times * found.large), -1)
    why = ", since in brightness they hardly differ from the background" if times == 3 else ""
    reason = (
        f"a pixel's answer rests on {seen[place]} pixels; wanted are {times} times the "
        f"{found.large:.0f} of large objects{why}, as far as depth {_DEPTHS[-1]} and the images go"
    )
    tile = {} if "input_size" in said else {"input_size": 0}
    return {"depth": nets[place].depth, **tile}, reason


def _width(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    changes, needed = _that_fits(config, found, dataset, said)
    if backend.is_device(backend.get(config.backend)):
        return changes, "the paper's: a GPU has the time for it"
    return changes, (
        "a quarter of the paper's 64 for a sixteenth of its work; the experiments here had it too"
        if changes["base_channels"] == _WIDTH
        else f"more does not fit into the memory that is free: this takes {shown(needed)}"
    )


def _tile(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    if "base_channels" in said:
        config = config.replace(**_that_fits(config, found, dataset, said)[0])
    side = config.tile_size
    output, high = config.architecture.output_size(side), max(found.largest)
    part = "as large as the images" if output >= high else f"of {high} that the images have"
    needed = shown(_bytes(config, found, dataset))
    return {"input_size": side}, (
        f"side of what goes in; what comes out is {output}, {part}, as in the paper at most about "
        f"{_PAPER_OUTPUT}; the training takes less than {needed}"
    )


def _that_fits(
    config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]
) -> tuple[dict[str, int], int]:
    """Width and tile, which share the memory, and the bytes that they take."""
    free, device = found.memory, backend.is_device(backend.get(config.backend))
    widths = [64, 32] * device + [_WIDTH, 8, 4]
    if "base_channels" in said:
        widths = [config.base_channels]
    sides = [config.tile_size] if "input_size" in said else _sides(config, found)
    for width, side in itertools.product(widths, sides):
        needed = _bytes(config.replace(base_channels=width, input_size=side), found, dataset)
        if device or free is None or needed <= free:
            return {"base_channels": width, "input_size": side}, needed
    raise InputError(
        f"base_channels: got {width} and tiles of {side} pixels, the least that can be tried, "
        f"which take up to {shown(needed)}, expected what fits in {shown(free or 0)} of memory"
    )


def _sides(config: TrainConfig, found: Findings) -> list[int]:
    """Sides of input tiles: the one that is wanted, then smaller ones that still hold objects."""
    net, high = config.architecture, min(max(found.largest), _PAPER_OUTPUT)
    most = net.input_size_for_output(high)
    least = net.input_size_for_output(min(high, math.ceil(found.large)))
    return [side for side in range(most, least - 1, -1) if net.is_valid_input(side)]


def _bytes(config: TrainConfig, found: Findings, dataset: Dataset) -> int:
    data = _EACH_PIXEL * dataset.images.size
    return data + training_bytes(config, found.channels, found.classes)


def _bend(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    if not config.augment:
        return {}, ""
    sigma = round(_PAPER_BEND * config.tile_size / _PAPER_TILE, 1)
    reason = (
        f"pixels by which a tile is bent: the paper's 10 for 572, for one of {config.tile_size}"
    )
    return {"augmentation": {"sigma": sigma}}, reason


def _height(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    if not _by_eq2(config):
        return {}, ""
    reason = "what the narrowest gaps between objects weigh more, as in the paper"
    return {"w0": DEFAULTS["paper"][0]}, reason


def _gaps(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    if not _by_eq2(config):
        return {}, ""
    sigma = _border(found.diameter)
    reason = "how wide a gap may be and still be stressed: the paper's 5 pixels"
    if sigma < DEFAULTS["paper"][1]:
        reason = (
            f"a quarter of an object: the paper's 5 are wide beside {found.diameter:.0f} pixels"
        )
    return {"sigma": sigma}, reason


def _term(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    if not _by_eq2(config):
        return {}, ""
    share = f"the background's gaps weigh {found.crowded:.0%} of w0 on average"
    if found.crowded > _CROWDED:
        return {"weight_term": "everywhere"}, f"{share}: there alone, objects would hardly count"
    return {"weight_term": "background"}, f"{share}: it may be put on gaps alone"


def _by_eq2(config: TrainConfig) -> bool:
    return config.weight_map and config.weight_variant == "paper"


def _steps(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    output = config.architecture.output_size(config.tile_size)
    training, validation = split(config.replace(patience=0), dataset)
    sizes = dataset.sizes or (dataset.shape,) * len(dataset)
    tiles = sum(max(1.0, math.prod(sizes[i]) / output**2) for i in training)
    low, high = _STEPS
    steps = int(min(max(50 * round(_LOOKS * tiles / 50), low), high))
    changes: dict[str, Any] = {"steps": steps}
    if not {"validate_every", "patience"} & said:
        changes["validate_every"] = max(steps // _VALIDATIONS, 1)
        changes["patience"] = _PATIENCE if validation else 0
    return changes, (
        f"the {len(training)} images to learn from are {tiles:.0f} tiles: each is seen "
        f"{steps / tiles:.0f} times (40 if that is {low} to {high} steps)"
    )


def _looks(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    if "steps" in said:
        return {}, ""
    return {}, f"steps between looks at the images held out: about {_VALIDATIONS} looks in all"


def _patience(config: TrainConfig, found: Findings, dataset: Dataset, said: set[str]) -> _Advice:
    if "steps" in said or not config.patience:
        return {}, ""
    return {}, "looks without a lower loss after which it stops; the best weights are kept"


_RULES = {
    "depth": _depth,
    "base_channels": _width,
    "input_size": _tile,
    "augmentation": _bend,
    "w0": _height,
    "sigma": _gaps,
    "weight_term": _term,
    "steps": _steps,
    "validate_every": _looks,
    "patience": _patience,
}


def seconds(plan: Plan, dataset: Dataset, clock: Callable[[], float] = time.perf_counter) -> float:
    """What the training takes on this machine as it is now: one step and one look are measured.

    Parameters
    ----------
    plan : Plan
        Of the settings.
    dataset : Dataset
        From which two images are taken.
    clock : callable
        Seconds: of the wall, or of the processor.

    Raises
    ------
    InputError, TrainingError
        As `unet_np.training.loop.train`.
    """
    config = plan.config
    training, validation = split(config, dataset)
    two = dataset.subset([training[0], (validation or training)[-1]])
    with tempfile.TemporaryDirectory() as folder:
        short = config.replace(
            validation="1", exclude="none", out=f"{folder}/run", tensorboard=False, start="",
            class_weights="balanced",
        )  # fmt: skip
        xp = backend.get(config.backend)
        with backend.using_threads(config.threads or ALONE.threads):
            samples = prepare(short, two, xp)
            run = Run.begin(short, samples, xp, resume=False, overwrite=False)
            with closing(run):
                train_step(run, samples.tile(0))  # the first one makes room
                run.check()
                times = [clock()]
                train_step(run, samples.tile(1))
                run.check()  # waits for it
                times.append(clock())
                run.validate()
                times.append(clock())
    step, look_at_one = np.diff(times)
    looks = math.ceil(config.steps / config.validate_every) * len(validation)
    return float(config.steps * step + looks * look_at_one)
