"""To the readers of the BioImage Model Zoo: ilastik, deepImageJ, QuPath and others.

One zip with the format's description, ``rdf.yaml``, the weights three times (a PyTorch state dict,
TorchScript and ONNX), an image and what this package makes of it, so that a reader can test itself.

The format can say that an output is smaller than its input, but few readers know how to tile then.
So what is written mirrors the image at its border and leaves out what is too much: the output is
as large as the input and the same as from ``unet-np segment``. What was mirrored at the border of
a tile, 92 pixels in the paper's network, is the halo that a reader cuts off between tiles.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_np import backend
from unet_np.errors import InputError, require
from unet_np.export.bioimageio_text import About, description, readme
from unet_np.export.onnx_model import TOLERANCE, to_onnx_probabilities
from unet_np.export.torch_model import needs_torch, to_probabilities
from unet_np.files import atomic_write
from unet_np.files.ours import ZOO
from unet_np.images import normalise, write_png, write_tiff
from unet_np.tiling import predict_tiled
from unet_np.tiling.plan import overlap

if TYPE_CHECKING:
    from unet_np.network.architecture import Architecture
    from unet_np.network.unet import UNet

LICENCES = ("CC-BY-4.0", "CC0-1.0", "MIT", "BSD-3-Clause", "Apache-2.0", "GPL-3.0-or-later")
"""What is proposed where a licence is none."""

SIDE = 256
"""Of the image that goes along, in pixels, where the network takes it."""


def save_bioimageio(
    net: UNet, path: str | os.PathLike[str], about: About, sample: np.ndarray
) -> float:
    """Write a package of the BioImage Model Zoo, after its weights were compared with this package.

    Parameters
    ----------
    net : UNet
        A network that segments.
    path : path-like
        A ``.zip``.
    about : About
        What it says of the network.
    sample : numpy.ndarray
        (in_channels, H, W), raw grey values; its middle goes along as the test's input.

    Returns
    -------
    float
        Largest difference of a probability between this package and the two other libraries.

    Raises
    ------
    InputError
        If the network has another task, the sample is too small, name, authors or licence are not
        as the format has them, or the path cannot be written to.
    MissingExtraError
        If onnx, onnxruntime, PyTorch, PyYAML or Pillow is not installed.
    RuntimeError
        If one of them differs by more than `TOLERANCE`. Nothing is written then.
    """
    yaml = require("yaml", "zoo")
    licence = checked_licence(about)
    rule = tile_rule(net.architecture)
    image = _middle(sample, rule)
    expected = backend.to_numpy(predict_tiled(net, normalise(image)))
    files, largest = _weights(net, rule, normalise(image)[None], expected)
    if not largest <= TOLERANCE:
        raise RuntimeError(f"the exported weights differ from the network by {largest:.2g}")
    files |= {
        "test-input.npy": _npy(image[None].astype(np.float32)),
        "test-output.npy": _npy(expected[None].astype(np.float32)),
        "sample-input.tif": _written(write_tiff, "a.tif", image.astype(np.float32)),
        "sample-output.tif": _written(write_tiff, "a.tif", expected, axes="CYX"),
        "cover.png": _written(write_png, "a.png", _cover(image, expected)),
        "README.md": readme(net.architecture, about, licence, rule).encode(),
    }
    described = description(net, about, licence, rule, files)
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=100)
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        # Stored and first, so that the file is known as ours by its beginning.
        archive.writestr("rdf.yaml", ZOO + text)
        # Level 1, as the zoo packs: a fifth of the time of level 6 for files 6 % larger.
        for name, content in files.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED, compresslevel=1)
    return largest


def tile_rule(architecture: Architecture) -> dict[str, int]:
    """What a reader has to know of sizes, in pixels.

    With instance normalisation a pixel of the output depends on the whole image. No halo makes
    tiles agree then: the image goes in at once, in any size.

    Returns
    -------
    dict of str to int
        ``min`` and ``step`` of the input's sides, and ``halo``, 0 where it may not be tiled.

    Raises
    ------
    InputError
        If the network does not segment.

    Examples
    --------
    >>> from unet_np.network.architecture import Architecture
    >>> tile_rule(Architecture())
    {'min': 208, 'step': 16, 'halo': 96}
    >>> tile_rule(Architecture(norm="instance"))
    {'min': 108, 'step': 1, 'halo': 0}
    """
    if architecture.task != "segment":
        raise InputError(
            f"weights: got a network that was made to {architecture.task}, expected one to "
            "segment, whose outputs alone are described for the model zoo"
        )
    step, half = architecture.size_step, architecture.margin // 2
    if architecture.norm == "instance":
        # A mirror shows no more than stands before it.
        least = max(half + step, architecture.min_input_size - architecture.margin)
        return {"min": least, "step": 1, "halo": 0}
    halo = max(overlap(architecture)) if architecture.padding else -(-half // step) * step
    return {"min": 2 * halo + step, "step": step, "halo": halo}


def checked_licence(about: About) -> str:
    """The licence as SPDX spells it, after name and authors were looked at as well.

    Raises
    ------
    InputError
        For what the format would not take.

    Examples
    --------
    >>> checked_licence(About("U-Net", "", ["A"], "cc-by-4.0"))
    'CC-BY-4.0'
    >>> checked_licence(About("U-Net", "", ["A"], "CC BY"))
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: --license: got 'CC BY', expected an identifier of SPDX, such as \
CC-BY-4.0, CC0-1.0, MIT, BSD-3-Clause, Apache-2.0 or GPL-3.0-or-later; nearest valid is 'CC-BY-4.0'
    """
    if not re.fullmatch(r"[\w+\- ()]{5,128}", about.name, re.ASCII):
        raise InputError(
            f"name: got {about.name!r}, expected 5 to 128 letters, digits, spaces and _+-()"
        )
    bad = [name for name in about.authors if not name.strip() or set(name) & set("/\\")]
    if bad or not about.authors:
        raise InputError(
            f"--author: got {bad[0] if bad else 'none'!r}, expected a name without slashes"
        )
    licenses = require("packaging.licenses", "zoo")
    try:
        known = str(licenses.canonicalize_license_expression(about.license))
    except licenses.InvalidLicenseExpression:
        known = ""
    if not known or " " in known or known.startswith("LicenseRef"):
        near = difflib.get_close_matches(about.license, LICENCES, 1, cutoff=0)[0]
        raise InputError(
            f"--license: got {about.license!r}, expected an identifier of SPDX, such as "
            f"{', '.join(LICENCES[:-1])} or {LICENCES[-1]}; nearest valid is {near!r}"
        )
    return known


def _middle(sample: np.ndarray, rule: Mapping[str, int]) -> np.ndarray:
    """The part of an image that goes along: `SIDE` pixels a side, or what the network needs."""
    least, step = rule["min"], rule["step"]
    sides = [
        least + (min(size, max(SIDE, least)) - least) // step * step for size in sample.shape[1:]
    ]
    if min(sides) < least:
        height, width = sample.shape[1:]
        raise InputError(
            f"--sample: got {height} x {width} pixels, expected at least {least} x {least}"
        )
    starts = [(size - side) // 2 for size, side in zip(sample.shape[1:], sides, strict=True)]
    (top, left), (height, width) = starts, sides
    return sample[:, top : top + height, left : left + width]


def _weights(
    net: UNet, rule: Mapping[str, int], image: np.ndarray, expected: np.ndarray
) -> tuple[dict[str, bytes], float]:
    """The three files of weights with the module's source, and how far they are from `expected`."""
    runtime = require("onnxruntime", "onnx")
    torch = needs_torch()
    module = to_probabilities(net)
    scripted, state = io.BytesIO(), io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # PyTorch advises against TorchScript, but it is all that QuPath reads. What it warns of are
        # checks of its own layers that become constants; sizes are compared below.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # Of another size than the image, so that a size that was taken for a constant shows.
        other = torch.zeros((1, *image.shape[1:3], image.shape[3] + rule["step"]))
        traced = torch.jit.trace(module, other, check_trace=False)
        torch.jit.save(traced, scripted)
        found = [traced(torch.from_numpy(image)).numpy()]
    torch.save(module.state_dict(), state)
    content = to_onnx_probabilities(net).SerializeToString()
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found += session.run(["probabilities"], {"image": image})
    source = Path(__file__).with_name("torch_unet.py").read_bytes()
    files = {
        "weights.pt": state.getvalue(),
        "torch_unet.py": source,
        "weights-torchscript.pt": scripted.getvalue(),
        "weights.onnx": content,
    }
    return files, max(float(np.abs(one[0] - expected).max()) for one in found)


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _cover(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The image, and beside it the probability of class 1."""
    low, high = np.percentile(image[0], [1, 99])
    shown = np.clip((image[0] - low) / (high - low or 1), 0, 1)
    both = np.hstack([shown, probabilities[1]])
    return (255 * both).astype(np.uint8)


def _written(write: Callable[..., None], name: str, array: np.ndarray, **options: Any) -> bytes:
    """What a function writes to a file of that name."""
    with TemporaryDirectory() as folder:
        file = Path(folder, name)
        write(file, array, **options)
        return file.read_bytes()
