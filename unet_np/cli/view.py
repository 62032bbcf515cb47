"""``unet-np view``: an image with its labels, in napari or as a picture."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.cli._common import add_axes, add_overwrite, check_outputs, example, output_file
from unet_np.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from unet_np.images import ImageFile

_DESCRIPTION = """\
Look at an image with its labels: masks, or what `unet-np segment` wrote, such as NAME-labels.tif
and NAME-instances.tif. Both are a single image or a stack, and of one size.

Where napari is installed (pip install 'unet-np[view]') a window opens, with an image layer and a
layer of labels, in which a brush can correct them; the size of a pixel is that of the image.
Elsewhere, or with --out, a picture is written, NAME-overlay.png for the image NAME in the current
folder: each label in a colour over the image in grey, with a line along its border. A stack gives
one picture for each slice, NAME-overlay-0.png, NAME-overlay-1.png, ..."""

_EXAMPLE = """
unet-np view cells.tif cells-instances.tif
unet-np view image.png mask.png --out picture.png"""

# Qt ends the process where it finds no display.
_WINDOW = "from qtpy.QtWidgets import QApplication; QApplication([])"
_NO_NAPARI = "napari is not installed (pip install 'unet-np[view]')"
_NO_WINDOW = "no window can be opened here"


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "view",
        help="look at an image with its labels",
        description=_DESCRIPTION,
        **example(_EXAMPLE),
    )
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help="PNG, JPEG or TIFF")
    add("labels", type=Path, metavar="LABELS", help="classes or numbered cells: PNG or TIFF")
    add("--out", metavar="FILE", help="write a picture, a .png, and open no window")
    add_axes(parser, "the image")
    add_overwrite(parser)
    add("-q", "--quiet", action="store_true", help="print errors only")


def run(args: argparse.Namespace) -> int:
    """Read both, compare them, show them."""
    from unet_np.data.own.pages import check_channels
    from unet_np.images import open_image

    if args.out and output_file(args.out, ".png", 1) is None:
        raise InputError(f"--out: got {args.out}, expected the name of a picture, .png")
    image = open_image(args.image, argument="image", axes=args.axes)
    check_channels([(args.image.name, page) for page in image.pages], "image")
    labels = read_labels(args.labels)
    sizes = [_sizes([page.shape for page in pages]) for pages in (image.pages, labels)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"labels: got {sizes[1]} in {args.labels}, expected {sizes[0]}, as in {args.image}"
        )
    why = "" if args.out else reason_for_a_picture() or _show(args, image, labels)
    if args.out or why:
        _write(args, image, labels, why)
    return 0


def _sizes(shapes: list[tuple[int, ...]]) -> str:
    """In words, of pages of one size."""
    height, width = shapes[0][:2]
    return f"{len(shapes)} slices of {height} x {width}".replace("1 slices", "1 slice")


def read_labels(file: Path) -> list[np.ndarray]:
    """The numbers of each slice.

    Raises
    ------
    InputError
        If they are fractions, negative, or the values of a photograph.
    """
    import numpy as np

    from unet_np.data.own.masks import as_numbers, colour_bits, is_blurred
    from unet_np.data.own.pages import read_pages

    stored = [(file.name, page) for _, page in read_pages(file, "labels")]
    pages = as_numbers(stored, "labels")
    values = np.unique(np.concatenate([np.unique(page) for page in pages]))
    if values[0] < 0:
        raise InputError(f"labels: got {values[0]} in {file}, expected numbers from 0")
    if is_blurred(pages, pages):
        raise InputError(
            f"labels: got {len(values)} values in {file}, most in many small pieces, expected 0 "
            "and one number for each cell, or a few classes; an image, a JPEG or a resized mask "
            "has none"
        )
    if colour_bits([page for _, page in stored]):
        known = np.append(0, values[values > 0])
        pages = [np.searchsorted(known, page) for page in pages]
    return [page.astype(np.int32) for page in pages]


def reason_for_a_picture() -> str:
    """Why no window can be opened; empty where one can."""
    if importlib.util.find_spec("napari") is None:
        return _NO_NAPARI
    done = subprocess.run([sys.executable, "-c", _WINDOW], capture_output=True, check=False)
    return _NO_WINDOW if done.returncode else ""


def _write(args: argparse.Namespace, image: ImageFile, labels: list[Any], why: str) -> None:
    from unet_np.images import write_png
    from unet_np.images.overlay import labelled

    out = Path(args.out or f"{args.image.stem}-overlay.png")
    paths = [out]
    if image.stacked:
        paths = [out.with_stem(f"{out.stem}-{number}") for number in range(len(labels))]
    check_outputs(paths, (args.image, args.labels), args.overwrite)
    for path, page, numbers in zip(paths, image.pages, labels, strict=True):
        write_png(path, labelled(page, numbers))
    if not args.quiet:
        more = f" and {len(paths) - 1} more" * (len(paths) > 1)
        print(f"{why}; wrote".removeprefix("; ") + f" {paths[0]}{more}")


def _show(args: argparse.Namespace, image: ImageFile, labels: list[Any]) -> str:
    """Until the window is closed; says why if none could be opened."""
    import napari
    import numpy as np

    numbers = np.stack(labels) if image.stacked else labels[0]
    about = _scale(image)
    try:
        viewer = napari.Viewer(title=f"{args.image.name} with {args.labels.name}")
        colour = image.axes.endswith("C")
        viewer.add_image(image.pixels, name=args.image.stem, rgb=colour, **about)
        viewer.add_labels(numbers, name=args.labels.stem, **about)
        viewer.scale_bar.visible = "pixel" not in about["units"]
    # Of a machine without OpenGL, for one.
    except Exception as error:
        return f"napari opened no window ({' '.join(str(error).split())})"
    napari.run()
    return ""


def _scale(image: ImageFile) -> dict[str, Any]:
    """Of napari's layers: the size of a pixel and the step between slices, with their units."""
    from unet_np.images.calibration import MICROMETRES

    known = image.calibration
    unit = known.unit if known.unit in MICROMETRES else "pixel"
    width = known.width or known.height or 1.0
    scale, units = [known.height or width, width], [unit, unit]
    if image.axes[0] == "T" and known.interval:
        return {"scale": [known.interval, *scale], "units": ["s", *units]}
    if image.stacked:
        return {"scale": [known.spacing or 1.0, *scale], "units": [unit, *units]}
    return {"scale": scale, "units": units}
