"""Pictures of results: learning curves, best and worst slice, where cells are split or merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np.data import Dataset
from unet_np.errors import require
from unet_np.experiments.cells import find_cells
from unet_np.files import atomic_write
from unet_np.files.ours import PRODUCER
from unet_np.images import write_png
from unet_np.images.colours import BLUE, GREEN, ORANGE, PURPLE, RED, YELLOW
from unet_np.images.overlay import grey, outlines
from unet_np.metrics import Outcome, outcome_map, warping_map

OUTCOME_COLOURS = {
    Outcome.FOUND: GREEN,
    Outcome.SPLIT: BLUE,
    Outcome.MERGED: RED,
    Outcome.MISSED: YELLOW,
    Outcome.SPURIOUS: PURPLE,
}
GAP = 8
"""White pixels between two pictures."""


def paint(
    picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], opacity: float = 1.0
) -> np.ndarray:
    """A copy of a picture with a colour where a mask is true.

    Examples
    --------
    >>> paint(np.zeros((1, 2, 3), np.uint8), np.array([[True, False]]), RED, 0.5)[0].tolist()
    [[106, 47, 0], [0, 0, 0]]
    """
    painted = picture.astype(np.float32)
    painted[mask] = (1 - opacity) * painted[mask] + opacity * np.array(colour, np.float32)
    return painted.astype(np.uint8)


def em_errors(
    image: np.ndarray, label: np.ndarray, probability: np.ndarray, threshold: float
) -> np.ndarray:
    """Where a slice's segmentation splits cells (blue) and merges them (red), each spot widened."""
    found = warping_map(label, probability, threshold)
    picture = paint(grey(image), label == 0, (90, 90, 90), 0.5)
    for mask, colour in ((found.splits, BLUE), (found.merges, RED)):
        picture = paint(picture, scipy.ndimage.binary_dilation(mask, iterations=2), colour)
    return picture


def cell_errors(image: np.ndarray, cells: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Cells found (green), split (blue), merged (red), missed (yellow) and spurious (purple)."""
    outcomes = outcome_map(cells, found)
    picture = grey(image)
    for outcome, colour in OUTCOME_COLOURS.items():
        picture = paint(picture, outcomes == outcome, colour, 0.45)
    return paint(picture, outlines(found, 1), (255, 255, 255))


def montage(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Pictures of one size in rows and columns, with white gaps.

    Examples
    --------
    >>> montage([[np.zeros((4, 4, 3), np.uint8)] * 2]).shape
    (4, 16, 3)
    """
    lines = []
    for row in rows:
        gap = np.full((row[0].shape[0], GAP, 3), 255, np.uint8)
        parts = [part for picture in row for part in (picture, gap)][:-1]
        lines.append(np.concatenate(parts, axis=1))
    gap = np.full((GAP, lines[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for line in lines for part in (line, gap)][:-1], axis=0)


def draw_best_and_worst(
    result: dict[str, Any], test: Dataset, maps: np.ndarray, path: Path
) -> None:
    """Best and worst test slice, one row each: image, probability, segmentation, errors.

    Parameters
    ----------
    result : dict
        Of the fold; its per-slice scores choose the slices, and its thresholds the masks.
    test : Dataset
        The test slices.
    maps : numpy.ndarray
        (N, H, W), their probabilities.
    path : Path
        A PNG.
    """
    em = result["experiment"] == "em"
    metric = "rand_error" if em else "seg_measure"
    scores = result["scores"][metric]["slices"]
    known = [i for i, value in enumerate(scores) if value is not None]
    order = sorted(known, key=lambda i: scores[i] if em else -scores[i])
    rows = []
    for number in (order[0], order[-1]):
        probability = np.repeat(np.round(maps[number] * 255).astype(np.uint8)[..., None], 3, -1)
        threshold = result["thresholds"][metric]
        rows.append(
            [
                grey(test.images[number]),
                probability,
                *_segmentation(result, test, number, maps[number], threshold),
            ]
        )
    write_png(path, montage(rows))


def _segmentation(
    result: dict[str, Any], test: Dataset, number: int, probability: np.ndarray, threshold: float
) -> list[np.ndarray]:
    image = test.images[number]
    if result["experiment"] == "em":
        assert test.labels is not None
        overlay = paint(grey(image), probability <= threshold, ORANGE, 0.7)
        warping = result["thresholds"]["warping_error"]
        return [overlay, em_errors(image, test.labels[number], probability, warping)]
    assert test.instances is not None
    low = result["thresholds"]["iou"]
    erosion = result.get("erosion", 0)
    found = find_cells(probability, threshold, result["min_area"], low=low, erosion=erosion)
    return [
        paint(grey(image), outlines(found, 2), ORANGE),
        cell_errors(image, test.instances[number], found),
    ]


def draw_curve(result: dict[str, Any], path: Path) -> None:
    """Loss and validation error over the steps of a training.

    Parameters
    ----------
    result : dict
        Of a fold, with its ``curve``.
    path : Path
        A PNG.

    Raises
    ------
    MissingExtraError
        If Matplotlib is not installed.
    """
    figure = new_figure(5, 3.2)
    curve, axes = result["curve"], figure.subplots()
    axes.plot(curve["step"], curve["loss"], color=unit(BLUE), label="training, weighted")
    axes.plot(
        curve["validation_step"], curve["validation_loss"], "o-", ms=3, color=unit(RED),
        label="validation",
    )  # fmt: skip
    axes.set(xlabel="step", ylabel="cross entropy", yscale="log")
    right = axes.twinx()
    right.plot(
        curve["validation_step"], curve["validation_pixel_error"], "s--", ms=3,
        color=unit(GREEN), label="validation, share of wrong pixels (right)",
    )  # fmt: skip
    right.set(ylabel="share of wrong pixels", ylim=(0, None))
    handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, fontsize=7, frameon=False)
    save(figure, path)


def new_figure(width: float, height: float) -> Any:
    """A figure of so many inches.

    Raises
    ------
    MissingExtraError
        If Matplotlib is not installed.
    """
    return require("matplotlib.figure", "plot").Figure((width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Software": PRODUCER})


def unit(colour: tuple[int, int, int]) -> tuple[float, ...]:
    """A colour as Matplotlib has it."""
    return tuple(value / 255 for value in colour)


def draw_slices(images: np.ndarray, maps: np.ndarray, threshold: float, path: Path) -> None:
    """Unlabelled slices, one column each: the image, and under it the segmentation over it.

    Parameters
    ----------
    images, maps : numpy.ndarray
        (N, H, W): grey values, and the probability of a cell.
    threshold : float
        Membranes (orange) are at or below it.
    path : Path
        A PNG.
    """
    top = [grey(image) for image in images]
    bottom = [
        paint(picture, probability <= threshold, ORANGE, 0.8)
        for picture, probability in zip(top, maps, strict=True)
    ]
    write_png(path, montage([top, bottom]))
