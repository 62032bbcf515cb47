"""Print the built book as one PDF, with a browser.

    python tools/pdf.py                                    # after `make book`
    python tools/pdf.py --pages book/intro book/convolution --out two-chapters.pdf

All pages become one document: links between them become links within it, and the list of contents
gets page numbers. What only a screen can do is replaced. The code that draws a figure is left out,
the hidden solutions stand in their own chapter at the end, a widget becomes a still of itself, and
the API reference is left to the web.
"""

from __future__ import annotations

import argparse
import base64
import html
import mimetypes
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from unet_np.errors import InputError, require
from unet_np.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "pdf" / "unet-from-scratch.pdf"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# No such machine exists: every request is answered from the folder of the book.
ORIGIN = "http://book.invalid"
DOCUMENT = f"{ORIGIN}/book/whole-book.html"
# A4 less the margins of pdf.css, in the pixels of CSS; the layout is measured at this width.
WIDTH = round((210 - 2 * 18) / 25.4 * 96)
LEFT_OUT = re.compile(r"book/api(-\w+)?$")
# Chromium writes its objects as plain text.
PAGE = re.compile(rb"(\d+) 0 obj\s*<<\s*/Type /Page\b")
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")

FOOTER = """<div style="width:100%; text-align:center; font:8px Liberation Sans, Arial, sans-serif">
<span class="pageNumber"></span></div>"""

# What is still too wide at the width of the paper gets smaller type, and is named if that fails.
FIT = """() => {
  const wide = [];
  const limit = document.body.getBoundingClientRect().right + 1;
  const right = (one) => {
    const range = document.createRange();
    range.selectNodeContents(one);
    return Math.max(range.getBoundingClientRect().right, one.getBoundingClientRect().right);
  };
  const all = 'table, mjx-container[display="true"], pre, img, figure, .cell_output';
  for (const one of document.querySelectorAll(all)) {
    let size = parseFloat(getComputedStyle(one).fontSize);
    const smallest = 0.6 * size;
    while (right(one) > limit && size > smallest) {
      size -= 0.25;
      one.style.fontSize = `${size}px`;
    }
    const where = one.closest('.chapter')?.id;
    if (right(one) > limit) wide.push(`${where}: ${one.outerHTML.slice(0, 120)}`);
  }
  return wide;
}"""


def parts(toc: Path) -> list[tuple[str, list[str]]]:
    """The book's parts, each with its pages in order; the first one has no name."""
    content = yaml.safe_load(toc.read_text(encoding="utf-8"))

    def files(node: Any) -> list[str]:
        if isinstance(node, list):
            return [name for item in node for name in files(item)]
        below = [*node.get("chapters", []), *node.get("sections", [])]
        return ([node["file"]] if "file" in node else []) + files(below)

    named = []
    for number, part in enumerate(content.get("parts", [])):
        caption = part["caption"]
        if part.get("numbered", True):
            caption = f"{ROMAN[number]} {caption}"
        named.append((caption, files(part)))
    return [("", [content["root"]]), *named]


def chosen(toc: Path, only: list[str] | None) -> list[tuple[str, list[str]]]:
    """The parts with the pages that are printed.

    Raises
    ------
    InputError
        If a page that is asked for is not in the book.
    """
    every = [name for _, names in parts(toc) for name in names]
    for name in only or []:
        if name not in every:
            raise InputError(
                f"--pages: got {name}, expected pages of {toc.name} such as {every[0]}"
            )

    def wanted(name: str) -> bool:
        return name in only if only else not LEFT_OUT.match(name)

    kept = [(caption, list(filter(wanted, names))) for caption, names in parts(toc)]
    return [(caption, names) for caption, names in kept if names]


def built(folder: Path, name: str) -> Path:
    """The file of a page.

    Raises
    ------
    InputError
        If the page is not built.
    """
    path = folder / f"{name}.html"
    if not path.is_file():
        raise InputError(f"{path}: got no such file, expected the built book; run: make book")
    return path


def article(folder: Path, name: str, included: set[str]) -> Tag:
    """The text of a page, with ids and links that hold in the whole document.

    Raises
    ------
    InputError
        If the page is not built.
    """
    path = built(folder, name)
    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    body = page.select_one("article.bd-article")
    if body is None:
        raise InputError(f"{path}: got no article in it, expected a page of the book")
    for folded in body.select(
        ".tag_hide-cell, details.above-input, .headerlink, script, .toctree-wrapper, .copybtn"
    ):
        folded.decompose()
    for folded in body.select("details"):
        folded["open"] = ""
    for element in body.select("[id]"):
        element["id"] = f"{Path(name).name}--{element['id']}"
    for link in body.select("a[href]"):
        link["href"] = new_address(str(link["href"]), name, included)
        if not link["href"]:
            del link["href"]
    return body


