"""Data sets: the paper's (Sec. 4, Tables 1 and 2), one from elsewhere, and two made here.

`load` gives a `Dataset` by name. Files lie in a cache folder that the environment variable
``UNET_NP_DATA`` overrides; what is missing is downloaded, and every file's SHA-256 is checked.
The synthetic sets need neither files nor network nor any extra.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from unet_np.data.cache import (
    VARIABLE,
    DownloadError,
    PathLike,
    Report,
    cache_folder,
    fetch,
    files,
    is_available,
    verify,
)
from unet_np.data.catalogue import NAMES, Archive, Info, info
from unet_np.data.dataset import Dataset, blocks
from unet_np.data.synthetic import synthetic_cells, synthetic_em, synthetic_stack
from unet_np.errors import InputError, MissingExtraError, require

__all__ = [
    "NAMES",
    "VARIABLE",
    "Archive",
    "Dataset",
    "DownloadError",
    "Info",
    "Report",
    "blocks",
    "cache_folder",
    "fetch",
    "files",
    "info",
    "is_available",
    "load",
    "load_default",
    "synthetic_cells",
    "synthetic_em",
    "synthetic_stack",
    "verify",
]


def load(
    name: str,
    cache: PathLike | None = None,
    *,
    split: str | None = None,
    every_frame: bool = False,
    count: int = 8,
    size: int | tuple[int, int] = 512,
    seed: int = 0,
    download: bool = True,
    progress: bool = False,
) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name : str
        One of `NAMES`, or "auto" for `load_default`.
    cache : path-like, optional
        The folder that holds the data sets' folders; see `cache_folder`.
    split : str, optional
        A part of it: "train" or "test" (isbi2012, synthetic), "01", "02" or "all" (u373, hela),
        "all" (dsb2018). `info(name).splits` lists them, the default first.
    every_frame : bool
        u373 and hela only: frames without masks as well. They are wholly `unknown`.
    count, size, seed
        Synthetic sets only: number of images, their size in pixels (one number or (H, W)), and
        the seed. "train" and "test" never share an image.
    download : bool
        If False, missing files are an error.
    progress : bool
        Show a progress bar while downloading.

    Returns
    -------
    Dataset
        images (N, H, W) uint8, labels, instances and what else is known of them.

    Raises
    ------
    InputError
        If the name or the split is not known, or a file in the cache is damaged.
    DownloadError
        If files are missing and cannot be had.
    MissingExtraError
        If a library of the extra ``io`` is needed and not installed.

    Examples
    --------
    >>> data = load("synthetic-em", count=2, size=96)
    >>> data.images.shape, data.labels.max(), data.groups
    ((2, 96, 96), np.uint8(1), ('train', 'train'))
    """
    if name == "auto":
        return load_default(cache, split=split, count=count, size=size, seed=seed)
    splits = info(name).splits
    chosen = splits[0] if split is None else split
    if chosen not in splits:
        raise InputError(f"split: got {split!r} for {name}, expected one of {', '.join(splits)}")
    if name in ("synthetic-em", "synthetic-cells"):
        return _synthetic(name, chosen, count, size, seed)
    # The readers need nothing that the synthetic sets could do without until here.
    from unet_np.data import readers

    if name == "isbi2012":
        return readers.read_isbi2012(chosen, cache, download, progress)
    if name == "dsb2018":
        return readers.read_dsb2018(cache, download, progress)
    return readers.read_cell_tracking(name, chosen, cache, download, progress, every_frame)


def load_default(
    cache: PathLike | None = None,
    *,
    split: str | None = None,
    count: int = 8,
    size: int | tuple[int, int] = 512,
    seed: int = 0,
    announce: Callable[[str], object] | None = None,
) -> Dataset:
    """The EM stack of the paper where it is at hand, else synthetic micrographs.

    Nothing is downloaded. Which of the two was chosen, and why, is announced and stands in the
    `note` of the data set.

    Parameters
    ----------
    cache, split, count, size, seed
        As for `load`.
    announce : callable, optional
        Is given the one line that says what was chosen. By default it goes to standard error.

    Examples
    --------
    >>> data = load_default("no such folder", count=1, size=96, announce=print)
    data: synthetic-em, since isbi2012 is not in no such folder (unet-np data fetch isbi2012)
    >>> data.name
    'synthetic-em'
    """
    from dataclasses import replace

    try:
        require("PIL", "io")
        folder = cache_folder(cache)
        found = is_available("isbi2012", cache)
        why = f"since isbi2012 is not in {folder} (unet-np data fetch isbi2012)"
    except MissingExtraError as error:
        found, why = False, f"since reading isbi2012 needs more ({error})"
    if found:
        data = load("isbi2012", cache, split=split, download=False)
        note = f"data: isbi2012 from {data.source}"
    else:
        data = load("synthetic-em", split=split, count=count, size=size, seed=seed)
        note = f"data: synthetic-em, {why}"
    if announce is None:
        print(note, file=sys.stderr)
    else:
        announce(note)
    return replace(data, note=note)


def _synthetic(
    name: str, split: str, count: int, size: int | tuple[int, int], seed: int
) -> Dataset:
    # Far apart, so that a longer training set never reaches into the test set.
    first = 0 if split == "train" else 1_000_000
    make = synthetic_em if name == "synthetic-em" else synthetic_cells
    images, labels, instances = synthetic_stack(make, count, size, seed=seed, first=first)
    return Dataset(
        name=name,
        images=images,
        labels=labels,
        instances=instances,
        ids=tuple(f"{split}/{i}" for i in range(count)),
        groups=(split,) * count,
        frames=tuple(range(count)),
        citation=info(name).citation,
    )
