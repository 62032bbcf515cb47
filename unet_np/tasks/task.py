"""What differs between segmenting, classifying and detecting: truth, tiles, energy and validation.

The loop of `unet_np.train` is the same for all three. A `Task` says what a tile's labels and
weights are, what the network's output costs, and how it is validated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import scipy.ndimage

from unet_np import backend
from unet_np.augmentation.augment import Augmentation
from unet_np.backend import Array, array_module, asarray
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.metrics import score_points
from unet_np.ops import detection_loss, sigmoid, weighted_cross_entropy
from unet_np.tasks.heat_map import Targets, find_objects, object_ids, peaks, targets, typical_size

Arrays = tuple[Array, Array, Array]
"""Image (H, W) or (C, H, W), labels and weights of one tile or of one slice."""

DETECT_CHANNELS = 3
"""Heat map, height, width."""

PRIOR = 0.01
"""Height of the heat map with which a detecting network begins: most pixels are no centre."""

SMALL = 0.1
"""What the drawn weights of the last layer of a detecting network are multiplied by."""

VALIDATION_THRESHOLD = 0.5
"""Lowest peak that counts in the validation of a detection."""


class Task(Protocol):
    """One of the three; a new one needs these."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What validation adds to the rows of the metrics."""

    def truth(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Labels (N, H, W) and, of each pixel, whether they are known, as 0 and 1."""

    def tile(
        self, arrays: Arrays, augmentation: Augmentation, sizes: tuple[int, int], rng: Any
    ) -> Arrays:
        """An augmented tile of a slice: image, labels, weights as the energy takes them."""

    def held_out(self, arrays: Arrays, sizes: tuple[int, int]) -> list[Arrays]:
        """Tiles of a slice for validation, not augmented."""

    def energy(self, outputs: Array, labels: Array, weights: Array) -> tuple[Any, Array]:
        """Loss of a batch and its gradient."""

    def validate(self, forward: Callable[[Array], Array], tiles: Iterable[Any]) -> dict[str, float]:
        """Figures over validation tiles, each with image, labels and weights."""

    def begin(self, params: dict[str, Array]) -> None:
        """Change the initial parameters, in place."""


@dataclass(frozen=True)
class Classify:
    """A class for an image, or for the pixel in the middle of a patch.

    Attributes
    ----------
    class_weights : tuple of float
        Of the cross entropy, one for each class.
    whole : bool
        Whether an image has one class throughout. Then a patch is any part of it; else its
        class is that of its middle pixel, the sliding window that section 1 of the paper tells
        of.
    """

    class_weights: tuple[float, ...]
    whole: bool

    columns = ("validation_loss", "validation_error")

    @classmethod
    def of(cls, dataset: Dataset, balanced: bool = True) -> Classify:
        """For a data set; with `balanced`, classes weigh alike however rare they are.

        Examples
        --------
        >>> labels = np.array([[[0, 0, 0, 1]]], np.uint8)
        >>> Classify.of(Dataset("mine", np.zeros((1, 1, 4)), labels)).class_weights
        (0.6666666666666666, 2.0)
        """
        assert dataset.labels is not None
        known = _known(dataset) > 0
        found = [one[where] for one, where in zip(dataset.labels, known, strict=True)]
        counts = np.bincount(np.concatenate(found), minlength=2)
        weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
        whole = all(one.size == 0 or one.min() == one.max() for one in found)
        if (counts > 0).sum() < 2:
            raise InputError(
                f"labels: got class {int(counts.argmax())} only, expected at least 2 classes to "
                "tell apart"
            )
        return cls(tuple(float(w) if balanced else 1.0 for w in weights), whole)

    def truth(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """The classes of the pixels."""
        assert dataset.labels is not None
        return dataset.labels, _known(dataset)

    def tile(
        self, arrays: Arrays, augmentation: Augmentation, sizes: tuple[int, int], rng: Any
    ) -> Arrays:
        """A patch, its class and the weight of that class; 0 where it is not known."""
        size = sizes[0]
        window = size if self.whole else 2 - size % 2
        image, labels, known = augmentation.tile(*arrays, size, window, rng)
        assert labels is not None
        assert known is not None
        middle = window // 2
        return self._labelled(image, labels[middle, middle], known[middle, middle])

    def held_out(self, arrays: Arrays, sizes: tuple[int, int]) -> list[Arrays]:
        """Patches half a patch apart; weights 1 where the class is known, as in segmentation."""
        image, labels, known = arrays
        size = sizes[0]
        rows, columns = (middles(length, size, max(size // 2, 1)) for length in labels.shape)
        found = []
        for row in rows:
            for column in columns:
                patch = crop_window(image, row - size // 2, column - size // 2, size)
                found.append((patch, labels[row, column], known[row, column]))
        return found

    def _labelled(self, image: Array, label: Array, known: Array) -> Arrays:
        xp = array_module(label)
        weights = xp.asarray(self.class_weights, dtype=known.dtype)
        return image, label, known * weights[label]

    def energy(self, outputs: Array, labels: Array, weights: Array) -> tuple[Any, Array]:
        """Weighted cross entropy of logits (B, K), the mean over the batch."""
        loss, grad = _cross_entropy(outputs, labels, weights, "mean")
        return loss, grad[:, :, 0, 0]

    def validate(self, forward: Callable[[Array], Array], tiles: Iterable[Any]) -> dict[str, float]:
        """Mean cross entropy and share of wrong answers."""
        loss = wrong = total = 0.0
        for tile in tiles:
            logits = forward(tile.image)
            loss += float(_cross_entropy(logits, tile.labels, tile.weights, "sum")[0])
            mistakes = (logits.argmax(axis=1) != tile.labels) * tile.weights
            wrong, total = wrong + float(mistakes.sum()), total + float(tile.weights.sum())
        return dict(zip(self.columns, (loss / total, wrong / total), strict=True)) if total else {}

    def begin(self, params: dict[str, Array]) -> None:
        """Nothing to change."""


@dataclass(frozen=True)
class Detect:
    """Objects as peaks of a heat map; see `unet_np.tasks.heat_map`.

    Attributes
    ----------
    typical : tuple of float
        Median height and width of the objects, in pixels.
    share : float
        Standard deviation of an object's Gaussian as a share of its size.
    w0 : float
        What the pixel of a centre weighs more than one far from all.
    """

    typical: tuple[float, float]
    share: float = 0.15
    w0: float = 10.0

    columns = ("validation_loss", "validation_f1")

    @staticmethod
    def dataset(dataset: Dataset) -> Dataset:
        """The data set with what is known of its objects.

        Markers tell of every cell, also where no mask does, so that nothing is unknown.
        """
        return dataset if dataset.markers is None else replace(dataset, unknown=None)

    @classmethod
    def of(cls, dataset: Dataset, share: float = 0.15, w0: float = 10.0) -> Detect:
        """For a data set.

        Raises
        ------
        InputError
            If it has no object.
        """
        ids = all_object_ids(dataset)
        if not ids.any():
            raise InputError("data: got no object, expected at least one to detect")
        return cls(typical_size(ids), share, w0)

    def truth(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the objects."""
        return all_object_ids(dataset), _known(self.dataset(dataset))

    def tile(
        self, arrays: Arrays, augmentation: Augmentation, sizes: tuple[int, int], rng: Any
    ) -> Arrays:
        """A tile with the three maps of its objects and the weights of heat and sizes.

        Objects are found in the whole input tile, as far as it lies in the image: one that the
        output window cuts is seen whole by the network.
        """
        image, ids, known = augmentation.tile(*arrays, *sizes, rng, whole=True)
        assert ids is not None
        assert known is not None
        return self._mapped(image, ids, known, sizes)

    def held_out(self, arrays: Arrays, sizes: tuple[int, int]) -> list[Arrays]:
        """The middle of the slice."""
        image, ids, known = arrays
        top, left = ((side - sizes[0]) // 2 for side in ids.shape)
        patch = crop_window(image, top, left, sizes[0])
        inside = crop_window(array_module(ids).ones(ids.shape, bool), top, left, sizes[0], False)
        ids, known = (crop_window(part, top, left, sizes[0]) * inside for part in (ids, known))
        return [self._mapped(patch, ids, known, sizes)]

    def _mapped(self, image: Array, ids: Array, known: Array, sizes: tuple[int, int]) -> Arrays:
        xp = array_module(image)
        maps = self.maps(backend.to_numpy(ids))
        margin = (sizes[0] - sizes[1]) // 2
        inner = (..., slice(margin, margin + sizes[1]), slice(margin, margin + sizes[1]))
        labels = np.concatenate([maps.heat[None], maps.log_sizes])[inner]
        weights = xp.stack([known[inner], asarray(maps.size_weights[inner], xp) * known[inner]])
        return image, asarray(labels, xp), weights

    def maps(self, ids: np.ndarray) -> Targets:
        """The maps of a (H, W) array of object numbers."""
        return targets(find_objects(ids), (ids.shape[0], ids.shape[1]), self.share, self.typical)

    def energy(self, outputs: Array, labels: Array, weights: Array) -> tuple[Any, Array]:
        """Cross entropy of the heat and smooth L1 of the logarithms of the sizes."""
        return detection_loss(outputs, labels, weights, self.w0)

    def validate(self, forward: Callable[[Array], Array], tiles: Iterable[Any]) -> dict[str, float]:
        """Mean loss of the tiles, and F1 of the peaks within a quarter of the typical size."""
        losses, truth, found, unknown = [], [], [], []
        radius = max(float(np.sqrt(self.typical[0] * self.typical[1])) / 4, 1.0)
        for tile in tiles:
            outputs = forward(tile.image)
            losses.append(float(self.energy(outputs, tile.labels, tile.weights)[0]))
            truth.append(np.argwhere(backend.to_numpy(tile.labels[0, 0]) == 1))
            found.append(peaks(sigmoid(outputs[0, 0]), VALIDATION_THRESHOLD)[0])
            unknown.append(backend.to_numpy(tile.weights[0, 0]) == 0)
        if not losses:
            return {}
        f1 = score_points(truth, found, radius, unknown).f1
        figures = float(np.mean(losses)), f1 if np.isfinite(f1) else 0.0
        return dict(zip(self.columns, figures, strict=True))

    def begin(self, params: dict[str, Array]) -> None:
        """The last layer begins by saying the same of every pixel: a low heat, the typical size.

        Otherwise the first loss is thousands: almost no pixel is a centre, and the drawn weights
        say yes to half of them.
        """
        xp = array_module(params["output.bias"])
        params["output.weight"] *= SMALL
        first = [np.log(PRIOR / (1 - PRIOR)), *np.log(self.typical)]
        params["output.bias"][...] = xp.asarray(first)


def all_object_ids(dataset: Dataset) -> np.ndarray:
    """Object numbers of every slice; connected components where there are no instances.

    Parameters
    ----------
    dataset : Dataset
        With labels, instances or markers.

    Returns
    -------
    numpy.ndarray
        (N, H, W) int32, as `unet_np.tasks.heat_map.object_ids`.

    Examples
    --------
    >>> labels = np.array([[[1, 0, 1]]], np.uint8)
    >>> all_object_ids(Dataset("mine", np.zeros((1, 1, 3)), labels))
    array([[[1, 0, 2]]], dtype=int32)
    """
    instances = dataset.instances
    if instances is None:
        shape = len(dataset), *dataset.shape
        labels = np.zeros(shape, bool) if dataset.labels is None else dataset.labels
        instances = np.stack([scipy.ndimage.label(one)[0] for one in labels > 0])
    markers = [None] * len(dataset) if dataset.markers is None else list(dataset.markers)
    pairs = zip(instances, markers, strict=True)
    return np.stack([object_ids(one, marker) for one, marker in pairs])


def middles(length: int, size: int, stride: int) -> np.ndarray:
    """Middles of windows of `size` along an axis, `stride` apart; all lie within it.

    The first window begins at 0, and the last one ends at the end of the axis.

    Examples
    --------
    >>> middles(10, 4, 3), middles(10, 4, 4), middles(3, 5, 2)
    (array([2, 5, 8]), array([2, 6, 8]), array([1]))
    """
    if length <= size:
        return np.array([length // 2])
    starts = np.arange(0, length - size + 1, stride)
    last = length - size
    return np.unique(np.append(starts, last)) + size // 2


def crop_window(array: Array, top: int, left: int, size: int, mirror: bool = True) -> Array:
    """A square part of (H, W) or (C, H, W), mirrored at the border (Fig. 2) or 0 beyond it.

    Examples
    --------
    >>> row = np.arange(1, 5)[None]
    >>> crop_window(row, 0, -1, 3)[0], crop_window(row, 0, -1, 3, mirror=False)[0]
    (array([2, 1, 2]), array([0, 1, 2]))
    """
    xp = array_module(array)
    places = [np.arange(start, start + size) for start in (top, left)]
    rows, columns = (
        asarray(mirrored(int(at[0]), size, length), xp)
        for at, length in zip(places, array.shape[-2:], strict=True)
    )
    part = array[..., rows[:, None], columns[None]]
    if mirror:
        return part
    inside = [
        asarray((at >= 0) & (at < length), xp)
        for at, length in zip(places, array.shape[-2:], strict=True)
    ]
    return part * (inside[0][:, None] & inside[1][None])


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


def _known(dataset: Dataset) -> np.ndarray:
    if dataset.unknown is None:
        return np.ones((len(dataset), *dataset.shape), np.float32)
    return (~dataset.unknown).astype(np.float32)


def _cross_entropy(
    logits: Array, labels: Array, weights: Array, reduction: str
) -> tuple[Any, Array]:
    pixel = (slice(None), None, None)
    maps = logits[:, :, None, None]
    return weighted_cross_entropy(maps, labels[pixel], weights[pixel], reduction, check=False)
