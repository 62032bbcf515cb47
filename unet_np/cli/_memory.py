"""What a command takes besides feature maps, so that --memory bounds the process.

Images and results lie on disk, so that neither counts. What does: the process with the network,
what reading takes, the feature maps with the pixels that go in and come out, and the bands in which
cells are numbered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_np.errors import InputError

# Of each pixel of a tile and of each channel that it has, and of each class, measured.
_IN, _OUT = 24, 16
# The allocator, scratch memory of threads, transformed kernels.
_SLACK = 100 << 20
_ENTRY = 700  # of a zip, whose table of contents is written last
_LEAST_MAPS = 16 << 20
_LEAST_ROWS = 16
_BANDS = 1 << 28  # more than this is no faster


def resident_bytes() -> int:
    """What this process holds now; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    except (OSError, StopIteration, ValueError):
        return 0


@dataclass(frozen=True)
class Bound:
    """What --memory leaves for one image.

    Parameters
    ----------
    memory : int or None
        The bound of the process; None bounds feature maps by `default`, and nothing else.
    held : int
        What the process holds with the network.
    default : int
        Bytes.
    path : Path
        Of the image, for messages.
    """

    memory: int | None
    held: int
    default: int
    path: Path

    @property
    def left(self) -> int:
        """Bytes."""
        return self.default if self.memory is None else self.memory - self.held - _SLACK

    def check(self, needed: int, of: str = "") -> None:
        """Refuse what does not fit, and say what would do.

        Raises
        ------
        InputError
            If it does not fit.

        Examples
        --------
        >>> Bound(2**30, 2**27, 2**30, Path("a.tif")).check(2**30, "12 cells of ")
        Traceback (most recent call last):
        ...
        unet_np.errors.InputError: --memory: got 1024M, expected at least 1253M for 12 cells of \
a.tif
        """
        if self.memory is not None and needed > self.left:
            least = (self.held + _SLACK + needed) / 2**20 + 1
            raise InputError(
                f"--memory: got {self.memory / 2**20:.0f}M, expected at least {least:.0f}M for "
                f"{of}{self.path}"
            )

    def reading(self, needed: int) -> None:
        """Refuse an image of which reading takes more than there is.

        Raises
        ------
        InputError
            If it does.
        """
        from unet_np.images.bounds import check_memory

        self.check(needed)
        check_memory(needed)

    def maps(self, net: Any, size: tuple[int, int], tile: int | None) -> int:
        """Bytes for feature maps, beside the pixels of the tile.

        Raises
        ------
        InputError
            If the smallest tile does not fit, or the one that was asked for.
        """
        from unet_np.tiling.memory import forward_bytes
        from unet_np.tiling.statistics import reference_windows

        if self.memory is None:
            return self.default
        architecture, item = net.architecture, net.dtype.itemsize
        pixel = _IN * architecture.in_channels + _OUT * architecture.num_classes
        side = tile or architecture.min_input_size
        least = forward_bytes(architecture, (side, side), item)
        needed = least + pixel * side * side
        if architecture.norm == "instance":
            window, corners = reference_windows(architecture, size)
            least = max(least, forward_bytes(architecture, window, item, batch=len(corners)))
            needed = max(needed, least + pixel * len(corners) * math.prod(window))
        self.check(max(needed, _LEAST_MAPS))
        # Maps and pixels grow with the tile alike.
        side = architecture.nearest_input_sizes(512)[0]
        maps = forward_bytes(architecture, (side, side), item)
        return max(least, self.left * maps // (maps + pixel * side * side))

    def patches(self, net: Any, size: int, most: int) -> int:
        """How many patches of this side go through the network at once.

        Raises
        ------
        InputError
            If one does not fit.
        """
        from unet_np.tiling.memory import forward_bytes

        if self.memory is None:
            return most
        architecture = net.architecture
        each = forward_bytes(architecture, (size, size), net.dtype.itemsize)
        each += _IN * architecture.in_channels * size * size
        self.check(max(each, _LEAST_MAPS))
        return min(most, self.left // each)

    def bands(self, size: tuple[int, int], erosion: float = 0, zipped: bool = False) -> Any:
        """How cells of an image of this height and width are numbered.

        Raises
        ------
        InputError
            If a few rows do not fit.
        """
        from unet_np.tasks.banded import BAND_BYTES, PART_BYTES, Bands

        line = BAND_BYTES * size[1]
        more = 2 * (int(erosion) + 1)
        self.check((_LEAST_ROWS + more) * line)
        rows = max(_LEAST_ROWS, min(self.left // 2, _BANDS) // line - more)

        # What an erosion cuts off is joined along its borders, which are remembered for each cell.
        each = PART_BYTES * (5 if erosion else 1) + _ENTRY * zipped

        def check(parts: int, what: str = "cells") -> None:
            self.check((_LEAST_ROWS + more) * line + each * parts, f"{parts:,} {what} of ")

        return Bands(size, min(rows, size[0]), check)
