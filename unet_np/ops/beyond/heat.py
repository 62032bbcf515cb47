"""The loss of a detecting network: cross entropy of a heat map, smooth L1 of sizes; by hand."""

from __future__ import annotations

from typing import Any

from unet_np.backend import Array, array_module
from unet_np.errors import InputError

W0, BETA, SIZE_SHARE = 10.0, 0.1, 0.1


def sigmoid(logits: Array) -> Array:
    """p = 1 / (1 + exp(-a)), finite for every a.

    Parameters
    ----------
    logits : array
        Of any shape.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(np.array([-1e4, 0.0, 1e4]))
    array([0. , 0.5, 1. ])
    """
    xp = array_module(logits)
    # exp of a number that is never above 0 cannot overflow.
    small = xp.exp(-xp.abs(logits))
    return xp.where(logits >= 0, 1, small) / (1 + small)


def heat_cross_entropy(
    logits: Array, heat: Array, weights: Array | None = None, w0: float = W0
) -> tuple[Any, Array]:
    """Weighted cross entropy of a heat map, and its gradient.

    The energy of eq. 1 for two classes, where the truth y of a pixel is no class but a number
    from 0 to 1. With p = sigmoid(a), a pixel costs::

        -(1 + w0 y) (y log p + (1 - y) log(1 - p))

    and the loss is the mean over the pixels that count. It is least at p = y. Few pixels are near
    a centre; w0 makes them weigh as much as the many others, as in eq. 2. The gradient is
    dE/da = (1 + w0 y) (p - y), divided by the number of pixels.

    Parameters
    ----------
    logits : array (B, H, W)
        a, the network's first channel.
    heat : array (B, H, W)
        y, from 0 to 1.
    weights : array (B, H, W), optional
        Of each pixel, at least 0; one of weight 0 does not count.
    w0 : float
        At least 0.

    Returns
    -------
    loss : float of the dtype of `logits`
        An array of no dimension on the device of the logits.
    grad_logits : array (B, H, W)

    Raises
    ------
    InputError
        If shapes disagree or w0 is negative.

    Examples
    --------
    >>> import numpy as np
    >>> loss, grad = heat_cross_entropy(np.zeros((1, 1, 1)), np.ones((1, 1, 1)))
    >>> round(float(loss), 4), grad.item()
    (7.6246, -5.5)
    """
    xp = array_module(logits, heat, *([] if weights is None else [weights]))
    _check(logits, 3, "logits", "(B, H, W)")
    for name, array in (("heat", heat), ("weights", weights)):
        if array is not None and array.shape != logits.shape:
            raise InputError(f"{name}: got shape {array.shape}, expected {logits.shape}")
    if not w0 >= 0:
        raise InputError(f"w0: got {w0}, expected a number >= 0")
    y = heat.astype(logits.dtype)
    w = xp.ones_like(logits) if weights is None else weights.astype(logits.dtype)
    w = w * (1 + w0 * y) / xp.maximum((w > 0).sum(), 1).astype(logits.dtype)
    cost = y * log_sigmoid(logits) + (1 - y) * log_sigmoid(-logits)
    return -(w * cost).sum(), (w * (sigmoid(logits) - y)).astype(logits.dtype)


def log_sigmoid(logits: Array) -> Array:
    """log(1 / (1 + exp(-a))), without the loss of digits of taking the two one by one.

    Examples
    --------
    >>> import numpy as np
    >>> log_sigmoid(np.array([-1e4, 0.0, 1e4])).round(4) + 0.0
    array([-1.000e+04, -6.931e-01,  0.000e+00])
    """
    xp = array_module(logits)
    return xp.minimum(logits, 0) - xp.log1p(xp.exp(-xp.abs(logits)))


