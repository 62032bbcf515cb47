"""Grey values: of colour, whether they are finite, and the one normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unet_np.errors import InputError

# ITU-R BT.601: the weights of the eye's sensitivity that ImageJ and Pillow use as well.
_RED, _BLUE = 0.299, 0.114


def check_finite(array: np.ndarray, what: str) -> None:
    """Raise an `InputError` if a floating-point array holds NaN or infinity.

    Parameters
    ----------
    array : numpy.ndarray
        Of any shape and dtype.
    what : str
        How the message begins: the argument, the file.

    Examples
    --------
    >>> check_finite(np.array([1.0, np.nan]), "image")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: image holds 1 NaN or infinite value, the first at (1,), expected \
finite numbers
    """
    if array.dtype.kind not in "fc":
        return
    bad = ~np.isfinite(array)
    count = int(np.count_nonzero(bad))
    if count:
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
        values = "value" if count == 1 else "values"
        raise InputError(
            f"{what} holds {count} NaN or infinite {values}, the first at {first}, "
            "expected finite numbers"
        )


_ROWS = 256  # at a time
_LEAF = 2**18  # numbers that are added up at once


def to_grey(image: np.ndarray) -> np.ndarray:
    """One channel: the luma of ITU-R BT.601, Y = 0.299 R + 0.587 G + 0.114 B, not rounded.

    Where red, green and blue are the same everywhere, they are the grey values.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W), (H, W, 1 or 3 channels), (N, H, W) or (N, H, W, 1 or 3 channels). Arrays of three
        axes whose last one is 4 or less are read as colour.

    Returns
    -------
    numpy.ndarray
        (H, W) or (N, H, W): grey values in the dtype of `image`, luma in float32, or in float64
        where float32 would round.

    Raises
    ------
    InputError
        If `image` has another number of axes or of channels: two or four have no common grey.

    Examples
    --------
    >>> to_grey(np.array([[[250, 0, 0], [9, 9, 9]]], np.uint8)).tolist()
    [[74.75, 9.0]]
    """
    channels = image.shape[-1] if image.ndim in (3, 4) and image.shape[-1] <= 4 else None
    if image.ndim == 2 or (image.ndim == 3 and channels is None):
        return image
    if channels is None or channels == 0:
        raise InputError(
            f"image: got shape {image.shape}, expected (H, W), (H, W, 1 to 4 channels) or a stack "
            "(N, H, W)"
        )
    if channels in (2, 4):
        raise InputError(
            f"image: got {channels} channels, expected one, or red, green and blue; give one of "
            "them, or three, as an image of its own"
        )
    if (image == image[..., :1]).all():
        return image[..., 0]
    exact = image.dtype.itemsize < 3 or image.dtype == np.float32
    colours: np.ndarray = image.astype(np.float32 if exact else np.float64)
    green = colours[..., 1]
    # Differences, so that equal channels give their own value and not one that is rounded.
    red, blue = colours[..., 0] - green, colours[..., 2] - green
    return green + _RED * red + _BLUE * blue


def normalise(image: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, for each image by itself.

    The paper says nothing of its grey values. This makes a network indifferent to exposure, gain
    and bit depth: ``normalise(a * image + b)`` is ``normalise(image)`` for every a > 0.

    Parameters
    ----------
    image : numpy.ndarray
        Grey, (H, W) or with further axes in front; real numbers of any dtype.

    Returns
    -------
    numpy.ndarray
        float32, of the shape of `image`. A constant image becomes zeros.

    Raises
    ------
    InputError
        If `image` has fewer than two axes, is in colour, or holds NaN, infinity or complex
        numbers.

    Examples
    --------
    >>> normalise(np.array([[10, 20], [10, 20]], np.uint8))
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    if image.ndim < 2 or image.size == 0 or (image.ndim > 2 and image.shape[-1] <= 4):
        raise InputError(
            f"image: got shape {image.shape}, expected grey (H, W) or (..., H, W); to_grey makes "
            "grey from colour"
        )
    if image.dtype.kind not in "buif":
        raise InputError(f"image: got dtype {image.dtype}, expected real numbers")
    check_finite(image, "image")
    normalised = np.empty(image.shape, np.float32)
    for index in np.ndindex(image.shape[:-2]):
        plane = image[index]
        values = Normalisation.of(plane.__getitem__, plane.shape)
        for row in range(0, len(plane), _ROWS):
            normalised[index][row : row + _ROWS] = values(plane[row : row + _ROWS])
    return normalised


@dataclass(frozen=True)
class Normalisation:
    """What brings the grey values of an image to zero mean and unit variance.

    Attributes
    ----------
    largest, mean, spread : float
        The largest magnitude; mean and standard deviation after it was divided by.
    """

    largest: float
    mean: float
    spread: float

    @classmethod
    def of(cls, read: Callable[[slice], np.ndarray], shape: tuple[int, ...]) -> Normalisation:
        """That of an image, which is read a few rows at a time.

        Parameters
        ----------
        read : callable
            Gives rows, (rows, W).
        shape : tuple of int
            (H, W).

        Examples
        --------
        >>> image = np.array([[1, 4], [1, 4]], np.uint8)
        >>> Normalisation.of(lambda rows: image[rows], image.shape)
        Normalisation(largest=4.0, mean=0.625, spread=0.375)
        """
        height, width = shape
        step = max(1, _LEAF // width)
        largest = 0.0
        for row in range(0, height, step):
            values = read(slice(row, row + step)).astype(np.float64)
            largest = max(largest, float(values.max()), -float(values.min()))
        # Divided first, so that no square overflows and a constant image is exactly constant.
        largest = largest or 1.0

        def total(change: Callable[[np.ndarray], np.ndarray]) -> float:
            def part(start: int, stop: int) -> float:
                first = start // width
                rows = read(slice(first, -(-stop // width))).astype(np.float64)
                values = rows.ravel()[start - first * width : stop - first * width]
                return float(np.add.reduce(change(values / largest)))

            return _pairwise(part, 0, height * width)

        count = height * width
        mean = total(lambda values: values) / count
        rest = total(lambda values: values - mean) / count
        # As `numpy.std` has it.
        variance = total(lambda values: np.square(values - mean - rest)) / count
        return cls(largest, mean, float(np.sqrt(variance)) or 1.0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Grey values of any shape, normalised, float32."""
        ready = values.astype(np.float64)
        ready /= self.largest
        ready -= self.mean
        ready /= self.spread
        return ready.astype(np.float32)


def _pairwise(part: Callable[[int, int], float], start: int, stop: int) -> float:
    """The sum of numbers that lie in one row, as NumPy adds them up if it has them all.

    It halves what it adds, at a multiple of eight, and so on; `part` adds what one reading gives.
    """
    count = stop - start
    if count <= _LEAF:
        return part(start, stop)
    middle = start + count // 2 - count // 2 % 8
    return _pairwise(part, start, middle) + _pairwise(part, middle, stop)
