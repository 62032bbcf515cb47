"""Contingency tables of the components of a label and of a proposal at each threshold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unet_np.metrics._inputs import BoolArray, FloatArray
from unet_np.metrics.components import components, contingency


def _objects(interior: BoolArray) -> NDArray[np.int32]:
    return components(interior)[0]


def tables_at(
    labels: BoolArray,
    proposals: NDArray[np.float32],
    thresholds: FloatArray,
    segment: Callable[[BoolArray], NDArray[np.int32]] = _objects,
) -> list[list[sparse.csr_array]]:
    """Cross the label's 4-connected components with the proposal's objects.

    Parameters
    ----------
    labels : bool (N, H, W)
    proposals : float32 (N, H, W)
    thresholds : float64 (T,)
        Interior where ``proposal > t`` in double precision.
    segment : callable
        Makes objects 1, 2, ... of a mask (H, W). Default: its 4-connected components.

    Returns
    -------
    list of list of scipy.sparse.csr_array
        ``[slice][threshold]``, see `contingency`.

    Examples
    --------
    >>> label, proposal = np.array([[[True, False]]]), np.array([[[0.9, 0.4]]], np.float32)
    >>> [table] = tables_at(label, proposal, np.array([0.3, 0.5]))
    >>> table[0].toarray().tolist(), table[1].toarray().tolist()
    ([[0, 1], [0, 1]], [[1, 0], [0, 1]])
    """
    tables = []
    for label, proposal in zip(labels, proposals, strict=True):
        cells = _objects(label)
        # NumPy would compare a float32 array with a Python float in float32.
        wide = proposal.astype(np.float64)
        tables.append([contingency(cells, segment(wide > threshold)) for threshold in thresholds])
    return tables
