"""Whether found cells are too large or too small: the tool, and the file that it wrote."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("rims", ROOT / "tools" / "rims.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def discs(*radii):
    y, x = np.mgrid[:100, : 100 * len(radii)]
    return sum(
        (np.hypot(y - 50, x - 50 - 100 * n) <= radius) * (n + 1) for n, radius in enumerate(radii)
    )


def test_discs_that_are_too_small_and_too_large(tool):
    drawn, found = discs(30, 30, 30), discs(27, 30, 34)
    small, same, large = tool.rims(drawn, found)
    assert same == {"area": 1, "outwards": 0, "left_out": 0, "too_much": 0}
    for row, radius in ((small, 27), (large, 34)):
        assert row["outwards"] == pytest.approx(radius - 30, abs=0.5)
        assert row["area"] == pytest.approx((radius / 30) ** 2, rel=0.02)
    assert small["too_much"] == large["left_out"] == 0
    # What is merged or missed says nothing of rims.
    assert tool.rims(drawn, np.ones_like(drawn)) == tool.rims(drawn, np.zeros_like(drawn)) == []


def test_the_stored_cells_are_those_of_the_result():
    stored, result = (
        json.loads((ROOT / "results" / f"{name}.json").read_text("utf-8"))
        for name in ("hela-rims", "hela-norm-01-to-02")
    )
    assert stored["frames"] == result["fold"]["test"]
    assert stored["cells"] == result["cells"]["found"]
    lost = stored["mean"]["left_out"] + stored["mean"]["too_much"]
    assert 1 - lost == pytest.approx(result["jaccard_of_found"])
