"""Write what the model zoo's own library says of the packages of the networks that come along.

    python tools/zoo_report.py

Each is exported by the command, tested by bioimageio.core with all weights, and run by ONNX
Runtime on an image of 512 x 512 pixels beside `unet-np segment`, whole and by its left half alone.
Minutes. The result goes to results/zoo.json.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from bioimageio.core import test_model

from unet_np import pretrained
from unet_np.cli import main as command
from unet_np.data.synthetic import synthetic_cells, synthetic_em
from unet_np.experiments.protocol import write_json
from unet_np.experiments.provenance import provenance
from unet_np.images import normalise
from unet_np.tasks.segmentation import segment

RESULTS = Path(__file__).resolve().parent.parent / "results"
HALF, FAR = 256, 128
"""Where the image is cut, and how far from there what is compared ends: beyond every margin."""


def image_of(name: str) -> np.ndarray:
    """An image that the network can make sense of."""
    modality = {"u373": "phase", "hela": "dic"}.get(name)
    return synthetic_cells(512, modality=modality)[0] if modality else synthetic_em(512)[0]


def by_onnx(path: Path, image: np.ndarray) -> np.ndarray:
    """Probabilities (K, H, W) of a normalised image by the package's ONNX file alone."""
    with zipfile.ZipFile(path) as archive:
        content = archive.read("weights.onnx")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": np.ascontiguousarray(image[None, None])})
    return found[0]


def tried(name: str, path: Path) -> dict[str, Any]:
    """The report on one network."""
    assert command(["export", "--model", name, "--bioimageio", str(path), "-q"]) == 0
    summary = test_model(path)
    image = image_of(name)
    ready = normalise(image)
    whole = by_onnx(path, ready)
    expected = segment(pretrained.load(name, backend="numpy"), image).probabilities
    part = by_onnx(path, ready[:, :HALF])[:, :, : HALF - FAR]
    return {
        "norm": pretrained.load(name, backend="numpy").architecture.norm,
        "status": summary.status,
        "tests": [
            {"weights": detail.loc[1], "name": detail.name, "status": detail.status}
            for detail in summary.details
            if detail.loc[:1] == ("weights",)
        ],
        "megabytes": path.stat().st_size / 1e6,
        "segment_difference": float(np.abs(whole - expected).max()),
        "part_difference": float(np.abs(part - whole[:, :, : HALF - FAR]).max()),
    }


def main() -> int:
    """Test all and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        reports = {
            name: tried(name, Path(folder, f"{name}.zip")) for name in pretrained.available()
        }
    result = {
        **provenance([]),
        "command": "python tools/zoo_report.py",
        "bioimageio": {name: version(f"bioimageio.{name}") for name in ("core", "spec")},
        "networks": reports,
    }
    write_json(RESULTS / "zoo.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
