"""Predictions and labels that are compared: which of their files go together, and their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet_np.data.own.masks import as_numbers, colour_bits, is_whole
from unet_np.data.own.names import Pairing, in_order, list_images, pair_labels
from unet_np.data.own.pages import check_channels, read_pages, stack_pages
from unet_np.data.own.smeared import has_two_sides, is_smeared
from unet_np.data.own.values import listed
from unet_np.errors import InputError
from unet_np.images import to_grey
from unet_np.metrics.scoring import are_classes

_SIDES = ("prediction", "labels")


class Compared(NamedTuple):
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
    ignored : numpy.ndarray
        (N, H, W) bool: pixels that count nowhere. Both are 0 there.
    bits : int
        Of `unet_np.data.own.masks.colour_bits`, if the labels are colours.
    """

    prediction: np.ndarray
    labels: np.ndarray
    one_size: bool
    how: str
    left_out: int
    remark: str
    ignored: np.ndarray
    bits: int


def read_both(
    prediction: Path, labels: Path, kind: str, axes: str = "auto", ignore: Sequence[int] = ()
) -> Compared:
    """Prediction and labels slice by slice, and whether all are of one size.

    Smaller slices lie in the upper left corner of the largest height and width, 0 around them.
    Colours stand for numbers as `unet_np.data.own.masks.as_numbers` has them, but in probabilities.

    Parameters
    ----------
    prediction, labels : pathlib.Path
        Files or folders.
    kind : {"probabilities", "instances", "labels"}
        Which files are read of a folder that ``unet-np segment`` wrote.
    axes : str
        Of the prediction; see `unet_np.data.own.pages.read_pages`.
    ignore : sequence of int
        Values of the labels where nobody knows.

    Raises
    ------
    InputError
        If there are no images, they have more axes, names do not pair, or sizes differ.
    """
    first, second = [prediction], [labels]
    if prediction.is_dir():
        first = of_segment(prediction, kind) or list_images(prediction, "prediction")
    if labels.is_dir():
        second = list_images(labels, "labels")
    pairing = Pairing([], "in order", [])
    groups = [(in_order(first), in_order(second))]
    if prediction.is_dir() and labels.is_dir():
        pairing = pair_labels(first, second)
        groups = [([file], [partner]) for file, partner in pairing.pairs]
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for files in groups:
        both = [
            [page for file in paths for _, page in read_pages(file, argument, known)]
            for paths, argument, known in zip(files, _SIDES, (axes, "auto"), strict=True)
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
    remark = _remark(prediction, labels, groups, pairing)
    ignored = [np.isin(page, ignore) for page in truth]
    if ignore and not any(out.any() for out in ignored):
        raise InputError(f"ignore: got {listed(ignore)}, expected values that the labels have")
    known = [np.where(out, 0, page) for out, page in zip(ignored, truth, strict=True)]
    truth, cut = _as_drawn(known, kind)
    remark = "; ".join(filter(None, (remark, cut)))
    out = stack_pages(ignored)
    stacks = [np.where(out, 0, one) for one in map(stack_pages, (maps, truth))]
    bits = colour_bits(sides[1])
    found = pairing.how, len(pairing.left_out), remark
    return Compared(stacks[0], stacks[1], one_size, *found, out, bits)


def _as_drawn(truth: list[np.ndarray], kind: str) -> tuple[list[np.ndarray], str]:
    """Labels of two values that a JPEG or resizing blurred, cut at half, and a remark."""
    if not all(map(is_whole, truth)):
        return truth, ""
    whole = [page.astype(np.int64) for page in truth]
    if not is_smeared(whole):
        return truth, ""
    if has_two_sides(whole):
        low, high = min(int(page.min()) for page in whole), max(int(page.max()) for page in whole)
        remark = f"labels: blurred, as by a JPEG or by resizing, and cut at half of {low} to {high}"
        return [(2 * page > low + high).astype(np.uint8) for page in whole], remark
    if kind == "labels":
        raise InputError(
            "labels: got values that lie between others or beside them, as in a JPEG or a resized "
            "mask, expected classes as they were drawn"
        )
    return truth, ""


def of_segment(folder: Path, kind: str) -> list[Path]:
    """The files of a kind that ``unet-np segment`` wrote to a folder."""
    found = folder.glob(f"*-{kind}.tif")
    return sorted(file for file in found if file.name[0] != "." and file.is_file())


def _remark(
    prediction: Path,
    labels: Path,
    groups: Sequence[tuple[list[Path], list[Path]]],
    pairing: Pairing,
) -> str:
    left_out = pairing.left_out
    if prediction.resolve() == labels.resolve():
        return f"prediction and labels are the same: {prediction}"
    if len(left_out) == 1:
        return f"prediction: 1 file has no labels and is left out, {left_out[0].name}"
    if left_out:
        return (
            f"prediction: {len(left_out)} files have no labels and are left out, the first "
            f"{left_out[0].name}"
        )
    folders = prediction.is_dir() + labels.is_dir()
    if pairing.how == "in order" and folders == 2:
        shown = [f"{first[0].name} with {second[0].name}" for first, second in groups]
        text = shown[0] if len(shown) == 1 else f"{shown[0]}, ..., {shown[-1]}"
        return f"prediction and labels share no names and go together in order: {text}"
    if folders == 1 and len(groups[0][0]) == len(groups[0][1]) == 1:
        return _other_names(groups[0][0][0], groups[0][1][0])
    return ""


def _other_names(prediction: Path, labels: Path) -> str:
    """A remark if a file and the only one of a folder do not look like partners."""
    try:
        if pair_labels([prediction], [labels]).how != "in order":
            return ""
    except InputError:
        pass
    return f"prediction and labels share no names: {prediction.name} is compared with {labels.name}"


def _check_pages(
    prediction: list[np.ndarray], labels: list[np.ndarray], file: Path, names: str
) -> None:
    first = prediction[0]
    maps = prediction if first.ndim == 2 else list(np.moveaxis(first, -1, 0))
    if are_classes(maps):
        raise InputError(
            f"prediction: got {file} with a probability of each of {len(maps)} classes, "
            "expected classes, NAME-labels.tif of `unet-np segment`, and --classes"
        )
    if [page.shape[:2] for page in prediction] != [page.shape[:2] for page in labels]:
        raise InputError(
            f"prediction: got {_size(prediction)}, expected {_size(labels)} as the labels{names}"
        )


def _size(pages: list[np.ndarray]) -> str:
    sizes = {page.shape[:2] for page in pages}
    height, width = pages[0].shape[:2]
    shown = f"{height} x {width}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    return f"{len(pages)} slices of {shown}"


def _flat(pages: list[np.ndarray], argument: str, numbers: bool) -> list[np.ndarray]:
    """Without channels: a number for each colour, or what is grey in colour."""
    check_channels([(argument, page) for page in pages], argument)
    channels = [page for page in pages if page.ndim == 3]
    # Grey that was stored in colour keeps its dtype, of which probabilities are made.
    if not numbers or not any((page != page[..., :1]).any() for page in channels):
        flat = [to_grey(page) for page in pages]
        return [np.round(page) if is_whole(page) else page for page in flat] if numbers else flat
    return as_numbers([(argument, page) for page in pages], argument)
