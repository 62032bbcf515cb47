"""Make the front page's picture of the EM data: a slice beside its labels, from the real stack.

    UNET_NP_DATA=... python tools/example_pictures.py

The book shows the stored picture, so that it can be read and built without the data. The shipped EM
network has not seen its slice in training.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from unet_np.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
HELD_OUT = 26


def em_slice(folder: Path, number: int = HELD_OUT, size: int = 320) -> Image.Image:
    """The upper left part of a training slice, and the same part of its labels."""
    parts = [
        np.asarray(Image.open(folder / "isbi2012" / "train" / kind / f"{number}.png"))
        for kind in ("image", "label")
    ]
    gap = np.full((size, 8), 255, np.uint8)
    return Image.fromarray(np.hstack([parts[0][:size, :size], gap, parts[1][:size, :size]]))


def main() -> int:
    """Write the picture from the folder that UNET_NP_DATA names."""
    folder = os.environ.get("UNET_NP_DATA")
    if not folder or not Path(folder, "isbi2012").is_dir():
        print("UNET_NP_DATA: expected a folder with isbi2012 in it", file=sys.stderr)
        return 2
    with atomic_write(ROOT / "results" / "em-held-out.png") as temporary:
        em_slice(Path(folder)).save(temporary, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
