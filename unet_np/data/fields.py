"""Smooth random fields and other brushes that the synthetic micrographs are painted with."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

# The root mean square of the cubic B-spline, squared: the spread of a field whose grid values
# have a spread of one.
_SPREAD = 0.4794


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """A random field of zero mean and unit variance that changes over about `scale` pixels.

    Normal numbers on a coarse grid, interpolated by cubic B-splines along one axis after the
    other.

    Examples
    --------
    >>> smooth_noise(np.random.default_rng(0), (30, 40), 8).shape
    (30, 40)
    """
    rows, columns = _spline(shape[0], scale), _spline(shape[1], scale)
    points = rows[0][-1] + 4, columns[0][-1] + 4
    grid = rng.standard_normal(points, dtype=np.float32) / np.float32(_SPREAD)
    return _interpolate(_interpolate(grid, *rows).T, *columns).T


def _spline(size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """(size,) first of the four grid points of each pixel, and (4, size) their weights."""
    place = np.arange(size) / scale
    first = place.astype(np.intp)
    t = place - first
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return first, np.stack(weights).astype(np.float32) / 6


def _interpolate(grid: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(points, columns) to (size, columns)."""
    # Sums of products, not a matrix product: its rounding depends on the machine's BLAS.
    out = grid[first] * weights[0][:, None]
    for i in (1, 2, 3):
        out += grid[first + i] * weights[i][:, None]
    return out


def scatter_discs(
    rng: np.random.Generator, shape: tuple[int, int], radii: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Throw discs, the largest first, and keep those that lie `spacing` radii from the others.

    Parameters
    ----------
    radii : numpy.ndarray
        One for each throw, pixels.
    spacing : float
        1 keeps discs that do not overlap; less lets them overlap.

    Returns
    -------
    centres, radii : numpy.ndarray
        (n, 2) and (n,). Centres reach one largest radius beyond the image.

    Examples
    --------
    >>> centres, radii = scatter_discs(np.random.default_rng(0), (50, 50), np.full(99, 9.0), 1)
    >>> bool(cKDTree(centres).query(centres, k=2)[0][:, 1].min() >= 18)
    True
    """
    radii = np.sort(radii)[::-1]
    margin = radii[0]
    thrown = rng.random((len(radii), 2)) * (np.array(shape) + 2 * margin) - margin
    kept = np.empty((len(radii), 3))
    count = 0
    for (y, x), radius in zip(thrown, radii, strict=True):
        others = kept[:count]
        reach = spacing * (others[:, 2] + radius)
        if not ((others[:, 0] - y) ** 2 + (others[:, 1] - x) ** 2 < reach**2).any():
            kept[count] = y, x, radius
            count += 1
    return kept[:count, :2], kept[:count, 2]


def power_diagram(centres: np.ndarray, radii: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each point the disc of least power distance, d^2 - r^2: a tessellation of cells whose
    size follows their radius.

    Lifted by one dimension, that is the nearest neighbour.

    Examples
    --------
    >>> centres = np.array([[0.0, 0.0], [0.0, 10.0]])
    >>> power_diagram(centres, np.array([8.0, 2.0]), np.array([[0.0, 6.0], [0.0, 9.0]]))
    array([0, 1])
    """
    height = np.sqrt(radii.max() ** 2 - radii**2)
    tree = cKDTree(np.column_stack([centres, height]))
    lifted = np.column_stack([points, np.zeros(len(points))])
    return tree.query(lifted)[1]


def borders(regions: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour belongs to another region, and that neighbour.

    Examples
    --------
    >>> borders(np.array([[1, 1, 2, 2]])).astype(int)
    array([[0, 1, 1, 0]])
    """
    found = np.zeros(regions.shape, bool)
    for axis in (0, 1):
        ahead = tuple(slice(1, None) if i == axis else slice(None) for i in (0, 1))
        behind = tuple(slice(None, -1) if i == axis else slice(None) for i in (0, 1))
        differs = regions[ahead] != regions[behind]
        found[ahead] |= differs
        found[behind] |= differs
    return found


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest one of `mask`; far away where there is none.

    Examples
    --------
    >>> distance_to(np.array([[True, False, False]]))
    array([[0., 1., 2.]], dtype=float32)
    """
    if not mask.any():
        return np.full(mask.shape, np.hypot(*mask.shape), np.float32)
    return ndimage.distance_transform_edt(~mask).astype(np.float32)


def grains(
    rng: np.random.Generator, where: np.ndarray, density: float, sigma: float, ring: float = 0
) -> np.ndarray:
    """Round spots of height about one, on a share `density` of the pixels of `where`.

    Parameters
    ----------
    sigma : float
        Size of a spot in pixels.
    ring : float
        0 for spots, 1 for rings with an empty middle.

    Examples
    --------
    >>> spots = grains(np.random.default_rng(0), np.ones((40, 40), bool), 0.01, 1.5)
    >>> bool(spots.max() > 0.9)
    True
    """
    seeds = (where & (rng.random(where.shape, dtype=np.float32) < density)).astype(np.float32)
    seeds *= rng.uniform(0.5, 1.5, where.shape).astype(np.float32)
    spots = ndimage.gaussian_filter(seeds, sigma) * np.float32(2 * np.pi * sigma**2)
    if ring:
        inner = sigma * 0.6
        spots -= ndimage.gaussian_filter(seeds, inner) * np.float32(ring * 2 * np.pi * inner**2)
        spots *= 2
    return spots
