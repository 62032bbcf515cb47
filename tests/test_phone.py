"""What `book.js` and `book.css` do for a page on a phone, on a page made for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import STATIC, new_page, serve

LINE = "    total += weights[k, c, m, l] * image[n, c, i + m, j + l]  # by 1e-15 --min-area"
EQUATION = "x" * 24
PICTURE = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='800' height='90'/>"
CODE = (
    f'<span class="k -Color -Color-Red">for</span> k in places<span class="p">[</span>1:]\n{LINE}\n'
)
PAGE = f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Phone</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{{static}}/book.css"><script src="{{static}}/book.js"></script>
<style>mjx-container {{{{ display: block; white-space: nowrap }}}}
pre {{{{ overflow: auto }}}}</style>
</head><body><main class="bd-content">
<div class="highlight"><pre>{CODE}</pre></div>
<div class="cell_output"><div class="output stream highlight"><pre>{" 123" * 12}</pre></div></div>
<p>smaller than (<span class="math">-E</span>). Then</p>
<div class="math" style="display: flex; flex-direction: row-reverse"><span class="eqno">(1)</span>
<mjx-container display="true" style="font-size: 140%; flex-grow: 1">{EQUATION}</mjx-container></div>
<div class="table-wrapper" style="overflow-x: auto"><table><tr>
<td><code><span class="pre">unet_np.ops.conv2d_backward</span></code></td>
<td>{"x" * 80}</td></tr></table></div>
<div class="table-wrapper" id="shapes" style="overflow-x: auto"><table><tr>
{"<td style='white-space: nowrap'>1 x 1024 x 28 x 28</td>" * 4}</tr></table></div>
<p id="whole">See Fig. 1 of 512 x 512, 92 % of 1 x 64 x 570 x 570 in fold-0 of a U-Net and
<code>--mask-values</code></p>
<div class="cell tag_hide-input tag_hide-output">
<details><summary><p class="admonition-title">Show the source</p></summary></details>
<details><summary><p class="admonition-title">Show the output</p></summary>
<div class="cell_output"><table><tr><td>0e+00</td></tr></table></div></details></div>
<div class="cell_output"><div class="text_html" style="background: #ced6dd">Best</div></div>
<figure style="margin: 0 8px; padding: 0 8px"><img alt="A wide picture" src="{PICTURE}"></figure>
</main></body></html>"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("phone")
    with serve(STATIC) as static, serve(folder) as running:
        (folder / "page.html").write_text(PAGE.format(static=static), encoding="utf-8")
        yield f"{running}/page.html"


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Any]:
    contexts: list[Any] = []

    def opened(width: int) -> Any:
        page = new_page(browser, width)
        contexts.append(page.context)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()


def overflows(page: Any, selector: str) -> bool:
    return bool(page.eval_on_selector(selector, "e => e.scrollWidth > e.clientWidth"))


def test_code_breaks_on_a_phone_and_keeps_its_text(open_page: Any) -> None:
    page = open_page(390)
    assert not overflows(page, "pre")
    assert page.eval_on_selector("pre", "e => e.textContent") == f"for k in places[1:]\n{LINE}\n"
    whole = page.locator(".unet-line .unet-together").all_inner_texts()
    assert whole == ["1e-15", "--min-area"]
    assert page.locator(".unet-line wbr").count() == 1
    first, second, _ = page.query_selector_all(".unet-line")
    assert second.bounding_box()["height"] > 1.5 * first.bounding_box()["height"]


def test_printed_columns_stay_in_line(open_page: Any) -> None:
    page = open_page(390)
    page.wait_for_function("document.querySelector('.output pre').style.fontSize")
    (line,) = page.query_selector_all(".output .unet-line")
    size = page.eval_on_selector(".output pre", "e => parseFloat(getComputedStyle(e).fontSize)")
    assert 10 <= size < 12.48
    assert line.bounding_box()["height"] < 2 * size
    page.set_viewport_size({"width": 1200, "height": 900})
    page.wait_for_function("!document.querySelector('.output pre').style.fontSize")


def test_a_line_of_code_that_fits_is_one_line(open_page: Any) -> None:
    page = open_page(1200)
    first, second, _ = page.query_selector_all(".unet-line")
    assert second.bounding_box()["height"] == first.bounding_box()["height"]


def test_punctuation_stays_with_its_formula(open_page: Any) -> None:
    page = open_page(390)
    assert page.inner_text("p .unet-together") == "(-E)."
    assert page.inner_text("p") == "smaller than (-E). Then"


def test_what_belongs_together_stays_on_a_line(open_page: Any) -> None:
    whole = open_page(390).locator("#whole .unet-together").all_inner_texts()
    assert whole[:5] == ["Fig. 1", "512 x 512", "92 %", "1 x 64 x", "570 x 570"]
    assert whole[5:] == ["fold-0", "U-Net", "--mask-values"]


def test_folds_say_what_they_hide(open_page: Any) -> None:
    titles = open_page(390).locator(".admonition-title").all_inner_texts()
    assert titles == ["Show the code of the table", "Show the table"]


def test_the_html_of_a_cell_is_dark_in_the_dark(open_page: Any) -> None:
    page = open_page(1200)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    ground = page.eval_on_selector(".text_html", "e => getComputedStyle(e).backgroundColor")
    assert ground == "rgba(0, 0, 0, 0)"


def test_an_error_of_nothing_is_nothing(open_page: Any) -> None:
    assert open_page(390).text_content(".cell_output table").strip() == "0"


def test_a_picture_takes_the_width_of_a_phone(open_page: Any) -> None:
    page = open_page(390)
    box = page.query_selector("figure img").bounding_box()
    assert (box["x"], box["width"]) == (0, 390)
    page.set_viewport_size({"width": 700, "height": 900})
    assert page.query_selector("figure img").bounding_box()["width"] < 700 - 32


def test_an_equation_shrinks_until_it_fits_and_grows_back(open_page: Any) -> None:
    page = open_page(390)
    for width, under in ((280, False), (220, True)):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            "parseFloat(document.querySelector('mjx-container').style.fontSize) < 140"
            f" && !!document.querySelector('.unet-under') === {str(under).lower()}"
        )
        assert not overflows(page, "mjx-container")
    page.set_viewport_size({"width": 1200, "height": 900})
    page.wait_for_function("document.querySelector('mjx-container').style.fontSize === '140%'")


def test_short_cells_of_a_wide_table_break_on_a_phone_only(open_page: Any) -> None:
    page = open_page(390)
    page.wait_for_selector("#shapes.unet-small.unet-tight")
    assert not overflows(page, "#shapes")
    page.set_viewport_size({"width": 800, "height": 900})
    page.wait_for_selector("#shapes:not(.unet-small, .unet-tight)")


def test_a_wide_table_is_smaller_on_any_screen(open_page: Any) -> None:
    page = open_page(600)
    page.eval_on_selector("#shapes", "e => { e.style.width = '560px' }")
    page.set_viewport_size({"width": 620, "height": 900})
    page.wait_for_selector("#shapes.unet-small:not(.unet-tight)")
    page.eval_on_selector("#shapes", "e => { e.style.width = '460px' }")
    page.set_viewport_size({"width": 630, "height": 900})
    page.wait_for_selector("#shapes.unet-tiny:not(.unet-tight)")


def test_a_fold_that_opens_is_fitted_and_nothing_else_is_measured(open_page: Any) -> None:
    page = open_page(390)
    page.wait_for_selector("#shapes.unet-small.unet-tight")
    found = page.evaluate(
        """async () => {
            const folds = [1, 2].map(() => document.createElement("details"));
            for (const fold of folds) {
                for (const id of ["shapes", "equation"]) {
                    const one = id === "shapes" ? document.getElementById(id)
                        : document.querySelector("div.math");
                    const copy = fold.appendChild(one.cloneNode(true));
                    copy.classList.remove("unet-small", "unet-tiny", "unet-tight", "unet-under");
                }
                fold.querySelector("mjx-container").textContent = "x".repeat(48);
                document.querySelector("main").append(fold);
            }
            const own = Object.getOwnPropertyDescriptor(Element.prototype, "scrollWidth");
            const measured = new Set();
            Object.defineProperty(Element.prototype, "scrollWidth", {
                get() { measured.add(this); return own.get.call(this); },
            });
            const told = (fold) => new Promise((done) => fold.addEventListener("toggle", done));
            const both = Promise.all(folds.map(told));
            folds.forEach((fold) => (fold.open = true));
            await both;
            await new Promise(requestAnimationFrame);
            const within = (one) => folds.some((fold) => fold.contains(one));
            return [[...measured].filter(within).length, [...measured].length,
                ...folds.map((fold) => fold.querySelector(".table-wrapper").className),
                ...folds.map((fold) => fold.querySelector(".math").className)];
        }"""
    )
    table, equation = "table-wrapper unet-small unet-tiny unet-tight", "math unet-under"
    assert found == [4, 4, table, table, equation, equation]


def test_a_table_shows_that_more_follows(open_page: Any) -> None:
    page = open_page(390)
    page.wait_for_selector(".table-wrapper[data-more][tabindex]:not(.unet-tight)")
    page.eval_on_selector(".table-wrapper", "e => e.scrollTo(e.scrollWidth, 0)")
    page.wait_for_selector(".table-wrapper:not([data-more])")


def test_names_in_tables_may_break(open_page: Any) -> None:
    page = open_page(390)
    assert page.eval_on_selector("td .pre", "e => e.textContent") == "unet_np.ops.conv2d_backward"
    assert page.locator("td .pre wbr").count() == 4
