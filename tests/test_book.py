"""The notebooks as files: whole, run, described, listed. nbval compares what their cells say."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
import yaml

from unet_np import notebook as notebook_tools

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
NOTEBOOKS = sorted(p for p in BOOK.glob("**/*.ipynb") if ".ipynb_checkpoints" not in p.parts)
# Pages that are no chapters and so have no exercises.
WITHOUT_EXERCISES = {"intro.ipynb", "errata.ipynb", "questions.ipynb", "statistics.ipynb"}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "tools" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def toc_files(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for item in node for name in toc_files(item)]
    if isinstance(node, dict):
        own = [node[key] for key in ("root", "file") if key in node]
        return own + [name for value in node.values() for name in toc_files(value)]
    return []


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 3


def test_table_of_contents_lists_every_page_once() -> None:
    listed = toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    pages = [*NOTEBOOKS, *BOOK.glob("**/*.md")]
    assert sorted(listed) == sorted(
        page.relative_to(ROOT).with_suffix("").as_posix() for page in pages
    )


@every_notebook
def test_notebook_is_valid_and_has_nothing_that_varies_by_itself(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    stored = path.read_text(encoding="utf-8")
    cleaned = nbformat.writes(runner().clean(notebook)) + "\n"
    assert stored == cleaned, f"run: make notebooks NOTEBOOKS=book/{path.name}"


@every_notebook
def test_every_cell_was_run_in_order_and_none_failed(path: Path) -> None:
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


@every_notebook
def test_every_picture_has_a_description(path: Path) -> None:
    for cell in code_cells(path):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        if kinds & {"image/png", "image/svg+xml", "image/jpeg"}:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 40, f"{cell.id}: mystnb.image.alt in the metadata"


@pytest.mark.parametrize(
    "path", [*NOTEBOOKS, *sorted(BOOK.glob("**/*.md"))], ids=lambda path: path.stem
)
def test_every_picture_in_the_text_has_a_description_and_exists(path: Path) -> None:
    if path.suffix == ".ipynb":
        text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"\{(?:figure|image)\}\s+(\S+)\n((?::.*\n)*)", text):
        assert re.search(r"^:alt: .{40}", match[2], re.MULTILINE), match[1]
        assert (path.parent / match[1]).is_file()
    for match in re.finditer(r"!\[([^\]]*)\]\(([^)\s]+)", text):
        assert len(match[1]) > 40, match[2]
        assert (path.parent / match[2]).is_file()


@every_notebook
def test_exercises_have_a_check_and_an_executed_hidden_solution(path: Path) -> None:
    cells = code_cells(path)
    checks = [cell for cell in cells if re.search(r"^check_\w+\(\.\.\.\)$", cell.source, re.M)]
    solutions = [cell for cell in cells if "hide-cell" in tags(cell)]
    if path.name not in WITHOUT_EXERCISES:
        assert 3 <= len(checks) <= 6
    assert len(solutions) == len(checks)
    for check, solution in zip(checks, solutions, strict=True):
        assert "No answer yet" in check.outputs[0].text
        assert "assert " in solution.source, f"{solution.id}: a solution asserts that it is right"
        assert solution.source.startswith("# Why: "), f"{solution.id}: a line of reasoning"
        reason = re.sub(r"`[^`]*`", "", re.match(r"(#.*\n)+", solution.source)[0])
        assert "**" not in reason, f"{solution.id}: Markdown would take a power for bold type"
        assert cells.index(solution) == cells.index(check) + 1


@every_notebook
def test_no_cell_that_is_seen_gives_an_answer_away(path: Path) -> None:
    cells = code_cells(path)
    for cell in cells:
        if "checker" in tags(cell):
            assert "remove-cell" in tags(cell)
        elif "hide-cell" not in tags(cell):
            assert not re.search(r"\bdef check_|\bcheck\(", cell.source), cell.id
    for checker, check in itertools.pairwise(cells):
        if "checker" in tags(checker):
            assert re.fullmatch(r"check_\w+\(\.\.\.\)", check.source), check.id
            for call in ast.walk(ast.parse(checker.source)):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check":
                    assert not isinstance(call.args[1], ast.Constant | ast.List), checker.id


@every_notebook
def test_code_and_output_that_are_both_folded_are_told_apart(path: Path) -> None:
    for cell in code_cells(path):
        if {"hide-input", "hide-output"} <= set(tags(cell)):
            words = cell.metadata.get("mystnb", {}).get("code_prompt_show", "{type}")
            assert "{type}" in words, cell.id


@every_notebook
def test_a_fold_says_what_is_in_it(path: Path) -> None:
    for cell in code_cells(path):
        if {"hide-input", "hide-cell"} & set(tags(cell)):
            assert cell.metadata.get("mystnb", {}).get("code_prompt_show"), cell.id


GUESS = re.compile(
    r"^:::\{admonition\} Before you [^\n]+: your guess\?\n:class: tip\n(.*?)^:::$",
    re.DOTALL | re.MULTILINE,
)
FOLDED_ANSWER = re.compile(
    r"^```\{(?:dropdown\} .+|admonition\} .+\n:class: dropdown)$", re.MULTILINE
)


@every_notebook
def test_a_chapter_asks_for_three_guesses_with_answers_one_fold_away(path: Path) -> None:
    text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    guesses = GUESS.findall(text)
    assert len(guesses) == text.count("your guess?"), "a box of another form"
    assert len(guesses) >= 3 or path.name in WITHOUT_EXERCISES
    for guess in guesses:
        question, answer = FOLDED_ANSWER.split(guess)
        assert re.search(r"\?|Guess|Write|Draw", question), question
        assert len(answer.split()) > 3


@every_notebook
def test_what_answers_a_guess_is_folded_under_it(path: Path) -> None:
    for text, cell in itertools.pairwise(read(path).cells):
        asks = text.cell_type == "markdown" and "your guess?" in text.source
        if asks and text.source.rstrip().endswith(":::") and cell.get("outputs"):
            assert {"hide-output", "hide-cell"} & set(tags(cell)), cell.id


def sources(file: str, name: str) -> set[str]:
    """What `source` lists of the functions and classes of that name in a file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines, found = text.splitlines(), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            own = textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])).rstrip()
            found |= {own, notebook_tools._without_docstrings(own)}
    return found


