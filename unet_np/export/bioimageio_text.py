"""What a package of the BioImage Model Zoo says: its ``rdf.yaml`` and its README."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unet_np.export.onnx_model import OPSET
from unet_np.export.torch_model import needs_torch, probability_options

if TYPE_CHECKING:
    from unet_np.network.architecture import Architecture
    from unet_np.network.unet import UNet

FORMAT = "0.5.4"
"""Version of the model description that is written.

Later ones describe cover and README as they do weights, which ilastik, deepImageJ and QuPath of
today cannot read; the zoo's own library reads both.
"""

PAPER = (
    "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. "
    "MICCAI 2015",
    "10.1007/978-3-319-24574-4_28",
)


@dataclass(frozen=True)
class About:
    """What a package says of a network beside what the network says of itself.

    Attributes
    ----------
    name, description : str
        A title of 5 to 128 letters, digits, spaces and ``_+-()``; a sentence.
    authors : sequence of str
        Who answers for it.
    license : str
        An identifier of SPDX, such as ``CC-BY-4.0``, in any case of letters.
    card : str
        Markdown for the README: data, scores, limits.
    cite : sequence of (str, str)
        Texts and DOIs beside the paper's.
    classes : sequence of str
        Names of the classes; empty for ``class 0``, ``class 1`` and so on.
    tags : sequence of str
        Of the zoo's, beside those that every U-Net has.
    """

    name: str
    description: str
    authors: Sequence[str]
    license: str
    card: str = ""
    cite: Sequence[tuple[str, str]] = ()
    classes: Sequence[str] = ()
    tags: Sequence[str] = ()


def description(
    net: UNet,
    about: About,
    licence: str,
    rule: Mapping[str, int],
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """What stands in ``rdf.yaml``."""
    table = net.architecture

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}

    version = str(needs_torch().__version__).split("+")[0]
    state = {
        **file("weights.pt"),
        "pytorch_version": version,
        "architecture": {
            **file("torch_unet.py"),
            "callable": "Probabilities",
            "kwargs": probability_options(table),
        },
    }
    parent = {"parent": "pytorch_state_dict"}
    cite = [PAPER, *about.cite]
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": about.name,
        "description": about.description,
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "authors": [{"name": name} for name in about.authors],
        "license": licence,
        "cite": [{"text": text, "doi": doi} for text, doi in cite],
        "tags": ["unet", "2d", "pytorch", "semantic-segmentation", *about.tags],
        "covers": ["cover.png"],
        "documentation": "README.md",
        "inputs": [_input(table, rule, file)],
        "outputs": [_output(table, about, rule, file)],
        "weights": {
            "pytorch_state_dict": state,
            "torchscript": {**file("weights-torchscript.pt"), "pytorch_version": version} | parent,
            "onnx": {**file("weights.onnx"), "opset_version": OPSET} | parent,
        },
        "config": {
            "bioimageio": {
                # deepImageJ lists no model without one.
                "nickname": about.name,
                "architecture_type": "U-Net",
                "model_parameter_count": table.parameters,
                "task": "semantic segmentation",
            },
            "unet_np": {"architecture": table.to_dict()},
        },
    }


def _input(
    table: Architecture, rule: Mapping[str, int], file: Callable[[str], Any]
) -> dict[str, Any]:
    many = table.in_channels > 1
    names = [f"channel {n}" if many else "grey" for n in range(table.in_channels)]
    # The package divides by the spread itself; the format wants a number above 0 to be added.
    normalised = {"axes": ["y", "x"], "eps": 1e-12}
    return {
        "id": "image",
        "description": "raw grey values",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": names},
            *({"type": "space", "id": axis, **_size(rule)} for axis in "yx"),
        ],
        "data": {"type": "float32"},
        "preprocessing": [{"id": "zero_mean_unit_variance", "kwargs": normalised}],
        "test_tensor": file("test-input.npy"),
        "sample_tensor": file("sample-input.tif"),
    }


def _size(rule: Mapping[str, int]) -> dict[str, Any]:
    size = {"min": rule["min"], "step": rule["step"]}
    return {"size": size, "concatenable": rule["halo"] > 0}


def _output(
    table: Architecture, about: About, rule: Mapping[str, int], file: Callable[[str], Any]
) -> dict[str, Any]:
    halo = {"halo": rule["halo"]} if rule["halo"] else {}
    names = list(about.classes) or [f"class {n}" for n in range(table.num_classes)]
    sides = [
        {"type": "space", "id": axis, "size": {"tensor_id": "image", "axis_id": axis}, **halo}
        for axis in "yx"
    ]
    return {
        "id": "probabilities",
        "description": "the probability of each class, which add up to 1 in a pixel",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": names}, *sides],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": file("test-output.npy"),
        "sample_tensor": file("sample-output.tif"),
    }


_README = """\
# {name}

{description}

## How to use it

* **Input**: {channels}, raw grey values. The reader brings each channel of each image to zero
  mean and unit variance, as `rdf.yaml` says, by the mean and the standard deviation of the
  **whole image**.
* **Output**: the probability of {classes}, as large as the input.
* **Sizes**: {sizes}{border}
{tiles}
* The three files of weights are one network, `Probabilities` in `torch_unet.py`, and one pass
  through it. What a card below says of averaging over turned images is not in it.

## Validation

`test-input.npy` must give `test-output.npy`; `bioimageio test` of bioimageio.core looks at that.
Before the results are trusted, draw the truth of a few images that the network has not seen,
predict them and compare, as with `unet-np evaluate predictions/ labels/`. Where it fails, train on
images of your own.

## Licence and citation

The weights are under {licence}. Authors: {authors}. Written by unet-np.
Please cite {paper} (doi:{doi}).
{card}"""

_TILED = """\
* **Tiles**: of each tile's output the outermost {halo} pixels are to be cut off (`halo`), for there
  the network saw a mirror and not the image. Cut so, tiles agree with the whole image, but for
  its own outermost {halo} pixels, for which each program invents what lies beyond the image."""

_WHOLE = """\
* **No tiles**: with instance normalisation each pixel of the output depends on the **whole
  image**. A part of an image gives other numbers than the same pixels within the whole, and tiles
  show their seams. `unet-np segment` shares one set of statistics between its tiles, which no file
  of weights can; use it where an image is too large to go in at once."""

_MIRRORED = """\

  The convolutions have no padding and take {half} pixels off on each side; as many are mirrored at
  the image's border first."""


def readme(table: Architecture, about: About, licence: str, rule: Mapping[str, int]) -> str:
    """What stands in ``README.md``."""
    names = list(about.classes) or [f"class {n}" for n in range(table.num_classes)]
    step, half = rule["step"], table.margin // 2
    sizes = f"{rule['min']} + {step} n pixels a side" if step > 1 else f"from {rule['min']} pixels"
    return _README.format(
        name=about.name,
        description=about.description,
        channels=f"{table.in_channels} channel" + "s" * (table.in_channels > 1),
        classes=" and of ".join(names),
        sizes=f"{sizes}.",
        border=_MIRRORED.format(half=half) if half else "",
        tiles=(_TILED if rule["halo"] else _WHOLE).format(**rule),
        licence=licence,
        authors=", ".join(about.authors),
        paper=PAPER[0],
        doi=PAPER[1],
        card=f"\n{about.card}" if about.card else "",
    )
