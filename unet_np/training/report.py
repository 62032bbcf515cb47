"""A training on one page: settings, data, curves, the best and the worst image, how to go on.

The page is one file that asks nothing of any network: its pictures stand in it, its curves are
drawn in SVG, and whatever came from names or settings is escaped.
"""

from __future__ import annotations

import base64
import io
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.data import Dataset
from unet_np.errors import InputError, require
from unet_np.files import atomic_write
from unet_np.images.overlay import compared
from unet_np.network.unet import UNet
from unet_np.tasks.segmentation import segment
from unet_np.training.checkpoint import RunFolder
from unet_np.training.config import TrainConfig
from unet_np.training.live import smoothed
from unet_np.training.logs import read_csv
from unet_np.training.samples import load_data, split

MARK = "<!-- report of unet-np train -->"
"""Stands at the head of each page, so that nobody else's is replaced."""

_MOST = 16  # images that are predicted
_SIDE = 480  # pixels of a picture
_WIDTH, _HEIGHT, _LEFT, _BELOW = 480, 220, 62, 34

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --ground: #fff; --soft: #666; --line: #ddd;
  --first: #0072b2; --second: #c04e00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --ground: #16181b; --soft: #a8a8a8;
  --line: #3a3d42; --first: #56b4e9; --second: #e69f00; } }
* { box-sizing: border-box; }
body { font: 17px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr));
  gap: 1rem; }
figure { margin: 0; }
figure img, svg { width: 100%; height: auto; display: block; }
svg { max-width: 40rem; }
figcaption, .soft { color: var(--soft); font-size: .9rem; }
pre { overflow-x: auto; border: 1px solid var(--line); padding: .7rem; font-size: .9rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0;
  border-bottom: 1px solid var(--line); font-weight: normal; }
