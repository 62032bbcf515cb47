"""``unet-np export``: a trained network for other people's tools."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.cli._common import add_overwrite, check_outputs, example, load_network
from unet_np.cli.segment import choose_weights
from unet_np.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from unet_np.export import About

_DESCRIPTION = """\
Write a trained network for tools that know nothing of this package. The first two take images
with zero mean and unit variance in each channel and give logits; the architecture, the sizes that
work and the normalisation are in the ONNX file's metadata and in the text beside the weights.

  --onnx    one file, for any batch and for the heights and widths in its metadata; others are not
            refused, but their output is not the network's. Where ONNX Runtime is installed its
            logits are compared with this package's before anything is written.
  --torch   a folder: the state dict as safetensors, the module's source, and how to use them.
  --bioimageio
            a package of the BioImage Model Zoo for ilastik, deepImageJ, QuPath and others: PyTorch,
            TorchScript and ONNX weights that take raw images and give probabilities of the same
            size, a test of them, tile rule, licence, citation and README. Needs a licence and an
            author, except for the networks that are included. Its test image is synthetic, so that
            no image of yours is published unasked; --sample takes another."""

_EXAMPLE = """
unet-np export --weights runs/unet --onnx model.onnx
unet-np export --weights runs/unet/weights.safetensors --torch model/
unet-np export --model u373 --onnx u373.onnx --torch u373/
unet-np export --model em --bioimageio em.zip
unet-np export --weights runs/mine --bioimageio mine.zip --license CC-BY-4.0 --author "A. Name" \
               --sample image.tif"""


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "export",
        help="write a trained network for ONNX or PyTorch",
        description=_DESCRIPTION,
        **example(_EXAMPLE),
    )
    add = parser.add_argument
    add("--weights", type=Path, metavar="FILE", help="what `unet-np train` wrote, or its folder")
    add("--model", metavar="NAME", help="without --weights: em (default), u373 or hela")
    add("--onnx", type=Path, metavar="FILE", help="write this ONNX file")
    add("--torch", type=Path, metavar="FOLDER", help="write this folder, or NAME.safetensors")
    add("--bioimageio", type=Path, metavar="FILE", help="write this zip for the model zoo's tools")
    add("--license", metavar="ID", help="with --bioimageio: as SPDX has it, such as CC-BY-4.0")
    add("--author", action="append", default=[], metavar="NAME", help="with --bioimageio")
    add("--sample", type=Path, metavar="IMAGE", help="with --bioimageio: goes along as its test")
    add_overwrite(parser)
    add("-q", "--quiet", action="store_true", help="print errors only")


def run(args: argparse.Namespace) -> int:
    """Load, check, write."""
    if args.onnx is None and args.torch is None and args.bioimageio is None:
        raise InputError(
            "--onnx: got neither --onnx nor --torch nor --bioimageio, expected at least one of them"
        )
    weights = choose_weights(args.weights, args.model)
    _check_words(args)
    _check_paths(args, weights)
    net = load_network(weights, "numpy")
    if args.bioimageio is not None:
        _package(args, net, weights)
    if args.onnx is not None:
        from unet_np.export.onnx_model import save_onnx

        largest = save_onnx(net, args.onnx)
        _say(args, f"wrote {args.onnx}")
        if largest is None:
            _say(args, "not compared: onnxruntime is not installed")
        else:
            _say(args, f"largest difference to ONNX Runtime: {largest:.1e}")
    if args.torch is not None:
        from unet_np.export.torch_folder import save_torch

        _say(args, "wrote " + ", ".join(str(path) for path in save_torch(net, args.torch)))
    return 0


_KNOWN: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "em": (
        "isbi2012",
        "Membranes in serial section electron micrographs at about 4 nm a pixel.",
        "membrane",
        ("electron-microscopy", "cell-membrane", "brain"),
    ),
    "u373": (
        "u373",
        "Cells about 65 pixels across in phase contrast.",
        "background",
        ("transmission-light-microscopy", "cells"),
    ),
    "hela": (
        "hela",
        "Cells about 117 pixels across in differential interference contrast.",
        "background",
        ("transmission-light-microscopy", "cells"),
    ),
}
"""Of the networks that come along: data set, what they are for, class 0, the zoo's tags."""


