"""What is trained on what: splits, settings and variants of the paper's experiments (Sec. 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import data
from unet_np.data import Dataset, blocks
from unet_np.errors import InputError, one_of
from unet_np.training.config import TrainConfig

EM_BREAKS = (10, 26)
QUICK_SIDE = 192  # of the frames of a quick run
VALIDATION = 2  # slices held out of the training side, for thresholds and curves


@dataclass(frozen=True)
class Fold:
    """Which slices of a data set serve for what; no slice for two things.

    Attributes
    ----------
    name : str
        For file names and tables, such as ``fold-2`` or ``01-to-02``.
    training, validation, test : tuple of int
        Indices in the data set. Training and validation are the training side: the network
        learns from the one, thresholds are chosen on the other.
    """

    name: str
    training: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    def to_dict(self, ids: tuple[str, ...]) -> dict[str, Any]:
        """For JSON, with the names of the slices."""
        parts = {"training": self.training, "validation": self.validation, "test": self.test}
        return {"name": self.name} | {key: [ids[i] for i in part] for key, part in parts.items()}


@dataclass(frozen=True)
class Recipe:
    """All that decides an experiment.

    Attributes
    ----------
    name : str
        ``em``, ``u373`` or ``hela``.
    data : str
        The data set, as `unet_np.data.load` calls it.
    config : TrainConfig
        Settings of the training; slices and folder are filled in for each fold.
    averaging : int
        Versions of the image that the prediction is the mean of; 7 in the paper for EM, which
        says nothing on the cells.
    unit_variance : bool
        Whether to start from feature maps of unit variance, see `unet_np.experiments.start`.
    quick : bool
        Minutes on a processor: a small network, few steps, cut images. No results to speak of.
    synthetic : str
        The data set that a quick run takes where the real one is not at hand.
    """

    name: str
    data: str
    config: TrainConfig
    averaging: int
    unit_variance: bool = True
    quick: bool = False
    synthetic: str = field(default="synthetic-em", repr=False)

    @property
    def key(self) -> str:
        """What its files are called: the name, ``-norm`` with normalisation, and another seed.

        Examples
        --------
        >>> recipe("hela").key, recipe("hela", norm="instance", seed=1).key
        ('hela', 'hela-norm-seed-1')
        """
        key = self.name if self.config.norm == "none" else f"{self.name}-norm"
        seed = self.config.seed
        return key if seed == RECIPES[self.name].config.seed else f"{key}-seed-{seed}"

    def dataset(self) -> Dataset:
        """The labelled slices; cut and few in a quick run.

        Raises
        ------
        InputError, DownloadError
            As `unet_np.data.load`.
        """
        if not self.quick:
            return data.load(self.data)
        if not data.is_available(self.data):
            return _quick_synthetic(self.synthetic)
        return _quick_cut(data.load(self.data, download=False))

    def folds(self, dataset: Dataset) -> tuple[Fold, ...]:
        """The folds: blocks of the EM stack, or one sequence against the other."""
        if self.name == "em":
            breaks = (2, 4) if self.quick else EM_BREAKS
            return tuple(em_fold(i, *pair) for i, pair in enumerate(blocks(len(dataset), breaks)))
        names = list(dict.fromkeys(dataset.groups))
        return tuple(
            sequence_fold(dataset, a, b) for a, b in [*pairwise(names), *pairwise(names[::-1])]
        )

    def fold_config(self, fold: Fold, out: str | Path) -> TrainConfig:
        """Settings of the training of one fold."""
        return self.config.replace(
            data=self.data,
            exclude=ranges(fold.test),
            validation=ranges(fold.validation),
            out=str(out),
        )


def em_fold(number: int, training: np.ndarray, test: np.ndarray) -> Fold:
    """A fold of the EM stack; the training slices farthest from the test block are validation.

    Examples
    --------
    >>> em_fold(2, np.arange(26), np.arange(26, 30)).validation
    (0, 1)
    >>> em_fold(0, np.arange(10, 30), np.arange(10)).validation
    (28, 29)
    """
    # Distance to the nearest test slice: neighbours resemble each other.
    distance = np.abs(training[:, None] - test[None]).min(axis=1)
    count = min(VALIDATION, len(training) - 1)
    side = training[-count:] if distance[-1] >= distance[0] else training[:count]
    rest = np.setdiff1d(training, side)
    return Fold(f"fold-{number}", _tuple(rest), _tuple(side), _tuple(test))


def sequence_fold(dataset: Dataset, training: str, test: str) -> Fold:
    """Trained on one sequence, its last annotated frames as validation; tested on the other.

    Examples
    --------
    >>> frames = Dataset("mine", np.zeros((6, 8, 8)), groups=("01",) * 4 + ("02",) * 2)
    >>> sequence_fold(frames, "01", "02")
    Fold(name='01-to-02', training=(0, 1), validation=(2, 3), test=(4, 5))
    """
    groups = np.array(dataset.groups)
    own = np.flatnonzero(groups == training)
    held_out = _held_out(dataset, own, VALIDATION)
    rest = np.setdiff1d(own, held_out)
    other = np.flatnonzero(groups == test)
    return Fold(f"{training}-to-{test}", _tuple(rest), _tuple(held_out), _tuple(other))


def both_fold(dataset: Dataset) -> Fold:
    """Trained on the earlier frames of every sequence, tested on the later ones.

    Each sequence is cut at the longest pause in its second half, so that cells have moved between
    the two. The last whole frame before the pause is validation.

    Examples
    --------
    >>> names = ("01/001", "01/002", "01/003", "01/020", "02/001", "02/005", "02/006", "02/030")
    >>> groups = ("01",) * 4 + ("02",) * 4
    >>> both_fold(Dataset("mine", np.zeros((8, 4, 4)), ids=names, groups=groups))
    Fold(name='both', training=(0, 1, 4, 5), validation=(2, 6), test=(3, 7))
    """
    groups = np.array(dataset.groups)
    parts: dict[str, list[int]] = {"training": [], "validation": [], "test": []}
    for name in dict.fromkeys(dataset.groups):
        own = np.flatnonzero(groups == name)
        times = np.array([int(dataset.ids[i].rpartition("/")[2]) for i in own])
        middle = len(own) // 2
        cut = middle + 1 + int(np.diff(times[middle:]).argmax())
        held_out = _held_out(dataset, own[:cut], 1)
        parts["training"] += list(np.setdiff1d(own[:cut], held_out))
        parts["validation"] += held_out
        parts["test"] += list(own[cut:])
    return Fold("both", *map(_tuple, parts.values()))


def _held_out(dataset: Dataset, own: np.ndarray, count: int) -> list[int]:
    """The last frames, among those with all their cells: SEG of others is less of a guide."""
    whole = [i for i in own if dataset.unknown is None or not dataset.unknown[i].any()]
    return (whole or list(own))[-min(count, len(own) - 1) :]


def _tuple(indices: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(i) for i in indices)


def ranges(indices: Iterable[int]) -> str:
    """Indices as `TrainConfig` writes them.

    Examples
    --------
    >>> ranges([0, 1, 2, 7]), ranges([])
    ('0-2,7', 'none')
    """
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in parts) or "none"


_COMMON: dict[str, Any] = {
    "base_channels": 16,
    "depth": 4,
    "input_size": 572,
    "warmup": 50,
    "schedule": "poly",
    "validate_every": 100,
    "checkpoint_every": 50,
    # As eq. 2 is printed: the rows of the paper's network were made with it.
    "weight_term": "everywhere",
}

RECIPES = {
    "em": Recipe(
        "em",
        "isbi2012",
        TrainConfig(steps=6000, learning_rate=0.001, **_COMMON),
        averaging=7,
    ),
    "u373": Recipe(
        "u373",
        "u373",
        TrainConfig(steps=2500, learning_rate=0.001, **_COMMON),
        averaging=7,
        synthetic="synthetic-cells",
    ),
    "hela": Recipe(
        "hela",
        "hela",
        TrainConfig(steps=4000, learning_rate=0.001, **_COMMON),
        averaging=7,
        synthetic="synthetic-cells",
    ),
}
"""The experiments at the width that a processor can train; see ``changed`` for others."""

_NORMALISED: dict[str, Any] = {
    "norm": "instance",
    "weight_term": "background",
    "learning_rate": 0.02,
    "momentum": 0.9,
    "unit_variance": False,
}

NORMALISED: dict[str, dict[str, Any]] = {
    # Every membrane is a border: in the background alone the term would weigh it nine times a cell,
    # and a half would become 0.10, the lowest threshold that is tried.
    "em": {**_NORMALISED, "steps": 2000, "weight_term": "everywhere"},
    "u373": {**_NORMALISED, "steps": 1000, "touching": 1},
    "hela": {**_NORMALISED, "steps": 2400},
}
"""What differs where the network has a normalisation: fewer steps, each twenty times as long."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "no-elastic": {"augmentation": {"sigma": 0.0}},
    "no-weight-map": {"weight_map": False},
    "no-dropout": {"dropout": 0.0},
    "no-averaging": {"averaging": 1},
    "padding-1": {"padding": 1},
}
"""What each variant leaves out of the recipe of the paper's network, or changes in it."""

