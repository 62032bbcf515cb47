"""Write how much the slices of the EM stack resemble each other, for the chapter on Table 1.

    python tools/em_neighbours.py

The label of one slice is scored as if it were the segmentation of another one. That is what a
method which has seen a neighbour of the slice could do without having learnt anything. Needs the
data set isbi2012; seconds. The result goes to results/em-neighbours.json.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import data
from unet_np.experiments.protocol import write_json
from unet_np.experiments.provenance import provenance
from unet_np.metrics import pixel_error, rand_error

RESULTS = Path(__file__).resolve().parent.parent / "results"


def by_distance(labels: np.ndarray) -> list[dict[str, float]]:
    """Mean errors of the label of slice k + d as the segmentation of slice k."""
    rows = []
    for distance in range(1, len(labels)):
        pairs = list(zip(labels[:-distance], labels[distance:], strict=True))
        rows.append(
            {
                "distance": distance,
                "pairs": len(pairs),
                "rand_error": float(np.mean([rand_error(a, b, 0.5) for a, b in pairs])),
                "pixel_error": float(np.mean([pixel_error(a, b, 0.5) for a, b in pairs])),
            }
        )
    return rows


def next_slice(images: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """Of each slice and the next: the correlation of the images and the errors of the label."""
    return [
        {
            "first": k,
            "image_correlation": float(np.corrcoef(images[k].ravel(), images[k + 1].ravel())[0, 1]),
            "rand_error": rand_error(labels[k], labels[k + 1], 0.5),
            "pixel_error": pixel_error(labels[k], labels[k + 1], 0.5),
        }
        for k in range(len(labels) - 1)
    ]


def main() -> int:
    """Score all pairs and write the file."""
    stack = data.load("isbi2012", download=False)
    assert stack.labels is not None
    hashes = {
        name: hashlib.sha256(array.tobytes()).hexdigest()
        for name, array in (("images", stack.images), ("labels", stack.labels))
    }
    result: dict[str, Any] = {
        **provenance([]),
        "command": "python tools/em_neighbours.py",
        "data": {"name": stack.name, "sha256": hashes},
        "by_distance": by_distance(stack.labels),
        "next_slice": next_slice(stack.images, stack.labels),
    }
    write_json(RESULTS / "em-neighbours.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
