"""What a network is for: the truth it learns from, what its output costs and how it is scored.

The paper segments. Its network, its augmentation and its training serve as they are where the
output means something else: `unet_np.training.loop` is one for all tasks, and a `Task` says
what a tile's labels and weights are, what the network's output costs and how it is validated. A
new one is a file with a subclass of `Task`, and a line in `unet_np.tasks.TASKS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from unet_np.augmentation.augment import Augmentation
from unet_np.backend import Array
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.files.on_disk import Windows
from unet_np.images import normalise, to_grey
from unet_np.images.prepared import Prepared
from unet_np.weighting.eq2 import DEFAULTS
from unet_np.windows import crop_window

Arrays = tuple[Array, Array, Array]
"""Image (H, W) or (C, H, W), labels and weights of one tile or of one slice."""


class Task(ABC):
    """What a network is for; a new one needs `options`, `of`, `truth` and `energy`.

    Attributes
    ----------
    options : mapping
        What `unet_np.UNet` takes for it: ``task``, its name; ``output``, whether that is a "map"
        or a "vector"; and ``num_classes``, where it is not the number of classes of the data.
    learns_from : tuple of str
        Arrays of a data set that it looks at; a resumed run must see the same.
    columns : tuple of str
        Figures of `validate`; the first is the loss by which a training may stop.
    needs_masks : bool
        Whether own images need masks; else a folder for each class will do.
    moves_cells : bool
        Whether it may learn from copies of images in which cells were moved until they touch.
    """

    options: ClassVar[Mapping[str, Any]]
    learns_from: ClassVar[tuple[str, ...]] = ("images", "labels", "instances", "unknown")
    columns: ClassVar[tuple[str, ...]] = ("validation_loss",)
    needs_masks: ClassVar[bool] = True
    moves_cells: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def of(cls, dataset: Dataset, settings: Any) -> Self:
        """For the slices to train on, with settings (`unet_np.training.config.TrainConfig`)."""

    @abstractmethod
    def truth(self, dataset: Dataset, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """Labels and weights of the slices, (N, H, W) each.

        The weights say what a pixel counts for in training or, in validation, whether its label is
        known, as 0 and 1.
        """

    @abstractmethod
    def energy(self, outputs: Array, labels: Array, weights: Array) -> tuple[Any, Array]:
        """Loss of a batch, and its gradient with regard to the network's output."""

    @staticmethod
    def default_size(padding: int) -> int:
        """Side of the input tile to come near to: the paper's 572.

        With padding 1 it is 388, so that as many pixels are learned from.
        """
        return 388 if padding else 572

    @staticmethod
    def default_weighting(variant: str) -> tuple[float, float]:
        """w0 and sigma where the settings have none."""
        return DEFAULTS[variant]

    @staticmethod
    def dataset(dataset: Dataset, settings: Any) -> Dataset:
        """The data set with what is known of it for this task, with settings as for `of`."""
        return dataset

    def notes(self) -> dict[str, str]:
        """What the file of the weights says beside them, such as what makes a cell."""
        return {}

    def class_names(self, dataset: Dataset) -> tuple[str, ...]:
        """Names of the classes, to be written beside the weights; empty where they have none."""
        return ()

    def tile(
        self, arrays: Arrays, augmentation: Augmentation, sizes: tuple[int, int], rng: Any
    ) -> Arrays:
        """An augmented tile of a slice: image, labels, weights as the energy takes them.

        Parameters
        ----------
        arrays : tuple
            Image, labels and weights of the slice.
        augmentation : Augmentation
            The settings.
        sizes : tuple of int
            Sides of the network's input and output.
        rng : numpy.random.Generator
            All that is random.
        """
        image, labels, weights = augmentation.tile(*arrays, *sizes, rng)
        return image, labels, weights

    def held_out(self, arrays: Arrays, sizes: tuple[int, int]) -> list[Arrays]:
        """Tiles of a slice for validation, not augmented: here one, its middle."""
        image, *rest = arrays
        outer, inner = sizes
        top, left = ((side - inner) // 2 for side in image.shape[-2:])
        margin = (outer - inner) // 2
        labels, weights = (crop_window(one, top, left, inner) for one in rest)
        return [(crop_window(image, top - margin, left - margin, outer), labels, weights)]

    def validate(self, forward: Callable[[Array], Array], tiles: Iterable[Any]) -> dict[str, float]:
        """The `columns` over validation tiles, each with image, labels and weights; here the loss.

        Empty without tiles.
        """
        losses = [
            float(self.energy(forward(tile.image), tile.labels, tile.weights)[0]) for tile in tiles
        ]
        return {self.columns[0]: float(np.mean(losses))} if losses else {}

    def begin(self, params: dict[str, Array]) -> None:  # noqa: B027 (most have nothing to change)
        """Change the initial parameters, in place."""


def known_pixels(dataset: Dataset) -> np.ndarray:
    """(N, H, W), float32: 1 where the labels of a data set are known, else 0."""
    if dataset.unknown is None:
        return np.ones((len(dataset), *dataset.shape), np.float32)
    return (~dataset.unknown).astype(np.float32)


def prepare(image: Any, channels: int = 1) -> Any:
    """An image as the network reads it: its channels in front, each normalised.

    Parameters
    ----------
    image : numpy.ndarray or Windows
        (H, W) grey or (H, W, 1 to 4 channels), any real dtype; what is on disk is finite.
    channels : int
        What the network reads. With 1, colour becomes grey; with 3, RGB stays and alpha is
        left out.

    Returns
    -------
    numpy.ndarray or Prepared
        float32 (channels, H, W), zero mean and unit variance in each channel. What was on disk
        stays there.

    Raises
    ------
    InputError
        If the image has not the channels that the network reads, or is a stack.

    Examples
    --------
    >>> prepare(np.array([[10, 20], [10, 20]], np.uint8))[0].tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    colour = image.ndim == 3 and image.shape[-1] <= 4
    if image.ndim != 2 and not colour:
        raise InputError(f"image: got shape {image.shape}, expected (H, W) or (H, W, channels)")
    if channels == 1 and isinstance(image, np.ndarray):
        return normalise(to_grey(image))[None]
    got = image.shape[-1] if colour else 1
    if got != channels and (got, channels) not in ((4, 3), (3, 1)):
        raise InputError(
            f"image: got {got} channel{'s' * (got > 1)}, expected {channels}, which the network "
            "reads"
        )
    if isinstance(image, Windows):
        return Prepared(image, channels)
    return normalise(np.moveaxis(image[..., :channels], -1, 0))


def check_task(net: Any, task: str) -> None:
    """Refuse a network that was made for another task.

    Parameters
    ----------
    net : UNet
        The network.
    task : str
        What it is wanted for, such as "segment".

    Raises
    ------
    InputError
        If it has another one.

    Examples
    --------
    >>> from unet_np import UNet
    >>> check_task(UNet(base_channels=2, depth=1), "detect")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: weights: got a network that was made to segment, expected one to \
detect (unet-np train --task detect)
    """
    got = net.architecture.task
    if got != task:
        raise InputError(
            f"weights: got a network that was made to {got}, expected one to {task} "
            f"(unet-np train --task {task})"
        )