def _package(args: argparse.Namespace, net: Any, weights: Path) -> None:
    """Write a package of the model zoo."""
    from unet_np.export import save_bioimageio
    from unet_np.export.bioimageio import SIDE, tile_rule

    side = max(SIDE, tile_rule(net.architecture)["min"])
    sample = _sample(args, net, side)
    largest = save_bioimageio(net, args.bioimageio, _about(args, weights), sample)
    _say(args, f"wrote {args.bioimageio}")
    _say(args, f"largest difference to ONNX Runtime and TorchScript: {largest:.1e}")


def _about(args: argparse.Namespace, weights: Path) -> About:
    """What the package says of its network, by the flags or, of one that comes along, its card."""
    from unet_np.export import About

    if args.weights is not None:
        folder = weights if weights.is_dir() else weights.parent
        own = weights.stem if weights.is_file() else folder.resolve().name
        named = folder.resolve().name if own == "weights" else own
        name = re.sub(r"[^\w+\-() ]+", " ", f"U-Net {named}", flags=re.ASCII).strip()
        text = f"A U-Net that segments, trained with unet-np ({name})."
        return About(name.ljust(5, "-")[:128], text, args.author, args.license)
    from unet_np.data import info
    from unet_np.pretrained import card

    name = weights.stem
    data, text, other, tags = _KNOWN[name]
    cite = re.findall(r"([^;]+) \(doi:(\S+)\)", info(data).citation)
    return About(
        f"U-Net from scratch ({name})",
        f"{text} Data: {info(data).title}; {info(data).terms}",
        args.author or ["The U-Net from scratch authors"],
        # Of the package, and so of the weights in it.
        args.license or "MIT",
        re.sub("^#", "##", card(name), flags=re.MULTILINE),
        [(text.strip(), doi) for text, doi in cite],
        (other, "cell"),
        tags,
    )


def _sample(args: argparse.Namespace, net: Any, side: int) -> np.ndarray:
    """(in_channels, H, W): the user's image, or a synthetic one that is most like the data."""
    import numpy as np

    from unet_np.cli._common import open_for
    from unet_np.data import synthetic
    from unet_np.images import to_grey

    channels = net.architecture.in_channels
    if args.sample is not None:
        image = open_for(net, args.sample)
        pixels = image.pixels[0] if image.axes[0] not in "YX" else image.pixels
        return to_grey(pixels)[None] if channels == 1 else np.moveaxis(pixels, -1, 0)[:channels]
    cells = {"u373": ("phase", 65), "hela": ("dic", 117)}.get(args.model or "")
    if cells:
        made = synthetic.synthetic_cells(side, modality=cells[0], cell_size=cells[1])[0]
        return made[None]
    return np.stack([synthetic.synthetic_em(side, index=i)[0] for i in range(channels)])


def _check_words(args: argparse.Namespace) -> None:
    for name in ("license", "author", "sample"):
        value = getattr(args, name)
        if value and args.bioimageio is None:
            got = value[0] if name == "author" else value
            raise InputError(f"--{name}: got {got} without --bioimageio, expected both")
        if not value and args.bioimageio and args.weights and name != "sample":
            hint = "an identifier of SPDX such as CC-BY-4.0" if name == "license" else "a name"
            raise InputError(f"--{name}: got none with --bioimageio, expected {hint}")


def _check_paths(args: argparse.Namespace, weights: Path) -> None:
    from unet_np.export.torch_folder import torch_files

    # A run's own folder holds a file of that name.
    inputs = (weights, weights / "weights.safetensors")
    if args.onnx is not None:
        if args.onnx.suffix.lower() != ".onnx":
            raise InputError(f"--onnx: got {args.onnx}, expected a name that ends in .onnx")
        check_outputs([args.onnx], inputs, args.overwrite, "--onnx")
    if args.bioimageio is not None:
        if args.bioimageio.suffix.lower() != ".zip":
            raise InputError(
                f"--bioimageio: got {args.bioimageio}, expected a name that ends in .zip"
            )
        check_outputs(
            [args.bioimageio],
            [*inputs, *filter(None, [args.sample])],
            args.overwrite,
            "--bioimageio",
        )
    if args.torch is not None:
        file = args.torch
        if file.suffix != ".safetensors" and file.is_file():
            raise InputError(f"--torch: got the file {file}, expected the name of a folder")
        check_outputs(torch_files(file), inputs, args.overwrite, "--torch")


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        print(text)
