"""The pages' widgets in a real browser: their numbers are the package's, and keys reach them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import STATIC, WIDGET, new_page, serious_violations

from unet_np.augmentation.warp import displacement_field
from unet_np.errors import InputError
from unet_np.network.architecture import Architecture
from unet_np.tiling.memory import forward_bytes
from unet_np.tiling.plan import stride, tile_count
from unet_np.weighting.eq2 import weight_map

Open = Callable[..., Any]


WIDGETS = ["tile-calculator", "weight-explorer", "deformation-explorer", "figure-1"]


@pytest.mark.parametrize("name", WIDGETS)
def test_widget_fits_a_phone_and_is_accessible(open_widget: Open, name: str) -> None:
    page = open_widget(name, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not serious_violations(page)


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
    assert rows.last.inner_text().split("\t") == ["output", "2 x 388 x 388", "conv 1x1", "130"]


def test_tile_calculator_explains_512_and_a_key_mends_it(open_widget: Open) -> None:
    page = open_widget("tile-calculator", 'data-size="512"')
    verdict = page.locator(".unet-verdict")
    text = verdict.inner_text()
    assert "Does not work. Input size 512, which is odd (121) at contract4.pool" in text
    assert page.locator("tbody tr").last.inner_text().startswith("contract4.pool\t121 is odd")
    page.locator(".unet-verdict button", has_text="524").focus()
    page.keyboard.press("Enter")
    assert "Works. The output has 340 x 340 pixels" in verdict.inner_text()


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("depth", range(1, 6))
def test_tiles_and_memory_are_the_package_s(open_widget: Open, depth: int, padding: int) -> None:
    page = open_widget("tile-calculator")
    network = Architecture(depth=depth, padding=padding, base_channels=8)
    least = network.min_input_size
    cases = [
        (image, least + step * network.size_step)
        for image in (1, 37, 512, 2048)
        for step in (0, 1, 2, 11, 40)
    ]
    found = page.evaluate(
        """([depth, padding, cases]) => {
            const { geometry } = window.unetWidgets;
            const network = { ...geometry.PAPER, depth, padding, baseChannels: 8 };
            return cases.map(([image, tile]) => [
                geometry.stride(network, tile), geometry.tileCount(network, image, tile),
                geometry.forwardBytes(network, tile)]);
        }""",
        [depth, padding, cases],
    )
    assert found == [
        [
            stride(network, tile),
            tile_count(network, image, tile),
            forward_bytes(network, (tile, tile)),
        ]
        for image, tile in cases
    ]


def test_tile_calculator_counts_the_tiles_of_an_image(open_widget: Open) -> None:
    page = open_widget("tile-calculator")
    tiles = page.locator(".unet-tiles")
    assert tiles.inner_text() == (
        "An image of 512 x 512 pixels takes 2 x 2 = 4 tiles, which begin 384 pixels apart. For "
        "each pixel of the image 5.0 are read: the rest is overlap and mirrored border. The "
        "feature maps of one tile take 191 MiB at their peak."
    )
    page.get_by_label("Image height and width").fill("388")
    assert "takes 1 tile. For each pixel of the image 2.2 are read" in tiles.inner_text()
    page.get_by_label("Input height and width").fill("188")
    assert tiles.inner_text().startswith("Such tiles cannot be joined")
    page.get_by_label("Channels of the first level").fill("0")
    assert "Expected a number of channels from 1 to 256" in page.inner_text(".unet-verdict")
    assert tiles.inner_text() == ""


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


@pytest.mark.parametrize(
    ("variant", "term"),
    [("paper", "background"), ("paper", "everywhere"), ("falk2019", "background")],
)
def test_weights_are_the_package_s(open_widget: Open, variant: str, term: str) -> None:
    page = open_widget("weight-explorer")
    for w0, sigma, gap, second in [
        *((10, 5, gap, True) for gap in (0, 1, 4, 17, 40)),
        (50, 6, 3, True),
        (0, 1, 5, True),
        (60, 20, 9, True),
        (10, 5, 4, False),
    ]:
        found = page.evaluate(
            """([w0, sigma, gap, second, variant, term]) => {
                const { weights } = window.unetWidgets;
                const image = weights.twoCells({ gap, second });
                const both = weights.distances(image);
                const map = weights.weightMap(image, both, { w0, sigma, variant, term });
                return [[...image.cells], [...map], image.height];
            }""",
            [w0, sigma, gap, second, variant, term],
        )
        cells, weights = (np.array(part).reshape(found[2], -1) for part in found[:2])
        assert cells.max() == 1 + second
        if second:
            row = cells[found[2] // 2]
            assert np.argmax(row == 2) - np.flatnonzero(row == 1)[-1] == gap + 1
        expected = weight_map(cells, w0, sigma, variant, term=term)
        np.testing.assert_allclose(weights, expected, rtol=0, atol=2e-5)


def test_weight_explorer_reads_a_pixel_and_follows_its_controls(open_widget: Open) -> None:
    page = open_widget("weight-explorer")
    reading = page.locator(".unet-note")
    gap = page.get_by_label("gap")
    gap.fill("8")
    assert "background: d1 = 4.0 px, d2 = 5.0 px" in reading.inner_text()
    before = reading.inner_text()
    page.get_by_label("sigma").press("ArrowRight")
    assert reading.inner_text() != before
    page.get_by_label("second cell").press("Space")
    assert "d2 = infinite (there is no second cell)" in reading.inner_text()
    page.locator("canvas").click(position={"x": 1, "y": 1})
    page.get_by_label("border term").select_option("everywhere")
    assert "in a cell" not in reading.inner_text()
    page.get_by_label("formula").select_option("falk2019")
    assert page.get_by_label("border term").is_disabled()
    assert page.get_by_label("w0").input_value() == "50"
    page.locator("canvas").click(position={"x": 1, "y": 1})
    assert reading.inner_text().startswith("Pixel 0, background")


def test_colours_of_the_weights_stay_when_the_largest_changes(open_widget: Open) -> None:
    page = open_widget("weight-explorer")

    def far_background() -> Any:
        return page.evaluate(
            """() => [...document.querySelector('canvas').getContext('2d')
                .getImageData(0, 0, 1, 1).data]"""
        )

    caption = page.locator("figcaption")
    before, words = far_background(), caption.inner_text()
    page.get_by_label("w0").fill("40")
    assert far_background() == before
    assert caption.inner_text() != words
    assert "yellow for 12 and more" in caption.inner_text()
    page.get_by_label("border term").select_option("everywhere")
    page.get_by_label("gap").fill("2")
    rim = "document.querySelector('.unet-note').textContent"
    page.get_by_label("pixel of the middle row").fill("58")
    everywhere = page.evaluate(rim)
    page.get_by_label("border term").select_option("background")
    assert "in a cell" in everywhere
    assert page.evaluate(rim) != everywhere


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 3), (3, 5), (12, 12)])
def test_deformation_is_the_package_s(open_widget: Open, grid: tuple[int, int]) -> None:
    page = open_widget("deformation-explorer")
    vectors = 10 * np.random.default_rng(0).standard_normal((2, *grid))
    found = page.evaluate(
        """(vectors) => window.unetWidgets.deformation
            .displacementField(vectors, 40, 57).map((one) => [...one])""",
        vectors.tolist(),
    )
    expected = displacement_field((40, 57), vectors)
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=0, atol=1e-9)


def test_the_widget_s_random_vectors_are_normal(open_widget: Open) -> None:
    page = open_widget("deformation-explorer")
    draws = page.evaluate(
        """() => { const next = window.unetWidgets.deformation.normals(3);
            return Array.from({ length: 20000 }, next); }"""
    )
    assert abs(np.mean(draws)) < 0.03
    assert abs(np.std(draws) - 1) < 0.03


def test_folds_are_counted(open_widget: Open) -> None:
    page = open_widget("deformation-explorer")
    reading = page.locator(".unet-note")
    assert reading.inner_text().endswith("Nothing folds.")
    page.get_by_label("sigma").fill("40")
    page.get_by_label("grid", exact=True).fill("12")
    page.wait_for_function("document.querySelector('.unet-note').textContent.includes('folded')")
    page.get_by_label("sigma").fill("0")
    page.wait_for_function("document.querySelector('.unet-note').textContent.includes('0.0 px')")
    assert reading.inner_text().endswith("Nothing folds.")


def test_draw_again_draws_other_vectors(open_widget: Open) -> None:
    page = open_widget("deformation-explorer")
    before = page.locator("canvas").screenshot()
    page.get_by_role("button", name="Draw again").press("Enter")
    page.wait_for_function("document.querySelector('.unet-note').textContent.startsWith('Draw 2')")
    assert page.locator("canvas").screenshot() != before


def test_figure_1_has_the_boxes_of_the_paper(open_widget: Open) -> None:
    page = open_widget("figure-1")
    tabs = page.get_by_role("tab")
    labels = [tabs.nth(i).get_attribute("aria-label") for i in range(tabs.count())]
    drawn = [
        f"{layer.name}: {shape[1]} channels of {shape[2]} x {shape[3]}"
        for layer, shape in Architecture().shapes((1, 1, 572, 572))
        if layer.kind in ("relu", "pool", "crop_concat") or layer.name == "output"
    ]
    assert labels == ["input: 1 channels of 572 x 572", *drawn]


def test_every_box_of_figure_1_opens_by_keyboard(open_widget: Open) -> None:
    page = open_widget("figure-1")
    panel = page.get_by_role("tabpanel")
    tabs = page.get_by_role("tab")
    page.locator("[role=tab][tabindex='0']").focus()
    page.keyboard.press("Home")
    parameters = 0
    for i in range(tabs.count()):
        assert tabs.nth(i).get_attribute("aria-selected") == "true"
        name = panel.locator("strong").inner_text()
        assert tabs.nth(i).get_attribute("aria-label").startswith(name + ":")
        assert (STATIC / "widgets" / "maps" / f"{name}.webp").is_file()
        page.wait_for_function("document.querySelector('.unet-maps').naturalWidth > 0")
        facts = panel.locator("dd").all_inner_texts()
        parameters += int(facts[2].replace(",", ""))
        page.keyboard.press("ArrowRight")
    assert parameters == Architecture().parameters
    assert panel.locator("strong").inner_text() == "output"


def test_boxes_of_figure_1_open_by_click_and_by_buttons(open_widget: Open) -> None:
    page = open_widget("figure-1", width=390)
    title = page.get_by_role("tabpanel").locator("strong")
    page.get_by_role("tab", name="expand3.crop_concat").click()
    assert title.inner_text() == "expand3.crop_concat"
    page.get_by_role("button", name="Next box").press("Enter")
    assert title.inner_text() == "expand3.relu1"
    page.get_by_role("button", name="Box before").click()
    assert "copy and crop of 256 channels from contract3.relu2" in page.inner_text(
        "[role=tabpanel]"
    )


def test_on_a_phone_figure_1_moves_to_the_box(open_widget: Open) -> None:
    page = open_widget("figure-1", width=390)
    page.get_by_role("slider").press("End")
    box = page.get_by_role("tab", name="output").locator(".unet-face").bounding_box()
    frame = page.locator(".unet-figure").bounding_box()
    assert frame["x"] <= box["x"]
    assert box["x"] + box["width"] <= frame["x"] + frame["width"]


def test_the_slider_sends_the_image_through_the_u(open_widget: Open) -> None:
    page = open_widget("figure-1")
    slider = page.get_by_role("slider")
    title = page.get_by_role("tabpanel").locator("strong")
    slider.focus()
    page.keyboard.press("End")
    assert title.inner_text() == "output"
    page.keyboard.press("ArrowLeft")
    assert title.inner_text() == "expand1.relu2"
    assert slider.get_attribute("aria-valuetext") == "expand1.relu2: 64 channels of 388 x 388"
    page.get_by_role("tab", name="contract5.pool").click()
    assert slider.get_attribute("aria-valuetext").startswith("contract5.pool: 512 channels")


@pytest.mark.parametrize("name", [*WIDGETS, "momentum-explorer", "moving-window"])
def test_widget_works_in_a_page_opened_from_a_folder(
    browser: Any, tmp_path: Path, name: str
) -> None:
    scripts = (STATIC / "widgets").as_uri()
    file = tmp_path / "page.html"
    file.write_text(WIDGET.format(name=name, attributes="", scripts=scripts), encoding="utf-8")
    page = new_page(browser)
    page.goto(file.as_uri())
    page.wait_for_selector("[data-ready=true]")
    assert "Fallback" not in page.inner_text("[data-widget]")
    page.context.close()


def test_a_page_without_widgets_loads_nothing_more(browser: Any, static_address: str) -> None:
    page = new_page(browser)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(static_address)))
    html = WIDGET.replace("data-widget", "data-other")
    html = html.format(name="", attributes="", scripts="/widgets")
    page.route(
        f"{static_address}/page.html",
        lambda route: route.fulfill(body=html, content_type="text/html"),
    )
    page.goto(f"{static_address}/page.html", wait_until="networkidle")
    assert [path for path in asked if not path.startswith("/favicon")] == [
        "/page.html",
        "/widgets/load.js",
    ]
    page.context.close()
