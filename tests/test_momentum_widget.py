"""The widget on momentum: its descents are the package's, its limits those of the chapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import new_page, open_browser, serious_violations, serve

from unet_np import SGD

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Widget</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="/widgets/load.js" defer></script></head>
<body><main><h1>Widget</h1>
<div data-widget="momentum-explorer">Fallback.</div></main></body></html>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    problems: list[str] = []
    contexts = []
    with serve(STATIC) as address:

        def opened(width: int = 800, scheme: str = "light") -> Any:
            page = new_page(browser, width, scheme)
            contexts.append(page.context)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("requestfailed", lambda request: problems.append(request.url))
            page.route(
                f"{address}/page.html",
                lambda route: route.fulfill(body=PAGE, content_type="text/html"),
            )
            page.goto(f"{address}/page.html")
            page.wait_for_selector("[data-ready=true]")
            return page

        yield opened
        for context in contexts:
            context.close()
    assert not problems


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.0), (1.0, 0.9), (0.05, 0.99), (2.5, 0.3)])
def test_descents_are_the_package_s(
    open_page: Callable[..., Any], rate: float, momentum: float
) -> None:
    found = open_page().evaluate(
        """([rate, momentum]) =>
            window.unetWidgets.momentum.descend({ rate, momentum, steps: 30 })""",
        [rate, momentum],
    )
    curvatures, params = np.array([1.0, 0.01]), {"p": np.ones(2)}
    optimiser, path = SGD(params, rate, momentum), [params["p"].copy()]
    for _ in range(30):
        optimiser.step({"p": curvatures * params["p"]})
        path.append(params["p"].copy())
    np.testing.assert_allclose(found, path, rtol=1e-9)


def test_the_limit_and_the_pace_are_those_of_the_descent(open_page: Callable[..., Any]) -> None:
    page = open_page()
    for momentum in (0.0, 0.5, 0.9, 0.99):
        for product in (0.01, 0.5, 1.5, 0.98 * 2 * (1 + momentum), 1.02 * 2 * (1 + momentum)):
            modulus, path = page.evaluate(
                """([rate, momentum]) => [
                    window.unetWidgets.momentum.modulus({ rate, momentum }, 1),
                    window.unetWidgets.momentum.descend({ rate, momentum, steps: 4000 })]""",
                [product, momentum],
            )
            assert (modulus < 1) == (product < 2 * (1 + momentum))
            b = 1 + momentum - product
            assert modulus == pytest.approx(max(abs(np.roots([1, -b, momentum]))), rel=1e-6)
            assert (abs(path[-1][0]) < 1) == (modulus < 1)


def test_noise_spreads_as_the_equation_says(open_page: Callable[..., Any]) -> None:
    found, expected = open_page().evaluate(
        """() => {
            const { momentum, deformation } = window.unetWidgets;
            const now = { rate: 0.1, momentum: 0.9, noise: 0.3, steps: 20000, start: [0, 0] };
            const path = momentum.descend(now, deformation.normals(3)).slice(1000);
            return [path.reduce((sum, [p]) => sum + p * p, 0) / path.length,
                momentum.variance(now, 1)];
        }"""
    )
    assert found == pytest.approx(expected, rel=0.1)


def test_the_widget_fits_a_phone_and_is_accessible(open_page: Callable[..., Any]) -> None:
    for scheme in ("light", "dark"):
        page = open_page(390, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not serious_violations(page)


def test_keys_find_the_rate_at_which_it_explodes(open_page: Callable[..., Any]) -> None:
    page = open_page()
    words = page.locator(".unet-note")
    assert "with momentum 0.9 the limit is 38: stable." in words.inner_text()
    page.get_by_label("momentum", exact=True).focus()
    page.keyboard.press("Home")
    assert "with momentum 0 the limit is 2: it explodes." in words.inner_text()
    page.keyboard.press("End")
    assert "with momentum 0.99 the limit is 398: stable." in words.inner_text()
    rate = page.get_by_role("slider", name="effective rate")
    rate.focus()
    page.keyboard.press("End")
    assert rate.get_attribute("aria-valuetext") == "1000"
    assert "it explodes" in words.inner_text()


def test_noise_draws_a_cloud_and_another_one(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.get_by_label("noise").fill("0.1")
    words = page.locator(".unet-note").inner_text()
    assert "Spread of 200 descents in the steep direction" in words
    assert page.locator("circle").count() == 200 + 4
    page.get_by_role("button", name="Draw again").press("Enter")
    assert page.locator(".unet-note").inner_text() != words
