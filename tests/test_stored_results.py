"""How chapters find the results that are stored in the repository, or came with the package."""

from __future__ import annotations

import io
import json
import tomllib
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import yaml

from unet_np import notebook
from unet_np.errors import InputError
from unet_np.images import write_png

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package somewhere else, without the repository around it and without a network."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    package = tmp_path / "site-packages" / "unet_np"
    (package / "_results").mkdir(parents=True)
    monkeypatch.setattr(notebook, "__file__", str(package / "notebook.py"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return package


def test_a_checkout_is_read() -> None:
    stored = json.loads((ROOT / "results" / "em.json").read_text(encoding="utf-8"))
    assert notebook.result("em") == stored


def test_an_installation_reads_its_own_copy(installed: Path) -> None:
    (installed / "_results" / "em.json").write_text('{"folds": []}', encoding="utf-8")
    assert notebook.result("em") == {"folds": []}


def test_a_folder_beside_an_installation_is_left_alone(installed: Path) -> None:
    other = installed.parent / "results"
    other.mkdir()
    (other / "em.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="name: got 'em', expected a result that is in this"):
        notebook.result("em")


def test_what_is_optional_may_be_missing(installed: Path) -> None:
    assert notebook.result("em-ablation", optional=True) is None


def test_without_a_picture_a_line_says_so(installed: Path, capsys) -> None:
    assert notebook.result_panels("em-fold-2-slices", 2, 4) is None
    assert capsys.readouterr().out.startswith("The picture em-fold-2-slices.png is neither")


def test_a_picture_is_fetched(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    content = (ROOT / "results" / "em-test-slices.png").read_bytes()

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr("urllib.request.urlopen", answer)
    assert notebook.result_panels("em-test-slices", 2, 3) is not None
    assert asked == [f"{notebook.RESULTS_URL}em-test-slices.png"]


def test_panels_are_the_pictures_of_the_montage(tmp_path: Path, monkeypatch) -> None:
    from unet_np.experiments.pictures import montage

    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 255, (5, 7, 3), np.uint8) for _ in range(3)] for _ in range(2)]
    write_png(tmp_path / "one.png", montage(rows))
    content = (tmp_path / "one.png").read_bytes()
    monkeypatch.setattr(notebook, "_result_file", lambda name: content)
    panels = notebook.result_panels("one", 2, 3)
    assert panels is not None
    for ours, theirs in zip(panels, rows, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match="rows, columns: got 2, 4, expected those of a picture"):
        notebook.result_panels("one", 2, 4)


def test_the_address_is_that_of_the_repository() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    place = config["url"].removeprefix("https://github.com/")
    assert f"https://raw.githubusercontent.com/{place}/{config['branch']}/results/" == (
        notebook.RESULTS_URL
    )


def test_the_wheel_takes_the_results_along() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    hook = ROOT / build["build"]["targets"]["wheel"]["hooks"]["custom"]["path"]
    assert "unet_np/_results/" in hook.read_text(encoding="utf-8")
