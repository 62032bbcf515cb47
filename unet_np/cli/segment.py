"""``unet-np segment``: images and trained weights to probability maps and label maps."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.cli._common import (
    add_axes,
    add_overwrite,
    bytes_of,
    check_outputs,
    choose_threads,
    example,
    listed,
    load_network,
    open_for,
    output_file,
    progress_bar,
)
from unet_np.cli._volume import add_options, is_volume
from unet_np.cli._volume import run as segment_volume
from unet_np.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from unet_np.images import ImageFile
    from unet_np.tasks.segmentation import Cell, Segmentation

_DESCRIPTION = """\
Segment images of any size: grey or colour, 8-bit, 16-bit or float, single images or stacks, as
PNG, JPEG or TIFF. Colour becomes grey for a network that reads one channel. Each image is brought
to zero mean and unit variance, as in training.

Each input gives two TIFF files of its own height and width, which ImageJ opens:
  OUT.tif          float32, the probability of class 1 (with two classes, that of class 0 is what
                   is missing to 1); one channel for each class with --all-classes or more classes
  OUT-labels.tif   the most probable class of each pixel, 0, 1, ...
A stack gives stacks. With --instances also:
  OUT-instances.tif, OUT-cells.csv   the connected parts of class 1, numbered and measured
A part is where class 1 is the most probable one. With --seeds 0.9 --threshold 0.6 it begins where
the probability is above 0.9 and grows, up to the next, to where it is above 0.6, so that cells that
touch are told apart, and holes are filled; --erosion 5 takes 5 pixels off where it begins. Weights
such as those of u373 and hela have such numbers in their file, and the fewest pixels that begin a
cell. Their scores are with --averaging 7.
Without -o, OUT is NAME-probabilities for the image NAME, in the current folder.

A volume is an OME-Zarr (0.4 or 0.5), or anything else with an OUT that ends in .zarr. It is read
and written chunk by chunk, each slice by itself:
  OUT.zarr         the most probable class of each pixel, with the axes and scales of the image
With --instances also OUT-instances.zarr and OUT-cells.csv and, where cells grow from seeds,
OUT-probability.zarr. The same command again goes on with the chunks that are missing."""

_EXAMPLE = """
unet-np segment slice.tif -o out.tif
unet-np segment cells.tif --model hela --instances
unet-np segment cells.tif --weights runs/mine --instances --seeds 0.9 --threshold 0.6
unet-np segment slice.tif -o out.tif --weights runs/em/weights.safetensors
unet-np segment plate/ -o results/ --weights cells.safetensors --averaging 7
unet-np segment volume.zarr -o labels.zarr --workers 4 --memory 2G"""


@dataclass(frozen=True)
class Outputs:
    """The files that one input gives."""

    probabilities: Path
    labels: Path
    instances: Path
    cells: Path


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "segment",
        help="segment images with trained weights",
        description=_DESCRIPTION,
        **example(_EXAMPLE),
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", type=Path, help="PNG, JPEG, TIFF or a folder of them")
    add("--weights", type=Path, metavar="FILE", help="what `unet-np train` wrote")
    add("--model", metavar="NAME", help="without --weights: em (default), u373 or hela")
    add("-o", "--out", metavar="OUT", help="a .tif for one image, or a folder")
    add("--labels", type=Path, metavar="FILE", help="the label map (default: beside OUT)")
    add("--all-classes", action="store_true", help="write the probability of every class")
    add("--instances", action="store_true", help="also number the cells, and write their table")
    add(
        "--min-area",
        type=int,
        metavar="N",
        help="with --instances: fewest pixels, of seeds if cells grow (default: the model's, or 1)",
    )
    add("--seeds", type=float, metavar="X", help="with --instances: where cells begin")
    add("--threshold", type=float, metavar="X", help="with --instances: where they end")
    add("--erosion", type=float, metavar="N", help="with --instances: pixels off seeds, cuts necks")
    add(
        "--averaging",
        type=int,
        default=1,
        metavar="N",
        help="average over N = 7 or 8 rotated and mirrored versions (default 1: none)",
    )
    add_axes(parser)
    add_overwrite(parser)
    add("--tile", type=int, metavar="N", help="input size of a tile (default: what fits --memory)")
    add("--memory", metavar="SIZE", help="bound of the process (default: 1G for feature maps)")
    add("--threads", type=int, metavar="N", help="default: all cores")
    add("--backend", choices=("numpy", "cupy", "auto"), help="default: auto, or UNET_NP_BACKEND")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Segment every image; everything that can be checked is checked before the first."""
    args.weights = choose_weights(args.weights, args.model)
    if is_volume(args):
        args.limits, args.min_area = cell_limits(args)
        return segment_volume(args)
    args.images = listed(args.images)
    outputs = plan_outputs(args.images, args.out, args.labels)
    paths = [path for files in outputs for path in _written(files, args.instances)]
    check_outputs(paths, (*args.images, args.weights), args.overwrite)
    memory = None if args.memory is None else bytes_of(args.memory)
    args.limits, args.min_area = cell_limits(args)
    choose_threads(args.threads)

    from unet_np.tasks.task import check_task
    from unet_np.tiling import make_tiling

    net = load_network(args.weights, args.backend)
    check_task(net, "segment")
    budgets = []
    for path in args.images:
        image = open_for(net, path, args.axes)
        budget = _budget(net, path, image, memory, args.instances)
        size = image.pages[0].shape[:2]
        make_tiling(net.architecture, size, memory_budget=budget, tile=args.tile)
        budgets.append(budget)
        del image
    for path, files, budget in zip(args.images, outputs, budgets, strict=True):
        options = {"memory_budget": budget, "tile": args.tile, "averaging": args.averaging}
        _segment_file(net, path, files, args, options)
    return 0


