"""The appendices keep up with the package and the chapters."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
# Modules whose contents reach a reader through another one, or not at all.
NOT_A_LIBRARY = {"cli", "experiments", "pretrained"}
WITHOUT_REFERENCE = {
    "__init__",
    "__main__",
    "base",
    "decode",
    "interrupt",
    "provenance",
    "torch_unet",
}


DESCRIBED = '''
DEPTH = 4
"""Of poolings: no more."""

class Images:
    """What there is."""

    size: int = 1
    """(n,): one for each."""

    @property
    def channels(self):
        """Channels: 1 in grey ones.

        Returns
        -------
        int
        """
'''


def api_modules() -> set[str]:
    pages = "".join(page.read_text(encoding="utf-8") for page in BOOK.glob("api-*.md"))
    return set(re.findall(r"^\.\. automodule:: unet_np\.(\S+)$", pages, re.MULTILINE))


def test_every_module_has_its_place_in_the_reference() -> None:
    package, documented = ROOT / "unet_np", api_modules()
    missing = []
    for path in package.rglob("*.py"):
        place = path.relative_to(package).with_suffix("").parts
        rooms = {".".join(place[:n]) for n in range(1, len(place) + 1)}
        if place[0] not in NOT_A_LIBRARY and path.stem not in WITHOUT_REFERENCE | rooms:
            missing += [".".join(place)] if not rooms & documented else []
    assert not missing, "a section in one of book/api-*.md"


def test_the_reference_names_modules_that_exist() -> None:
    for name in api_modules():
        path = ROOT / "unet_np" / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_a_colon_in_the_first_line_of_a_docstring_makes_no_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sphinx = pytest.importorskip("sphinx.application")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "described.py").write_text(DESCRIBED, encoding="utf-8")
    (tmp_path / "index.rst").write_text(".. automodule:: described\n   :members:\n")
    built = sphinx.Sphinx(
        tmp_path,
        None,
        tmp_path / "out",
        tmp_path / "trees",
        "text",
        confoverrides={
            "extensions": ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "book_docstrings"],
            "napoleon_google_docstring": False,
        },
        status=None,
        warningiserror=True,
    )
    built.build()
    page = (tmp_path / "out" / "index.txt").read_text(encoding="utf-8")
    for sentence in ("Of poolings: no more.", "Channels: 1 in grey ones.", "(n,): one for each."):
        assert sentence in page
    assert "Type:" not in page
    assert "Return type:" in page


def glossary_terms() -> list[str]:
    text = (BOOK / "glossary.md").read_text(encoding="utf-8")
    body = text[text.index("```{glossary}") : text.rindex("```")]
    return re.findall(r"^(\S.*)$", body, re.MULTILINE)[1:]


def test_glossary_is_in_order_and_defines_each_term_once() -> None:
    terms = [term.lower() for term in glossary_terms()]
    assert len(set(terms)) == len(terms) > 30
    # Readers of the printed page look for a term by its letters.
    assert terms == sorted(terms)


def test_errata_name_tests_that_exist() -> None:
    text = (BOOK / "errata.ipynb").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) >= 5
    for file, function in named:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {function}(" in source, f"{file}::{function}"


@pytest.fixture(scope="module")
def solutions() -> ModuleType:
    pytest.importorskip("sphinx")
    path = ROOT / "tools" / "book_solutions.py"
    spec = importlib.util.spec_from_file_location("book_solutions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["book_solutions"] = module
    spec.loader.exec_module(module)
    return module


def test_solutions_are_those_of_the_chapters(solutions: ModuleType) -> None:
    chapters = list(solutions.chapters(ROOT))
    assert {"book/architecture-table", "book/energy"} <= {chapter.name for chapter in chapters}
    for chapter in chapters:
        assert not chapter.title.startswith("book/")
        notebook = (ROOT / f"{chapter.name}.ipynb").read_text(encoding="utf-8")
        assert len(chapter.exercises) == notebook.count('"hide-cell"'), chapter.name
        numbers = [number for number, *_ in chapter.exercises]
        assert numbers == [str(i + 1) for i in range(len(numbers))]
        for _, _, difficulty, question, _, solution in chapter.exercises:
            assert difficulty in ("easy", "medium", "hard")
            assert len(question) > 20
            assert "assert " in solution
