"""Pictures of the nuclei: scores over the number of images, and what the networks see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unet_np.experiments.nuclei import scores as scoring
from unet_np.experiments.nuclei.plan import Trial
from unet_np.experiments.nuclei.trials import Bench, network
from unet_np.experiments.pictures import (
    BLUE,
    GREEN,
    ORANGE,
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
from unet_np.tasks.segmentation import RIM, cell_map, most_probable
from unet_np.training.checkpoint import RunFolder
from unet_np.weighting.separation import inside_and_rim

STYLES = {
    "two-classes": (BLUE, "-", "o"),
    "three-classes": (RED, "-", "s"),
    "wide": (BLUE, "--", "o"),
    "from-u373": (ORANGE, "--", "^"),
    "from-em": (GREEN, "--", "v"),
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
    draw_rims(bench, result, path.with_name(f"{path.stem}-rims.png"))
    draw_curve(result, path.with_name(f"{path.stem}-curve.png"))


def draw_curve(result: dict[str, Any], path: Path) -> None:
    """SEG over the number of images, the draws as points, and what needs no training as lines."""
    figure = new_figure(5, 4)
    axes = figure.subplots()
    for line in result["summary"]:
        colour, style, marker = STYLES[line["way"]]
        shade = unit(colour)
        axes.plot(
            line["images"], line["seg_measure"], style, color=shade, label=line["name"], lw=1.8
        )
        for count, values in zip(line["images"], line["draws"]["seg_measure"], strict=True):
            axes.plot([count] * len(values), values, marker, color=shade, ms=4, alpha=0.7)
    names = ("Otsu", "Otsu with seeds")
    for row, label, colour in zip(result["baselines"], names, (GREEN, ORANGE), strict=True):
        value, shade = row["scores"]["seg_measure"]["value"], unit(colour)
        axes.axhline(value, color=shade, ls=":", lw=1.4, label=label)
    counts = result["summary"][0]["images"]
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set(xlabel="images to learn from", ylabel="SEG on the test images", ylim=(0, 1))
    axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    save(figure, path)


def chosen(result: dict[str, Any], way: str, images: int | None = None) -> dict[str, Any]:
    """A trial of draw 0; that of most images where no number is said."""
    own = [t for t in result["trials"] if t["way"] == way and not t["draw"]]
    return dict(max(own, key=lambda t: (t["images"] == images, t["images"])))


def draw_best_and_worst(bench: Bench, result: dict[str, Any], path: Path) -> None:
    """Best and worst test image of three classes: image, what became of each nucleus."""
    trial = chosen(result, "three-classes")
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
    """Part of the test image of median number of nuclei: truth, no network, then the networks."""
    image, window, cells = _median(bench)
    small = stretched(image[window])
    few = min(t["images"] for t in result["trials"])

    def panel(found: np.ndarray) -> np.ndarray:
        return paint(small, outlines(found[window], 1), ORANGE)

    def of(way: str, count: int | None = None) -> np.ndarray:
        return panel(_found(bench, chosen(result, way, count), image))

    radius = result["baselines"][1]["radius"]
    plain = panel(scoring.seeded_nuclei(image, bench.min_area, radius))
    rows = [
        [small, panel(cells), plain],
        [of("two-classes"), of("three-classes", few), of("three-classes")],
    ]
    write_png(path, montage(rows))


def draw_rims(bench: Bench, result: dict[str, Any], path: Path) -> None:
    """The same part: image, three classes as they are made, as they are found, and the nuclei."""
    image, window, cells = _median(bench)
    trial = chosen(result, "three-classes")
    small = stretched(image[window])
    found = most_probable(_probabilities(bench, trial, image))
    made = inside_and_rim(cells, trial["rim"])
    row = [small, *(in_colours(one[window]) for one in (made, found))]
    write_png(path, montage([[*row, paint(small, outlines(cells[window], 1), ORANGE)]]))


def in_colours(classes: np.ndarray) -> np.ndarray:
    """Background black, inside blue, rim orange: (H, W, 3)."""
    return np.array([(0, 0, 0), BLUE, ORANGE], np.uint8)[classes]


def _median(bench: Bench) -> tuple[np.ndarray, tuple[slice, slice], np.ndarray]:
    """The test image of median number of nuclei, its fullest square, and the nuclei."""
    counts = bench.numbers(bench.split.test)
    number = int(np.argsort(counts, kind="stable")[len(counts) // 2])
    cells = bench.cells(bench.split.test)[number]
    return bench.dataset.images[bench.split.test[number]], crowded(cells), cells


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


def _probabilities(bench: Bench, trial: dict[str, Any], image: np.ndarray) -> np.ndarray:
    name = Trial(trial["way"], trial["images"], trial["draw"]).name
    folder = bench.folder(f"draw-{trial['draw']}/{name}")
    net = UNet.load(RunFolder(folder).weights, backend="numpy")
    return network(net)(image)


def _found(bench: Bench, trial: dict[str, Any], image: np.ndarray) -> np.ndarray:
    depth = cell_map(_probabilities(bench, trial, image), RIM if trial["rim"] else None)
    return scoring.find_nuclei(depth, trial["seeds"], trial["threshold"], trial["min_area"])
