"""Tiles along one axis: where they begin, and what of each is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from unet_np.errors import InputError
from unet_np.network.architecture import Architecture


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels.

    Attributes
    ----------
    start : int
        First row (or column) of the image that the input tile holds; negative where the tile
        begins in the mirrored border.
    keep : slice
        The part of the tile's output that is used.
    place : slice
        Where it belongs in the image.
    """

    start: int
    keep: slice
    place: slice


def overlap(architecture: Architecture) -> tuple[int, int]:
    """Pixels of context that a tile of a network with padding needs before and after what is kept.

    The largest reach of the receptive field over one cell of the pooling grid, rounded up to
    the step of the grid. The zeros that such a network adds at the tile's edge do not reach
    what lies further inside.

    Examples
    --------
    >>> overlap(Architecture(padding=1))
    (112, 112)
    """
    step = architecture.size_step
    fields = [(pixel, *architecture.receptive_field(pixel)) for pixel in range(step)]
    before = max(pixel - first for pixel, first, _ in fields)
    after = max(last - pixel for pixel, _, last in fields)
    return -(-before // step) * step, -(-after // step) * step


def stride(architecture: Architecture, tile: int) -> int:
    """How far apart tiles of this input size begin: a multiple of the pooling step, or 0.

    Examples
    --------
    >>> stride(Architecture(), 572), stride(Architecture(), 188)
    (384, 0)
    >>> stride(Architecture(padding=1), 512)
    288
    """
    step = architecture.size_step
    if architecture.padding:
        return max(0, tile - sum(overlap(architecture)))
    return (tile - architecture.margin) // step * step


def tile_count(architecture: Architecture, size: int, tile: int) -> int:
    """Tiles needed along an axis of `size` pixels; 0 if they cannot cover it.

    Examples
    --------
    >>> tile_count(Architecture(), 512, 572), tile_count(Architecture(), 512, 188)
    (2, 0)
    """
    covered, apart = tile - architecture.margin, stride(architecture, tile)
    if covered >= size:
        return 1
    return 1 + -(-(_padded(architecture, size) - covered) // apart) if apart else 0


def tile_sizes(architecture: Architecture, size: int) -> Iterator[tuple[int, int]]:
    """The useful tile sizes for an axis: the smallest one for each number of tiles.

    Yields
    ------
    tile, count : int
        Input size and how many such tiles are needed, from many small ones to one large one.

    Examples
    --------
    >>> list(tile_sizes(Architecture(), 100))
    [(204, 6), (220, 3), (236, 2), (284, 1)]
    """
    found: dict[int, int] = {}
    largest = architecture.input_size_for_output(size)
    for tile in range(architecture.min_input_size, largest + 1, architecture.size_step):
        count = tile_count(architecture, size, tile)
        if count:
            found.setdefault(count, tile)
    for count, tile in found.items():
        yield tile, count


def plan_axis(architecture: Architecture, size: int, tile: int) -> tuple[Span, ...]:
    """Cut one axis into tiles that agree with one pass over the whole.

    Parameters
    ----------
    architecture : Architecture
        Of the network.
    size : int
        Height or width of the image.
    tile : int
        Height or width of the input tile; a valid input size.

    Raises
    ------
    InputError
        If the tiles are too small to be joined on the pooling grid.

    Examples
    --------
    >>> for span in plan_axis(Architecture(depth=2), 10, 48): print(span)
    Span(start=-20, keep=slice(0, 8, None), place=slice(0, 8, None))
    Span(start=-12, keep=slice(0, 2, None), place=slice(8, 10, None))
    """
    count = tile_count(architecture, size, tile)
    if not count:
        smallest = next(tile_sizes(architecture, size))[0]
        raise InputError(
            f"tile: got {tile}, too small to be joined for an image of {size} pixels; "
            f"expected at least {smallest}"
        )
    half, apart = architecture.margin // 2, stride(architecture, tile)
    # With padding, the last tile ends where the whole image ends, and meets the same zeros.
    last = max(0, _padded(architecture, size) - tile) if architecture.padding else size
    before = overlap(architecture)[0] if architecture.padding else 0
    spans, done = [], 0
    for number in range(count):
        start = min(number * apart, last)
        end = size if number == count - 1 else start + apart + before
        keep = slice(done - start, end - start)
        spans.append(Span(start - half, keep, slice(done, end)))
        done = end
    return tuple(spans)


def _padded(architecture: Architecture, size: int) -> int:
    """With padding 1, the size rounded up to what the network takes; else the size."""
    return architecture.input_size_for_output(size) if architecture.padding else size
