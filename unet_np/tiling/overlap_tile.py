"""Overlap-tile prediction (Fig. 2 of the paper): an image of any size, seams invisible.

A network without padding needs more input than it gives output, so the image is cut into
input tiles that overlap, and what is missing at the image's border is mirrored. Max pooling
makes an output pixel depend on where it stands in its cell of 2^depth pixels. Tiles
therefore begin at multiples of 2^depth, and every pixel sees what it would see in one pass
over the whole image: the results are equal up to the order of floating-point sums.
With instance normalisation they share the statistics of the image, see `unet_np.tiling.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import numpy as np

from unet_np import backend
from unet_np.errors import InputError, integer
from unet_np.files.on_disk import Key, Windows
from unet_np.network.architecture import Architecture
from unet_np.ops import softmax
from unet_np.tiling.memory import choose_tile, forward_bytes
from unet_np.tiling.plan import Span, plan_axis
from unet_np.tiling.statistics import reference_windows
from unet_np.windows import BORDERS

Array = backend.Array
Progress = Callable[[int, int], None]

MEMORY_BUDGET = 2**30
"""Bytes that feature maps may take unless told otherwise: 1 GiB."""

SYMMETRIES: tuple[tuple[bool, int], ...] = tuple(product((False, True), range(4)))
"""The 8 symmetries of the square: whether mirrored left to right first, quarter turns after.

