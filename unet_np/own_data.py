"""The user's own images and masks as a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.images import PathLike, read_image, to_grey

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def read_pairs(images: PathLike, masks: PathLike) -> Dataset:
    """Images and their masks, each a file (an image or a stack) or a folder of files.

    In folders the sorted names of the images go with the sorted names of the masks.

    Parameters
    ----------
    images : path-like
        Grey or colour, of any dtype; all of one height and width.
    masks : path-like
        0 is background. With one other value (1 or 255) a mask of cells, else each value is
        one cell.

    Returns
    -------
    Dataset
        Labels 0 and 1; with instances if the masks number the cells.

    Raises
    ------
    InputError
        If files are missing or unreadable, numbers or sizes disagree, or a mask is no integer
        image.

    Examples
    --------
    >>> import tempfile
    >>> from unet_np.images import write_png
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_png(folder / "image.png", np.eye(8, dtype=bool))
    >>> read_pairs(folder / "image.png", folder / "image.png").labels.sum()
    np.uint64(8)
    """
    image_list, mask_list = _slices(images, "images"), _slices(masks, "masks")
    if len(image_list) != len(mask_list):
        raise InputError(
            f"masks: got {len(mask_list)}, expected {len(image_list)}, one for each image"
        )
    shape = image_list[0][1].shape
    for argument, slices in (("images", image_list), ("masks", mask_list)):
        for name, array in slices:
            if array.shape != shape:
                raise InputError(
                    f"{argument}: got {name} of {array.shape}, expected {shape} as the first image"
                )
    stack = np.stack([array for _, array in mask_list])
    if stack.dtype.kind not in "bui" or int(stack.min()) < 0:
        raise InputError(f"masks: got dtype {stack.dtype}, expected integers from 0")
    labels = (stack > 0).astype(np.uint8)
    instances = stack.astype(np.int32) if len(np.unique(stack)) > 2 else None
    pixels = np.stack([array for _, array in image_list])
    return Dataset("own", pixels, labels, instances, ids=tuple(name for name, _ in image_list))


def _slices(path: PathLike, argument: str) -> list[tuple[str, np.ndarray]]:
    """Each slice with its name, grey."""
    files = [Path(path)]
    if files[0].is_dir():
        files = sorted(file for file in files[0].iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"{argument}: got the folder {path}, expected images in it")
    slices = []
    for file in files:
        array = to_grey(read_image(file, argument=argument))
        stack = array if array.ndim == 3 else array[None]
        names = [file.stem] if len(stack) == 1 else [f"{file.stem}-{i}" for i in range(len(stack))]
        slices += list(zip(names, stack, strict=True))
    return slices
