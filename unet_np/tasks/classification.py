"""Classes of images and of pixels, from a network that ends in one answer for its input.

The networks before the U-Net segmented so: "the class label of each pixel by providing a local
region (patch) around that pixel as input" (section 1, on Ciresan et al. 2012). One answer costs one
pass; an image of 512 x 512 pixels needs 262,144 of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_np import backend
from unet_np.errors import InputError
from unet_np.ops import softmax
from unet_np.tasks import crop_window, middles
from unet_np.tasks.segmentation import check_task, prepare

BATCH = 32
"""Patches that go through the network at once."""


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
    net: Any, image: np.ndarray, points: np.ndarray, size: int, batch: int = BATCH
) -> np.ndarray:
    """Class probabilities of patches around given pixels.

    Parameters
    ----------
    net : UNet
        With task ``classify``.
    image : numpy.ndarray
        As `unet_np.tasks.segmentation.prepare` takes it; normalised as a whole, mirrored at its
        border.
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
    >>> net = UNet(base_channels=2, depth=1, task="classify")
    >>> classify_points(net, np.eye(40), np.array([[0, 0], [20, 7]]), 17).shape
    (2, 2)
    """
    check_task(net, "classify")
    ready = prepare(image, net.architecture.in_channels)
    points = np.asarray(points).reshape(-1, 2)
    outside = (points < 0) | (points >= np.array(ready.shape[-2:]))
    if outside.any():
        wrong = tuple(int(i) for i in points[outside.any(axis=1)][0])
        raise InputError(f"points: got {wrong}, expected a pixel of the image {ready.shape[-2:]}")
    if batch < 1:
        raise InputError(f"batch: got {batch}, expected an integer >= 1")
    net.architecture.check_input((1, net.architecture.in_channels, size, size))
    found = np.empty((len(points), net.architecture.num_classes), np.float32)
    for first in range(0, len(points), batch):
        corners = points[first : first + batch] - size // 2
        patches = np.stack([crop_window(ready, row, column, size) for row, column in corners])
        logits = net.forward(backend.asarray(patches, net.xp))[:, :, None, None]
        found[first : first + batch] = backend.to_numpy(softmax(logits)[0])[:, :, 0, 0]
    return found


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
    >>> net = UNet(base_channels=2, depth=1, task="classify")
    >>> classify(net, np.eye(40), 17).points[:3].tolist()
    [[8, 8], [8, 25], [8, 31]]
    """
    stride = size if stride is None else stride
    if stride < 1:
        raise InputError(f"stride: got {stride}, expected an integer >= 1")
    rows, columns = (middles(length, size, stride) for length in image.shape[:2])
    points = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    return Classification(points, classify_points(net, image, points, size))
