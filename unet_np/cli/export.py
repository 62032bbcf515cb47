"""``unet-np export``: a trained network for other people's tools."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unet_np.cli._common import add_overwrite, check_outputs, example, load_network
from unet_np.cli.segment import choose_weights
from unet_np.errors import InputError

_DESCRIPTION = """\
Write a trained network for tools that know nothing of this package. Both take images with zero mean
and unit variance in each channel and give logits; the architecture, the sizes that work and the
normalisation stand in the ONNX file's metadata and in the text beside the weights.

  --onnx    one file, for any batch and for the heights and widths in its metadata; others are not
            refused, but their output is not the network's. Where ONNX Runtime is installed its
            logits are compared with this package's before anything is written.
  --torch   a folder: the state dict as safetensors, the module's source, and how to use them."""

_EXAMPLE = """
unet-np export --weights runs/unet --onnx model.onnx
unet-np export --weights runs/unet/weights.safetensors --torch model/
unet-np export --model u373 --onnx u373.onnx --torch u373/"""


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
    add_overwrite(parser)
    add("-q", "--quiet", action="store_true", help="print errors only")


def run(args: argparse.Namespace) -> int:
    """Load, check, write."""
    if args.onnx is None and args.torch is None:
        raise InputError("--onnx: got neither --onnx nor --torch, expected at least one of them")
    weights = choose_weights(args.weights, args.model)
    _check_paths(args, weights)
    net = load_network(weights, "numpy")
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


def _check_paths(args: argparse.Namespace, weights: Path) -> None:
    from unet_np.export.torch_folder import torch_files

    # A run's own folder holds a file of that name.
    inputs = (weights, weights / "weights.safetensors")
    if args.onnx is not None:
        if args.onnx.suffix.lower() != ".onnx":
            raise InputError(f"--onnx: got {args.onnx}, expected a name that ends in .onnx")
        check_outputs([args.onnx], inputs, args.overwrite, "--onnx")
    if args.torch is not None:
        file = args.torch
        if file.suffix != ".safetensors" and file.is_file():
            raise InputError(f"--torch: got the file {file}, expected the name of a folder")
        check_outputs(torch_files(file), inputs, args.overwrite, "--torch")


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        print(text)
