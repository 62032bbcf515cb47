"""V_Rand and V_Info: the challenge's scores of 2015, after border thinning."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_np.errors import InputError
from unet_np.metrics._inputs import (
    Thresholds,
    check_binary,
    check_segmentation,
    check_thresholds,
)
from unet_np.metrics.components import components
from unet_np.metrics.isbi.information import InfoCurve, info_curve_from_tables
from unet_np.metrics.isbi.rand import RandCurve, rand_curve_from_tables
from unet_np.metrics.isbi.thresholds import CHALLENGE_THRESHOLDS
from unet_np.metrics.tables import tables_at

DAM = 0
UNVISITED = -1
# Pixels that wait in the queue and the ring round the image: both are passed over.
PASSED_OVER = -2


def thin_borders(interior: ArrayLike) -> NDArray[np.int32]:
    """Grow the components of a mask into the membrane until one-pixel dams part them.

    The 4-connected components of the interior are basins; the membrane is flooded from
    them through a first-in-first-out queue, which starts with the membrane pixels that
    touch a basin in column-major order. A pixel looks at its left, upper, right and lower
    neighbours as they are at that moment: where these hold one basin only it joins it,
    where they hold two or more, or dams only, it becomes a dam. So wide membranes, which
    people draw differently, weigh as little as thin ones.

    Parameters
    ----------
    interior : array_like of 0 and 1, (H, W)

    Returns
    -------
    int32 (H, W)
        Basin number 1, 2, ..., or 0 on dams. Without any interior the whole image is
        basin 1.

    Raises
    ------
    InputError
        If `interior` is not a two-dimensional mask.

    References
    ----------
    Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015.

    Examples
    --------
    >>> thin_borders([[1, 0, 0, 0, 1]]).tolist()
    [[1, 1, 0, 2, 2]]
    """
    mask = check_binary("interior", interior)[0]
    if np.ndim(interior) != 2:
        raise InputError(f"interior: got the shape {np.shape(interior)}, expected (H, W)")
    basins, count = components(mask)
    if count == 0:
        return np.ones(mask.shape, np.int32)
    # Transposed, so that the flat order is the column-major one of the queue.
    padded = np.pad(np.where(mask, basins, UNVISITED).T, 1, constant_values=PASSED_OVER)
    basin = padded > 0
    touches = np.zeros_like(basin)
    touches[1:-1, 1:-1] = basin[:-2, 1:-1] | basin[2:, 1:-1] | basin[1:-1, :-2] | basin[1:-1, 2:]
    queue = np.flatnonzero(touches & (padded == UNVISITED)).tolist()
    stride = padded.shape[1]
    padded.flat[queue] = PASSED_OVER
    # A list, because reading one element of an array is several times slower.
    values = padded.ravel().tolist()
    for p in queue:  # grows while it is read
        found = DAM
        meets = False
        for q in (p - stride, p - 1, p + stride, p + 1):
            value = values[q]
            if value == UNVISITED:
                values[q] = PASSED_OVER
                queue.append(q)
            elif value > 0 and value != found:
                meets = meets or found != DAM
                found = value
        values[p] = DAM if meets else found
    flooded = np.array(values, np.int32).reshape(padded.shape)
    return np.ascontiguousarray(flooded[1:-1, 1:-1].T)


def thinned_curves(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> tuple[RandCurve, InfoCurve]:
    """Rand and information scores at each threshold, after border thinning of the proposal.

    Thinning takes most of the time and serves both, hence the pair.

    Parameters
    ----------
    labels, proposals, thresholds
        As for `rand_curve`.

    Returns
    -------
    rand : RandCurve
    info : InfoCurve

    Raises
    ------
    InputError
        As `rand_curve`.

    Examples
    --------
    A membrane that is drawn too wide costs nothing.

    >>> rand, info = thinned_curves([[1, 1, 0, 1, 1]], [[1.0, 0.0, 0.0, 0.0, 1.0]], [0.5])
    >>> rand.fscore.tolist(), info.fscore.tolist()
    ([1.0], [1.0])
    """
    interior, probability = check_segmentation(labels, proposals)
    values = check_thresholds(thresholds, CHALLENGE_THRESHOLDS)
    tables = tables_at(interior, probability, values, thin_borders)
    return rand_curve_from_tables(values, tables), info_curve_from_tables(values, tables)


def v_rand(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> float:
    """Foreground-restricted Rand score V_Rand after border thinning (higher is better).

    The scores are those of `rand_curve` on the thinned proposal: with p_ij the share of
    interior pixels in cell i and object j, s_i the shares of the cells and t_j those of
    the objects,

    .. math:: V^{Rand} = \\frac{2 \\sum_{ij} p_{ij}^2}{\\sum_i s_i^2 + \\sum_j t_j^2}

    per slice; the mean over slices at the best threshold is the score. A slice whose label
    is membrane all over counts as 0 in it, as in the challenge's program. ``fscore`` of
    `thinned_curves` holds the version in which pairs are summed over slices first.

    Parameters
    ----------
    labels, proposals, thresholds
        As for `rand_curve`.

    Returns
    -------
    float
        In [0, 1]; 1 is perfect.

    Raises
    ------
    InputError
        As `rand_curve`.

    References
    ----------
    Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015.

    Examples
    --------
    Two cells of two pixels, joined: 2 * (1/4 + 1/4) / (1/4 + 1/4 + 1) = 2/3.

    >>> round(v_rand([[1, 1, 0, 1, 1]], [[1.0, 1.0, 1.0, 1.0, 1.0]]), 12)
    0.666666666667
    """
    return float(thinned_curves(labels, proposals, thresholds)[0].fscore_macro.max())


def v_info(
    labels: ArrayLike,
    proposals: ArrayLike,
    thresholds: Thresholds = None,
) -> float:
    """Information-theoretic score V_Info after border thinning (higher is better).

    With the mutual information I of label A and thinned proposal B over the interior
    pixels of the label, and their entropies H,

    .. math:: V^{Info} = \\frac{2\\, I(A; B)}{H(A) + H(B)}

    per slice; the mean over slices at the best threshold is the score. A slice whose label
    is membrane all over counts as 0 in it, as in the challenge's program.

    Parameters
    ----------
    labels, proposals, thresholds
        As for `rand_curve`.

    Returns
    -------
    float
        In [0, 1]; 1 is perfect. 0 for a label with one cell only.

    Raises
    ------
    InputError
        As `rand_curve`.

    References
    ----------
    Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015.

    Examples
    --------
    Two equal cells, H(A) = 1 bit. One wall too many cuts the first into pieces of 2, 1 and
    1 of the 8 pixels, the wall's pixel on its own: H(B) = 1.75 bits. They tell all of A, I = 1
    bit, and the score is 2 / 2.75.

    >>> round(v_info([[1, 1, 1, 1, 0, 1, 1, 1, 1]], [[1, 1, 0, 1, 0, 1, 1, 1, 1]]), 12)
    0.727272727273
    """
    return float(thinned_curves(labels, proposals, thresholds)[1].fscore.max())
