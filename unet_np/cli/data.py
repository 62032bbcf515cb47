"""``unet-np data``: list, fetch, verify, locate, describe and preview the data sets."""

from __future__ import annotations

import argparse
import textwrap
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from unet_np.cli._common import add_overwrite, check_outputs, example, progress_bar
from unet_np.errors import InputError

_EXAMPLE = """
unet-np data list
unet-np data fetch isbi2012
unet-np data show synthetic-cells --preview cells.png"""


def add_parser(subparsers: Any) -> None:
    """Add the command and its actions."""
    parser = subparsers.add_parser(
        "data",
        help="list, fetch, check and preview the data sets",
        description="Data sets lie in a cache folder that UNET_NP_DATA or --cache names. Every "
        "file's SHA-256 is checked.",
        **example(_EXAMPLE),
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text, line, what in (
        ("list", "which data sets there are", "unet-np data list", ""),
        ("fetch", "download what is missing", "unet-np data fetch isbi2012", "+"),
        ("verify", "hash every file", "unet-np data verify isbi2012", "*"),
        ("where", "print the cache folder", "unet-np data where", "?"),
        ("show", "describe one data set", "unet-np data show u373 --preview u373.png", "1"),
    ):
        action = actions.add_parser(name, help=text, description=text + ".", **example(line))
        action.add_argument("--cache", type=Path, metavar="FOLDER", help="the cache folder")
        if what == "1":
            action.add_argument("name", metavar="NAME", help="as in `unet-np data list`")
            action.add_argument("--split", metavar="SPLIT", help="a part of it, such as test")
            action.add_argument(
                "--preview", type=Path, metavar="FILE", help="a PNG of its first image and labels"
            )
            add_overwrite(action)
        elif what:
            action.add_argument("names", nargs=what, metavar="NAME", help="default: all")


def run(args: argparse.Namespace) -> int:
    """Do the action."""
    actions = {"list": _list, "fetch": _fetch, "verify": _verify, "where": _where, "show": _show}
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from unet_np import data

    for name in data.NAMES:
        entry = data.info(name)
        state = "here" if data.is_available(name, args.cache) else "not here"
        if entry.folder is None:
            state = "made"
        print(f"{name:16} {state:9} {entry.title}; {entry.shape}")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from unet_np import data

    for name in args.names:
        data.info(name)
    for name in args.names:
        print(f"{name}: {data.fetch(name, args.cache, progress=True)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    """0 if every file of the sets named is whole; sets that are not there count if named."""
    from unet_np import data

    chosen = args.names or [name for name in data.NAMES if data.info(name).folder]
    for name in chosen:
        data.info(name)
    problem = False
    with progress_bar(len(chosen), "hashing", "set") as bar:
        reports = []
        for name in chosen:
            reports.append(data.verify(name, args.cache))
            bar.update()
    for report in reports:
        absent = report.missing and not report.whole and not report.damaged
        text = f"{len(report.whole)} whole"
        if report.missing:
            text += f", {len(report.missing)} missing (first: {report.missing[0]})"
        if report.damaged:
            text += f", {len(report.damaged)} damaged (first: {report.damaged[0]})"
        print(f"{report.name}: {'not here' if absent else text} in {report.folder}")
        problem |= not report.ok and not (absent and not args.names)
    return 1 if problem else 0


def _where(args: argparse.Namespace) -> int:
    from unet_np import data

    folder = data.cache_folder(args.cache)
    for name in args.names if isinstance(args.names, list) else [args.names]:
        print(folder if name is None else folder / (data.info(name).folder or ""))
    return 0


def _show(args: argparse.Namespace) -> int:
    from unet_np import data

    entry = data.info(args.name)
    if args.preview is not None:
        if args.preview.suffix.lower() != ".png":
            raise InputError(f"--preview: got {args.preview}, expected a name that ends in .png")
        check_outputs([args.preview], (), args.overwrite, "--preview")
    for title, text in (
        (args.name, entry.title),
        ("images", entry.shape),
        ("", entry.description),
        ("splits", ", ".join(entry.splits)),
        ("from", entry.source),
        ("cite", entry.citation),
        ("terms", entry.terms),
    ):
        if text:
            print(
                textwrap.fill(text, 96, initial_indent=f"{title:16} ", subsequent_indent=" " * 17)
            )
    if args.preview is None and not data.is_available(args.name, args.cache):
        print(f"{'here':16} no (unet-np data fetch {args.name})")
        return 0
    # A download has bars of its own.
    here = data.is_available(args.name, args.cache)
    with progress_bar(None, "loading", " images") if here else nullcontext():
        loaded = data.load(args.name, args.cache, split=args.split, progress=True)
    print(textwrap.indent(loaded.summary(), " " * 17))
    if args.preview is not None:
        _preview(loaded, args.preview)
    return 0


def _preview(loaded: Any, path: Path) -> None:
    """The first image and, beside it, its cells in colours, else its labels in grey."""
    import numpy as np

    from unet_np.images import write_png

    image = np.repeat(loaded.images[0][..., None], 3, axis=-1).astype(np.uint8)
    panels = [image]
    if loaded.instances is not None:
        # A fixed shuffle, so that neighbours differ in colour and a picture can be made again.
        colours = np.random.default_rng(0).integers(60, 256, (2**16, 3), dtype=np.uint8)
        colours[0] = 0
        panels.append(colours[loaded.instances[0].astype(np.uint16)])
    elif loaded.labels is not None:
        top = max(int(loaded.labels[0].max()), 1)
        grey = (loaded.labels[0].astype(float) * 255 / top).astype(np.uint8)
        panels.append(np.repeat(grey[..., None], 3, axis=-1))
    write_png(path, np.concatenate(panels, axis=1))
    print(f"wrote {path}")
