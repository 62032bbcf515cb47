"""What is trained on which images of the nuclei, and what is kept for the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from unet_np import data
from unet_np.backend import default_rng
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.experiments.recipes import Recipe
from unet_np.training.config import TrainConfig

SPLIT_KEY = 2018
"""Seed of the split, which no setting changes: the test images stay test images."""

NOTES = (
    "The test images served for nothing but the scores here. The recipe is that of the experiments "
    "with normalisation. Where the nuclei of each network begin and end was chosen on the "
    "validation images, and so was the smallest area: a network that learned from n images rests "
    "on n + {validation} annotated ones. The seeds of Otsu's threshold are as far apart as is best "
    "on all images that are not test images. All images are of one collection: the file names do "
    "not say which of them come from one plate or well, so training and test images may."
)


_SHIPPED: dict[str, Any] = {"base_channels": 16, "depth": 4, "input_size": 348, "steps": 100}
"""The network that comes with the package, on tiles whose outputs are as large as the others', and
for about as long: a step takes three to four times as much."""

WAYS: dict[str, dict[str, Any]] = {
    "two-classes": {},
    "three-classes": {"rim": 2},
    "wide": _SHIPPED,
    "from-u373": _SHIPPED | {"start": "u373"},
    # A network without normalisation has a rate of its own; rate / (1 - momentum) is that of EM.
    "from-em": _SHIPPED | {"start": "em", "norm": "none", "learning_rate": 0.01},
}
"""What each way changes in the settings: nucleus or not, weighted by eq. 2; inside, rim and
background; then nucleus or not with a wider and deeper network, from random weights and from
those of other cells."""

COUNTS: dict[str, tuple[int, ...]] = {
    "two-classes": (1, 4, 16),
    "three-classes": (1, 4, 16),
    "wide": (1, 4),
    "from-u373": (1,),
    "from-em": (1, 4),
}
"""Numbers of images that each way learns from: a start is worth most where they are few."""


@dataclass(frozen=True)
class Split:
    """Which images serve for what; no image for two things.

    Attributes
    ----------
    test, validation : tuple of int
        Indices in the data set.
    draws : tuple of tuple of int
        Orders of images to learn from: n images are the first n of a draw. Disjoint.
    """

    test: tuple[int, ...]
    validation: tuple[int, ...]
    draws: tuple[tuple[int, ...], ...]

    def to_dict(self, ids: Sequence[str]) -> dict[str, Any]:
        """For JSON, with the names of the images."""
        names = {key: [ids[i] for i in getattr(self, key)] for key in ("test", "validation")}
        return names | {"draws": [[ids[i] for i in draw] for draw in self.draws]}


@dataclass(frozen=True)
class Trial:
    """One training: one of `WAYS`, and its images."""

    way: str
    images: int
    draw: int

    @property
    def name(self) -> str:
        """For the folder: ``three-classes-4``."""
        return f"{self.way}-{self.images}"


@dataclass(frozen=True)
class Plan:
    """All that decides the experiment.

    Attributes
    ----------
    config : TrainConfig
        Of every training; what a way changes, images and folder are filled in.
    ways : dict
        What is trained on each draw and number of images, and what it changes in the settings.
    counts : dict
        Numbers of images that each way learns from.
    draws : int
        How often everything is done, with other training images each time.
    test, validation : int
        Images held out.
    quick : bool
        Seconds: few steps, cut or synthetic images. No results to speak of.
    """

    config: TrainConfig
    ways: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(WAYS))
    counts: dict[str, tuple[int, ...]] = field(default_factory=lambda: dict(COUNTS))
    draws: int = 2
    test: int = 20
    validation: int = 2
    quick: bool = False

    @property
    def numbers(self) -> list[int]:
        """Numbers of images of any way, the fewest first."""
        return sorted({count for counts in self.counts.values() for count in counts})

    @property
    def longest(self) -> int:
        """Images of a draw."""
        return self.numbers[-1]

    @property
    def needed(self) -> int:
        """Images that all of it takes."""
        return self.test + self.validation + self.draws * self.longest

    def trials(self, images: int, draws: int) -> list[Trial]:
        """All trainings on so many images.

        Examples
        --------
        >>> [trial.name for trial in plan().trials(16, draws=1)]
        ['two-classes-16', 'three-classes-16']
        """
        ways = [way for way in self.ways if images in self.counts[way]]
        return [Trial(way, images, draw) for way, draw in product(ways, range(draws))]

    def dataset(self) -> Dataset:
        """The images; in a quick run few and cut, or synthetic where they are not at hand.

        Raises
        ------
        InputError, DownloadError
            As `unet_np.data.load`.
        """
        if not self.quick:
            return data.load("dsb2018")
        count = self.needed
        if not data.is_available("dsb2018"):
            return data.load("synthetic-cells", count=count, size=128)
        few = data.load("dsb2018", download=False).subset(range(count))
        stacks = {name: getattr(few, name) for name in ("images", "labels", "instances")}
        return replace(few, **{name: stack[:, :160, :160] for name, stack in stacks.items()})

    def recipe(self, config: TrainConfig) -> Recipe:
        """For the runner of the other experiments."""
        return Recipe("nuclei", "dsb2018", config, 1, False, self.quick)

    def split(self, count: int) -> Split:
        """The split of a data set of so many images, the same every time.

        Raises
        ------
        InputError
            If there are too few images.

        Examples
        --------
        >>> split = plan().split(90)
        >>> len(split.test), len(split.validation), [len(draw) for draw in split.draws]
        (20, 2, [16, 16])
        """
        if count < self.needed:
            raise InputError(
                f"images: got {count}, expected at least {self.needed} for this experiment"
            )
        order = default_rng(np, (SPLIT_KEY,)).permutation(count).tolist()
        first = self.test + self.validation
        starts = range(first, self.needed, self.longest)
        return Split(
            tuple(sorted(order[: self.test])),
            tuple(sorted(order[self.test : first])),
            tuple(tuple(order[i : i + self.longest]) for i in starts),
        )


def plan(quick: bool = False, **settings: Any) -> Plan:
    """The plan of the experiment, or one of seconds.

    Parameters
    ----------
    quick : bool
        A run that only shows that all parts work.
    **settings
        Settings of `TrainConfig` in the place of the plan's; None is left out. Of what a way sets
        itself, only the steps give way.
    """
    config = TrainConfig(
        data="dsb2018", base_channels=8, depth=3, input_size=252, norm="instance", steps=400,
        momentum=0.9, warmup=20, schedule="poly", learning_rate=0.02, validate_every=100,
        checkpoint_every=50, augmentation={"sigma": 4.4},
    )  # fmt: skip
    given = {key: value for key, value in settings.items() if value is not None}
    ways = dict(WAYS)
    if quick or "steps" in given:
        ways = {name: {k: v for k, v in way.items() if k != "steps"} for name, way in WAYS.items()}
    if not quick:
        return Plan(config.replace(**given), ways)
    config = config.replace(**{"steps": 3, "warmup": 1, "input_size": 140} | given)
    return Plan(config, ways, {way: (1, 2) for way in ways}, 1, 2, 1, quick=True)
