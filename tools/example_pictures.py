"""Make the book's pictures of real data: images beside what a person drew, from the data sets.

    UNET_NP_DATA=... python tools/example_pictures.py

The book shows the stored pictures, so that it can be read and built without the data. The shipped
networks have not seen these images in training.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from unet_np import data
from unet_np.data import Dataset
from unet_np.experiments.pictures import montage
from unet_np.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
HELD_OUT = 26
FRAMES = ("02/020", "02/077")  # a person drew every cell that is to be seen


def em_slice(folder: Path, number: int = HELD_OUT, size: int = 320) -> Image.Image:
    """The upper left part of a training slice, and the same part of its labels."""
    parts = [
        np.asarray(Image.open(folder / "isbi2012" / "train" / kind / f"{number}.png"))
        for kind in ("image", "label")
    ]
    gap = np.full((size, 8), 255, np.uint8)
    return Image.fromarray(np.hstack([parts[0][:size, :size], gap, parts[1][:size, :size]]))


def cell_frames(cells: Dataset, names: tuple[str, ...] = FRAMES) -> Image.Image:
    """Frames of PhC-U373 in one row, the cells that a person drew in the next."""
    numbers = [cells.ids.index(name) for name in names]
    if cells.unknown is not None and cells.unknown[numbers].any():
        raise ValueError(f"frames: got {names} with unknown pixels, expected none")
    images = [cells.images[number] for number in numbers]
    assert cells.labels is not None
    drawn = [255 * cells.labels[number].astype(np.uint8) for number in numbers]
    rows = [[np.repeat(one[..., None], 3, -1) for one in row] for row in (images, drawn)]
    return Image.fromarray(montage(rows)).convert("L")


def about_cells(cells: Dataset) -> dict[str, object]:
    """What stands beside the frames: the share of the cells where the network learned."""
    text = (ROOT / "results" / "u373-norm-01-to-02.json").read_text(encoding="utf-8")
    # Balanced, they say what share it was; the copies in which cells are brought together count.
    weights = json.loads(text)["class_weights"]
    return {
        "command": "UNET_NP_DATA=... python tools/example_pictures.py",
        "frames": list(FRAMES),
        "training_cell_share": weights["background"] / sum(weights.values()),
        "citation": cells.citation,
    }


def main() -> int:
    """Write the pictures from the folder that UNET_NP_DATA names."""
    folder = os.environ.get("UNET_NP_DATA")
    if not folder or not Path(folder, "isbi2012").is_dir():
        print("UNET_NP_DATA: expected a folder with isbi2012 in it", file=sys.stderr)
        return 2
    with atomic_write(ROOT / "results" / "em-held-out.png") as temporary:
        em_slice(Path(folder)).save(temporary, optimize=True)
    cells = data.load("u373")
    with atomic_write(ROOT / "results" / "u373-held-out.png") as temporary:
        cell_frames(cells).save(temporary, optimize=True)
    with atomic_write(ROOT / "results" / "u373-held-out.json") as temporary:
        text = json.dumps(about_cells(cells), indent=2) + "\n"
        temporary.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