@every_notebook
def test_listings_of_the_package_are_what_it_is_now(path: Path) -> None:
    for cell in code_cells(path):
        for output in cell.outputs:
            listing = re.match(r"# (unet_np/\S+\.py)\n(.*)", text_of(output), re.DOTALL)
            if listing:
                again = f"{cell.id}: run make notebooks NOTEBOOKS=book/{path.name}"
                name = re.search(r"^(?:def|class) (\w+)", listing[2], re.MULTILINE)
                assert name
                assert listing[2] in sources(listing[1], name[1]), again


def text_of(output: Any) -> str:
    return output.get("data", {}).get("text/plain", "")


@every_notebook
def test_pages_stay_light(path: Path) -> None:
    assert path.stat().st_size < 3_000_000


@every_notebook
def test_only_timings_and_machine_facts_escape_comparison(path: Path) -> None:
    cells = code_cells(path)
    ignored = [cell for cell in cells if "nbval-ignore-output" in tags(cell)]
    # One page does nothing but name the machine.
    assert len(ignored) <= len(cells) // 3 or path.name == "statistics.ipynb"
    assert not any("nbval-skip" in tags(cell) for cell in cells)


@every_notebook
def test_no_cell_relies_on_a_semicolon(path: Path) -> None:
    # IPython hides a last value behind a semicolon, nbval does not; plt.show() works in both.
    assert not [cell.id for cell in code_cells(path) if cell.source.rstrip().endswith(";")]


