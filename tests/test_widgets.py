"""The pages' widgets in a real browser: their numbers are the package's, and keys reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import open_browser, serve

from unet_np.architecture import Architecture
from unet_np.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "book" / "_static"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Widget</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="/widgets/load.js" defer></script></head>
<body><main><h1>Widget</h1>
<div data-widget="{name}" {attributes}>Fallback.</div></main></body></html>"""

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(STATIC) as running:
        yield running


@pytest.fixture
def open_widget(browser: Any, address: str) -> Iterator[Open]:
    """Open a page with one widget; at the end, nothing has failed or left the server."""
    contexts, problems = [], []

    def opened(name: str, attributes: str = "", width: int = 800) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(address) or problems.append(f"outside: {request.url}")
            ),
        )
        html = PAGE.format(name=name, attributes=attributes)
        page.route(
            f"{address}/page.html",
            lambda route: route.fulfill(body=html, content_type="text/html"),
        )
        page.goto(f"{address}/page.html")
        page.wait_for_selector("[data-ready=true]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems


WIDGETS = ["tile-calculator"]


@pytest.mark.parametrize("name", WIDGETS)
def test_widget_fits_a_phone(open_widget: Open, name: str) -> None:
    page = open_widget(name, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("name", WIDGETS)
def test_every_control_has_a_name_and_a_stop_of_the_tab_key(open_widget: Open, name: str) -> None:
    page = open_widget(name)
    wanted = page.evaluate(
        """[...document.querySelectorAll(
            '[data-widget] :is(input, select, button, [tabindex="0"])')]
            .filter((one) => one.checkVisibility()).length"""
    )
    assert wanted >= 3
    seen = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                """() => {
                const one = document.activeElement;
                window.stops = window.stops || new Set();
                window.stops.add(one);
                return [one.getAttribute('aria-label') || (one.labels && one.labels.length
                    ? one.labels[0].textContent : one.textContent),
                    getComputedStyle(one).outlineStyle, window.stops.size];
            }"""
            )
        )
    assert all(label.strip() for label, _, _ in seen)
    assert all(outline != "none" for _, outline, _ in seen), seen
    assert seen[-1][-1] == wanted


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("depth", range(1, 7))
def test_geometry_is_the_package_s(open_widget: Open, depth: int, padding: int) -> None:
    page = open_widget("tile-calculator")
    sizes = [*range(1, 420), 508, 512, 524, 572, 1024, 4092, 65532]
    found = page.evaluate(
        """([depth, padding, sizes]) => {
            const { geometry } = window.unetWidgets;
            const network = { ...geometry.PAPER, depth, padding };
            return sizes.map((size) => {
                const { rows, fault } = geometry.shapes(network, size);
                return {
                    valid: geometry.isValid(network, size),
                    near: geometry.nearestSizes(network, size),
                    reason: fault && fault.reason,
                    rows: fault ? [] : rows.map((r) => [r.name, r.out, r.size, r.parameters]),
                };
            });
        }""",
        [depth, padding, sizes],
    )
    network = Architecture(depth=depth, padding=padding)
    for size, widget in zip(sizes, found, strict=True):
        assert widget["valid"] == network.is_valid_input(size)
        assert widget["near"] == list(network.nearest_input_sizes(size))
        if widget["valid"]:
            rows = network.shapes((1, 1, size, size))
            assert widget["rows"] == [
                [row.name, shape[1], shape[2], row.parameters] for row, shape in rows
            ]
        else:
            with pytest.raises(InputError) as error:
                network.output_size(size)
            assert f"got {size}, {widget['reason']}; nearest" in str(error.value)


def test_tile_calculator_accepts_the_paper_s_size(open_widget: Open) -> None:
    page = open_widget("tile-calculator")
    assert "Works. The output has 388 x 388 pixels: 92 fewer" in page.inner_text(".unet-verdict")
    rows = page.locator("tbody tr")
    assert rows.count() == 1 + len(Architecture().layers)
    assert rows.last.inner_text().split("\t") == ["output", "conv 1x1", "2", "388 x 388", "130"]


def test_tile_calculator_explains_512_and_a_key_mends_it(open_widget: Open) -> None:
    page = open_widget("tile-calculator", 'data-size="512"')
    verdict = page.locator(".unet-verdict")
    text = verdict.inner_text()
    assert "Does not work. Input size 512, which is odd (121) at contract4.pool" in text
    assert page.locator("tbody tr").last.inner_text().startswith("contract4.pool\t121 is odd")
    page.locator(".unet-verdict button", has_text="524").focus()
    page.keyboard.press("Enter")
    assert "Works. The output has 340 x 340 pixels" in verdict.inner_text()


def test_tile_calculator_takes_any_text(open_widget: Open) -> None:
    page = open_widget("tile-calculator")
    size = page.get_by_label("Input height and width")
    for text in ("", "0", "-5", "12.5", "1e9"):
        size.fill(text)
        assert "Expected a size from 1 to 65536, a whole number." in page.inner_text(
            ".unet-verdict"
        )
        assert size.get_attribute("aria-invalid") == "true"
    size.fill("572")
    page.get_by_label("Padding").select_option("1")
    assert "Nearest valid: 560 576" in page.inner_text(".unet-verdict")
    size.fill("576")
    assert "as many as the input" in page.inner_text(".unet-verdict")


def test_a_page_without_widgets_loads_nothing_more(browser: Any, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(address)))
    html = PAGE.replace("data-widget", "data-other").format(name="", attributes="")
    page.route(
        f"{address}/page.html",
        lambda route: route.fulfill(body=html, content_type="text/html"),
    )
    page.goto(f"{address}/page.html", wait_until="networkidle")
    assert [path for path in asked if not path.startswith("/favicon")] == [
        "/page.html",
        "/widgets/load.js",
    ]
    context.close()
