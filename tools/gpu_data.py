"""The annotated frames that `python -m bench gpu` learns from, for a machine with little room.

UNET_NP_DATA=... python tools/gpu_data.py FOLDER     # then UNET_NP_DATA=FOLDER on that machine
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from unet_np.data import cache
from unet_np.data.catalogue import info


def annotated(names: list[str]) -> list[str]:
    """Of the files of a data set: frames with their cells and markers, or the stack with labels.

    >>> annotated(["01/t001.tif", "01/t002.tif", "01_GT/SEG/man_seg002.tif"])
    ['01/t002.tif', '01_GT/SEG/man_seg002.tif']
    >>> annotated(["train/volume.tif", "test/volume.tif"])
    ['train/volume.tif']
    """
    wanted = {name for name in names if name.startswith("train/")}
    for name in names:
        sequence, _, file = name.partition("_GT/SEG/man_seg")
        if file:
            frame = file.removesuffix(".tif")
            wanted |= {name, f"{sequence}/t{frame}.tif", f"{sequence}_GT/TRA/man_track{frame}.tif"}
    return [name for name in names if name in wanted]


def main(target: Path) -> None:
    """Copy them, and say how much they are."""
    size = 0
    for name in ("isbi2012", "u373", "hela"):
        folder = info(name).folder or ""
        for file in annotated(list(cache.files(name))):
            place = target / folder / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cache.cache_folder() / folder / file, place)
            size += place.stat().st_size
    print(f"{size / 2**20:.1f} MiB in {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
