"""From a data set to the tile of a step: which slice, which weights, which augmentation."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np.augment import Augmentation
from unet_np.backend import STREAMS, Array, array_module, asarray, default_rng, parallel_map
from unet_np.config import TrainConfig, parse_slices
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.images import normalise
from unet_np.separation import separate_touching
from unet_np.weight_map import DEFAULTS, balancing_weights, weight_map


@dataclass(frozen=True)
class Tile:
    """What one step learns from.

    Attributes
    ----------
    image : array, (1, 1, input_size, input_size)
        Normalised grey values in the dtype of the network.
    labels : array, (1, output_size, output_size), integer
        Classes of the pixels that the network's output covers.
    weights : array, (1, output_size, output_size)
        Of eq. 1; 0 where the class is unknown.
    """

    image: Array
    labels: Array
    weights: Array


@dataclass(frozen=True)
class Truth:
    """What is known of the slices, ready for the loss; arrays of shape (N, H, W)."""

    images: Array
    labels: Array
    weights: Array
    known: Array = field(repr=False)


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
        Their numbers in the data set.
    num_classes : int
        At least 2.
    checksum : int
        Of images and labels: a resumed run must see the same.
    """

    config: TrainConfig
    training: Truth
    validation: Truth | None
    training_slices: tuple[int, ...]
    validation_slices: tuple[int, ...]
    num_classes: int
    checksum: int

    @property
    def output_size(self) -> int:
        """Side of the network's output for the input tile."""
        return self.config.architecture.output_size(self.config.tile_size)

    def index(self, step: int) -> int:
        """The training slice of a step: each epoch goes once through all, in an order of its own.

        Parameters
        ----------
        step : int
            Counted from 0.

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
        number, truth = self.index(step), self.training
        rng = default_rng(np, (self.config.seed, STREAMS["augment"], step))
        arrays = truth.images[number], truth.labels[number], truth.weights[number]
        sizes = self.config.tile_size, self.output_size
        settings = self.config.augmentation
        augmentation = Augmentation(**settings) if self.config.augment else Augmentation.off()
        return self._batch(*augmentation.tile(*arrays, *sizes, rng))

    def validation_tiles(self) -> list[Tile]:
        """The middle of each held-out slice, not augmented; weights 1 where the class is known."""
        truth, tiles = self.validation, []
        for number in range(len(self.validation_slices) if truth else 0):
            assert truth is not None
            arrays = truth.images[number], truth.labels[number], truth.known[number]
            top, left = ((side - self.output_size) // 2 for side in arrays[0].shape)
            tiles.append(
                self._batch(*crop(*arrays, self.config.tile_size, self.output_size, top, left))
            )
        return tiles

    def _batch(self, image: Array, labels: Array, weights: Array) -> Tile:
        dtype = self.config.dtype
        return Tile(image[None, None].astype(dtype), labels[None], weights[None].astype(dtype))


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
    training, validation = split(config, dataset)
    classes = max(int(dataset.labels.max()) + 1, 2)
    parts = [dataset.images, dataset.labels, *_optional(dataset)]
    return Samples(
        config,
        _truth(config, dataset.subset(training), xp),
        _truth(config, dataset.subset(validation), xp) if validation else None,
        training,
        validation,
        classes,
        zlib.crc32(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)),
    )


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
        One slice.
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
        rows = asarray(mirrored(start[0], size, array.shape[0]), xp)
        columns = asarray(mirrored(start[1], size, array.shape[1]), xp)
        return array[rows[:, None], columns[None]]

    outer = cut(image, (top - margin, left - margin), input_size)
    return outer, cut(labels, (top, left), output_size), cut(weights, (top, left), output_size)


def mirrored(start: int, size: int, length: int) -> np.ndarray:
    """Indices start, start + 1, ... into an axis that is reflected at both ends, edge not repeated.

    Examples
    --------
    >>> mirrored(-2, 7, 3)
    array([2, 1, 0, 1, 2, 1, 0])
    """
    period = max(2 * (length - 1), 1)
    place = np.abs(np.arange(start, start + size)) % period
    return np.minimum(place, period - place) if length > 1 else place


def _truth(config: TrainConfig, dataset: Dataset, xp: ModuleType) -> Truth:
    assert dataset.labels is not None
    labels, instances = dataset.labels, _instances(dataset)
    if dataset.instances is not None and int(labels.max()) <= 1:
        # Where cells touch, the border that the weight map stresses has to be there first.
        labels = (instances > 0).astype(np.uint8)
    known = np.ones(labels.shape, bool) if dataset.unknown is None else ~dataset.unknown
    weights = np.ones(labels.shape, np.float32)
    if config.weight_map:
        w0, sigma = config.w0, config.sigma
        if (w0, sigma) == DEFAULTS["paper"]:
            # Nobody has set them: those of the variant.
            w0, sigma = DEFAULTS[config.weight_variant]
        pair = balancing_weights(instances[known]) if config.weight_variant == "paper" else None

        def one(slice_: np.ndarray) -> np.ndarray:
            return weight_map(slice_, w0, sigma, config.weight_variant, pair)

        weights = np.stack(parallel_map(one, instances))
    known = known.astype(np.float32)
    arrays = normalise(dataset.images), labels, weights * known, known
    return Truth(*(asarray(array, xp) for array in arrays))


def _instances(dataset: Dataset) -> np.ndarray:
    """Instances for the weight map: the data set's, or connected components of the cells."""
    assert dataset.labels is not None
    if dataset.instances is not None:
        return np.stack([separate_touching(one) for one in dataset.instances])
    # 4-connected, as the challenge counts cells: components of a class cannot touch.
    return np.stack([scipy.ndimage.label(one > 0)[0] for one in dataset.labels])


def _optional(dataset: Dataset) -> list[np.ndarray]:
    return [part for part in (dataset.instances, dataset.unknown) if part is not None]
