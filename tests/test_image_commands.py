"""Every command reads files by the same conventions: axes, channels, palettes, calibration."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_np import UNet
from unet_np.cli import main
from unet_np.data.own.pairs import read_pairs
from unet_np.errors import InputError
from unet_np.images import open_image, read_image, write_png, write_tiff
from unet_np.tasks import TASKS

RNG = np.random.default_rng(0)
FILM = RNG.integers(0, 256, (3, 24, 30), dtype=np.uint8)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    UNet(base_channels=2, depth=1, seed=1).save("net.safetensors")
    return ["--weights", "net.safetensors"]


def test_results_keep_the_axes_and_the_calibration(weights):
    metadata = {"axes": "TYX", "unit": "um", "finterval": 2.0}
    resolution = (1 / 0.108, 1 / 0.216)
    tifffile.imwrite("t.tif", FILM, imagej=True, resolution=resolution, metadata=metadata)
    assert main(["segment", "t.tif", *weights, "--instances", "--all-classes", "-q"]) == 0
    results = {"labels": "TYX", "instances": "TYX", "probabilities": "TYXC"}
    for name, axes in results.items():
        image = open_image(f"t-{name}.tif")
        assert image.axes == axes
        got = image.calibration
        assert (got.width, got.height) == pytest.approx((0.108, 0.216))
        assert (got.unit, got.interval) == ("um", 2.0)


def test_a_stack_without_names_gives_slices(weights):
    tifffile.imwrite("a.tif", FILM, photometric="minisblack")
    assert main(["segment", "a.tif", *weights, "-q"]) == 0
    assert open_image("a-labels.tif").axes == "ZYX"


def test_channels_are_refused_by_every_command(weights, capsys):
    tifffile.imwrite("c2.tif", FILM[:2], imagej=True, metadata={"axes": "CYX"})
    expected = (
        "image: c2.tif has 2 channels, expected 1, or 3 of a colour image, which the network "
        "reads; split the channels first (in Fiji: Image, Color, Split Channels)"
    )
    assert main(["segment", "c2.tif", *weights]) == 2
    assert expected in capsys.readouterr().err
    for task in ("classify", "detect"):
        UNet(base_channels=2, depth=1, **TASKS[task].options).save("other.safetensors")
        assert main([task, "c2.tif", "--weights", "other.safetensors"]) == 2
        assert expected in capsys.readouterr().err
    write_png("mask.png", FILM[0] > 99)
    assert main(["train", "--images", "c2.tif", "--masks", "mask.png"]) == 2
    assert "images: got 2 channels in c2, expected 1" in capsys.readouterr().err
    with pytest.raises(InputError, match="masks: got 2 channels in c2, expected 1"):
        read_pairs("mask.png", "c2.tif")


def test_axes_say_otherwise(weights, capsys):
    tifffile.imwrite("c2.tif", FILM[:2], imagej=True, metadata={"axes": "CYX"})
    assert main(["segment", "c2.tif", *weights, "--axes", "ZYX", "-q"]) == 0
    assert open_image("c2-labels.tif").axes == "ZYX"
    write_png("masks/0.png", FILM[0] > 99)
    write_png("masks/1.png", FILM[1] > 99)
    assert len(read_pairs("c2.tif", "masks", axes="ZYX").images) == 2
    assert main(["segment", "c2.tif", *weights, "--axes", "ZY"]) == 2
    assert (
        "image: c2.tif has 3 axes of sizes (2, 24, 30), got axes 'ZY', expected a letter of TZCYX "
        "for each, such as ZYX" in capsys.readouterr().err
    )


def test_evaluate_takes_the_axes_of_the_prediction(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mask = np.where(FILM[:2] > 99, np.uint8(255), np.uint8(0))
    tifffile.imwrite("c2.tif", mask, imagej=True, metadata={"axes": "CYX"})
    tifffile.imwrite("labels.tif", mask, photometric="minisblack")
    assert main(["evaluate", "c2.tif", "labels.tif"]) == 2
    capsys.readouterr()
    options = ["--metrics", "iou", "--axes", "ZYX", "--json", "s.json", "-q"]
    assert main(["evaluate", "c2.tif", "labels.tif", *options]) == 0
    assert json.loads(Path("s.json").read_text())["scores"]["iou"]["value"] == 1


def test_train_takes_axes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("c2.tif", np.tile(FILM[:2], (1, 2, 2)), imagej=True, metadata={"axes": "CYX"})
    for number in range(2):
        write_png(f"masks/{number}.png", np.tile(FILM[number] > 99, (2, 2)))
    small = ["--base-channels", "2", "--depth", "1", "--input-size", "22", "--steps", "1", "-q"]
    options = ["--axes", "ZYX", "--validation", "none", "--no-tensorboard", *small]
    assert main(["train", "--images", "c2.tif", "--masks", "masks", "--out", "r", *options]) == 0
    assert 'axes = "ZYX"' in Path("r/config.toml").read_text()


def test_remarks_are_printed_once(weights, capsys):
    alpha = np.dstack([FILM[0], FILM[1]])
    for name in "abc":
        write_png(f"plate/{name}.png", np.dstack([alpha, alpha]))
    assert main(["segment", "plate", *weights, "-o", "out"]) == 0
    error = capsys.readouterr().err
    assert error.count("alpha is left out") == 2
    assert error.splitlines()[0].endswith("a.png: alpha is left out")
    assert "2 more files: alpha is left out" in error.splitlines()
    assert error.splitlines()[-1].startswith("2 more files: is in colour and read as grey")
    assert main(["segment", "plate", *weights, "-o", "out", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_masks_with_a_palette_are_their_indices(tmp_path, monkeypatch):
    # By colour, the classes of VOC would be 3, 2, 4, 1, and equal colours one class.
    monkeypatch.chdir(tmp_path)
    indices = (np.indices((24, 30))[1] // 6).astype(np.uint8)
    write_png("image.png", FILM[0])
    palettes = {
        "voc": [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128],
        "equal": [0, 0, 0, 128, 0, 0, 128, 0, 0, 0, 0, 128, 0, 0, 128],
    }
    for name, palette in palettes.items():
        mask = Image.fromarray(indices).convert("P")
        mask.putpalette(palette + [0] * 753)
        for ending in ("png", "tif"):
            mask.save(f"{name}.{ending}")
            data = read_pairs("image.png", f"{name}.{ending}", mask_values="classes")
            np.testing.assert_array_equal(data.labels[0], indices)
            assert data.note.endswith("masks: 5 classes, from the values 0, 1, 2, 3, 4")
    Image.fromarray(indices).save("grey.png")
    for name in ("voc.png", "voc.tif", "equal.png"):
        assert main(["evaluate", name, "grey.png", "--classes", "--json", "s.json", "-q"]) == 0
        scores = json.loads(Path("s.json").read_text())["scores"]
        assert {score["value"] for score in scores.values()} == {1.0}


def test_photographs_are_turned_like_their_masks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, columns = np.indices((40, 56))
    shown = np.where((rows < 15) & (columns < 22), 200, 40).astype(np.uint8)
    for tag, back in ((6, 1), (3, 2)):
        exif = Image.Exif()
        exif[274] = tag
        Image.fromarray(np.rot90(shown, back)).save("p.jpg", quality=98, exif=exif)
        write_png("m.png", shown > 100)
        data = read_pairs("p.jpg", "m.png")
        assert data.images.shape == data.labels.shape
        assert ((data.images > 120) == (data.labels > 0)).mean() > 0.99
    assert read_image("p.jpg").shape == (40, 56)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux counts it")
@pytest.mark.parametrize("more", [[], ["--instances"]])
def test_memory_bounds_the_process(tmp_path, monkeypatch, more):
    """Or is refused with the least that works, which then does."""
    monkeypatch.chdir(tmp_path)
    UNet(base_channels=2, depth=1, backend="numpy", seed=3).save("w.safetensors")
    rows, columns = np.indices((2048, 2048)) % 64 - 32
    image = (np.hypot(rows, columns) < 20).astype(np.uint8) * 100
    write_tiff("a.tif", np.stack([image] * 2))
    code = (
        "import sys; from unet_np.cli import main; code = main(sys.argv[1:])\n"
        "peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM')][0]\n"
        "print(code, int(peak.split()[1]) // 1024)"
    )
    command = [sys.executable, "-c", code, "segment", "a.tif", "-q", "-o", "o.tif", *more]
    command += ["--weights", "w.safetensors", "--threads", "1", "--memory"]
    small = subprocess.run([*command, "120M"], capture_output=True, text=True, timeout=300)
    assert small.stdout.split()[0] == "2"
    found = re.search(r"--memory: got 120M, expected at least (\d+)M for a.tif", small.stderr)
    assert found, small.stderr
    least = int(found[1]) + 10
    done = subprocess.run([*command, f"{least}M"], capture_output=True, text=True, timeout=300)
    code, peak = map(int, done.stdout.split())
    assert code == 0, done.stderr
    assert 0.5 * least < peak < 1.2 * least
