"""What people look at: the picture of a run that goes on, and the page on one that is over."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_np.cli import main
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.files.ours import is_ours
from unet_np.images import write_png
from unet_np.images.overlay import DRAWN, FOUND
from unet_np.notebook import live_picture
from unet_np.training import live as lives
from unet_np.training import report as reports
from unet_np.training.checkpoint import RunFolder
from unet_np.training.config import TrainConfig
from unet_np.training.live import SHARE, Live, smoothed
from unet_np.training.loop import train
from unet_np.training.report import write_report

SMALL = {
    "base_channels": 2, "depth": 1, "input_size": 36, "steps": 6, "validate_every": 2,
    "validation": "3-5", "backend": "numpy", "norm": "instance", "threads": 1,
}  # fmt: skip


def dataset(count=6):
    """Squares; the fourth image, which is held out, has none of the contrast of the others."""
    instances = np.zeros((count, 40, 44), np.uint16)
    instances[:, 4:18, 5:20] = 1
    instances[:, 22:36, 24:40] = 2
    noise = np.random.default_rng(0).integers(0, 30, instances.shape)
    images = (noise + 150 * (instances > 0)).astype(np.uint8)
    images[3] = noise[3]
    names = tuple(f"<b>{number}&" for number in range(count))
    return Dataset("squares", images, (instances > 0).astype("u1"), instances, ids=names)


@pytest.fixture
def run(tmp_path):
    """The settings of a run that is done, in a folder whose name holds what HTML would obey."""
    config = TrainConfig(**SMALL, out=str(tmp_path / "<i>&mine"))
    train(config, progress=False, dataset=dataset())
    return config


class Page(HTMLParser):
    """Tags, pictures without words, addresses and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.wordless, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.addresses += [found[key] for key in ("src", "href", "srcset") if key in found]
        if (tag == "img" and not found.get("alt")) or (tag == "svg" and not found["aria-label"]):
            self.wordless.append(tag)

    def handle_data(self, data):
        self.text += data


def page_of(config, given=None):
    path = write_report(config.out, dataset() if given is None else given)
    assert path == Path(config.out, "report.html")
    return Page(path.read_text("utf-8"))


# The page


def test_the_page_shows_settings_data_curves_images_and_the_way_on(run):
    page = page_of(run)
    assert page.tags.count("svg") == page.tags.count("img") == 2
    assert not page.wordless
    for text in (
        "6 of 6 steps are done", "Learned from: 3 (<b>0&, <b>1&, <b>2&)", "Held out: 3 (<b>3&",
        "unet-np segment IMAGE.tif --weights", "UNet.load(", "base_channels", "tensorboard",
    ):  # fmt: skip
        assert text in page.text
    scores = re.findall(r"(Best|Worst): (\S+), intersection over union (\d\.\d\d)", page.text)
    assert [word for word, *_ in scores] == ["Best", "Worst"]
    assert float(scores[0][2]) > float(scores[1][2])
    assert scores[1][1] == "<b>3&", "the image without contrast"


def test_the_page_asks_nothing_of_any_network_and_escapes_names(run):
    page = page_of(run)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "b", "i"} & set(page.tags)
    text = Path(run.out, "report.html").read_text("utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_outlines_are_those_of_the_masks_and_of_the_network(run):
    import base64
    import io

    page = page_of(run)
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
        for address in page.addresses
    ]
    assert pictures[0].shape[:2] == (400, 440)
    drawn = (pictures[1] == DRAWN).all(axis=-1).sum()
    found = (pictures[1] == FOUND).all(axis=-1).sum()
    assert drawn > 0, "the worst one is not as it was drawn"
    assert (pictures[0] == FOUND).all(axis=-1).any()
    assert drawn + found < pictures[1].shape[0] * pictures[1].shape[1] / 4


def test_scores_are_intersection_over_union():
    drawn, found = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    assert reports._iou(drawn, found) == pytest.approx((2 / 3 + 0) / 2)
    assert reports._iou(drawn, drawn) == reports._iou(np.zeros(3, int), np.zeros(3, int)) == 1


def test_unknown_pixels_have_no_say(run):
    given = dataset()
    spoilt = dataset()
    unknown = np.zeros(given.labels.shape, bool)
    unknown[:, :3] = True
    spoilt.labels[:, :3] = 1 - spoilt.labels[:, :3]
    from dataclasses import replace

    pages = [page_of(run, replace(one, unknown=unknown)).text for one in (given, spoilt)]
    scores = [re.findall(r"union (\d\.\d+)", text) for text in pages]
    assert scores[0] == scores[1]


def test_a_stopped_run_has_a_page_and_a_missing_image_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, (image, label) in enumerate(
        zip(*[getattr(dataset(), n) for n in ("images", "labels")], strict=True)
    ):
        write_png(Path("images", f"{number}.png"), image)
        write_png(Path("masks", f"{number}.png"), label)

    def cut(row):
        if row["step"] == 3:
            raise RuntimeError("cut")

    config = TrainConfig(**SMALL, images="images", masks="masks", out="run")
    with pytest.raises(RuntimeError, match="cut"):
        train(config, progress=cut)
    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out == f"{Path('run/report.html')}\n"
    assert "3 of 6 steps are done" in Page(Path("run/report.html").read_text()).text
    shutil.rmtree("images")
    assert main(["report", "run", "-q"]) == 0
    page = Page(Path("run/report.html").read_text())
    assert "The images could not be read again: images: " in page.text
    assert "img" not in page.tags
    assert page.tags.count("svg") == 2


