"""``unet-np segment``: images and trained weights to probability maps and label maps."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from unet_np.cli._volume import add_options, is_volume
from unet_np.cli._volume import run as segment_volume
from unet_np.errors import InputError, require

if TYPE_CHECKING:
    from unet_np.files.on_disk import DiskArray, Windows
    from unet_np.images import BandedImage
    from unet_np.tasks.segmentation import Cell

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
  OUT-rois.zip       with --rois: their outlines for the ROI manager of Fiji and ImageJ
  OUT-cells.geojson  with --geojson: their outlines for QuPath, each a detection of class "cell"
A part is where class 1 is the most probable one. With --seeds 0.9 --threshold 0.6 it begins where
the probability is above 0.9 and grows, up to the next, to where it is above 0.6, so that cells that
touch are told apart, and holes are filled; --erosion 5 takes 5 pixels off where it begins. After
train --rim the probability is that of the inside plus half of that of the rim, class 2, and cells
begin above 0.9 and grow down to 0.4; if your own masks have such classes, say --rim 2. Weights such
as those of u373 and hela bring numbers of their own for all this, and the --averaging of their
scores, 7; with --averaging 1 they take a seventh of the time.
Without -o, OUT is NAME-probabilities for the image NAME, in the current folder.

A volume is an OME-Zarr (0.4 or 0.5), or anything else with an OUT that ends in .zarr. It is read
and written chunk by chunk, each slice by itself:
  OUT.zarr         the most probable class of each pixel, with the axes and scales of the image
With --instances also OUT-instances.zarr and OUT-cells.csv and, where cells grow from seeds,
OUT-probability.zarr. The same command again goes on with the chunks that are missing."""

_EXAMPLE = """
unet-np segment slice.tif -o out.tif
unet-np segment cells.tif --model hela --instances --rois --geojson
unet-np segment cells.tif --weights runs/mine --instances --seeds 0.9 --threshold 0.6
unet-np segment slice.tif -o out.tif --weights runs/em/weights.safetensors
unet-np segment plate/ -o results/ --weights cells.safetensors --averaging 7
unet-np segment volume.zarr -o labels.zarr --workers 4 --memory 2G"""


_OUTLINES = ("rois", "geojson")


