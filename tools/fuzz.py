"""What the fuzzers of this folder share: options, figures, and the most memory that was held."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

SECONDS, BYTES = 10, 2**30
FAULTS = ("foreign", "two lines", "hang", "different")
"""Outcomes that must not be."""

Outcome = tuple[str, str, str, int]
"""Kind of file, outcome, detail and peak memory so far."""


def peak_memory() -> int:
    """The most bytes that this process has held, 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def main(description: str | None, run: Callable[[int, int, Path | None], Iterator[Outcome]]) -> int:
    """Print the figures; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that show a fault")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    outcomes: Counter[str] = Counter()
    peak, slowest, began = 0, (0.0, ""), 0.0
    for number, found in enumerate(run(args.count, args.seed, args.keep)):
        kind, outcome, detail, memory = found
        now = time.process_time()
        began = began or now  # the seeds are made before the first
        slowest, began = max(slowest, (now - began, kind)), now
        outcomes[outcome] += 1
        if detail or outcome == "hang":
            print(number, kind, outcome, detail, file=sys.stderr)
        peak = max(peak, memory)
    figures = {"count": args.count, "seed": args.seed, **outcomes, "peak MiB": peak >> 20}
    print(json.dumps(figures | {"slowest s": (round(slowest[0], 2), slowest[1])}, indent=1))
    return int(any(outcomes[fault] for fault in FAULTS) or peak > BYTES)


def keep_file(file: Path, folder: Path | None, name: str) -> None:
    """A copy of a file that shows a fault."""
    if folder:
        (folder / name).write_bytes(file.read_bytes())
