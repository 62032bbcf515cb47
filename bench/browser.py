"""Time and memory of the page "The network in your browser", in headless Chromium on one core.

For each engine that the browser has, in a browser of its own: a tile of 316 pixels and an image of
512 x 512 pixels in tiles of 444, by the shipped HeLa network of 16 base channels, as the page
computes them for an image that is new to it, pictures of the boxes included. Seconds are the least
of several and the first, for which a reader waits. Memory is the largest resident set of the page's
process, in megabytes of 10^6 bytes, with what it was before anything was computed. The aims are 5
s, 30 s and 600 MB.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("simd", "javascript")
TILE = {"top": 0, "left": 0, "height": 316, "width": 316}
COMMANDS = {"tile": {"do": "tile", "place": TILE}, "image": {"do": "whole", "tile": 444}}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Live</title>
<script src="widgets/load.js" defer></script></head>
<body><div data-widget="live"></div></body></html>"""
LOAD = """async (kind) => {
    const { session } = window.unetWidgets.live;
    await session.useSample("hela", kind);
    return session.network.kind;
}"""
TIME = """async ([command, repeats]) => {
    const { session } = window.unetWidgets.live;
    const times = [];
    for (let i = 0; i < repeats; i++) {
        await session.useImage(session.image);
        const begin = performance.now();
        await session.ask(command, () => {});
        times.push((performance.now() - begin) / 1000);
    }
    return times;
}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--repeats", type=int, default=3)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """A row for each engine, and how much else the machine had to do."""
    load = os.getloadavg()[0]
    with TemporaryDirectory() as folder, _one_core():
        site = Path(folder)
        copytree(ROOT / "book" / "_static" / "widgets", site / "widgets")
        _module("tools/book_live.py").write(site / "widgets" / "live")
        (site / "page.html").write_text(PAGE, encoding="utf-8")
        rows = [_row(site, kind, args.repeats) for kind in ENGINES]
    return {"load_before": round(load, 1), "rows": rows}


def _row(site: Path, kind: str, repeats: int) -> dict[str, Any]:
    browser = _module("tests/browser.py")
    with browser.open_browser() as opened:
        page = browser.new_page(opened)
        page.set_default_timeout(600_000)
        page.goto((site / "page.html").as_uri())
        page.wait_for_selector("[data-ready=true]")
        before = _peak_megabytes(opened)
        used = page.evaluate(LOAD, kind)
        row = {"engine": used, "browser": opened.version}
        for name, command in COMMANDS.items():
            times = page.evaluate(TIME, [command, repeats])
            row |= {f"{name}_least": round(min(times), 3), f"{name}_first": round(times[0], 3)}
        return row | {"peak_mb": round(_peak_megabytes(opened)), "before_mb": round(before)}


def _peak_megabytes(browser: Any) -> float:
    """The largest resident set of the page's process so far; of spare ones there are smaller."""
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pages = [Path(f"/proc/{one['id']}/status") for one in found if one["type"] == "renderer"]
    lines = [line.split() for page in pages for line in page.read_text("ascii").splitlines()]
    return max(int(line[1]) * 1024 / 1e6 for line in lines if line[0] == "VmHWM:")


@contextmanager
def _one_core() -> Iterator[None]:
    """This process and those that it starts stay on one core, where the system can do so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _module(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
