"""A prediction as a file has it, whatever its dtype, against labels of any values.

The metrics themselves ask for 0 and 1, for probabilities, or for numbered objects. Here is what
turns stored numbers into these, which metrics fit them, and what about them looks wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_np.errors import InputError
from unet_np.metrics._inputs import Thresholds
from unet_np.metrics.components import one_region_each
from unet_np.metrics.evaluation import ISBI_METRICS, MEANS, Evaluation, evaluate

OVERLAPS = ("iou", "dice")
"""The metrics of two masks, and so of classes."""

PADDABLE = (*OVERLAPS, "seg_measure")
"""The metrics that background around labels and prediction does not change."""

MANY = 16  # numbers from here on are rather of cells or grey values than of classes
_APART = (
    "seg_measure needs cells that are numbered apart, as in NAME-instances.tif of "
    "`unet-np segment --instances`"
)


def score(
    labels: NDArray, prediction: NDArray, metrics: Sequence[str], thresholds: Thresholds = None
) -> dict[str, Evaluation]:
    """Several metrics of a prediction of any dtype.

    Parameters
    ----------
    labels : numpy.ndarray
        (N, H, W); 0 is membrane or background, anything else is cell. For seg_measure they number
        the cells.
    prediction : numpy.ndarray
        Same shape: see `probabilities` and, for seg_measure, `numbered`.
    metrics : sequence of str
        Among `unet_np.metrics.METRIC_NAMES`.
    thresholds : float or sequence of float, optional
        As for `unet_np.metrics.evaluate`.

    Raises
    ------
    InputError
        As `unet_np.metrics.evaluate`, `probabilities` and `numbered`.

    Examples
    --------
    >>> labels, found = np.array([[[0, 255]]]), np.array([[[0, 255]]], np.uint8)
    >>> score(labels, found, ["iou"])["iou"]["value"]
    1.0
    """
    scores: dict[str, Evaluation] = {}
    for name in metrics:
        if name == "seg_measure":
            cells = numbered(prediction, "prediction")
            scores |= evaluate(numbered(labels, "labels"), cells, name)
        else:
            truth = (labels > 0).astype(np.uint8)
            scores |= evaluate(truth, probabilities(prediction), name, thresholds)
    return scores


def class_scores(
    labels: NDArray,
    prediction: NDArray,
    metrics: Sequence[str] = OVERLAPS,
    values: Sequence[int] | None = None,
    ignored: NDArray | None = None,
) -> dict[str, Evaluation]:
    """Scores of each class but 0 that occurs on either side, of whole numbers.

    A class is its number, whichever others occur. One that only one side has is scored: 0.

    Parameters
    ----------
    labels : numpy.ndarray
        (N, H, W), classes from 0, or the values that stand for them.
    prediction : numpy.ndarray
        Same shape, classes from 0.
    metrics : sequence of str
        iou and dice.
    values : sequence of int, optional
        The value of class 0, 1, 2, ... in the labels.
    ignored : numpy.ndarray, optional
        Same shape, bool: pixels that count nowhere.

    Raises
    ------
    InputError
        If the labels look like values that stand for classes and nobody says for which, or have
        one that is not among `values`, or no class but 0 is there.

    Examples
    --------
    >>> truth, found = np.array([[[0, 0, 2, 2]]]), np.array([[[0, 1, 2, 2]]])
    >>> scores = class_scores(truth, found, ["iou"])
    >>> {name: score["value"] for name, score in scores.items()}
    {'iou of class 1': 0.0, 'iou of class 2': 1.0}
    >>> list(class_scores(np.array([[[0, 80, 255]]]), found[..., :3], ["iou"], [0, 80, 255]))
    ['iou of class 1', 'iou of class 2']
    """
    truth, classes, known = _known_classes(labels, prediction, values, ignored)
    both = [np.zeros(labels.shape, np.int64) for _ in range(2)]
    for stack, part in zip(both, (truth, classes), strict=True):
        stack[known] = part
    occurring = [int(number) for number in np.union1d(truth, classes) if number > 0]
    if not occurring:
        raise InputError("labels: got class 0 all over, as in the prediction, expected another")
    scores = {}
    for number in occurring:
        masks = [stack == number for stack in both]
        for name in metrics:
            slices = [_overlap(name, *pair) for pair in zip(*masks, strict=True)]
            value = _overlap(name, *masks)
            assert value is not None
            scores[f"{name} of class {number}"] = Evaluation(
                value=value, threshold=None, slices=slices
            )
    return scores


def confusion(
    labels: NDArray,
    prediction: NDArray,
    values: Sequence[int] | None = None,
    ignored: NDArray | None = None,
) -> NDArray[np.int64]:
    """Pixels of each class, a row each, by the class that they were taken for, a column each.

    Parameters
    ----------
    labels, prediction, values, ignored
        As for `class_scores`; of any shape.

    Returns
    -------
    numpy.ndarray
        int64 (K, K), up to the highest class on either side.

    Examples
    --------
    >>> confusion(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    array([[1, 0, 0],
           [0, 1, 1],
           [0, 0, 1]])
    """
    truth, classes, _ = _known_classes(labels, prediction, values, ignored)
    count = 1 + int(max(truth.max(initial=0), classes.max(initial=0)))
    pairs = truth.astype(np.int64) * count + classes
    return np.bincount(pairs, minlength=count**2).reshape(count, count)


def _known_classes(
    labels: NDArray, prediction: NDArray, values: Sequence[int] | None, ignored: NDArray | None
) -> tuple[NDArray, NDArray, NDArray]:
    """Classes of the pixels that count, true and found, and which pixels those are."""
    known = np.ones(labels.shape, bool) if ignored is None else ~ignored
    classes = numbered(prediction, "prediction")[known]
    truth = class_numbers(numbered(labels, "labels")[known], int(classes.max(initial=0)), values)
    return truth, classes, known


def _overlap(name: str, label: NDArray, found: NDArray) -> float | None:
    """IoU or Dice of two masks; None where both are empty."""
    common, total = int((label & found).sum()), int(label.sum()) + int(found.sum())
    if total == 0:
        return None
    return 2 * common / total if name == "dice" else common / (total - common)


def class_numbers(labels: NDArray, highest: int, values: Sequence[int] | None = None) -> NDArray:
    """The class of each pixel: its value, or the place of that in a list.

    0, 128 (or 127) and 255 are 0, 1 and 2 if all three are there. Other values far above the
    prediction's, with gaps between them, are no numbers of classes.

    Parameters
    ----------
    labels : numpy.ndarray
        Integers.
    highest : int
        Class of the prediction.
    values : sequence of int, optional
        The value of class 0, 1, 2, ...

    Raises
    ------
    InputError
        If only the user can say what values mean, or one is not in the list.

    Examples
    --------
    >>> class_numbers(np.array([0, 2]), 2), class_numbers(np.array([0, 128, 255]), 2)
    (array([0, 2]), array([0, 1, 2]))
    >>> class_numbers(np.array([0, 255]), 2)
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: labels: got the values 0, 255 and classes up to 2 in the \
prediction, expected the same numbers, or --values with the value of class 0, 1, 2, ...
    """
    found = np.unique(labels)
    shown = ", ".join(map(str, found[:6])) + ", ..." * (len(found) > 6)
    if values is not None:
        other = np.setdiff1d(found, values)
        if other.size:
            listed = " ".join(map(str, values))
            raise InputError(f"labels: got the value {other[0]}, expected one of --values {listed}")
        order = np.argsort(values)
        return order[np.searchsorted(np.asarray(values), labels, sorter=order)]
    if highest < 3 and found.tolist() in ([0, 127, 255], [0, 128, 255]):
        return np.searchsorted(found, labels)
    top = int(found.max(initial=0))
    if found.min(initial=0) < 0 or (top >= max(MANY, highest + 1) and top >= 4 * len(found)):
        raise InputError(
            f"labels: got the values {shown} and classes up to {highest} in the prediction, "
            "expected the same numbers, or --values with the value of class 0, 1, 2, ..."
        )
    return labels


def default_metrics(labels: NDArray, prediction: NDArray) -> tuple[str, ...]:
    """seg_measure where both number cells, else the errors of the paper's Table 1.

    Examples
    --------
    >>> default_metrics(np.array([0, 1, 3]), np.array([0, 1, 2]))
    ('seg_measure',)
    """
    # Two values, such as 0 and 255, are a mask; grey values would be a prediction, not labels.
    whole = prediction.dtype.kind in "uib" and labels.dtype.kind in "uib"
    return ("seg_measure",) if whole and _count(labels) > 1 else ISBI_METRICS


def probabilities(prediction: NDArray) -> NDArray:
    """Values in [0, 1] of a prediction of any dtype; 8 and 16 bits are divided by their highest.

    Raises
    ------
    InputError
        If they look like classes or numbers of cells.

    Examples
    --------
    >>> probabilities(np.array([0, 255], np.uint8)), probabilities(np.array([0, 1], np.uint8))
    (array([0., 1.], dtype=float32), array([0., 1.], dtype=float32))
    """
    if prediction.dtype.kind == "f":
        return prediction
    if prediction.dtype.kind not in "ui" or int(prediction.max()) <= 1:
        return prediction.astype(np.float32)
    highest = np.iinfo(prediction.dtype).max
    share = int(prediction.max()) / highest
    # Numbers of cells have one region each, which grey values up to the brightest seldom have.
    if share < MANY / 255 or (share < 0.5 and one_region_each(prediction) >= 0.5):
        raise InputError(
            f"prediction: got whole numbers up to {prediction.max()}, expected probabilities; "
            "--classes scores classes, --metrics seg_measure numbered cells"
        )
    # float64 first: 16 bits divided in single precision could miss a threshold by a rounding.
    return (prediction / float(highest)).astype(np.float32)


def numbered(stack: NDArray, argument: str) -> NDArray:
    """Numbers of cells as integers; TIFF files of many cells hold them as float32.

    Raises
    ------
    InputError
        If a number has a fraction.

    Examples
    --------
    >>> numbered(np.array([0.0, 3.0], np.float32), "labels")
    array([0, 3])
    """
    if stack.dtype.kind != "f":
        return stack
    if not (np.abs(stack - np.round(stack)) < 1e-3).all():
        raise InputError(
            f"{argument}: got numbers with fractions, expected numbered cells for seg_measure"
        )
    return np.round(stack).astype(np.int64)


def are_classes(pages: Sequence[NDArray]) -> bool:
    """Whether pages are the probabilities of the classes of one image, which add up to 1.

    Examples
    --------
    >>> map_ = np.array([[0.25, 1.0]])
    >>> are_classes([map_, 1 - map_]), are_classes([map_, map_]), are_classes([map_])
    (True, False, False)
    """
    if len(pages) < 2 or len({page.shape for page in pages}) > 1 or pages[0].dtype.kind != "f":
        return False
    return bool(np.allclose(np.sum(pages, axis=0), 1, atol=1e-3))


def remarks(labels: NDArray, prediction: NDArray, metrics: Sequence[str]) -> list[str]:
    """What of a pair that can be scored looks wrong, a line each.

    Parameters
    ----------
    labels, prediction : numpy.ndarray
        (N, H, W) each.
    metrics : sequence of str
        Those that are to be scored.

    Examples
    --------
    For seg_measure cells must be numbered apart.

    >>> cells = np.array([[[1, 0, 2]]])
    >>> remarks(cells, cells, ["seg_measure"])
    []
    >>> print(*remarks(cells, np.minimum(cells, 1), ["seg_measure"]))
    prediction: it holds one object only and the labels 2; seg_measure needs cells that are \
numbered apart, as in NAME-instances.tif of `unet-np segment --instances`

    Elsewhere all but 0 is interior, and a slice without it may count.

    >>> grey = np.tile(np.arange(20), 2)[None, None]
    >>> print(*remarks(grey, grey, ["iou"]))
    labels: got 20 values in many small pieces, and all but 0 is taken for cell; an image, a JPEG \
or a resized mask is no mask
    >>> print(*remarks(np.array([[[1]], [[0]]]), np.ones((2, 1, 1)), ["rand_error", "v_rand"]))
    labels: nothing but membrane in slice 1, which counts as 0 in v_rand, as in the challenge's \
program
    """
    found = _not_numbered_apart(labels, prediction) if "seg_measure" in metrics else []
    if set(metrics) - {"seg_measure"}:
        found += [*_no_mask(labels), *_empty_slices(labels, metrics)]
    return found


def _count(stack: NDArray) -> int:
    """How many values there are above 0."""
    return int(np.count_nonzero(np.unique(stack) > 0))


def _not_numbered_apart(labels: NDArray, prediction: NDArray) -> list[str]:
    counts = [_count(side) for side in (prediction, labels)]
    if counts[0] == 1 < counts[1]:
        return [f"prediction: it holds one object only and the labels {counts[1]}; {_APART}"]
    sides = zip(("prediction", "labels"), (prediction, labels), counts, strict=True)
    return [
        f"{side}: most of its {count} numbers lie in several pieces; {_APART}"
        for side, stack, count in sides
        if count > 1 and one_region_each(stack) < 0.5
    ]


def _no_mask(labels: NDArray) -> list[str]:
    count = len(np.unique(labels))
    if count <= MANY or one_region_each(labels) >= 0.5:
        return []
    return [
        f"labels: got {count} values in many small pieces, and all but 0 is taken for cell; an "
        "image, a JPEG or a resized mask is no mask"
    ]


def _empty_slices(labels: NDArray, metrics: Sequence[str]) -> list[str]:
    means = [name for name in metrics if name in MEANS]
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
