"""Cells joined from slice to slice, for the section on three dimensions."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).resolve().parent.parent / "tools" / "em_volume.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("em_volume", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stack(*rows):
    return np.array([[row] for row in rows], np.uint8)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("any", [1, 1, 1]), ("half", [1, 1, 1]), ("best", [1, 2, 1])],
)
def test_a_small_cell_that_lies_over_a_large_one(tool, rule, expected):
    """Of the two cells of the second slice, the small one is a guest of the large one."""
    cells = tool.numbered(stack([1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1, 1]))
    volume = tool.objects(cells, rule)
    assert [volume[0, 0, 0], volume[1, 0, 0], volume[1, 0, 3]] == expected


def test_what_meets_in_a_pixel_is_one_by_any_alone(tool):
    cells = tool.numbered(stack([1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]))
    assert [len(np.unique(tool.objects(cells, rule))) - 1 for rule in tool.RULES] == [1, 2, 2]


def test_a_gap_in_one_slice_merges_the_cells_of_all(tool):
    """Two cells in three slices; in the middle one the membrane between them is missed."""
    parted, merged = [1, 1, 1, 0, 1, 1, 1, 1], [1] * 8
    truth = tool.numbered(stack(parted, parted, parted))
    found = tool.numbered(stack(parted, merged, parted))
    alone, _, whole = tool.growth(truth, found)
    assert whole["half"] > alone["half"] > 0
    assert tool.of_rule(truth, "half")["objects"] == 2
    assert tool.of_rule(found, "half")["objects"] == 1


def test_equal_volumes_have_no_error(tool):
    cells = tool.numbered(stack([1, 0, 1], [1, 0, 1]))
    assert tool.growth(cells, cells)[1]["best"] == 0
    assert tool.persistence(cells) == {
        "cells_in_a_slice": 2,
        "share_of_cells": 1,
        "share_of_pixels": 1,
    }
    assert tool.of_rule(cells, "best")["slices_of_half_the_pixels"] == 2
