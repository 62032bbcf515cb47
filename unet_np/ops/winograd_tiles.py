"""Tiles for Winograd's convolution: cut out, transformed, put back.

The transforms are GEMMs with a 6x6 or 4x6 matrix; NumPy has nothing faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate, pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np

from unet_np.backend import (
    Array,
    array_module,
    asarray,
    block_elements,
    is_device,
    parallel_map,
    scratch,
    strided,
    thread_count,
)
from unet_np.ops.im2col import padded_window

TILE = 4  # outputs of a tile, in each direction
PATCH = 6  # inputs of a tile
BLOCK_ELEMENTS = 18432  # tiles x channels: fewer cost Python too much, more leave the cache
GROUP_ELEMENTS = 2**23  # transformed numbers that the processor's last cache holds
FEW_ELEMENTS = 2**20  # so many are nearer, and do where the sums of a group are fewer still
ALL = slice(None)

B_TRANSPOSED = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
A_TRANSPOSED = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


@lru_cache
def matrices(xp: ModuleType, dtype: str) -> tuple[Array, Array, Array]:
    """B', A' and the Kronecker product of G with itself, (36, 9)."""
    return (
        asarray(np.array(B_TRANSPOSED), xp, dtype),
        asarray(np.array(A_TRANSPOSED), xp, dtype),
        asarray(np.kron(np.array(G), np.array(G)), xp, dtype),
    )


class Block(NamedTuple):
    """Tiles of an image that are worked on together: a rectangle, counted in tiles."""

    image: int
    top: int
    bottom: int
    left: int
    right: int

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def outputs(self) -> tuple[int, slice, slice]:
        """Image, rows and columns of the outputs under the tiles."""
        rows = slice(TILE * self.top, TILE * self.bottom)
        return self.image, rows, slice(TILE * self.left, TILE * self.right)


def cut_blocks(
    shape: tuple[int, ...], channels: int, min_tiles: int, xp: ModuleType
) -> list[Block]:
    """The tiles of (B, H', W', K) outputs in blocks that fit the cache.

    Examples
    --------
    >>> from unet_np.backend import using_threads
    >>> with using_threads(2):
    ...     cut_blocks((1, 8, 12, 64), 64, 1, np)[-1]
    Block(image=0, top=1, bottom=2, left=0, right=3)
    """
    batch, rows, columns = shape[:3]
    down, across = -(-rows // TILE), -(-columns // TILE)
    elements = block_elements(xp) // PATCH**2 if is_device(xp) else BLOCK_ELEMENTS
    wanted = max(min_tiles, elements // channels)
    columns_of_blocks = -(-across // wanted)
    width = -(-across // columns_of_blocks)
    rows_of_blocks = -(-down // max(1, wanted // width))
    if not is_device(xp) and columns_of_blocks == 1:
        threads = thread_count()
        rows_of_blocks = min(down, -(-rows_of_blocks // threads) * threads)
    vertical = [down * n // rows_of_blocks for n in range(rows_of_blocks + 1)]
    horizontal = [across * n // columns_of_blocks for n in range(columns_of_blocks + 1)]
    return [
        Block(image, top, bottom, left, right)
        for image in range(batch)
        for top, bottom in pairwise(vertical)
        for left, right in pairwise(horizontal)
    ]


def group_elements(xp: ModuleType) -> int:
    """How many transformed numbers are worked on at a time; a GPU's memory bounds them alone."""
    return 2**27 if is_device(xp) else GROUP_ELEMENTS


def group_blocks(
    blocks: list[Block], channels: int, xp: ModuleType = np, most: int | None = None
) -> Iterator[list[Block]]:
    """Blocks whose transforms together stay in the processor's last cache, or hold `most` numbers.

    Examples
    --------
    >>> blocks = cut_blocks((1, 568, 568, 64), 64, 1, np)
    >>> groups = list(group_blocks(blocks, 128))
    >>> sum(groups, []) == blocks, len(groups)
    (True, 12)
    """
    most = group_elements(xp) if most is None else most
    group: list[Block] = []
    elements = 0
    for block in blocks:
        size = PATCH * PATCH * channels * block.tiles
        if group and elements + size > most:
            yield group
            group, elements = [], 0
        group.append(block)
        elements += size
    if group:
        yield group


def parts(group: list[Block]) -> list[slice]:
    """Where each block's tiles stand when those of the group lie side by side.

    Examples
    --------
    >>> parts([Block(0, 0, 1, 0, 3), Block(0, 1, 2, 0, 2)])
    [slice(0, 3, None), slice(3, 5, None)]
    """
    return [slice(a, b) for a, b in pairwise([0, *accumulate(b.tiles for b in group)])]


