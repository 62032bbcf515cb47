"""What ``unet-np segment`` takes besides feature maps, so that --memory bounds the process."""

from __future__ import annotations

from pathlib import Path

from unet_np.errors import InputError

# Of each pixel, measured: the image in float64 while it is normalised; float32, the map of each
# class and the labels while it is predicted; the numbers of cells, and what grows them.
_NORMALISING, _PREDICTING, _CLASS, _CELLS = 8, 6, 4, 24
# The allocator, scratch memory of threads, transformed kernels.
_SLACK = 100 << 20
_LEAST_MAPS = 16 << 20


def resident_bytes() -> int:
    """What this process holds now; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    except (OSError, StopIteration, ValueError):
        return 0


def maps_budget(
    memory: int,
    held: int,
    pixels: int,
    slices: int,
    classes: int,
    cells: bool,
    maps: int,
    name: Path,
) -> int:
    """What of a bound of the process is left for feature maps.

    Parameters
    ----------
    memory : int
        The bound.
    held : int
        What the process holds, with the network and the image.
    pixels, slices, classes : int
        Of a slice, and of the image.
    cells : bool
        Whether cells are numbered.
    maps : int
        The least that the feature maps of a tile take.
    name : Path
        Of the image, for the message.

    Raises
    ------
    InputError
        If too little is left; it says what would do.

    Examples
    --------
    >>> maps_budget(2**30, 2**27, 2**20, 1, 2, False, 2**20, Path("a.tif")) >> 20
    782
    """
    kept = slices * pixels * (_CLASS * (classes - 1 or 1) + 1 + 4 * cells) if slices > 1 else 0
    one = pixels * (_PREDICTING + _CLASS * classes)
    after = pixels * _CELLS * cells + pixels * (_CLASS * classes + 1)
    least = held + _SLACK + kept + max(pixels * _NORMALISING, one + max(maps, _LEAST_MAPS), after)
    if memory < least:
        raise InputError(
            f"--memory: got {memory / 2**20:.0f}M, expected at least {least / 2**20 + 1:.0f}M for "
            f"{name}"
        )
    return memory - held - _SLACK - kept - one
