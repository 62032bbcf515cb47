"""One set of statistics for all tiles of an image, for networks with instance normalisation.

A tile that is normalised by its own mean and variance differs from its neighbour where they meet.
So all tiles take those of their image, from one forward pass over reference windows: the whole
mirrored image as one window where its input has at most `REFERENCE_PIXELS`, and else windows of a
fixed size, up to 3 by 3 of them, spread evenly from border to border and taken as one image. The
windows depend on the image's size and on the network alone, never on the tiles nor on the memory
budget; so the answer does not either, and an image that is its own window is treated as one pass
over it would.
"""

from __future__ import annotations

import math

from unet_np.network.architecture import Architecture

REFERENCE_PIXELS = 2**20
"""Input pixels of the reference windows, all together: 1024 by 1024."""

WINDOWS = 3
"""Most windows along each axis."""


def reference_windows(
    architecture: Architecture, size: tuple[int, int]
) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Where the statistics of an image come from.

    Parameters
    ----------
    architecture : Architecture
        Of the network.
    size : tuple of int
        Height and width of the image.

    Returns
    -------
    window : tuple of int
        Height and width of a window, valid input sizes.
    corners : list of tuple of int
        Upper left corner of each in the image, negative in the mirrored border.

    Examples
    --------
    >>> reference_windows(Architecture(), (512, 512))
    ((700, 700), [(-92, -92)])
    >>> window, corners = reference_windows(Architecture(), (2048, 2048))
    >>> window, corners[0], corners[-1], len(corners)
    ((332, 332), (-92, -92), (1812, 1812), 9)
    """
    whole = tuple(architecture.input_size_for_output(side) for side in size)
    margin = architecture.margin // 2
    if math.prod(whole) <= REFERENCE_PIXELS:
        return (whole[0], whole[1]), [(-margin, -margin)]
    side = architecture.nearest_input_sizes(math.isqrt(REFERENCE_PIXELS // WINDOWS**2))[0]
    window = (min(side, whole[0]), min(side, whole[1]))
    rows, columns = (
        [start - margin for start in _spread(full - part)]
        for full, part in zip(whole, window, strict=True)
    )
    return window, [(row, column) for row in rows for column in columns]


def _spread(last: int) -> list[int]:
    """Starts from 0 to `last`, evenly."""
    return [last * i // (WINDOWS - 1) for i in range(WINDOWS)] if last else [0]
