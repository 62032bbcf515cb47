"""Cells that touch, made of cells that do not: outlined cells are copied next to others.

Where the training images show no two cells that touch, nothing teaches a network to part them (the
first U373 sequence has no such pair, the second has eight). So an outlined cell, turned at random,
is moved towards another one until they touch, and a little further; it lies on top. It brings the
pixels around it along, which fade into the image, at the brightness that the background has there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np.data import Dataset
from unet_np.errors import InputError

HALO = 8
"""Pixels around a cell that come along."""

PAIRS = 3
"""Cells of an image that are given a neighbour, at most."""

DEEPEST = 2
"""Pixels by which a cell may be moved on after the first contact."""

_TRIES = 20
_HIDDEN = 0.15  # of either cell may be covered


@dataclass(frozen=True)
class _Patch:
    """A cell and its surroundings: (C, h, w), and masks (h, w) of the cell and of others."""

    image: np.ndarray
    mask: np.ndarray
    others: np.ndarray


def with_touching_cells(dataset: Dataset, copies: int, rng: Any) -> Dataset:
    """The images, and after them copies in which cells were brought together.

    Parameters
    ----------
    dataset : Dataset
        With instances; all images of one size.
    copies : int
        Of each image, each with other pairs.
    rng : numpy.random.Generator
        Decides which cells, turned how, and from where.

    Returns
    -------
    Dataset
        ``copies + 1`` times as long. A copied cell has a number of its own.

    Raises
    ------
    InputError
        If nothing says which pixel belongs to which cell, sizes differ, or no cell is outlined
        with `HALO` pixels of image around it.

    Examples
    --------
    >>> from unet_np.data import load
    >>> some = load("synthetic-cells", count=2, size=192)
    >>> more = with_touching_cells(some, 1, np.random.default_rng(0))
    >>> len(more), int(more.instances[2].max()) > int(some.instances[0].max())
    (4, True)
    """
    if dataset.instances is None or dataset.sizes:
        reason = "of several sizes" if dataset.sizes else "without instances"
        raise InputError(
            f"touching: got {dataset.name} {reason}, expected images of one size in which each "
            "cell has a number, or touching 0"
        )
    assert dataset.labels is not None
    patches = _patches(dataset.images, dataset.instances)
    if not patches:
        raise InputError(
            f"touching: got no cell with {HALO} pixels of image around it, expected one to copy, "
            "or touching 0"
        )
    parts = [dataset]
    for _ in range(copies):
        images, cells = dataset.images.copy(), dataset.instances.astype(np.int32)
        for n in range(len(dataset)):
            unknown = None if dataset.unknown is None else dataset.unknown[n]
            _crowd(images[n], cells[n], unknown, patches, rng)
        labels = (cells > 0).astype(dataset.labels.dtype)
        parts.append(replace(dataset, images=images, instances=cells, labels=labels))
    return _joined(parts)


def _joined(parts: list[Dataset]) -> Dataset:
    stacks: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("images", "labels", "instances", "unknown")
        if getattr(parts[0], name) is not None
    }
    first, count = parts[0], len(parts)
    ids = [f"{name}+{n}" if n else name for n in range(count) for name in first.ids]
    groups, frames = first.groups * count, first.frames * count
    return replace(first, **stacks, markers=None, ids=tuple(ids), groups=groups, frames=frames)


def _patches(images: np.ndarray, instances: np.ndarray) -> list[_Patch]:
    """All outlined cells that lie far enough inside."""
    found = []
    height, width = instances.shape[1:]
    for image, cells in zip(images, instances, strict=True):
        for number, box in enumerate(scipy.ndimage.find_objects(cells.astype(np.int32)), 1):
            if box is None:
                continue
            rows, columns = (slice(part.start - HALO, part.stop + HALO) for part in box)
            if min(rows.start, columns.start) < 0 or rows.stop > height or columns.stop > width:
                continue
            mask = cells[rows, columns] == number
            others = (cells[rows, columns] > 0) & ~mask
            part = image[..., rows, columns].astype(np.float32)
            found.append(_Patch(part.reshape(-1, *mask.shape), mask, others))
    return found


def _crowd(
    image: np.ndarray,
    cells: np.ndarray,
    unknown: np.ndarray | None,
    patches: list[_Patch],
    rng: Any,
) -> None:
    """Give up to `PAIRS` cells of one image a neighbour, in place."""
    numbers = np.unique(cells[cells > 0])
    for target in rng.permutation(numbers)[:PAIRS]:
        for _ in range(_TRIES):
            patch = _turned(patches[int(rng.integers(len(patches)))], rng)
            angle, deeper = 2 * np.pi * rng.random(), int(rng.integers(DEEPEST + 1))
            window = _beside(cells == target, patch.mask, angle, deeper)
            if window and _fits(cells, unknown, patch, window, int(target)):
                _paint(image, cells, patch, window, int(target))
                break


def _turned(patch: _Patch, rng: Any) -> _Patch:
    quarters, mirrored = int(rng.integers(4)), rng.random() < 0.5
    arrays = [np.rot90(a, quarters, (-2, -1)) for a in (patch.image, patch.mask, patch.others)]
    return _Patch(*[a[..., ::-1] if mirrored else a for a in arrays])


def _beside(
    target: np.ndarray, mask: np.ndarray, angle: float, deeper: int
) -> tuple[slice, slice] | None:
    """Where a mask stands that came from `angle` and met the target; None if outside."""
    (height, width), (down, across) = target.shape, mask.shape
    direction = np.array([np.sin(angle), np.cos(angle)])
    start = np.argwhere(target).mean(axis=0) - np.argwhere(mask).mean(axis=0)
    for distance in range(max(height, width), 0, -1):
        window = _window(start + distance * direction, mask.shape)
        rows, columns = window
        outside = min(rows.start, columns.start) < 0 or rows.stop > height or columns.stop > width
        if not outside and (target[window] & mask).any():
            # One step before the two overlap they touch.
            rows, columns = _window(start + (distance + 1 - deeper) * direction, mask.shape)
            if 0 <= rows.start <= height - down and 0 <= columns.start <= width - across:
                return rows, columns
            return None
    return None


def _window(corner: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    top, left = (round(float(value)) for value in corner)
    return slice(top, top + shape[0]), slice(left, left + shape[1])


def _fits(
    cells: np.ndarray,
    unknown: np.ndarray | None,
    patch: _Patch,
    window: tuple[slice, slice],
    target: int,
) -> bool:
    """Whether no third cell and nothing unknown is near, and little of the target is covered."""
    there = cells[window]
    near = scipy.ndimage.binary_dilation(patch.mask, iterations=HALO // 2)
    if (near & (there > 0) & (there != target)).any():
        return False
    if unknown is not None and (near & unknown[window]).any():
        return False
    hidden = np.count_nonzero(patch.mask & (there == target))
    smaller = min(np.count_nonzero(patch.mask), np.count_nonzero(cells == target))
    return bool(hidden <= _HIDDEN * smaller)


def _paint(
    image: np.ndarray,
    cells: np.ndarray,
    patch: _Patch,
    window: tuple[slice, slice],
    target: int,
) -> None:
    there, channels = cells[window], image.reshape(-1, *cells.shape)
    distance = scipy.ndimage.distance_transform_edt(~patch.mask)
    share = np.clip(1 - distance / HALO, 0, 1)
    # The target keeps its own rim, and what is another cell in the patch stays behind.
    on_target = (there == target) & ~patch.mask
    share = np.where(on_target, np.clip(1 - distance / 2, 0, 1), share)
    share = np.where(patch.others, 0, share)
    empty = (distance > HALO / 2) & ~patch.others & (there == 0)
    for old, new in zip(channels, patch.image, strict=True):
        here = old[window]
        shift = np.median(here[empty]) - np.median(new[empty]) if empty.any() else 0
        mixed = share * (new + shift) + (1 - share) * here
        here[...] = _in_range(mixed, image.dtype)
    there[patch.mask] = cells.max() + 1


def _in_range(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind not in "ui":
        return values
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max)
