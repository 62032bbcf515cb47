"""Puts the stored results into the wheel, so that the book's chapters find them once installed.

Only the JSON files: the pictures are large, and a chapter does without them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ResultsHook(BuildHookInterface):
    """Called by hatchling, see ``tool.hatch.build.targets.wheel.hooks.custom``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Map ``results/*.json`` to ``unet_np/_results/``; an editable package reads the folder."""
        if version == "editable":
            return
        for path in sorted(Path(self.root, "results").glob("*.json")):
            build_data["force_include"][str(path)] = f"unet_np/_results/{path.name}"
