"""What the errors of the EM networks are made of, on slices made by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PATH = Path(__file__).resolve().parent.parent / "tools" / "em_misses.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("em_misses", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def four_cells() -> np.ndarray:
    label = np.ones((1, 41, 41), np.uint8)
    label[:, 19:22] = label[:, :, 19:22] = 0
    return label


def test_a_wall_too_thick_is_wrong_at_the_line_alone(tool: Any) -> None:
    label = four_cells()
    thick = label.astype(np.float32)
    thick[:, 18] = thick[:, :, 18] = 0
    found = tool.near_the_line(label, thick, 0.5)
    assert found["error"] > 0
    assert found["share_within"] == {"1": 1.0, "2": 1.0, "3": 1.0, "5": 1.0, "10": 1.0}
    assert found["error_but_for_the_first_pixel"] == 0


def test_walls_missing_and_too_many_are_counted_with_how_sure_the_network_is(tool: Any) -> None:
    label = four_cells()
    probability = label.astype(np.float32)
    probability[0, 5:15, 19:22] = 0.95  # a gap of ten rows that the network is sure of
    probability[0, 30, 22:] = 0.5  # a wall through the cell below on the right
    found = tool.walls(label, probability, (0.6, 0.6))
    assert (found["missing"]["groups"], found["too_many"]["groups"]) == (1, 1)
    assert found["missing"]["pixels"] == [10, 10, 10]
    assert found["missing"]["share_sure"] == 1
    # Warping draws all of that wall but the pixel that closes it.
    assert found["too_many"]["pixels"] == [1, 1, 1]
    assert found["too_many"]["share_unsure"] == 1
    assert found["too_many"]["error"] == 1 / label.size
    nothing = tool.walls(label, label.astype(np.float32), (0.6, 0.6))["missing"]
    assert nothing == {"error": 0, "groups": 0, "pixels": None, "share_sure": 0, "share_unsure": 0}
