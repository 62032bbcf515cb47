"""The widget on the receptive field, with maps as the book's build makes them."""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from browser import new_page, serious_violations, serve, watched_pages

from unet_np import pretrained
from unet_np.images import normalise

ROOT = Path(__file__).resolve().parent.parent
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Widget</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="widgets/load.js" defer></script></head>
<body><main><h1>Widget</h1>
<div data-widget="receptive-field">Fallback.</div></main></body></html>"""
APART = 36  # few output pixels, so that a test need not wait; both widths of the field occur


def extension() -> ModuleType:
    spec = importlib.util.spec_from_file_location("book_fields", ROOT / "tools" / "book_fields.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


book_fields = extension()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "book" / "_static" / "widgets", folder / "widgets")
    book_fields.write(folder / "widgets" / "field", apart=APART)
    (folder / "page.html").write_text(PAGE, encoding="utf-8")
    return folder


@pytest.fixture
def page(browser: Any, site: Path) -> Iterator[Any]:
    """The page on a phone; at the end nothing has failed."""
    with serve(site) as address, watched_pages(browser, address) as new:
        opened = new(390)
        opened.goto(f"{address}/page.html")
        opened.wait_for_selector("[data-ready=true]")
        yield opened


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    fields: dict[str, Any] = book_fields.fields(APART)
    return fields


def whole_gradient(place: tuple[int, int]) -> np.ndarray:
    """The gradient by another way: the whole image at once, from the loss's side."""
    net = pretrained.load("em", backend="numpy")
    x = normalise(book_fields.picture()).astype(net.dtype)[None, None]
    asked = np.zeros_like(net.forward(x, keep=True))
    asked[0, 1, *place], asked[0, 0, *place] = 1, -1
    grad = net.backward(asked)
    assert grad is not None
    return np.abs(grad[0, 0])


def test_maps_are_the_network_s_gradient_and_nothing_lies_outside(made: dict[str, Any]) -> None:
    places, spans = made["places"], made["spans"]
    maps = np.frombuffer(base64.b64decode(made["networks"]["trained"]["maps"]), np.uint8)
    maps = maps.reshape(len(places), len(places), 51, 51)
    for row, column in ((0, 0), (1, 2), (3, 1)):
        whole = whole_gradient((places[row], places[column]))
        (top, bottom), (left, right) = spans[row], spans[column]
        inside = whole[top : bottom + 1, left : right + 1]
        assert inside.sum() == pytest.approx(whole.sum(), rel=1e-5)
        wide = np.zeros((204, 204))
        wide[: inside.shape[0], : inside.shape[1]] = inside
        sums = wide.reshape(51, 4, 51, 4).sum(axis=(1, 3))
        expected = 255 * np.sqrt(sums / sums.max())
        np.testing.assert_allclose(maps[row, column], expected, rtol=0, atol=0.6)


def test_a_square_holds_its_share_and_a_smaller_one_does_not() -> None:
    grad = np.random.default_rng(0).random((21, 27))
    half, most = book_fields.sides(grad, (9, 13), (0.5, 0.95))
    for share, side in ((0.5, half), (0.95, most)):
        for reach, enough in ((side // 2, True), (side // 2 - 1, False)):
            top, left = max(0, 9 - reach), max(0, 13 - reach)
            part = grad[top : 9 + reach + 1, left : 13 + reach + 1].sum()
            assert (part >= share * grad.sum()) == enough


def test_maps_are_made_again_only_when_the_weights_are_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_fields, "fields", lambda apart: {"apart": apart})
    written = book_fields.write(tmp_path, apart=APART)
    before = written.stat().st_mtime_ns
    book_fields.write(tmp_path, apart=APART)
    assert written.stat().st_mtime_ns == before
    os.utime(written, (0, 0))
    book_fields.write(tmp_path, apart=APART)
    assert written.stat().st_mtime_ns >= before


def test_the_widget_fits_a_phone_and_is_accessible(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not serious_violations(page)


def test_a_click_shows_the_field_of_that_pixel(page: Any, made: dict[str, Any]) -> None:
    box = page.locator("canvas").bounding_box()
    for row, column in ((0, 3), (2, 1)):
        places, spans = made["places"], made["spans"]
        at = {
            axis: (places[n] + made["margin"] + 1) / made["side"] * box["width"]
            for axis, n in (("x", column), ("y", row))
        }
        page.locator("canvas").click(position=at)
        words = page.locator(".unet-note").first.inner_text()
        (top, bottom), (left, right) = spans[row], spans[column]
        half, most = made["networks"]["trained"]["sides"][row * len(places) + column]
        assert words == (
            f"Output pixel ({places[row]}, {places[column]}) sees rows {top} to {bottom} "
            f"({bottom - top + 1}) and columns {left} to {right} ({right - left + 1}) of the image."
            f" Half of the gradient lies in a square of {half} pixels around it, "
            f"95 % in one of {most}."
        )


def test_keys_move_the_pixel_and_choose_the_network(page: Any, made: dict[str, Any]) -> None:
    words = page.locator(".unet-note").first
    row = page.get_by_label("row of the output pixel")
    row.focus()
    page.keyboard.press("Home")
    assert words.inner_text().startswith("Output pixel (0, ")
    page.keyboard.press("ArrowRight")
    assert words.inner_text().startswith(f"Output pixel ({APART}, ")
    before, picture = words.inner_text(), page.locator("canvas").screenshot()
    page.get_by_label("network").select_option("drawn")
    assert words.inner_text() != before
    assert page.locator("canvas").screenshot() != picture
    with_colours = page.locator("canvas").screenshot()
    page.get_by_label("show the gradient").press("Space")
    assert page.locator("canvas").screenshot() != with_colours


def test_without_the_maps_the_page_says_so(browser: Any, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "bare")
    (tmp_path / "bare" / "widgets" / "field" / "fields.js").unlink()
    opened = new_page(browser)
    opened.goto((tmp_path / "bare" / "page.html").as_uri())
    opened.wait_for_selector("[data-ready=true]")
    assert "are made when the book is built" in opened.inner_text("[data-widget]")
    opened.context.close()
