"""The border study: distances, ways of cutting, and a quick run from the command line."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import guard
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_np import UNet
from unet_np.cli import main
from unet_np.experiments.border import scores as border_scores
from unet_np.experiments.border import study as border
from unet_np.experiments.border.scores import WAYS, by_distance, distance_to_border, distance_to_cut
from unet_np.tiling.plan import overlap


def padded_net(depth: int = 2) -> UNet:
    return UNet(base_channels=3, depth=depth, padding=1, dtype="float64", backend="numpy", seed=1)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 15))
def test_distances_by_brute_force(height: int, width: int, side: int) -> None:
    cuts, border = distance_to_cut((height, width), side), distance_to_border((height, width))
    tile = np.add.outer(np.arange(height) // side * 1000, np.arange(width) // side)
    for row, column in np.ndindex(height, width):
        assert border[row, column] == min(row, column, height - 1 - row, width - 1 - column)
        across = np.flatnonzero(tile[row] != tile[row, column])
        down = np.flatnonzero(tile[:, column] != tile[row, column])
        away = [*np.abs(across - column), *np.abs(down - row)]
        assert cuts[row, column] == (min(away) - 1 if away else height + width)


def test_every_pixel_beside_a_cut_is_in_one_bin() -> None:
    distance = distance_to_cut((256, 256), 128)
    inside = [[a, b] for a, b in border_scores.bins(distance)]
    assert inside[0] == [0, 0]
    assert inside[-1][1] == 127
    assert all(after[0] == before[1] + 1 for before, after in pairwise(inside))
    counts = [((distance >= a) & (distance <= b)).sum() for a, b in inside]
    values = np.random.default_rng(0).random((2, 256, 256))
    mean = np.average(by_distance(values, distance), weights=counts)
    assert mean == pytest.approx(values.mean(), rel=1e-4)


def test_tiles_side_by_side_are_wrong_near_their_border_alone() -> None:
    """Beyond the reach of the receptive field they equal the whole."""
    net, image = padded_net(1), np.random.default_rng(0).normal(size=(1, 96, 96))
    whole = border._predict_one(net, "whole", image, 48)
    change = np.abs(border._predict_one(net, "tiles", image, 48) - whole)
    # The image's own border is the same for both: only the edges between tiles matter.
    rows = np.minimum(np.abs(np.arange(96) - 47.5) - 0.5, 48)
    far = np.minimum(rows[:, None], rows[None]) >= max(overlap(net.architecture))
    assert far.any()
    assert change[far].max() <= 1e-12
    assert change[47].max() > 1e-6
    assert np.abs(border._predict_one(net, "overlap", image, 48) - whole).max() <= 1e-12


def test_a_mirrored_border_changes_the_border_of_the_slice_alone() -> None:
    net, image = padded_net(1), np.random.default_rng(0).normal(size=(1, 80, 80))
    whole = border._predict_one(net, "whole", image, 40)
    change = np.abs(border._predict_one(net, "mirrored", image, 40) - whole)
    reach = max(overlap(net.architecture))
    assert change.shape == (80, 80)
    assert change[reach:-reach, reach:-reach].max() <= 1e-12
    assert change[0].max() > 1e-6


def test_side_by_side_on_a_device_is_that_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    image = np.random.default_rng(0).random((1, 30, 20))
    options = {"base_channels": 2, "depth": 1, "padding": 1, "dtype": "float64"}
    maps = [
        border.side_by_side(UNet(**options, backend=name), image, 16) for name in ("numpy", "cupy")
    ]
    assert isinstance(maps[1], np.ndarray)
    np.testing.assert_allclose(*maps, rtol=1e-9)


def test_side_by_side_fills_up_the_last_tiles() -> None:
    net, image = padded_net(1), np.random.default_rng(0).normal(size=(1, 30, 20))
    result = border.side_by_side(net, image, 16)
    assert result.shape == (30, 20)
    assert np.isfinite(result).all()
    full = border.side_by_side(net, np.pad(image, [(0, 0), (0, 2), (0, 12)], "reflect"), 16)
    assert np.array_equal(result, full[:30, :20])


def test_scores_find_what_was_put_in() -> None:
    """Wrong at the border of the tiles and nowhere else."""
    truth = np.random.default_rng(0).random((2, 64, 64)) > 0.5
    good = np.where(truth, 0.9, 0.1)
    edge = distance_to_cut((64, 64), 32) == 0
    bad = np.where(edge, 1 - good, good)
    maps = dict.fromkeys(WAYS, good) | {"tiles": bad}
    result = border_scores.scores(maps, truth, {"valid": 0.5, "same": 0.5}, 32)
    tiles = result["ways"]["tiles"]
    assert tiles["wrong_by_distance"][0] == 1
    assert not any(tiles["wrong_by_distance"][1:])
    assert tiles["flipped"] == pytest.approx(edge.mean(), rel=1e-4)
    assert tiles["change_by_distance"][0] == pytest.approx(0.8)
    assert result["ways"]["whole"]["largest_change"] == 0
    assert "flipped" not in result["ways"]["valid"]
    assert not any(result["image_border"]["wrong_by_distance"]["valid"])


def test_a_quick_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNET_NP_DATA", str(tmp_path / "none"))
    arguments = ["experiment", "border", "--quick", "-q", "--steps", "4", "--threads", "1"]
    arguments += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert main(arguments) == 0
    path = tmp_path / "results" / "border.json"
    result = json.loads(path.read_text())
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert list(result["ways"]) == list(WAYS)
    for key in ("command", "commit", "seed", "machine", "data", "fold", "thresholds"):
        assert key in result
    assert result["experiment"] == "border"
    assert result["same"]["padding"] == 1
    for way in result["ways"].values():
        assert len(way["wrong_by_distance"]) == len(result["distance"])
        assert all(0 <= share <= 1 for share in way["wrong_by_distance"])
    assert result["ways"]["overlap"]["largest_change"] <= 1e-5
    shown = capsys.readouterr().out
    assert all(way in shown for way in WAYS)
    # What is finished is read, and not taken for that of other settings.
    monkeypatch.setattr(border.runner, "train_fold", None)
    assert main(arguments) == 0
    assert capsys.readouterr().out == shown
    assert json.loads(path.read_text()) == result
    assert main([*arguments, "--seed", "1"]) == 2
    assert "seed: got 1, expected 0" in capsys.readouterr().err
    # What is trained already is not trained again.
    monkeypatch.undo()
    monkeypatch.setenv("UNET_NP_DATA", str(tmp_path / "none"))
    path.unlink()
    assert main(arguments) == 0
    assert json.loads(path.read_text())["weights_sha256"] == result["weights_sha256"]
