"""The user's own images in a folder for each class, as a data set of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unet_np.data import Dataset
from unet_np.data.own.names import list_images, without_results
from unet_np.data.own.pages import outside, read_pages, stack_pages, to_channels
from unet_np.errors import InputError
from unet_np.images import PathLike


def read_classes(folder: PathLike, colour: str = "auto", axes: str = "auto") -> Dataset:
    """Images that lie in a folder for each class, such as ``mitosis/`` and ``resting/``.

    Parameters
    ----------
    folder : path-like
        Of the folders. They are numbered from 0 in the order of their names.
    colour : {"auto", "grey", "rgb"}
        See `unet_np.data.own.pages.to_channels`.
    axes : str
        See `unet_np.data.own.pages.read_pages`.

    Returns
    -------
    Dataset
        The class of an image is that of all its pixels, and its folder's name is its group. Images
        of all classes alternate, so that any stretch of them has a share of each.

    Raises
    ------
    InputError
        If there are not two folders with images, a name has a line break, or a file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from unet_np.images import write_png
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("cat", "dog"):
    ...     write_png(folder / name / "1.png", np.eye(8, dtype=bool))
    >>> data = read_classes(folder)
    >>> data.ids, data.labels[:, 0, 0].tolist(), class_names(data)
    (('cat/1', 'dog/1'), [0, 1], ('cat', 'dog'))
    """
    if not Path(folder).is_dir():
        raise InputError(f"images: got {folder}, expected a folder, or --masks to go with it")
    classes = sorted(p for p in Path(folder).iterdir() if p.is_dir() and p.name[0] != ".")
    if len(classes) < 2:
        raise InputError(
            f"images: got {folder} with {len(classes)} folders in it, expected one for each of at "
            "least 2 classes, or --masks"
        )
    for one in classes:
        if "\n" in one.name or "\r" in one.name:
            # The file of the names has one a line.
            raise InputError(f"images: got the folder {one.name!r}, expected a name on one line")
    found = []
    for number, one in enumerate(classes):
        pages = [
            page
            for file in without_results(list_images(one, "images"))
            for page in read_pages(file, "images", axes)
        ]
        for place, (name, image) in enumerate(pages):
            # Sorted by this share, images of all classes alternate.
            share = (place + 0.5) / len(pages)
            found.append((share, number, f"{one.name}/{name}", image))
    found.sort(key=lambda entry: entry[:3])
    images = to_channels([(name, image) for *_, name, image in found], colour)
    sizes = tuple((image.shape[-2], image.shape[-1]) for image in images)
    unknown = outside(sizes)
    labels = [np.full(size, entry[1], np.uint8) for size, entry in zip(sizes, found, strict=True)]
    return Dataset(
        "own",
        stack_pages(images),
        stack_pages(labels),
        unknown=unknown,
        ids=tuple(entry[2] for entry in found),
        groups=tuple(classes[entry[1]].name for entry in found),
        sizes=() if unknown is None else sizes,
        note=f"images: {len(images)} of {len(classes)} classes",
    )


def class_names(dataset: Dataset) -> tuple[str, ...]:
    """Names of the classes of a data set of `read_classes`, in the order of their numbers.

    Examples
    --------
    >>> labels = np.array([[[1]], [[0]]])
    >>> class_names(Dataset("own", np.zeros((2, 1, 1)), labels, groups=("b", "a")))
    ('a', 'b')
    """
    assert dataset.labels is not None
    names = {
        int(one[0, 0]): group for one, group in zip(dataset.labels, dataset.groups, strict=True)
    }
    return tuple(names.get(number, str(number)) for number in range(max(names) + 1))
