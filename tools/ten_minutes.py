"""Time the ten-minute box of the chapter on own data: ten real images, and its commands.

    UNET_NP_DATA=... python tools/ten_minutes.py FOLDER

FOLDER then holds the ten images of nuclei (Caicedo et al. 2019), their masks and what the commands
made; `results/ten-minutes.json` the times and scores, `results/ten-minutes.png` the two images kept
aside, with the outlines that were found, and `results/ten-minutes-apart.png` a corner of the first:
the image, the nuclei found by one threshold and those found by two.
"""

from __future__ import annotations

import itertools
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from unet_np import data
from unet_np.cli import main as unet_np
from unet_np.experiments.nuclei.scores import otsu_nuclei
from unet_np.experiments.pictures import grey, montage, outlines, paint
from unet_np.experiments.provenance import machine
from unet_np.files import atomic_write
from unet_np.images import read_image, write_png, write_tiff
from unet_np.images.colours import coloured
from unet_np.metrics import seg_measure
from unet_np.tasks.segmentation import grown_instances

RESULTS = Path(__file__).resolve().parent.parent / "results"
EVERY = 9  # of the 90 images
HELD_OUT = (8, 9)
GROUPS = {"learned from": range(6), "to stop": (6, 7), "kept aside": HELD_OUT, "all": range(10)}
CORNER = np.s_[100:230, 0:174]  # where neighbours touch in image 8
SETTINGS = """\
images = "images"
masks = "masks"
out = "run"
start = "em"          # begin from the network on the front page,
base_channels = 16    # which has these
validation = "6-7"    # used to decide when to stop
exclude = "8-9"       # kept aside for the score
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
PAIRS = tuple(itertools.product((0.8, 0.9, 0.95), (0.5, 0.6, 0.7)))
MIN_AREA = 30


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
    copy(folder / "found", folder / "found-unseen", HELD_OUT)


def copy(source: Path, target: Path, numbers: Iterable[int]) -> None:
    """The files of some images, to a folder of their own."""
    target.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        for file in source.glob(f"nuclei_{number:02}*"):
            shutil.copy(file, target)


def scored(folder: Path, found: str) -> dict[str, dict[str, float]]:
    """IoU, SEG and the numbers of nuclei for each group of images."""
    groups = {}
    for number, (name, images) in enumerate(GROUPS.items()):
        some = folder / "groups" / f"{found}-{number}"
        for side in (found, "masks"):
            copy(folder / side, some / side, images)
        sides = [str(some / found), str(some / "masks")]
        out = some / "scores.json"
        # Otsu's cells are numbers, not probabilities: of these there is no IoU.
        metrics = ["seg_measure"] if found == "otsu" else ["iou", "seg_measure"]
        unet_np(["evaluate", *sides, "--metrics", *metrics, "--json", str(out), "-q"])
        scores = json.loads(out.read_text(encoding="utf-8"))["scores"]
        groups[name] = {metric: value["value"] for metric, value in scores.items()}
        groups[name]["found"] = nuclei((some / found).glob("*-instances.tif"))
        groups[name]["drawn"] = nuclei((some / "masks").glob("*.png"))
    return groups


def tried(folder: Path) -> list[dict[str, float]]:
    """SEG of the images held out, averaged, by each pair of seeds and threshold."""
    rows = []
    for seeds, threshold in PAIRS:
        scores = []
        for number in GROUPS["to stop"]:
            name = f"nuclei_{number:02}"
            inside = read_image(folder / "found" / f"{name}-probabilities.tif")
            cells, _ = grown_instances(inside, seeds, threshold, min_area=MIN_AREA)
            scores.append(seg_measure(cells, read_image(folder / "masks" / f"{name}.png")))
        rows.append({"seeds": seeds, "threshold": threshold, "seg": float(np.mean(scores))})
    return rows


def tell_apart(folder: Path, pair: dict[str, float]) -> str:
    """Segment once more, by the two thresholds; the command."""
    two = f"--seeds {pair['seeds']} --threshold {pair['threshold']} -o apart"
    command = COMMANDS[1].replace("-o found", two)
    timed(folder, command)
    return f"unet-np {command}"


def without_learning(folder: Path) -> None:
    """The nuclei that Otsu's threshold finds, in a folder beside those of the network."""
    for file in sorted((folder / "images").iterdir()):
        cells = otsu_nuclei(read_image(file), MIN_AREA).astype(np.uint16)
        write_tiff(folder / "otsu" / f"{file.stem}-instances.tif", cells)


def nuclei(files: Iterable[Path]) -> int:
    """How many are numbered in some files."""
    return sum(len(np.unique(read_image(file))) - 1 for file in files)


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


def corner(folder: Path) -> Image.Image:
    """A part of image 8, four times as large: itself, one threshold, two."""
    name = f"nuclei_{HELD_OUT[0]:02}"
    row = [grey(read_image(folder / "images" / f"{name}.png"))[CORNER]]
    for found in ("found", "apart"):
        labels = read_image(folder / found / f"{name}-instances.tif")[CORNER]
        row.append(np.array(coloured(labels)))
    return Image.fromarray(montage([[panel.repeat(4, 0).repeat(4, 1) for panel in row]]))


def main() -> int:
    """Do all of it."""
    folder = Path(sys.argv[1])
    lay_out(folder)
    steps = []
    for command in COMMANDS:
        if command.startswith("evaluate"):
            separate_unseen(folder)
        steps.append(timed(folder, command))
    pairs = tried(folder)
    apart = tell_apart(folder, max(pairs, key=lambda pair: pair["seg"]))
    without_learning(folder)
    written = {
        "command": "UNET_NP_DATA=... python tools/ten_minutes.py FOLDER",
        "machine": machine(),
        "settings": SETTINGS,
        "images": [EVERY * number for number in range(10)],
        "steps": steps,
        "scores": {found: scored(folder, found) for found in ("found", "apart", "otsu")},
        "apart": apart,
        "tried": pairs,
        "citation": data.info("dsb2018").citation,
    }
    with atomic_write(RESULTS / "ten-minutes.json") as temporary:
        temporary.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    with atomic_write(RESULTS / "ten-minutes.png") as temporary:
        picture(folder).save(temporary, optimize=True)
    with atomic_write(RESULTS / "ten-minutes-apart.png") as temporary:
        corner(folder).save(temporary, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
