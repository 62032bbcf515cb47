"""From a data set to the tile of a step: which slice, which truth, which augmentation."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from unet_np import data
from unet_np.augmentation.augment import Augmentation
from unet_np.backend import STREAMS, Array, array_module, asarray, default_rng
from unet_np.data import Dataset
from unet_np.data.own.classes import read_classes
from unet_np.data.own.pairs import read_pairs
from unet_np.errors import InputError
from unet_np.images import normalise
from unet_np.network.architecture import Architecture
from unet_np.tasks import Task
from unet_np.tasks.segmentation import class_balance
from unet_np.tasks.task import Arrays
from unet_np.training.config import TrainConfig, parse_slices
from unet_np.training.logs import TRAINING_COLUMNS
from unet_np.training.touching import with_touching_cells


@dataclass(frozen=True)
class Tile:
    """What one step learns from: one tile or a batch of B.

    Attributes
    ----------
    image : array, (B, channels, input_size, input_size)
        Normalised values in the dtype of the network.
    labels : array
        Segmentation: classes of the pixels that the network's output covers, integers of shape
        (B, output_size, output_size). Classification: (B,) classes. Detection: (B, 3,
        output_size, output_size), heat map and the logarithms of height and width.
    weights : array
        Segmentation: those of eq. 1, 0 where the class is unknown, of the shape of the labels.
        Classification: (B,). Detection: (B, 2, output_size, output_size), of heat and sizes.
    """

    image: Array
    labels: Array
    weights: Array


@dataclass(frozen=True)
class Truth:
    """What is known of the slices; arrays of shape (N, H, W).

    Labels and weights are those of `Task.truth`. Images may be (N, C, H, W). Where `sizes` is not
    empty, a slice is only the upper left corner.
    """

    images: Array
    labels: Array
    weights: Array
    sizes: tuple[tuple[int, int], ...] = ()

    def slice_of(self, number: int) -> Arrays:
        """Image, labels and weights of one slice, in its own size."""
        height, width = self.sizes[number] if self.sizes else self.labels.shape[1:]
        arrays = (self.images, self.labels, self.weights)
        image, labels, weights = (a[number, ..., :height, :width] for a in arrays)
        return image, labels, weights


@dataclass(frozen=True)
class Samples:
    """The training tiles of a configuration, each determined by the seed and its step.

    Attributes
    ----------
    config : TrainConfig
        The settings.
    task : Task
        What the network is for.
    training, validation : Truth
        The slices, on the device of the network.
    training_slices, validation_slices : tuple of int
        Their numbers in the data set; copies with touching cells have those of their originals.
    architecture : Architecture
        The network for these images and labels.
    checksum : int
        Of images and labels: a resumed run must see the same.
    class_names : tuple of str
        Of `Task.class_names`.
    rank, ranks : int
        Which of how many processes of the training this is; each has tiles of its own.
    validation_names : tuple of str
        Of the images held out.
    """

    config: TrainConfig
    task: Task
    training: Truth
    validation: Truth | None
    training_slices: tuple[int, ...]
    validation_slices: tuple[int, ...]
    architecture: Architecture
    checksum: int
    class_names: tuple[str, ...]
    rank: int = 0
    ranks: int = 1
    validation_names: tuple[str, ...] = ()

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Sides of the input tile, and of the network's output for it."""
        side = self.config.tile_size
        return side, self.architecture.output_size(side)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the metrics."""
        return (*TRAINING_COLUMNS, *self.task.columns)

    def index(self, step: int) -> int:
        """The training slice of a tile: each epoch goes once through all, in an order of its own.

        Parameters
        ----------
        step : int
            Counted from 0; in batches the number of the tile.

        Returns
        -------
        int
            Position in `training_slices`.
        """
        count = len(self.training_slices)
        epoch, place = divmod(step, count)
        key = (self.config.seed, STREAMS["sample"], epoch)
        return int(default_rng(np, key).permutation(count)[place])

    def numbers(self, step: int) -> range:
        """The tiles of a step on this rank; the ranks together have one batch after the other."""
        batch = self.config.batch_size
        start = (step * self.ranks + self.rank) * batch
        return range(start, start + batch)

    def tile(self, step: int) -> Tile:
        """The tile of a step, counted from 0; the same whenever and wherever it is made."""
        return self._batch([self._one(number) for number in self.numbers(step)])

    def dropout(self, step: int, xp: ModuleType) -> Any:
        """The generator of what drops out in a step: for the tiles of all ranks at once."""
        rng = default_rng(xp, (self.config.seed, STREAMS["dropout"], step))
        return rng if self.ranks == 1 else OwnPart(rng, self.rank, self.ranks)

    def _one(self, sample: int) -> Arrays:
        arrays = self.training.slice_of(self.index(sample))
        rng = default_rng(np, (self.config.seed, STREAMS["augment"], sample))
        settings = self.config.augmentation
        augmentation = Augmentation(**settings) if self.config.augment else Augmentation.off()
        return self.task.tile(arrays, augmentation, self.sizes, rng)

    def validation_tiles(self) -> list[Tile]:
        """Those of each held-out slice in one batch, not augmented."""
        truth = self.validation
        if truth is None:
            return []
        slices = [truth.slice_of(number) for number in range(len(self.validation_slices))]
        return [self._batch(self.task.held_out(arrays, self.sizes)) for arrays in slices]

    def _batch(self, parts: list[Arrays]) -> Tile:
        xp, dtype = array_module(parts[0][0]), self.config.dtype
        images, labels, weights = (xp.stack(group) for group in zip(*parts, strict=True))
        images = images.reshape(len(parts), -1, *images.shape[-2:])
        return Tile(images.astype(dtype), labels, weights.astype(dtype))


class OwnPart:
    """A generator that draws for the tiles of all ranks, and gives those of one of them.

    Parameters
    ----------
    rng : generator
        In the same state on all ranks.
    rank, ranks : int
        See `Samples`.

    Examples
    --------
    >>> whole = default_rng(np, (0,)).random((2, 3), np.float32)
    >>> second = OwnPart(default_rng(np, (0,)), 1, 2).random((1, 3), np.float32)
    >>> bool((second == whole[1:]).all())
    True
    """

    def __init__(self, rng: Any, rank: int, ranks: int) -> None:
        self.rng, self.rank, self.ranks = rng, rank, ranks

    def random(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uniform numbers from 0 to 1, for an array whose first axis is that of the tiles."""
        count = shape[0]
        drawn = self.rng.random((self.ranks * count, *shape[1:]), dtype=dtype)
        return drawn[self.rank * count : (self.rank + 1) * count]


