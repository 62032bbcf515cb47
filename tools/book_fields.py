"""A Sphinx extension: what the widget on the receptive field shows.

When the pages are written, the shipped EM network and one with drawn weights are asked, for a grid
of output pixels on a slice, how strongly each pixel of the image pulls at the answer. The maps
become a script in ``_static/widgets/field``, for a page opened from a folder may load scripts only.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from unet_np import UNet, data, pretrained
from unet_np.files import atomic_write
from unet_np.images import normalise
from unet_np.notebook import result_panels

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SIDE = 316  # pixels of the image
APART = 12  # from one output pixel to the next; phases of the pooling grid alternate
BIN = 4  # pixels of the image in a pixel of a map
WIDEST = 204  # pixels that one output pixel sees at most


def picture() -> np.ndarray:
    """The slice of the front page, which the EM network has not learned from."""
    panels = result_panels("em-held-out", rows=1, columns=2)
    image = (
        panels[0][0][..., 0]
        if panels
        else data.load("synthetic-em", count=1, size=SIDE).images.squeeze()
    )
    return np.asarray(image)[:SIDE, :SIDE]


def gradient(net: UNet, image: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """Size of the gradient of an output pixel (cell minus membrane), within its field."""
    (top, bottom), (left, right) = (net.architecture.receptive_field(n) for n in place)
    window = image[top : bottom + 1, left : right + 1][None, None]
    asked = np.zeros_like(net.forward(window, keep=True))
    asked[0, :, place[0] - top, place[1] - left] = -1, 1
    grad = net.backward(asked)
    assert grad is not None
    return np.abs(grad[0, 0])


def sides(grad: np.ndarray, centre: tuple[int, int], shares: tuple[float, ...]) -> list[int]:
    """Of the smallest squares around a pixel that hold these shares of the gradient, the sides."""
    rows, columns = (np.abs(np.arange(n) - c) for n, c in zip(grad.shape, centre, strict=True))
    distance = np.maximum(rows[:, None], columns)
    held = np.bincount(distance.ravel(), grad.ravel()).cumsum() / grad.sum()
    return [2 * int(np.searchsorted(held, share)) + 1 for share in shares]


def fields(apart: int = APART) -> dict[str, Any]:
    """All that the widget shows; `apart` pixels lie between one output pixel and the next."""
    image, trained = picture(), pretrained.load("em", backend="numpy")
    table = trained.architecture
    places = list(range(0, table.output_size(SIDE), apart))
    x = normalise(image).astype(trained.dtype)
    drawn = UNet(base_channels=table.base_channels, dropout=0, backend="numpy")
    return {
        "side": SIDE,
        "bin": BIN,
        "widest": WIDEST,
        "margin": table.margin // 2,
        "places": places,
        "spans": [table.receptive_field(place) for place in places],
        "picture": _base64(_jpeg(image)),
        "networks": {
            name: _maps(net, x, places) for name, net in (("trained", trained), ("drawn", drawn))
        },
    }


def _maps(net: UNet, image: np.ndarray, places: list[int]) -> dict[str, Any]:
    half, maps, widths = net.architecture.margin // 2, [], []
    for place in [(row, column) for row in places for column in places]:
        grad = gradient(net, image, place)
        first = [net.architecture.receptive_field(n)[0] for n in place]
        centre = place[0] + half - first[0], place[1] + half - first[1]
        widths.append(sides(grad, centre, (0.5, 0.95)))
        maps.append(_small(grad))
    return {"sides": widths, "maps": _base64(np.stack(maps).tobytes())}


def _small(grad: np.ndarray) -> np.ndarray:
    """Sums of squares of pixels, from 0 to 255 by their square roots: the weak ones show too."""
    full = np.zeros((WIDEST, WIDEST))
    full[: grad.shape[0], : grad.shape[1]] = grad
    small = full.reshape(WIDEST // BIN, BIN, WIDEST // BIN, BIN).sum(axis=(1, 3))
    return np.rint(255 * np.sqrt(small / small.max())).astype(np.uint8)


def write(folder: Path, apart: int = APART) -> Path:
    """Write the script to ``folder``, the page's ``field``, unless a newer one is there."""
    target = folder / "fields.js"
    sources = (pretrained.path("em"), Path(__file__))
    newest = max(source.stat().st_mtime for source in sources)
    if not target.is_file() or target.stat().st_mtime < newest:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as temporary:
            text = f"window.unetWidgets.fields = {json.dumps(fields(apart))};\n"
            temporary.write_text(text, encoding="ascii")
    return target


def _jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=80)
    return stream.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _at_the_end(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        write(Path(app.outdir) / "_static" / "widgets" / "field")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("build-finished", _at_the_end)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
