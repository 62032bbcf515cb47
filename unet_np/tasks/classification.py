"""One class for an image, or for the pixel in the middle of a patch: learned, and predicted.

The networks before the U-Net segmented so: "the class label of each pixel by providing a local
region (patch) around that pixel as input" (section 1, on Ciresan et al. 2012). One answer costs one
pass; an image of 512 x 512 pixels needs 262,144 of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from unet_np import backend
from unet_np.augmentation.augment import Augmentation
from unet_np.backend import Array, array_module
from unet_np.data import Dataset
from unet_np.data.own.classes import class_names
from unet_np.errors import InputError, integer
from unet_np.files.on_disk import Windows
from unet_np.images.prepared import Prepared
from unet_np.ops import softmax, weighted_cross_entropy
from unet_np.tasks.task import Arrays, Task, check_task, known_pixels, prepare
from unet_np.tiling.overlap_tile import read_tiles
from unet_np.windows import crop_window, middles

PATCH = 65
"""Side of a patch by default: that of Ciresan et al. 2012, where the paper takes its start."""

BATCH = 32
"""Patches that go through the network at once."""


@dataclass(frozen=True)
class Classify(Task):
    """A class for an image, or for the pixel in the middle of a patch.

    Attributes
    ----------
    class_weights : tuple of float
        Of the cross entropy, one for each class.
    whole : bool
        Whether an image has one class throughout. Then a patch is any part of it; else its
        class is that of its middle pixel, the sliding window that section 1 of the paper tells
        of.
    ignores : bool
        Whether patches whose class is not known count in no mean.
    """

    class_weights: tuple[float, ...]
    whole: bool
    ignores: bool = False

    options: ClassVar = {"task": "classify", "output": "vector"}
    columns: ClassVar = ("validation_loss", "validation_error")
    needs_masks: ClassVar = False

    @classmethod
    def of(cls, dataset: Dataset, settings: Any) -> Classify:
        """For a data set; with ``weight_map``, classes weigh alike however rare they are.

        Raises
        ------
        InputError
            If all is of one class.

        Examples
        --------
        >>> from unet_np import TrainConfig
        >>> labels = np.array([[[0, 0, 0, 1]]], np.uint8)
        >>> Classify.of(Dataset("mine", np.zeros((1, 1, 4)), labels), TrainConfig()).class_weights
        (0.6666666666666666, 2.0)
        """
        assert dataset.labels is not None
        known = known_pixels(dataset) > 0
        found = [one[where] for one, where in zip(dataset.labels, known, strict=True)]
        counts = np.bincount(np.concatenate(found), minlength=2)
        weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
        whole = all(one.size == 0 or one.min() == one.max() for one in found)
        if (counts > 0).sum() < 2:
            raise InputError(
                f"labels: got class {int(counts.argmax())} only, expected at least 2 classes to "
                "tell apart"
            )
        weights = settings.given_class_weights or weights
        return cls(
            tuple(float(w) if settings.weight_map else 1.0 for w in weights),
            whole,
            bool(settings.ignored_values),
        )

    @staticmethod
    def default_size(padding: int) -> int:
        """`PATCH`."""
        return PATCH

    def truth(self, dataset: Dataset, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """Classes of the pixels; a tile is given the weight of its class."""
        assert dataset.labels is not None
        return dataset.labels, known_pixels(dataset)

    def class_names(self, dataset: Dataset) -> tuple[str, ...]:
        """Names of the folders, where each image has one class."""
        return class_names(dataset) if self.whole else ()

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
        label, certain = labels[middle, middle], known[middle, middle]
        if self.ignores:
            # Beside an ignored pixel there is part of a weight, and the label may be that one's.
            certain = (certain > 1 - 1e-6).astype(known.dtype)
        weights = array_module(label).asarray(self.class_weights, dtype=known.dtype)
        return image, label, certain * weights[label]

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

    def energy(self, outputs: Array, labels: Array, weights: Array) -> tuple[Any, Array]:
        """Weighted cross entropy of logits (B, K), the mean over the batch."""
        loss, grad = _cross_entropy(outputs, labels, weights, "mean")
        if self.ignores:
            counted = max(int((weights > 0).sum()), 1)
            loss, grad = (part * (len(labels) / counted) for part in (loss, grad))
        return loss, grad[:, :, 0, 0]

    def validate(self, forward: Callable[[Array], Array], tiles: Iterable[Any]) -> dict[str, float]:
        """Mean cross entropy and share of wrong answers."""
        loss = wrong = total = 0.0
        for tile in tiles:
            logits = forward(tile.image)
            loss += float(_cross_entropy(logits, tile.labels, tile.weights, "sum")[0])
            mistakes = (logits.argmax(axis=1) != tile.labels) * tile.weights
            wrong, total = wrong + float(mistakes.sum()), total + float(tile.weights.sum())
        figures = (loss / total, wrong / total) if total else ()
        return dict(zip(self.columns, figures, strict=False))


def _cross_entropy(
    logits: Array, labels: Array, weights: Array, reduction: str
) -> tuple[Any, Array]:
    pixel = (slice(None), None, None)
    maps = logits[:, :, None, None]
    return weighted_cross_entropy(maps, labels[pixel], weights[pixel], reduction, check=False)


@dataclass(frozen=True)
class Classification:
    """What a network says of the patches of one image.

    Attributes
    ----------
    points : numpy.ndarray
        (n, 2) int, row and column of the middle of each patch.
    probabilities : numpy.ndarray
        (n, num_classes) float32, of each patch.
    """

    points: np.ndarray
    probabilities: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """(n,), the most probable class of each patch."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def mean(self) -> np.ndarray:
        """(num_classes,), mean over the patches: what is said of the image as a whole."""
        return np.asarray(self.probabilities.mean(axis=0))


