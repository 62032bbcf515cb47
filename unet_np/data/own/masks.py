"""What the values of a user's masks mean: cell or not, classes, or the numbers of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_np.data.own.pages import check_channels
from unet_np.errors import InputError
from unet_np.metrics.components import one_region_each, renumbered

KINDS = ("auto", "mask", "classes", "cells")
"""How masks may be read; see `read_meaning`."""

MAX_CLASSES = 16
"""More values than these are no classes unless the user says so."""


@dataclass(frozen=True)
class Meaning:
    """Masks as a network learns them.

    Attributes
    ----------
    labels : list of numpy.ndarray
        (H, W) uint8 (uint16 past 256 classes): the class of each pixel.
    instances : list of numpy.ndarray or None
        (H, W) int32 with the number of each pixel's cell, 0 outside; None without numbers.
    note : str
        How they were read, for the user.
    """

    labels: list[np.ndarray]
    instances: list[np.ndarray] | None
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
        If there are fractions or negative numbers, or two or four channels.

    Examples
    --------
    >>> red = np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8)
    >>> as_numbers([("a", red)])[0], as_numbers([("a", np.array([[0.0, 3.0]]))])[0]
    (array([[       0, 16711680]]), array([[0, 3]]))
    """
    check_channels(list(masks), argument)
    plain = []
    for name, array in masks:
        if array.dtype.kind == "f" and not (array == np.round(array)).all():
            worst = float(array[array != np.round(array)].flat[0])
            raise InputError(
                f"{argument}: got {worst:.4g} in {name}, expected whole numbers: 0 for background, "
                "and cells or classes; a map of probabilities is no mask"
            )
        numbers = array.astype(np.int64)
        if numbers.min() < 0:
            raise InputError(f"{argument}: got {numbers.min()} in {name}, expected numbers from 0")
        plain.append(numbers)
    if any(_coloured(array) for array in plain):
        bits = 16 if any(array.max() > 255 for array in plain) else 8
        shifts = np.array([1 << 2 * bits, 1 << bits, 1])
        return [
            array @ shifts
            if array.ndim == 3 and array.shape[-1] == 3
            else _first(array) * sum(shifts)
            for array in plain
        ]
    return [_first(array) for array in plain]


def read_meaning(names: Sequence[str], masks: Sequence[np.ndarray], kind: str = "auto") -> Meaning:
    """Classes and cells from the values of all masks together.

    Parameters
    ----------
    names : sequence of str
        For messages.
    masks : sequence of numpy.ndarray
        (H, W), integers from 0, of any sizes.
    kind : {"auto", "mask", "classes", "cells"}
        ``mask``: the lowest value is background, every other one is cell. ``classes``: the values,
        in order, are classes 0, 1, 2, ... ``cells``: 0 is background and each value one cell.
        ``auto`` decides: two values are a mask; 0, 128 and 255 (or 127) are classes, and so are
        masks of one value each; numbers most of which are one connected region are cells; others
        are classes, if there are no more than 16.

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
    >>> read_meaning(["a"], [np.array([[0, 1, 0, 2, 0, 3]])]).note
    'masks: 3 numbered cells, 3 on average in a mask'
    """
    if kind not in KINDS:
        raise InputError(f"mask_values: got {kind!r}, expected one of {', '.join(KINDS)}")
    counted = [np.unique(mask) for mask in masks]
    values = np.unique(np.concatenate(counted))
    if len(values) == 1:
        raise InputError(_one_value(int(values[0]), len(masks)))
    if kind == "auto":
        kind = _guess(names, masks, counted, values)
    if kind == "cells":
        count = sum(int((v > 0).sum()) for v in counted)
        note = f"masks: {count} numbered cells, {count / len(masks):.3g} on average in a mask"
        cells = [renumbered(mask) for mask in masks]
        return Meaning([(mask > 0).astype(np.uint8) for mask in masks], cells, note)
    shown = [_shown(value) for value in values[:MAX_CLASSES]] + ["..."] * (
        len(values) > MAX_CLASSES
    )
    if kind == "classes" and len(values) > 2:
        dtype = np.uint8 if len(values) <= 256 else np.uint16
        labels = [np.searchsorted(values, mask).astype(dtype) for mask in masks]
        note = f"masks: {len(values)} classes, from the values {', '.join(shown)}"
        return Meaning(labels, None, note)
    labels = [(mask > values[0]).astype(np.uint8) for mask in masks]
    cells_are = f"{shown[1]} is cell" if len(values) == 2 else "anything else is cell"
    return Meaning(labels, None, f"masks: {shown[0]} is background, {cells_are}")


def _guess(
    names: Sequence[str],
    masks: Sequence[np.ndarray],
    counted: Sequence[np.ndarray],
    values: np.ndarray,
) -> str:
    # Some programs write 1 and others 255: a folder may hold masks of both.
    both = values.tolist() == [0, 1, 255] and all(len(v) < 3 for v in counted)
    if len(values) == 2 or both:
        return "mask"
    if values.tolist() in ([0, 127, 255], [0, 128, 255]) or all(len(v) == 1 for v in counted):
        return "classes"
    if one_region_each(masks) >= 0.5:
        return "cells"
    if len(values) <= MAX_CLASSES:
        return "classes"
    worst = max(range(len(masks)), key=lambda i: len(counted[i]))
    raise InputError(
        f"masks: got {len(counted[worst])} values in {names[worst]}, most in many small pieces, "
        "expected 0 and one number for each cell, or a few classes; an image, a JPEG or a resized "
        "mask is none (a --mask-values of mask, classes or cells takes it as it is)"
    )


def _one_value(value: int, count: int) -> str:
    among = "every mask" if count > 1 else "the mask"
    if value:
        return (
            f"masks: got only the value {_shown(value)} in {among}, expected background as well, "
            "usually 0"
        )
    return f"masks: got only 0 in {among}, expected cells as 1, as 255 or numbered"


def _shown(value: int) -> str:
    return str(int(value)) if value < 65536 else f"#{int(value):06x}"


def _coloured(array: np.ndarray) -> bool:
    return array.ndim == 3 and bool((array != array[..., :1]).any())


def _first(array: np.ndarray) -> np.ndarray:
    return array[..., 0] if array.ndim == 3 else array