def new_address(href: str, name: str, included: set[str]) -> str:
    """Where a link of a page leads in the whole document; empty if nowhere.

    >>> new_address("pooling.html#check-it", "book/convolution", {"book/pooling"})
    '#pooling--check-it'
    >>> new_address("#check-it", "book/convolution", {"book/convolution"})
    '#convolution--check-it'
    >>> new_address("https://doi.org/10", "book/convolution", set())
    'https://doi.org/10'
    """
    address = urlsplit(href)
    if address.scheme or address.netloc:
        return href
    page = name
    if address.path:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(address.path)))
        page = path.removesuffix(".html")
    if page not in included:
        return ""
    anchor = f"--{unquote(address.fragment)}" if address.fragment else ""
    return f"#{posixpath.basename(page)}{anchor}"


def assemble(folder: Path, chapters: list[tuple[str, list[str]]], stills: dict[str, bytes]) -> str:
    """All pages as one HTML document.

    Parameters
    ----------
    folder : Path
        Of the built book.
    chapters : list of (str, list of str)
        Caption of the part, and its pages.
    stills : dict
        Name of a widget to a PNG of it.
    """
    included = {name for _, names in chapters for name in names}
    contents, texts = [], []
    for caption, names in chapters:
        if caption:
            contents.append(f'<li class="part">{html.escape(caption)}</li>')
        for name in names:
            body, stem = article(folder, name, included), Path(name).name
            for widget in body.select("[data-widget]"):
                if str(widget["data-widget"]) in stills:
                    show_still(widget, stills[str(widget["data-widget"])])
            heading = body.select_one("h1")
            title = heading.get_text(" ", strip=True) if heading else stem
            contents.append(
                f'<li><a href="#{stem}">{html.escape(title)}</a>'
                f'<span data-page="{stem}"></span></li>'
            )
            over = f'<p class="part">{html.escape(caption)}</p>' if caption else ""
            texts.append(
                f'<section class="chapter" id="{stem}">{over}{body.decode_contents()}</section>'
            )
    return "\n".join(
        [
            head(folder, chapters),
            title_page(),
            f'<nav class="contents"><h1>Contents</h1><ol>{"".join(contents)}</ol></nav>',
            *texts,
            "</body></html>",
        ]
    )


def show_still(widget: Tag, png: bytes) -> None:
    """Put a picture of the widget in its place."""
    picture = BeautifulSoup("", "html.parser").new_tag("img")
    picture["src"] = "data:image/png;base64," + base64.b64encode(png).decode()
    picture["alt"] = "A still of the interactive figure that stands here on the web page."
    note = BeautifulSoup(
        "<p>A still: on the web page this figure can be operated.</p>", "html.parser"
    )
    widget.clear()
    widget["class"] = "still"
    widget.extend([picture, note])


def head(folder: Path, chapters: list[tuple[str, list[str]]]) -> str:
    """The document's head, with the settings of MathJax that the pages have."""
    first = folder / f"{chapters[0][1][0]}.html"
    scripts = re.findall(r"<script>window\.MathJax.*?</script>", first.read_text(encoding="utf-8"))
    style = (Path(__file__).parent / "pdf.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{html.escape(settings()['title'])}</title>"
        '<link rel="stylesheet" href="../_static/pygments.css">'
        f"<style>{style}</style>{''.join(scripts)}"
        '<script defer src="../_static/mathjax/tex-chtml.js"></script></head><body>'
    )


def settings() -> Any:
    """The book's `_config.yml`."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def title_page() -> str:
    """Title, paper, licence, and what differs from the web pages."""
    config = settings()
    repository = html.escape(config["repository"]["url"])
    return f"""<section class="title-page"><h1>{html.escape(config["title"])}</h1>
