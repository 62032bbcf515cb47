"""Deformation of a label towards a proposal that leaves its topology as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_np.errors import InputError
from unet_np.metrics._inputs import BoolArray, FloatArray, check_segmentation, check_threshold
from unet_np.metrics.isbi.mismatches import NEIGHBOURS


def is_simple_point(neighbours: Sequence[int]) -> bool:
    """Whether flipping a pixel leaves the topology of both phases as it is.

    Foreground is 4-connected, background 8-connected. With the neighbours x_0 ... x_7
    numbered round the pixel from east, the number of 4-connected groups of foreground
    that touch it by an edge is

    .. math:: \\sum_{k \\in \\{0, 2, 4, 6\\}} (x_k - x_k x_{k+1} x_{k+2})

    (indices modulo 8), and the pixel is simple when that is 1. Its own value plays no part.

    Parameters
    ----------
    neighbours : sequence of eight 0 or 1
        East, north-east, north, ... round the pixel.

    Returns
    -------
    bool

    References
    ----------
    Jain et al., "Boundary learning by optimization with topological constraints",
    CVPR 2010.

    Examples
    --------
    A pixel at the end of a line is simple, one in the middle of it is not.

    >>> is_simple_point([1, 0, 0, 0, 0, 0, 0, 0]), is_simple_point([1, 0, 0, 0, 1, 0, 0, 0])
    (True, False)
    """
    x = neighbours
    groups = sum(x[k] - x[k] * x[k + 1] * x[(k + 2) % 8] for k in (0, 2, 4, 6))
    return groups == 1


# Indexed by a neighbourhood as eight bits, bit k for neighbour k.
SIMPLE = bytes(is_simple_point([(code >> k) & 1 for k in range(8)]) for code in range(256))


def _neighbourhoods(padded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The eight neighbours of each pixel as bits; the outermost ring stays 0."""
    height, width = padded.shape
    codes = np.zeros_like(padded)
    for bit, (dy, dx) in enumerate(NEIGHBOURS):
        moved = padded[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]
        codes[1:-1, 1:-1] |= moved << bit
    return codes


def _visiting_order(
    mismatch: BoolArray, probability: FloatArray, threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Mismatches (y, x): surest proposal first, equal ones in column-major order."""
    x, y = np.nonzero(mismatch.T)
    # The challenge's program stores this distance as a 32-bit float: near ties are ties.
    sureness = np.abs(probability[y, x] - threshold).astype(np.float32)
    order = np.argsort(-sureness, kind="stable")
    return y[order], x[order]


def warp_slice(label: BoolArray, probability: FloatArray, threshold: float) -> BoolArray:
    """Warp one slice.

    The definition is in passes: visit all mismatches in order, flip each that is simple at
    that moment, and begin again until a pass flips nothing. Target and keys are fixed, so
    each pass keeps the order of the first. A mismatch that was not simple when visited
    is not simple later either unless a neighbour was flipped since; so only such need a
    visit. `due` marks them by their place in the order, and a sweep over `due` is a pass: a
    flip marks neighbours behind it for this pass and those before it for the next.
    """
    target = probability > threshold
    y, x = _visiting_order(label != target, probability, threshold)
    count = len(y)
    if count == 0:
        return label.copy()
    padded = np.pad(label.astype(np.uint8), 1)
    codes = bytearray(_neighbourhoods(padded).tobytes())
    stride = padded.shape[1]
    place = (y + 1) * stride + x + 1
    visits = place.tolist()
    # Pixels that are no mismatch, or no longer one, share one place that no sweep reaches.
    order_of = np.full(padded.size, count)
    order_of[place] = np.arange(count)
    rank = order_of.tolist()
    due = bytearray(b"\x01" * count + b"\x00")
    # Seen from the neighbour in direction k, the pixel lies in direction k + 4.
    steps = [(dy * stride + dx, 1 << ((k + 4) % 8)) for k, (dy, dx) in enumerate(NEIGHBOURS)]
    simple = SIMPLE

    visit = due.find(1, 0, count)
    while visit >= 0:
        while visit >= 0:
            due[visit] = 0
            p = visits[visit]
            if simple[codes[p]]:
                rank[p] = count
                for step, bit in steps:
                    q = p + step
                    codes[q] ^= bit
                    due[rank[q]] = 1
            visit = due.find(1, visit + 1, count)
        visit = due.find(1, 0, count)

    flipped = np.array(rank)[place] == count
    warped = label.copy()
    warped[y[flipped], x[flipped]] ^= True
    return warped


def warp(label: ArrayLike, proposal: ArrayLike, threshold: float = 0.5) -> NDArray[np.uint8]:
    """Warp a label towards a proposal without changing its topology.

    The label is warped towards ``proposal > threshold`` by flipping pixels in which the two
    differ, one after the other, each only if it is a simple point at that moment
    (`is_simple_point`). A pass visits all differing pixels, those whose probability is
    farthest from the threshold first, equal ones column by column; passes are repeated
    until one flips nothing. Beyond the image all is membrane. Only differing pixels may
    flip: a wall one pixel thick that moved by one pixel is followed, by two it is not.

    Parameters
    ----------
    label : array_like, (H, W)
        0 = membrane, 1 = interior.
    proposal : array_like, (H, W)
        Probability of interior in [0, 1].
    threshold : float

    Returns
    -------
    uint8 (H, W)
        The warped label.

    Raises
    ------
    InputError
        If the shapes are not one (H, W) or the values not those above.

    Examples
    --------
    A cell grows by two pixels, but does not join its neighbour.

    >>> warp([[1, 0, 0, 0, 1]], [[1.0, 1.0, 1.0, 1.0, 1.0]]).tolist()
    [[1, 1, 1, 0, 1]]
    """
    if np.ndim(label) != 2:
        raise InputError(f"label: got the shape {np.shape(label)}, expected one slice (H, W)")
    interior, probability = check_segmentation(label, proposal, names=("label", "proposal"))
    value = check_threshold(threshold)
    return warp_slice(interior[0], probability[0].astype(np.float64), value).astype(np.uint8)
