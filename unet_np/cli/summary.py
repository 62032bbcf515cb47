"""``unet-np summary``: the network's tables, printed from its one table of layers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from unet_np.cli._common import example, load_network
from unet_np.errors import InputError
from unet_np.network.architecture import NORMS, UPS, Architecture
from unet_np.network.layer import Layer
from unet_np.network.tables import summary

_EXAMPLE = """
unet-np summary --size 572
unet-np summary --base-channels 16 --padding 1 --size 512 768
unet-np summary --weights runs/em/weights.safetensors"""


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "summary",
        help="print the network's tables: layers, shapes, sizes, parameters",
        description="Print the specification of a network. Without options, it is the paper's.",
        **example(_EXAMPLE),
    )
    add = parser.add_argument
    add(
        "--size",
        type=int,
        nargs="+",
        metavar="N",
        help="input N, or H W, of the shapes (default: the paper's tile)",
    )
    add("--weights", type=Path, metavar="FILE", help="the network of a .safetensors file")
    defaults = Architecture()
    for name, text in (
        ("in_channels", "channels of the image"),
        ("num_classes", "classes"),
        ("base_channels", "channels of the first level"),
        ("depth", "number of max poolings"),
        ("padding", "0 as in the paper, 1 keeps the size"),
    ):
        add(
            "--" + name.replace("_", "-"),
            type=int,
            metavar="N",
            help=f"{text} (default {getattr(defaults, name)})",
        )
    add("--up", choices=UPS, help="way up: the paper's upconv (default), or one and a conv 3x3")
    add("--norm", choices=tuple(NORMS), help="before each ReLU: none (default), batch or instance")
    add("--task", metavar="TEXT", help="what it is for (default segment; see unet-np train)")


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    architecture = _architecture(args)
    shape = None
    if args.size is not None:
        if len(args.size) > 2:
            raise InputError(f"--size: got {len(args.size)} numbers, expected N, or H and W")
        shape = (1, architecture.in_channels, args.size[0], args.size[-1])
    print(
        "\n\n".join(
            [specification(architecture), summary(architecture, shape), sizes(architecture)]
        )
    )
    return 0


def _architecture(args: argparse.Namespace) -> Architecture:
    names = [name for name in Architecture().to_dict() if name != "output"]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.weights is None:
        return Architecture(**given | _options(args))
    if given:
        raise InputError(
            f"--weights: got --{next(iter(given)).replace('_', '-')} as well, expected one or the "
            "other"
        )
    return load_network(args.weights, "numpy").architecture


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """What the task asks of the network."""
    if args.task is None:
        return {}
    # Imported late: the paper's network need not wait for the tasks.
    from unet_np.tasks import find_task

    options = dict(find_task(args.task).options)
    expected = options.get("num_classes", args.num_classes)
    if args.num_classes not in (None, expected):
        raise InputError(
            f"--num-classes: got {args.num_classes}, expected {expected} for task {args.task}"
        )
    return options


def specification(architecture: Architecture) -> str:
    """One line for each block: its operations, channels, layers and parameters."""
    rows = [
        (block, _operations(layers), _channels(layers), sum(layer.parameters for layer in layers))
        for block, layers in _blocks(architecture)
    ]
    head = ("block", "operations", "channels", "parameters")
    return "\n".join(_table(head, [(*row[:3], f"{row[3]:,}") for row in rows]))


def _blocks(architecture: Architecture) -> list[tuple[str, list[Layer]]]:
    grouped = groupby(architecture.layers, key=lambda layer: layer.block)
    return [(block, list(layers)) for block, layers in grouped]


def _operations(layers: Sequence[Layer]) -> str:
    """What the layers do; what comes twice in a row is said once.

    Examples
    --------
    >>> _operations(Architecture().layers[:4])
    '(conv 3x3 pad 0, ReLU) x 2'
    """
    words = [layer.details for layer in layers]
    for first in range(len(words)):
        for length in range((len(words) - first) // 2, 0, -1):
            middle, last = first + length, first + 2 * length
            if words[first:middle] == words[middle:last]:
                twice = f"({', '.join(words[first:middle])}) x 2"
                return ", ".join([*words[:first], twice, *words[last:]])
    return ", ".join(words)


def _channels(layers: Sequence[Layer]) -> str:
    return f"{layers[0].in_channels} -> {layers[-1].out_channels}"


def sizes(architecture: Architecture) -> str:
    """Which input sizes work and what they give."""
    first, step = architecture.min_input_size, architecture.size_step
    usual = architecture.nearest_input_sizes(572)[-1]
    if not architecture.has_map:
        return f"input sizes: {first} and every one above; the output is one vector for an image"
    some = [first, first + step, first + 2 * step, usual]
    pairs = ", ".join(f"{n} -> {architecture.output_size(n)}" for n in dict.fromkeys(sorted(some)))
    return (
        f"input sizes: {first}, {first + step}, {first + 2 * step}, ... (every {step} pixels); "
        f"the output has {architecture.margin} pixels less\n"
        f"input -> output: {pairs}"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns; the last column to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, ["-" * width for width in widths], *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1].rjust(widths[-1])]).rstrip())
    return lines