REDUCED: dict[str, dict[str, Any]] = {
    "em": {"base_channels": 8, "input_size": 252, "steps": 600},
    "u373": {"steps": 500},
    "hela": {"steps": 800},
}
"""The scale at which the variants are compared with one another."""


def ablations(chosen: Recipe) -> dict[str, dict[str, Any]]:
    """The variants of a recipe, by name, and the settings in which each differs.

    With normalisation, ``no-norm`` has the optimiser of the paper's network, without which it
    would not learn, and the second term of eq. 2 also acts where the recipe does not have it.

    Examples
    --------
    >>> list(ablations(recipe("hela", norm="instance")))[:4]
    ['full', 'no-norm', 'term-everywhere', 'neither']
    >>> ablations(recipe("em"))["no-dropout"]
    {'dropout': 0.0}
    """
    if chosen.config.norm == "none":
        return ABLATIONS
    plain = RECIPES[chosen.name]
    keys = ("norm", "learning_rate", "momentum")
    without = {key: getattr(plain.config, key) for key in keys}
    without["unit_variance"] = plain.unit_variance
    other = "background" if chosen.config.weight_term == "everywhere" else "everywhere"
    term = {"weight_term": other}
    own = {"no-norm": without, f"term-{other}": term, "neither": without | term}
    rest = {name: what for name, what in ABLATIONS.items() if name not in ("full", "padding-1")}
    return {"full": {}, **own, **rest}


