"""What was drawn and what was found, as outlines over an image."""

from __future__ import annotations

import numpy as np
import scipy.ndimage

from unet_np.images.colours import ORANGE, SKY, coloured
from unet_np.images.grey import to_grey

DRAWN, FOUND = SKY, ORANGE
_ROWS = 256


def grey(image: np.ndarray) -> np.ndarray:
    """Grey values as colours, the darkest percent black and the brightest white.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W).

    Returns
    -------
    numpy.ndarray
        uint8 (H, W, 3).

    Examples
    --------
    >>> grey(np.array([[0.0, 1.0]]))[0, 1].tolist()
    [255, 255, 255]
    """
    low, high = np.percentile(image, (1, 99))
    picture = np.empty((*image.shape, 3), np.uint8)
    # Band by band, so that a large image takes no second one of floats.
    for row in range(0, len(image), _ROWS):
        part = np.clip((image[row : row + _ROWS] - low) / max(high - low, 1e-12), 0, 1)
        picture[row : row + _ROWS] = np.round(part * 255).astype(np.uint8)[..., None]
    return picture


def outlines(cells: np.ndarray, width: int = 1) -> np.ndarray:
    """The inner borders of numbered cells, bool (H, W).

    Examples
    --------
    >>> outlines(np.ones((3, 3), int)).sum(), outlines(np.ones((5, 5), int))[2, 2]
    (np.int64(8), np.False_)
    """
    padded = np.pad(cells, width)
    low = scipy.ndimage.minimum_filter(padded, 2 * width + 1)
    high = scipy.ndimage.maximum_filter(padded, 2 * width + 1)
    return ((low != high) & (padded > 0))[width:-width, width:-width]


def compared(image: np.ndarray, drawn: np.ndarray, found: np.ndarray, side: int = 0) -> np.ndarray:
    """An image in grey with the outlines of what a person drew, and over them of what was found.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W) or (C, H, W).
    drawn, found : numpy.ndarray
        (H, W), classes or numbered cells, 0 is background.
    side : int
        Make it about so large: whole pixels are repeated or left out. 0 leaves it as it is.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W, 3).

    Examples
    --------
    >>> cell = np.pad(np.ones((4, 4), int), 2)
    >>> compared(np.eye(8), cell, 0 * cell)[2, 2].tolist() == list(DRAWN)
    True
    >>> compared(np.eye(8), cell, cell, side=20)[4, 4].tolist() == list(FOUND)
    True
    """
    plane = image if image.ndim == 2 else image.mean(axis=0)
    longest = max(plane.shape)
    step, times = (-(-longest // side), max(side // longest, 1)) if side else (1, 1)
    parts = [part[::step, ::step] for part in (plane, drawn, found)]
    small, drawn, found = (part.repeat(times, 0).repeat(times, 1) for part in parts)
    picture = grey(small)
    picture[outlines(drawn)] = DRAWN
    picture[outlines(found)] = FOUND
    return picture


def labelled(page: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """An image in grey with labels in their colours, and lines along their inner borders.

    A small image is enlarged so that the lines are thin, and a very large one made smaller.

    Parameters
    ----------
    page : numpy.ndarray
        (H, W) or (H, W, channels).
    labels : numpy.ndarray
        (H, W), integers from 0.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W, 3).

    Examples
    --------
    >>> labelled(np.eye(320), np.eye(320, dtype=int)).shape
    (640, 640, 3)
    """
    step = -(-max(labels.shape) // 4096)
    times = max(1, 640 // max(labels.shape))
    small = grey(to_grey(page)[::step, ::step]), labels[::step, ::step]
    picture, cells = (part.repeat(times, 0).repeat(times, 1) for part in small)
    colours, inside = coloured(cells), cells > 0
    picture[inside] = (0.65 * picture[inside] + 0.35 * colours[inside]).astype(np.uint8)
    lines = outlines(cells, 1 + max(cells.shape) // 1000)
    picture[lines] = colours[lines]
    return picture
