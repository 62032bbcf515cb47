"""Intersection over union and Dice coefficient of two masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from unet_np.errors import InputError
from unet_np.metrics._inputs import (
    check_binary,
    check_probabilities,
    check_threshold,
    same_shape,
)


def overlap_counts(
    labels: ArrayLike, proposals: ArrayLike, threshold: float = 0.5
) -> tuple[int, int, int]:
    """Count the pixels of both masks, of the label and of the proposal.

    Parameters
    ----------
    labels : array_like, (H, W) or (N, H, W)
        0 = background, 1 = foreground.
    proposals : array_like, same shape
        A mask, or probabilities in [0, 1]; foreground where ``proposal > threshold``.
    threshold : float

    Returns
    -------
    both, label, proposal : int
        Over all slices.

    Raises
    ------
    InputError
        If shapes differ or values are not those above.

    Examples
    --------
    >>> overlap_counts([[1, 1, 0]], [[0.1, 0.7, 0.8]])
    (1, 2, 2)
    """
    same_shape(labels, proposals)
    mask = check_binary("labels", labels)
    value = check_threshold(threshold)
    proposed = check_probabilities("proposals", proposals).astype(np.float64) > value
    both = int(np.count_nonzero(mask & proposed))
    return both, int(np.count_nonzero(mask)), int(np.count_nonzero(proposed))


def _check_label(label: int) -> None:
    # As in every other metric: without an object there is nothing that could be found.
    if label == 0:
        raise InputError(
            "labels: got background (0) all over, expected at least one pixel of foreground (1); "
            "without one the overlap is undefined"
        )


def iou(labels: ArrayLike, proposals: ArrayLike, threshold: float = 0.5) -> float:
    """Intersection over union (Jaccard index) of two masks.

    .. math:: IoU = \\frac{|A \\cap B|}{|A \\cup B|}

    over all pixels of all slices. For the "IOU" of the U-Net paper's Table 2, which is
    taken object by object, see `seg_measure`.

    Parameters
    ----------
    labels, proposals, threshold
        As for `overlap_counts`.

    Returns
    -------
    float
        In [0, 1]; 1 is perfect.

    Raises
    ------
    InputError
        As `overlap_counts`, and if the labels have no foreground.

    Examples
    --------
    >>> round(iou([[1, 1, 0]], [[0, 1, 1]]), 12)
    0.333333333333
    """
    both, label, proposal = overlap_counts(labels, proposals, threshold)
    _check_label(label)
    return both / (label + proposal - both)


def dice(labels: ArrayLike, proposals: ArrayLike, threshold: float = 0.5) -> float:
    """Dice coefficient of two masks.

    .. math:: Dice = \\frac{2 |A \\cap B|}{|A| + |B|} = \\frac{2\\, IoU}{1 + IoU}

    Parameters
    ----------
    labels, proposals, threshold
        As for `overlap_counts`.

    Returns
    -------
    float
        In [0, 1]; 1 is perfect.

    Raises
    ------
    InputError
        As `overlap_counts`, and if the labels have no foreground.

    Examples
    --------
    >>> dice([[1, 1, 0]], [[0, 1, 1]])
    0.5
    """
    both, label, proposal = overlap_counts(labels, proposals, threshold)
    _check_label(label)
    return 2 * both / (label + proposal)
