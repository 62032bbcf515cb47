"""The files that ``unet-np evaluate`` compares: which go together, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unet_np.errors import InputError

if TYPE_CHECKING:
    import numpy as np

MANY = 16  # numbers from here on are rather of cells or grey values than of classes
_SIDES = ("prediction", "labels")


class Pair(NamedTuple):
    """What is compared, and how its files were found.

    Attributes
    ----------
    prediction, labels : numpy.ndarray
        (N, H, W) each.
    one_size : bool
        Whether no slice had to be padded.
    how : str
        ``by name``, ``by number`` or ``in order``; see `unet_np.data.own.names.pair_labels`.
    left_out : int
        Predictions without labels.
    remark : str
        What the user should know of it, if anything.
    """

    prediction: np.ndarray
    labels: np.ndarray
    one_size: bool
    how: str
    left_out: int
    remark: str


def read_both(prediction: Path, labels: Path, kind: str) -> Pair:
    """Prediction and labels slice by slice, and whether all are of one size.

    Smaller slices lie in the upper left corner of the largest height and width, 0 around them.
    Colours stand for numbers as `unet_np.data.own.masks.as_numbers` has them, but in probabilities.

    Parameters
    ----------
    prediction, labels : pathlib.Path
        Files or folders.
    kind : {"probabilities", "instances", "labels"}
        Which files are read of a folder that ``unet-np segment`` wrote.

    Raises
    ------
    InputError
        If there are no images, they have more axes, names do not pair, or sizes differ.
    """
    from unet_np.data.own.names import in_order, list_images, pair_labels
    from unet_np.data.own.pages import read_pages, stack_pages

    first, second = [prediction], [labels]
    if prediction.is_dir():
        first = of_segment(prediction, kind) or list_images(prediction, "prediction")
    if labels.is_dir():
        second = list_images(labels, "labels")
    how, left_out = "in order", list[Path]()
    if prediction.is_dir() and labels.is_dir():
        pairs, how, left_out = pair_labels(first, second)
        groups = [([file], [partner]) for file, partner in pairs]
    else:
        groups = [(in_order(first), in_order(second))]
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for files in groups:
        both = [
            [page for file in paths for _, page in read_pages(file, argument)]
            for paths, argument in zip(files, _SIDES, strict=True)
        ]
        # Of several files the first that do not fit are named.
        several = len(groups) > 1
        names = f" ({files[0][0].name} with {files[1][0].name})" * several
        _check_pages(both[0], both[1], files[0][0] if several else prediction, names)
        for side, pages in zip(sides, both, strict=True):
            side.extend(pages)
    maps = _flat(sides[0], "prediction", numbers=kind != "probabilities")
    truth = _flat(sides[1], "labels", numbers=True)
    one_size = len({page.shape for page in maps}) == 1
    remark = _remark(prediction, labels, groups, how, left_out)
    return Pair(stack_pages(maps), stack_pages(truth), one_size, how, len(left_out), remark)


def _remark(
    prediction: Path,
    labels: Path,
    groups: Sequence[tuple[list[Path], list[Path]]],
    how: str,
    left_out: Sequence[Path],
) -> str:
    if prediction.resolve() == labels.resolve():
        return f"prediction and labels are the same: {prediction}"
    if left_out:
        if len(left_out) == 1:
            return f"prediction: 1 file has no labels and is left out, {left_out[0].name}"
        return (
            f"prediction: {len(left_out)} files have no labels and are left out, the first "
            f"{left_out[0].name}"
        )
    folders = prediction.is_dir() + labels.is_dir()
    if how == "in order" and folders == 2:
        shown = [f"{first[0].name} with {second[0].name}" for first, second in groups]
        text = shown[0] if len(shown) == 1 else f"{shown[0]}, ..., {shown[-1]}"
        return f"prediction and labels share no names and go together in order: {text}"
    if folders == 1 and len(groups[0][0]) == len(groups[0][1]) == 1:
        return _other_names(groups[0][0][0], groups[0][1][0])
    return ""


def _other_names(prediction: Path, labels: Path) -> str:
    """A remark if a file and the only one of a folder do not look like partners."""
    from unet_np.data.own.names import pair_labels

    try:
        if pair_labels([prediction], [labels]).how != "in order":
            return ""
    except InputError:
        pass
    return f"prediction and labels share no names: {prediction.name} is compared with {labels.name}"


def of_segment(folder: Path, kind: str) -> list[Path]:
    """The files of a kind that ``unet-np segment`` wrote to a folder."""
    found = folder.glob(f"*-{kind}.tif")
    return sorted(file for file in found if file.name[0] != "." and file.is_file())


def _check_pages(
    prediction: list[np.ndarray], labels: list[np.ndarray], file: Path, names: str
) -> None:
    if are_classes(prediction):
        raise InputError(
            f"prediction: got {file} with a probability of each of {len(prediction)} classes, "
            "expected classes, NAME-labels.tif of `unet-np segment`, and --classes"
        )
    if [page.shape[:2] for page in prediction] != [page.shape[:2] for page in labels]:
        raise InputError(
            f"prediction: got {_size(prediction)}, expected {_size(labels)} as the labels{names}"
        )


def _size(pages: list[np.ndarray]) -> str:
    sizes = {page.shape[:2] for page in pages}
    shown = (
        f"{pages[0].shape[0]} x {pages[0].shape[1]}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    )
    return f"{len(pages)} slices of {shown}"


def _flat(pages: list[np.ndarray], argument: str, numbers: bool) -> list[np.ndarray]:
    """Without channels: a number for each colour, or what is grey in colour."""
    from unet_np.data.own.masks import as_numbers
    from unet_np.images import to_grey

    channels = [page[..., :3] for page in pages if page.ndim == 3 and page.shape[-1] > 2]
    # Grey that was stored in colour keeps its dtype, of which probabilities are made.
    if not numbers or not any((page != page[..., :1]).any() for page in channels):
        return [to_grey(page) for page in pages]
    try:
        return as_numbers([(argument, page) for page in pages])
    except InputError as error:
        raise InputError(str(error).replace("masks: ", f"{argument}: ", 1)) from None


def are_classes(pages: Sequence[np.ndarray]) -> bool:
    """Whether pages are the probabilities of the classes of one image, which add up to 1.

    Examples
    --------
    >>> import numpy as np
    >>> map_ = np.array([[0.25, 1.0]])
    >>> are_classes([map_, 1 - map_]), are_classes([map_, map_]), are_classes([map_])
    (True, False, False)
    """
    import numpy as np

    if len(pages) < 2 or len({page.shape for page in pages}) > 1 or pages[0].dtype.kind != "f":
        return False
    return bool(np.allclose(np.sum(pages, axis=0), 1, atol=1e-3))


def remarks_on_numbers(prediction: np.ndarray, labels: np.ndarray) -> list[str]:
    """What shows that cells are not numbered apart, as seg_measure needs them to be.

    Parameters
    ----------
    prediction, labels : numpy.ndarray
        Whole numbers, (N, H, W) each.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.array([[[1, 0, 2]]])
    >>> remarks_on_numbers(cells, cells)
    []
    >>> print(*remarks_on_numbers(np.minimum(cells, 1), cells))
    prediction: it holds one object only and the labels 2; seg_measure needs cells that are \
