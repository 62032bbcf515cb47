"""Make the pictures of the clickable Fig. 1: a few channels of every feature map, on one slice.

    python tools/feature_maps.py                         # random weights of seed 0
    python tools/feature_maps.py --weights unet_np/pretrained/em.safetensors

The slice is the first of the EM stack where it is at hand, and a synthetic one otherwise.
The pictures and what they show go to book/_static/widgets/maps.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from unet_np import UNet, data
from unet_np.files import atomic_write
from unet_np.images import normalise
from unet_np.network.layer import Layer

MAPS = Path(__file__).resolve().parent.parent / "book" / "_static" / "widgets" / "maps"
SIDE = 96  # pixels of a picture's channel
SHOWN = 4  # channels of a map that are shown


def boxes(net: UNet, x: np.ndarray) -> dict[str, tuple[Image.Image, list[int]]]:
    """Pictures of the feature maps in Fig. 1's boxes, by the name of the layer."""
    run, seen = net.begin_pass(), {}
    for layer in net.architecture.layers:
        x = run.forward(layer, x)
        if is_box(layer):
            seen[layer.name] = mosaic(x[0], halves=layer.kind == "crop_concat")
    return seen


def is_box(layer: Layer) -> bool:
    """Whether Fig. 1 draws a box for the layer's output."""
    return layer.kind in ("relu", "pool", "crop_concat") or layer.name == "output"


def mosaic(maps: np.ndarray, halves: bool = False) -> tuple[Image.Image, list[int]]:
    """The most active channels, side by side; of two halves, as many from each."""
    # What a channel says lies in how much it varies over the image: many are black for good.
    order = np.argsort(-maps.std(axis=(1, 2)), kind="stable")
    parts = [order[order < len(maps) // 2], order[order >= len(maps) // 2]] if halves else [order]
    chosen = [channel for part in parts for channel in part[: SHOWN // len(parts)]]
    tiles = [np.asarray(picture(maps[channel])) for channel in chosen]
    gap = np.full((SIDE, 4), 255, np.uint8)
    row = [part for tile in tiles for part in (tile, gap)][:-1]
    return Image.fromarray(np.hstack(row)), [len(chosen), len(maps)]


def picture(channel: np.ndarray) -> Image.Image:
    """One channel from black to white, between its 1st and its 99th percentile."""
    low, high = np.percentile(channel, (1, 99))
    grey = np.clip((channel - low) / max(high - low, 1e-9), 0, 1)
    how = Image.Resampling.BOX if channel.shape[0] > SIDE else Image.Resampling.NEAREST
    return Image.fromarray((255 * grey).astype(np.uint8)).resize((SIDE, SIDE), how)


def slice_and_words() -> tuple[np.ndarray, str]:
    """A slice of 512 x 512 pixels, and what it is."""
    chosen = data.load_default(count=1, size=512)
    real = chosen.name == "isbi2012"
    words = "the first slice of the EM stack (Cardona et al. 2010)" if real else "a synthetic slice"
    return normalise(np.squeeze(chosen.images[0])), words


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures and `about.js`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", help="a .safetensors file of this package")
    chosen = parser.parse_args(arguments)
    image, words = slice_and_words()
    net = UNet.load(chosen.weights) if chosen.weights else UNet()
    size = net.architecture.nearest_input_sizes(572)[0]
    margin = (size - image.shape[0]) // 2
    padded = np.pad(image, margin, mode="reflect")[None, None].astype(net.dtype)
    seen = {"input": mosaic(image[None])} | boxes(net, padded)
    MAPS.mkdir(exist_ok=True)
    for name, (made, _) in seen.items():
        with atomic_write(MAPS / f"{name}.webp") as temporary:
            made.save(temporary, format="WEBP", quality=50, method=6)
    state = "a trained" if chosen.weights else "an untrained"
    first = net.architecture.base_channels
    size = "" if first == 64 else f" with {first} channels in its first block instead of 64"
    about = {
        "words": f"The sizes are the paper's. The pictures are those of {state} network{size}, "
        f"which was given {words}.",
        "shown": {name: counts for name, (_, counts) in seen.items()},
    }
    with atomic_write(MAPS / "about.js") as temporary:
        text = json.dumps(about, indent=2)
        temporary.write_text(
            f"// Written by tools/feature_maps.py.\nwindow.unetWidgets.maps = {text};\n",
            encoding="utf-8",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
