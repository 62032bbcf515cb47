"""What the operations are checked against: PyTorch in float64 and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from unet_np import backend


def relative_error(got: Any, expected: Any) -> float:
    """Largest difference, relative to the largest number expected."""
    got = backend.to_numpy(got)
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    assert got.shape == expected.shape
    if not expected.size:
        return 0.0
    scale = max(float(np.abs(expected).max()), np.finfo(np.float64).tiny)
    return float(np.abs(got - expected).max()) / scale


def leaf(array: np.ndarray) -> torch.Tensor:
    """A tensor with a copy of the array, whose gradient PyTorch will give."""
    return torch.from_numpy(np.array(array)).requires_grad_(True)


def directional_error(
    function: Callable[..., float],
    arrays: list[np.ndarray],
    grads: list[np.ndarray],
    seed: int,
    step: float = 1e-5,
) -> float:
    """Finite differences by random projection: along one random direction of all arrays.

    The derivative of E along v is <dE/dx, v>; central differences give it with an error of
    the order of step^2. Returned relative to the lengths of both.
    """
    rng = np.random.default_rng(seed)
    directions = [rng.normal(size=array.shape) for array in arrays]
    after = function(*[a + step * v for a, v in zip(arrays, directions, strict=True)])
    before = function(*[a - step * v for a, v in zip(arrays, directions, strict=True)])
    numeric = (after - before) / (2 * step)
    exact = sum(float((g * v).sum()) for g, v in zip(grads, directions, strict=True))
    length = np.sqrt(sum(float((g**2).sum()) for g in grads))
    return abs(numeric - exact) / max(length, 1e-12)