The paper averages "over 7 rotated versions of the input data" (section 4) without saying which.
Here 8 is all of them, and 7 is all but the last, the mirroring along one diagonal: the image
itself, its three rotations and three of its four mirror images.
"""


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "softmax": lambda logits: softmax(logits)[0],
    "none": lambda logits: logits,
}
"""What may follow the last layer."""


class Network(Protocol):
    """What is asked of a network here; `unet_np.UNet` has it."""

    architecture: Architecture
    xp: Any
    dtype: Any

    def forward(self, x: Array, *, statistics: Any = None) -> Array:
        """(B, in_channels, H, W) to logits (B, num_classes, H', W')."""

    def statistics(self, x: Array) -> Any:
        """What `forward` takes as `statistics`; asked for with instance normalisation only."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Attributes
    ----------
    tile : tuple of int
        Height and width of the input tile, in pixels.
    rows, columns : tuple of Span
        The cuts along each axis; a tile is one of `rows` with one of `columns`.
    batch : int
        Tiles that go through the network at once.
    """

    tile: tuple[int, int]
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    batch: int

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def batches(self) -> Iterator[list[tuple[Span, Span]]]:
        """The tiles in reading order, `batch` at a time."""
        tiles = list(product(self.rows, self.columns))
        for first in range(0, len(tiles), self.batch):
            yield tiles[first : first + self.batch]


def make_tiling(
    architecture: Architecture,
    size: tuple[int, int],
    *,
    memory_budget: int = MEMORY_BUDGET,
    tile: int | tuple[int, int] | None = None,
    batch: int | None = None,
    itemsize: int = 4,
) -> Tiling:
    """Cut an image of `size` into overlapping tiles.

    Parameters
    ----------
    architecture : Architecture
        Of the network.
    size : tuple of int
        Height and width of the image.
    memory_budget : int
        Bytes that the feature maps of one batch may take, by `forward_bytes`.
    tile : int or tuple of int, optional
        Input size of a tile, height and width if two. None takes the tile with the least
        work among those that fit the budget. A tile is never larger than the image needs.
    batch : int, optional
        Tiles at once. None takes as many as fit the budget.
    itemsize : int
        Bytes of one number: 4 for float32.

    Raises
    ------
    InputError
        If the network has no map to be cut, the tile is no valid input size or too small to be
        joined, the budget is too small for any tile, or the batch is less than 1.

    Examples
    --------
    The paper's net on an EM slice, with the paper's tile of 572: output tiles of 388 pixels
    that begin 384 apart, because the pooling grid has a step of 16.

    >>> tiling = make_tiling(Architecture(), (512, 512), tile=572)
    >>> len(tiling), [span.place for span in tiling.rows]
    (4, [slice(0, 384, None), slice(384, 512, None)])
    """
    if not architecture.has_map:
        raise InputError("output: got vector, expected a network whose output is a map")
    memory_budget = integer("memory_budget", memory_budget, 1)
    if batch is not None:
        batch = integer("batch", batch, 1)
    if tile is None:
        chosen = choose_tile(architecture, size, memory_budget, itemsize)
    else:
        height, width = _sides(tile)
        chosen = (_usable(architecture, size[0], height), _usable(architecture, size[1], width))
    rows = plan_axis(architecture, size[0], chosen[0])
    columns = plan_axis(architecture, size[1], chosen[1])
    if batch is None:
        batch = max(1, memory_budget // forward_bytes(architecture, chosen, itemsize))
    return Tiling(chosen, rows, columns, min(batch, len(rows) * len(columns)))


def predict_tiled(
    net: Network,
    image: Array,
    *,
    memory_budget: int = MEMORY_BUDGET,
    tile: int | tuple[int, int] | None = None,
    batch: int | None = None,
    averaging: int = 1,
    border: str = "reflect",
    activation: str = "softmax",
    out: Array | None = None,
    progress: Progress | None = None,
) -> Array:
    """Class probabilities of every pixel of an image of any size (Fig. 2).

    Parameters
    ----------
    net : UNet
        The network, on NumPy or CuPy. With padding 0 the image is mirrored at its border.
        With padding 1 it is mirrored at the bottom and the right only, up to a multiple of
        2^depth; tiles overlap by the receptive field there.
    image : array
        (H, W) or (in_channels, H, W), real numbers, normalised as for training. May be an
        ``unet_np.images.Prepared``, which is not in memory: only tiles are read.
    memory_budget : int
        Bytes that the network's feature maps may take. The image and the result are not
        counted. With instance normalisation the reference windows must fit in too.
    tile, batch : optional
        As in `make_tiling`.
    averaging : {1, 7, 8}
        Mean over so many of `SYMMETRIES` of the image, each result mapped back.
    border : {"reflect", "symmetric", "edge"}
        Pixels beyond the border: mirrored without repeating the edge (the paper), mirrored
        with the edge, or the edge pixel again.
    activation : {"softmax", "none"}
        What becomes of the network's output: probabilities, or nothing, which gives a detecting
        network's maps as they are.
    out : array, optional
        Where to write the result, such as an ``unet_np.files.on_disk.DiskArray``:
        (num_classes, H, W), floating.
    progress : callable, optional
        Called as ``progress(done, total)`` at the start and after each batch, in tiles.

    Returns
    -------
    array
        (num_classes, H, W) in the network's dtype, float32 by default, or `out`. It is on the
        device of `image`; only tiles travel to a network that is on another.

    Raises
    ------
    InputError
        If the image has another shape or other channels than the network reads, holds NaN or
        infinity, if `averaging`, `border`, `activation` or `out` is not one of the above, if the
        budget is too small for the reference windows, or as `make_tiling`.

    Examples
    --------
    >>> from unet_np import UNet
    >>> net = UNet(base_channels=2, depth=2)
    >>> predict_tiled(net, np.zeros((50, 70)), tile=60).shape
    (2, 50, 70)
    """
    image = _checked_image(net.architecture, image)
    if averaging not in (1, 7, 8):
        raise InputError(f"averaging: got {averaging!r}, expected 1, 7 or 8")
    if border not in BORDERS:
        raise InputError(f"border: got {border!r}, expected one of {', '.join(BORDERS)}")
    if activation not in ACTIVATIONS:
        raise InputError(f"activation: got {activation!r}, expected {' or '.join(ACTIVATIONS)}")
    shape = (net.architecture.num_classes, *image.shape[-2:])
    if out is None:
        out = _module(image).empty(shape, net.dtype)
    elif out.shape != shape or out.dtype.kind != "f":
        raise InputError(f"out: got {out.dtype} {out.shape}, expected a floating {shape}")
    versions = SYMMETRIES[:averaging]
    tilings = [
        make_tiling(
            net.architecture,
            turn(image, version).shape[-2:],
            memory_budget=memory_budget,
            tile=tile,
            batch=batch,
            itemsize=np.dtype(net.dtype).itemsize,
        )
        for version in versions
    ]
    if net.architecture.norm == "instance":
        check_budget(net, image.shape[-2:], memory_budget)
    done, total = 0, sum(len(tiling) for tiling in tilings)
    if progress is not None:
        progress(0, total)
    for number, (version, tiling) in enumerate(zip(versions, tilings, strict=True)):
        # Turning gives views, so what is written to the turned result is already mapped back.
        source, target = turn(image, version), turn(out, version)
        options = shared_statistics(net, source, tiling, border)
        for spans in tiling.batches():
            corners = [(row.start, column.start) for row, column in spans]
            logits = net.forward(read_tiles(net, source, corners, tiling.tile, border), **options)
            probabilities = ACTIVATIONS[activation](logits)
            _paste(probabilities, spans, target, averaging, first=number == 0)
            done += len(spans)
            if progress is not None:
                progress(done, total)
    return out


def turn(array: Array, symmetry: tuple[bool, int]) -> Array:
    """One of the 8 symmetries of the last two axes, as a view.

    Parameters
    ----------
    array : array
        (..., H, W).
    symmetry : tuple
        Whether to mirror left to right, and how many quarter turns to make after that.

    Examples
    --------
    >>> turn(np.array([[1, 2], [3, 4]]), (True, 1))
    array([[1, 3],
           [2, 4]])
    """
    mirrored, quarters = symmetry
    if isinstance(array, Windows):
        return Turned(array, symmetry)
    xp = backend.array_module(array)
    return xp.rot90(array[..., ::-1] if mirrored else array, quarters, axes=(-2, -1))


class Turned(Windows):
    """One of the symmetries of something on disk; what is written is turned back.

    Parameters
    ----------
    array : Windows
        (channels, H, W).
    symmetry : tuple
        As in `turn`.
    """

    def __init__(self, array: Windows, symmetry: tuple[bool, int]) -> None:
        self.array, (self.mirrored, self.quarters) = array, symmetry
        channels, *sides = array.shape
        self.shape = (channels, *(sides[::-1] if self.quarters % 2 else sides))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array."""
        return self.array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        turned: np.ndarray = turn(self.array[self._source(key)], (self.mirrored, self.quarters))
        return turned

    def __setitem__(self, key: tuple[slice, ...], values: np.ndarray) -> None:
        back = np.rot90(values, -self.quarters, axes=(-2, -1))
        self.array[self._source(key)] = back[..., ::-1] if self.mirrored else back  # type: ignore[index]

    def _source(self, key: tuple[slice, ...]) -> Key:
        """Where a window lies in the array."""
        channels, *sides = key
        shape = self.shape[1:]
        rows, columns = (s.indices(size)[:2] for s, size in zip(sides, shape, strict=True))
        for _ in range(self.quarters):
            # Row i, column j was row j, and column `last` - i.
            rows, columns = columns, (shape[0] - rows[1], shape[0] - rows[0])
            shape = shape[::-1]
        if self.mirrored:
            columns = shape[1] - columns[1], shape[1] - columns[0]
        return channels, slice(*rows), slice(*columns)


