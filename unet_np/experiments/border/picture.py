"""The picture of the border study: change and error by distance to the cuts between tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unet_np.experiments.pictures import BLUE, GREEN, ORANGE, PURPLE, RED, new_figure, save, unit

LINES = {
    "valid": (BLUE, "o-", "no padding, overlap-tile"),
    "tiles": (RED, "s-", "padding 1, tiles side by side"),
    "overlap": (PURPLE, "x:", "padding 1, overlapping tiles"),
    "whole": (GREEN, "^--", "padding 1, whole slice"),
    "mirrored": (ORANGE, "v--", "padding 1, whole slice, mirrored border"),
}


def draw(result: dict[str, Any], path: Path) -> None:
    """Three panels: change of the probability, wrong pixels in tiles, and in the slice.

    Parameters
    ----------
    result : dict
        What `unet_np.experiments.border.study.run` wrote.
    path : Path
        A PNG.

    Raises
    ------
    MissingExtraError
        If Matplotlib is not installed.
    """
    figure = new_figure(5, 8)
    change, tile, image = figure.subplots(3, 1)
    places = middles(result["distance"])
    _line(change, "tiles", places, result["ways"]["tiles"]["change_by_distance"])
    _line(change, "overlap", places, result["ways"]["overlap"]["change_by_distance"])
    change.set(yscale="log", ylabel="mean change of the probability", ylim=(1e-9, None))
    for way in ("valid", "tiles", "whole"):
        _line(tile, way, places, _percent(result["ways"][way]["wrong_by_distance"]))
    border = result["image_border"]
    for way, errors in border["wrong_by_distance"].items():
        _line(image, way, middles(border["distance"]), _percent(errors))
    tile.set(ylabel="wrong pixels (%)")
    image.set(ylabel="wrong pixels (%)")
    for axes, of in (
        (change, "a cut between tiles"),
        (tile, "a cut between tiles"),
        (image, "the border of the slice"),
    ):
        axes.set(xlabel=f"distance to {of} (pixels)")
        axes.set_xscale("symlog", linthresh=4)
        axes.set_xticks(
            [0, 1, 2, 4, 8, 16, 32, 64, 128], ["0", "1", "2", "4", "8", "16", "32", "64", "128"]
        )
        axes.minorticks_off()
        axes.set_xlim(-0.3, 256)
        axes.legend(fontsize=7, frameon=False)
    save(figure, path)


def middles(bins: list[list[int]]) -> list[float]:
    """The middle of each bin of distances.

    Examples
    --------
    >>> middles([[0, 0], [4, 5]])
    [0.0, 4.5]
    """
    return [(first + last) / 2 for first, last in bins]


def _line(axes: Any, way: str, places: list[float], values: list[float]) -> None:
    colour, style, label = LINES[way]
    axes.plot(places, values, style, ms=4, color=unit(colour), label=label)


def _percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]
