"""A volume to labels and numbered objects: what is there stays, what is missing is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.errors import InputError, integer, require
from unet_np.images.grey import Normalisation
from unet_np.tasks.segmentation import Cell, cell_map, grown_instances, most_probable
from unet_np.tasks.task import check_task
from unet_np.tiling import make_tiling
from unet_np.tiling.overlap_tile import MEMORY_BUDGET, check_budget
from unet_np.tiling.plan import stride
from unet_np.volumes.blocks import Model, halo, probabilities
from unet_np.volumes.cluster import compute
from unet_np.volumes.objects import Parts, Place, joined, numbered, parts_of
from unet_np.volumes.source import Volume
from unet_np.volumes.target import Index, Target, check_same, prepare_target, stored_settings

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many chunks of it, and of how many."""


@dataclass(frozen=True)
class Settings:
    """How a volume is cut, and what becomes of it.

    Attributes
    ----------
    tile : int or None
        Input size of a tile; None takes what fits the budget, or what an earlier run took.
    memory_budget : int
        Bytes of feature maps, for each process.
    averaging : {1, 7, 8}
        As in `unet_np.tiling.predict_tiled`.
    chunk : int or None
        Side of the chunks of the result; None takes a tile's output.
    overwrite : bool
        Whether a result of other settings is removed.
    """

    tile: int | None = None
    memory_budget: int = MEMORY_BUDGET
    averaging: int = 1
    chunk: int | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Result:
    """What a run has written.

    Attributes
    ----------
    labels : list of Target
        The classes, the largest level first.
    foreground : list of Target
        The probability of class 1, where it was asked for.
    made : dict
        What decides their numbers.
    computed : int
        Chunks that were missing before.
    """

    labels: list[Target]
    foreground: list[Target]
    made: dict[str, Any]
    computed: int


def segment_volume(
    volume: Volume,
    out: Path,
    model: Model,
    settings: Settings | None = None,
    *,
    foreground: Path | None = None,
    rim: int | None = None,
    client: Any = None,
    progress: Progress | None = None,
) -> Result:
    """Segment every slice, and write what is missing of its labels.

    Parameters
    ----------
    volume : Volume
        The image.
    out : Path
        The OME-Zarr of the labels: the version, axes and scales of the image, without channels.
        One that the same settings began is gone on with.
    model : Model
        The network.
    settings : Settings, optional
        How the volume is cut.
    foreground : Path, optional
        Where to write the probability of class 1, float32, as well.
    rim : int, optional
        Of `unet_np.tasks.segmentation.cell_map`, which then takes the place of that probability.
    client : distributed.Client, optional
        Who computes; None is this process.
    progress : callable, optional
        As `Progress`.

    Raises
    ------
    InputError
        If the network cannot read the image, the tile, chunk or budget does not fit, or `out` is
        something else.
    OSError
        If a chunk cannot be written. Those that were stay.
    """
    settings = settings or Settings()
    show = progress or (lambda text, done, total: None)
    check_task(model.net, "segment")
    channels = _channels(volume, model)
    tile, chunk = _cut(volume, model, settings, out)
    made: dict[str, Any] = {
        "weights": model.checksum,
        "tile": list(tile),
        "averaging": settings.averaging,
        "chunk": list(chunk),
    } | ({"rim": rim} if rim else {})
    if stored_settings(out) and not settings.overwrite:
        check_same(out, made)
    levels = _levels(volume, channels, client, show)
    made["image"] = hashlib.sha256(repr(levels).encode()).hexdigest()
    maps = probabilities(volume, model, levels, tile, settings.averaging)
    dtype = np.dtype(np.uint8 if maps.shape[1] <= 256 else np.uint16)
    wanted: list[tuple[Path, Any, Any]] = [(out, dtype, _labels_of(maps, dtype))]
    if foreground is not None:
        wanted.append((foreground, np.float32, cell_map(maps.swapaxes(0, 1), rim)))
    results, tasks = [], []
    for path, kind, array in wanted:
        target = prepare_target(
            path, volume.multiscale.without("c"), kind, chunk, made, settings.overwrite
        )
        results.append(target)
        tasks += _writes(array, target[0])
    _computed(tasks, client, show, "chunks", out)
    for target in results:
        _reduce(target, client, show, out)
    return Result(results[0], results[1] if foreground else [], made, len(tasks))