def _module(array: Array) -> Any:
    """The library of an array; NumPy for what is on disk."""
    return np if isinstance(array, Windows) else backend.array_module(array)


def shared_statistics(net: Network, image: Array, tiling: Tiling, border: str) -> dict[str, Any]:
    """What the tiles of an image have in common: its statistics, with instance normalisation."""
    if net.architecture.norm != "instance":
        return {}
    window, corners = reference_windows(net.architecture, image.shape[-2:])
    if len(tiling) == len(corners) == 1 and window == tiling.tile:
        return {}  # the tile is the window, and its own statistics are those
    return {"statistics": net.statistics(read_tiles(net, image, corners, window, border))}


def check_budget(net: Network, size: tuple[int, int], budget: int) -> None:
    """Refuse a budget, in bytes, that the statistics of an image of this size do not fit in.

    Raises
    ------
    InputError
        Naming the least.
    """
    window, corners = reference_windows(net.architecture, size)
    needed = forward_bytes(
        net.architecture, window, np.dtype(net.dtype).itemsize, batch=len(corners)
    )
    if needed > budget:
        raise InputError(
            f"memory_budget: got {budget} bytes, expected at least {needed}, which the statistics "
            f"of an image of {size[0]} x {size[1]} pixels take with instance normalisation"
        )


