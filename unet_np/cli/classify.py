"""``unet-np classify``: images and weights of task classify to classes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_np.cli._common import (
    add_axes,
    add_overwrite,
    check_outputs,
    choose_threads,
    example,
    listed,
    load_network,
    open_for,
)
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
    choose_threads(args.threads)

    from unet_np.files import atomic_write
    from unet_np.files.tables import csv_text
    from unet_np.tasks.classification import classify
    from unet_np.tasks.task import check_task

    net = load_network(args.weights, args.backend)
    check_task(net, "classify")
    folder = args.weights if args.weights.is_dir() else args.weights.parent
    size = args.patch or patch_size(net, folder)
    names = class_names(net, folder)
    slices = [(path, open_for(net, path, args.axes).pages) for path in args.images]
    rows: list[Sequence[Any]] = [
        ("image", "slice", "row", "column", "class", *(f"p_{name}" for name in names))
    ]
    for path, found in slices:
        for number, page in enumerate(found):
            result = classify(net, page, size, args.stride)
            # With its folder: images of two folders may have one name.
            rows += _rows(path.as_posix(), number, result, names)
            if not args.quiet:
                best = int(result.mean.argmax())
                where = str(path) if len(found) == 1 else f"{path}, slice {number}"
                count = len(result.points)
                print(
                    f"{where}: {names[best]}, probability {result.mean[best]:.3f}, "
                    f"{count} patch{'es' * (count > 1)}"
                )
    with atomic_write(args.out) as temporary:
        temporary.write_text(csv_text(rows), "utf-8", "backslashreplace", newline="")
    if not args.quiet:
        print(f"wrote {args.out}")
    return 0


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
