"""Connected components and how those of two segmentations overlap."""

from __future__ import annotations

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
