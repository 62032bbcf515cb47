"""The tiles of all slices as a `dask.array`: each block reads its window, halo and all."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import backend
from unet_np.errors import InputError, require
from unet_np.images.grey import Normalisation
from unet_np.images.prepared import Prepared
from unet_np.network.unet import UNet
from unet_np.ops import softmax
from unet_np.tiling import SYMMETRIES, make_tiling, turn
from unet_np.tiling.overlap_tile import Tiling, read_tiles, shared_statistics
from unet_np.tiling.plan import overlap
from unet_np.volumes.source import Volume

# The memory bound is that of one forward pass, whatever threads a worker has.
_one_at_a_time = threading.Lock()
_KEPT = 256  # slices
_statistics: dict[tuple[Any, ...], dict[str, Any]] = {}


@dataclass(frozen=True)
class Model:
    """A network that each process loads for itself, once.

    Attributes
    ----------
    path : Path
        Of the file of its weights.
    backend : str or None
        As in `UNet.load`.
    threads : int or None
        With which it computes; None leaves the default.
    checksum : str
        Of the file.
    """

    path: Path
    backend: str | None
    threads: int | None
    checksum: str

    @classmethod
    def load(cls, path: Path, backend: str | None = None, threads: int | None = None) -> Model:
        """From a file of weights.

        Raises
        ------
        InputError
            As `UNet.load`.
        """
        model = cls(path.absolute(), backend, threads, _checksum(path))
        _ = model.net
        return model

    @property
    def net(self) -> UNet:
        """The network."""
        return _network(self)


@lru_cache(maxsize=1)
def _network(model: Model) -> UNet:
    if model.threads is not None:
        backend.set_thread_count(model.threads)
    if _checksum(model.path) != model.checksum:
        raise InputError(f"weights: {model.path} is another file for a worker, expected the same")
    return UNet.load(model.path, backend=model.backend)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@dataclass(frozen=True)
class _Part:
    """All blocks of one of the symmetries."""

    volume: Volume
    model: Model
    levels: list[list[Normalisation]]
    tiling: Tiling
    version: tuple[bool, int]
    share: int

    def __call__(self, block_id: tuple[int, ...]) -> np.ndarray:
        """The probabilities of one tile, (1, classes, h, w)."""
        number, _, row, column = block_id
        down, across = self.tiling.rows[row], self.tiling.columns[column]
        net, levels = self.model.net, self.levels[number]
        image = turn(Prepared(self.volume.page(number), len(levels), levels), self.version)
        with _one_at_a_time:
            shared = self._shared(number, image)
            corner = (down.start, across.start)
            x = read_tiles(net, image, [corner], self.tiling.tile, "reflect")
            kept = softmax(net.forward(x, **shared))[0][:, :, down.keep, across.keep]
            return backend.to_numpy(kept) / self.share

    def _shared(self, number: int, image: Any) -> dict[str, Any]:
        """What the tiles of a slice have in common, computed once."""
        key = self.volume.token, self.model, self.version, number
        if key not in _statistics:
            if len(_statistics) >= _KEPT:
                _statistics.clear()
            _statistics[key] = shared_statistics(self.model.net, image, self.tiling, "reflect")
        return _statistics[key]


def probabilities(
    volume: Volume,
    model: Model,
    levels: list[list[Normalisation]],
    tile: tuple[int, int],
    averaging: int = 1,
) -> Any:
    """Class probabilities of every pixel of every slice, each block a tile, none computed yet.

    Parameters
    ----------
    volume : Volume
        The image.
    model : Model
        The network.
    levels : list
        Those of each slice, from `Volume.levels`.
    tile : tuple of int
        Input size of a tile, as in `unet_np.tiling.make_tiling`.
    averaging : {1, 7, 8}
        Mean over so many of ``unet_np.tiling.SYMMETRIES``.

    Returns
    -------
    dask.array.Array
        (slices, classes, H, W), float32. Its chunks are the tiles' places; ``rechunk`` gives any
        others, with the same numbers.

    Raises
    ------
    InputError
        If the tile does not fit the network.
    MissingExtraError
        If dask is not installed.
    """
    da = require("dask.array", "scale")
    architecture = model.net.architecture
    mean: Any = None
    for version in SYMMETRIES[:averaging]:
        turned = volume.size[::-1] if version[1] % 2 else volume.size
        tiling = make_tiling(architecture, turned, tile=tile, batch=1)
        part = _Part(volume, model, levels, tiling, version, averaging)
        places = [
            tuple(span.place.stop - span.place.start for span in spans)
            for spans in (tiling.rows, tiling.columns)
        ]
        blocks = da.map_blocks(
            part,
            chunks=((1,) * len(volume), (architecture.num_classes,), *places),
            dtype=model.net.dtype,
            meta=np.empty((0,) * 4, model.net.dtype),
            name=f"predict-{volume.token}-{version[0]:d}{version[1]}-{averaging}",
        )
        back = _turned_back(da, blocks, version)
        mean = back if mean is None else mean + back
    return mean.astype(np.float32)


def _turned_back(da: Any, blocks: Any, version: tuple[bool, int]) -> Any:
    mirrored, quarters = version
    blocks = da.rot90(blocks, -quarters, axes=(-2, -1)) if quarters else blocks
    return blocks[..., ::-1] if mirrored else blocks


def halo(model: Model) -> int:
    """Pixels around its output that a tile of the network reads, on a side.

    Examples
    --------
    >>> from unet_np.pretrained import path
    >>> halo(Model.load(path("em"), "numpy"))
    92
    """
    architecture = model.net.architecture
    return max(overlap(architecture)) if architecture.padding else architecture.margin // 2
