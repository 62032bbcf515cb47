"""What is in a synthetic electron micrograph: cells side by side, and their organelles."""

from __future__ import annotations

import numpy as np

from unet_np.data.fields import grains, power_diagram, scatter_discs, smooth_noise


def tessellation(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
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


def organelles(
    rng: np.random.Generator, regions: np.ndarray, radii: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """How much darker than cytoplasm: mitochondria, vesicles and tubules.

    `depth` is the distance to the cell's membrane.
    """
    shape = regions.shape
    inside = depth > 2
    dark = np.zeros(shape, np.float32)
    # Vesicles crowd in some of the cells, and in some parts of these.
    crowded = inside & (rng.random(len(radii)) < 0.35)[regions]
    crowded &= smooth_noise(rng, shape, 30) > -0.3
    dark += 75 * grains(rng, crowded, 0.005, 2.6, ring=0.9)
    dark += 65 * grains(rng, inside, 0.0016, 1.8)
    tubules = np.exp(-((smooth_noise(rng, shape, 16) / 0.09) ** 2))
    dark += 34 * tubules * inside * (smooth_noise(rng, shape, 40) > 0.5)
    # The deep pixels of each cell lie side by side in `places`.
    places = np.flatnonzero(depth > 9)
    places = places[np.argsort(regions.ravel()[places], kind="stable")]
    ends = np.cumsum(np.bincount(regions.ravel()[places], minlength=len(radii)))
    for cell in np.flatnonzero((radii > 24) & (rng.random(len(radii)) < 0.35)):
        own = places[ends[cell - 1] if cell else 0 : ends[cell]]
        _mitochondrion(rng, dark, inside, regions, own, radii[cell])
    return dark


def _mitochondrion(
    rng: np.random.Generator,
    dark: np.ndarray,
    inside: np.ndarray,
    regions: np.ndarray,
    places: np.ndarray,
    radius: float,
) -> None:
    """Paint one into `dark`, within its cell: a dark oval, striped by its cristae.

    `places` are the flat indices that its centre is drawn from.
    """
    draws = rng.random(6)
    if not places.size:
        return
    y0, x0 = np.unravel_index(places[int(draws[0] * places.size)], dark.shape)
    long = min(radius, 55) * (0.5 + 0.35 * draws[1])
    short = long * (0.55 + 0.4 * draws[2])
    reach = int(long + 6)
    window = tuple(
        slice(max(int(c) - reach, 0), min(int(c) + reach, n))
        for c, n in zip((y0, x0), dark.shape, strict=True)
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
    room = inside[window] & (regions[window] == regions[y0, x0])
    dark[window] = np.where(room, np.maximum(dark[window], painted), dark[window])
