"""Files of each data set to a `Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from unet_np.data.cache import PathLike, fetch, files
from unet_np.data.catalogue import info
from unet_np.data.dataset import Dataset
from unet_np.errors import InputError
from unet_np.images import read_image


def read_isbi2012(split: str, cache: PathLike | None, download: bool, progress: bool) -> Dataset:
    """30 slices of the ISBI 2012 stack; `split` is "train" or "test"."""
    parts = ["train/image", "train/label"] if split == "train" else ["test"]
    wanted = [path for path in files("isbi2012") if _parent(path) in parts]
    folder = fetch("isbi2012", cache, paths=wanted, download=download, progress=progress)
    count = len(wanted) // len(parts)
    images = _stack([folder / parts[0] / f"{i}.png" for i in range(count)])
    labels = instances = None
    if split == "train":
        stored = _stack([folder / parts[1] / f"{i}.png" for i in range(count)])
        labels = (stored > 0).astype(np.uint8)
        instances = connected_cells(labels)
    return Dataset(
        name="isbi2012",
        images=images,
        labels=labels,
        instances=instances,
        ids=tuple(f"{split}/{i}" for i in range(count)),
        groups=(split,) * count,
        frames=tuple(range(count)),
        citation=info("isbi2012").citation,
        source=folder,
    )


def read_cell_tracking(
    name: str,
    split: str,
    cache: PathLike | None,
    download: bool,
    progress: bool,
    every_frame: bool = False,
) -> Dataset:
    """Annotated frames of a Cell Tracking Challenge set, or every frame.

    `split` is "01", "02" or "all". The gold-standard masks (SEG) are the instances. A frame
    may lack cells: they are known by their tracking markers (TRA), on which no mask lies. The
    background within one cell diameter of such a marker is `unknown`.
    """
    entry = info(name)
    sequences = ["01", "02"] if split == "all" else [split]
    known = files(name)
    frames = [
        (sequence, path[-7:-4])
        for sequence in sequences
        for path in sorted(known)
        if (_parent(path) == sequence if every_frame else _parent(path) == f"{sequence}_GT/SEG")
    ]
    image_paths = [f"{sequence}/t{frame}.tif" for sequence, frame in frames]
    marker_paths = [f"{sequence}_GT/TRA/man_track{frame}.tif" for sequence, frame in frames]
    mask_paths = [f"{sequence}_GT/SEG/man_seg{frame}.tif" for sequence, frame in frames]
    wanted = [path for path in image_paths + marker_paths + mask_paths if path in known]
    folder = fetch(name, cache, paths=wanted, download=download, progress=progress)
    images = _stack([folder / path for path in image_paths])
    markers = _stack([folder / path for path in marker_paths]).astype(np.uint16)
    instances = np.zeros(images.shape, np.uint16)
    unknown = np.ones(images.shape, bool)
    for i, path in enumerate(mask_paths):
        if path in known:
            instances[i] = read_image(folder / path)
            unknown[i] = unannotated(instances[i], markers[i], entry.cell_size or 0)
    return Dataset(
        name=name,
        images=images,
        labels=(instances > 0).astype(np.uint8),
        instances=instances,
        markers=markers,
        unknown=unknown,
        ids=tuple(f"{sequence}/{frame}" for sequence, frame in frames),
        groups=tuple(sequence for sequence, _ in frames),
        frames=tuple(int(frame) for _, frame in frames),
        citation=entry.citation,
        source=folder,
    )


def read_dsb2018(cache: PathLike | None, download: bool, progress: bool) -> Dataset:
    """The 90 images of nuclei, with instances."""
    folder = fetch("dsb2018", cache, download=download, progress=progress)
    images, instances = read_image(folder / "images.tif"), read_image(folder / "instances.tif")
    return Dataset(
        name="dsb2018",
        images=images,
        labels=(instances > 0).astype(np.uint8),
        instances=instances.astype(np.uint16),
        ids=tuple((folder / "ids.txt").read_text(encoding="ascii").split()),
        groups=("all",) * len(images),
        citation=info("dsb2018").citation,
        source=folder,
    )


def connected_cells(labels: np.ndarray) -> np.ndarray:
    """Number the cells of each slice: 4-connected regions of class 1, as the ISBI challenge does.

    Parameters
    ----------
    labels : numpy.ndarray
        (N, H, W), 0 and 1.

    Returns
    -------
    numpy.ndarray
        (N, H, W), uint16; numbers begin at 1 in each slice.

    Examples
    --------
    >>> connected_cells(np.array([[[1, 0, 1], [1, 0, 1]]]))
    array([[[1, 0, 2],
            [1, 0, 2]]], dtype=uint16)
    """
    found = np.zeros(labels.shape, np.uint16)
    for one, out in zip(labels, found, strict=True):
        numbers, count = ndimage.label(one)
        if count > np.iinfo(np.uint16).max:
            raise InputError(f"labels: got {count} regions in one slice, expected at most 65535")
        out[...] = numbers
    return found


def unannotated(instances: np.ndarray, markers: np.ndarray, radius: float) -> np.ndarray:
    """Background that may belong to a cell which has a marker and no mask.

    Parameters
    ----------
    instances, markers : numpy.ndarray
        (H, W); 0 is background. A marker belongs to the mask that it lies on.
    radius : float
        How far from such a marker, in pixels, its cell may reach.

    Returns
    -------
    numpy.ndarray
        (H, W), bool.

    Examples
    --------
    >>> markers = np.array([[1, 0, 0, 0, 2]])
    >>> unannotated(np.array([[5, 5, 0, 0, 0]]), markers, radius=1)
    array([[False, False, False,  True,  True]])
    """
    matched = np.unique(markers[instances > 0])
    lonely = (markers > 0) & ~np.isin(markers, matched)
    if not lonely.any():
        return np.zeros(instances.shape, bool)
    return (ndimage.distance_transform_edt(~lonely) <= radius) & (instances == 0)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _stack(paths: Sequence[Path]) -> np.ndarray:
    return np.stack([read_image(path, argument="data") for path in paths])
