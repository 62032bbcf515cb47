"""The widget on momentum: its descents are the package's, its limits those of the chapter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from browser import serious_violations

from unet_np import SGD

Open = Callable[..., Any]


@pytest.fixture
def open_page(open_widget: Open) -> Open:
    return partial(open_widget, "momentum-explorer")


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.0), (1.0, 0.9), (0.05, 0.99), (2.5, 0.3)])
def test_descents_are_the_package_s(open_page: Open, rate: float, momentum: float) -> None:
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


def test_the_limit_and_the_pace_are_those_of_the_descent(open_page: Open) -> None:
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


def test_noise_spreads_as_the_equation_says(open_page: Open) -> None:
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


def test_the_widget_fits_a_phone_and_is_accessible(open_page: Open) -> None:
    for scheme in ("light", "dark"):
        page = open_page(width=390, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not serious_violations(page)


def test_keys_find_the_rate_at_which_it_explodes(open_page: Open) -> None:
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


def test_noise_draws_a_cloud_and_another_one(open_page: Open) -> None:
    page = open_page()
    page.get_by_label("noise").fill("0.1")
    words = page.locator(".unet-note").inner_text()
    assert "Spread of 200 descents in the steep direction" in words
    assert page.locator("circle").count() == 200 + 4
    page.get_by_role("button", name="Draw again").press("Enter")
    assert page.locator(".unet-note").inner_text() != words