def _budget(net: Any, path: Path, image: ImageFile, memory: int | None, cells: bool) -> int:
    """Bytes for feature maps: what the image leaves of --memory, or 1 GiB."""
    from unet_np.cli._memory import maps_budget, resident_bytes
    from unet_np.tiling.memory import forward_bytes
    from unet_np.tiling.overlap_tile import MEMORY_BUDGET

    if memory is None:
        return MEMORY_BUDGET
    pages, classes = image.pages, net.architecture.num_classes
    height, width = pages[0].shape[:2]
    side = net.architecture.min_input_size
    least = forward_bytes(net.architecture, (side, side), net.dtype.itemsize)
    held, pixels = resident_bytes(), height * width
    return maps_budget(memory, held, pixels, len(pages), classes, cells, least, path)


def choose_weights(weights: Path | None, model: str | None) -> Path:
    """The file of the weights: the user's, or those of a network that comes with the package.

    Raises
    ------
    InputError
        If both are given, or there is no such network.

    Examples
    --------
    >>> choose_weights(None, "em").name, choose_weights(Path("a"), None).name
    ('em.safetensors', 'a')
    """
    from unet_np.pretrained import available, path

    if weights is None:
        file = path(model or "em")
        if not file.is_file():
            known = ", ".join(available()) or "--weights"
            raise InputError(f"--model: got {model or 'em'}, not in this installation; has {known}")
        return file
    if model is not None:
        raise InputError(f"--model: got {model} with --weights, expected one of the two")
    return weights


def cell_limits(args: argparse.Namespace) -> tuple[dict[str, float] | None, int]:
    """What makes a cell: by the flags, by the file of the weights, or nothing but its class.

    Returns
    -------
    limits : dict or None
        Where cells begin and end and how far seeds are eroded, as for
        `unet_np.tasks.segmentation.grown_instances`.
    min_area : int
        Fewest pixels.

    Raises
    ------
    InputError
        For numbers that are none of 0 to 1, seeds below the threshold, areas below 1, a negative
        erosion, and flags without --instances.
    """
    given = {name: getattr(args, name) for name in ("seeds", "threshold", "erosion", "min_area")}
    given = {name: value for name, value in given.items() if value is not None}
    if not args.instances:
        for name, value in given.items():
            flag = name.replace("_", "-")
            raise InputError(f"--{flag}: got {value} without --instances, expected both")
        return None, 1
    weights = args.weights / "weights.safetensors" if args.weights.is_dir() else args.weights
    values = _stored_limits(weights) | given
    min_area = values.pop("min_area", 1)
    if min_area < 1:
        raise InputError(f"--min-area: got {min_area}, expected an integer >= 1")
    if not values:
        return None, min_area
    threshold = values.get("threshold", min(0.5, values.get("seeds", 0.5)))
    seeds = values.get("seeds", threshold)
    for name, value in (("seeds", seeds), ("threshold", threshold)):
        if not 0 <= value <= 1:
            raise InputError(f"--{name}: got {value}, expected a probability, 0 to 1")
    if seeds < threshold:
        raise InputError(f"--seeds: got {seeds}, expected at least the threshold, {threshold}")
    erosion = values.get("erosion", 0.0)
    if not erosion >= 0:
        raise InputError(f"--erosion: got {erosion}, expected a number of pixels >= 0")
    return {"seeds": seeds, "threshold": threshold, "erosion": erosion}, min_area


def _stored_limits(weights: Path) -> dict[str, Any]:
    """What makes a cell by the file of the weights; empty where it does not say."""
    from unet_np.files.weights import read_metadata

    text = read_metadata(weights).get("cells", "{}")
    numbers = {"seeds": (int, float), "threshold": (int, float), "erosion": (int, float)}
    kinds = numbers | {"min_area": (int,)}
    try:
        values = json.loads(text)
        good = all(type(value) in kinds[name] for name, value in values.items())
    except (ValueError, KeyError, AttributeError, RecursionError):
        good = False
    if not good:
        raise InputError(
            f"weights: got {weights} with cells {text[:40]!r}, expected {', '.join(kinds)} with a "
            "number each"
        )
    return dict(values)


