"""Write whether the cells of a shipped network are too large or too small, for Table 2.

    unet-np segment DIC-C2DH-HeLa/02 -o found --model hela --instances
    UNET_NP_DATA=... python tools/rims.py hela found

Compares the cells that the command numbered with those that a person drew, on the annotated test
frames that lie in the folder. Only cells that are found count, neither split nor merged. The result
goes to results/NAME-rims.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np import data
from unet_np.experiments.protocol import write_json
from unet_np.experiments.provenance import provenance
from unet_np.images import read_image
from unet_np.metrics import Outcome, match_objects

RESULTS = Path(__file__).resolve().parent.parent / "results"


def outwards(drawn: np.ndarray, found: np.ndarray) -> float:
    """How many pixels the rim of one mask lies outside of the other, the median along it.

    Examples
    --------
    >>> drawn, found = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    >>> drawn[2:7, 2:7], found[1:8, 1:8] = True, True
    >>> outwards(drawn, found), outwards(found, drawn)
    (1.0, -1.0)
    """
    inside, outside = (scipy.ndimage.distance_transform_edt(m) for m in (drawn, ~drawn))
    rim = found & ~scipy.ndimage.binary_erosion(found, border_value=1)
    return float(np.median(np.where(drawn, 1 - inside, outside)[rim]))


def rims(drawn: np.ndarray, found: np.ndarray) -> list[dict[str, float]]:
    """Of each cell of a frame that is found: area beside the drawn one, and where its rim lies."""
    rows = []
    for one in match_objects(drawn, found):
        if one.outcome is not Outcome.FOUND:
            continue
        a, b = drawn == one.label, found == one.matched
        either = (a | b).sum()
        rows.append(
            {
                "area": float(b.sum() / a.sum()),
                "outwards": outwards(a, b),
                "left_out": float((a & ~b).sum() / either),
                "too_much": float((b & ~a).sum() / either),
            }
        )
    return rows


def main() -> int:
    """Compare all frames that are there and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("u373", "hela"))
    parser.add_argument("found", type=Path)
    args = parser.parse_args()
    frames, rows, used = data.load(args.name, split="02", download=False), [], []
    assert frames.instances is not None
    for name, drawn in zip(frames.ids, frames.instances, strict=True):
        file = args.found / f"t{name.rpartition('/')[2]}-instances.tif"
        if file.is_file():
            rows += rims(drawn, read_image(file))
            used.append(name)
    if not rows:
        print(f"found: got {args.found}, expected t...-instances.tif", file=sys.stderr)
        return 2
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    result: dict[str, Any] = {
        **provenance([]),
        "command": f"python tools/rims.py {args.name} FOUND",
        "frames": used,
        "cells": len(rows),
        "quartiles": {
            key: np.quantile(values, (0.25, 0.5, 0.75)).tolist() for key, values in columns.items()
        },
        "mean": {key: float(np.mean(values)) for key, values in columns.items()},
        "larger": int(np.sum(np.array(columns["area"]) > 1)),
    }
    write_json(RESULTS / f"{args.name}-rims.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
