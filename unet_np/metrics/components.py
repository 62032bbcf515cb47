"""Connected components and how those of two segmentations overlap."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from unet_np.metrics._inputs import BoolArray, IntArray

FOUR = ndimage.generate_binary_structure(2, 1)
EIGHT = ndimage.generate_binary_structure(2, 2)


def components(interior: BoolArray, connectivity: int = 4) -> tuple[NDArray[np.int32], int]:
    """Number the connected components of a mask 1, 2, ...; background is 0.

    Parameters
    ----------
    interior : bool (H, W)
    connectivity : {4, 8}

    Returns
    -------
    numbers : int32 (H, W)
    count : int

    Examples
    --------
    >>> components(np.array([[True, False], [False, True]]))[1]
    2
    >>> components(np.array([[True, False], [False, True]]), connectivity=8)[1]
    1
    """
    return ndimage.label(interior, structure=FOUR if connectivity == 4 else EIGHT)


def contingency(first: IntArray | NDArray, second: IntArray | NDArray) -> sparse.csr_array:
    """Count the pixels that have number i in `first` and j in `second`.

    Parameters
    ----------
    first, second : int arrays of one shape
        Numbers 0, 1, 2, ...

    Returns
    -------
    scipy.sparse.csr_array of int64, (first.max() + 1, second.max() + 1)
        Sparse, because most components never meet.

    Examples
    --------
    >>> contingency(np.array([1, 1, 2]), np.array([0, 1, 1])).toarray().tolist()
    [[0, 0], [1, 1], [0, 1]]
    """
    rows, columns = np.ravel(first), np.ravel(second)
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    ones = np.ones(rows.size, np.int64)
    return sparse.coo_array((ones, (rows, columns)), shape=shape).tocsr()


def renumbered(numbers: NDArray) -> NDArray[np.int32]:
    """Numbers 1, 2, ... in place of the values above 0; they may be as high as a colour's.

    Examples
    --------
    >>> renumbered(np.array([[7, 0, 16711680, 7]]))
    array([[1, 0, 2, 1]], dtype=int32)
    """
    values, places = np.unique(numbers, return_inverse=True)
    return np.cumsum(values > 0)[places].reshape(numbers.shape).astype(np.int32)


def one_region_each(masks: Iterable[NDArray], most: int = 64) -> float:
    """Of the values above 0, at most 64 in a mask, the share that is one connected region.

    It is about 1 where cells are numbered, and about 0 for classes and for grey values.

    Examples
    --------
    >>> one_region_each([np.array([[1, 1, 0, 2]])]), one_region_each([np.array([[1, 0, 1]])])
    (1.0, 0.0)
    """
    regions = []
    for mask in masks:
        numbers = renumbered(mask)
        places = ndimage.find_objects(numbers)
        for number in range(1, len(places) + 1, max(len(places) // most, 1)):
            region = numbers[places[number - 1]] == number
            regions.append(components(region, connectivity=8)[1] == 1)
    return float(np.mean(regions)) if regions else 0.0
