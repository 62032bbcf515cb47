"""What the values of a user's masks mean: cell or not, classes, or the numbers of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_np.data.own.pages import check_channels
from unet_np.data.own.smeared import has_two_sides, is_smeared
from unet_np.data.own.values import listed, shown
from unet_np.errors import InputError, one_of
from unet_np.metrics.components import one_region_each, renumbered

KINDS = ("auto", "mask", "classes", "cells")
"""How masks may be read; see `read_meaning`."""

MAX_CLASSES = 16
"""More values than these are no classes unless the user says so."""

_VOID = 255  # what many data sets of classes have where nobody knows
_WHOLE = 1e-3  # as near to a whole number as arithmetic in single precision leaves it


@dataclass(frozen=True)
class Meaning:
    """Masks as a network learns them.

    Attributes
    ----------
    labels : list of numpy.ndarray
        (H, W) uint8 (uint16 past 256 classes): the class of each pixel, 0 where it is ignored.
    instances : list of numpy.ndarray or None
        (H, W) int32 with the number of each pixel's cell, 0 outside; None without numbers.
    ignored : list of numpy.ndarray
        (H, W) bool: pixels of which nothing is known.
    note : str
        How they were read, for the user.
    """

    labels: list[np.ndarray]
    instances: list[np.ndarray] | None
    ignored: list[np.ndarray]
    note: str


def as_numbers(
    masks: Sequence[tuple[str, np.ndarray]], argument: str = "masks"
) -> list[np.ndarray]:
    """One integer for each pixel, whatever the files hold.

    Colour that is grey becomes that grey value. Where any mask is in real colour, each colour
    stands for a number, ``65536 R + 256 G + B`` in 8 bits, and black for 0. Whole
    numbers may be stored as floats.

    Parameters
    ----------
    masks : sequence of (str, numpy.ndarray)
        Name and array, (H, W) or (H, W, channels).
    argument : str
        What messages call them.

    Raises
    ------
    InputError
        If there are fractions, or two or four channels.

    Examples
    --------
    >>> red = np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8)
    >>> as_numbers([("a", red)])[0], as_numbers([("a", np.array([[0.0, 2.9999998]]))])[0]
    (array([[       0, 16711680]]), array([[0, 3]]))
    """
    check_channels(list(masks), argument)
    plain = []
    for name, array in masks:
        if not is_whole(array):
            worst = float(array[np.abs(array - np.round(array)) > _WHOLE].flat[0])
            raise InputError(
                f"{argument}: got {worst:.4g} in {name}, expected whole numbers: 0 for background, "
                "and cells or classes; a map of probabilities is no mask"
            )
        plain.append(np.round(array).astype(np.int64))
    bits = colour_bits([array for _, array in masks])
    if not bits:
        return [_first(array) for array in plain]
    shifts = np.array([1 << 2 * bits, 1 << bits, 1])
    return [
        array @ shifts if array.ndim == 3 and array.shape[-1] == 3 else _first(array) * sum(shifts)
        for array in plain
    ]


def is_whole(array: np.ndarray) -> bool:
    """Whether all numbers are whole, but for what rounding to single precision leaves.

    Examples
    --------
    >>> is_whole(np.array([0.99999994])), is_whole(np.array([0.5]))
    (True, False)
    """
    return array.dtype.kind != "f" or bool((np.abs(array - np.round(array)) <= _WHOLE).all())


def colour_bits(masks: Sequence[np.ndarray]) -> int:
    """Bits of each colour in the numbers of `as_numbers`; 0 where no mask is in real colour."""
    if not any(_coloured(array) for array in masks):
        return 0
    return 16 if any(array.max() > 255 for array in masks) else 8


def read_meaning(
    names: Sequence[str],
    masks: Sequence[np.ndarray],
    kind: str = "auto",
    ignore: Sequence[int] = (),
    background: int | None = None,
    bits: int = 0,
) -> Meaning:
    """Classes and cells from the values of all masks together.

    Parameters
    ----------
    names : sequence of str
        For messages.
    masks : sequence of numpy.ndarray
        (H, W), integers, of any sizes.
    kind : {"auto", "mask", "classes", "cells"}
        ``mask``: the lowest value is background, every other one is cell; masks that were blurred,
        by a JPEG or by resizing, are cut at half. ``classes``: the values,
        in order, are classes 0, 1, 2, ... ``cells``: 0 is background and each value one cell.
        ``auto`` decides: two values are a mask; 0, 128 and 255 (or 127) are classes, and so are
        masks of one value each; numbers most of which are one connected region are cells; others
        are classes, if there are no more than 16.
    ignore : sequence of int
        Values of pixels of which nothing is known. They are no class and no cell.
    background : int, optional
        The value of the background, which then is class 0.
    bits : int
        Of `colour_bits`, if values are colours.

    Returns
    -------
    Meaning

    Raises
    ------
    InputError
        If there is one value only, or the values are none of these.

    Examples
    --------
    >>> binary = read_meaning(["a"], [np.array([[0, 255]])])
    >>> binary.labels[0].tolist(), binary.instances, binary.note
    ([[0, 1]], None, 'masks: 0 is background, 255 is cell')
    >>> read_meaning(["a"], [np.array([[0, 128, 255]])]).note
    'masks: 3 classes, from the values 0, 128, 255'
    >>> read_meaning(["a"], [np.array([[0, 128, 255]])], ignore=[128]).note
    'masks: 0 is background, 255 is cell, 128 is ignored (33.3 % of the pixels)'
    >>> read_meaning(["a"], [np.array([[0, 1, 0, 2, 0, 3]])]).note
    'masks: 3 numbered cells, 3 on average in a mask'
    """
    one_of("mask_values", kind, KINDS)
    ignored = [np.isin(mask, ignore) for mask in masks]
    left = [mask[~out] for mask, out in zip(masks, ignored, strict=True)]
    counted = [np.unique(pixels) for pixels in left]
    values = np.unique(np.concatenate(counted)).astype(np.int64)
    _check_values(names, counted, values, ignore, background, bits)
    # The background first, then the others in order.
    values = values if background is None else np.array([background, *values[values != background]])
    filled = [
        np.where(out, values[0], mask) if out.any() else mask
        for mask, out in zip(masks, ignored, strict=True)
    ]
    places = [_places(mask, values) for mask in filled]
    numbers = filled if background is None else places
    guessed, blurred = kind == "auto", kind in ("auto", "mask") and is_blurred(numbers, left)
    if guessed:
        kind = _guess(names, numbers, counted, values, blurred)
        if kind == "cells" and background is None:
            _ask_for_background(masks, values, bits)
    if kind == "cells":
        labels, cells, note = _cells(places, values, background)
    else:
        cells = None
        labels, note = _classes(kind, filled, places, values, blurred and background is None, bits)
    hint = _hint(kind, counted, values, bits) if guessed else ""
    note = f"masks: {note}{hint}{_said(ignore, ignored, bits)}"
    return Meaning(labels, cells, ignored, note)


def _places(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    order = np.argsort(values)
    return order[np.searchsorted(values, mask, sorter=order)]


def _cells(
    places: list[np.ndarray], values: np.ndarray, background: int | None
) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    lowest = 0 if background is not None or values[0] == 0 else -1
    cells = [renumbered(place - lowest) for place in places]
    count = sum(len(np.unique(one[one > 0])) for one in cells)
    note = f"{count} numbered cells, {count / len(cells):.3g} on average in a mask"
    return [(one > 0).astype(np.uint8) for one in cells], cells, note


def _classes(
    kind: str,
    masks: list[np.ndarray],
    places: list[np.ndarray],
    values: np.ndarray,
    blurred: bool,
    bits: int,
) -> tuple[list[np.ndarray], str]:
    if kind == "classes" and len(values) > 2:
        dtype = np.uint8 if len(values) <= 256 else np.uint16
        note = f"{len(values)} classes, from the values {listed(values.tolist(), bits)}"
        return [place.astype(dtype) for place in places], note
    if blurred and not bits and has_two_sides(masks):
        low, high = int(values[0]), int(values[-1])
        labels = [(2 * mask > low + high).astype(np.uint8) for mask in masks]
        return labels, f"cut at half of {low} to {high}: what is above is cell"
    others = f"{shown(values[1], bits)} is cell" if len(values) == 2 else "anything else is cell"
    labels = [(place > 0).astype(np.uint8) for place in places]
    return labels, f"{shown(values[0], bits)} is background, {others}"


def _check_values(
    names: Sequence[str],
    counted: Sequence[np.ndarray],
    values: np.ndarray,
    ignore: Sequence[int],
    background: int | None,
    bits: int,
) -> None:
    if not len(values):
        raise InputError(f"ignore: got {listed(ignore, bits)}, expected other values in some mask")
    if background is not None and background not in values:
        got, there = shown(background, bits), listed(values.tolist(), bits, 6)
        raise InputError(f"background: got {got}, expected a value of the masks: {there}")
    if len(values) == 1:
        raise InputError(_one_value(int(values[0]), len(names), bits))
    for name, own in zip(names, counted, strict=True):
        others = own[own != background] if background is not None else own
        if len(others) and others[0] < 0:
            raise InputError(
                f"masks: got {others[0]} in {name}, expected numbers from 0; --ignore {others[0]} "
                f"leaves these pixels out, --background {others[0]} takes them for background"
            )


def is_blurred(masks: Sequence[np.ndarray], left: Sequence[np.ndarray]) -> bool:
    """Whether masks are none: grey values, a JPEG, or resized.

    Parameters
    ----------
    masks : sequence of numpy.ndarray
        (H, W), integers.
    left : sequence of numpy.ndarray
        The values of each that are not ignored.

    Examples
    --------
    >>> image = np.random.default_rng(0).integers(0, 99, (20, 20))
    >>> is_blurred([image], [image]), is_blurred([image // 50], [image // 50])
    (True, False)
    """
    many = len(np.unique(np.concatenate([np.unique(pixels) for pixels in left]))) > MAX_CLASSES
    return is_smeared(masks) or (many and one_region_each(masks) < 0.5)


def _guess(
    names: Sequence[str],
    masks: Sequence[np.ndarray],
    counted: Sequence[np.ndarray],
    values: np.ndarray,
    blurred: bool,
) -> str:
    # Some programs write 1 and others 255: a folder may hold masks of both.
    both = values.tolist() == [0, 1, 255] and all(len(v) < 3 for v in counted)
    if len(values) == 2 or both:
        return "mask"
    if blurred:
        worst = max(range(len(masks)), key=lambda i: len(counted[i]))
        raise InputError(
            f"masks: got {len(counted[worst])} values in {names[worst]}, most in many small "
            "pieces, expected 0 and one number for each cell, or a few classes; an image, a JPEG "
            "or a resized mask is none (--mask-values mask cuts one of two values at half; "
            "classes or cells takes it as it is)"
        )
    if values.tolist() in ([0, 127, 255], [0, 128, 255]) or all(len(v) == 1 for v in counted):
        return "classes"
    return "cells" if one_region_each(masks) >= 0.5 else "classes"


def _ask_for_background(masks: Sequence[np.ndarray], values: np.ndarray, bits: int) -> None:
    """Numbered cells have background between them, and it is 0 unless the user says otherwise."""
    found, counts = np.unique(np.concatenate([mask.ravel() for mask in masks]), return_counts=True)
    most = int(found[counts.argmax()])
    if 0 in values and not (most != 0 and 2 * counts.max() > counts.sum()):
        return
    got = f"the value {shown(most, bits)} in most pixels" if 0 in values else "no 0 in any mask"
    raise InputError(
        f"masks: got {got}, expected 0 for background and a number for each cell; if "
        f"{shown(most, bits)} is background, --background {shown(most, bits)}, and if it is a cell "
        "like the others, --mask-values cells"
    )


def _hint(kind: str, counted: Sequence[np.ndarray], values: np.ndarray, bits: int) -> str:
    same = len(counted) > 2 and all(np.array_equal(counted[0], one) for one in counted)
    if kind == "cells" and same and len(values) > 2:
        return (
            "; each mask holds the same numbers: if these are classes of one region each, "
            "--mask-values classes"
        )
    if kind == "classes" and not bits and values[-1] == _VOID and values[-2] < _VOID // 4:
        return f"; {_VOID} is a class like the others: if it is none, --ignore {_VOID}"
    return ""


def _said(ignore: Sequence[int], ignored: Sequence[np.ndarray], bits: int) -> str:
    if not ignore:
        return ""
    share = sum(out.sum() for out in ignored) / sum(out.size for out in ignored)
    verb = "is" if len(ignore) == 1 else "are"
    return f", {listed(ignore, bits)} {verb} ignored ({100 * share:.3g} % of the pixels)"


def _one_value(value: int, count: int, bits: int) -> str:
    among = "every mask" if count > 1 else "the mask"
    if value:
        return (
            f"masks: got only the value {shown(value, bits)} in {among}, expected background as "
            "well, usually 0"
        )
    return f"masks: got only 0 in {among}, expected cells as 1, as 255 or numbered"


def _coloured(array: np.ndarray) -> bool:
    return array.ndim == 3 and bool((array != array[..., :1]).any())


def _first(array: np.ndarray) -> np.ndarray:
    return array[..., 0] if array.ndim == 3 else array
