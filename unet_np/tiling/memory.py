"""How much memory a forward pass takes, and the best tile that fits a budget."""

from __future__ import annotations

import math

from unet_np.errors import InputError
from unet_np.network.architecture import Architecture
from unet_np.network.kinds import Shape
from unet_np.network.layer import Layer
from unet_np.tiling.plan import tile_sizes


def forward_bytes(
    architecture: Architecture, tile: tuple[int, int], itemsize: int = 4, batch: int = 1
) -> int:
    """Bytes that the feature maps of a forward pass take at its peak, without training.

    The most, over all layers, of the layer's input and output and the skips that wait for
    their expanding block. What does not grow with the tile comes on top: weights, transformed
    kernels, scratch memory of each thread, slack of the allocator. ``python -m bench tiling
    --estimate`` measures both: on two threads 60 to 190 MB more, the most for the paper's 64
    channels.

    Parameters
    ----------
    architecture : Architecture
        Of the network.
    tile : tuple of int
        Height and width of the input.
    itemsize : int
        Bytes of one number.
    batch : int
        Tiles at once.

    Raises
    ------
    InputError
        If the network cannot take an input of this size.

    Examples
    --------
    >>> forward_bytes(Architecture(), (572, 572)) // 2**20
    191
    """
    start = (batch, architecture.in_channels, *tile)
    return itemsize * max(_live_elements(architecture.shapes(start), start, architecture.skips))


def _live_elements(
    rows: list[tuple[Layer, Shape]], start: Shape, skips: frozenset[str]
) -> list[int]:
    """Elements that exist while each layer is computed."""
    waiting: dict[str, int] = {}
    previous, live = math.prod(start), []
    for layer, shape in rows:
        size = math.prod(shape)
        if not layer.its_kind.in_place:
            live.append(previous + size + sum(waiting.values()))
        previous = size
        if layer.skip:
            del waiting[layer.skip]
        if layer.name in skips:
            waiting[layer.name] = size
            # A skip that is also the next layer's input exists once.
            previous = 0
    return live


def choose_tile(
    architecture: Architecture, size: tuple[int, int], budget: int, itemsize: int = 4
) -> tuple[int, int]:
    """The input tile with the least work among those whose forward pass fits the budget.

    Work is counted in input pixels over all tiles, overlaps and mirrored border included;
    among equals the fewest tiles win.

    Parameters
    ----------
    architecture : Architecture
        Of the network.
    size : tuple of int
        Height and width of the image.
    budget : int
        Bytes, by `forward_bytes`.
    itemsize : int
        Bytes of one number.

    Raises
    ------
    InputError
        If not even the smallest tile fits; says how many bytes it takes.

    Examples
    --------
    >>> choose_tile(Architecture(base_channels=16), (4096, 4096), 2**30)
    (1564, 2236)
    """
    heights = list(tile_sizes(architecture, size[0]))
    widths = list(tile_sizes(architecture, size[1]))
    best: tuple[int, int, tuple[int, int]] | None = None
    for height, down in heights:
        # Sizes grow, so those that fit come first.
        low, high = 0, len(widths)
        while low < high:
            middle = (low + high) // 2
            if forward_bytes(architecture, (height, widths[middle][0]), itemsize) <= budget:
                low = middle + 1
            else:
                high = middle
        for width, across in widths[:low]:
            count = down * across
            option = (count * height * width, count, (height, width))
            best = option if best is None else min(best, option)
    if best is None:
        tile = (heights[0][0], widths[0][0])
        needed = forward_bytes(architecture, tile, itemsize)
        raise InputError(
            f"memory_budget: got {budget} bytes, expected at least {needed}, which the smallest "
            f"tile of {tile[0]} x {tile[1]} pixels takes"
        )
    return best[2]
