"""Synthetic micrographs: the data that is always there.

Not a model of tissue or of optics: pictures that pose the paper's two problems. In the first
one (Sec. 4, Table 1) thin dark membranes must be found among texture that is as dark; in the
second one (Table 2) cells that touch must be kept apart by a few pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from unet_np.backend import STREAMS, default_rng
from unet_np.data.fields import borders, distance_to, smooth_noise
from unet_np.data.paint_cells import colony, contacts, dic, phase, relief
from unet_np.data.paint_em import organelles, tessellation
from unet_np.errors import InputError, integer, one_of

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
Size = int | tuple[int, int]

SMALLEST = 32
MODALITIES = ("dic", "phase")


def synthetic_em(size: Size = 512, seed: int = 0, index: int = 0) -> Triple:
    """An electron micrograph of tissue: membranes, cytoplasm, mitochondria, vesicles, noise.

    Cells are the power diagram of scattered discs of many sizes, its lines bent by smooth noise.
    Membranes vary in width and darkness; here and there they are cut obliquely, wide and grey.

    Parameters
    ----------
    size : int or (int, int)
        Height and width in pixels, at least 32. Nothing is scaled: a larger image holds more
        cells.
    seed, index : int
        Which image. The same numbers give the same image again.

    Returns
    -------
    image : numpy.ndarray
        (H, W), uint8.
    labels : numpy.ndarray
        (H, W), uint8: 0 = membrane, 1 = cell.
    instances : numpy.ndarray
        (H, W), uint16: 0 = membrane, each 4-connected region of class 1 a number of its own.

    Raises
    ------
    InputError
        If the size is below 32, or the seed or index is negative.

    Examples
    --------
    >>> image, labels, instances = synthetic_em(128, seed=3)
    >>> image.shape, image.dtype, np.unique(labels)
    ((128, 128), dtype('uint8'), array([0, 1], dtype=uint8))
    >>> bool((image[labels == 0].mean() < image[labels == 1].mean()))
    True
    """
    shape, rng = _prepare(size, seed, index)
    regions, radii = tessellation(rng, shape)
    depth = ndimage.gaussian_filter(distance_to(borders(regions)), 1)
    oblique = np.clip(smooth_noise(rng, shape, 45) - 1.3, 0, None)
    width = np.clip(2.6 + 0.6 * smooth_noise(rng, shape, 30), 1.7, 4.5) + 3 * oblique

    image = 168 + rng.normal(0, 9, len(radii)).astype(np.float32)[regions]
    image += 9 * smooth_noise(rng, shape, 6) + 12 * smooth_noise(rng, shape, 2.5)
    image -= organelles(rng, regions, radii, depth - width)
    darkness = 104 + 14 * smooth_noise(rng, shape, 35) - 22 * np.minimum(oblique, 1)
    image -= darkness * np.exp(-((depth / width) ** 2))

    image = ndimage.gaussian_filter(image, 0.8)
    image += 15 * ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 0.5) / 0.6
    image += 7 * smooth_noise(rng, shape, 160)
    labels = (depth > width).astype(np.uint8)
    return _finish(image, *_cells_of(labels, smallest=20))


def synthetic_cells(
    size: Size = 512,
    seed: int = 0,
    index: int = 0,
    modality: str = "dic",
    cell_size: float = 90,
) -> Triple:
    """A light micrograph of cells that touch, a few background pixels between them.

    Parameters
    ----------
    size : int or (int, int)
        Height and width in pixels, at least 32.
    seed, index : int
        Which image. The same numbers give the same image again.
    modality : {"dic", "phase"}
        Differential interference contrast (a relief lit from one side) or phase contrast (dark
        cells with a bright halo).
    cell_size : float
        Typical diameter of a cell in pixels, at least 12.

    Returns
    -------
    image : numpy.ndarray
        (H, W), uint8.
    labels : numpy.ndarray
        (H, W), uint8: 0 = background, 1 = cell.
    instances : numpy.ndarray
        (H, W), uint16: 0 = background, each cell a number of its own.

    Raises
    ------
    InputError
        If the size, the cell size or the modality is not as above, or the seed or index is
        negative.

    Examples
    --------
    >>> image, labels, instances = synthetic_cells(256, seed=3)
    >>> image.dtype, bool(((instances > 0) == (labels == 1)).all()), bool(instances.max() > 3)
    (dtype('uint8'), True, True)
    """
    one_of("modality", modality, MODALITIES)
    if not cell_size >= 12:
        raise InputError(f"cell_size: got {cell_size}, expected at least 12 pixels")
    shape, rng = _prepare(size, seed, index)
    owner, nuclei = colony(rng, shape, cell_size)
    gap = distance_to(contacts(owner)) <= 1.2 + 0.8 * np.abs(smooth_noise(rng, shape, 25))
    labels = ((owner > 0) & ~gap).astype(np.uint8)
    labels, instances = _cells_of(labels, smallest=0.1 * cell_size**2)
    height = relief(rng, owner, instances > 0, nuclei, cell_size)
    paint = dic if modality == "dic" else phase
    return _finish(paint(rng, height, instances > 0), labels, instances)


def synthetic_stack(
    make: Callable[..., Triple], count: int, size: Size = 512, seed: int = 0, first: int = 0
) -> Triple:
    """`count` images by `synthetic_em` or `synthetic_cells`, each independent of the others.

    Returns
    -------
    images, labels, instances : numpy.ndarray
        (N, H, W) each.

    Examples
    --------
    >>> images, labels, instances = synthetic_stack(synthetic_em, 2, size=64)
    >>> images.shape, bool((images[1] == synthetic_em(64, index=1)[0]).all())
    ((2, 64, 64), True)
    """
    integer("count", count, 1)
    made = [make(size, seed=seed, index=first + i) for i in range(count)]
    images, labels, instances = (np.stack(arrays) for arrays in zip(*made, strict=True))
    return images, labels, instances


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _prepare(size: Size, seed: int, index: int) -> tuple[tuple[int, int], np.random.Generator]:
    """Check what every generator is given; the shape and the random numbers."""
    shape = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(shape) != 2 or not all(_is_whole(n) and n >= SMALLEST for n in shape):
        raise InputError(
            f"size: got {size!r}, expected a number or (height, width) of at least {SMALLEST}"
        )
    integer("seed", seed, 0)
    integer("index", index, 0)
    rng = default_rng(np, (int(seed), STREAMS["synthetic"], int(index)))
    return (int(shape[0]), int(shape[1])), rng


def _finish(image: np.ndarray, labels: np.ndarray, instances: np.ndarray) -> Triple:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), labels, instances


def _cells_of(labels: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels without regions of fewer than `smallest` pixels, and their regions numbered."""
    numbers, _ = ndimage.label(labels)
    sizes = np.bincount(numbers.ravel())
    keep = sizes >= smallest
    keep[0] = False
    renumbered = np.where(keep, np.cumsum(keep), 0).astype(np.uint16)
    instances = renumbered[numbers]
    return (instances > 0).astype(np.uint8), instances
