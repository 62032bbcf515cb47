"""The weight map of eq. 2: rare classes and narrow gaps between cells count for more.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

The paper gives w0 = 10 and sigma of about 5 pixels, and says that w_c "is the weight map to
balance the class frequencies". What it leaves open is decided here:

* ``w_c`` is the inverse class frequency, scaled to a mean of 1: N / (2 N_c) for N pixels, of
  which N_c are background or cell; where pixels are of K classes it is N / (K N_c) for each. The
  second term keeps to cells, which then are the connected parts of whatever is not background.
* The "border of the nearest cell" is the cell's nearest pixel: the distance is 0 inside, and 1
  in the background pixel beside the cell.
* The second term is added in the background only (``term="background"``). It is there "to force
  the network to learn the small separation borders", Fig. 3d shows it between cells, and the
  authors' later formula has it there. As printed, eq. 2 adds it everywhere (``term="everywhere"``):
  d1 is 0 in a cell, and so the cells' rims along a border weigh about as much as the border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType

from unet_np import backend
from unet_np.backend import Array
from unet_np.errors import InputError, one_of
from unet_np.weighting.cell_distance import bounded_distances, check_instances

DEFAULTS = {"paper": (10.0, 5.0), "falk2019": (50.0, 6.0)}
"""Each variant's w0 (lambda_sep in Falk et al. 2019) and sigma (sigma_sep) in pixels."""

TERMS = ("background", "everywhere")
"""Where the second term of eq. 2 is added."""

V_BAL, SIGMA_BAL = 0.1, 10.0
"""Weight of the far background in Falk et al. 2019, and how far (pixels) cells raise it."""

_NEGLIGIBLE = 1e-7  # what a pixel's weight may lack: a hundredth of the promised 1e-5


def weight_map(
    instances: Array,
    w0: float | None = None,
    sigma: float | None = None,
    variant: str = "paper",
    class_weights: Sequence[float] | None = None,
    term: str = "background",
    labels: Array | None = None,
) -> Array:
    """The loss weight of each pixel (eq. 2; Fig. 3d).

    Parameters
    ----------
    instances : array, (H, W) or (N, H, W), integer
        0 is background, every other value one cell. NumPy or CuPy. Cells that touch need
        `unet_np.weighting.separation.separate_touching` first, or no background is left to
        weigh. In a stack each slice has cells of its own, and the frequencies are those of the
        whole stack: the paper balances "the training data set".
    w0 : float, optional
        Largest value of the separation term: 10, or 50 for ``falk2019``.
    sigma : float, optional
        Its width in pixels: 5, or 6 for ``falk2019``.
    variant : {"paper", "falk2019"}
        ``paper`` is eq. 2 with this project's choices, which stand at the head of this module.
        ``falk2019`` is the authors' later formula, as their ImageJ plugin (Falk et al. 2019,
        Nature Methods 16:67) computes it: 1 in cells, and in the background
        ``v_bal + (1 - v_bal) exp(-d1^2 / (2 sigma_bal^2)) + w0 exp(-(d1 + d2)^2 / (2 sigma^2))``
        with ``v_bal`` 0.1 and ``sigma_bal`` 10 pixels.
    class_weights : sequence of float, optional
        w_c of background and of cells, or of each class of `labels`, to use the same for images
        that are not in one stack. For ``paper`` only; by default `balancing_weights`.
    term : {"background", "everywhere"}
        For ``paper``: where the second term of eq. 2 is added. Every pixel, as it is printed, or
        those of the background, which the network has to learn as borders.
    labels : array, of the shape of `instances`, optional
        For ``paper``: the class of each pixel, 0, 1, ..., where there are more than cell or not.

    Returns
    -------
    array, float32
        Of the shape of `instances`; within 1e-5 of the formula. Always positive and finite.
        With a single cell d2 is infinite and the separation term is 0. Without cells the map
        is 1 (``paper``, with its own w_c) or 0.1 (``falk2019``) everywhere.

    Raises
    ------
    InputError
        If `instances` are not instance labels, `w0` is negative, `sigma` or a class weight not
        positive, any of them not finite, a class without weight, or `variant` or `term` unknown.

    Notes
    -----
    The separation term is below 1e-7 and left out where ``d1 + d2`` is above
    ``sigma sqrt(2 ln(w0 / 1e-7))``, 30 pixels by default. The time therefore grows with pixels
    times sigma, up to the largest distance in the image, and not with the number of cells.

    Examples
    --------
    Two cells, two pixels apart: the gap weighs most.

    >>> import numpy as np
    >>> weight_map(np.array([[1, 1, 0, 0, 2, 2]])).round(2)
    array([[0.75, 0.75, 9.85, 9.85, 0.75, 0.75]], dtype=float32)
    >>> weight_map(np.array([[1, 1, 0, 0, 2, 2]]), term="everywhere").round(2)
    array([[8.01, 9.1 , 9.85, 9.85, 9.1 , 8.01]], dtype=float32)
    """
    check_instances(instances)
    w0, sigma = _checked_parameters(w0, sigma, variant)
    _check_term(term, variant)
    xp = backend.array_module(instances)
    slices = instances if instances.ndim == 3 else instances[None]
    if variant == "paper":
        if class_weights is None:
            class_weights = balancing_weights(
                instances if labels is None else labels, labels is None
            )
        classes = None if labels is None else labels.reshape(slices.shape)
        each = _checked_class_weights(class_weights, classes)
        maps = [
            _paper(xp, one, w0, sigma, each, term, None if classes is None else classes[number])
            for number, one in enumerate(slices)
        ]
    elif class_weights is not None:
        raise InputError("class_weights: got a value, expected None for variant 'falk2019'")
    else:
        maps = [_falk2019(xp, one, w0, sigma) for one in slices]
    return xp.stack(maps).reshape(instances.shape)


