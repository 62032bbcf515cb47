"""Images with what is known of them, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from unet_np.errors import InputError

_STACKS = ("labels", "instances", "markers", "unknown")


@dataclass(frozen=True, eq=False)
class Dataset:
    """N images and, where they are known, their labels and instances.

    The arrays are on the host, and the images are as stored: `unet_np.images.normalise` is for
    whoever feeds a network.

    Attributes
    ----------
    name : str
        The data set, one of `unet_np.data.NAMES`, or a name of your own.
    images : numpy.ndarray
        (N, H, W), grey, or (N, C, H, W) with C channels.
    labels : numpy.ndarray or None
        (N, H, W), uint8: the class of each pixel, 0 = membrane or background, 1 = cell.
    instances : numpy.ndarray or None
        (N, H, W), uint16: 0 = background, each cell a number of its own. This is what
        `unet_np.weighting.eq2.weight_map` takes.
    markers : numpy.ndarray or None
        (N, H, W), uint16: a spot in each cell, numbered as tracked (cell tracking sets only).
    unknown : numpy.ndarray or None
        (N, H, W), bool: pixels whose class nobody stated, because a cell there has a marker and
        no mask, or a frame has no mask at all. `labels` is 0 there. Their weight in a loss
        should be 0. None where everything is known.
    ids : tuple of str
        A name for each slice, unique in the data set.
    groups : tuple of str
        The sequence or the part that each slice belongs to, such as "01" or "train".
    frames : tuple of int
        The number of each slice in its group.
    sizes : tuple of (int, int)
        Height and width of each image, where they differ: it lies in the upper left corner, and
        the rest of its plane is `unknown`. Empty where all are (H, W).
    citation : str
        How to cite it.
    source : pathlib.Path or None
        The folder it was read from.
    note : str
        What a user should know: why `load` chose this data set, how masks were read.

    Examples
    --------
    >>> data = Dataset("mine", np.zeros((2, 8, 8), np.uint8))
    >>> len(data), data.ids, data.labels is None
    (2, ('0', '1'), True)
    >>> data.subset([1]).ids
    ('1',)
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    instances: np.ndarray | None = None
    markers: np.ndarray | None = None
    unknown: np.ndarray | None = None
    ids: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    citation: str = ""
    source: Path | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.images.ndim not in (3, 4) or self.images.size == 0:
            raise InputError(
                f"images: got shape {self.images.shape}, expected (N, H, W) or (N, C, H, W)"
            )
        expected = (len(self.images), *self.shape)
        for name in _STACKS:
            stack = getattr(self, name)
            if stack is not None and stack.shape != expected:
                raise InputError(
                    f"{name}: got shape {stack.shape}, expected {expected}, that of the images"
                )
        count = len(self.images)
        defaults: dict[str, tuple] = {
            "ids": tuple(str(i) for i in range(count)),
            "groups": (self.name,) * count,
            "frames": tuple(range(count)),
        }
        for name, default in defaults.items():
            value = tuple(getattr(self, name)) or default
            if len(value) != count:
                raise InputError(f"{name}: got {len(value)}, expected {count}, one for each image")
            object.__setattr__(self, name, value)
        if len(self.sizes) not in (0, count):
            raise InputError(f"sizes: got {len(self.sizes)}, expected {count}, one for each image")
        for height, width in self.sizes:
            if not (0 < height <= self.shape[0] and 0 < width <= self.shape[1]):
                raise InputError(f"sizes: got {(height, width)}, expected at most {self.shape}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images, of the largest where they differ."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def channels(self) -> int:
        """Channels of the images: 1 in grey ones."""
        return 1 if self.images.ndim == 3 else self.images.shape[1]

    @property
    def complete(self) -> np.ndarray:
        """(N,), bool: slices in which the class of every pixel is known.

        Examples
        --------
        >>> Dataset("mine", np.zeros((2, 8, 8))).complete
        array([False, False])
        """
        if self.labels is None:
            return np.zeros(len(self), bool)
        if self.unknown is None:
            return np.ones(len(self), bool)
        return np.asarray(~self.unknown.any(axis=(1, 2)))

    def subset(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """The slices of these indices, or those where a bool array is true.

        Raises
        ------
        InputError
            If an index is outside 0 to N - 1 or nothing is chosen.

        Examples
        --------
        >>> data = Dataset("mine", np.arange(12).reshape(3, 2, 2))
        >>> data.subset([2, 0]).ids, data.subset(np.array([True, False, True])).ids
        (('2', '0'), ('0', '2'))
        """
        chosen = np.asarray(indices)
        if chosen.dtype == bool and chosen.shape == (len(self),):
            chosen = np.flatnonzero(chosen)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
            raise InputError(
                f"indices: got {indices!r}, expected at least one index from 0 to {len(self) - 1}"
            )
        outside = chosen[(chosen < 0) | (chosen >= len(self))]
        if outside.size:
            raise InputError(f"indices: got {outside[0]}, expected 0 to {len(self) - 1}")
        changes: dict = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                changes[field.name] = value[chosen]
            elif isinstance(value, tuple) and value:
                changes[field.name] = tuple(value[i] for i in chosen)
        return replace(self, **changes)

    def group(self, name: str) -> Dataset:
        """The slices of one group, such as sequence "01".

        Raises
        ------
        InputError
            If there is no such group.

        Examples
        --------
        >>> data = Dataset("mine", np.zeros((3, 2, 2)), groups=("01", "01", "02"))
        >>> len(data.group("01"))
        2
        """
        inside = np.array([group == name for group in self.groups])
        if not inside.any():
            known = ", ".join(dict.fromkeys(self.groups))
            raise InputError(f"group: got {name!r}, expected one of {known}")
        return self.subset(inside)

    def summary(self) -> str:
        """A few lines for people: what there is and how much of it.

        Examples
        --------
        >>> print(Dataset("mine", np.zeros((2, 8, 9), np.uint8)).summary())
        mine: 2 images of 8 x 9, uint8, 0 to 0, mean 0.0
        labels: none
        """
        height, width = self.shape
        images = self.images
        lines = [
            f"{self.name}: {len(self)} images of {height} x {width}, {images.dtype}, "
            f"{images.min()} to {images.max()}, mean {images.mean():.1f}"
        ]
        if self.labels is None:
            lines.append("labels: none")
        else:
            shares = np.bincount(self.labels.ravel()) / self.labels.size
            text = ", ".join(f"class {i} {share:.1%}" for i, share in enumerate(shares))
            lines.append(f"labels: {text}")
        if self.instances is not None:
            cells = sum(np.unique(one[one > 0]).size for one in self.instances)
            lines.append(f"instances: {cells}")
        if self.unknown is not None:
            lines.append(
                f"unknown: {self.unknown.mean():.1%} of the pixels, of which "
                f"{int((~self.complete).sum())} images have some"
            )
        if len(set(self.groups)) > 1:
            counts = {group: self.groups.count(group) for group in dict.fromkeys(self.groups)}
            lines.append("groups: " + ", ".join(f"{k} ({v})" for k, v in counts.items()))
        if self.source is not None:
            lines.append(f"source: {self.source}")
        return "\n".join(lines)


def blocks(count: int, breaks: Sequence[int] = (10, 26)) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cross-validation over contiguous blocks: (training indices, held-out indices) of each fold.

    Neighbouring slices resemble each other, so a random split would test on what was trained on.
    The default breaks are where neighbours of the ISBI 2012 stack resemble each other least: their
    correlation is 0.14 at 9|10 and 0.20 at 25|26, and 0.3 to 0.6 elsewhere.

    Parameters
    ----------
    count : int
        Number of slices.
    breaks : sequence of int
        The first slice of each block but the first one, ascending.

    Raises
    ------
    InputError
        If the breaks do not ascend from 1 to `count` - 1.

    Examples
    --------
    >>> [(len(train), len(test), int(test[0])) for train, test in blocks(30)]
    [(20, 10, 0), (14, 16, 10), (26, 4, 26)]
    """
    edges = [0, *breaks, count]
    if len(edges) < 3 or any(a >= b for a, b in pairwise(edges)):
        raise InputError(
            f"breaks: got {tuple(breaks)}, expected at least one, ascending from 1 to {count - 1}"
        )
    slices = np.arange(count)
    held_out = [slices[a:b] for a, b in pairwise(edges)]
    return [(np.setdiff1d(slices, test), test) for test in held_out]
