"""Files that are there already: this program's own are replaced, those of others only if asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from unet_np import UNet
from unet_np.cli import main
from unet_np.errors import InputError
from unet_np.experiments import Places, export, legs, protocol, recipe, run_fold
from unet_np.files.ours import is_ours
from unet_np.files.weights import read_metadata
from unet_np.images import write_png, write_tiff
from unet_np.tasks import Classify, Detect
from unet_np.training.logs import read_csv

FOREIGN = {
    "text": b"my own\n",
    "table": b"slice,id,mine\n1,2,3\n",
    "json": b'{"command": "unet-np experiment em", "versions": {}}',
    "nested": b'{"command":' + b"[" * 10_000,
    "damaged tiff": b"II*\x00\xff\xff\xff\xff",
    "damaged png": b"\x89PNG\r\n\x1a\n" + bytes(99),
    "short zip": b"PK",
    "zip": b"PK\x05\x06" + bytes(18),
    "geojson": b'{"type": "FeatureCollection", "features": []}',
    "weights": b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
}


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = {"base_channels": 2, "depth": 1, "backend": "numpy"}
    UNet(**small).save("w.safetensors")
    UNet(**small, **Detect.options).save("d.safetensors")
    UNet(**small, **Classify.options).save("c.safetensors")
    image = np.random.default_rng(0).integers(0, 200, (40, 40)).astype(np.uint8)
    write_png("a.png", image)
    write_tiff("p.tif", image / np.float32(255))
    write_png("l.png", (image > 99).astype(np.uint8))


COMMANDS = {
    "segment a.png -o o.tif --weights w.safetensors --instances --rois --geojson": (
        "o.tif", "o-labels.tif", "o-instances.tif", "o-cells.csv", "o-rois.zip", "o-cells.geojson",
    ),
    "segment a.png --weights w.safetensors": ("a-probabilities.tif", "a-labels.tif"),
    "detect a.png -o o.csv --weights d.safetensors": ("o.csv", "o-overlay.png"),
    "classify a.png -o o.csv --weights c.safetensors": ("o.csv",),
    "evaluate p.tif l.png --metrics iou --json o.json": ("o.json",),
    "export --weights w.safetensors --onnx o.onnx": ("o.onnx",),
    "export --weights w.safetensors --torch o": (
        "o/weights.safetensors", "o/torch_unet.py", "o/weights.txt",
    ),
    "data show synthetic-em --preview o.png": ("o.png",),
}  # fmt: skip


def run(command: str, *more: str) -> int:
    words = command.split()
    quiet = [] if words[0] == "data" else ["-q"]
    return main([*words, *quiet, *more])


@pytest.mark.parametrize("command", COMMANDS)
def test_only_files_of_others_are_kept(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = COMMANDS[command]
    assert run(command) == 0
    assert all(is_ours(Path(name)) for name in names), names
    assert run(command) == 0, "what it wrote itself it writes again"
    capsys.readouterr()
    for number, name in enumerate(names):
        content = list(FOREIGN.values())[number % len(FOREIGN)]
        Path(name).write_bytes(content)
        others = {other: Path(other).stat().st_mtime_ns for other in names}
        assert run(command) == 2
        line = capsys.readouterr().err
        assert f"got {name}, not written by unet-np, expected another name, or --over" in line
        assert line.count("\n") == 1
        assert Path(name).read_bytes() == content
        assert {other: Path(other).stat().st_mtime_ns for other in names} == others
        assert run(command, "--overwrite") == 0
        assert is_ours(Path(name))


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_content_is_never_ours(kind: str) -> None:
    Path("x").write_bytes(FOREIGN[kind])
    assert not is_ours(Path("x"))


def test_what_a_viewer_wrote_again_is_not_ours() -> None:
    """A corrected label map has the name that `segment` gave it, and is somebody's work."""
    import tifffile
    from PIL import Image

    tifffile.imwrite("x.tif", np.zeros((4, 4), np.uint8), imagej=True)
    Image.new("L", (4, 4)).save("x.png")
    assert not is_ours(Path("x.tif"))
    assert not is_ours(Path("x.png"))
    assert not is_ours(Path("w.safetensors"))  # weights are no result that is made again


