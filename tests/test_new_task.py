"""A task is one file: two that the package does not have, trained, resumed, saved and asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.ndimage

from unet_np import UNet, backend, data
from unet_np.cli import main
from unet_np.errors import InputError
from unet_np.export.torch_folder import save_torch
from unet_np.images import write_png
from unet_np.tasks import TASKS, Task
from unet_np.tasks.segmentation import segment
from unet_np.tasks.task import check_task, known_pixels, prepare
from unet_np.tiling import predict_tiled
from unet_np.training.config import TrainConfig
from unet_np.training.logs import read_csv
from unet_np.training.loop import train
from unet_np.training.samples import prepare as prepare_samples
from unet_np.windows import crop_window


def squared_error(outputs, labels, weights):
    difference = (outputs - labels) * weights
    return (difference**2).mean() / 2, difference * weights / difference.size


@dataclass(frozen=True)
class Count(Task):
    """How many pixels of a patch are cells, as a share: one number, by regression."""

    options: ClassVar = {"task": "count", "output": "vector", "num_classes": 1}
    columns: ClassVar = ("validation_loss", "validation_worst")

    @classmethod
    def of(cls, dataset, settings):
        return cls()

    @staticmethod
    def default_size(padding):
        return 33

    def truth(self, dataset, training):
        return dataset.labels, known_pixels(dataset)

    def tile(self, arrays, augmentation, sizes, rng):
        image, labels, known = augmentation.tile(*arrays, sizes[0], sizes[0], rng)
        return image, (labels > 0).mean(keepdims=True)[0], known.min(keepdims=True)[0]

    def held_out(self, arrays, sizes):
        image, labels, known = (crop_window(one, 0, 0, sizes[0]) for one in arrays)
        return [(image, (labels > 0).mean(keepdims=True)[0], known.min(keepdims=True)[0])]

    def energy(self, outputs, labels, weights):
        return squared_error(outputs, labels, weights)

    def validate(self, forward, tiles):
        figures = super().validate(forward, tiles)
        misses = [abs(forward(tile.image) - tile.labels).max() for tile in tiles]
        return figures | {"validation_worst": float(max(misses))} if misses else {}

    def begin(self, params):
        params["output.bias"][...] = 0.5


def count(net, image):
    """The share of cells in an image, as a user would ask for it."""
    check_task(net, "count")
    x = prepare(image, net.architecture.in_channels)[None]
    return float(backend.to_numpy(net.forward(backend.asarray(x, net.xp)))[0, 0])


@dataclass(frozen=True)
class Depth(Task):
    """How deep in a cell each pixel lies: a map, by regression; all else is inherited."""

    options: ClassVar = {"task": "depth", "output": "map", "num_classes": 1}

    @classmethod
    def of(cls, dataset, settings):
        return cls()

    def truth(self, dataset, training):
        depth = [
            np.minimum(scipy.ndimage.distance_transform_cdt(one > 0), 4) for one in dataset.labels
        ]
        return np.stack(depth), known_pixels(dataset)

    def energy(self, outputs, labels, weights):
        return squared_error(outputs, labels[:, None], weights[:, None])


def depth(net, image, **options):
    check_task(net, "depth")
    ready = prepare(image, net.architecture.in_channels)
    return predict_tiled(net, ready, activation="none", **options)[0]


SETTINGS = {
    "base_channels": 2, "depth": 1, "batch_size": 2, "steps": 6, "checkpoint_every": 2,
    "validate_every": 3, "learning_rate": 0.003, "momentum": 0.9, "dropout": 0.0,
    "norm": "batch", "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def cells():
    return data.load("synthetic-cells", count=4, size=96)


@pytest.fixture(params=[Count, Depth])
def task(request, monkeypatch):
    monkeypatch.setitem(TASKS, request.param.options["task"], request.param)
    return request.param


@pytest.fixture
def config(task, tmp_path):
    size = {} if task is Count else {"input_size": 36}
    return TrainConfig(task=task.options["task"], **SETTINGS, **size, out=str(tmp_path / "run"))


def ask(net, image):
    return {"count": count, "depth": depth}[net.architecture.task](net, image)


def test_it_trains_validates_and_predicts(task, config, cells):
    losses = []
    longer = config.replace(steps=60, validate_every=30)
    result = train(longer, progress=lambda row: losses.append(row["loss"]), dataset=cells)
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    rows = read_csv(result.folder.metrics)
    assert [set(task.columns) <= set(row) for row in rows] == ([False] * 29 + [True]) * 2
    loaded = UNet.load(result.folder.weights)
    assert loaded.architecture.num_classes == 1
    tiles = prepare_samples(longer, cells, np).validation_tiles()
    # In as many threads as the training: how many share a sum decides its last bits.
    with backend.using_threads(longer.threads):
        figures = task().validate(loaded.forward, tiles)
    assert figures == {name: result.last[name] for name in task.columns}
    answer = ask(loaded, cells.images[0])
    assert np.array_equal(answer, ask(result.net, cells.images[0]))
    assert np.shape(answer) == (() if task is Count else (96, 96))


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_it_resumes_bit_for_bit(config, cells, tmp_path, stop):
    whole = train(config, progress=False, dataset=cells)

    def cut(row):
        if row["step"] == stop:
            raise RuntimeError("cut")

    broken = config.replace(out=str(tmp_path / "cut"))
    with pytest.raises(RuntimeError, match="cut"):
        train(broken, progress=cut, dataset=cells)
    resumed = train(broken, resume=True, progress=False, dataset=cells)
    for name in ("weights", "metrics"):
        files = [getattr(one.folder, name).read_bytes() for one in (whole, resumed)]
        assert files[0] == files[1]


def test_it_is_told_from_other_tasks(config, cells, tmp_path):
    net = train(config, progress=False, dataset=cells).net
    name = config.task
    with pytest.raises(InputError, match=f"weights: got a network that was made to {name}, exp"):
        segment(net, cells.images[0])
    with pytest.raises(InputError, match=f"task: got 'segment', expected '{name}', with which"):
        train(config.replace(task="segment"), resume=True, progress=False, dataset=cells)
    tuned = config.replace(start=str(tmp_path / "run" / "weights.safetensors"))
    tuned = tuned.replace(out=str(tmp_path / "tuned"), steps=1)
    assert train(tuned, progress=False, dataset=cells).step == 1


def test_tiles_depend_on_the_step_alone(config, cells):
    samples = prepare_samples(config, cells, np)
    one, again = samples.tile(3), samples.tile(3)
    assert one.image.shape == (2, 1, config.tile_size, config.tile_size)
    assert np.array_equal(one.labels, again.labels)
    assert not np.array_equal(one.image, samples.tile(4).image)


def test_the_commands_know_it(task, config, cells, tmp_path, capsys):
    for number, (image, label) in enumerate(zip(cells.images, cells.labels, strict=True)):
        write_png(tmp_path / "images" / f"{number}.png", image)
        write_png(tmp_path / "masks" / f"{number}.png", label.astype(bool))
    files = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    network = ["--base-channels", "2", "--depth", "1", "--input-size", "36"]
    run = ["--steps", "2", "-q", "--out", str(tmp_path / "cli")]
    assert main(["train", "--task", config.task, *files, *network, *run]) == 0
    assert main(["train", "--resume", "-q", "--out", str(tmp_path / "cli")]) == 0
    assert main(["summary", "--weights", str(tmp_path / "cli")]) == 0
    assert main(["summary", "--task", config.task]) == 0
    assert capsys.readouterr().err == ""
    net = UNet.load(Path(tmp_path, "cli", "weights.safetensors"))
    usage = save_torch(net, tmp_path / "torch")[-1].read_text("utf-8")
    assert f"output='{task.options['output']}'" in usage
