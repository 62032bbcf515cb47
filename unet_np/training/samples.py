"""From a data set to the tile of a step: which slice, which weights, which augmentation."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np.augmentation.augment import Augmentation
from unet_np.backend import STREAMS, Array, array_module, asarray, default_rng, parallel_map
from unet_np.data import Dataset
from unet_np.data.own.classes import class_names
from unet_np.errors import InputError
from unet_np.images import normalise
from unet_np.ops import weighted_cross_entropy
from unet_np.tasks import DETECT_CHANNELS, Arrays, Classify, Detect, Task, mirrored
from unet_np.training.config import TrainConfig, parse_slices
from unet_np.training.logs import COLUMNS, TRAINING_COLUMNS
from unet_np.training.touching import with_touching_cells
from unet_np.weighting.eq2 import balancing_weights, weight_map
from unet_np.weighting.separation import separate_touching


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

    Labels are classes, or the numbers of objects to detect. Images may be (N, C, H, W). Where
    `sizes` is not empty, a slice is only the upper left corner.
    """

    images: Array
    labels: Array
    weights: Array
    known: Array = field(repr=False)
    sizes: tuple[tuple[int, int], ...] = ()

    def slice_of(self, number: int) -> tuple[Array, Array, Array, Array]:
        """Image, labels, weights and what is known of one slice, in its own size."""
        height, width = self.sizes[number] if self.sizes else self.labels.shape[1:]
        arrays = (self.images, self.labels, self.weights, self.known)
        image, labels, weights, known = (a[number, ..., :height, :width] for a in arrays)
        return image, labels, weights, known


@dataclass(frozen=True)
class Samples:
    """The training tiles of a configuration, each determined by the seed and its step.

    Attributes
    ----------
    config : TrainConfig
        The settings.
    training, validation : Truth
        The slices, on the device of the network.
    training_slices, validation_slices : tuple of int
        Their numbers in the data set; copies with touching cells have those of their originals.
    num_classes : int
        At least 2; the output channels of a detecting network.
    checksum : int
        Of images and labels: a resumed run must see the same.
    task : Task or None
        What differs from segmentation; None segments.
    in_channels : int
        Channels of the images.
    class_names : tuple of str
        One for each class, where whole images are classified; else empty.
    """

    config: TrainConfig
    training: Truth
    validation: Truth | None
    training_slices: tuple[int, ...]
    validation_slices: tuple[int, ...]
    num_classes: int
    checksum: int
    task: Task | None = None
    in_channels: int = 1
    class_names: tuple[str, ...] = ()

    @property
    def output_size(self) -> int:
        """Side of the network's output for the input tile."""
        return self.config.architecture.output_size(self.config.tile_size)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the metrics."""
        return COLUMNS if self.task is None else (*TRAINING_COLUMNS, *self.task.columns)

    def energy(self, outputs: Array, tile: Tile) -> tuple[Any, Array]:
        """The loss of a tile, and its gradient with regard to the network's output."""
        if self.task is not None:
            return self.task.energy(outputs, tile.labels, tile.weights)
        return weighted_cross_entropy(outputs, tile.labels, tile.weights, "mean", check=False)

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

    def tile(self, step: int) -> Tile:
        """The tile of a step, counted from 0; the same whenever and wherever it is made."""
        batch = self.config.batch_size
        return self._batch([self._one(step * batch + i) for i in range(batch)])

    def _one(self, sample: int) -> Arrays:
        number, truth = self.index(sample), self.training
        rng = default_rng(np, (self.config.seed, STREAMS["augment"], sample))
        arrays = truth.slice_of(number)[:3]
        sizes = self.config.tile_size, self.output_size
        settings = self.config.augmentation
        augmentation = Augmentation(**settings) if self.config.augment else Augmentation.off()
        if self.task is not None:
            return self.task.tile(arrays, augmentation, sizes, rng)
        image, labels, weights = augmentation.tile(*arrays, *sizes, rng)
        return image, labels, weights

    def validation_tiles(self) -> list[Tile]:
        """The middle of each held-out slice, not augmented; weights 1 where the class is known.

        In classification all patches of a slice, half a patch apart, in one batch.
        """
        truth, tiles, sizes = self.validation, [], (self.config.tile_size, self.output_size)
        for number in range(len(self.validation_slices) if truth else 0):
            assert truth is not None
            image, labels, _, known = truth.slice_of(number)
            arrays = image, labels, known
            if self.task is not None:
                tiles.append(self._batch(self.task.held_out(arrays, sizes)))
                continue
            top, left = ((side - self.output_size) // 2 for side in labels.shape)
            tiles.append(self._batch([crop(*arrays, *sizes, top, left)]))
        return tiles

    def _batch(self, parts: list[Arrays]) -> Tile:
        xp, dtype = array_module(parts[0][0]), self.config.dtype
        images, labels, weights = (xp.stack(group) for group in zip(*parts, strict=True))
        images = images.reshape(len(parts), -1, *images.shape[-2:])
        return Tile(images.astype(dtype), labels, weights.astype(dtype))


def prepare(config: TrainConfig, dataset: Dataset, xp: ModuleType) -> Samples:
    """Choose the slices, normalise the images and compute the weight maps.

    Parameters
    ----------
    config : TrainConfig
        The settings.
    dataset : Dataset
        Images with labels or instances.
    xp : module
        Where the arrays go, ``numpy`` or ``cupy``.

    Raises
    ------
    InputError
        If nothing is labelled, a chosen slice is not there, or none is left to train on.
    """
    if dataset.labels is None:
        raise InputError(f"data: got {dataset.name} without labels, expected labelled images")
    # A wrong setting is an error now, and not in the thread that makes the tiles.
    check_augmentation(config.augmentation)
    if config.task == "detect":
        dataset = Detect.dataset(dataset)
    assert dataset.labels is not None
    training, validation = split(config, dataset)
    own = dataset.subset(training)
    if config.touching:
        rng = default_rng(np, (config.seed, STREAMS["touching"]))
        own = with_touching_cells(own, config.touching, rng)
    task = choose_task(config, dataset.subset(training))
    classes = DETECT_CHANNELS if config.task == "detect" else max(int(dataset.labels.max()) + 1, 2)
    parts = [dataset.images, dataset.labels, *_optional(dataset, config.task)]
    return Samples(
        config,
        _truth(config, own, xp, task),
        _truth(config, dataset.subset(validation), xp, task) if validation else None,
        training * (1 + config.touching),
        validation,
        classes,
        zlib.crc32(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)),
        task,
        dataset.channels,
        class_names(dataset) if isinstance(task, Classify) and task.whole else (),
    )