def classify_points(
    net: Any, image: np.ndarray | Windows, points: np.ndarray, size: int, batch: int = BATCH
) -> np.ndarray:
    """Class probabilities of patches around given pixels.

    Parameters
    ----------
    net : UNet
        With task ``classify``.
    image : numpy.ndarray or Windows
        As `unet_np.tasks.task.prepare` takes it; normalised as a whole, mirrored at its
        border. Of what is on disk only the patches are read.
    points : numpy.ndarray
        (n, 2), row and column of the middle of each patch.
    size : int
        Side of a patch; its middle is pixel ``size // 2``.
    batch : int
        Patches at once.

    Returns
    -------
    numpy.ndarray
        float32 (n, num_classes).

    Raises
    ------
    InputError
        If the network has another task, the size does not work, or a point lies outside.

    Examples
    --------
    >>> from unet_np import UNet
    >>> net = UNet(base_channels=2, depth=1, **Classify.options)
    >>> classify_points(net, np.eye(40), np.array([[0, 0], [20, 7]]), 17).shape
    (2, 2)
    """
    ready = _ready(net, image, size, batch)
    points = np.asarray(points).reshape(-1, 2)
    outside = (points < 0) | (points >= np.array(ready.shape[-2:]))
    if outside.any():
        wrong = tuple(int(i) for i in points[outside.any(axis=1)][0])
        raise InputError(f"points: got {wrong}, expected a pixel of the image {ready.shape[-2:]}")
    found = np.empty((len(points), net.architecture.num_classes), np.float32)
    for first in range(0, len(points), batch):
        part = slice(first, first + batch)
        found[part] = _answers(net, ready, points[part], size)
    return found


def _ready(net: Any, image: np.ndarray | Windows, size: int, batch: int) -> np.ndarray | Prepared:
    """The image as the network reads it, once all is checked."""
    check_task(net, "classify")
    channels = net.architecture.in_channels
    ready = prepare(image, channels)
    integer("batch", batch, 1)
    net.architecture.check_input((1, channels, size, size))
    return ready


def _answers(net: Any, ready: np.ndarray | Prepared, points: np.ndarray, size: int) -> np.ndarray:
    """(n, num_classes), of the patches around `points`, in one pass."""
    corners = [(int(row), int(column)) for row, column in points - size // 2]
    patches = read_tiles(net, ready, corners, (size, size), "reflect")
    logits = net.forward(patches)[:, :, None, None]
    return backend.to_numpy(softmax(logits)[0])[:, :, 0, 0]


def classify(net: Any, image: np.ndarray, size: int, stride: int | None = None) -> Classification:
    """Classes of the patches of an image, side by side.

    Parameters
    ----------
    net, image, size
        As in `classify_points`. An image smaller than a patch is one patch.
    stride : int, optional
        Pixels from one patch to the next; by default `size`. 1 is the sliding window.

    Returns
    -------
    Classification

    Raises
    ------
    InputError
        If the stride is less than 1, and as `classify_points`.

    Examples
    --------
    >>> from unet_np import UNet
    >>> net = UNet(base_channels=2, depth=1, **Classify.options)
    >>> classify(net, np.eye(40), 17).points[:3].tolist()
    [[8, 8], [8, 25], [8, 31]]
    """
    parts = list(classified(net, image, size, stride))
    return Classification(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )


def classified(
    net: Any, image: np.ndarray | Windows, size: int, stride: int | None = None, batch: int = BATCH
) -> Iterator[Classification]:
    """What `classify` gives, `batch` patches at a time.

    Parameters
    ----------
    net, image, size, stride, batch
        As in `classify` and `classify_points`.
    """
    stride = size if stride is None else stride
    integer("stride", stride, 1)
    ready = _ready(net, image, size, batch)
    rows, columns = (middles(length, size, stride) for length in ready.shape[-2:])
    count = len(rows) * len(columns)
    for first in range(0, count, batch):
        places = np.divmod(np.arange(first, min(first + batch, count)), len(columns))
        points = np.stack([rows[places[0]], columns[places[1]]], axis=1)
        yield Classification(points, _answers(net, ready, points, size))
