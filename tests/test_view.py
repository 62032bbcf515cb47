"""`unet-np view`: in napari where it is there, and as a picture where it is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_np.cli import main, view
from unet_np.images import Calibration, read_image, write_png, write_tiff
from unet_np.images.colours import label_colours
from unet_np.images.overlay import labelled

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 40, 50), dtype=np.uint8)
CELLS = np.zeros((3, 40, 50), np.uint16)
CELLS[:, 5:15, 5:15] = 1
CELLS[1, 20:30, 8:40] = 300


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    size = Calibration(0.2, 0.3, "um", 1.5, 30.0)
    write_tiff("a.tif", IMAGE[1], calibration=size)
    write_tiff("a-instances.tif", CELLS[1], largest=300)
    write_tiff("z.tif", IMAGE, axes="ZYX", calibration=size)
    write_tiff("t.tif", IMAGE, axes="TYX", calibration=size)
    write_tiff("stack-labels.tif", CELLS, axes="ZYX", largest=300)
    write_png("colour.png", np.stack([IMAGE[0]] * 3, -1))
    write_png("plain.png", IMAGE[0])


NAPARI = """
import json
record = []
def note(layer, data, rgb=None, **options):
    options = {name: list(value) if name == "scale" else value for name, value in options.items()}
    record.append([layer, list(data.shape), int(data.max()), rgb, options])
class Bar:
    visible = None
class Viewer:
    def __init__(self, title):
        self.scale_bar = Bar()
        record.append(title)
        record.append(self.scale_bar)
    def add_image(self, data, **options):
        note("image", data, **options)
    def add_labels(self, data, **options):
        note("labels", data, **options)
def run():
    record[1] = record[1].visible
    with open("napari.json", "w") as file:
        json.dump(record, file)
"""


@pytest.fixture
def _napari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands for napari: it takes the arguments that napari 0.5 and later take."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "napari.py").write_text(NAPARI)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "napari", raising=False)
    monkeypatch.setattr(view, "_WINDOW", "")


@pytest.fixture
def _no_napari(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "reason_for_a_picture", lambda: view._NO_NAPARI)


@pytest.mark.usefixtures("_napari")
@pytest.mark.parametrize(
    ("image", "labels", "scale", "units"),
    [
        ("a.tif", "a-instances.tif", [0.3, 0.2], ["um", "um"]),
        ("z.tif", "stack-labels.tif", [1.5, 0.3, 0.2], ["um", "um", "um"]),
        ("t.tif", "stack-labels.tif", [30.0, 0.3, 0.2], ["s", "um", "um"]),
        ("colour.png", "a-instances.tif", [1.0, 1.0], ["pixel", "pixel"]),
    ],
)
def test_napari_gets_both_layers_with_the_size_of_a_pixel(
    image: str, labels: str, scale: list[float], units: list[str]
) -> None:
    assert main(["view", image, labels]) == 0
    title, bar, first, second = json.loads(Path("napari.json").read_text())
    sys.modules.pop("napari")
    assert title == f"{image} with {labels}"
    assert bar == (units[-1] == "um")
    assert first[:2] == ["image", list(read_image(image).shape)]
    assert second[:3] == ["labels", list(read_image(labels).shape), 300]
    assert (first[3], second[3]) == (image == "colour.png", None)
    for layer, name in ((first, image), (second, labels)):
        assert layer[4]["name"] == Path(name).stem
        assert layer[4]["scale"] == pytest.approx(scale)
        assert layer[4]["units"] == units
    assert not list(Path().glob("*overlay*"))


@pytest.mark.usefixtures("_napari")
@pytest.mark.parametrize("code", ["raise SystemExit(3)", "import os; os.abort()"])
def test_without_a_display_it_is_a_picture(
    code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Qt ends the whole process where there is none."""
    monkeypatch.setattr(view, "_WINDOW", code)
    assert main(["view", "a.tif", "a-instances.tif"]) == 0
    out = capsys.readouterr().out
    assert out == "no window can be opened here; wrote a-overlay.png\n"
    assert not Path("napari.json").exists()


@pytest.mark.usefixtures("_napari")
def test_without_opengl_it_is_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = "class Viewer:\n    def __init__(self, title):\n        raise OSError('no\\nGL')\n"
    (tmp_path / "modules" / "napari.py").write_text(broken)
    assert main(["view", "a.tif", "a-instances.tif"]) == 0
    sys.modules.pop("napari")
    expected = "napari opened no window (no GL); wrote a-overlay.png\n"
    assert capsys.readouterr().out == expected


def test_without_napari_it_is_a_picture_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)
    find = view.importlib.util.find_spec
    monkeypatch.setattr(
        view.importlib.util, "find_spec", lambda name: None if name == "napari" else find(name)
    )
    assert main(["view", "a.tif", "a-instances.tif"]) == 0
    expected = "napari is not installed (pip install 'unet-np[view]'); wrote a-overlay.png\n"
    assert capsys.readouterr().out == expected


