"""Pictures of the nuclei: scores over the number of images, and what the networks see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unet_np import pretrained
from unet_np.experiments.nuclei import scores as scoring
from unet_np.experiments.nuclei.plan import Trial
from unet_np.experiments.nuclei.trials import Bench, network, seen_through
from unet_np.experiments.pictures import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    cell_errors,
    grey,
    montage,
    new_figure,
    outlines,
    paint,
    save,
    unit,
)
from unet_np.images import write_png
from unet_np.network.unet import UNet
from unet_np.training.checkpoint import RunFolder

STYLES = {
    ("u373", True): (BLUE, "-", "o"),
    ("u373", False): (BLUE, "--", "s"),
    ("", True): (RED, "-", "o"),
    ("", False): (RED, "--", "s"),
}
SIDE = 200
"""Pixels of the cut-out that several networks are compared on."""


def draw(bench: Bench, result: dict[str, Any], path: Path) -> None:
    """All pictures, beside the JSON file.

    Raises
    ------
    MissingExtraError
        If Matplotlib is not installed.
    """
    draw_best_and_worst(bench, result, path.with_name(f"{path.stem}-images.png"))
    draw_compared(bench, result, path.with_name(f"{path.stem}-compared.png"))
    draw_curve(result, path.with_name(f"{path.stem}-curve.png"))


def draw_curve(result: dict[str, Any], path: Path) -> None:
    """SEG over the number of images, the draws as points, and what needs no training as lines."""
    figure = new_figure(5, 4)
    axes = figure.subplots()
    for line in result["summary"]:
        colour, style, marker = STYLES[line["start"], line["augment"]]
        shade = unit(colour)
        axes.plot(
            line["images"], line["seg_measure"], style, color=shade, label=line["name"], lw=1.8
        )
        for count, values in zip(line["images"], line["draws"]["seg_measure"], strict=True):
            axes.plot([count] * len(values), values, marker, color=shade, ms=4, alpha=0.7)
    zero = max(result["zero_shot"], key=lambda row: row["validation_seg"])
    rows = [(zero, f"zero-shot, {zero['name']}", PURPLE, "-.")]
    names = {"otsu": "Otsu", "otsu-seeds": "Otsu, cut apart"}
    for row, colour, style in zip(result["baselines"], (GREEN, ORANGE), (":", "-."), strict=True):
        rows.append((row, names[row["name"]], colour, style))
    for row, label, colour, style in rows:
        value, shade = row["scores"]["seg_measure"]["value"], unit(colour)
        axes.axhline(value, color=shade, ls=style, lw=1.4, label=label)
    counts = result["summary"][0]["images"]
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set(xlabel="images to learn from", ylabel="SEG on the test images", ylim=(0, 1))
    axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    save(figure, path)


def best_trial(result: dict[str, Any]) -> dict[str, Any]:
    """The fine-tuned and augmented network of draw 0 that learned from most images."""
    own = [t for t in result["trials"] if t["start"] and t["augment"] and not t["draw"]]
    return dict(max(own, key=lambda t: t["images"]))


def draw_best_and_worst(bench: Bench, result: dict[str, Any], path: Path) -> None:
    """Best and worst test image of `best_trial`: image, what became of each nucleus."""
    trial = best_trial(result)
    values = trial["scores"]["seg_measure"]["slices"]
    known = [i for i, value in enumerate(values) if value is not None]
    order = sorted(known, key=lambda i: -values[i])
    rows = []
    for i in (order[0], order[-1]):
        image = bench.dataset.images[bench.split.test[i]]
        found = _found(bench, trial, image)
        cells = bench.cells(bench.split.test)[i]
        rows.append([stretched(image), cell_errors(_light(image), cells, found)])
    write_png(path, montage(rows))


def draw_compared(bench: Bench, result: dict[str, Any], path: Path) -> None:
    """Part of the test image of median number of nuclei: truth, then networks that learned more."""
    best = best_trial(result)
    counts = bench.numbers(bench.split.test)
    number = int(np.argsort(counts, kind="stable")[len(counts) // 2])
    image = bench.dataset.images[bench.split.test[number]]
    window = crowded(bench.cells(bench.split.test)[number])
    small = stretched(image[window])
    zero = max(result["zero_shot"], key=lambda row: row["validation_seg"])
    few = min(t["images"] for t in result["trials"])

    def panel(found: np.ndarray) -> np.ndarray:
        return paint(small, outlines(found[window], 1), ORANGE)

    def of(start: str, count: int) -> np.ndarray:
        key = (start, True, count, 0)
        chosen = next(
            t for t in result["trials"] if (t["start"], t["augment"], t["images"], t["draw"]) == key
        )
        return panel(_found(bench, chosen, image))

    truth = panel(bench.cells(bench.split.test)[number])
    rows = [
        [small, truth, panel(_zero(bench, zero, image))],
        [of("", few), of("u373", few), of("u373", best["images"])],
    ]
    write_png(path, montage(rows))


def crowded(cells: np.ndarray, side: int = SIDE) -> tuple[slice, slice]:
    """Of the squares of an image, the one with most nuclei in it."""
    height, width = cells.shape
    tops = range(0, max(height - side, 0) + 1, max(side // 2, 1))
    lefts = range(0, max(width - side, 0) + 1, max(side // 2, 1))
    windows = [(slice(t, t + side), slice(left, left + side)) for t in tops for left in lefts]
    return max(windows, key=lambda window: len(np.unique(cells[window])))


def stretched(image: np.ndarray) -> np.ndarray:
    """Grey values as colours, their square root, so that dim nuclei can be seen too."""
    return grey(_light(image))


def _light(image: np.ndarray) -> np.ndarray:
    return np.sqrt(image.astype(np.float32) - float(image.min()))


def _found(bench: Bench, trial: dict[str, Any], image: np.ndarray) -> np.ndarray:
    name = Trial(trial["start"], trial["augment"], trial["images"], trial["draw"], 0).name
    folder = bench.folder(f"draw-{trial['draw']}/{name}")
    net = UNet.load(RunFolder(folder).weights, backend="numpy")
    return scoring.find_nuclei(network(net)(image), trial["threshold"], bench.min_area)


def _zero(bench: Bench, row: dict[str, Any], image: np.ndarray) -> np.ndarray:
    net = pretrained.load(row["start"], backend="numpy")
    probability = seen_through(network(net), row["inverted"], row["enlarged"])(image)
    return scoring.find_nuclei(probability, row["threshold"], bench.min_area)
