"""A Sphinx extension: docstrings of attributes and properties are sentences, whatever is in them.

Napoleon takes what stands before a colon in their first line, such as "Of poolings", for a type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def without_type(
    app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]
) -> None:
    """Begin with an empty comment: a type is looked for in the first line alone."""
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    # Napoleon's is 500.
    app.connect("autodoc-process-docstring", without_type, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
