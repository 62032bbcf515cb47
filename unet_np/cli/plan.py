"""``unet-np plan``: settings of a training that fit the images at hand, and why."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

from unet_np.cli._common import check_output, example
from unet_np.cli.train import add_settings, given_settings
from unet_np.errors import InputError
from unet_np.training.config import TrainConfig

_DESCRIPTION = """\
Look at images and their masks, and propose width, depth, tile, deformation, weight map and steps to
segment them, each with its reason and within the memory at hand; then measure one step and say how
long the training will take. Nothing is trained. unet-np train does the same for what is left open.

Any setting of unet-np train may be given, by a flag or in --config, and is then kept."""

_EXAMPLE = """
unet-np plan --images photos/ --masks masks/
unet-np plan --images photos/ --masks masks/ --depth 2 --out plan.toml
unet-np train --config plan.toml --out runs/mine"""

_FORMATS = (".toml", ".json")


def add_parser(subparsers: Any) -> None:
    """Add the command; a flag for each setting of `TrainConfig`."""
    parser = subparsers.add_parser(
        "plan", help="propose settings for the data", description=_DESCRIPTION, **example(_EXAMPLE)
    )
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="TOML file of settings")
    add("--out", dest="plan", type=Path, metavar="FILE", help="write it to a .toml or .json file")
    add("--overwrite", action="store_true", help="replace an existing file")
    add("-q", "--quiet", action="store_true", help="print nothing")
    add_settings(parser, without="out")


def run(args: argparse.Namespace) -> int:
    """Print the plan and write it."""
    # Imported late: --help need not wait for the network.
    from unet_np.files import atomic_write
    from unet_np.training.plan import is_own, propose, seconds
    from unet_np.training.samples import load_data

    given = given_settings(args)
    flags = {name: value for name, value in vars(args).items() if name in given}
    config = TrainConfig.from_toml(args.config, **flags) if args.config else TrainConfig(**flags)
    if not is_own(config):
        raise InputError(
            f"images: got {config.images or 'none'} and masks {config.masks or 'none'} for task "
            f"{config.task}, expected --images and --masks to segment"
        )
    if args.plan:
        _check(args.plan, args.overwrite)
    dataset = load_data(config)
    plan = propose(dataset, config, given)
    minutes = seconds(plan, dataset) / 60
    if not args.quiet:
        print(dataset.note, plan.findings, "", sep="\n")
        print(*_table(plan.rows()), "", sep="\n")
        print(f"minutes: {minutes:.1f} at most on this machine as it is now, by a step measured")
    if args.plan:
        values = plan.settings(given)
        as_json = args.plan.suffix == ".json"
        text = json.dumps(values, indent=1) + "\n" if as_json else plan.to_toml(given)
        with atomic_write(args.plan) as temporary:
            temporary.write_text(text, "utf-8")
    return 0


def _check(path: Path, overwrite: bool) -> None:
    if path.suffix not in _FORMATS:
        raise InputError(f"--out: got {path}, expected a name that ends in .toml or .json")
    check_output(path, "--out")
    if path.exists() and not overwrite:
        raise InputError(f"--out: got {path}, which is there, expected another, or --overwrite")


def _table(rows: list[tuple[str, str, str]]) -> list[str]:
    """Three columns, the last one folded to the width of the terminal.

    Examples
    --------
    >>> print(*_table([("depth", "3", "small cells"), ("w0", "10.0", "gaps")]), sep="\\n")
    depth  3     small cells
    w0     10.0  gaps
    """
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    left = first + second + 4
    width = max(shutil.get_terminal_size((100, 24)).columns - left, 30)
    lines = []
    for name, value, reason in rows:
        folded = textwrap.wrap(reason, width)
        lines.append(f"{name:<{first}}  {value:<{second}}  {folded[0]}")
        lines += [" " * left + line for line in folded[1:]]
    return lines
