"""``unet-np report``: a page on a training, finished or stopped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unet_np.cli._common import example

_DESCRIPTION = """\
Write RUN/report.html, one file without outside requests: settings, data, curves, the best and the
worst image held out, how to use the weights. unet-np train writes it at the end; this does it for
a run that was stopped, or that is still going on. The images are read from where they were then."""

_EXAMPLE = "unet-np report runs/mine"


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "report", help="write a page about a run", description=_DESCRIPTION, **example(_EXAMPLE)
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run of unet-np train")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing")


def run(args: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    from unet_np.training.report import write_report

    page = write_report(args.run)
    if not args.quiet:
        print(page)
    return 0
