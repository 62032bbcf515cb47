"""A Sphinx extension: pages without the scripts of thebe, which nothing here uses.

The theme's extension puts them on every page, twice, so that each page began with an error in the
console (``THEBE_JS_URL`` is declared already).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def without_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Take the scripts out of what the page's template is given."""
    context["script_files"] = [
        script for script in context["script_files"] if not _is_thebe(script)
    ]


def _is_thebe(script: Any) -> bool:
    body = getattr(script, "attributes", {}).get("body", "")
    return "THEBE_JS_URL" in body or "sphinx-thebe" in str(getattr(script, "filename", script))


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("html-page-context", without_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
