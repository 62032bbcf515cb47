"""What can be measured, each by one command.

    python -m bench network --out results/bench-cpu.json --picture results/roofline-cpu.png
    python -m bench network --only widths tiles --out results/bench-cpu-intel.json
    python -m bench speed > results/speed.md     # from the first of these files
    python -m bench passes --base-channels 16    # layer by layer: where a step's time goes
    python -m bench threads --out results/bench-threads.json
    python -m bench augment --out augment.json
    python -m bench weight_map
    python -m bench tiling
    python -m bench metrics
    python -m bench segment --out results/bench-segment.json
    python -m bench volumes --out results/bench-volumes.json
    python -m bench ranks --out results/bench-ranks.json
    python -m bench browser --out results/bench-browser.json
    python -m bench gpu --out results/bench-gpu.json

`python -m bench NAME --help` says what it measures, and how.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMANDS = {
    "network": "bench.parts",
    "speed": "bench.speed",
    "passes": "bench.passes",
    "threads": "bench.threads",
    "augment": "bench.augment",
    "weight_map": "bench.weight_map",
    "tiling": "bench.tiling",
    "metrics": "bench.metrics",
    "segment": "bench.segment",
    "volumes": "bench.volumes",
    "ranks": "bench.ranks",
    "browser": "bench.browser",
    "gpu": "bench.gpu",
}
"""The module of each: ``add_arguments(parser)``, ``measure(args)``; ``text`` if it is no table."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 2 if something in the arguments is wrong.

    Examples
    --------
    >>> main(["network", "--repeats", "0"])
    2
    """
    # Not above: a process whose memory is measured imports this file and needs none of it.
    from unet_np.cli import Parser
    from unet_np.errors import InputError
    from unet_np.experiments.provenance import provenance
    from unet_np.files import atomic_write

    arguments = list(sys.argv[1:] if argv is None else argv)
    form: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = Parser(prog="python -m bench", description=__doc__, **form)
    commands = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    for name, module in COMMANDS.items():
        measured = importlib.import_module(module)
        command = commands.add_parser(name, description=measured.__doc__, **form)
        command.add_argument("--out", type=Path, help="write the figures as JSON")
        measured.add_arguments(command)
    try:
        args = parser.parse_args(arguments)
        measured = importlib.import_module(COMMANDS[args.name])
        # Measured first: it sets the threads of which the provenance tells.
        figures = measured.measure(args)
        made = provenance() | {"command": " ".join(["python -m bench", *arguments])}
        result = made | (figures if isinstance(figures, dict) else {"rows": figures})
        if args.out:
            with atomic_write(args.out) as temporary:
                temporary.write_text(json.dumps(result, indent=1) + "\n")
        print(measured.text(result) if hasattr(measured, "text") else table(result["rows"]))
    except InputError as error:
        print(f"python -m bench {args.name}: error: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of the same keys as text.

    Examples
    --------
    >>> print(table([{"size": 512, "ms": 1.5}, {"size": 1024, "ms": 12}]))
    size   ms
     512  1.5
    1024   12
    """
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True))
        for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