def load_data(config: TrainConfig) -> Dataset:
    """The data set that the settings name."""
    if config.images and not config.masks:
        return read_classes(config.images, config.colour, config.axes)
    if config.images:
        ways = config.mask_values, config.colour, config.axes
        return read_pairs(
            config.images, config.masks, *ways, config.ignored_values, config.background_value
        )
    return data.load(config.data)


def prepare(
    config: TrainConfig, dataset: Dataset, xp: ModuleType, rank: int = 0, ranks: int = 1
) -> Samples:
    """Choose the slices, normalise the images and find the truth of the task.

    Parameters
    ----------
    config : TrainConfig
        The settings.
    dataset : Dataset
        Images with labels or instances.
    xp : module
        Where the arrays go, ``numpy`` or ``cupy``.
    rank, ranks : int
        See `Samples`.

    Raises
    ------
    InputError
        If nothing is labelled, a chosen slice is not there, or none is left to train on.
    """
    if dataset.labels is None:
        raise InputError(f"data: got {dataset.name} without labels, expected labelled images")
    # A wrong setting is an error now, and not in the thread that makes the tiles.
    check_augmentation(config.augmentation)
    kind = config.kind
    own = training_set(config, dataset)
    dataset = kind.dataset(dataset, config)
    assert dataset.labels is not None
    training, validation = split(config, dataset)
    task = kind.of(dataset.subset(training), config)
    classes = max(int(dataset.labels.max()) + 1, 2)
    given = config.given_class_weights
    if given and len(given) != classes:
        raise InputError(f"class_weights: got {len(given)}, expected {classes}, one for each class")
    return Samples(
        config,
        task,
        _truth(task, own, xp, training=True),
        _truth(task, dataset.subset(validation), xp, training=False) if validation else None,
        training * (1 + config.touching),
        validation,
        config.with_channels(dataset.channels, classes),
        _checksum(dataset, kind.learns_from),
        task.class_names(dataset),
        rank,
        ranks,
        tuple(dataset.ids[i] for i in validation),
    )


