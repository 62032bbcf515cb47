"""Colours of labels: one table for pictures, for Fiji and for QuPath."""

import numpy as np

BLUE, ORANGE, GREEN, RED, PURPLE, YELLOW, SKY = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (240, 228, 66),
    (86, 180, 233),
)
"""Okabe and Ito's colours, which colour-blind readers tell apart."""

_IN_ORDER = (ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE)
_WHITE = (0.0, 0.5, 0.25)  # what is mixed in, so that it takes 21 numbers to come back


def label_colours() -> np.ndarray:
    """A colour for each label from 0, which is black, to 255.

    Neighbours in number differ, since cells that lie side by side often are.

    Returns
    -------
    numpy.ndarray
        uint8 (256, 3).

    Examples
    --------
    >>> label_colours()[:3].tolist()
    [[0, 0, 0], [230, 159, 0], [86, 180, 233]]
    """
    turn, place = np.divmod(np.arange(255), len(_IN_ORDER))
    white = np.array(_WHITE)[turn % len(_WHITE), None]
    table = np.zeros((256, 3), np.uint8)
    table[1:] = np.round((1 - white) * np.array(_IN_ORDER)[place] + white * 255)
    return table


def coloured(labels: np.ndarray) -> np.ndarray:
    """Labels in their colours; those above 255 begin again with the colour of 1.

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W), integers from 0.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W, 3).

    Examples
    --------
    >>> coloured(np.array([[0, 1, 256]])).tolist()
    [[[0, 0, 0], [230, 159, 0], [230, 159, 0]]]
    """
    return label_colours()[np.where(labels > 0, (labels - 1) % 255 + 1, 0)]