def plan_outputs(images: Sequence[Path], out: str | None, labels: Path | None) -> list[Outputs]:
    """The output files of each image.

    Raises
    ------
    InputError
        If `out` or `labels` names one file and there are several images, or no TIFF.

    Examples
    --------
    >>> plan_outputs([Path("a.png")], "out.tif", None)[0].labels.name
    'out-labels.tif'
    >>> [str(o.probabilities) for o in plan_outputs([Path("a.png"), Path("b.png")], "maps", None)]
    ['maps/a-probabilities.tif', 'maps/b-probabilities.tif']
    """
    file = output_file(out, ".tif", len(images))
    if labels and len(images) > 1:
        raise InputError(f"--labels: got {labels} for {len(images)} images, expected none")
    if labels and labels.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"--labels: got {labels}, expected a name that ends in .tif")
    planned = []
    for image in images:
        folder, stem = Path(out or "."), image.stem
        probabilities = folder / f"{stem}-probabilities.tif"
        if file:
            probabilities = file
            folder, stem = probabilities.parent, probabilities.stem
        planned.append(
            Outputs(
                probabilities,
                labels or folder / f"{stem}-labels.tif",
                folder / f"{stem}-instances.tif",
                folder / f"{stem}-cells.csv",
            )
        )
    return planned


def _written(files: Outputs, instances: bool) -> list[Path]:
    paths = [files.probabilities, files.labels]
    return [*paths, files.instances, files.cells] if instances else paths


def _segment_file(
    net: Any, path: Path, files: Outputs, args: argparse.Namespace, options: dict[str, Any]
) -> None:
    from unet_np.tasks.segmentation import segment

    image = open_for(net, path, args.axes)
    slices = image.pages
    # With two classes the second map says nothing that the first does not.
    classes = slice(None) if args.all_classes or net.architecture.num_classes > 2 else slice(1, 2)
    count = len(slices)
    probabilities: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    cells: list[Any] = []
    with progress_bar(None, path.name, "tile", args.quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total * len(slices)
            bar.update(total * len(labels) + done - bar.n)

        for page in slices:
            result = segment(net, page, progress=show, **options)
            chosen = result.probabilities[classes]
            # A view would keep all classes of every slice.
            probabilities.append(chosen.copy() if count > 1 else chosen)
            labels.append(result.labels)
            if args.instances:
                cells.append(find_instances(result, args.limits, args.min_area))
            del result, chosen
    maps, numbers = (_stacked(one, image.stacked) for one in (probabilities, labels))
    _write(maps, numbers, cells, files, args, image)


def _stacked(pages: list[np.ndarray], stacked: bool) -> np.ndarray:
    """All slices in one array; the list is emptied, so that none is held twice for long."""
    import numpy as np

    if not stacked:
        return pages[0]
    whole = np.empty((len(pages), *pages[0].shape), pages[0].dtype)
    for number in range(len(pages)):
        whole[number] = pages[number]
        pages[number] = whole[number]
    return whole


def find_instances(
    result: Segmentation, limits: dict[str, float] | None, min_area: int
) -> tuple[np.ndarray, list[Cell]]:
    """The cells of one slice, numbered and measured, by `cell_limits`."""
    from unet_np.tasks.segmentation import grown_instances, instances

    if limits is None:
        return instances(result.labels, min_area=min_area)
    return grown_instances(result.probabilities[1], min_area=min_area, **limits)


def _write(
    maps: np.ndarray,
    labels: np.ndarray,
    cells: list[tuple[np.ndarray, list[Cell]]],
    files: Outputs,
    args: argparse.Namespace,
    image: ImageFile,
) -> None:
    """Write every file of one image, with its calibration, or, if one cannot be written, none."""
    import numpy as np

    from unet_np.files import atomic_write
    from unet_np.images import write_tiff

    several = maps.shape[-3] > 1
    slices = ("T" if image.axes[0] == "T" else "Z") if image.stacked else ""
    axes = slices + ("C" if several else "") + "YX"
    known = image.calibration
    paths = _written(files, args.instances)
    with ExitStack() as stack:
        temporary = [stack.enter_context(atomic_write(path)) for path in paths]
        write_tiff(
            temporary[0], maps if several else maps[..., 0, :, :], axes=axes, calibration=known
        )
        write_tiff(temporary[1], labels, axes=axes.replace("C", ""), calibration=known)
        if args.instances:
            ids = np.stack([page for page, _ in cells]).reshape(labels.shape)
            # uint16 holds 65535 cells; float32 is exact up to 16 million.
            ids = ids if ids.max() < 2**16 else ids.astype(np.float32)
            write_tiff(temporary[2], ids, axes=axes.replace("C", ""), calibration=known)
            write_table([found for _, found in cells], temporary[3])
    if not args.quiet:
        print("wrote " + ", ".join(str(path) for path in paths))


def write_table(cells: Sequence[list[Cell]], table: Path) -> None:
    """One row for each cell of each slice."""
    from unet_np.files.tables import csv_text

    box = "top", "left", "bottom", "right"
    rows: list[Sequence[Any]] = [("slice", "id", "area", "row", "column", *box)]
    for number, found in enumerate(cells):
        for cell in found:
            centre = (f"{place:.3f}" for place in cell.centroid)
            rows.append((number, cell.id, cell.area, *centre, *cell.bbox))
    table.write_text(csv_text(rows), encoding="ascii", newline="")