def read_tiles(
    net: Network,
    image: Array,
    corners: Sequence[tuple[int, int]],
    tile: tuple[int, int],
    border: str,
) -> Array:
    """A batch (B, in_channels, h, w) of tiles that begin at `corners`, on the network's device."""
    xp = _module(image)
    indices = BORDERS[border]
    x = xp.empty((len(corners), len(image), *tile), net.dtype)
    for part, corner in zip(x, corners, strict=True):
        axes = zip(corner, tile, image.shape[-2:], strict=True)
        places = [indices(start + np.arange(side), size) for start, side, size in axes]
        first = [int(at.min()) for at in places]
        window = image[:, first[0] : places[0].max() + 1, first[1] : places[1].max() + 1]
        rows, columns = (xp.asarray(at - low) for at, low in zip(places, first, strict=True))
        part[...] = window[:, rows[:, None], columns]
    return backend.asarray(x, net.xp)


def _paste(
    probabilities: Array,
    spans: Sequence[tuple[Span, Span]],
    target: Array,
    averaging: int,
    first: bool,
) -> None:
    """Write what is kept of each tile to its place, or add it to what stands there."""
    xp = _module(target)
    for values, (row, column) in zip(probabilities, spans, strict=True):
        kept = backend.asarray(values[:, row.keep, column.keep], xp, target.dtype)
        place = (slice(None), row.place, column.place)
        target[place] = kept / averaging if first else target[place] + kept / averaging


def _checked_image(architecture: Architecture, image: Array) -> Array:
    xp = _module(image)
    if image.ndim == 2 and not isinstance(image, Windows):
        image = image[None]
    channels = architecture.in_channels
    if image.ndim != 3 or len(image) != channels or 0 in image.shape:
        raise InputError(f"image: got shape {image.shape}, expected (H, W) or ({channels}, H, W)")
    if image.dtype.kind not in "buif":
        raise InputError(f"image: got dtype {image.dtype}, expected real numbers")
    # Row by row of tiles, so that no array of the image's size is made for this; on disk, whoever
    # wrote it has looked.
    if not isinstance(image, Windows) and not all(
        bool(xp.isfinite(image[:, i : i + 256]).all()) for i in range(0, image.shape[1], 256)
    ):
        raise InputError("image: got NaN or infinity, expected finite numbers")
    return image


def _sides(tile: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    sides = tile if isinstance(tile, tuple | list) else (tile, tile)
    if len(sides) != 2:
        raise InputError(f"tile: got {tile!r}, expected one number, or height and width")
    return integer("tile", sides[0], 1), integer("tile", sides[1], 1)


def _usable(architecture: Architecture, size: int, tile: int) -> int:
    """The tile, or what the image needs where that is less; checked."""
    if not architecture.is_valid_input(tile):
        nearest = " and ".join(str(n) for n in architecture.nearest_input_sizes(tile))
        raise InputError(
            f"tile: got {tile}, expected an input size of the network; nearest valid: {nearest}"
        )
    return min(tile, architecture.input_size_for_output(size))