def test_other_tasks_and_nothing_held_out_have_a_page_without_images(tmp_path):
    small = SMALL | {"validation": "none", "validate_every": 50}
    config = TrainConfig(**small, out=str(tmp_path / "a"))
    train(config, progress=False, dataset=dataset())
    page = page_of(config)
    assert "Without images held out there is none to show." in page.text
    assert page.tags.count("svg") == 1
    config = TrainConfig(**small, task="detect", out=str(tmp_path / "b"))
    train(config, progress=False, dataset=dataset())
    assert "unet-np detect IMAGE.tif" in page_of(config).text


def test_mistakes_are_one_line(run, tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "none"):
        assert main(["report", str(folder)]) == 2
        error = capsys.readouterr().err
        assert f"run: got {folder}, expected a folder of unet-np train" in error
        assert error.count("\n") == 1
    Path(run.out, "report.html").write_text("my notes")
    with pytest.raises(InputError, match=r"report\.html, not written by unet-np"):
        write_report(run.out, dataset())
    assert Path(run.out, "report.html").read_text() == "my notes"


def test_train_writes_the_page_and_is_done_without_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [
        "train",
        "--base-channels",
        "2",
        "--depth",
        "1",
        "--input-size",
        "36",
        "--steps",
        "1",
    ]
    command += ["--out", "run", "--backend", "numpy"]
    assert main(command) == 0
    assert f"report: {Path('run/report.html')}" in capsys.readouterr().out

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr(reports, "write_report", fails)
    assert main([*command, "--overwrite", "-q"]) == 0
    assert "report: not written (no space left)" in capsys.readouterr().err
    assert Path("run/weights.safetensors").exists()
    assert not Path("run/report.html").exists(), "that of the run before"


# The picture


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("cost", [0.3, 5.0, 60.0])
def test_pictures_take_no_more_than_their_share(monkeypatch, cost):
    clock, drawn = Clock(), []

    def draw(run):
        clock.now += cost
        drawn.append(clock.now)

    monkeypatch.setattr(lives, "draw", draw)
    live = Live(clock)
    for _ in range(20_000):
        clock.now += 2.0
        live.update(None)
        # The first one may cost more than was thought.
        assert cost * len(drawn) <= max(SHARE * clock.now, cost * (len(drawn) == 1))
    assert len(drawn) > 0.9 * SHARE * 40_000 / cost - 2


def test_without_matplotlib_there_is_no_picture(monkeypatch):
    monkeypatch.setattr(lives.importlib.util, "find_spec", lambda name: None)
    clock = Clock()
    live = Live(clock)
    clock.now = 1e9
    assert not live.is_due()


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(Live, "is_due", lambda self: self._able)


def test_the_picture_is_drawn_and_changes_nothing(run, tmp_path, always):
    config = run.replace(out=str(tmp_path / "seen"))
    shapes = []

    def look(row):
        picture = Path(config.out, "progress.png")
        if picture.exists():
            shapes.append(size_of(picture))

    train(config, progress=look, dataset=dataset())
    assert len(shapes) == 5
    assert set(shapes) == {(900, 400)}
    assert is_ours(Path(config.out, "progress.png"))
    for name in ("weights.safetensors", "metrics.csv"):
        assert Path(config.out, name).read_bytes() == Path(run.out, name).read_bytes()


def test_where_nothing_is_held_out_the_picture_is_the_curve(tmp_path, always):
    config = TrainConfig(**SMALL | {"validation": "none"}, out=str(tmp_path / "run"))
    train(config, progress=False, dataset=dataset())
    assert size_of(Path(config.out, "progress.png")) == (500, 400)


def test_a_picture_that_fails_ends_pictures_alone(tmp_path, always, monkeypatch):
    calls = []

    def draw(run):
        calls.append(run.step)
        raise OSError("no space left")

    monkeypatch.setattr(lives, "draw", draw)
    config = TrainConfig(**SMALL, out=str(tmp_path / "run"))
    assert train(config, progress=False, dataset=dataset()).step == 6
    assert calls == [1]


def test_pictures_of_others_stay(tmp_path, always):
    folder = tmp_path / "run"
    for name in ("progress.png", "report.html"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"mine")
    config = TrainConfig(**SMALL, out=str(folder))
    train(config, overwrite=True, progress=False, dataset=dataset())
    assert (folder / "progress.png").read_bytes() == b"mine"
    assert (folder / "report.html").read_bytes() == b"mine"


def test_a_new_run_drops_the_pages_of_the_old(run):
    page_of(run)
    train(run, overwrite=True, progress=False, dataset=dataset())
    assert not RunFolder(run.out).report.exists()


def test_a_curve_is_made_of_means():
    steps, values = smoothed(list(range(1, 1001)), [float(i % 2) for i in range(1000)])
    assert len(steps) == len(values) == 60
    assert steps[-1] == 1000
    assert all(0.3 < value < 0.7 for value in values)
    assert smoothed([3], [2.0]) == ([3.0], [2.0])


def test_a_cell_shows_the_picture_whenever_it_is_new(tmp_path, monkeypatch):
    import IPython.display

    shown = []

    class Handle:
        def update(self, image):
            shown.append(image.data)

    monkeypatch.setattr(IPython.display, "display", lambda *_, display_id: Handle())
    write_png(tmp_path / "progress.png", np.zeros((2, 2), np.uint8))
    update = live_picture(tmp_path)
    update({"step": 1})
    assert not shown, "that of another run"
    write_png(tmp_path / "progress.png", np.ones((2, 2), np.uint8))
    for step in (2, 3):
        update({"step": step})
    assert shown == [(tmp_path / "progress.png").read_bytes()]