def smooth_l1(
    values: Array, targets: Array, weights: Array, beta: float = BETA
) -> tuple[Any, Array]:
    """Weighted mean of the smooth absolute difference, and its gradient.

    With d = values - targets, a number costs d^2 / (2 beta) where abs(d) < beta and
    abs(d) - beta / 2 elsewhere, so that its gradient, clip(d / beta, -1, 1), has no jump. The
    loss is the sum of weight times cost over the sum of the weights (0 if no weight is above 0).

    Parameters
    ----------
    values, targets : array (B, C, H, W)
        What the network gives and what it should give.
    weights : array (B, H, W)
        Of each pixel, at least 0.
    beta : float
        Above 0. Of logarithms, 0.1 is a difference of a tenth of the size.

    Returns
    -------
    loss : float of the dtype of `values`
    grad_values : array (B, C, H, W)

    Raises
    ------
    InputError
        If shapes disagree or beta is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> loss, grad = smooth_l1(np.full((1, 1, 1, 2), 0.3), np.zeros((1, 1, 1, 2)),
    ...                        np.array([[[1.0, 0.0]]]))
    >>> round(float(loss), 4), grad.ravel()
    (0.25, array([1., 0.]))
    """
    xp = array_module(values, targets, weights)
    _check(values, 4, "values", "(B, C, H, W)")
    if targets.shape != values.shape:
        raise InputError(f"targets: got shape {targets.shape}, expected {values.shape}")
    if weights.shape != (values.shape[0], *values.shape[2:]):
        expected = (values.shape[0], *values.shape[2:])
        raise InputError(f"weights: got shape {weights.shape}, expected {expected}")
    if not beta > 0:
        raise InputError(f"beta: got {beta}, expected a number > 0")
    total = weights.sum()
    w = (weights / xp.where(total > 0, total, 1)).astype(values.dtype)[:, None]
    difference = values - targets.astype(values.dtype)
    slope = xp.clip(difference / beta, -1, 1).astype(values.dtype)
    # One line for both branches: at |d| >= beta the slope is +-1.
    cost = slope * difference - beta / 2 * slope**2
    return (w * cost).sum(), w * slope


def detection_loss(
    outputs: Array,
    targets: Array,
    weights: Array,
    w0: float = W0,
    size_share: float = SIZE_SHARE,
) -> tuple[Any, Array]:
    """Cross entropy of the heat map plus smooth L1 of the logarithms of height and width.

    Parameters
    ----------
    outputs : array (B, 3, H, W)
        Of the network: logit of the heat, logarithms of height and width.
    targets : array (B, 3, H, W)
        Heat, logarithms of height and width (`unet_np.tasks.heat_map.targets`).
    weights : array (B, 2, H, W)
        Of the heat, and of the two sizes.
    w0 : float
        As in `heat_cross_entropy`.
    size_share : float
        What the second loss is multiplied by.

    Returns
    -------
    loss : float of the dtype of `outputs`
    grad_outputs : array (B, 3, H, W)

    Raises
    ------
    InputError
        If shapes disagree.

    Examples
    --------
    >>> import numpy as np
    >>> outputs, targets = np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 4, 4))
    >>> loss, grad = detection_loss(outputs, targets, np.ones((1, 2, 4, 4)))
    >>> round(float(loss), 3), grad.shape
    (0.693, (1, 3, 4, 4))
    """
    xp = array_module(outputs, targets, weights)
    if outputs.ndim != 4 or outputs.shape[1] != 3:
        raise InputError(f"outputs: got shape {outputs.shape}, expected (B, 3, H, W)")
    shape = (outputs.shape[0], 2, *outputs.shape[2:])
    for name, array, expected in (
        ("targets", targets, outputs.shape),
        ("weights", weights, shape),
    ):
        if array.shape != expected:
            raise InputError(f"{name}: got shape {array.shape}, expected {expected}")
    heat_loss, heat_grad = heat_cross_entropy(outputs[:, 0], targets[:, 0], weights[:, 0], w0)
    size_loss, size_grad = smooth_l1(outputs[:, 1:], targets[:, 1:], weights[:, 1])
    grad = xp.concatenate([heat_grad[:, None], size_share * size_grad], axis=1)
    return heat_loss + size_share * size_loss, grad.astype(outputs.dtype)


def _check(array: Array, dimensions: int, name: str, expected: str) -> None:
    if array.ndim != dimensions:
        raise InputError(f"{name}: got shape {array.shape}, expected {expected}")