<p>The paper of Ronneberger, Fischer and Brox (2015), rebuilt in NumPy: figure by figure,
equation by equation, table by table.</p>
<div class="about"><p>{html.escape(config["author"])}, {html.escape(str(config["copyright"]))}.
<a href="{repository}">{repository}</a></p>
<p>Text and figures: CC BY 4.0. Code: MIT.</p>
<p>This is the printed form of the book's web pages. It leaves out the code that draws the figures
and the API reference. The solutions of the exercises stand at the end. Interactive figures are
shown as stills.</p></div></section>"""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium or Chrome under Playwright.

    Raises
    ------
    InputError
        If no browser is on the path.
    MissingExtraError
        If Playwright is not installed.
    """
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        raise InputError(
            f"browser: got none on the path, expected one of {', '.join(BROWSERS)}; "
            "on Debian and Ubuntu: apt install chromium"
        )
    playwright = require("playwright.sync_api", "dev")
    with playwright.sync_playwright() as started:
        # The sandbox of Chromium needs rights that containers do not give.
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Any, folder: Path, document: str = "", width: int = WIDTH) -> Any:
    """A page that gets everything from the folder, and nothing from elsewhere."""
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme="light")
    context.set_default_timeout(600_000)
    page = context.new_page()

    def answer(route: Any) -> None:
        if route.request.url == DOCUMENT:
            route.fulfill(body=document, content_type="text/html; charset=utf-8")
            return
        path = folder / unquote(urlsplit(route.request.url).path).lstrip("/")
        if route.request.url.startswith(ORIGIN) and path.is_file():
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            route.fulfill(body=path.read_bytes(), content_type=kind)
        else:
            route.abort()

    page.route("**/*", answer)
    return page


def photograph(
    browser: Any, folder: Path, chapters: list[tuple[str, list[str]]]
) -> dict[str, bytes]:
    """A picture of each widget, as its page shows it."""
    stills: dict[str, bytes] = {}
    for name in [name for _, names in chapters for name in names]:
        if "data-widget=" not in built(folder, name).read_text(encoding="utf-8"):
            continue
        page = open_page(browser, folder, width=700)
        page.goto(f"{ORIGIN}/{name}.html")
        page.wait_for_load_state("networkidle")
        for widget in page.locator("[data-widget][data-ready=true]").all():
            key = widget.get_attribute("data-widget")
            stills[key] = widget.screenshot(type="png", animations="disabled")
        page.context.close()
    return stills


def page_count(pdf: bytes) -> int:
    """How many pages a PDF of Chromium has."""
    return len(PAGE.findall(pdf))


def page_numbers(pdf: bytes) -> dict[str, int]:
    """The page on which each named place of a PDF of Chromium stands, from 1."""
    numbers = {int(obj): number for number, obj in enumerate(PAGE.findall(pdf), start=1)}
    places = re.findall(rb"/([\w.%-]+) \[(\d+) 0 R /XYZ", pdf)
    return {name.decode(): numbers[int(obj)] for name, obj in places if int(obj) in numbers}


def print_document(browser: Any, folder: Path, document: str) -> bytes:
    """The document as a PDF.

    Raises
    ------
    InputError
        If something in it is wider than the paper.
    """
    page = open_page(browser, folder, document)
    page.emulate_media(media="print")
    page.goto(DOCUMENT)
    page.wait_for_load_state("networkidle")
    page.evaluate("async () => { await MathJax.startup.promise; await document.fonts.ready; }")
    wide = page.evaluate(FIT)
    if wide:
        raise InputError(f"book: got {len(wide)} pieces wider than the paper, first {wide[0]!r}")

    def pdf() -> bytes:
        return bytes(
            page.pdf(
                prefer_css_page_size=True,
                print_background=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                outline=True,
                tagged=True,
            )
        )

    # The numbers take no space that was not there before, so that they stay right.
    page.evaluate(
        "numbers => document.querySelectorAll('[data-page]').forEach("
        "(one) => { one.textContent = numbers[one.dataset.page] || '' })",
        page_numbers(pdf()),
    )
    printed = pdf()
    page.context.close()
    return printed


def main(arguments: list[str] | None = None) -> int:
    """Print the book; 2 after a mistake of the user, said in one line."""
    parser = argparse.ArgumentParser(description="Print the built book as one PDF.")
    parser.add_argument("--html", type=Path, default=HTML, help="folder of the built book")
    parser.add_argument("--out", type=Path, default=OUT, help="the PDF to write")
    parser.add_argument("--pages", nargs="+", help="only these, such as book/convolution")
    options = parser.parse_args(arguments)
    try:
        chapters = chosen(ROOT / "_toc.yml", options.pages)
        for name in [name for _, names in chapters for name in names]:
            built(options.html, name)
        with open_browser() as browser:
            stills = photograph(browser, options.html, chapters)
            printed = print_document(
                browser, options.html, assemble(options.html, chapters, stills)
            )
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(options.out) as temporary:
            temporary.write_bytes(printed)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.out}: {page_count(printed)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