def recipe(name: str, quick: bool = False, norm: str | None = None, **settings: Any) -> Recipe:
    """The recipe of an experiment.

    Parameters
    ----------
    name : str
        ``em``, ``u373`` or ``hela``.
    quick : bool
        A run of a minute or two that only shows that all parts work.
    norm : {None, "none", "instance"}
        The paper's network, or one with instance normalisation and the settings that go with it.
    **settings
        ``averaging``, ``unit_variance`` and settings of `TrainConfig`, in the place of the
        recipe's.

    Raises
    ------
    InputError
        For other names, and as `TrainConfig`.

    Examples
    --------
    >>> recipe("em", steps=10).config.steps, recipe("em", quick=True).config.base_channels
    (10, 4)
    """
    one_of("experiment", name, RECIPES)
    if norm not in (None, "none", "instance"):
        raise InputError(f"norm: got {norm!r}, expected none or instance")
    chosen = RECIPES[name]
    if norm == "instance":
        chosen = changed(chosen, **NORMALISED[name])
    if quick:
        config = chosen.config.replace(
            base_channels=4,
            depth=2,
            input_size=100,
            steps=40,
            warmup=5,
            validate_every=10,
            checkpoint_every=10,
            learning_rate=0.01,
            momentum=0.9,
            touching=0,
        )
        chosen = replace(chosen, config=config, quick=True, averaging=min(chosen.averaging, 7))
    return changed(chosen, **settings)


def changed(chosen: Recipe, **settings: Any) -> Recipe:
    """A recipe with other settings of the training, or another averaging.

    With padding 1 the input tile shrinks to about the former output, so that as many pixels
    are learned from.

    Examples
    --------
    >>> changed(recipe("em"), padding=1).config.input_size
    384
    """
    values = {key: value for key, value in settings.items() if value is not None}
    own = {key: values.pop(key) for key in ("averaging", "unit_variance") if key in values}
    config = chosen.config
    if values.get("padding") == 1 and config.padding == 0:
        base = config.replace(**{k: v for k, v in values.items() if k != "padding"})
        wanted, step = base.architecture.output_size(base.tile_size), base.architecture.size_step
        values["input_size"] = max(step, wanted // step * step)
    return replace(chosen, config=config.replace(**values), **own)


def _quick_synthetic(name: str) -> Dataset:
    dataset = data.load(name, count=6, size=128)
    groups = dataset.groups if name == "synthetic-em" else ("01",) * 3 + ("02",) * 3
    return replace(dataset, groups=groups)


def _quick_cut(dataset: Dataset) -> Dataset:
    """Six slices, each cut to where most cells are: enough to see that every part works."""
    chosen: list[int] = []
    for first in (0, *EM_BREAKS) if dataset.name == "isbi2012" else ():
        chosen += [first, first + 1]
    for group in dict.fromkeys(dataset.groups) if not chosen else ():
        chosen += [i for i, one in enumerate(dataset.groups) if one == group][:3]
    few = dataset.subset(chosen)
    assert few.labels is not None
    windows = [_fullest_window(label > 0, QUICK_SIDE) for label in few.labels]
    changes: dict[str, Any] = {}
    for name in ("images", "labels", "instances", "markers", "unknown"):
        stack = getattr(few, name)
        if stack is not None:
            changes[name] = np.stack(
                [one[window] for one, window in zip(stack, windows, strict=True)]
            )
    return replace(few, **changes)


def _fullest_window(mask: np.ndarray, side: int) -> tuple[slice, slice]:
    """The square with the most pixels of a mask, so that no cut frame is without cells."""
    sums = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(side, size) for size in mask.shape)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
    inside = inside + sums[:-height, :-width]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)
