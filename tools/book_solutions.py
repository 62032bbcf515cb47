"""A Sphinx extension: the page of solutions, gathered from the chapters' notebooks.

The directive ``solutions`` lists every notebook of the table of contents that has exercises:
each exercise by its number, name and difficulty, its question, and the hidden cell that solves it,
whose first comment may say why. It reads the notebooks when the book is built, so that the page
cannot disagree with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

EXERCISE = re.compile(r"^\*\*(\d+)\. (.+?) \((\w+)\)\.\*\*", re.MULTILINE)
# A solution may begin with a comment that says why.
REASON = re.compile(r"\A# Why: (.+(?:\n# .+)*)\n+")


@dataclass(frozen=True)
class Chapter:
    """A notebook with exercises: (number, name, difficulty, question, reason, solution)."""

    name: str
    title: str
    exercises: tuple[tuple[str, str, str, str, str, str], ...]


def chapters(root: Path) -> Iterator[Chapter]:
    """The chapters that have exercises, in the order of ``_toc.yml``."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    for name in _files(contents):
        path = root / f"{name}.ipynb"
        if path.is_file():
            chapter = read_chapter(name, json.loads(path.read_text(encoding="utf-8")))
            if chapter.exercises:
                yield chapter


def read_chapter(name: str, notebook: dict[str, Any]) -> Chapter:
    """The exercises of a notebook; a solution is the next hidden cell after the text."""
    title, found, waiting = name, [], None
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            if title == name and (heading := re.search(r"^# (.+)", text, re.MULTILINE)):
                title = heading[1]
            if exercise := EXERCISE.search(text):
                waiting = (*exercise.groups(), text[exercise.end() :].strip())
        elif waiting and "hide-cell" in cell["metadata"].get("tags", []):
            reason = REASON.match(text)
            why = _begun(re.sub(r"\n# ", " ", reason[1])) if reason else ""
            found.append((*waiting, why, REASON.sub("", text)))
            waiting = None
    return Chapter(name, title, tuple(found))


def _begun(sentence: str) -> str:
    """With a capital letter, unless it begins with a symbol or a name of the code."""
    return re.sub(r"\A(?:a|[a-z]{2,})(?=,? [\w$`(])", lambda word: word[0].capitalize(), sentence)


def _files(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (node[key] for key in ("root", "file") if key in node)
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _files(item)


class Solutions(SphinxDirective):
    """A section for each chapter, a listing for each solution."""

    def run(self) -> list[nodes.Node]:
        """The sections, with links to the exercises."""
        return [self._section(chapter) for chapter in chapters(Path(self.env.srcdir))]

    def _section(self, chapter: Chapter) -> nodes.section:
        self.env.note_dependency(f"{chapter.name}.ipynb")
        section = nodes.section(ids=[nodes.make_id(f"solutions-{chapter.name}")])
        section += nodes.title(text=chapter.title)
        address = self.env.app.builder.get_relative_uri(self.env.docname, chapter.name)
        link = nodes.reference("", "the exercises", refuri=f"{address}#exercises", internal=True)
        section += nodes.paragraph("", "To ", link, nodes.Text("."))
        for number, name, difficulty, question, reason, solution in chapter.exercises:
            words = nodes.strong(text=f"{number}. {name}")
            section += nodes.paragraph("", "", words, nodes.Text(f" ({difficulty})"))
            section += self._parsed(question)
            section += self._parsed(reason)
            section += nodes.literal_block(solution, solution, language="python")
        return section

    def _parsed(self, text: str) -> list[nodes.Node]:
        """Markdown of a chapter, with its formulas and references."""
        parent = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), source=""), 0, parent)
        return list(parent.children)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("solutions", Solutions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
