"""A Sphinx extension: what the page "The network in your browser" loads when it is asked to.

When the pages are written, the weights that come with the package and the sample pictures of
``book/images/live`` become scripts in ``_static/widgets/live``. A page that is opened from a folder
may load a script and no other file, and nothing has to be stored twice.

    UNET_NP_DATA=... python tools/book_live.py        # makes the sample pictures from the data
"""

from __future__ import annotations

import base64
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from unet_np import Architecture
from unet_np.files import atomic_write
from unet_np.pretrained import available, load, path

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SAMPLES = Path(__file__).resolve().parent.parent / "book" / "images" / "live"

# Images that no network here was trained on: the file, and how many rows and columns of it.
CUTS = {
    "em": ("isbi2012/test/0.png", (384, 384)),
    "hela": ("DIC-C2DH-HeLa/02/t014.tif", (512, 512)),
    "u373": ("PhC-C2DH-U373/02/t020.tif", (520, 696)),
}


def table(architecture: Architecture) -> dict[str, Any]:
    """The layers and the sizes of a network, under the names that they have in the package."""
    names = ("margin", "size_step", "min_input_size")
    sizes = {name: getattr(architecture, name) for name in names}
    return {"layers": [asdict(layer) for layer in architecture.layers], **sizes}


def weights_script(name: str) -> str:
    """The network of that name: its table, and its file of weights as base64."""
    architecture = load(name, backend="numpy").architecture
    value = {"table": table(architecture), "weights": _base64(path(name))}
    return _script(f"weights/{name}", value)


def sample_script(picture: Path) -> str:
    """A sample picture as base64, with what the JSON file beside it says of it."""
    about = json.loads(picture.with_suffix(".json").read_text(encoding="utf-8"))
    return _script(f"samples/{picture.stem}", {**about, "picture": _base64(picture)})


def write(folder: Path) -> list[Path]:
    """Write every script to ``folder``, the page's ``live``, unless a newer one is there."""
    written = [_write(folder / "weights" / f"{name}.js", path(name)) for name in available()]
    return written + [
        _write(folder / "samples" / f"{picture.stem}.js", picture)
        for picture in sorted(SAMPLES.glob("*.png"))
    ]


def _write(target: Path, source: Path) -> Path:
    sources = (source, source.with_suffix(".json"), Path(__file__))
    newest = max(file.stat().st_mtime for file in sources if file.is_file())
    if not target.is_file() or target.stat().st_mtime < newest:
        target.parent.mkdir(parents=True, exist_ok=True)
        script = sample_script(source) if source.suffix == ".png" else weights_script(source.stem)
        with atomic_write(target) as temporary:
            temporary.write_text(script, encoding="ascii")
    return target


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode("ascii")


def _script(name: str, value: dict[str, Any]) -> str:
    return f"window.unetWidgets.live.receive({json.dumps(name)}, {json.dumps(value)});\n"


def _at_the_end(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        write(Path(app.outdir) / "_static" / "widgets" / "live")


def make_samples(data: Path) -> None:
    """Store the sample pictures, without loss, from the folder of the data."""
    SAMPLES.mkdir(exist_ok=True)
    for name, (file, (height, width)) in CUTS.items():
        with Image.open(data / file) as image:
            picture = Image.fromarray(np.asarray(image)[:height, :width])
        with atomic_write(SAMPLES / f"{name}.png") as temporary:
            picture.save(temporary, format="PNG", optimize=True)


def main() -> int:
    """Make the sample pictures from the folder that UNET_NP_DATA names."""
    folder = os.environ.get("UNET_NP_DATA")
    if not folder or not Path(folder, "isbi2012").is_dir():
        print("UNET_NP_DATA: expected a folder with isbi2012 in it", file=sys.stderr)
        return 2
    make_samples(Path(folder))
    return 0


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("build-finished", _at_the_end)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main())