@dataclass(frozen=True)
class Outputs:
    """The files that one input gives."""

    probabilities: Path
    labels: Path
    instances: Path
    cells: Path
    rois: Path
    geojson: Path

    def written(self, args: argparse.Namespace) -> list[Path]:
        """Those that were asked for."""
        paths = [self.probabilities, self.labels]
        paths += [self.instances, self.cells] if args.instances else []
        return paths + [getattr(self, name) for name in _OUTLINES if getattr(args, name)]


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
    add(
        "--rim",
        type=int,
        metavar="N",
        help="with --instances: class of rims (default: the model's)",
    )
    add("--seeds", type=float, metavar="X", help="with --instances: where cells begin")
    add("--threshold", type=float, metavar="X", help="with --instances: where they end")
    add("--erosion", type=float, metavar="N", help="with --instances: pixels off seeds, cuts necks")
    add("--rois", action="store_true", help="with --instances: outlines for Fiji (see above)")
    add("--geojson", action="store_true", help="with --instances: outlines for QuPath")
    add(
        "--averaging",
        type=int,
        metavar="N",
        help="mean over N = 7 or 8 turned versions (default: with --instances the model's, or 1)",
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
        args.limits, args.min_area, args.averaging, args.rim = cell_limits(args)
        return segment_volume(args)
    args.images = listed(args.images)
    outputs = plan_outputs(args.images, args.out, args.labels)
    paths = [path for files in outputs for path in files.written(args)]
    check_outputs(paths, (*args.images, args.weights), args.overwrite)
    memory = None if args.memory is None else bytes_of(args.memory)
    args.limits, args.min_area, args.averaging, args.rim = cell_limits(args)
    choose_threads(args.threads)
    if args.rois:
        require("roifile", "io")

    from unet_np.images.shapes import ROI_SIZE
    from unet_np.tasks.task import check_task
    from unet_np.tiling import make_tiling
    from unet_np.tiling.overlap_tile import MEMORY_BUDGET

    net = load_network(args.weights, args.backend)
    check_task(net, "segment")
    check_rim(args.rim, net.architecture.num_classes)
    jobs, held = [], resident_bytes()
    for path in args.images:
        bound = Bound(memory, held, MEMORY_BUDGET, path)
        with opened(net, path, args.axes, bound.reading) as image:
            size = image.shape[0], image.shape[1]
            options = {"memory_budget": bound.maps(net, size, args.tile), "tile": args.tile}
            make_tiling(net.architecture, size, **options)
            if args.instances:
                bound.bands(size, (args.limits or {}).get("erosion", 0), args.rois)
            if args.rois and max(size) > ROI_SIZE:
                raise InputError(
                    f"--rois: got {path} of {size[0]} x {size[1]} pixels, expected at most "
                    f"{ROI_SIZE} on a side, where ROIs end; --geojson has no end"
                )
            image.check()
        jobs.append((bound, {**options, "averaging": args.averaging}))
    for (bound, options), files in zip(jobs, outputs, strict=True):
        _segment_file(net, bound, files, args, options)
    return 0


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


def check_rim(rim: int | None, classes: int) -> None:
    """Refuse a class of rims that a network does not have.

    Examples
    --------
    >>> check_rim(2, 2)
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: --rim: got class 2, expected a third class, the network has 2
    """
    if rim is not None and not 2 <= rim < classes:
        raise InputError(
            f"--rim: got class {rim}, expected a third class, the network has {classes}"
        )


def cell_limits(
    args: argparse.Namespace,
) -> tuple[dict[str, float] | None, int, int, int | None]:
    """What makes a cell: by the flags, by the file of the weights, or nothing but its class.

    Returns
    -------
    limits : dict or None
        Where cells begin and end and how far seeds are eroded, as for
        `unet_np.tasks.segmentation.grown_instances`.
    min_area : int
        Fewest pixels.
    averaging : int
        Turned versions that the prediction is the mean of.
    rim : int or None
        The class of rims.

    Raises
    ------
    InputError
        For numbers that are none of 0 to 1, seeds below the threshold, areas below 1, a negative
        erosion, and flags without --instances.
    """
    names = ("seeds", "threshold", "erosion", "min_area", "rim")
    given = {name: getattr(args, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if not args.instances:
        for name in _OUTLINES:
            if getattr(args, name):
                raise InputError(f"--{name}: got it without --instances, expected both")
        for name, value in given.items():
            flag = name.replace("_", "-")
            raise InputError(f"--{flag}: got {value} without --instances, expected both")
        return None, 1, 1 if args.averaging is None else args.averaging, None
    from unet_np.tasks.segmentation import OF_RIMS

    weights = args.weights / "weights.safetensors" if args.weights.is_dir() else args.weights
    values = _stored_limits(weights) | given
    min_area, averaging = values.pop("min_area", 1), values.pop("averaging", 1)
    averaging = averaging if args.averaging is None else args.averaging
    if min_area < 1:
        raise InputError(f"--min-area: got {min_area}, expected an integer >= 1")
    rim = values.pop("rim", None)
    if not values and rim is None:
        return None, min_area, averaging, None
    values = ({} if rim is None else OF_RIMS) | values
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
    limits = {"seeds": seeds, "threshold": threshold, "erosion": erosion}
    return limits, min_area, averaging, rim


def _stored_limits(weights: Path) -> dict[str, Any]:
    """What makes a cell by the file of the weights; empty where it does not say."""
    from unet_np.files.weights import read_metadata

    text = read_metadata(weights).get("cells", "{}")
    numbers = {"seeds": (int, float), "threshold": (int, float), "erosion": (int, float)}
    kinds = numbers | {"min_area": (int,), "averaging": (int,), "rim": (int,)}
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
                folder / f"{stem}-rois.zip",
                folder / f"{stem}-cells.geojson",
            )
        )
    return planned


def _segment_file(
    net: Any, bound: Bound, files: Outputs, args: argparse.Namespace, options: dict[str, Any]
) -> None:
    """Write every file of one image, with its calibration, or, if one cannot be written, none.

    Where there is no room to number the cells, the maps and labels are written, which are whole.
    """
    import numpy as np

    from unet_np.files.on_disk import new_array
    from unet_np.tasks.segmentation import CellMap, segment_on_disk

    classes = net.architecture.num_classes
    # With two classes the second map says nothing that the first does not.
    chosen = slice(None) if args.all_classes or classes > 2 else slice(1, 2)
    with ExitStack() as stack:
        image = stack.enter_context(opened(net, bound.path, args.axes, bound.reading))
        size, count = (image.shape[0], image.shape[1]), image.count
        sheets = _Sheets(stack, image)
        maps = sheets.tiff(files.probabilities, np.float32, len(range(classes)[chosen]))
        kind = np.uint8 if classes <= 256 else np.uint16
        labels = sheets.tiff(files.labels, kind, largest=classes - 1)
        # Beside the first output while it is written, and gone with it.
        room = Path(maps.file.name).parent
        whole = stack.enter_context(new_array(room / "whole", (classes, *size), net.dtype))
        cells = _Cells(stack, sheets, room, bound, args) if args.instances else None
        bar = stack.enter_context(progress_bar(None, bound.path.name, "tile", args.quiet))
        for number in range(count):
            show = partial(count_tiles, bar, number, count)
            with stored(image, number, room / "slice") as page:
                found = segment_on_disk(net, page, whole, progress=show, **options)
                for rows, result in found:
                    maps[number, :, rows] = result.probabilities[chosen]
                    labels[number, :, rows] = result.labels
        refused = None
        if cells:
            try:
                for number in range(count):
                    kept = maps.part(number)
                    foreground = kept.part(0) if chosen.start else CellMap(kept, args.rim)
                    cells.find(number, foreground, labels.part(number).part(0))
                cells.write(files)
            except InputError as error:
                # More cells than --memory holds, which only the prediction tells: it is kept.
                refused = error
    if refused:
        raise InputError(f"{refused}; wrote {files.probabilities}, {files.labels}")
    if not args.quiet:
        print("wrote " + ", ".join(str(path) for path in files.written(args)))


class _Sheets:
    """TIFF files of the height, width, slices and calibration of an image, whole or not there."""

    def __init__(self, stack: ExitStack, image: BandedImage) -> None:
        self.stack, self.image = stack, image

    @property
    def axis(self) -> str:
        """Of the slices; empty where there is none."""
        return ("T" if self.image.axes[0] == "T" else "Z") * self.image.stacked

    def tiff(
        self, path: Path, dtype: Any, channels: int = 1, largest: int | None = None
    ) -> DiskArray:
        """One that is written in parts, (slices, channels, H, W)."""
        from unet_np.files import atomic_write
        from unet_np.images.write import tiff_on_disk

        image, many = self.image, channels > 1
        temporary = self.stack.enter_context(atomic_write(path))
        sizes = (image.count, channels, *image.shape[:2])
        axes = self.axis + "C" * many + "YX"
        kept = (image.stacked, many, True, True)
        shape = tuple(size for size, there in zip(sizes, kept, strict=True) if there)
        more: dict[str, Any] = {"calibration": image.calibration, "largest": largest}
        array = tiff_on_disk(temporary, shape, dtype, axes=axes, **more)
        return self.stack.enter_context(array).reshape(sizes)


class _Cells:
    """The cells of each slice, numbered and measured, by `cell_limits`."""

    def __init__(
        self,
        stack: ExitStack,
        sheets: _Sheets,
        room: Path,
        bound: Bound,
        args: argparse.Namespace,
    ) -> None:
        import numpy as np

        from unet_np.files.on_disk import new_array
        from unet_np.images.shapes import GeoJson, RoiZip

        self.stack, self.sheets, self.room = stack, sheets, room
        self.limits, self.min_area, self.most = args.limits, args.min_area, 0
        image = sheets.image
        size = image.shape[0], image.shape[1]
        self.bands = bound.bands(size, (args.limits or {}).get("erosion", 0), args.rois)
        # What the numbers of all slices fit in is known after the last.
        self.ids = stack.enter_context(new_array(room / "ids", (image.count, *size), np.int32))
        kinds: dict[str, Any] = {"rois": RoiZip, "geojson": GeoJson}
        self.outlines: dict[str, Any] = {
            name: stack.enter_context(kinds[name](room / name, sheets.axis))
            for name in _OUTLINES
            if getattr(args, name)
        }

    def find(self, number: int, probability: Windows, labels: DiskArray) -> None:
        """Number those of a slice, and write a row for each."""
        import numpy as np

        from unet_np.files.on_disk import new_array
        from unet_np.tasks.banded import grown_on_disk, instances_on_disk
        from unet_np.tasks.outlines import traced

        ids, least = self.ids.part(number), self.min_area
        if self.limits is None:
            found = instances_on_disk(labels, ids, self.bands, min_area=least)
        else:
            with new_array(self.room / "ways", self.bands.shape, np.int64) as ways:
                rest = {"min_area": least, **self.limits}
                found = grown_on_disk(probability, ids, ways, self.bands, **rest)
        self.most = max(self.most, len(found))
        write_table([found], self.room / "table", number)
        if self.outlines:
            for cell, polygons in traced(ids, found.boxes, self.bands):
                for file in self.outlines.values():
                    file.add(number, cell, polygons)

    def write(self, files: Outputs) -> None:
        """The numbers, the table and the outlines, under their names."""
        import numpy as np

        from unet_np.files import atomic_write

        # uint16 holds 65535 cells; float32 is exact up to 16 million.
        kind = np.uint16 if self.most < 2**16 else np.float32
        target = self.sheets.tiff(files.instances, kind, largest=self.most)
        for number in range(len(self.ids)):
            for rows in self.bands:
                target[number, 0, rows] = self.ids[number, rows]
        (self.room / "table").replace(self.stack.enter_context(atomic_write(files.cells)))
        for name, outlines in self.outlines.items():
            outlines.close()
            place = self.stack.enter_context(atomic_write(getattr(files, name)))
            (self.room / name).replace(place)


def write_table(cells: Sequence[Iterable[Cell]], table: Path, first: int = 0) -> None:
    """One row for each cell of each slice; those of slices after the first are added."""
    from unet_np.files.tables import csv_line

    box = "top", "left", "bottom", "right"
    with open(table, "a" if first else "w", encoding="ascii", newline="") as file:
        if not first:
            file.write(csv_line(("slice", "id", "area", "row", "column", *box)))
        for number, found in enumerate(cells, first):
            for cell in found:
                centre = (f"{place:.3f}" for place in cell.centroid)
                file.write(csv_line((number, cell.id, cell.area, *centre, *cell.bbox)))