def _channels(volume: Volume, model: Model) -> int:
    """What the network reads; refused where the image has other channels."""
    channels, got = model.net.architecture.in_channels, volume.channels
    if got == channels or (channels, got) in ((1, 3), (3, 4)):
        return channels
    expected = "1, or 3 of a colour image" if channels == 1 else f"{channels}"
    raise InputError(
        f"image: {volume.path} has {got} channel{'s' * (got > 1)}, expected {expected}, which the "
        "network reads"
    )


def _cut(
    volume: Volume, model: Model, settings: Settings, out: Path
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Tile and chunk: those that are asked for, those of an earlier run, or what is best."""
    architecture, size = model.net.architecture, volume.size
    stored = {} if settings.overwrite or not out.exists() else stored_settings(out)
    tile: Any = settings.tile or (tuple(stored["tile"]) if "tile" in stored else None)
    tiling = make_tiling(architecture, size, memory_budget=settings.memory_budget, tile=tile)
    if architecture.norm == "instance":
        check_budget(model.net, size, settings.memory_budget)
    if settings.chunk is not None:
        side, least = integer("--chunk", settings.chunk, 1), halo(model)
        if side < min(least, *size):
            raise InputError(
                f"--chunk: got {side}, thinner than the halo, the {least} pixels that the network "
                f"reads around a chunk on each side; expected at least {least}"
            )
        sides = side, side
    elif "chunk" in stored:
        sides = stored["chunk"][0], stored["chunk"][1]
    else:
        # A tile's output is a chunk, as far as tiles are equally far apart.
        (down, across), many = tiling.tile, (len(tiling.rows) > 1, len(tiling.columns) > 1)
        sides = (
            stride(architecture, down) if many[0] else size[0],
            stride(architecture, across) if many[1] else size[1],
        )
    return tiling.tile, (min(sides[0], size[0]), min(sides[1], size[1]))


def _levels(
    volume: Volume, channels: int, client: Any, show: Progress
) -> list[list[Normalisation]]:
    delayed = require("dask", "scale").delayed
    each = delayed(volume.levels, pure=False, traverse=False)
    tasks = [each(number, channels) for number in range(len(volume))]
    return _computed(tasks, client, show, "slices", volume.path)


def _labels_of(maps: Any, dtype: Any) -> Any:
    return maps.map_blocks(_classes, dtype=dtype, drop_axis=1, meta=np.empty((0,) * 3, dtype))


def _classes(maps: np.ndarray) -> np.ndarray:
    return most_probable(maps[0])[None]


def _writes(array: Any, target: Target) -> list[Any]:
    """A task for each chunk that is missing."""
    flags = array.rechunk((1, *target.chunk)).map_blocks(
        _write, target, dtype=bool, chunks=(1, 1, 1), meta=np.empty((0,) * 3, bool)
    )
    tasks = flags.to_delayed()
    return [tasks[index] for index in target.missing()]


def _write(block: np.ndarray, target: Target, block_id: Index) -> np.ndarray:
    target.write(block[0], block_id)
    return np.ones((1, 1, 1), bool)


def _computed(tasks: list[Any], client: Any, show: Progress, text: str, path: Path) -> list[Any]:
    try:
        return compute(tasks, client, lambda done, total: show(text, done, total))
    except ChildProcessError:
        raise
    except OSError as error:
        reason = f"{error.strerror or error}; what is done stays done, the same command goes on"
        raise OSError(error.errno, reason, str(path)) from error


def _reduce(levels: list[Target], client: Any, show: Progress, path: Path) -> None:
    """Write what is missing of the smaller levels, each from the one before it."""
    delayed = require("dask", "scale").delayed
    for larger, smaller in pairwise(levels):
        tasks = [
            delayed(_nearest, pure=False)(larger, smaller, index) for index in smaller.missing()
        ]
        _computed(tasks, client, show, f"level {smaller.path.name}", path)


def _nearest(larger: Target, smaller: Target, index: Index) -> None:
    """A chunk of a smaller level: of each pixel, the one in the middle of what it stands for."""
    places = []
    shapes = zip(smaller.region(index), smaller.shape, larger.shape, strict=True)
    for part, few, many in shapes:
        at = np.arange(part.start, part.stop) if isinstance(part, slice) else np.array([part])
        places.append(((at + 0.5) * many / few).astype(int))
    box = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in places)
    values = np.asarray(larger.open()[box])
    inside = np.ix_(*(at - at[0] for at in places))
    smaller.write(values[inside].reshape(values[inside].shape[-2:]), index)


def number_cells(
    result: Result,
    volume: Volume,
    out: Path,
    limits: dict[str, float] | None = None,
    min_area: int = 1,
    *,
    overwrite: bool = False,
    client: Any = None,
    progress: Progress | None = None,
) -> list[list[Cell]]:
    """Number the objects of each slice, across its chunks, and write their numbers.

    Parameters
    ----------
    result : Result
        Of `segment_volume`; with the foreground where there are limits.
    volume : Volume
        The image.
    out : Path
        The OME-Zarr of the numbers, uint32.
    limits : dict, optional
        As for `unet_np.tasks.segmentation.grown_instances`. How far an object grows depends on
        pixels at any distance, so then each slice is in memory as a whole, 28 bytes a pixel. None
        numbers the connected parts of class 1, chunk by chunk.
    min_area : int
        Fewest pixels.
    overwrite, client, progress
        As in `segment_volume`.

    Returns
    -------
    list of list of Cell
        The objects of each slice, those of `unet_np.tasks.segmentation.instances`.

    Raises
    ------
    InputError, OSError
        As `segment_volume`.
    """
    show = progress or (lambda text, done, total: None)
    made = result.made | {"limits": limits, "min_area": min_area}
    source = result.labels[0]
    targets = prepare_target(
        out, volume.multiscale.without("c"), np.uint32, source.chunk, made, overwrite
    )
    slices = range(len(volume))
    if limits is None:
        tasks = [one for number in slices for one in _joins(source, targets[0], number, min_area)]
    else:
        grow = require("dask", "scale").delayed(_grown, pure=False)
        kept = result.foreground[0]
        tasks = [grow(kept, targets[0], number, limits, min_area) for number in slices]
    found = _computed(tasks, client, show, "objects", out)
    _reduce(targets, client, show, out)
    return [one for one in found if one is not None]


def _joins(source: Target, target: Target, number: int, min_area: int) -> list[Any]:
    """The task that gives the cells of a slice, and those that write its chunks."""
    delayed = require("dask", "scale").delayed
    chunks = [index for index in source.indices_of(number)]
    parts = [delayed(_parts, pure=False)(source, index) for index in chunks]
    places = [(index[1], index[2]) for index in chunks]
    both = delayed(_joined, pure=False, nout=2)(places, parts, min_area)
    write = delayed(_write_numbers, pure=False)
    return [both[1], *(write(source, target, index, both[0]) for index in chunks)]


def _parts(source: Target, index: Index) -> Parts:
    rows, columns = source.region(index)[-2:]
    return parts_of(source.read(index), (rows.start, columns.start), source.shape[-1])


def _joined(
    places: list[Place], parts: list[Parts], min_area: int
) -> tuple[dict[Place, np.ndarray], list[Cell]]:
    return joined(dict(zip(places, parts, strict=True)), min_area)


def _write_numbers(
    source: Target, target: Target, index: Index, numbers: dict[Place, np.ndarray]
) -> None:
    target.write(numbers[index[1], index[2]][numbered(source.read(index))], index)


def _grown(
    source: Target, target: Target, number: int, limits: dict[str, float], min_area: int
) -> list[Cell]:
    ids, cells = grown_instances(source.slice(number), min_area=min_area, **limits)
    for index in target.indices_of(number):
        target.write(ids[target.region(index)[-2:]], index)
    return cells
