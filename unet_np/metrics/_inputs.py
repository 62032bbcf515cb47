"""What every metric asks of its arguments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_np.errors import InputError

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Thresholds = float | Sequence[float] | FloatArray | None

# Probabilities that are sums or averages of float32 numbers may pass 1 by a few roundings.
ROUNDING = 1e-6


def short(value: object) -> str:
    """Give a value as text for a message of one line.

    Examples
    --------
    >>> short(np.eye(2))
    'array([[1., 0.], [0., 1.]])'
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def as_array(name: str, array: ArrayLike) -> NDArray:
    """Give `array` as an array of real numbers.

    Examples
    --------
    >>> as_array("labels", [[0, 1]]).dtype.kind
    'i'
    """
    try:
        numbers = np.asarray(array)
    except ValueError:
        raise InputError(
            f"{name}: got rows of unequal length, expected (H, W) or (N, H, W)"
        ) from None
    if numbers.dtype.kind not in "bfiu":
        raise InputError(f"{name}: got the dtype {numbers.dtype}, expected real numbers")
    return numbers


def as_slices(name: str, array: ArrayLike) -> NDArray:
    """Give `array` as (N, H, W); one slice (H, W) becomes (1, H, W).

    Examples
    --------
    >>> as_slices("labels", [[0, 1]]).shape
    (1, 1, 2)
    """
    slices = as_array(name, array)
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


NAMES = ("labels", "proposals")


def same_shape(labels: ArrayLike, proposals: ArrayLike, names: tuple[str, str] = NAMES) -> None:
    """Raise unless the two have the same shape."""
    expected, got = as_array(names[0], labels).shape, as_array(names[1], proposals).shape
    if expected != got:
        raise InputError(
            f"{names[1]}: got the shape {got}, expected that of {names[0]}, {expected}"
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
    labels: ArrayLike,
    proposals: ArrayLike,
    *,
    names: tuple[str, str] = NAMES,
) -> tuple[BoolArray, NDArray[np.float32]]:
    """Check the pair that the ISBI-2012 metrics compare.

    Parameters
    ----------
    labels : array_like, (H, W) or (N, H, W)
        0 = membrane, 1 = interior.
    proposals : array_like, same shape
        Probability of interior, in [0, 1].
    names : tuple of str
        What the caller's arguments are called, for messages.

    Returns
    -------
    labels : bool (N, H, W)
    proposals : float32 (N, H, W)

    Raises
    ------
    InputError
        For other shapes, labels or values, and for labels that are membrane all over in
        every slice.

    Examples
    --------
    >>> labels, proposals = check_segmentation([[0, 1]], [[0.2, 0.9]])
    >>> labels.shape, proposals.dtype
    ((1, 1, 2), dtype('float32'))
    """
    same_shape(labels, proposals, names)
    interior = check_binary(names[0], labels)
    probability = check_probabilities(names[1], proposals)
    if not interior.any():
        raise InputError(
            f"{names[0]}: got membrane (0) all over, expected at least one pixel of interior (1); "
            f"without one the error is undefined"
        )
    return interior, probability


def check_thresholds(
    thresholds: Thresholds, default: tuple[float, ...], name: str = "thresholds"
) -> FloatArray:
    """Give thresholds as float64 (T,); None means `default`, a number itself alone.

    Examples
    --------
    >>> check_thresholds(None, (0.0, 0.5)).tolist(), check_thresholds(0.3, ()).tolist()
    ([0.0, 0.5], [0.3])
    """
    if thresholds is None:
        return np.array(default)
    try:
        values = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
        raise InputError(
            f"{name}: got {short(thresholds)}, expected a number or a sequence of numbers in "
            f"[0, 1]; nearest valid: 0.5"
        )
    outside = (values < 0) | (values > 1)
    if outside.any():
        value = values[outside][0]
        raise InputError(
            f"{name}: got {value}, expected numbers in [0, 1], the range of the proposals; "
            f"nearest valid: {np.clip(value, 0, 1)}"
        )
    return values


def check_threshold(threshold: float) -> float:
    """Give one threshold as float.

    Examples
    --------
    >>> check_threshold(0)
    0.0
    """
    if threshold is None or np.ndim(threshold):
        raise InputError(
            f"threshold: got {short(threshold)}, expected one number in [0, 1]; nearest valid: 0.5"
        )
    return float(check_thresholds(threshold, (), "threshold")[0])


def check_annotated(annotated: ArrayLike | None, frames: int) -> BoolArray:
    """Give which frames have a reference as bool (N,); None means all.

    Examples
    --------
    >>> check_annotated(None, 2).tolist(), check_annotated([True, False], 2).tolist()
    ([True, True], [True, False])
    """
    if annotated is None:
        return np.ones(frames, bool)
    chosen = np.asarray(annotated)
    if chosen.shape != (frames,) or chosen.dtype != np.bool_:
        raise InputError(
            f"annotated: got the shape {chosen.shape} of {chosen.dtype}, expected one bool per "
            f"frame, ({frames},)"
        )
    return chosen


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