def balancing_weights(numbers: Array, cell_or_not: bool = True) -> tuple[float, ...]:
    """w_c of eq. 2 for each class: inverse frequency, with a mean of 1 over all pixels.

    N / (K N_c) for N pixels of K classes, of which N_c are of class c. A class that does not occur
    is none of the K, and has the weight 1; so has the only one that does.

    Parameters
    ----------
    numbers : array, integer or bool
        Of any shape; 0 is background.
    cell_or_not : bool
        Whether there are two classes, background and cell, and all but 0 is cell. Else each number
        is a class.

    Returns
    -------
    tuple of float
        Of background and cell, or of each class up to the highest.

    Examples
    --------
    A quarter of the pixels is background:

    >>> import numpy as np
    >>> balancing_weights(np.array([0, 1, 1, 2]))
    (2.0, 0.6666666666666666)
    >>> balancing_weights(np.array([0, 1, 2, 2]), cell_or_not=False)
    (1.3333333333333333, 1.3333333333333333, 0.6666666666666666)
    """
    xp = backend.array_module(numbers)
    if cell_or_not:
        cells = int(xp.count_nonzero(numbers))
        counts = [numbers.size - cells, cells]
    else:
        counts = [int(count) for count in xp.bincount(numbers.ravel())]
    occurring = sum(count > 0 for count in counts)
    return tuple(numbers.size / (occurring * count) if count else 1.0 for count in counts)


def separation_term(d1: Array, d2: Array, w0: float = 10, sigma: float = 5) -> Array:
    """The second term of eq. 2: ``w0 exp(-(d1 + d2)^2 / (2 sigma^2))``.

    Parameters
    ----------
    d1, d2 : array, float
        Distances in pixels, as from `unet_np.weighting.cell_distance.two_nearest_cells`.
    w0, sigma : float
        As in eq. 2; `sigma` in pixels.

    Returns
    -------
    array
        In the shape and dtype of `d1`; 0 at infinite distance.

    Examples
    --------
    >>> import numpy as np
    >>> separation_term(np.array([1.0]), np.array([np.inf]))
    array([0.])
    """
    xp = backend.array_module(d1, d2)
    return w0 * xp.exp(-((d1 + d2) ** 2) / (2 * sigma**2))


def _paper(
    xp: ModuleType,
    instances: Array,
    w0: float,
    sigma: float,
    class_weights: tuple[float, ...],
    term: str,
    labels: Array | None,
) -> Array:
    reach = _reach(w0, sigma)
    d1, d2 = bounded_distances(instances, reach / 2, reach)
    second = separation_term(d1, d2, w0, sigma)
    here = second if term == "everywhere" else 0
    if labels is not None:
        balance = xp.asarray(class_weights)[labels]
        return (balance + xp.where(instances > 0, here, second)).astype(xp.float32)
    background, cell = class_weights
    return xp.where(instances > 0, cell + here, background + second).astype(xp.float32)


def _falk2019(xp: ModuleType, instances: Array, w0: float, sigma: float) -> Array:
    d1, d2 = bounded_distances(instances, _reach(1 - V_BAL, SIGMA_BAL), _reach(w0, sigma))
    weights = V_BAL + (1 - V_BAL) * xp.exp(-(d1**2) / (2 * SIGMA_BAL**2))
    weights += separation_term(d1, d2, w0, sigma)
    return xp.where(instances > 0, 1, weights).astype(xp.float32)


def _reach(height: float, sigma: float) -> float:
    """Where a Gaussian of that height has become negligible."""
    return sigma * math.sqrt(2 * math.log(max(height / _NEGLIGIBLE, 1)))


def _checked_parameters(w0: float | None, sigma: float | None, variant: str) -> tuple[float, float]:
    one_of("variant", variant, DEFAULTS)
    w0 = DEFAULTS[variant][0] if w0 is None else w0
    sigma = DEFAULTS[variant][1] if sigma is None else sigma
    if not (w0 >= 0 and math.isfinite(w0)):
        raise InputError(f"w0: got {w0}, expected a finite number >= 0 (the paper has 10)")
    if not (sigma > 0 and math.isfinite(sigma)):
        raise InputError(f"sigma: got {sigma}, expected a finite number > 0 (the paper has 5)")
    return w0, sigma


def _check_term(term: str, variant: str) -> None:
    one_of("term", term, TERMS)
    if (variant, term) == ("falk2019", "everywhere"):
        raise InputError(f"term: got {term!r}, expected background for variant 'falk2019'")


def _checked_class_weights(
    weights: Sequence[float], labels: Array | None = None
) -> tuple[float, ...]:
    good = all(math.isfinite(weight) and weight > 0 for weight in weights)
    if labels is None and not (good and len(weights) == 2):
        raise InputError(
            f"class_weights: got {tuple(weights)}, expected two positive numbers, background and "
            "cell"
        )
    if labels is not None and not (good and len(weights) > int(labels.max())):
        raise InputError(
            f"class_weights: got {tuple(weights)}, expected a positive number for each of "
            f"{int(labels.max()) + 1} classes"
        )
    return tuple(weights)
