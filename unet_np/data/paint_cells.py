"""What is in a synthetic light micrograph: colonies of cells, and two kinds of contrast."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from unet_np.data.fields import borders, distance_to, grains, scatter_discs, smooth_noise


def colony(
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


def contacts(owner: np.ndarray) -> np.ndarray:
    """Where two cells touch each other; their outlines against free ground do not count."""
    return borders(owner) & (owner > 0) & _next_to_another(owner)


def _next_to_another(owner: np.ndarray) -> np.ndarray:
    highest = ndimage.maximum_filter(owner, 3)
    lowest = ndimage.minimum_filter(np.where(owner > 0, owner, owner.max() + 1), 3)
    return highest != lowest


def relief(
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


def dic(rng: np.random.Generator, height: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The slope of the optical thickness along the shear, here from the upper left."""
    smooth = ndimage.gaussian_filter(height.astype(np.float32), 1)
    slope = ndimage.sobel(smooth, 0) + ndimage.sobel(smooth, 1)
    image = 128 - 26 * np.tanh(slope / 1.6) + 3 * smooth_noise(rng, height.shape, 150)
    return image + 2.6 * rng.standard_normal(height.shape, dtype=np.float32)


def phase(rng: np.random.Generator, height: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Thickness darkens; what it takes away comes back around the cell as its halo."""
    smooth = ndimage.gaussian_filter(height.astype(np.float32), 0.8)
    halo = ndimage.gaussian_filter(smooth, 7)
    image = 96 - 52 * (smooth - halo) - 6 * halo + 4 * smooth_noise(rng, height.shape, 150)
    image += np.where(cells, 0, 14 * np.exp(-distance_to(cells) / 2.5))
    return image + 3.2 * rng.standard_normal(height.shape, dtype=np.float32)
