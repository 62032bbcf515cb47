"""A real browser for tests of pages, and a web server for it to read from."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
WIDGET = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Widget</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="{scripts}/load.js" defer></script></head>
<body><main><h1>Widget</h1>
<div data-widget="{name}" {attributes}>Fallback.</div></main></body></html>"""
"""A page with one widget, and where the scripts are."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The address of a web server for a folder."""
    handler = partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def open_browser() -> Iterator[Any]:
    """An installed Chromium or Chrome under Playwright; where there is none, the test skips."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no browser found; on Debian and Ubuntu: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        # The sandbox of Chromium needs rights that containers do not give.
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def new_context(browser: Any, width: int = 800, scheme: str = "light") -> Any:
    """A browser that has seen nothing yet, on a screen of that width."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    # A machine with other work to do may stop the browser for a while.
    context.set_default_timeout(120_000)
    return context


def new_page(browser: Any, width: int = 800, scheme: str = "light") -> Any:
    """A page in a context of its own; `page.context.close()` ends it."""
    return new_context(browser, width, scheme).new_page()


def watch(page: Any, *places: str) -> list[str]:
    """What goes wrong on the page, or is asked of elsewhere, from now on: the list grows."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            request.url.startswith(places) or problems.append(f"outside: {request.url}")
        ),
    )
    return problems


@contextmanager
def watched_pages(browser: Any, *places: str) -> Iterator[Callable[..., Any]]:
    """Makes pages as `new_page` does; at the end nothing has failed or been asked of elsewhere."""
    contexts: list[Any] = []
    watched: list[list[str]] = []

    def opened(width: int = 800, scheme: str = "light") -> Any:
        page = new_page(browser, width, scheme)
        contexts.append(page.context)
        problems = watch(page, *places)
        page.on("requestfailed", lambda request: problems.append(request.url))
        watched.append(problems)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not [problem for problems in watched for problem in problems]


# Contrast is a matter of the colours, the ground and the size of the letters. A page of code has
# ten thousand words in a dozen such combinations: the first of each is marked. Of the other words
# of code only the text is left: axe asks nothing else of them, and goes through all elements often.
MARK_FIRST = """() => {
  const CLEAR = "rgba(0, 0, 0, 0) none 1 static";
  const grounds = new Map();
  const ground = (element) => {
    if (!element) return "";
    if (!grounds.has(element)) {
      const { backgroundColor, backgroundImage, opacity, position } = getComputedStyle(element);
      const own = `${backgroundColor} ${backgroundImage} ${opacity} ${position}`;
      const below = ground(element.parentElement);
      grounds.set(element, own === CLEAR ? below : `${below}/${own}`);
    }
    return grounds.get(element);
  };
  const hasText = (node) => node.nodeType === Node.TEXT_NODE && node.data.trim();
  const seen = new Set();
  for (const element of document.querySelectorAll("body *")) {
    element.removeAttribute("data-first");
    const field = element.matches("input, select, textarea");
    if (!field && ![...element.childNodes].some(hasText)) continue;
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    const { color, fontSize, fontWeight, textShadow } = getComputedStyle(element);
    const key = [color, fontSize, fontWeight, textShadow, ground(element)].join("|");
    element.toggleAttribute("data-first", !seen.has(key));
    seen.add(key);
  }
  const isWord = (span) => !span.childElementCount
    && [...span.attributes].every(({ name }) => name === "class" || name === "style");
  document.querySelectorAll("wbr").forEach((one) => one.remove());
  for (const span of [...document.querySelectorAll("pre span, code span, dt span")].reverse())
    if (isWord(span)) span.replaceWith(span.textContent);
  document.body.normalize();
}"""


# In one run: one for contrast and one for the rest take half as long again.
RUN_AXE = """async () => {
  axe.configure({ rules: [{ id: "color-contrast", selector: "[data-first]" }] });
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations;
}"""


def serious_violations(page: Any) -> list[str]:
    """What axe-core finds on the page that keeps people out: a line for each element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.evaluate(MARK_FIRST)
    page.evaluate(axe.axe_script)
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]}"
        for one in page.evaluate(RUN_AXE)
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
