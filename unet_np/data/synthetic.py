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
from unet_np.data.fields import (
    borders,
    distance_to,
    grains,
    power_diagram,
    scatter_discs,
    smooth_noise,
)
from unet_np.errors import InputError

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
    regions, radii = _tessellation(rng, shape)
    depth = ndimage.gaussian_filter(distance_to(borders(regions)), 1)
    oblique = np.clip(smooth_noise(rng, shape, 45) - 1.3, 0, None)
    width = np.clip(2.6 + 0.6 * smooth_noise(rng, shape, 30), 1.7, 4.5) + 3 * oblique

    image = 168 + rng.normal(0, 9, len(radii)).astype(np.float32)[regions]
    image += 9 * smooth_noise(rng, shape, 6) + 12 * smooth_noise(rng, shape, 2.5)
    image -= _organelles(rng, regions, radii, depth - width)
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
    if modality not in MODALITIES:
        raise InputError(f"modality: got {modality!r}, expected one of {', '.join(MODALITIES)}")
    if not cell_size >= 12:
        raise InputError(f"cell_size: got {cell_size}, expected at least 12 pixels")
    shape, rng = _prepare(size, seed, index)
    owner, nuclei = _colony(rng, shape, cell_size)
    gap = distance_to(_contacts(owner)) <= 1.2 + 0.8 * np.abs(smooth_noise(rng, shape, 25))
    labels = ((owner > 0) & ~gap).astype(np.uint8)
    labels, instances = _cells_of(labels, smallest=0.1 * cell_size**2)
    height = _relief(rng, owner, instances > 0, nuclei, cell_size)
    paint = _dic if modality == "dic" else _phase
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
    if not _is_whole(count) or count < 1:
        raise InputError(f"count: got {count!r}, expected an integer >= 1")
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
    for name, value in (("seed", seed), ("index", index)):
        if not _is_whole(value) or value < 0:
            raise InputError(f"{name}: got {value!r}, expected an integer >= 0")
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


# Electron micrographs


def _tessellation(
    rng: np.random.Generator, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) number of the cell of each pixel, and the radius of each cell."""
    throws = 60 + shape[0] * shape[1] // 180
    radii = np.minimum(11 + rng.exponential(9, throws), 75)
    centres, radii = scatter_discs(rng, shape, radii, 0.85)
    y, x = np.indices(shape, dtype=np.float32)
    bend = [
        22 * smooth_noise(rng, shape, 110)
        + 4.5 * smooth_noise(rng, shape, 22)
        + 0.8 * smooth_noise(rng, shape, 5)
        for _ in range(2)
    ]
    points = np.column_stack([(y + bend[0]).ravel(), (x + bend[1]).ravel()])
    return power_diagram(centres, radii, points).reshape(shape), radii


def _organelles(
    rng: np.random.Generator, regions: np.ndarray, radii: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """How much darker than cytoplasm: mitochondria, vesicles and tubules.

    `depth` is the distance to the cell's membrane.
    """
    shape = regions.shape
    inside, deep = depth > 2, depth > 9
    dark = np.zeros(shape, np.float32)
    # Vesicles crowd in some of the cells, and in some parts of these.
    crowded = inside & (rng.random(len(radii)) < 0.35)[regions]
    crowded &= smooth_noise(rng, shape, 30) > -0.3
    dark += 75 * grains(rng, crowded, 0.005, 2.6, ring=0.9)
    dark += 65 * grains(rng, inside, 0.0016, 1.8)
    tubules = np.exp(-((smooth_noise(rng, shape, 16) / 0.09) ** 2))
    dark += 34 * tubules * inside * (smooth_noise(rng, shape, 40) > 0.5)
    for cell in np.flatnonzero((radii > 24) & (rng.random(len(radii)) < 0.35)):
        _mitochondrion(rng, dark, inside, np.flatnonzero(deep & (regions == cell)), radii[cell])
    return dark


def _mitochondrion(
    rng: np.random.Generator,
    dark: np.ndarray,
    room: np.ndarray,
    places: np.ndarray,
    radius: float,
) -> None:
    """Paint one into `dark` where there is `room`: a dark oval, striped by its cristae.

    `places` are the flat indices that its centre is drawn from.
    """
    draws = rng.random(6)
    if not places.size:
        return
    y0, x0 = np.unravel_index(places[int(draws[0] * places.size)], room.shape)
    long = min(radius, 55) * (0.5 + 0.35 * draws[1])
    short = long * (0.55 + 0.4 * draws[2])
    reach = int(long + 6)
    window = tuple(
        slice(max(int(c) - reach, 0), min(int(c) + reach, n))
        for c, n in zip((y0, x0), room.shape, strict=True)
    )
    y, x = np.mgrid[window]
    sine, cosine = np.sin(np.pi * draws[3]), np.cos(np.pi * draws[3])
    u = (cosine * (y - y0) + sine * (x - x0)) / long
    v = (cosine * (x - x0) - sine * (y - y0)) / short
    wobble = smooth_noise(rng, u.shape, 12)
    edge = (1 + 0.08 * wobble - np.hypot(u, v)) * short
    body = 1 / (1 + np.exp(-2 * edge))
    stripes = np.sin(v * short * (0.9 + 0.4 * draws[4]) + 1.5 * wobble)
    rim = np.exp(-((edge / 1.5) ** 2))
    painted = body * (56 + 18 * stripes) + 26 * rim
    dark[window] = np.where(room[window], np.maximum(dark[window], painted), dark[window])


# Light micrographs


def _colony(
    rng: np.random.Generator, shape: tuple[int, int], cell_size: float
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) number of the cell of each pixel, 0 = none, and (H, W) height of the nuclei."""
    throws = 20 + int(12 * shape[0] * shape[1] / cell_size**2)
    radii = cell_size / 2 * rng.uniform(0.75, 1.35, throws)
    centres, radii = scatter_discs(rng, shape, radii, 0.78)
    # Colonies with free ground between them: a quarter of the cells is left out, side by side.
    ground = smooth_noise(rng, shape, 2.2 * cell_size)
    y, x = (np.clip(c, 0, n - 1).astype(int) for c, n in zip(centres.T, shape, strict=True))
    keep = ground[y, x] >= np.quantile(ground[y, x], 0.25)
    centres, radii = centres[keep], radii[keep]
    # Each cell takes its own part of one field of bumps, so that contacts bend too.
    widest = int(3.8 * radii[0]) + 2
    field = (2 * widest, 2 * widest)
    bumps = 0.09 * smooth_noise(rng, field, cell_size / 3.5)
    bumps += 0.035 * smooth_noise(rng, field, cell_size / 12)
    owner = np.zeros(shape, np.int32)
    nearest = np.full(shape, np.inf, np.float32)
    nuclei = np.zeros(shape, np.float32)
    for number, ((y0, x0), radius) in enumerate(zip(centres, radii, strict=True), 1):
        draws = rng.random(4)
        reach = int(1.9 * radius)
        window = tuple(slice(max(int(c) - reach, 0), max(int(c) + reach, 0)) for c in (y0, x0))
        y, x = np.indices(shape, sparse=True, dtype=np.float32)
        y, x = y[window[0]] - np.float32(y0), x[:, window[1]] - np.float32(x0)
        if not y.size or not x.size:
            continue
        stretch = 1 + 0.5 * draws[0]
        corner = (rng.random(2) * widest).astype(int)
        wobble = bumps[corner[0] :, corner[1] :][: y.size, : x.size]
        sine, cosine = np.sin(np.pi * draws[1]), np.cos(np.pi * draws[1])
        u, v = cosine * y + sine * x, cosine * x - sine * y
        away = np.hypot(u / stretch, v * stretch) / (1.08 * radius) + wobble
        mine = (away < 1) & (away < nearest[window])
        owner[window][mine] = number
        nearest[window][mine] = away[mine]
        shift = 0.25 * radius * (draws[2:] - 0.5)
        from_nucleus = np.hypot(u - shift[0], v - shift[1]) / (0.48 * radius) + wobble
        dome = 1 / (1 + np.exp(12 * (from_nucleus - 1)))
        nuclei[window][mine] = dome[mine]
    return owner, nuclei


