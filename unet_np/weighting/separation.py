"""Separation borders: background between cells that touch (Sec. 3).

The paper says only that "the separation border is computed using morphological operations".
This project's choices: two cells touch where pixels of both lie within one 3 by 3 square, the
structuring element; cells in a mask are seeded by an erosion with a disk, and grow back from
their seeds by repeated dilation with the 4-neighbour cross, within the mask.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import scipy.ndimage

from unet_np import backend
from unet_np.backend import Array
from unet_np.errors import InputError
from unet_np.weighting.cell_distance import check_instances


def separate_touching(cells: Array, width: int = 1, radius: float = 3) -> Array:
    """Instance labels in which no two cells touch, not even at a corner.

    Parameters
    ----------
    cells : array, (H, W) or (N, H, W), integer or bool
        Integers are instance labels, 0 background. A bool array is a mask in which cells may
        touch: `cells_in_mask` cuts it into cells first. NumPy or CuPy; slices are independent.
    width : {1, 2}
        Pixels of background between cells that touched: see `separation_border`.
    radius : float, in pixels
        For masks only: see `cells_in_mask`.

    Returns
    -------
    array, int32
        `cells` with the separation border set to 0. A cell no wider than the border loses all
        its pixels. Labels do not change, so a cell may be in two parts afterwards.

    Raises
    ------
    InputError
        If `cells` is of another shape or type, `width` is not 1 or 2, or `radius` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> separate_touching(np.array([[1, 1, 1, 2, 2, 2]]))
    array([[1, 1, 1, 0, 2, 2]], dtype=int32)
    """
    xp = backend.array_module(cells)
    if cells.dtype.kind == "b":
        cells = cells_in_mask(cells, radius)
    border = separation_border(cells, width)
    return xp.where(border, 0, cells).astype(xp.int32)


def separation_border(instances: Array, width: int = 1) -> Array:
    """The pixels to take from cells so that no two touch.

    Parameters
    ----------
    instances : array, (H, W) or (N, H, W), integer
        0 is background, every other value one cell.
    width : {1, 2}
        2 takes every cell pixel with another cell in the 3 by 3 square around it, and so one
        pixel from each side. 1 takes it from the cell with the larger label only.

    Returns
    -------
    array, bool
        True at the border. Pixels that are background already are not part of it.

    Raises
    ------
    InputError
        If `instances` are not instance labels or `width` is not 1 or 2.

    Examples
    --------
    >>> import numpy as np
    >>> separation_border(np.array([[1, 1, 2, 2]]), width=2)
    array([[False,  True,  True, False]])
    """
    check_instances(instances)
    if width not in (1, 2):
        raise InputError(f"width: got {width}, expected 1 or 2 pixels")
    xp = backend.array_module(instances)
    labels = instances.astype(xp.int32)
    square = (1,) * (labels.ndim - 2) + (3, 3)
    # Background must not win the minimum.
    nothing = xp.iinfo(xp.int32).max
    filled = xp.where(labels == 0, nothing, labels)
    images = backend.ndimage(xp)
    border = images.minimum_filter(filled, size=square, mode="nearest") < labels
    if width == 2:
        border |= images.maximum_filter(labels, size=square, mode="nearest") > labels
    return border & (labels > 0)


def inside_and_rim(instances: np.ndarray, width: float = 2) -> np.ndarray:
    """Three classes from instances: background, and in each cell its inside and its rim.

    Cells that touch have two rims between their insides, of which each cell's inside can be told
    apart and grown back: see `unet_np.tasks.segmentation.cell_map`.

    Parameters
    ----------
    instances : numpy.ndarray, (H, W) or (N, H, W), integer
        0 is background, every other value one cell.
    width : float, in pixels
        A rim's pixels are no further than this from one that is not of the cell; the image's
        edge is none. In a cell that is not deep enough the rim is half as wide as it is deep, so
        that each has an inside.

    Returns
    -------
    numpy.ndarray, uint8
        0 background, 1 inside, 2 rim: positive exactly where `instances` is.

    Raises
    ------
    InputError
        If `instances` are not instance labels or `width` is less than 1.

    Examples
    --------
    >>> inside_and_rim(np.array([[0, 5, 5, 5, 7, 7, 7, 0]] * 9), 1)[4]
    array([0, 2, 1, 2, 2, 1, 2, 0], dtype=uint8)
    """
    check_instances(instances)
    if not width >= 1:
        raise InputError(f"rim: got {width:g}, expected a width of at least 1 pixel")
    classes = np.zeros(instances.shape, np.uint8)
    stack = (-1, *instances.shape[-2:])
    for cells, result in zip(instances.reshape(stack), classes.reshape(stack), strict=True):
        for number, box in enumerate(scipy.ndimage.find_objects(cells.astype(np.int32)), 1):
            if box is None:
                continue
            # One pixel more than the cell, where the image goes on.
            around = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
            own = cells[around] == number
            # Without anything else there is no distance to it.
            depth = own * np.inf if own.all() else scipy.ndimage.distance_transform_edt(own)
            inside = depth > min(width, depth.max() / 2)
            result[around][own] = np.where(inside[own], 1, 2)
    return classes


def cells_in_mask(mask: Array, radius: float = 3) -> Array:
    """Cut a mask into cells at its necks: erosion, labels, and growth back into the mask.

    The seeds are the 4-connected parts of the mask's erosion by a disk, less those that a disk
    one pixel larger deletes: these are the teeth of rough outlines. Seeds grow back by one
    pixel at a time, to the four neighbours and within the mask, so that where two meet is
    half-way between them. A part of the mask without a seed is a cell as it is.

    Parameters
    ----------
    mask : array, (H, W) or (N, H, W), bool
        True in cells. The image's edge does not erode.
    radius : float, in pixels
        Of the disk. Cells joined by a neck up to twice as wide are cut; 0 cuts nothing and
        gives the 4-connected parts, as the ISBI 2012 challenge counts cells. A cell whose
        own waist is as narrow is cut too, and cells that share a wide border are not.

    Returns
    -------
    array, int32
        Labels 1, 2, ... in each slice, 0 background: positive exactly where `mask` is True.

    Raises
    ------
    InputError
        If `mask` is not of type bool or of another shape, or `radius` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.ones((7, 11), bool)
    >>> mask[[0, 1, 2, 4, 5, 6], 5] = False
    >>> cells_in_mask(mask, radius=1)[3]
    array([1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2], dtype=int32)
    """
    xp = backend.array_module(mask)
    if mask.dtype.kind != "b" or mask.ndim not in (2, 3) or mask.size == 0:
        raise InputError(
            f"mask: got {mask.dtype} of shape {mask.shape}, expected bool (H, W) or (N, H, W)"
        )
    if not radius >= 0:
        raise InputError(f"radius: got {radius}, expected a number of pixels >= 0")
    slices = mask if mask.ndim == 3 else mask[None]
    return xp.stack([_cut(xp, one, radius) for one in slices]).reshape(mask.shape)


def grow_within(seeds: Array, mask: Array) -> Array:
    """Labels spread within a mask, one pixel at a time, to the four neighbours.

    Parameters
    ----------
    seeds : array, (H, W), integer
        0 where nothing is; other values are kept wherever they lie.
    mask : array, (H, W), bool
        Where they may spread. NumPy or CuPy, as `seeds`.

    Returns
    -------
    array
        Of the dtype of `seeds`. Where two labels arrive at once the larger one stays; a part of
        the mask without a seed stays 0.

    Raises
    ------
    InputError
        If the shapes differ or are not (H, W).

    Examples
    --------
    >>> import numpy as np
    >>> grow_within(np.array([[0, 1, 0, 0, 2, 0, 0]]), np.array([[1, 1, 1, 1, 1, 0, 1]], bool))
    array([[1, 1, 1, 2, 2, 0, 0]])
    """
    if seeds.ndim != 2 or seeds.shape != mask.shape:
        raise InputError(f"seeds: got shape {seeds.shape}, expected (H, W) as mask, {mask.shape}")
    xp = backend.array_module(seeds, mask)
    width = mask.shape[1] + 2
    grown = xp.pad(seeds, 1).ravel()
    free = xp.pad(mask, 1).ravel() & (grown == 0)
    steps = xp.asarray([-width, -1, 1, width])
    # Only from seeds with a free neighbour does anything spread.
    near = xp.zeros_like(free)
    for step in (-width, -1, 1, width):
        near |= xp.roll(free, step)
    front = xp.flatnonzero((grown != 0) & near)
    # Only the front is looked at, so that long thin cells cost no more than their pixels.
    while front.size:
        reached = (front[:, None] + steps).ravel()
        front = xp.unique(reached[free[reached]])
        arrived = grown[front[:, None] + steps].max(axis=1) if front.size else front
        grown[front] = arrived
        free[front] = False
    return grown.reshape(-1, width)[1:-1, 1:-1]


def _cut(xp: ModuleType, mask: Array, radius: float) -> Array:
    images = backend.ndimage(xp)
    # Without background there is no distance to it; the distance transform is undefined then.
    whole = radius == 0 or bool(mask.all())
    depth = mask if whole else images.distance_transform_edt(mask)
    seeds, count = images.label(mask if whole else depth > radius)
    if not whole:
        # The teeth of a rough outline survive the disk, but not one pixel more.
        seeds = _only(xp, seeds, seeds[depth > radius + 1])
    parts, _ = images.label(mask)
    seedless = mask & (parts != _only(xp, parts, parts[seeds > 0]))
    labels = xp.where(seedless, parts + count, seeds)
    return _renumbered(xp, grow_within(labels.astype(xp.int32), mask))


def _only(xp: ModuleType, labels: Array, chosen: Array) -> Array:
    """`labels` with those not in `chosen` set to 0."""
    keep = xp.zeros(int(labels.max()) + 1, bool)
    keep[chosen] = True
    return xp.where(keep[labels], labels, 0)


def _renumbered(xp: ModuleType, labels: Array) -> Array:
    used = xp.zeros(int(labels.max()) + 1, bool)
    used[labels] = True
    used[0] = False
    number = xp.where(used, xp.cumsum(used), 0)
    return number[labels].astype(xp.int32)