numbered apart, as in NAME-instances.tif of `unet-np segment --instances`
    """
    import numpy as np

    from unet_np.data.own.masks import one_region_each

    counts = [int(np.count_nonzero(np.unique(side))) for side in (prediction, labels)]
    needed = (
        "seg_measure needs cells that are numbered apart, as in NAME-instances.tif of "
        "`unet-np segment --instances`"
    )
    if counts[0] == 1 < counts[1]:
        return [f"prediction: it holds one object only and the labels {counts[1]}; {needed}"]
    return [
        f"{side}: most of its {count} numbers lie in several pieces; {needed}"
        for side, stack, count in zip(_SIDES, (prediction, labels), counts, strict=True)
        if count > 1 and one_region_each(stack) < 0.5
    ]


def remarks_on_mask(labels: np.ndarray) -> list[str]:
    """What shows that labels are no mask, of which all but 0 is interior.

    Examples
    --------
    >>> import numpy as np
    >>> remarks_on_mask(np.array([[[0, 255, 0, 255]]]))
    []
    >>> print(*remarks_on_mask(np.tile(np.arange(20), 2)[None, None]))
    labels: got 20 values in many small pieces, and all but 0 is taken for cell; an image, a JPEG \
or a resized mask is no mask
    """
    import numpy as np

    from unet_np.data.own.masks import one_region_each

    count = len(np.unique(labels))
    if count <= MANY or one_region_each(labels) >= 0.5:
        return []
    return [
        f"labels: got {count} values in many small pieces, and all but 0 is taken for cell; an "
        "image, a JPEG or a resized mask is no mask"
    ]


def remarks_on_empty_slices(labels: np.ndarray, metrics: Sequence[str]) -> list[str]:
    """Which slices count as 0 in the metrics that are means over slices.

    Examples
    --------
    >>> import numpy as np
    >>> print(*remarks_on_empty_slices(np.array([[[1]], [[0]]]), ["rand_error", "v_rand"]))
    labels: nothing but membrane in slice 1, which counts as 0 in v_rand, as in the challenge's \
program
    """
    import numpy as np

    means = [name for name in metrics if name in ("v_rand", "v_info")]
    empty = np.flatnonzero(~labels.any(axis=(1, 2)))
    if not means or not empty.size:
        return []
    slices = (
        f"slice {empty[0]}, which counts"
        if empty.size == 1
        else f"{empty.size} slices, the first {empty[0]}, which count"
    )
    return [
        f"labels: nothing but membrane in {slices} as 0 in {' and '.join(means)}, as in the "
        "challenge's program"
    ]