EXPERIMENTS = {
    "experiment em --quick --legs kept --fold 0": "kept/em-fold-0.safetensors",
    "experiment em --quick": "runs/quick/em.json",
    "experiment em --quick --search --steps 1": "runs/quick/search-em.json",
    "experiment em --quick --ablation": "runs/quick/em-ablation.json",
    "experiment em --quick --test-slices 0": "runs/quick/em-test-slices.png",
}


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_experiments_keep_files_of_others(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is trained."""
    monkeypatch.setattr("unet_np.experiments.runner.train", None)
    file = Path(EXPERIMENTS[command])
    file.parent.mkdir(parents=True)
    own = Path("w.safetensors").read_bytes() if "legs" in command else b'{"mine": 1}'
    file.write_bytes(own)
    assert run(command) == 2
    assert f"got {file}, not written by unet-np, expected" in capsys.readouterr().err
    assert file.read_bytes() == own


def test_what_experiments_write_is_ours(tmp_path: Path) -> None:
    chosen = recipe("em", quick=True, base_channels=2, steps=1, input_size=68, averaging=1)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[0]
    places = Places(tmp_path / "r", tmp_path / "s", ["x"], lambda _: None, False, tmp_path / "l")
    run_fold(chosen, dataset, fold, places)
    run_fold(chosen, dataset, fold, places, overwrite=True)
    written = [*tmp_path.glob("l/*"), *tmp_path.glob("s/*")]
    assert len(written) == 4
    assert all(is_ours(path) for path in written)
    target = export(chosen, fold, places, tmp_path / "out")
    card = target.with_suffix(".md")
    assert is_ours(card)
    for path in (card, target):
        before = {one: one.read_bytes() for one in (card, target)}
        if path == card:
            target.unlink()
            card.write_text("# Model card: em\n\nmine\n")
        with pytest.raises(InputError, match=f"--export: got {path}.*, not written by unet-np"):
            export(chosen, fold, places, tmp_path / "out")
        export(chosen, fold, places, tmp_path / "out", overwrite=True)
        assert {one: one.read_bytes() for one in (card, target)} == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("segment p.tif -o p.tif --weights w.safetensors", "--out: got p.tif, which is an input"),
        ("evaluate p.tif l.json --json l.json", "--json: got l.json, which is an input, expected"),
        ("export --weights run --torch run", "--torch: got run/weights.safetensors, which is an"),
    ],
)
def test_inputs_are_never_replaced(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("l.png", "l.json")
    Path("run").mkdir()
    shutil.copy("w.safetensors", "run/weights.safetensors")
    before = {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()}
    assert run(command, "--overwrite") == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


PIPES = [
    *COMMANDS,
    "segment a.png -o new.tif --weights pipe --instances",
    "summary --weights pipe",
    "segment pipe -o new.tif --weights w.safetensors",
    "train --out run --base-channels 2 --depth 1 --input-size 36 --steps 1",
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_nothing_waits_for_a_pipe() -> None:
    """Whether it is named as an output, read as an input, or lies in the folder of a run."""
    first = {files[0] for files in COMMANDS.values()}
    for name in (*first, "pipe", "run/checkpoint.safetensors", "run/metrics.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        os.mkfifo(name)
    code = (
        "import sys; from unet_np.cli import main\n"
        "for command in sys.stdin.read().splitlines(): print(main(command.split()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(PIPES),
        capture_output=True,
        text=True,
        timeout=120,
    )
    codes = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert codes == ["2"] * len(PIPES), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(PIPES)
    assert sum("got the pipe or device" in line for line in lines) == len(COMMANDS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_no_file_of_a_run_or_result_is_a_pipe(tmp_path: Path) -> None:
    """These readers were given pipes, and would wait for what is written to them."""
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "legs.json")
    with mock.patch("builtins.open", side_effect=AssertionError("opened")):
        for read, words in (
            (lambda: read_csv(tmp_path / "pipe"), "no regular file"),
            (lambda: protocol.read_json(tmp_path / "pipe"), "no regular file"),
            (lambda: legs.recorded(tmp_path), "with other content"),
        ):
            with pytest.raises(InputError, match=words):
                read()
        assert not is_ours(tmp_path / "pipe")
        assert read_metadata(tmp_path / "pipe") == {}
