"""Time the ten-minute box of the chapter on own data: ten real images, and its commands.

    UNET_NP_DATA=... python tools/ten_minutes.py FOLDER

FOLDER then holds the ten images of nuclei (Caicedo et al. 2019), their masks and what the commands
made; `results/ten-minutes.json` the times and scores, and `results/ten-minutes.png` the two images
that nothing was learned from, with the outlines that were found.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from unet_np import data
from unet_np.experiments.pictures import grey, montage, outlines, paint
from unet_np.experiments.provenance import machine
from unet_np.files import atomic_write
from unet_np.images import read_image, write_png

RESULTS = Path(__file__).resolve().parent.parent / "results"
EVERY = 9  # of the 90 images
HELD_OUT = (8, 9)
SETTINGS = """\
images = "images"
masks = "masks"
out = "run"
start = "em"          # begin from the network on the front page,
base_channels = 16    # which has these
validation = "6-7"    # to stop by
exclude = "8-9"       # to score: nothing is chosen on these
input_size = 300
steps = 200
learning_rate = 0.01
momentum = 0.9
validate_every = 20
patience = 5

[augmentation]
sigma = 5.2           # the paper's 10 pixels, for a tile of this size
"""
COMMANDS = (
    "train --config cells.toml -q",
    "segment images --weights run --instances --min-area 30 -o found -q",
    "evaluate found-unseen masks-unseen --metrics iou seg_measure --json scores.json -q",
)


def lay_out(folder: Path) -> None:
    """Write ten images, their masks and the settings."""
    nuclei = data.load("dsb2018")
    assert nuclei.instances is not None
    for number in range(10):
        name = f"nuclei_{number:02}.png"
        write_png(folder / "images" / name, nuclei.images[EVERY * number])
        cells = nuclei.instances[EVERY * number].astype(np.uint16)
        write_png(folder / "masks" / name, cells)
        if number in HELD_OUT:
            write_png(folder / "masks-unseen" / name, cells)
    (folder / "cells.toml").write_text(SETTINGS, encoding="utf-8")


def timed(folder: Path, command: str) -> dict[str, float | str]:
    """Run a command there; seconds on the clock, and of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [sys.executable, "-m", "unet_np", *command.split()]
    subprocess.run(words, cwd=folder, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = time.perf_counter() - start
    return {"command": f"unet-np {command}", "seconds": seconds, "processor_seconds": used}


def separate_unseen(folder: Path) -> None:
    """Copy the results of the images that nothing was learned from."""
    (folder / "found-unseen").mkdir(exist_ok=True)
    for number in HELD_OUT:
        for file in (folder / "found").glob(f"nuclei_{number:02}*"):
            shutil.copy(file, folder / "found-unseen")


def picture(folder: Path) -> Image.Image:
    """Both unseen images; outlines of a person in blue, of the network in orange."""
    row = []
    for number in HELD_OUT:
        image = read_image(folder / "images" / f"nuclei_{number:02}.png")
        drawn = read_image(folder / "masks" / f"nuclei_{number:02}.png")
        found = read_image(folder / "found" / f"nuclei_{number:02}-instances.tif")
        shown = paint(grey(image), outlines(drawn, 1), (86, 180, 233))
        row.append(paint(shown, outlines(found, 1), (230, 159, 0)))
    return Image.fromarray(montage([row]))


def main() -> int:
    """Do all of it."""
    folder = Path(sys.argv[1])
    lay_out(folder)
    steps = []
    for command in COMMANDS:
        if command.startswith("evaluate"):
            separate_unseen(folder)
        steps.append(timed(folder, command))
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["scores"]
    written = {
        "command": "UNET_NP_DATA=... python tools/ten_minutes.py FOLDER",
        "machine": machine(),
        "settings": SETTINGS,
        "images": [EVERY * number for number in range(10)],
        "steps": steps,
        "scores": {name: value["value"] for name, value in scores.items()},
        "citation": data.info("dsb2018").citation,
    }
    with atomic_write(RESULTS / "ten-minutes.json") as temporary:
        temporary.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    with atomic_write(RESULTS / "ten-minutes.png") as temporary:
        picture(folder).save(temporary, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
