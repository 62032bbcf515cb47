"""The widget in which a window moves over an image: its sums are right, no number comes early."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from browser import serious_violations

from unet_np.ops import conv2d

Open = Callable[..., Any]


@pytest.fixture
def open_page(open_widget: Open) -> Open:
    return partial(open_widget, "moving-window")


def output(page: Any) -> list[list[str]]:
    texts = page.locator("[role=img] text").all_text_contents()
    return [texts[i : i + 5] for i in range(0, 25, 5)]


def predict(page: Any, number: float) -> str:
    page.get_by_label("your guess").fill(f"{number:g}")
    page.get_by_label("your guess").press("Enter")
    return page.inner_text(".unet-verdict")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_is_accessible(open_page: Open, scheme: str) -> None:
    page = open_page(width=390, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not serious_violations(page)


def test_every_control_is_named_and_reached_by_tab(open_page: Open) -> None:
    page = open_page()
    names = []
    for _ in range(15):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                """() => { const one = document.activeElement;
                return [one.getAttribute('aria-label') || (one.labels && one.labels.length
                    ? one.labels[0].textContent : one.textContent),
                    getComputedStyle(one).outlineStyle]; }"""
            )
        )
    assert [name for name, _ in names] == [
        "image",
        "kernel",
        "Image. Arrow keys move the window.",
        *(f"Kernel, row {m}, column {n}" for m in range(3) for n in range(3)),
        "your guess",
        "Check",
        "Show it",
    ]
    assert all(outline != "none" for _, outline in names)


def test_its_sums_are_the_package_s(open_page: Open) -> None:
    page = open_page()
    found = page.evaluate(
        """() => { const { IMAGES, KERNELS, convolve } = window.unetWidgets.movingWindow;
            return Object.values(IMAGES).flatMap((image) => Object.values(KERNELS).map(
                (kernel) => [image, kernel, convolve(image, kernel)])); }"""
    )
    assert len(found) == 15
    for one in found:
        image, kernel, sums = (np.array(part, float)[None, None] for part in one)
        np.testing.assert_allclose(sums, conv2d(image, kernel, np.zeros(1))[0], atol=1e-12)


def test_no_number_is_shown_before_it_was_predicted(open_page: Open) -> None:
    page = open_page()
    assert {text for line in output(page) for text in line} == {"?"}
    said = predict(page, 3)
    assert said == "Not 3. The nine products are 0, 0, 0, 0, 0, 1, 0, 0, 1. Add them up."
    assert {text for line in output(page) for text in line} == {"?"}
    assert predict(page, 2).startswith("Right, 2. 1 predicted")
    assert output(page)[1] == ["2", "?", "?", "?", "?"]
    # The same pixel again is no second prediction.
    assert predict(page, 2).startswith("Right, 2. 1 predicted")


def test_the_rest_is_offered_after_three_predictions(open_page: Open) -> None:
    page = open_page()
    rest = page.get_by_role("button", name="Fill in the rest")
    window = page.get_by_label("Image. Arrow keys move the window.")
    for number, key in ((2, "ArrowRight"), (3, "ArrowRight")):
        predict(page, number)
        assert not rest.is_visible()
        window.press(key)
    predict(page, 2)
    rest.press("Enter")
    page_output = [[float(text.replace("−", "-")) for text in line] for line in output(page)]
    expected = page.evaluate(
        "(w => w.convolve(w.IMAGES['an edge'], w.KERNELS['right minus left']))"
        "(window.unetWidgets.movingWindow)"
    )
    assert page_output == expected
    assert not rest.is_visible()


def test_an_edited_kernel_hides_the_output_and_counts_anew(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="Show it").click()
    assert output(page)[1][0] == "2"
    page.get_by_label("Kernel, row 1, column 2").fill("-0.5")
    assert page.get_by_label("kernel", exact=True).input_value() == "your own"
    assert {text for line in output(page) for text in line} == {"?"}
    assert predict(page, 0.5).startswith("Right, 0.5.")
    page.get_by_label("kernel", exact=True).select_option("sum of all nine")
    assert page.get_by_label("Kernel, row 1, column 2").input_value() == "1"
    page.get_by_label("image", exact=True).select_option("stripes")
    assert predict(page, 6).startswith("Right, 6.")


def test_the_window_follows_finger_and_keys_and_stays_inside(open_page: Open) -> None:
    page = open_page(width=390)
    where = page.locator(".unet-note")
    window = page.get_by_label("Image. Arrow keys move the window.")
    box = window.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    assert where.inner_text().startswith("Window at row 0, column 0:")
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2)
    page.mouse.up()
    assert where.inner_text() == "Window at row 2, column 4: 1 2 2, 2 2 2, 2 2 2."
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown"):
        window.press(key)
    assert where.inner_text().startswith("Window at row 4, column 4:")
    page.locator("[role=img]").click(position={"x": 4, "y": 4})
    assert where.inner_text().startswith("Window at row 0, column 0:")


def test_a_check_without_a_number_says_so(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="Check").click()
    assert page.inner_text(".unet-verdict") == "Type a number first."
