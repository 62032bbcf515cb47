"""The book as one PDF: one document out of many pages, nothing cut off, links that still lead."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = """<html><head><script>window.MathJax = {{}}</script></head><body>
<article class="bd-article"><section id="{name}">
<h1>{name}<a class="headerlink" href="#x">#</a></h1>{body}</section></article></body></html>"""
WIDGET = '<div data-widget="one">On the web page something moves here.</div>'
FIRST = f"""<p id="here">See <a href="second.html#here">there</a>, <a href="#here">here</a>,
<a href="api.html">the reference</a>, <a href="https://doi.org/1">the paper</a>.</p>{WIDGET}
<div class="cell tag_hide-cell"><details class="above-input">solution</details></div>
<div class="cell tag_hide-input"><details class="above-input">code of a figure</details>
<p>a figure</p></div><details><summary>More</summary>folded</details>
"""


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pdf", ROOT / "tools" / "pdf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pdf = load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "book").mkdir()
    for name, body in (("first", FIRST), ("second", '<p id="here">Back.</p>')):
        text = PAGE.format(name=name, body=body)
        (tmp_path / "book" / f"{name}.html").write_text(text, encoding="utf-8")
    return tmp_path


CHAPTERS = [("", ["book/first"]), ("I Part", ["book/second"])]


def test_pages_are_those_of_the_table_of_contents() -> None:
    names = [name for _, names in pdf.chosen(ROOT / "_toc.yml", None) for name in names]
    assert names[0] == "book/intro"
    assert {"book/convolution", "book/solutions", "book/bibliography"} <= set(names)
    assert not [name for name in names if name.startswith("book/api")]
    captions = [caption for caption, _ in pdf.parts(ROOT / "_toc.yml")]
    assert captions[:2] == ["", "I The paper"]
    assert captions[-1] == "Appendices"


def test_every_id_occurs_once_and_every_link_within_leads_to_one(folder: Path) -> None:
    document = pdf.assemble(folder, CHAPTERS, {})
    ids = re.findall(r' id="([^"]+)"', document)
    assert len(set(ids)) == len(ids)
    assert {"first", "second", "first--here", "second--here"} <= set(ids)
    links = re.findall(r' href="([^"]+)"', document)
    assert {"#second--here", "#first--here", "https://doi.org/1"} <= set(links)
    assert not [link for link in links if link.startswith("#") and link[1:] not in ids]
    assert "api.html" not in document


def test_what_only_a_screen_can_do_is_replaced(folder: Path) -> None:
    document = pdf.assemble(folder, CHAPTERS, {"one": b"PNG"})
    assert "solution</details>" not in document
    assert "code of a figure" not in document
    assert "a figure" in document
    assert re.search(r'<details open="">\s*<summary>', document)
    assert 'src="data:image/png;base64,UE5H"' in document
    assert "something moves" not in document


def test_without_a_still_the_words_stay(folder: Path) -> None:
    assert "something moves here" in pdf.assemble(folder, CHAPTERS, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--html", "nowhere"], r"nowhere.*intro\.html: got no such file, expected the built book"),
        (["--pages", "book/none"], r"--pages: got book/none, expected pages of _toc\.yml such as"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path: Path, arguments: list[str], message: str) -> None:
    out = tmp_path / "folder" / "book.pdf"
    assert pdf.main([*arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert re.match(message, error)
    assert error.count("\n") == 1
    assert not out.parent.exists()


def test_no_browser_is_one_line(capsys, monkeypatch, folder: Path) -> None:
    monkeypatch.setattr(pdf, "chosen", lambda *_: CHAPTERS)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert pdf.main(["--html", str(folder), "--out", str(folder / "book.pdf")]) == 2
    error = capsys.readouterr().err
    assert re.match(
        r"browser: got none on the path, expected one of chromium, .*apt install", error
    )
    assert error.count("\n") == 1
    assert not (folder / "book.pdf").exists()


def test_chapters_are_printed(capsys, tmp_path: Path) -> None:
    html = ROOT / "_build" / "html"
    if not (html / "book" / "architecture-table.html").is_file():
        pytest.skip("the book is not built: make book")
    if not any(map(shutil.which, pdf.BROWSERS)):
        pytest.skip("no browser found; on Debian and Ubuntu: apt install chromium")
    out = tmp_path / "two.pdf"
    pages = ["book/intro", "book/architecture-table"]
    code = pdf.main(["--html", str(html), "--out", str(out), "--pages", *pages])
    assert code == 0, capsys.readouterr().err
    printed = out.read_bytes()
    assert printed.startswith(b"%PDF-")
    numbers = pdf.page_numbers(printed)
    # A title page and the contents come before, each chapter begins on a page of its own.
    assert numbers["intro"] == 3
    assert numbers["architecture-table"] > 4
    assert pdf.page_count(printed) > numbers["architecture-table"] + 4
    assert "architecture-table--fig-u" in numbers, "a link within the book"
    assert b"/Outlines" in printed
    assert [one.name for one in tmp_path.iterdir()] == ["two.pdf"]
