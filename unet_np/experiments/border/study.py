"""What padding 1 costs: errors by distance to the cuts between tiles, against the paper's way.

Two networks learn from the same slices for as many steps: the paper's, without padding, whose
tiles overlap (Fig. 2), and one with padding 1. The second predicts the test slices in four ways:
in tiles side by side, in overlapping tiles, whole, and whole with a mirrored border around it.
Tiles side by side are what a user gets who cuts a large image because the network "keeps the
size". Scores are by distance to the cuts between such tiles, for all ways on the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.data import Dataset
from unet_np.experiments import recipes, runner
from unet_np.experiments.border.picture import draw
from unet_np.experiments.border.scores import WAYS, scores
from unet_np.experiments.experiment import Places
from unet_np.experiments.recipes import Recipe, changed
from unet_np.network.unet import UNet
from unet_np.ops import softmax
from unet_np.tasks.task import prepare
from unet_np.tiling import predict_tiled
from unet_np.tiling.plan import overlap, tile_sizes
from unet_np.training.checkpoint import RunFolder

Predict = Callable[[UNet, np.ndarray], np.ndarray]

SCALE: dict[str, Any] = {"steps": 600, "input_size": 380}
"""What differs from the recipe of ``em``: the networks are compared, not brought to their best."""

THRESHOLDS = np.arange(1, 20) / 20
NOTE = (
    "One fold and one seed of each network; differences between the two networks of the size of "
    "those between seeds say nothing. Differences between the ways of one network do not depend "
    "on the seed of the other."
)


def recipe(quick: bool = False, **settings: Any) -> Recipe:
    """The recipe of ``em``, with what `SCALE` and the settings change in it.

    Examples
    --------
    >>> recipe(seed=3).config.input_size, recipe(quick=True).config.steps
    (380, 40)
    """
    given = {key: value for key, value in settings.items() if value is not None}
    return recipes.recipe("em", quick, **(given if quick else SCALE | given))


def run(chosen: Recipe, places: Places, overwrite: bool = False) -> dict[str, Any]:
    """Train both networks, predict the test slices in all ways, score by distance, write.

    A training that was stopped goes on, and one that has ended is not begun again.

    Parameters
    ----------
    chosen : Recipe
        Of `recipe`, with padding 0. The last fold is taken: trained on slices 2 to 25, tested on
        26 to 29.
    places : Places
        Where files go.
    overwrite : bool
        Begin anew.

    Returns
    -------
    dict
        What stands in ``border.json``: ``ways``, each with its errors and its changes against
        the prediction of the whole slice, by ``distance``; ``image_border``, the errors by
        distance to the border of the slice.

    Raises
    ------
    InputError, TrainingError, TrainingInterrupted
        As `unet_np.training.loop.train`.
    """
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[-1]
    both = {"valid": chosen, "same": changed(chosen, padding=1)}
    folders = {name: folder(places, chosen, name) for name in both}
    nets = {
        name: runner.train_fold(
            one, dataset, fold, folders[name], not overwrite, overwrite, places.progress
        )
        for name, one in both.items()
    }
    side = tile_side(nets["same"], min(dataset.shape))
    maps = {way: predict(nets, way, dataset, fold.test, side, places) for way in WAYS}
    thresholds = {
        name: threshold(nets[name], way, dataset, fold.validation, side)
        for name, way in (("valid", "valid"), ("same", "whole"))
    }
    truth = _labels(dataset, fold.test)
    same = both["same"].fold_config(fold, folders["same"])
    result = {
        **runner.header(
            chosen, dataset, chosen.fold_config(fold, folders["valid"]), places.command
        ),
        "experiment": "border",
        "note": NOTE,
        "same": {"padding": 1, "input_size": same.input_size, "tile": side},
        "fold": fold.to_dict(dataset.ids),
        "thresholds": thresholds,
        "mean_loss_of_last_steps": {
            name: runner.curve(path)["loss"][-1] for name, path in folders.items()
        },
        **scores(maps, truth, thresholds, side),
        "seconds_per_step": {
            name: runner.fold_timing(path, chosen.config.steps, 0, 1)["seconds_per_step"]
            for name, path in folders.items()
        },
        "weights_sha256": {
            name: runner.sha256(RunFolder(path).weights.read_bytes())
            for name, path in folders.items()
        },
    }
    path = places.result("border")
    runner.write_json(path, result)
    places.say(f"wrote {path}")
    draw(result, path.with_suffix(".png"))
    places.say(table(result))
    return result


def folder(places: Places, chosen: Recipe, name: str) -> Path:
    """The folder of a training, ``valid`` or ``same``."""
    return places.runs / ("quick" if chosen.quick else "") / "border" / name


def tile_side(net: UNet, size: int) -> int:
    """Side of the tiles side by side: half an image, as a multiple of what the poolings ask for.

    Examples
    --------
    >>> tile_side(UNet(base_channels=1, padding=1), 512)
    256
    """
    step = net.architecture.size_step
    return max(1, size // 2 // step) * step


def predict(
    nets: dict[str, UNet],
    way: str,
    dataset: Dataset,
    slices: tuple[int, ...],
    side: int,
    places: Places | None = None,
) -> np.ndarray:
    """Probability of class 1 of some slices, (N, H, W), in one of the five ways."""
    net = nets["valid" if way == "valid" else "same"]
    maps = []
    for index in slices:
        maps.append(_predict_one(net, way, prepare(dataset.images[index]), side))
        if places is not None:
            places.say(f"predicted {dataset.ids[index]}, {way}")
    return np.stack(maps)


def _predict_one(net: UNet, way: str, image: np.ndarray, side: int) -> np.ndarray:
    table, size = net.architecture, image.shape[1:]
    if way == "tiles":
        return side_by_side(net, image, side)
    if way == "mirrored":
        around = overlap(table)[0]
        frame = ((0, 0), (around, around), (around, around))
        framed = np.pad(image, frame, mode="reflect")
        inner = slice(around, around + size[0]), slice(around, around + size[1])
        return _whole(net, framed)[inner]
    if way == "whole":
        return _whole(net, image)
    return predict_tiled(net, image, tile=two_tiles(net, min(size)))[1]


def two_tiles(net: UNet, size: int) -> int:
    """Input size of a tile of which two cover an axis; where none does, that of one tile.

    Examples
    --------
    >>> two_tiles(UNet(base_channels=1), 512), two_tiles(UNet(base_channels=1, padding=1), 512)
    (444, 368)
    """
    sizes = list(tile_sizes(net.architecture, size))
    return next((tile for tile, count in reversed(sizes) if count == 2), sizes[-1][0])


def _whole(net: UNet, image: np.ndarray) -> np.ndarray:
    size = max(image.shape[1:])
    return predict_tiled(net, image, tile=net.architecture.input_size_for_output(size))[1]


def side_by_side(net: UNet, image: np.ndarray, side: int) -> np.ndarray:
    """Each tile on its own, as if nothing lay beyond it; mirrored where the image ends in a tile.

    Parameters
    ----------
    net : UNet
        With padding 1.
    image : numpy.ndarray
        (C, H, W), normalised.
    side : int
        Of a tile.

    Examples
    --------
    >>> side_by_side(UNet(base_channels=1, depth=1, padding=1), np.zeros((1, 20, 30)), 16).shape
    (20, 30)
    """
    _, height, width = image.shape
    missing = [(0, 0), (0, -height % side), (0, -width % side)]
    padded = np.pad(image, missing, mode="reflect")
    result = np.empty(padded.shape[1:], net.dtype)
    for top in range(0, padded.shape[1], side):
        for left in range(0, padded.shape[2], side):
            part = slice(top, top + side), slice(left, left + side)
            logits = net.forward(padded[(slice(None), *part)][None])
            result[part] = softmax(logits)[0][0, 1]
    return result[:height, :width]


def threshold(net: UNet, way: str, dataset: Dataset, slices: tuple[int, ...], side: int) -> float:
    """The threshold with the smallest share of wrong pixels on slices of the training side."""
    maps = predict({"valid": net, "same": net}, way, dataset, slices, side)
    truth = _labels(dataset, slices)
    wrong = [float(((maps > value) != truth).mean()) for value in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmin(wrong))])


def _labels(dataset: Dataset, slices: tuple[int, ...]) -> np.ndarray:
    assert dataset.labels is not None
    return dataset.labels[list(slices)] > 0


def table(result: dict[str, Any]) -> str:
    """The ways as lines of text: wrong pixels at the tile's border, far from it, and in all."""
    first, last = result["distance"][0][0], result["distance"][-1][0]
    lines = [f"{'way':<10} {'wrong':>8} {f'at {first}':>8} {f'from {last}':>9} {'flipped':>9}"]
    for way, row in result["ways"].items():
        near, far = row["wrong_by_distance"][0], row["wrong_by_distance"][-1]
        flipped = f"{row['flipped']:9.4%}" if "flipped" in row else ""
        lines.append(f"{way:<10} {row['wrong']:8.3%} {near:8.3%} {far:9.3%} {flipped}".rstrip())
    return "\n".join(lines)