def transform_group(
    transform: Callable[..., Array], images: Array, group: list[Block], out: Array
) -> None:
    """`transform` of all tiles of a group, by all threads, to `out` (36, tiles, channels)."""
    places = parts(group)

    def call(number: int) -> None:
        block = group[number]
        transform(images[block.image], block, out=out[:, places[number]])

    parallel_map(call, range(len(group)), array_module(images, out))


def group_scratch(group: list[Block], channels: list[int], images: Array) -> list[Array]:
    """Scratch memory for the transforms of a group: (36, tiles, channels) for each of several."""
    xp, tiles = array_module(images), parts(group)[-1].stop
    sizes = [0, *accumulate(PATCH * PATCH * tiles * number for number in channels)]
    memory = scratch(xp, "group", (sizes[-1],), images.dtype)
    return [
        memory[start:stop].reshape(PATCH * PATCH, tiles, number)
        for (start, stop), number in zip(pairwise(sizes), channels, strict=True)
    ]


def transform_inputs(pixels: Array, block: Block, padding: int, out: Array | None = None) -> Array:
    """B' d B of the patches under a block: (H, W, C) -> (36, tiles, C)."""
    b, _, _ = matrices(array_module(pixels), pixels.dtype.str)
    return _transform(pixels, block, b, PATCH, padding, out)


def transform_errors(grads: Array, block: Block, out: Array | None = None) -> Array:
    """A dE/dY A' of the tiles of a block: (H', W', K) -> (36, tiles, K)."""
    _, a, _ = matrices(array_module(grads), grads.dtype.str)
    return _transform(grads, block, a.T, TILE, 0, out)


def _transform(
    pixels: Array, block: Block, matrix: Array, size: int, padding: int, out: Array | None
) -> Array:
    """M s M' for the squares of `size` that begin every four pixels; zeros outside the image."""
    xp = array_module(pixels)
    channels = pixels.shape[2]
    down, across = block.bottom - block.top, block.right - block.left
    height, width = TILE * (down - 1) + size, TILE * (across - 1) + size
    strip = padded_window(
        pixels, TILE * block.top - padding, TILE * block.left - padding, height, width
    )
    # Rows first, for all columns at once: squares overlap, and so the product of the rows that
    # two squares share is made once.
    # The stride of an axis of one element, such as a single channel, may be anything.
    row, number = strip.strides[0], strip.itemsize
    rows = strided(strip, (down, size, width * channels), (TILE * row, row, number))
    half = scratch(xp, "half", (down, PATCH, width * channels), pixels.dtype)
    xp.matmul(matrix, rows, out=half)
    line = width * channels * number
    windows = strided(
        half,
        (PATCH, size, down, across, channels),
        (line, channels * number, PATCH * line, TILE * channels * number, number),
    )
    squares = scratch(xp, "squares", windows.shape, pixels.dtype)
    squares[...] = windows
    if out is None:
        out = scratch(xp, "patches", (PATCH * PATCH, block.tiles, channels), pixels.dtype)
    xp.matmul(matrix, squares.reshape(PATCH, size, -1), out=out.reshape(PATCH, PATCH, -1))
    return out


def write_outputs(products: Array, target: Array, block: Block) -> None:
    """A' m A for every tile of a block, (36, tiles, K), to the (h, w, K) outputs under it."""
    xp = array_module(products, target)
    _, tiles, channels = products.shape
    _, a, _ = matrices(xp, products.dtype.str)
    half = scratch(xp, "half", (PATCH, TILE, tiles * channels), products.dtype)
    xp.matmul(a, products.reshape(PATCH, PATCH, -1), out=half)
    whole = scratch(xp, "squares", (TILE, TILE, tiles * channels), products.dtype)
    # (columns of a tile, rows of a tile, ...)
    xp.matmul(a, half.transpose(1, 0, 2), out=whole)
    down, across = block.bottom - block.top, block.right - block.left
    squares = whole.reshape(TILE, TILE, down, across, channels)
    if target.shape[:2] == (TILE * down, TILE * across):
        target = target.reshape(down, TILE, across, TILE, channels)
        target[...] = squares.transpose(2, 1, 3, 0, 4)
        return
    for j, i in xp.ndindex(TILE, TILE):
        cut = target[i::TILE, j::TILE]
        cut[...] = squares[j, i, : cut.shape[0], : cut.shape[1]]
