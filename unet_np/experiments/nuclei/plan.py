"""What is trained on which images of the nuclei, and what is kept for the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    "The test images served for nothing but the scores here. Learning rates were chosen on the "
    "validation images, after trainings on the first {count} images of draw 0; so was the "
    "threshold of each network, and the smallest area. A network that learned from n images "
    "therefore rests on n + {validation} annotated ones; `at_one_half` is its score without them, "
    "at threshold 0.5. All images are of one collection: the file names do not say which of them "
    "come from one plate or well, so training and test images may."
)


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
class Plan:
    """All that decides the experiment.

    Attributes
    ----------
    config : TrainConfig
        Of every training; start, rate, augmentation, images and folder are filled in.
    counts : tuple of int
        Numbers of images to learn from; the ends first, so that a part is a curve already.
    draws : int
        How often everything is done, with other training images each time.
    test, validation : int
        Images held out.
    rates : tuple of float
        Learning rates to choose from, for each start.
    search_count : int
        Images that the trainings of that choice learn from.
    quick : bool
        Seconds: few steps, cut or synthetic images. No results to speak of.
    """

    config: TrainConfig
    counts: tuple[int, ...] = (1, 16, 4, 2, 8)
    draws: int = 2
    test: int = 20
    validation: int = 2
    rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    search_count: int = 4
    quick: bool = False

    @property
    def longest(self) -> int:
        """Images of a draw."""
        return max(*self.counts, self.search_count)

    @property
    def needed(self) -> int:
        """Images that all of it takes."""
        return self.test + self.validation + self.draws * self.longest

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
        return Recipe("nuclei", "dsb2018", config, 1, not config.start, self.quick)

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


@dataclass(frozen=True)
class Trial:
    """One training: the start ("" is from scratch), the images and the rate."""

    start: str
    augment: bool
    images: int
    draw: int
    rate: float

    @property
    def name(self) -> str:
        """For the folder: ``u373-augmented-4``."""
        return f"{self.start or 'scratch'}-{'augmented' if self.augment else 'plain'}-{self.images}"


def plan(quick: bool = False, **settings: Any) -> Plan:
    """The plan of the experiment, or one of seconds.

    Parameters
    ----------
    quick : bool
        A run that only shows that all parts work.
    **settings
        Settings of `TrainConfig` in the place of the plan's; None is left out.
    """
    config = TrainConfig(
        data="dsb2018", base_channels=16, input_size=300, steps=150, momentum=0.9, warmup=20,
        schedule="poly", learning_rate=0.01, validate_every=50, checkpoint_every=100,
    )  # fmt: skip
    given = {key: value for key, value in settings.items() if value is not None}
    if not quick:
        return Plan(config.replace(**given))
    config = config.replace(**{"steps": 3, "warmup": 1, "input_size": 204} | given)
    return Plan(config, (1, 2), 1, 2, 1, (0.01, 0.003), 2, quick=True)