def training_set(config: TrainConfig, dataset: Dataset) -> Dataset:
    """The slices that a training learns from, and copies of them with touching cells.

    Raises
    ------
    InputError
        As `split`, and as `with_touching_cells`.
    """
    kind = config.kind
    own = dataset.subset(split(config, kind.dataset(dataset, config))[0])
    if config.touching:
        rng = default_rng(np, (config.seed, STREAMS["touching"]))
        own = with_touching_cells(own, config.touching, rng)
    return kind.dataset(own, config)


def class_weights(config: TrainConfig, dataset: Dataset) -> tuple[float, ...]:
    """w_c of each class that a training balances by; 1 where it does not.

    Raises
    ------
    InputError
        As `training_set`.

    Examples
    --------
    >>> from unet_np.data import load
    >>> some = load("synthetic-cells", count=3, size=128)
    >>> background, cell = class_weights(TrainConfig(), some)
    >>> cell < 1 < background
    True
    """
    own = training_set(config, dataset)
    if not config.weight_map or config.weight_variant != "paper":
        return 1.0, 1.0
    return config.given_class_weights or class_balance(own)


def check_augmentation(settings: dict[str, Any]) -> None:
    """Refuse settings that `Augmentation` does not take; the message names the nearest."""
    known = [entry.name for entry in fields(Augmentation)]
    for key in settings:
        if key not in known:
            near = get_close_matches(str(key), known, 1, cutoff=0)[0]
            raise InputError(
                f"augmentation: got the unknown key {key!r}, expected a setting; "
                f"nearest valid key is {near!r}"
            )
    Augmentation(**settings)


def split(config: TrainConfig, dataset: Dataset) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Training and validation slices, as contiguous blocks: neighbours resemble each other.

    By default the last eighth is held out: slices 26 to 29 of the 30 of ISBI 2012. A slice
    of which nothing is known is used for nothing.
    """
    count = len(dataset)
    excluded = parse_slices(config.exclude, "exclude")
    usable = [i for i in range(count) if dataset.unknown is None or not dataset.unknown[i].all()]
    usable = [i for i in usable if i not in excluded]
    if config.validation == "auto":
        held_out = max(round(len(usable) / 8), 1) if len(usable) > 1 else 0
        validation = tuple(usable[len(usable) - held_out :])
    else:
        validation = parse_slices(config.validation, "validation")
    for name, chosen in (("validation", validation), ("exclude", excluded)):
        if chosen and chosen[-1] >= count:
            raise InputError(f"{name}: got slice {chosen[-1]}, expected 0 to {count - 1}")
    both = sorted(set(validation) & set(excluded))
    if both:
        raise InputError(f"validation: got slice {both[0]}, which exclude has too, expected others")
    training = tuple(i for i in usable if i not in validation)
    if not training:
        raise InputError(
            f"validation: got {config.validation}, expected a labelled slice of the {count} "
            "left to train on"
        )
    validation = tuple(i for i in validation if i in usable)
    if config.patience and not validation:
        raise InputError(
            f"patience: got {config.patience} and no images held out, expected 0, or a validation "
            "of some of them"
        )
    return training, validation


def _truth(task: Task, dataset: Dataset, xp: ModuleType, training: bool) -> Truth:
    arrays = _normalised(dataset), *task.truth(dataset, training)
    images, labels, weights = (asarray(array, xp) for array in arrays)
    return Truth(images, labels, weights, dataset.sizes)


def _normalised(dataset: Dataset) -> np.ndarray:
    """Each image, and each of its channels, by itself: what pads a smaller one has no say."""
    if not dataset.sizes:
        return normalise(dataset.images)
    images = np.zeros(dataset.images.shape, np.float32)
    for number, (height, width) in enumerate(dataset.sizes):
        part = (number, ..., slice(height), slice(width))
        images[part] = normalise(dataset.images[part])
    return images


def _checksum(dataset: Dataset, names: tuple[str, ...]) -> int:
    parts = [part for name in names if (part := getattr(dataset, name)) is not None]
    return zlib.crc32(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
