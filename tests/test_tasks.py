"""Tiles, truth and training of the tasks beside segmentation."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from unet_np import InputError, backend, data
from unet_np.augmentation.augment import Augmentation
from unet_np.data import Dataset
from unet_np.network.unet import UNet
from unet_np.tasks import Classify, Detect
from unet_np.tasks.detection import PRIOR, all_object_ids
from unet_np.tasks.heat_map import find_objects
from unet_np.training.checkpoint import RunFolder
from unet_np.training.config import TrainConfig
from unet_np.training.interrupt import TrainingInterrupted
from unet_np.training.loop import train
from unet_np.training.samples import prepare
from unet_np.windows import crop_window, middles

SMALL = {
    "base_channels": 2,
    "depth": 1,
    "steps": 6,
    "checkpoint_every": 2,
    "validate_every": 3,
    "tensorboard": False,
    "threads": 1,
}


@pytest.fixture(scope="module")
def cells():
    return data.load("synthetic-cells", count=4, size=96)


def config(tmp_path, task, **more):
    sizes = {"detect": {"input_size": 60}, "classify": {"input_size": 33, "batch_size": 3}}
    return TrainConfig(task=task, **SMALL | sizes[task] | {"out": str(tmp_path / "run")} | more)


# Detection


def test_the_tile_of_an_object_that_the_window_cuts(cells):
    """The output shows part of an object; its centre and its size are those of the whole."""
    ids = np.zeros((80, 80), np.int32)
    ids[30:50, 10:40] = 5
    task = Detect((20.0, 30.0))
    image, known = np.zeros((80, 80), np.float32), np.ones((80, 80), np.float32)
    arrays = image, ids, known
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(40):
        _, maps, weights = task.tile(arrays, Augmentation.off(), (60, 24), rng)
        assert maps.shape == (3, 24, 24)
        assert weights.shape == (2, 24, 24)
        centre = np.argwhere(maps[0] == 1)
        if len(centre):
            seen += 1
            row, column = centre[0]
            sizes = np.exp(maps[1:, row, column])
            # What of it lies in the input tile and in the image.
            assert sizes[0] == pytest.approx(20)
            assert sizes[1] in (pytest.approx(30, abs=8), pytest.approx(30))
            assert weights[1, row, column] == 1
    assert seen > 3


def test_beyond_the_image_nothing_is_known_and_nothing_is_there(cells):
    ids = np.zeros((20, 20), np.int32)
    ids[:8, :8] = 1
    arrays = np.zeros((20, 20), np.float32), ids, np.ones((20, 20), np.float32)
    _, maps, weights = Detect((8.0, 8.0)).tile(
        arrays, Augmentation.off(), (60, 60), np.random.default_rng(0)
    )
    assert (weights[0] > 0).sum() == 400
    assert (maps[0] == 1).sum() == 1  # and not its mirror images


def test_whole_tiles_agree_with_the_inner_ones():
    image = np.random.default_rng(0).random((70, 90)).astype(np.float32)
    labels = (image > 0.5).astype(np.uint8)
    for seed in range(5):
        inner = Augmentation().tile(image, labels, image, 60, 24, np.random.default_rng(seed))
        whole = Augmentation().tile(image, labels, image, 60, 24, np.random.default_rng(seed), True)
        assert np.array_equal(inner[0], whole[0])
        inside = slice(18, 42)
        # Equal but for what lies beyond the image, which is 0 in the one and mirrored in the other.
        for a, b in zip(inner[1:], whole[1:], strict=True):
            part = b[inside, inside]
            assert b.shape == (60, 60)
            assert np.array_equal(part[part != 0], a[part != 0])
            assert (part != 0).sum() > 0.3 * (a != 0).sum()


def test_rotated_boxes_are_those_of_the_rotated_object():
    ids = np.zeros((80, 80), np.int32)
    ids[35:45, 20:60] = 1
    arrays = np.zeros((80, 80), np.float32), ids, np.ones((80, 80), np.float32)
    still = {name: 0.0 for name in ("sigma", "shift", "brightness", "contrast", "gamma")}
    turned = Augmentation(**still, rotation=180.0, flip=False)
    found = []
    for seed in range(8):
        _, maps, _ = Detect((10.0, 40.0)).tile(
            arrays, turned, (80, 80), np.random.default_rng(seed)
        )
        row, column = np.argwhere(maps[0] == 1)[0]
        assert max(abs(row - 39.5), abs(column - 39.5)) <= 2
        found.append(np.exp(maps[1:, row, column]))
    heights, widths = np.array(found).T
    assert heights.max() > 25
    assert (widths + heights > 45).all()


def test_unknown_pixels_are_not_punished(cells):
    unknown = np.zeros(cells.images.shape, bool)
    unknown[:, :, 48:] = True
    part = replace(cells, unknown=unknown)
    task = Detect.of(part, TrainConfig())
    ids, known = task.truth(part, training=True)
    arrays = part.images[0].astype(np.float32), ids[0], known[0]
    _, maps, weights = task.held_out(arrays, (96, 96))[0]
    assert not weights[0][:, 48:].any()
    outputs = np.zeros((1, 3, 96, 96), np.float32)
    _, before = task.energy(outputs, maps[None], weights[None])
    outputs[:, :, :, 48:] = 9
    _, after = task.energy(outputs, maps[None], weights[None])
    assert not before[:, 0, :, 48:].any()
    assert not after[:, 0, :, 48:].any()


def test_markers_tell_of_all_cells():
    instances = np.zeros((2, 20, 40), np.uint16)
    instances[0, 5:15, 5:15] = 3
    markers = np.zeros_like(instances)
    markers[:, 9:11, 9:11], markers[:, 9:11, 29:31] = 1, 2
    unknown = np.stack([markers[0] == 2, np.ones((20, 40), bool)])
    frames = Dataset(
        "mine", instances, (instances > 0).astype(np.uint8), instances, markers, unknown
    )
    ids = all_object_ids(frames)
    assert sorted(np.unique(ids)) == [-2, -1, 0, 3]
    settings = TrainConfig(task="detect", validation="none", input_size=60, **SMALL)
    made = prepare(settings, frames, np)
    # A frame with markers alone is learned from, and all of it counts.
    assert made.training_slices == (0, 1)
    assert made.training.weights.min() == 1
    assert made.architecture.num_classes == 3
    segmenting = prepare(settings.replace(task="segment"), frames, np)
    assert segmenting.training_slices == (0,)


def test_cells_of_a_plain_mask_are_its_components():
    labels = np.zeros((1, 30, 30), np.uint8)
    labels[0, 3:9, 3:9] = labels[0, 15:20, 12:20] = 1
    assert len(find_objects(all_object_ids(Dataset("mine", labels, labels))[0]).centres) == 2


def test_validation_counts_peaks():
    task = Detect((8.0, 8.0))
    ids = np.zeros((40, 40), np.int32)
    ids[4:12, 4:12], ids[20:28, 24:32] = 1, 2
    arrays = np.zeros((40, 40), np.float32), ids, np.ones((40, 40), np.float32)
    image, maps, weights = (part[None] for part in task.held_out(arrays, (40, 40))[0])

    class Tile:
        pass

    tile = Tile()
    tile.image, tile.labels, tile.weights = image[None], maps, weights
    right = np.log(np.clip(maps, 1e-6, 1 - 1e-6) / (1 - np.clip(maps, 1e-6, 1 - 1e-6)))
    figures = task.validate(lambda _: right, [tile])
    assert figures["validation_f1"] == 1
    nothing = task.validate(lambda _: np.full_like(maps, -9), [tile])
    assert nothing["validation_f1"] == 0
    assert nothing["validation_loss"] > figures["validation_loss"]
    assert task.validate(lambda x: x, []) == {}


def test_the_first_heat_is_low_and_the_first_size_typical(cells, tmp_path):
    made = prepare(config(tmp_path, "detect"), cells, np)
    net = UNet(base_channels=2, depth=1, backend="numpy", **Detect.options)
    made.task.begin(net.params)
    bias = net.params["output.bias"]
    assert 1 / (1 + np.exp(-bias[0])) == pytest.approx(PRIOR, rel=1e-4)
    assert np.exp(bias[1:]) == pytest.approx(made.task.typical, rel=1e-5)


# Classification


def test_the_class_of_a_patch_is_that_of_its_middle():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (40, 50)).astype(np.uint8)
    image = labels.astype(np.float32)
    arrays = image, labels, np.ones((40, 50), np.float32)
    task = Classify((1.0, 2.0, 4.0), whole=False)
    for size in (9, 10):
        for _ in range(20):
            patch, label, weight = task.tile(arrays, Augmentation.off(), (size, 1), rng)
            assert patch.shape == (size, size)
            assert patch[size // 2, size // 2] == label
            assert weight == task.class_weights[int(label)]
        for patch, label, weight in task.held_out(arrays, (size, 1)):
            assert patch[size // 2, size // 2] == label
            assert weight == 1


def test_classes_weigh_alike():
    labels = np.zeros((2, 10, 10), np.uint8)
    labels[0, :2] = 1
    task = Classify.of(Dataset("mine", labels, labels), TrainConfig())
    assert not task.whole
    counts = np.bincount(labels.ravel())
    assert np.ptp(counts * task.class_weights) < 1e-9
    assert np.dot(counts, task.class_weights) == pytest.approx(labels.size)
    alike = TrainConfig(weight_map=False)
    assert Classify.of(Dataset("mine", labels, labels), alike).class_weights == (1, 1)


def test_images_of_one_class_each_are_classified_whole():
    labels = np.zeros((2, 12, 12), np.uint8)
    labels[1] = 1
    dataset = Dataset("mine", labels, labels)
    task = Classify.of(dataset, TrainConfig())
    assert task.whole
    patch, label, _ = task.tile(
        (labels[1] * 5.0, labels[1], np.ones((12, 12))),
        Augmentation.off(),
        (12, 1),
        np.random.default_rng(0),
    )
    assert np.array_equal(patch, np.full((12, 12), 5.0))
    assert label == 1


def test_energy_of_a_batch_is_the_weighted_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.normal(size=(5, 3)), rng.integers(0, 3, 5), rng.random(5)
    loss, grad = Classify((1.0,) * 3, False).energy(logits, labels, weights)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert float(loss) == pytest.approx(-(weights * np.log(p[range(5), labels])).mean())
    expected = weights[:, None] * (p - np.eye(3)[labels]) / 5
    assert grad == pytest.approx(expected)


def test_windows_cover_an_axis():
    for length, size, stride in ((40, 9, 4), (40, 10, 10), (9, 9, 3), (5, 9, 4)):
        found = middles(length, size, stride)
        assert found[0] == min(size, length) // 2
        if length >= size:
            assert found[-1] - size // 2 + size == length
            assert np.diff(found).max(initial=0) <= stride


def test_windows_are_mirrored_like_numpy():
    image = np.arange(30).reshape(5, 6)
    expected = np.pad(image, 4, mode="reflect")[1:10, 2:11]
    assert np.array_equal(crop_window(image, -3, -2, 9), expected)
    zero = crop_window(image, -3, -2, 9, mirror=False)
    assert zero[:3].sum() == 0
    assert np.array_equal(zero[3:8, 2:8], image)
    stack = np.stack([image, -image])
    assert np.array_equal(crop_window(stack, -3, -2, 9)[1], -expected)


# The loop


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_training_and_its_files(task, cells, tmp_path):
    result = train(config(tmp_path, task), progress=False, dataset=cells)
    assert result.net.architecture.task == task
    third = {"detect": "validation_f1", "classify": "validation_error"}[task]
    assert {"validation_loss", third} <= set(result.last)
    text = RunFolder(tmp_path / "run").metrics.read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 6
    assert rows[2][third]
    assert not rows[1][third]
    again = UNet.load(result.folder.weights)
    assert again.architecture == result.net.architecture


@pytest.mark.parametrize("task", ["detect", "classify"])
@pytest.mark.parametrize("stop", [2, 5])
def test_resume_is_bit_for_bit(task, stop, cells, tmp_path):
    # The running means of batch normalisation are part of the state.
    norm = "batch" if task == "detect" else "none"
    whole = train(config(tmp_path, task, norm=norm), progress=False, dataset=cells)

    def interrupt(row):
        if row["step"] == stop:
            raise KeyboardInterrupt

    cut = config(tmp_path, task, norm=norm, out=str(tmp_path / "cut"))
    with pytest.raises((KeyboardInterrupt, TrainingInterrupted)):
        train(cut, progress=interrupt, dataset=cells)
    resumed = train(cut, resume=True, progress=False, dataset=cells)
    for name, array in whole.net.params.items():
        assert np.array_equal(array, resumed.net.params[name]), name
    for name, array in whole.net.buffers.items():
        assert np.array_equal(array, resumed.net.buffers[name]), name
    assert whole.folder.metrics.read_bytes() == resumed.folder.metrics.read_bytes()


def test_a_batch_of_tiles_is_the_tiles_one_by_one(cells, tmp_path):
    one = prepare(config(tmp_path, "detect"), cells, np)
    three = prepare(config(tmp_path, "detect", batch_size=3), cells, np)
    batch = three.tile(1)
    for i in range(3):
        single = one.tile(3 + i)
        for name in ("image", "labels", "weights"):
            assert np.array_equal(getattr(batch, name)[i], getattr(single, name)[0])


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_the_loss_falls(task, cells, tmp_path):
    settings = config(
        tmp_path, task, steps=60, learning_rate=0.01, momentum=0.9, norm="batch", dropout=0.0
    )
    losses = []
    train(settings, progress=lambda row: losses.append(row["loss"]), dataset=cells)
    assert np.mean(losses[-15:]) < 0.9 * np.mean(losses[:15])


def test_tiles_on_any_backend(xp, cells, tmp_path):
    for task in ("detect", "classify"):
        host = prepare(config(tmp_path, task), cells, np).tile(2)
        there = prepare(config(tmp_path, task), cells, xp).tile(2)
        for name in ("image", "labels", "weights"):
            found = backend.to_numpy(getattr(there, name))
            assert found == pytest.approx(getattr(host, name), abs=1e-4)


def test_mistakes_are_one_line(cells, tmp_path):
    empty = replace(cells, labels=cells.labels * 0, instances=cells.instances * 0)
    with pytest.raises(InputError, match="data: got no object, expected at least one to detect"):
        train(config(tmp_path, "detect"), progress=False, dataset=empty)
    with pytest.raises(InputError, match="labels: got class 0 only, expected at least 2 classes"):
        train(config(tmp_path, "classify"), progress=False, dataset=empty)
    for change, message in (
        ({"task": "sort"}, "task: got 'sort', expected one of segment, classify, detect"),
        ({"heat_sigma": 0.0}, "heat_sigma: got 0.0, expected a number > 0"),
        ({"batch_size": 0}, "batch_size: got 0, expected an integer >= 1"),
        ({"task": "classify", "input_size": 5}, "input size: got 5"),
    ):
        with pytest.raises(InputError, match=message):
            TrainConfig(**SMALL | change)


def test_the_default_patch():
    assert TrainConfig(task="classify", padding=1).tile_size == 65
    assert TrainConfig(task="classify", depth=2).tile_size == 65
    # No smaller patch leaves a pixel at the lowest level.
    assert TrainConfig(task="classify").tile_size == 140
