"""Data augmentation: smooth random deformations and all that goes with them (Sec. 3.1).

The paper generates "smooth deformations using random displacement vectors on a coarse 3 by 3
grid", drawn "from a Gaussian distribution with 10 pixels standard deviation", and needs "shift
and rotation invariance as well as robustness to deformations and gray value variations". Here
flip, rotation, shift and deformation are one field of coordinates, so that every pixel is
interpolated once. How much of each, save the deformation, is this project's choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from unet_np import backend
from unet_np.augmentation.warp import Placing, displacement_field, sample
from unet_np.backend import Array
from unet_np.errors import InputError


class _Draw(NamedTuple):
    """All that is random in one augmentation; tens of numbers, on the host."""

    vectors: np.ndarray
    angle: float
    shift: np.ndarray
    flip: np.ndarray
    brightness: float
    contrast: float
    gamma: float


@dataclass(frozen=True)
class Augmentation:
    """Random warps and grey values, the same for an image, its labels and its weight map.

    Attributes
    ----------
    sigma : float, in pixels
        Standard deviation of the displacement vectors' components. 0 is no deformation.
    grid : int
        Vectors along each axis of the coarse grid, which spans what is warped: the image, or
        the input tile.
    rotation : float, in degrees
        The angle is uniform between plus and minus this; 180 is any angle. About the centre.
    shift : float, in pixels
        Each axis is shifted by a uniform number between plus and minus this.
    flip : bool
        Whether to mirror each axis with probability 1/2.
    brightness : float
        What is added is uniform between plus and minus this, in standard deviations of the
        image: 0.2 is a fifth of one.
    contrast, gamma : float
        Contrast is multiplied by, and grey values between the darkest and the brightest are
        raised to, exp(u), with u uniform between plus and minus this.
    order : {1, 3}
        Interpolation of the image: 1 linear, 3 cubic B-spline. Labels are always nearest and
        weights linear, so that no label is invented and no weight is negative.

    Raises
    ------
    InputError
        If an attribute is negative, not finite or out of its range.

    Notes
    -----
    Past the border everything is mirrored, the edge pixel not repeated. Brightness, contrast
    and gamma are relative to the image's own values, so the same settings do for 8 bits, 16
    bits and normalised images; channels are varied alike. The random numbers for each setting
    are always drawn, so switching one off leaves the others as they were.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((64, 64), np.float32)
    >>> labels = (image > 0.5).astype(np.uint8)
    >>> warped, warped_labels, _ = Augmentation()(image, labels, rng=np.random.default_rng(1))
    >>> warped.dtype, warped_labels.dtype, warped.shape
    (dtype('float32'), dtype('uint8'), (64, 64))
    """

    sigma: float = 10.0
    grid: int = 3
    rotation: float = 180.0
    shift: float = 20.0
    flip: bool = True
    brightness: float = 0.2
    contrast: float = 0.2
    gamma: float = 0.2
    order: int = 3

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.grid, int | np.integer) or not 1 <= self.grid <= 1000:
            raise InputError(
                f"grid: got {self.grid!r}, expected an integer from 1 to 1000 (the paper has 3)"
            )
        if self.order not in (1, 3):
            raise InputError(
                f"order: got {self.order!r}, expected 1 or 3; nearest valid order is 3"
            )
        if not isinstance(self.flip, bool | np.bool_):
            raise InputError(f"flip: got {self.flip!r}, expected True or False")
        for name in ("sigma", "rotation", "shift", "brightness", "contrast", "gamma"):
            value = getattr(self, name)
            if not (isinstance(value, int | float | np.number) and 0 <= value < math.inf):
                raise InputError(f"{name}: got {value!r}, expected a finite number >= 0")
        if self.rotation > 180:
            raise InputError(
                f"rotation: got {self.rotation}, expected 0 to 180 degrees; nearest valid is 180"
            )

    @classmethod
    def off(cls) -> Augmentation:
        """All settings at nothing: the same image again, or exact crops of it.

        Examples
        --------
        >>> image = np.arange(6.0).reshape(2, 3)
        >>> Augmentation.off()(image, rng=np.random.default_rng(0))[0]
        array([[0., 1., 2.],
               [3., 4., 5.]])
        """
        nothing: dict[str, Any] = {entry.name: 0 for entry in fields(cls)}
        return cls(**nothing | {"flip": False, "grid": 3, "order": 1})

    def __call__(
        self,
        image: Array,
        labels: Array | None = None,
        weights: Array | None = None,
        rng: Any = None,
    ) -> tuple[Array, Array | None, Array | None]:
        """Warp a whole image, its labels and its weights alike.

        Parameters
        ----------
        image : array, (H, W) or (C, H, W)
            NumPy or CuPy. The pixels stay where they are.
        labels : array, (H, W), integer or bool, optional
            Classes or instances.
        weights : array, (H, W), optional
            At least 0.
        rng : numpy.random.Generator or cupy.random.Generator
            NumPy's gives the same warp on both backends.

        Returns
        -------
        image, labels, weights : array or None
            In the given shapes. Labels keep their dtype; images and weights of float64 keep
            it, others become float32.

        Raises
        ------
        InputError
            If shapes do not fit together, or `rng` is missing.
        """
        _check_arrays(image, labels, weights)
        draw = self._draw(rng)
        height, width = image.shape[-2:]
        places = self._coordinates(backend.array_module(image), draw, (height, width), (0, 0))
        return self._warp(image, labels, weights, draw, places, places)

    def tile(
        self,
        image: Array,
        labels: Array | None,
        weights: Array | None,
        input_size: int,
        output_size: int,
        rng: Any,
        whole: bool = False,
    ) -> tuple[Array, Array | None, Array | None]:
        """Cut a random tile for one training step, and warp no more than the tile.

        The output window lies anywhere in the image with equal probability; where the image is
        smaller than the window, the window holds all of it. The input tile is larger by the
        same margin on each side. What of both lies outside the image is mirrored (Fig. 2). The
        coarse grid spans the input tile, and rotation and flip are about its centre.

        Parameters
        ----------
        image : array, (H, W) or (C, H, W)
            NumPy or CuPy, of any size.
        labels : array, (H, W), integer or bool, optional
            Classes or instances.
        weights : array, (H, W), optional
            At least 0.
        input_size, output_size : int
            Sides of the network's input and output, which are centred on one another; for
            example 572 and 388.
        rng : numpy.random.Generator or cupy.random.Generator
            As in `__call__`.
        whole : bool
            Give labels and weights of the whole input tile, and 0 where it reaches beyond the
            image: for labels whose meaning depends on what lies around the output window.

        Returns
        -------
        image, labels, weights : array or None
            (input_size, input_size) or (C, input_size, input_size), then twice
            (output_size, output_size), or (input_size, input_size) if `whole`; dtypes as in
            `__call__`.

        Raises
        ------
        InputError
            If shapes do not fit together, `rng` is missing, or the sizes are not positive with
            an even difference.

        Examples
        --------
        >>> image = np.zeros((512, 512), np.float32)
        >>> rng = np.random.default_rng(0)
        >>> tile, labels, weights = Augmentation().tile(image, image > 0, image, 572, 388, rng)
        >>> tile.shape, labels.shape, weights.shape
        ((572, 572), (388, 388), (388, 388))
        """
        _check_arrays(image, labels, weights)
        margin = _margin(input_size, output_size)
        draw = self._draw(rng)
        free = np.array(image.shape[-2:]) - output_size
        # After the other random numbers, so that the same warp may be had at any size.
        corner = np.floor(_uniform(rng, 2) * (np.abs(free) + 1)) + np.minimum(free, 0)
        places = self._coordinates(
            backend.array_module(image), draw, (input_size, input_size), tuple(corner - margin)
        )
        inner = slice(None) if whole else slice(margin, margin + output_size)
        warped = self._warp(image, labels, weights, draw, places, places[:, inner, inner])
        if whole:
            inside = _inside(places, image.shape[-2:])
            for part in warped[1:]:
                if part is not None:
                    part *= inside
        return warped

    def coordinates(self, shape: tuple[int, int], rng: Any, xp: ModuleType = np) -> Array:
        """Where `__call__` reads each pixel of a (H, W) image, given a generator in that state.

        Parameters
        ----------
        shape : (int, int)
            H and W.
        rng : numpy.random.Generator or cupy.random.Generator
            As in `__call__`.
        xp : module, optional
            The library of the result.

        Returns
        -------
        array, (2, H, W), float64
            Row and column in pixels: what `unet_np.augmentation.warp.sample` and
            `scipy.ndimage.map_coordinates` take.

        Examples
        --------
        >>> from scipy.ndimage import map_coordinates
        >>> image = np.random.default_rng(0).random((50, 60), np.float32)
        >>> still = Augmentation(brightness=0, contrast=0, gamma=0)
        >>> field = still.coordinates((50, 60), np.random.default_rng(1))
        >>> warped = still(image, rng=np.random.default_rng(1))[0]
        >>> np.allclose(warped, map_coordinates(image, field, order=3, mode="mirror"), atol=1e-5)
        True
        """
        return self._coordinates(xp, self._draw(rng), shape, (0, 0))

    def _draw(self, rng: Any) -> _Draw:
        if not hasattr(rng, "standard_normal"):
            raise InputError(f"rng: got {type(rng).__name__}, expected a random generator")
        vectors = backend.to_numpy(rng.standard_normal((2, self.grid, self.grid))) * self.sigma
        signed = 2 * _uniform(rng, 6) - 1
        return _Draw(
            vectors=vectors,
            angle=math.radians(signed[0] * self.rotation),
            shift=signed[1:3] * self.shift,
            flip=np.where((_uniform(rng, 2) < 0.5) & bool(self.flip), -1.0, 1.0),
            brightness=float(signed[3]) * self.brightness,
            contrast=math.exp(signed[4] * self.contrast),
            gamma=math.exp(signed[5] * self.gamma),
        )

    def _coordinates(
        self, xp: ModuleType, draw: _Draw, shape: tuple[int, int], corner: tuple[float, ...]
    ) -> Array:
        """Where in the image each pixel of a window at `corner` is read: (2, height, width)."""
        centre = (np.array(shape) - 1) / 2
        offset = centre + corner + draw.shift
        placing = Placing(draw.angle, tuple(draw.flip), tuple(centre), tuple(offset))
        return displacement_field(shape, xp.asarray(draw.vectors), placing)

    def _warp(
        self,
        image: Array,
        labels: Array | None,
        weights: Array | None,
        draw: _Draw,
        places: Array,
        inner: Array,
    ) -> tuple[Array, Array | None, Array | None]:
        # Flips and whole shifts move pixels and must not blur them.
        exact = self.sigma == 0 and self.rotation == 0 and self.shift == 0
        warped = sample(_as_float(image), places, 0 if exact else self.order)
        if weights is not None:
            weights = sample(_as_float(weights), inner, 0 if exact else 1)
        if labels is not None:
            labels = sample(labels, inner, 0)
        return self._vary_grey_values(warped, draw), labels, weights

    def _vary_grey_values(self, image: Array, draw: _Draw) -> Array:
        """In place: the image is a fresh one, and a second would cost as much as the arithmetic."""
        if self.gamma == 0 and self.contrast == 0 and self.brightness == 0:
            return image
        xp = backend.array_module(image)
        axes = (-2, -1)
        if self.gamma > 0:
            low = image.min(axis=axes, keepdims=True)
            spread = image.max(axis=axes, keepdims=True) - low
            spread = xp.where(spread > 0, spread, 1).astype(image.dtype)
            image -= low
            image /= spread
            xp.power(image, draw.gamma, out=image)
            image *= spread
            image += low
        mean = image.mean(axis=axes, keepdims=True)
        image -= mean
        deviation = xp.sqrt((image * image).mean(axis=axes, keepdims=True))
        image *= draw.contrast
        image += mean + draw.brightness * deviation
        return image


def _inside(places: Array, shape: tuple[int, ...]) -> Array:
    """Which pixels are read within the image, half a pixel of its border included."""
    height, width = shape
    rows, columns = places
    low, high = (rows >= -0.5) & (columns >= -0.5), (rows < height - 0.5) & (columns < width - 0.5)
    return low & high


def _uniform(rng: Any, count: int) -> np.ndarray:
    return backend.to_numpy(rng.random(count))


def _as_float(array: Array) -> Array:
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def _margin(input_size: int, output_size: int) -> int:
    if output_size < 1 or input_size < output_size or (input_size - output_size) % 2:
        raise InputError(
            f"input_size, output_size: got {input_size}, {output_size}, expected an output of at "
            "least 1, no larger than the input and smaller by an even number"
        )
    return (input_size - output_size) // 2


def _check_arrays(image: Array, labels: Array | None, weights: Array | None) -> None:
    backend.array_module(*(a for a in (image, labels, weights) if a is not None))
    if image.ndim not in (2, 3) or image.size == 0:
        raise InputError(f"image: got shape {image.shape}, expected (H, W) or (C, H, W)")
    if image.dtype.kind not in "buif":
        raise InputError(f"image: got dtype {image.dtype}, expected real numbers")
    for name, array in (("labels", labels), ("weights", weights)):
        if array is not None and array.shape != image.shape[-2:]:
            raise InputError(
                f"{name}: got shape {array.shape}, expected that of the image, {image.shape[-2:]}"
            )
    if labels is not None and labels.dtype.kind not in "bui":
        raise InputError(f"labels: got dtype {labels.dtype}, expected integers or bool")
