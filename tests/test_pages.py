"""The built pages as a reader has them: accessible, whole, and without the network.

They are those in `_build/html`, or in the folder that UNET_NP_HTML names; without them every
test here skips, or fails under UNET_NP_REQUIRE_BOOK=1, which `make test` sets after building the
book. `make pages` builds the book and runs these tests alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from browser import new_page, serious_violations, serve, watch

ROOT = Path(__file__).resolve().parent.parent
HTML = Path(os.environ.get("UNET_NP_HTML", ROOT / "_build" / "html"))
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if not path.relative_to(HTML).parts[0].startswith("_")
)
# Pages that Sphinx makes by itself, and the page that leads to the first one.
GENERATED = {"genindex.html", "search.html", "py-modindex.html", "index.html"}

HARMLESS = "/favicon.ico"


def is_outdated() -> bool:
    """Whether a page's source is newer than the last build, which always writes the search."""
    sources = [*(ROOT / "book").glob("*.ipynb"), *(ROOT / "book").glob("*.md"), ROOT / "_toc.yml"]
    newest = max(source.stat().st_mtime for source in sources)
    return newest > (HTML / "search.html").stat().st_mtime


problem = ""
if not PAGES:
    problem = "the book is not built: make book"
elif "UNET_NP_HTML" not in os.environ and is_outdated():
    problem = "the built book is older than its sources: make pages"
if problem and os.environ.get("UNET_NP_REQUIRE_BOOK") == "1":
    pytest.fail(f"UNET_NP_REQUIRE_BOOK=1, and {problem}", pytrace=False)
if problem:
    pytest.skip(problem, allow_module_level=True)

# Tables and displayed formulas scroll; a formula in a line ends at the edge of the screen.
CUT_FORMULAS = """() => [...document.querySelectorAll("main mjx-container:not([display])")]
  .filter((formula) => !formula.closest("table"))
  .filter((f) => f.querySelector("mjx-math").getBoundingClientRect().right > innerWidth)
  .map((formula) => formula.parentElement.innerText.slice(0, 80))"""

# Code breaks and an equation shrinks, so that nobody reads by swiping to and fro.
SWIPED = """() => [...document.querySelectorAll("main pre, main mjx-container[display]")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => one.innerText.slice(0, 80))"""

every_page = pytest.mark.parametrize("name", PAGES)


class Anatomy(HTMLParser):
    """What a page links to, and what in it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.update(value for key in ("id", "name") if (value := values.get(key)))
        for key in ("href", "src"):
            if value := values.get(key):
                self.links.append(value)


@cache
def anatomy(path: Path) -> Anatomy:
    return Anatomy(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(HTML) as running:
        yield running


@pytest.fixture(
    scope="module",
    params=[("phone", 390, "dark"), ("desk", 1280, "light")],
    ids=lambda one: one[0],
)
def watched(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """One page for a reader's whole way, whose scripts stay compiled, and what goes wrong on it."""
    _, width, scheme = request.param
    page = new_page(browser, width, scheme)
    problems = watch(page, address, "data:", "blob:")

    def response(got: Any) -> None:
        if got.status >= 400 and not got.url.endswith(HARMLESS):
            problems.append(f"{got.status} {got.url}")

    page.on("response", response)
    yield page, problems
    page.context.close()


def settle(page: Any) -> None:
    """Wait for formulas and widgets, and open what is folded."""
    # What is opened fades in, and half faded in it has half the contrast.
    page.add_style_tag(content="* { animation: none !important; transition: none !important }")
    page.evaluate(
        """async () => {
            const folds = [...document.querySelectorAll("details:not([open])")];
            const told = (fold) => new Promise((done) => fold.addEventListener("toggle", done));
            const all = Promise.all(folds.map(told));
            folds.forEach((fold) => (fold.open = true));
            if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
            // What was opened is fitted before the next picture.
            await all;
            await new Promise(requestAnimationFrame);
        }"""
    )
    page.wait_for_function("!document.querySelector('[data-widget]:not([data-ready=true])')")


@every_page
def test_page_is_accessible_and_fits(watched: Any, address: str, name: str) -> None:
    page, problems = watched
    problems.clear()
    page.goto(f"{address}/{name}")
    if name == "index.html":
        # It sends on to the first page.
        page.wait_for_url(f"{address}/book/intro.html")
    settle(page)
    assert not problems
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "scrolls sideways"
    assert not page.evaluate(CUT_FORMULAS), "a formula in a line is cut off: display it"
    assert not page.evaluate(SWIPED), "code or an equation is wider than the page"
    serious = serious_violations(page)
    assert not serious, "\n".join(serious)


def test_one_faint_word_among_many_is_found(browser: Any, address: str) -> None:
    page = new_page(browser)
    page.goto(f"{address}/book/intro.html")
    settle(page)
    assert not serious_violations(page)
    page.reload()
    settle(page)
    page.evaluate(
        """() => [...document.querySelectorAll("pre span")]
            .findLast((one) => one.innerText === "import")
            .setAttribute("style", "color: #777 !important; background: #888")"""
    )
    (found,) = serious_violations(page)
    assert found.startswith("color-contrast")
    assert "#777" in found
    page.context.close()


@every_page
def test_headings_are_in_order(name: str) -> None:
    if name in GENERATED:
        return
    text = (HTML / name).read_text(encoding="utf-8")
    main = text[text.find("<main") : text.find("</main>")]
    levels = [int(level) for level in re.findall(r"<h([1-6])[\s>]", main)]
    assert levels[0] == 1
    jumps = [(a, b) for a, b in pairwise(levels) if b > a + 1]
    assert not jumps


@every_page
def test_links_within_the_book_lead_somewhere(name: str) -> None:
    here = HTML / name
    broken = []
    for link in anatomy(here).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or link in ("#", "./"):
            continue
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        if not target.is_file():
            broken.append(link)
        elif parts.fragment and target.suffix == ".html":
            ids = anatomy(target).ids
            if unquote(parts.fragment) not in ids:
                broken.append(link)
    assert not broken


def test_search_finds_a_chapter(browser: Any, address: str) -> None:
    page = new_page(browser)
    page.goto(f"{address}/search.html?q=overlap-tile")
    page.wait_for_selector("ul.search li a")
    assert page.locator("ul.search li").count() >= 1
    page.context.close()