summary { cursor: pointer; padding: .5rem 0; }
svg text { fill: var(--soft); font-size: 15px; }
svg .axis { stroke: var(--line); }
svg .first, svg .second { fill: none; stroke: var(--first); stroke-width: 2.5; }
svg .second { stroke: var(--second); stroke-dasharray: 7 4; }
svg .first-word { fill: var(--first); }
svg .second-word { fill: var(--second); }
"""


@dataclass(frozen=True)
class _Seen:
    """An image held out, its score, and the picture of it."""

    name: str
    score: float
    picture: np.ndarray


def write_report(out: str | Path, dataset: Dataset | None = None) -> Path:
    """Write ``report.html`` into the folder of a run, finished or not.

    Parameters
    ----------
    out : path-like
        The folder.
    dataset : Dataset, optional
        What was trained on, if it is at hand; else it is read again, and where that cannot be the
        page says why it has no images.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    InputError
        If the folder holds no run, or a page of somebody else's.
    """
    folder = RunFolder(out)
    if not folder.holds_run() or not folder.weights.exists():
        raise InputError(f"run: got {out}, expected a folder of unet-np train, with its weights")
    config = TrainConfig.from_toml(folder.config, out=str(out))
    rows = read_csv(folder.metrics)
    if not rows or "loss" not in rows[0]:
        raise InputError(f"run: got {out} before its first step, expected one with steps done")
    old = folder.report
    if old.exists() and not (old.is_file() and MARK in old.read_text("utf-8", "replace")[:300]):
        raise InputError(f"run: got {folder.report}, not written by unet-np, expected none there")
    seen, remark = _images_of(config, folder, dataset)
    page = _page(config, folder, rows, seen, remark)
    with atomic_write(folder.report) as temporary:
        # Names that are no UTF-8 hold what no page can.
        temporary.write_bytes(page.encode("utf-8", "replace"))
    return folder.report


def _images_of(
    config: TrainConfig, folder: RunFolder, dataset: Dataset | None
) -> tuple[list[_Seen], list[str]]:
    """Best and worst of the images held out, and what there is to say of the data."""
    if config.task != "segment":
        return [], [f"Pictures are for task segment; this one is {config.task}."]
    try:
        given = load_data(config) if dataset is None else dataset
        dataset = config.kind.dataset(given, config)
        training, validation = split(config, dataset)
    except InputError as error:
        return [], [f"The images could not be read again: {error}."]
    remarks = [dataset.note] * bool(dataset.note)
    for word, chosen in (("Learned from", training), ("Held out", validation)):
        remarks.append(f"{word}: {len(chosen)} ({_some([dataset.ids[i] for i in chosen])}).")
    if not validation:
        return [], [*remarks, "Without images held out there is none to show."]
    net = UNet.load(folder.weights)
    numbers = np.linspace(0, len(validation) - 1, min(_MOST, len(validation))).round().astype(int)
    seen = [_see(net, dataset, validation[i]) for i in numbers]
    if len(seen) < len(validation):
        remarks.append(f"Best and worst are those of {len(seen)} images held out, evenly chosen.")
    ordered = sorted(seen, key=lambda one: -one.score)
    return ordered[:1] + ordered[1:][-1:], remarks


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "") or "none"


def _see(net: UNet, dataset: Dataset, number: int) -> _Seen:
    assert dataset.labels is not None
    height, width = dataset.sizes[number] if dataset.sizes else dataset.shape
    image = dataset.images[number, ..., :height, :width]
    drawn = dataset.labels[number, :height, :width]
    found = segment(net, image if image.ndim == 2 else np.moveaxis(image, 0, -1)).labels
    known = slice(None) if dataset.unknown is None else ~dataset.unknown[number, :height, :width]
    cells = drawn if dataset.instances is None else dataset.instances[number, :height, :width]
    return _Seen(
        dataset.ids[number],
        _iou(drawn[known].ravel(), found[known].ravel()),
        compared(image, cells, found, _SIDE),
    )


def _iou(drawn: np.ndarray, found: np.ndarray) -> float:
    """The mean over the classes but background that either has; 1 where both are empty.

    Examples
    --------
    >>> _iou(np.array([0, 1, 1, 2]), np.array([0, 1, 0, 2]))
    0.75
    """
    classes = set(np.unique(drawn)) | set(np.unique(found))
    scores = [
        float(((drawn == c) & (found == c)).sum() / ((drawn == c) | (found == c)).sum())
        for c in classes - {0}
    ]
    return float(np.mean(scores)) if scores else 1.0


def _page(
    config: TrainConfig,
    folder: RunFolder,
    rows: list[dict[str, float]],
    seen: list[_Seen],
    remarks: list[str],
) -> str:
    name = escape(Path(config.out).name or str(config.out))
    parts = [
        "<!doctype html>",
        MARK,
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">",
        f"<title>{name}: report of a training</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{name}</h1>",
        f"<p>{escape(_state(config, rows))}</p>",
        *_pictures(seen),
        "<h2>Curves</h2>",
        *_curves(rows),
        "<h2>Data</h2>",
        *(f"<p>{escape(remark)}</p>" for remark in remarks),
        "<h2>How to use it</h2>",
        *_use(config, folder),
        "<h2>Settings</h2>",
        *_settings(config),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _state(config: TrainConfig, rows: list[dict[str, float]]) -> str:
    done, last = int(rows[-1]["step"]), rows[-1]
    looks = [row for row in rows if "validation_loss" in row]
    text = f"{done} of {config.steps} steps are done; the last loss is {last['loss']:.3g}."
    if looks:
        best = min(looks, key=lambda row: row["validation_loss"])
        text += (
            f" On the images held out the loss was lowest at step {best['step']:.0f}, "
            f"{best['validation_loss']:.3g}"
        )
        wrong = best.get("validation_pixel_error")
        text += f", with {wrong:.1%} of the pixels wrong." if wrong is not None else "."
        kept = "of that step" if config.patience else "of the last step saved"
        text += f" The weights kept are {kept}."
    return text


def _pictures(seen: list[_Seen]) -> Iterable[str]:
    if not seen:
        return
    yield "<h2>Best and worst</h2>"
    yield (
        "<p>Images held out. Blue is what was drawn, orange what is found, over it; where only "
        "orange is to be seen they agree.</p>"
    )
    yield '<div class="pair">'
    words = ("Best", "Worst") if len(seen) > 1 else ("The only one",)
    for word, one in zip(words, seen, strict=True):
        text = f"{word}: {one.name}, intersection over union {one.score:.2f}"
        alt = f"{text}. The image in grey, with outlines of what was drawn and of what is found."
        yield (
            f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{_png(one.picture)}">'
            f"<figcaption>{escape(text)}</figcaption></figure>"
        )
    yield "</div>"


def _png(picture: np.ndarray) -> str:
    file = io.BytesIO()
    require("PIL.Image", "io").fromarray(picture).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _curves(rows: list[dict[str, float]]) -> Iterable[str]:
    loss = smoothed([row["step"] for row in rows], [row["loss"] for row in rows])
    looks = [row for row in rows if "validation_loss" in row]
    at = [row["step"] for row in looks]
    lines = [("training, weighted", *loss)]
    if looks:
        lines.append(("held out", at, [row["validation_loss"] for row in looks]))
    caption = "<figcaption>Loss by step, in logarithms.</figcaption>"
    yield f"<figure>{_svg('Loss', lines)}{caption}</figure>"
    if looks and "validation_pixel_error" in looks[0]:
        wrong = [row["validation_pixel_error"] for row in looks]
        yield (
            f"<figure>{_svg('Share of wrong pixels', [('held out', at, wrong)])}"
            "<figcaption>Share of wrong pixels in the images held out.</figcaption></figure>"
        )


def _svg(title: str, lines: list[tuple[str, list[float], list[float]]]) -> str:
    """Curves over steps, in logarithms; zeros and less are left out."""
    kept = [
        (word, [(x, y) for x, y in zip(steps, values, strict=True) if y > 0 and math.isfinite(y)])
        for word, steps, values in lines
    ]
    points = [point for _, line in kept for point in line]
    if not points:
        return f"<p>{escape(title)}: nothing above 0.</p>"
    last = max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    low, high = (low, high) if high > 1.05 * low else (low / 1.05, high * 1.05)

    def place(x: float, y: float) -> str:
        across = _LEFT + (_WIDTH - _LEFT - 10) * x / last
        down = 10 + (_HEIGHT - 10 - _BELOW) * math.log(high / y) / math.log(high / low)
        return f"{across:.1f},{down:.1f}"

    words = [f"{word} from {line[0][1]:.3g} to {line[-1][1]:.3g}" for word, line in kept if line]
    alt = f"{title} up to step {last:.0f}: {'; '.join(words)}."
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(alt)}">',
        f'<path class="axis" fill="none" d="M{_LEFT},10V{_HEIGHT - _BELOW}H{_WIDTH - 10}"/>',
        f'<text x="{_LEFT - 6}" y="22" text-anchor="end">{high:.2g}</text>',
        f'<text x="{_LEFT - 6}" y="{_HEIGHT - _BELOW}" text-anchor="end">{low:.2g}</text>',
        f'<text x="{_WIDTH - 10}" y="{_HEIGHT - 10}" text-anchor="end">step {last:.0f}</text>',
    ]
    for number, ((word, line), style) in enumerate(zip(kept, ("first", "second"), strict=False)):
        if line:
            path = " ".join(place(x, y) for x, y in line)
            parts.append(f'<polyline class="{style}" points="{path}"/>')
            at = f'x="{_WIDTH - 20}" y="{28 + 20 * number}" text-anchor="end"'
            parts.append(f'<text class="{style}-word" {at}>{escape(word)}</text>')
    return "".join(parts) + "</svg>"


def _use(config: TrainConfig, folder: RunFolder) -> Iterable[str]:
    run = shlex.quote(str(folder.path))
    command = {
        "segment": f"unet-np segment IMAGE.tif --weights {run} --instances -o RESULTS/",
        "detect": f"unet-np detect IMAGE.tif --weights {run} -o RESULTS.csv",
        "classify": f"unet-np classify IMAGES/ --weights {run} -o RESULTS.csv",
    }.get(config.task)
    lines = [command] if command else []
    lines += [f"unet-np export --weights {run} --onnx MODEL.onnx"]
    if config.steps:
        lines += [f"unet-np train --out {run} --steps MORE --resume"]
    yield "<p>In a terminal, with names of your own in the place of capitals:</p>"
    yield f'<pre tabindex="0">{escape(chr(10).join(lines))}</pre>'
    yield "<p>In Python:</p>"
    python = (
        "import unet_np\nfrom unet_np.images import read_image\n"
        "from unet_np.tasks.segmentation import segment\n\n"
        f"net = unet_np.UNet.load({str(folder.weights)!r})\n"
        'result = segment(net, read_image("IMAGE.tif"))\n'
        "result.labels, result.probabilities"
    )
    if config.task != "segment":
        python = f"import unet_np\n\nnet = unet_np.UNet.load({str(folder.weights)!r})"
    yield f'<pre tabindex="0">{escape(python)}</pre>'


def _settings(config: TrainConfig) -> Iterable[str]:
    first = (
        "base_channels", "depth", "input_size", "norm", "steps", "learning_rate", "momentum",
        "w0", "sigma", "weight_term", "augmentation", "patience", "seed",
    )  # fmt: skip
    values: dict[str, Any] = config.resolved().to_dict() | {"input_size": config.tile_size}
    yield _table((name, values.pop(name)) for name in first)
    yield f"<details><summary>All the others</summary>{_table(values.items())}</details>"


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    lines = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
        for name, value in rows
    )
    return f"<table>{''.join(lines)}</table>"