def _contacts(owner: np.ndarray) -> np.ndarray:
    """Where two cells touch each other; their outlines against free ground do not count."""
    return borders(owner) & (owner > 0) & _next_to_another(owner)


def _next_to_another(owner: np.ndarray) -> np.ndarray:
    highest = ndimage.maximum_filter(owner, 3)
    lowest = ndimage.minimum_filter(np.where(owner > 0, owner, owner.max() + 1), 3)
    return highest != lowest


def _relief(
    rng: np.random.Generator,
    owner: np.ndarray,
    cells: np.ndarray,
    nuclei: np.ndarray,
    cell_size: float,
) -> np.ndarray:
    """(H, W) optical thickness: a dome for each cell, its nucleus, granules and texture."""
    shape = cells.shape
    depth = distance_to(~cells)
    height = 0.7 - 0.7 * np.exp(-depth / (0.07 * cell_size))
    height += 0.3 * nuclei
    cytoplasm = cells & (nuclei < 0.5)
    rough = 0.6 + 0.8 * rng.random(int(owner.max()) + 1)[owner]
    texture = 0.06 * smooth_noise(rng, shape, 4) + 0.035 * smooth_noise(rng, shape, 2)
    texture += 0.3 * grains(rng, cytoplasm, 0.006, 1.7)
    texture += 0.5 * grains(rng, cytoplasm, 0.0009, 2.6)
    texture += 0.4 * grains(rng, nuclei > 0.9, 0.001, 3.2)
    return height + texture * rough * np.minimum(depth / 3, 1)


def _dic(rng: np.random.Generator, height: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The slope of the optical thickness along the shear, here from the upper left."""
    smooth = ndimage.gaussian_filter(height.astype(np.float32), 1)
    slope = ndimage.sobel(smooth, 0) + ndimage.sobel(smooth, 1)
    image = 128 - 26 * np.tanh(slope / 1.6) + 3 * smooth_noise(rng, height.shape, 150)
    return image + 2.6 * rng.standard_normal(height.shape, dtype=np.float32)


def _phase(rng: np.random.Generator, height: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Thickness darkens; what it takes away comes back around the cell as its halo."""
    smooth = ndimage.gaussian_filter(height.astype(np.float32), 0.8)
    halo = ndimage.gaussian_filter(smooth, 7)
    image = 96 - 52 * (smooth - halo) - 6 * halo + 4 * smooth_noise(rng, height.shape, 150)
    image += np.where(cells, 0, 14 * np.exp(-distance_to(cells) / 2.5))
    return image + 3.2 * rng.standard_normal(height.shape, dtype=np.float32)
