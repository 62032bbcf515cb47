"""Pixel-wise soft-max and the weighted cross entropy of section 3 (eq. 1)."""

from __future__ import annotations

from typing import Any

from unet_np.backend import Array, array_module, empty, has_kernels
from unet_np.errors import InputError, one_of
from unet_np.ops import loss_cuda

REDUCTIONS = ("sum", "mean")


def softmax(logits: Array) -> tuple[Array, Array]:
    """p_k(x) = exp(a_k(x)) / sum over k' of exp(a_k'(x)), for each pixel x.

    The largest logit of the pixel is subtracted first; it cancels, and nothing overflows.

    Parameters
    ----------
    logits : array (B, K, H, W)
        a_k(x), "the activation in feature channel k at the pixel position x".

    Returns
    -------
    probabilities : array (B, K, H, W)
        Of the dtype of `logits`; they sum to 1 over the classes.
    cache : array
        The probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([1e4, 1e4, -1e4]).reshape(1, 3, 1, 1))[0].ravel()
    array([0.5, 0.5, 0. ])
    """
    xp = array_module(logits)
    probabilities = xp.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities, probabilities


def softmax_backward(grad_output: Array, cache: Array) -> Array:
    """dE/da_k = p_k (dE/dp_k - sum over k' of p_k' dE/dp_k').

    Parameters
    ----------
    grad_output : array (B, K, H, W)
        dE/dp.
    cache : array (B, K, H, W)
        From `softmax`.

    Returns
    -------
    array (B, K, H, W)
        dE/da.

    Examples
    --------
    >>> import numpy as np
    >>> p, cache = softmax(np.zeros((1, 2, 1, 1)))
    >>> softmax_backward(np.array([1.0, 0.0]).reshape(1, 2, 1, 1), cache).ravel()
    array([ 0.25, -0.25])
    """
    array_module(grad_output, cache)
    total = (grad_output * cache).sum(axis=1, keepdims=True)
    return cache * (grad_output - total)


def weighted_cross_entropy(
    logits: Array,
    labels: Array,
    weights: Array | None = None,
    reduction: str = "sum",
    ignore_label: int | None = None,
    check: bool = True,
) -> tuple[Any, Array]:
    """The energy of eq. 1 and its gradient.

    E = - sum over x of w(x) log p_l(x)(x)

    The paper prints eq. 1 without the minus sign; without it training would make the
    right class less probable. log p is taken from the logits, not from p, which keeps it
    finite at logits of +-1e4. The gradient is dE/da_k = w (p_k - [k = l]).

    Parameters
    ----------
    logits : array (B, K, H, W)
        Output of the network.
    labels : array of int (B, H, W)
        l(x), the true class of each pixel, 0 to K - 1.
    weights : array (B, H, W), optional
        w(x) of eq. 2; None is 1 everywhere.
    reduction : {"sum", "mean"}
        ``sum`` as in the paper; ``mean`` divides by the number of pixels that count, so
        that a learning rate fits every tile size.
    ignore_label : int, optional
        Pixels with this label count nothing.
    check : bool
        False leaves out the look at every label and weight, for which a GPU would have to
        stop and answer; for a training loop that has looked at them before.

    Returns
    -------
    loss : float of the dtype of `logits`
        E, an array of no dimension on the device of the logits.
    grad_logits : array (B, K, H, W)
        dE/dlogits.

    Raises
    ------
    InputError
        If shapes disagree, labels are no integers or outside the classes, weights are
        negative or not finite, or the reduction is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.zeros((1, 2, 1, 1))
    >>> loss, grad = weighted_cross_entropy(logits, np.array([[[1]]]), np.array([[[3.0]]]))
    >>> round(float(loss), 4), grad.ravel()
    (2.0794, array([ 1.5, -1.5]))
    """
    xp = array_module(logits, labels, *([] if weights is None else [weights]))
    _check_shapes(logits, labels, weights, reduction)
    if check:
        _check_values(labels, weights, logits.shape[1], ignore_label)
    if has_kernels(logits):
        return loss_cuda.weighted_cross_entropy(logits, labels, weights, reduction, ignore_label)
    counted = xp.ones(labels.shape, bool) if ignore_label is None else labels != ignore_label
    pixel_weights = counted.astype(logits.dtype)
    if weights is not None:
        # Not a product: an ignored pixel's weight may be anything.
        pixel_weights = xp.where(counted, weights, 0).astype(logits.dtype)
    if reduction == "mean":
        pixel_weights = pixel_weights / xp.maximum(counted.sum(), 1).astype(logits.dtype)
    classes = xp.arange(logits.shape[1])[:, None, None]
    one_hot = classes == xp.where(counted, labels, 0)[:, None]
    grad = empty(xp, logits.shape, logits.dtype)
    grad[...] = logits  # in planes: sums over few classes are then sums of long rows
    grad -= grad.max(axis=1, keepdims=True)
    log_p = xp.where(one_hot, grad, 0).sum(axis=1)
    xp.exp(grad, out=grad)
    total = grad.sum(axis=1, keepdims=True)
    log_p -= xp.log(total[:, 0])
    loss = -(pixel_weights * log_p).sum()
    grad /= total
    grad -= one_hot
    grad *= pixel_weights[:, None]
    return loss, grad


def _check_shapes(logits: Array, labels: Array, weights: Array | None, reduction: str) -> None:
    if logits.ndim != 4:
        raise InputError(f"logits: got shape {logits.shape}, expected (B, K, H, W)")
    expected = (logits.shape[0], *logits.shape[2:])
    if labels.shape != expected:
        raise InputError(f"labels: got shape {labels.shape}, expected {expected}")
    if labels.dtype.kind not in "iub":
        raise InputError(f"labels: got dtype {labels.dtype}, expected integers")
    if weights is not None and weights.shape != expected:
        raise InputError(f"weights: got shape {weights.shape}, expected {expected}")
    one_of("reduction", reduction, REDUCTIONS)


def _check_values(
    labels: Array, weights: Array | None, classes: int, ignore_label: int | None
) -> None:
    wrong = (labels < 0) | (labels >= classes)
    if ignore_label is not None:
        wrong &= labels != ignore_label
    if wrong.any():
        value = int(labels[wrong][0])
        nearest = min(max(value, 0), classes - 1)
        raise InputError(
            f"labels: got class {value}, expected 0 to {classes - 1}; nearest valid is {nearest}"
        )
    if weights is not None and not ((weights >= 0) & (weights < float("inf"))).all():
        raise InputError("weights: got a negative or not finite number, expected >= 0")
