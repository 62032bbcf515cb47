"""What every metric asks of its arguments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_np.errors import InputError

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Probabilities that are sums or averages of float32 numbers may pass 1 by a few roundings.
ROUNDING = 1e-6


def as_slices(name: str, array: ArrayLike) -> NDArray:
    """Give `array` as (N, H, W); one slice (H, W) becomes (1, H, W).

    Examples
    --------
    >>> as_slices("labels", [[0, 1]]).shape
    (1, 1, 2)
    """
    slices = np.asarray(array)
    if slices.ndim == 2:
        slices = slices[None]
    if slices.ndim != 3:
        raise InputError(
            f"{name}: got the shape {np.shape(array)}, expected (H, W) or (N, H, W); "
            f"nearest valid: one channel, without axes of length 1"
        )
    if slices.size == 0:
        raise InputError(f"{name}: got the shape {np.shape(array)}, expected at least one pixel")
    return slices


def same_shape(labels: ArrayLike, proposals: ArrayLike) -> None:
    """Raise unless the two have the same shape."""
    if np.shape(labels) != np.shape(proposals):
        raise InputError(
            f"proposals: got the shape {np.shape(proposals)}, "
            f"expected that of labels, {np.shape(labels)}"
        )


def check_binary(name: str, array: ArrayLike) -> BoolArray:
    """Give a mask of 0 and 1 (any dtype) as bool (N, H, W)."""
    slices = as_slices(name, array)
    if slices.dtype == np.bool_:
        return slices
    wrong = (slices != 0) & (slices != 1)
    if wrong.any():
        raise InputError(
            f"{name}: got the value {slices[wrong][0]}, expected 0 (membrane, background) and "
            f"1 (interior of a cell) only; nearest valid: {name} > 0"
        )
    return slices != 0


def check_probabilities(name: str, array: ArrayLike) -> NDArray[np.float32]:
    """Give probabilities in [0, 1] as float32 (N, H, W), the challenge's pixel type."""
    slices = as_slices(name, array)
    if slices.dtype.kind not in "bfiu":
        raise InputError(
            f"{name}: got the dtype {slices.dtype}, expected real numbers in [0, 1]; "
            f"nearest valid: float32"
        )
    nans = int(np.count_nonzero(np.isnan(slices)))
    if nans:
        raise InputError(
            f"{name}: got NaN at {nans} pixels, expected numbers in [0, 1]; "
            f"nearest valid: np.nan_to_num({name})"
        )
    low, high = slices.min(), slices.max()
    if low < -ROUNDING or high > 1 + ROUNDING:
        looks_like_bytes = slices.dtype.kind in "iu" and low >= 0 and high <= 255
        nearest = f"{name} / 255" if looks_like_bytes else f"np.clip({name}, 0, 1)"
        raise InputError(
            f"{name}: got values from {low} to {high}, expected probabilities in [0, 1]; "
            f"nearest valid: {nearest}"
        )
    return np.clip(slices.astype(np.float32), np.float32(0), np.float32(1))


def check_segmentation(
    labels: ArrayLike, proposals: ArrayLike, *, every_slice: bool
) -> tuple[BoolArray, NDArray[np.float32]]:
    """Check the pair that the ISBI-2012 metrics compare.

    Parameters
    ----------
    labels : array_like, (H, W) or (N, H, W)
        0 = membrane, 1 = interior.
    proposals : array_like, same shape
        Probability of interior, in [0, 1].
    every_slice : bool
        Whether each slice needs an interior pixel (the Rand index and the information
        are sums over interior pixels of one slice), or the stack as a whole.

    Returns
    -------
    labels : bool (N, H, W)
    proposals : float32 (N, H, W)

    Raises
    ------
    InputError
        For other shapes, labels or values, and for labels that are all membrane.

    Examples
    --------
    >>> labels, proposals = check_segmentation([[0, 1]], [[0.2, 0.9]], every_slice=True)
    >>> labels.shape, proposals.dtype
    ((1, 1, 2), dtype('float32'))
    """
    same_shape(labels, proposals)
    interior = check_binary("labels", labels)
    probability = check_probabilities("proposals", proposals)
    has_interior = interior.any(axis=(1, 2))
    if not has_interior.any() or (every_slice and not has_interior.all()):
        empty = int(np.flatnonzero(~has_interior)[0])
        raise InputError(
            f"labels: slice {empty} is all membrane (0), expected at least one pixel of "
            f"interior (1); without one the error is undefined"
        )
    return interior, probability


def check_thresholds(
    thresholds: Sequence[float] | FloatArray | None, default: tuple[float, ...]
) -> FloatArray:
    """Give thresholds as float64 (T,); None means the challenge's own."""
    if thresholds is None:
        return np.array(default)
    values = np.asarray(thresholds, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise InputError(
            f"thresholds: got {thresholds!r}, expected a sequence of finite numbers; "
            f"nearest valid: [0.5]"
        )
    return values


def check_instances(name: str, array: ArrayLike) -> NDArray:
    """Give an image of instance numbers (0 = background) as integers (N, H, W)."""
    slices = as_slices(name, array)
    if slices.dtype.kind not in "iu":
        raise InputError(
            f"{name}: got the dtype {slices.dtype}, expected whole numbers, one per object and 0 "
            f"for background; nearest valid: scipy.ndimage.label({name} > 0)[0], or "
            f"{name}.astype(int) if the values are instance numbers already"
        )
    if slices.min() < 0:
        raise InputError(
            f"{name}: got the instance number {slices.min()}, expected 0 (background) or more; "
            f"nearest valid: 0"
        )
    return slices