def choose_task(config: TrainConfig, dataset: Dataset) -> Task | None:
    """What differs from segmentation, from the training slices; None for segmentation."""
    if config.task == "detect":
        return Detect.of(dataset, config.heat_sigma, config.weighting[0])
    if config.task == "classify":
        return Classify.of(dataset, config.weight_map)
    return None


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
    return training, tuple(i for i in validation if i in usable)


def crop(
    image: Array,
    labels: Array,
    weights: Array,
    input_size: int,
    output_size: int,
    top: int,
    left: int,
) -> tuple[Array, Array, Array]:
    """A tile, not augmented, whose output begins at (top, left); mirrored at the border (Fig. 2).

    Parameters
    ----------
    image, labels, weights : array, (H, W)
        One slice; the image may be (C, H, W).
    input_size, output_size : int
        Sides in pixels; the image tile is larger by the network's margin.
    top, left : int
        Of the output, may be negative.

    Returns
    -------
    image : array, (input_size, input_size)
    labels, weights : array, (output_size, output_size)

    Examples
    --------
    >>> row = np.arange(4)[None]
    >>> crop(row, row, row, 4, 2, 0, 0)[0][0], crop(row, row, row, 4, 2, 0, 0)[1][0]
    (array([1, 0, 1, 2]), array([0, 1]))
    """
    margin = (input_size - output_size) // 2

    def cut(array: Array, start: tuple[int, int], size: int) -> Array:
        xp = array_module(array)
        rows = asarray(mirrored(start[0], size, array.shape[-2]), xp)
        columns = asarray(mirrored(start[1], size, array.shape[-1]), xp)
        return array[..., rows[:, None], columns[None]]

    outer = cut(image, (top - margin, left - margin), input_size)
    return outer, cut(labels, (top, left), output_size), cut(weights, (top, left), output_size)


def _truth(config: TrainConfig, dataset: Dataset, xp: ModuleType, task: Task | None) -> Truth:
    assert dataset.labels is not None
    if task is not None:
        found, certain = task.truth(dataset)
        return _on_device((_normalised(dataset), found, certain, certain), dataset, xp)
    labels, instances = dataset.labels, _instances(dataset)
    if dataset.instances is not None and int(labels.max()) <= 1:
        # Where cells touch, the border that the weight map stresses has to be there first.
        labels = (instances > 0).astype(np.uint8)
    known = np.ones(labels.shape, bool) if dataset.unknown is None else ~dataset.unknown
    weights = np.ones(labels.shape, np.float32)
    if config.weight_map:
        w0, sigma = config.weighting
        pair = balancing_weights(instances[known]) if config.weight_variant == "paper" else None

        def one(slice_: np.ndarray) -> np.ndarray:
            variant, term = config.weight_variant, config.weight_term
            return weight_map(slice_, w0, sigma, variant, pair, term)

        weights = np.stack(parallel_map(one, instances))
    known = known.astype(np.float32)
    arrays = _normalised(dataset), labels, weights * known, known
    return _on_device(arrays, dataset, xp)


def _on_device(arrays: tuple[np.ndarray, ...], dataset: Dataset, xp: ModuleType) -> Truth:
    images, labels, weights, known = (asarray(array, xp) for array in arrays)
    return Truth(images, labels, weights, known, dataset.sizes)


def _normalised(dataset: Dataset) -> np.ndarray:
    """Each image, and each of its channels, by itself: what pads a smaller one has no say."""
    if not dataset.sizes:
        return normalise(dataset.images)
    images = np.zeros(dataset.images.shape, np.float32)
    for number, (height, width) in enumerate(dataset.sizes):
        part = (number, ..., slice(height), slice(width))
        images[part] = normalise(dataset.images[part])
    return images


def _instances(dataset: Dataset) -> np.ndarray:
    """Instances for the weight map: the data set's, or connected components of the cells."""
    assert dataset.labels is not None
    if dataset.instances is not None:
        return np.stack([separate_touching(one) for one in dataset.instances])
    # 4-connected, as the challenge counts cells: components of a class cannot touch.
    return np.stack([scipy.ndimage.label(one > 0)[0] for one in dataset.labels])


def _optional(dataset: Dataset, task: str) -> list[np.ndarray]:
    # Markers count for those who detect: others may resume runs from before there were any.
    markers = dataset.markers if task == "detect" else None
    return [part for part in (dataset.instances, dataset.unknown, markers) if part is not None]