def shown_code_lines(path: Path) -> int:
    """Lines of code that a reader of the page sees without unfolding anything."""
    folded = {"hide-input", "hide-cell", "remove-cell", "remove-input"}
    cells = [cell for cell in code_cells(path) if not folded & set(tags(cell))]
    return sum(bool(line.strip()) for cell in cells for line in cell.source.splitlines())


def without_listings(text: str) -> str:
    """Text without fenced code; what stands in a directive, such as a fold, stays."""
    kept, fence = [], ""
    for line in text.splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif not fence or fence.startswith("```{"):
            kept.append(line)
    return "\n".join(kept)


def words_of_text(path: Path) -> int:
    """Words of the page's text, formulas and listings left out."""
    text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    text = re.sub(r"\$\$.*?\$\$", "", without_listings(text), flags=re.DOTALL)
    return len(re.findall(r"[A-Za-z][\w'-]*", text))


@every_notebook
def test_a_page_has_ten_words_of_text_for_each_line_of_code_shown(path: Path) -> None:
    if path.name == "statistics.ipynb":  # names the machine and times of the build, and no more
        return
    words, lines = words_of_text(path), shown_code_lines(path)
    print(f"{path.stem}: {words} words, {lines} lines, {words / max(1, lines):.1f} a line")
    assert words >= 10 * lines


GREEK = re.findall(
    r"\w+",
    "alpha beta gamma delta varepsilon eta theta lambda mu rho sigma tau varphi ell Omega Delta",
)


def symbols(text: str) -> set[str]:
    """The letters in the formulas of a text, without what is written out in words."""
    text = without_listings(text)
    displayed = re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    found = set()
    for formula in [*displayed, *re.findall(r"\$([^$]+)\$", text)]:
        words = r"\\(text|mathrm|mathsf|operatorname|begin|end)\s*\{[^{}]*\}|\\mathsf T"
        plain = re.sub(words, "", formula)
        plain = re.sub(r"\\mathbf\s*\{?(\w)\}?", r" bold_\1 ", plain)
        for symbol in re.findall(r"\\[A-Za-z]+|bold_\w|[A-Za-z]", plain):
            if not symbol.startswith("\\") or symbol[1:] in GREEK:
                found.add(symbol)
    return found


def notation() -> tuple[set[str], dict[str, list[str]]]:
    """The symbols of the whole book, and of each chapter that has letters of its own."""
    text = (BOOK / "notation.md").read_text(encoding="utf-8")
    whole, chapters = text.split("## Letters of one chapter")
    rows = re.findall(r"^\| \[[^]]+\]\((\S+)\.ipynb\) \| (.*) \|$", chapters, re.MULTILINE)
    first_columns = "\n".join(re.findall(r"^\| (\$.*?) \|", whole, re.MULTILINE))
    return symbols(first_columns), {name: entries.split("; ") for name, entries in rows}


def test_notation_has_every_symbol_of_the_chapters_that_it_lists() -> None:
    everywhere, chapters = notation()
    assert len(chapters) >= 8
    for name, entries in chapters.items():
        cells = [c for c in read(BOOK / f"{name}.ipynb").cells if c.cell_type == "markdown"]
        used = symbols("\n".join(cell.source for cell in cells))
        own = [symbols(entry.partition(": ")[0]) for entry in entries]
        assert used <= everywhere.union(*own), (name, used - everywhere.union(*own))
        # A letter that a chapter does not use has no business in its row.
        assert set().union(*own) <= used, (name, set().union(*own) - used)


def test_a_symbol_has_one_meaning_in_a_chapter() -> None:
    _, chapters = notation()
    for name, entries in chapters.items():
        letters = [
            letter.strip()
            for entry in entries
            for letter in entry.partition(": ")[0].split(",")
            if letter.strip()
        ]
        assert len(set(letters)) == len(letters), name