@pytest.mark.usefixtures("_no_napari")
@pytest.mark.parametrize(
    ("image", "labels", "pictures"),
    [
        ("a.tif", "a-instances.tif", ["a-overlay.png"]),
        ("colour.png", "a-instances.tif", ["colour-overlay.png"]),
        ("z.tif", "stack-labels.tif", [f"z-overlay-{number}.png" for number in range(3)]),
    ],
)
def test_pictures_have_the_labels_in_their_colours(
    image: str, labels: str, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", image, labels]) == 0
    more = " and 2 more" * (len(pictures) == 3)
    assert capsys.readouterr().out == f"{view._NO_NAPARI}; wrote {pictures[0]}{more}\n"
    cells = read_image(labels).reshape(-1, 40, 50)
    for name, numbers in zip(pictures, cells, strict=True):
        picture = read_image(name)
        assert picture.shape == (480, 600, 3), "enlarged, so that lines are thin"
        corner = picture[12 * 5, 12 * 5]
        assert corner.tolist() == label_colours()[1].tolist()
        grey = picture[numbers.repeat(12, 0).repeat(12, 1) == 0]
        assert (grey == grey[:, :1]).all(), "background stays as it is"
    assert main(["view", image, labels, "-q"]) == 0, "its own pictures are replaced"
    assert capsys.readouterr().out == ""


def test_out_writes_the_picture_and_opens_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(view, "reason_for_a_picture", lambda: 1 / 0)
    assert main(["view", "a.tif", "a-instances.tif", "--out", "p/x.png"]) == 0
    assert capsys.readouterr().out == "wrote p/x.png\n"
    assert np.array_equal(read_image("p/x.png"), labelled(IMAGE[1], CELLS[1]))


def test_a_very_large_image_becomes_a_smaller_picture() -> None:
    page = np.zeros((5000, 10), np.uint8)
    assert labelled(page, page).shape == (2500, 5, 3)


def test_masks_in_colour_and_with_a_palette_are_labels() -> None:
    red = np.zeros((40, 50, 3), np.uint8)
    red[5:20, 5:20], red[25:30] = (255, 0, 0), (0, 0, 255)
    write_png("red.png", red)
    palette = Image.fromarray(CELLS[0].astype(np.uint8))
    palette.putpalette([0, 0, 0, 9, 200, 30])
    palette.save("palette.png")
    assert np.array_equal(view.read_labels(Path("palette.png"))[0], CELLS[0])
    (found,) = view.read_labels(Path("red.png"))
    assert np.unique(found).tolist() == [0, 1, 2]
    assert (found[10, 10], found[27, 0]) == (2, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "a.tif stack-labels.tif",
            "labels: got 3 slices of 40 x 50 in stack-labels.tif, expected 1 slice of 40 x 50, as "
            "in a.tif",
        ),
        ("a.tif small.png", "got 1 slice of 40 x 49 in small.png, expected 1 slice of 40 x 50"),
        ("a.tif map.tif", "labels: got 0.5 in map.tif, expected whole numbers"),
        ("a.tif plain.png", "values in plain.png, most in many small pieces, expected 0 and one"),
        ("mask.jpg mask.jpg", "values in mask.jpg, most in many small pieces, expected 0 and one"),
        ("a.tif minus.tif", "labels: got -1 in minus.tif, expected numbers from 0"),
        ("two.tif a-instances.tif", "image: got 2 channels in two.tif, expected 1, or 3"),
        ("a.tif none.tif", "labels: none.tif does not exist, expected a PNG, JPEG or TIFF image"),
        ("none.tif a-instances.tif", "image: none.tif does not exist"),
        ("a.tif . ", "labels: . is a folder, expected a PNG, JPEG or TIFF image"),
        (
            "a.tif a-instances.tif --out x.jpg",
            "--out: got x.jpg, expected a name that ends in .png",
        ),
        ("a.tif a-instances.tif --out x", "--out: got x, expected the name of a picture, .png"),
        ("a.tif a-instances.tif --out theirs.png", "got theirs.png, not written by unet-np"),
        ("plain.png a-instances.tif --out plain.png", "got plain.png, which is an input"),
    ],
)
@pytest.mark.usefixtures("_no_napari")
def test_bad_input_is_one_line(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_png("small.png", (CELLS[1] > 0)[:, 1:])
    write_tiff("map.tif", np.full((40, 50), 0.5))
    write_tiff("two.tif", IMAGE[:2], axes="CYX")
    large = np.kron(CELLS[1] > 0, np.ones((7, 7), bool))
    Image.fromarray(255 * large.astype(np.uint8)).save("mask.jpg", quality=60)
    Image.new("L", (4, 4)).save("theirs.png")
    tifffile.imwrite("minus.tif", np.where(CELLS[1] == 300, -1, CELLS[1]).astype(np.int16))
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir()}
    assert main(["view", *line.split(), "-q"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in Path().iterdir()} == before
