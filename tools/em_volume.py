"""Write what becomes of cells between the slices of the EM stack, where they are joined by overlap.

    python tools/em_volume.py

That is what a 2-D network leaves to its user, for the section on three dimensions. The cells are
those of the labels, and those that the shipped network finds in the slices that it was tested on.
Needs the data set isbi2012; a minute. The result goes to results/em-volume.json.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from unet_np import data, pretrained
from unet_np.experiments.protocol import write_json
from unet_np.experiments.provenance import provenance
from unet_np.metrics.components import components, contingency
from unet_np.metrics.isbi.pairs import foreground_pairs
from unet_np.tasks.segmentation import segment

RESULTS = Path(__file__).resolve().parent.parent / "results"
TEST = range(26, 30)
"""The slices that the shipped network was tested on."""

RULES = ("any", "half", "best")
"""Joined are cells that share a pixel; half of the smaller one; or more with each other than with
any third, and half of what the two cover."""


def shared(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that each cell of a slice shares with each of the next, and the sizes of both."""
    counts = contingency(first, second).toarray().astype(float)
    return counts[1:, 1:], counts[1:].sum(1), counts[:, 1:].sum(0)


def joined(first: np.ndarray, second: np.ndarray, rule: str) -> np.ndarray:
    """Which cells of a slice and the next are taken for one: bool, (cells, cells of the next)."""
    both, here, there = shared(first, second)
    if rule == "any":
        return both > 0
    if rule == "half":
        return both >= 0.5 * np.minimum.outer(here, there)
    union = np.add.outer(here, there) - both
    best = (both == both.max(1, keepdims=True)) & (both == both.max(0, keepdims=True))
    return best & (both >= 0.5 * union)


def numbered(cells: np.ndarray) -> list[np.ndarray]:
    """The cells of each slice, 4-connected, 1, 2, ..."""
    return [components(one.astype(bool))[0] for one in cells]


def objects(slices: list[np.ndarray], rule: str) -> np.ndarray:
    """(N, H, W): the number of the object in three dimensions that each pixel belongs to."""
    starts = np.cumsum([0, *(int(one.max()) for one in slices)])
    pairs = [
        np.argwhere(joined(first, second, rule)) + starts[k : k + 2]
        for k, (first, second) in enumerate(pairwise(slices))
    ]
    rows, columns = np.concatenate([np.zeros((0, 2), int), *pairs]).T
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns)), (starts[-1], starts[-1]))
    _, names = sparse.csgraph.connected_components(graph, directed=False)
    names = np.concatenate([[0], names + 1])
    return np.stack(
        [
            names[np.where(one > 0, one + start, 0)]
            for one, start in zip(slices, starts[:-1], strict=True)
        ]
    )


def rand(truth: np.ndarray, found: np.ndarray) -> float:
    """The challenge's Rand error, over all pixels at once."""
    counts, _ = foreground_pairs(contingency(truth, found))
    return 1 - 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)


def persistence(slices: list[np.ndarray]) -> dict[str, float]:
    """How many cells are found again in the next slice, by number and by area."""
    again = [joined(a, b, "best").any(1) for a, b in pairwise(slices)]
    sizes = [np.bincount(one.ravel())[1:] for one in slices[:-1]]
    kept, size = np.concatenate(again), np.concatenate(sizes)
    return {
        "cells_in_a_slice": float(np.mean([one.max() for one in slices])),
        "share_of_cells": float(kept.mean()),
        "share_of_pixels": float(size[kept].sum() / size.sum()),
    }


def of_rule(slices: list[np.ndarray], rule: str) -> dict[str, float]:
    """Number and size of the objects of the whole stack."""
    volume = objects(slices, rule)
    sizes = np.bincount(volume.ravel())[1:]
    spans = np.zeros(len(sizes), int)
    for one in volume:
        spans[np.unique(one[one > 0]) - 1] += 1
    order = np.argsort(spans)
    half = np.searchsorted(np.cumsum(sizes[order]), sizes.sum() / 2)
    return {
        "objects": len(sizes),
        "largest_share": float(sizes.max() / sizes.sum()),
        "in_one_slice_only": float(np.mean(spans == 1)),
        "slices_of_half_the_pixels": int(spans[order][half]),
    }


def growth(truth: list[np.ndarray], found: list[np.ndarray]) -> list[dict[str, float]]:
    """The Rand error of 1, 2, ... slices as one volume, a mean over all such parts of the stack."""
    rows = []
    for count in range(1, len(truth) + 1):
        parts = [slice(k, k + count) for k in range(len(truth) - count + 1)]
        rows.append(
            {"slices": count}
            | {
                rule: float(
                    np.mean([rand(objects(truth[p], rule), objects(found[p], rule)) for p in parts])
                )
                for rule in RULES
            }
        )
    return rows


def main() -> int:
    """Join, score, and write the file."""
    stack = data.load("isbi2012", download=False)
    assert stack.labels is not None
    slices = numbered(stack.labels)
    net = pretrained.load("em", backend="numpy")
    found = numbered(np.stack([segment(net, stack.images[k]).labels for k in TEST]))
    truth = [slices[k] for k in TEST]
    result: dict[str, Any] = {
        **provenance([]),
        "command": "python tools/em_volume.py",
        "voxel_nm": [50, 4, 4],
        "labels": {
            "slices": len(slices),
            **persistence(slices),
            "joined": {rule: of_rule(slices, rule) for rule in RULES},
        },
        "network": {"slices": list(TEST), "rand_error": growth(truth, found)},
    }
    write_json(RESULTS / "em-volume.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
