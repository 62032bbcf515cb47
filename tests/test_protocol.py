"""What all experiments share: read, refuse, write, draw, tabulate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_np.data import Dataset
from unet_np.errors import InputError, MissingExtraError
from unet_np.experiments.protocol import QUICK, Experiment, Places, Result, kept, rounded
from unet_np.experiments.recipes import Recipe, changed
from unet_np.training.config import TrainConfig

CHOSEN = Recipe("toy", "synthetic-em", TrainConfig(), 1, quick=True)
DATASET = Dataset("toy", np.zeros((1, 4, 4), np.uint8))


class Toy(Experiment):
    """Counts up to two, a figure at a time, and remembers what it was asked."""

    def __init__(self, chosen: Recipe = CHOSEN, dataset: Dataset = DATASET) -> None:
        super().__init__("toy", chosen, dataset)
        self.drawn: list[int] = []
        self.asked: list[tuple[bool, bool]] = []

    def measure(self, places: Places, resume: bool, overwrite: bool) -> Iterator[Result]:
        self.asked.append((resume, overwrite))
        for count in (1, 2):
            yield {"count": count}

    def draw(self, result: Result, path: Path) -> None:
        assert json.loads(path.read_text())["count"] == result["count"]
        self.drawn.append(result["count"])

    def table(self, result: Result) -> list[str]:
        return [f"counted to {result['count']}"]


class Parts(Toy):
    in_parts = True


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def places(tmp_path: Path, said: list[str]) -> Places:
    return Places(tmp_path / "runs", tmp_path / "results", ["experiment"], said.append, False)


def test_a_result_is_measured_written_drawn_and_printed(places: Places, said: list[str]) -> None:
    toy = Toy()
    result = toy.run(places)
    path = places.result("toy")
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    assert toy.drawn == [1, 2]
    assert toy.asked == [(True, False)]
    assert said == [f"wrote {path}", f"counted to 2\n{QUICK}"]
    assert {"command", "commit", "versions", "machine", "seed", "recipe", "data"} < set(result)


def test_what_is_finished_is_read(places: Places, said: list[str]) -> None:
    result = Toy().run(places)
    toy = Toy(changed(CHOSEN, threads=3))  # a setting that changes no result
    assert toy.run(places) == json.loads(json.dumps(result))
    assert (toy.asked, toy.drawn) == ([], [])
    assert said[-2].endswith("toy.json is there already; --overwrite begins anew")
    assert said[-1] == f"counted to 2\n{QUICK}"


def test_parts_go_on(places: Places) -> None:
    Parts().run(places)
    toy = Parts()
    toy.run(places, resume=False)
    assert toy.asked == [(False, False)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": changed(CHOSEN, steps=7)}, "steps: got 7, expected 300, with which "),
        ({"chosen": replace(CHOSEN, averaging=7)}, "averaging: got 7, expected 1, with which "),
        ({"dataset": Dataset("toy", DATASET.images + np.uint8(1))}, "data: got others than those"),
    ],
)
def test_other_settings_are_refused_until_overwritten(
    places: Places, change: dict[str, Any], message: str
) -> None:
    Toy().run(places)
    before = places.result("toy").read_bytes()
    with pytest.raises(InputError, match=f"^{message}") as caught:
        Toy(**change).run(places)
    assert "\n" not in str(caught.value)
    assert places.result("toy").read_bytes() == before
    assert Toy(**change).run(places, overwrite=True)["count"] == 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b"{}", b'{"recipe": 3, "data": {}}']
)
def test_a_result_that_is_none_is_one_line(places: Places, content: bytes) -> None:
    path = places.result("toy")
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^result: got .*toy\.json with") as caught:
        Toy().run(places)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_without_matplotlib_a_line_says_so(
    places: Places, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MissingExtraError("matplotlib: not installed")

    monkeypatch.setattr(Toy, "draw", refuse)
    assert Toy().run(places)["count"] == 2
    assert said[0] == "no pictures: matplotlib: not installed"


def test_flat_settings_are_kept_and_refused(tmp_path: Path) -> None:
    path, calls = tmp_path / "trial.json", []

    def make() -> dict[str, Any]:
        calls.append(1)
        return {"score": 0.5}

    for _ in range(2):
        assert kept(path, {"seed": 0}, make) == {"seed": 0, "score": 0.5}
    with pytest.raises(InputError, match=r"^seed: got 1, expected 0, with which .*trial\.json was"):
        kept(path, {"seed": 1}, make)
    assert kept(path, {"seed": 1}, make, overwrite=True)["seed"] == 1
    assert len(calls) == 2


@given(st.floats(-1e300, 1e300) | st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(1, 12))
def test_rounded(value: float, digits: int) -> None:
    found = rounded(value, digits)
    if not np.isfinite(value):
        assert found is None
        return
    assert found == pytest.approx(value, rel=0.5 * 10 ** (1 - digits) * 1.001, abs=1e-300)
    assert found == rounded(found, digits)
