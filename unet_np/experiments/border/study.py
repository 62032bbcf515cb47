"""What padding 1 costs: errors by distance to the cuts between tiles, against the paper's way.

Two networks learn from the same slices for as many steps: the paper's, without padding, whose
tiles overlap (Fig. 2), and one with padding 1. The second predicts the test slices in four ways:
in tiles side by side, in overlapping tiles, whole, and whole with a mirrored border around it.
Tiles side by side are what a user gets who cuts a large image because the network "keeps the
size". Scores are by distance to the cuts between such tiles, for all ways on the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import backend
from unet_np.data import Dataset
from unet_np.experiments import recipes, runner
from unet_np.experiments.border.picture import draw
from unet_np.experiments.border.scores import WAYS, scores
from unet_np.experiments.protocol import Experiment, Places, Result, header, weights_sha256
from unet_np.experiments.recipes import Recipe, changed
from unet_np.network.unet import UNet
from unet_np.ops import softmax
from unet_np.tasks.task import prepare
from unet_np.tiling import predict_tiled
from unet_np.tiling.plan import overlap, tile_sizes

SCALE: dict[str, Any] = {"steps": 600, "input_size": 380}
"""What differs from the recipe of ``em``: the networks are compared, not brought to their best."""

THRESHOLDS = np.arange(1, 20) / 20
NOTE = (
    "One fold and one seed of each network; differences between the two networks of the size of "
    "those between seeds say nothing. Differences between the ways of one network do not depend "
    "on the seed of the other."
)


def study(quick: bool = False, **settings: Any) -> Border:
    """The study, with the recipe of ``em`` and what `SCALE` and the settings change in it.

    Parameters
    ----------
    quick : bool
        A run of a minute or two that only shows that all parts work.
    **settings
        As for `unet_np.experiments.recipes.recipe`; None is left out.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    chosen = recipes.recipe("em", quick, **(given if quick else SCALE | given))
    return Border(chosen, chosen.dataset())


class Border(Experiment):
    """Both networks, the test slices in all ways, scores by distance: ``border.json``.

    The last fold is taken: trained on slices 2 to 25, tested on 26 to 29.
    """

    def __init__(self, chosen: Recipe, dataset: Dataset) -> None:
        super().__init__("border", chosen, dataset)
        self.fold = chosen.folds(dataset)[-1]

    def head(self, command: list[str] | None) -> Result:
        """Settings of the network without padding, with the slices of the fold."""
        config = self.chosen.fold_config(self.fold, self.chosen.config.out)
        return header(self.chosen, self.dataset, config, command) | {"experiment": "border"}

    def measure(self, places: Places, resume: bool, overwrite: bool) -> Iterator[Result]:
        """``ways``, each with its errors and its changes against the prediction of the whole slice,
        by ``distance``; ``image_border``, the errors by distance to the border of the slice."""
        chosen, dataset, fold = self.chosen, self.dataset, self.fold
        both = {"valid": chosen, "same": changed(chosen, padding=1)}
        folders = {name: places.folder(chosen.quick, "border", name) for name in both}
        nets = {
            name: runner.train_fold(
                one, dataset, fold, folders[name], resume, overwrite, places.progress
            )
            for name, one in both.items()
        }
        side = tile_side(nets["same"], min(dataset.shape))
        maps = {way: predict(nets, way, dataset, fold.test, side, places) for way in WAYS}
        thresholds = {
            name: threshold(nets[name], way, dataset, fold.validation, side)
            for name, way in (("valid", "valid"), ("same", "whole"))
        }
        yield {
            "note": NOTE,
            "same": {
                "padding": 1,
                "input_size": both["same"].config.input_size,
                "tile": side,
            },
            "fold": fold.to_dict(dataset.ids),
            "thresholds": thresholds,
            "mean_loss_of_last_steps": {
                name: runner.curve(path)["loss"][-1] for name, path in folders.items()
            },
            **scores(maps, _labels(dataset, fold.test), thresholds, side),
            "seconds_per_step": {
                name: runner.fold_timing(path, chosen.config.steps, 0, 1)["seconds_per_step"]
                for name, path in folders.items()
            },
            "weights_sha256": {name: weights_sha256(path) for name, path in folders.items()},
        }

    def draw(self, result: Result, path: Path) -> None:
        """Change and error by distance."""
        draw(result, path.with_suffix(".png"))

    def table(self, result: Result) -> list[str]:
        """The ways: wrong pixels at the tile's border, far from it, and in all."""
        first, last = result["distance"][0][0], result["distance"][-1][0]
        lines = [f"{'way':<10} {'wrong':>8} {f'at {first}':>8} {f'from {last}':>9} {'flipped':>9}"]
        for way, row in result["ways"].items():
            near, far = row["wrong_by_distance"][0], row["wrong_by_distance"][-1]
            flipped = f"{row['flipped']:9.4%}" if "flipped" in row else ""
            lines.append(f"{way:<10} {row['wrong']:8.3%} {near:8.3%} {far:9.3%} {flipped}".rstrip())
        return lines


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
            tile = backend.asarray(padded[(slice(None), *part)][None], net.xp)
            result[part] = backend.to_numpy(softmax(net.forward(tile))[0][0, 1])
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
