"""``unet-np detect``: images and weights of task detect to tables of objects and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unet_np.cli._common import (
    add_axes,
    add_overwrite,
    bytes_of,
    check_outputs,
    choose_threads,
    count_tiles,
    example,
    listed,
    load_network,
    opened,
    output_file,
    progress_bar,
    stored,
)
from unet_np.cli._memory import Bound, resident_bytes
from unet_np.errors import InputError

_PICTURE = 10  # bytes of a pixel, besides those of the image

_DESCRIPTION = """\
Find objects in images of any size with a network that was trained with `unet-np train --task
detect`: grey or colour, single images or stacks, as PNG, JPEG or TIFF.

Each input gives
  OUT.csv           a line for each object: slice, row and column of its middle, score from 0 to 1,
                    and its box, cut at the border: first row and column, and those after its last
  OUT-overlay.png   the image with the boxes (orange) and middles (blue); of a stack one picture
                    for each slice, OUT-overlay-0.png, OUT-overlay-1.png, ...
Without -o, OUT is NAME-objects for the image NAME, in the current folder."""

_EXAMPLE = """
unet-np train --task detect --data hela --base-channels 16 --out runs/detect
unet-np detect image.tif --weights runs/detect
unet-np detect plate/ -o results/ --weights runs/detect --threshold 0.6 --radius 10"""


@dataclass(frozen=True)
class Outputs:
    """The files that one input gives; of a stack, each slice has a picture."""

    table: Path
    picture: Path

    def pictures(self, count: int, stacked: bool) -> list[Path]:
        """The paths of the pictures of `count` slices."""
        if not stacked:
            return [self.picture]
        return [self.picture.with_stem(f"{self.picture.stem}-{i}") for i in range(count)]


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "detect", help="find objects in images", description=_DESCRIPTION, **example(_EXAMPLE)
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", type=Path, help="PNG, JPEG, TIFF or a folder of them")
    add("--weights", type=Path, metavar="FILE", required=True, help="of a training, or its folder")
    add("-o", "--out", metavar="OUT", help="a .csv for one image, or a folder")
    add("--threshold", type=float, default=0.5, metavar="X", help="lowest score (default 0.5)")
    add(
        "--radius",
        type=float,
        metavar="PX",
        help="of two objects closer than this the surer one stays (default: 0.4 of its size)",
    )
    add("--no-overlay", action="store_true", help="write the table only")
    add_axes(parser)
    add_overwrite(parser)
    add("--tile", type=int, metavar="N", help="input size of a tile (default: what fits --memory)")
    add("--memory", metavar="SIZE", help="bound of the process (default: 1G for feature maps)")
    add("--threads", type=int, metavar="N", help="default: all cores")
    add("--backend", choices=("numpy", "cupy", "auto"), help="default: auto, or UNET_NP_BACKEND")
    add("-q", "--quiet", action="store_true", help="print errors only")


def run(args: argparse.Namespace) -> int:
    """Detect in every image; everything that can be checked is checked before the first."""
    args.images = listed(args.images)
    outputs = plan_outputs(args.images, args.out)
    _check_ranges(args)
    memory = None if args.memory is None else bytes_of(args.memory)
    choose_threads(args.threads)

    from unet_np.tasks.task import check_task
    from unet_np.tiling import make_tiling
    from unet_np.tiling.overlap_tile import MEMORY_BUDGET

    net = load_network(args.weights, args.backend)
    check_task(net, "detect")
    written: list[Path] = []
    jobs, held = [], resident_bytes()
    for path, files in zip(args.images, outputs, strict=True):
        bound = Bound(memory, held, MEMORY_BUDGET, path)
        with opened(net, path, args.axes, bound.reading) as image:
            size = image.shape[0], image.shape[1]
            options = {"memory_budget": bound.maps(net, size, args.tile), "tile": args.tile}
            make_tiling(net.architecture, size, **options)
            pictures = [] if args.no_overlay else files.pictures(image.count, image.stacked)
            if pictures:
                pixel = _PICTURE + 3 * image.dtype.itemsize * (image.shape[2:] or (1,))[0]
                bound.check(pixel * size[0] * size[1], "the picture, or --no-overlay, of ")
            image.check()
        written += [files.table, *pictures]
        jobs.append((bound, files.table, pictures, options))
    check_outputs(written, (*args.images, args.weights), args.overwrite)
    for bound, table, pictures, options in jobs:
        _detect_file(net, bound, table, pictures, args, options)
    return 0


def plan_outputs(images: Sequence[Path], out: str | None) -> list[Outputs]:
    """The output files of each image.

    Raises
    ------
    InputError
        If `out` names one file and there are several images, or no CSV.

    Examples
    --------
    >>> plan_outputs([Path("a.png")], "out.csv")[0].picture.name
    'out-overlay.png'
    >>> [str(o.table) for o in plan_outputs([Path("a.png"), Path("b.png")], "found")]
    ['found/a-objects.csv', 'found/b-objects.csv']
    """
    file = output_file(out, ".csv", len(images))
    planned = []
    for image in images:
        table = file or Path(out or ".", f"{image.stem}-objects.csv")
        planned.append(Outputs(table, table.with_name(f"{table.stem}-overlay.png")))
    return planned


def _check_ranges(args: argparse.Namespace) -> None:
    if not 0 < args.threshold <= 1:
        raise InputError(f"--threshold: got {args.threshold}, expected 0 < threshold <= 1")
    if args.radius is not None and not 0 <= args.radius < float("inf"):
        raise InputError(f"--radius: got {args.radius}, expected a number >= 0")


def _detect_file(
    net: Any,
    bound: Bound,
    table: Path,
    pictures: Sequence[Path],
    args: argparse.Namespace,
    options: dict[str, Any],
) -> None:
    """Write every file of one image, or, if one cannot be written, none."""
    from unet_np.files import atomic_write
    from unet_np.files.on_disk import new_array
    from unet_np.files.tables import csv_text
    from unet_np.images import write_png
    from unet_np.tasks.detection import detect_on_disk, overlay, table_rows, within

    found: list[Any] = []
    with ExitStack() as stack:
        place = stack.enter_context(atomic_write(table))
        image = stack.enter_context(opened(net, bound.path, args.axes, bound.reading))
        shape = net.architecture.num_classes, *image.shape[:2]
        maps = stack.enter_context(new_array(place.parent / "maps", shape, net.dtype))
        bar = stack.enter_context(progress_bar(None, bound.path.name, "tile", args.quiet))
        for number in range(image.count):
            show = partial(count_tiles, bar, number, image.count)
            limits = args.threshold, args.radius
            with stored(image, number, place.parent / "slice") as page:
                objects = detect_on_disk(net, page, maps, *limits, progress=show, **options)
                found.append(within(objects, page.shape))
                if pictures:
                    picture = stack.enter_context(atomic_write(pictures[number]))
                    write_png(picture, overlay(page[:], found[-1]))
        place.write_text(csv_text(table_rows(found)), encoding="ascii", newline="")
    if not args.quiet:
        count = sum(len(objects.scores) for objects in found)
        names = ", ".join(str(name) for name in (table, *pictures[:2]))
        more = f" and {len(pictures) - 2} more pictures" if len(pictures) > 2 else ""
        print(f"{bound.path.name}: {count} objects; wrote {names}{more}")
