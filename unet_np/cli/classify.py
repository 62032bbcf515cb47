"""``unet-np classify``: images and weights of task classify to classes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from unet_np.cli._common import (
    add_axes,
    add_overwrite,
    bytes_of,
    check_outputs,
    choose_threads,
    example,
    listed,
    load_network,
    opened,
    stored,
)
from unet_np.cli._memory import Bound, resident_bytes
from unet_np.errors import InputError, integer

_DESCRIPTION = """\
Classify images with a network that was trained with `unet-np train --task classify`. An image is
cut into patches of the size of the training, side by side; an image no larger than a patch is one.

Prints a line for each image: the class of highest mean probability over its patches. OUT.csv has a
line for each patch: image, slice, row and column of its middle, class, and the probability of
each class; a class whose name begins with = + - @ or ' has a ' before it, for spreadsheets.
With --stride 1 this is the class of every pixel, one pass of the network for each."""

_EXAMPLE = """
unet-np train --task classify --images folder-of-class-folders/ --out runs/classify
unet-np classify new/ --weights runs/classify
unet-np classify slice.tif --weights runs/membrane --stride 16 -o membrane.csv"""


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "classify",
        help="classify images or their patches",
        description=_DESCRIPTION,
        **example(_EXAMPLE),
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", type=Path, help="PNG, JPEG, TIFF or a folder of them")
    add("--weights", type=Path, metavar="FILE", required=True, help="of a training, or its folder")
    add(
        "-o",
        "--out",
        type=Path,
        default=Path("classes.csv"),
        metavar="OUT",
        help="default: classes.csv",
    )
    add_axes(parser)
    add_overwrite(parser)
    add("--patch", type=int, metavar="N", help="side of a patch (default: that of the training)")
    add("--stride", type=int, metavar="N", help="from patch to patch (default: the patch)")
    add("--memory", metavar="SIZE", help="bound of the process (default: none)")
    add("--threads", type=int, metavar="N", help="default: all cores")
    add("--backend", choices=("numpy", "cupy", "auto"), help="default: auto, or UNET_NP_BACKEND")
    add("-q", "--quiet", action="store_true", help="print errors only")


def run(args: argparse.Namespace) -> int:
    """Classify every image; everything that can be checked is checked before the first."""
    for flag in ("patch", "stride"):
        value = getattr(args, flag)
        if value is not None:
            integer(f"--{flag}", value, 1)
    if args.out.suffix.lower() != ".csv":
        raise InputError(f"--out: got {args.out}, expected a name that ends in .csv")
    args.images = listed(args.images)
    check_outputs([args.out], (*args.images, args.weights), args.overwrite)
    memory = None if args.memory is None else bytes_of(args.memory)
    choose_threads(args.threads)

    from unet_np.files import atomic_write
    from unet_np.files.tables import csv_line
    from unet_np.tasks.classification import BATCH
    from unet_np.tasks.task import check_task

    net = load_network(args.weights, args.backend)
    check_task(net, "classify")
    folder = args.weights if args.weights.is_dir() else args.weights.parent
    args.patch = args.patch or patch_size(net, folder)
    args.names = class_names(net, folder)
    net.architecture.check_input((1, net.architecture.in_channels, args.patch, args.patch))
    jobs, held = [], resident_bytes()
    for path in args.images:
        bound = Bound(memory, held, 0, path)
        with opened(net, path, args.axes, bound.reading) as image:
            batch = bound.patches(net, args.patch, BATCH)
            image.check()
        jobs.append((bound, batch))
    header = "image", "slice", "row", "column", "class", *(f"p_{name}" for name in args.names)
    with (
        atomic_write(args.out) as file,
        open(file, "w", encoding="utf-8", errors="backslashreplace", newline="") as table,
    ):
        table.write(csv_line(header))
        for bound, batch in jobs:
            _classify_file(net, bound, batch, table, args)
    if not args.quiet:
        print(f"wrote {args.out}")
    return 0


def _classify_file(
    net: Any, bound: Bound, batch: int, table: IO[str], args: argparse.Namespace
) -> None:
    """Write a line for each patch of each slice of an image, and say what is in each slice."""
    import numpy as np

    from unet_np.files.tables import csv_text
    from unet_np.tasks.classification import classified

    path, names = bound.path, args.names
    with opened(net, path, args.axes, bound.reading) as image:
        for number in range(image.count):
            total, count = np.zeros(len(names)), 0
            with stored(image, number, Path(table.name).with_name("slice")) as page:
                for part in classified(net, page, args.patch, args.stride, batch):
                    # With its folder: images of two folders may have one name.
                    table.write(csv_text(_rows(path.as_posix(), number, part, names)))
                    total += part.probabilities.sum(axis=0, dtype=float)
                    count += len(part.points)
            if not args.quiet:
                best = int(np.argmax(total))
                where = f"{path}, slice {number}" if image.count > 1 else str(path)
                print(
                    f"{where}: {names[best]}, probability {total[best] / count:.3f}, "
                    f"{count} patch{'es' * (count > 1)}"
                )


def _rows(image: str, number: int, result: Any, names: list[str]) -> list[Sequence[Any]]:
    patches = zip(result.points, result.classes, result.probabilities, strict=True)
    return [
        (image, number, row, column, names[best], *(f"{p:.4f}" for p in each))
        for (row, column), best, each in patches
    ]


def patch_size(net: Any, folder: Path) -> int:
    """Side of a patch in the training whose folder holds the weights; else what works near 65.

    Examples
    --------
    >>> from unet_np import UNet
    >>> from unet_np.tasks import Classify
    >>> patch_size(UNet(base_channels=2, depth=1, **Classify.options), Path("nowhere"))
    65
    """
    from unet_np.tasks.classification import PATCH
    from unet_np.training.config import TrainConfig

    file = folder / "config.toml"
    if file.is_file():
        return TrainConfig.from_toml(file).tile_size
    return max(PATCH, net.architecture.min_input_size)


def class_names(net: Any, folder: Path) -> list[str]:
    """Names of the classes, from the file beside the weights; else their numbers.

    Examples
    --------
    >>> from unet_np import UNet
    >>> from unet_np.tasks import Classify
    >>> class_names(UNet(base_channels=2, depth=1, **Classify.options), Path("nowhere"))
    ['0', '1']
    """
    count, file = net.architecture.num_classes, folder / "classes.txt"
    # One a line, whose end is nothing but a line feed: names may hold what splitlines ends at.
    names = (
        file.read_text("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        if file.is_file()
        else []
    )
    return names if len(names) == count else [str(number) for number in range(count)]
