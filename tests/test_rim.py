"""Three classes that part cells: inside, rim and background, from instances to cells again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np.cli import main
from unet_np.data import Dataset, load
from unet_np.errors import InputError
from unet_np.files.on_disk import new_array
from unet_np.files.weights import read_metadata
from unet_np.images import read_image, write_tiff
from unet_np.network.unet import UNet
from unet_np.tasks.segmentation import (
    OF_RIMS,
    RIM,
    CellMap,
    Segment,
    cell_map,
    grown_instances,
    segment,
)
from unet_np.training.config import TrainConfig
from unet_np.training.samples import prepare
from unet_np.weighting.separation import inside_and_rim, separate_touching


def touching_disks():
    """Three disks that touch, one of them cut off by the image's edge."""
    row, column = np.indices((40, 60))
    cells = np.zeros((40, 60), np.uint16)
    for number, (centre, radius) in enumerate((((18, 14), 11), ((18, 34), 11), ((35, 42), 11)), 3):
        mask = np.hypot(row - centre[0], column - centre[1]) < radius
        cells[mask & (cells == 0)] = number
    return cells


cells_of_any_kind = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 5, (12, 15)).repeat(3, 0).repeat(2, 1)
)


@given(cells_of_any_kind, st.sampled_from([1, 1.5, 2, 3]))
@settings(deadline=None, max_examples=40)
def test_each_cell_has_an_inside_that_no_other_cell_touches(cells, width):
    classes = inside_and_rim(cells, width)
    assert ((classes > 0) == (cells > 0)).all()
    assert set(np.unique(cells)) - {0} == set(np.unique(cells[classes == 1])) - {0}
    inside = np.where(classes == 1, cells, 0)
    most = scipy.ndimage.maximum_filter(inside, footprint=[[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    assert (most[inside > 0] == inside[inside > 0]).all()


def test_a_rim_is_as_wide_as_asked_and_not_at_the_edge_of_the_image():
    cells = np.zeros((20, 30), int)
    cells[:12, 4:24] = 7
    classes = inside_and_rim(cells, 2)
    expected = np.where(cells > 0, 2, 0)
    expected[:10, 6:22] = 1
    np.testing.assert_array_equal(classes, expected)
    assert (inside_and_rim(np.ones((5, 5), int)) == 1).all()


def test_the_cells_come_back_from_what_a_sure_network_would_say():
    cells = touching_disks()
    classes = inside_and_rim(cells)
    sure = np.stack([classes == number for number in range(3)]).astype(np.float32)
    found, _ = grown_instances(cell_map(sure, RIM), **OF_RIMS)
    assert len(np.unique(found)) == 4
    for number in (3, 4, 5):
        match = found == np.bincount(found[cells == number]).argmax()
        assert (match & (cells == number)).sum() / (match | (cells == number)).sum() > 0.97
    merged, _ = grown_instances((cells > 0).astype(np.float32), 0.5, 0.5)
    assert len(np.unique(merged)) == 2


def test_the_map_on_disk_is_the_map(tmp_path):
    maps = np.random.default_rng(0).random((3, 8, 9), np.float32)
    with new_array(tmp_path / "maps", maps.shape, np.float32) as stored:
        stored[:] = maps
        for rim in (None, 2):
            one = CellMap(stored, rim)
            assert (one.shape, one.dtype) == ((8, 9), np.float32)
            np.testing.assert_array_equal(one[2:5], cell_map(maps, rim)[2:5])
            np.testing.assert_array_equal(one[2:5, 1:3], cell_map(maps, rim)[2:5, 1:3])


def few(**changes):
    return replace(load("synthetic-cells", count=3, size=192), **changes)


SMALL = {"base_channels": 2, "depth": 1, "input_size": 60, "steps": 2, "rim": 2.0}


def test_a_training_with_a_rim_has_three_classes_and_weighs_each():
    dataset = few()
    samples = prepare(TrainConfig(**SMALL), dataset, np)
    assert samples.architecture.num_classes == 3
    expected = inside_and_rim(dataset.instances[:2], 2)
    np.testing.assert_array_equal(samples.training.labels, expected)
    weights = [samples.training.weights[samples.training.labels == n].min() for n in range(3)]
    shares = np.bincount(expected.ravel()) / expected.size
    np.testing.assert_allclose(weights, 1 / (3 * shares), rtol=1e-5)
    assert samples.training.weights.max() > max(weights) + 1  # eq. 2 where two cells are near
    given_weights = TrainConfig(**SMALL, class_weights="1 2 3", w0=0)
    weighed = prepare(given_weights, dataset, np).training
    np.testing.assert_array_equal(weighed.weights, weighed.labels + 1)


def test_the_line_between_two_cells_weighs_most():
    cells = touching_disks()[None]
    dataset = Dataset("mine", np.zeros(cells.shape), (cells > 0).astype(np.uint8), cells)
    task = Segment.of(dataset, TrainConfig(rim=2))
    labels, weights = task.truth(Segment.dataset(dataset, TrainConfig(rim=2)), training=True)
    line = separate_touching(cells[0]) != cells[0]
    assert (labels[0][line] == RIM).all()
    others = weights[0][~line & (labels[0] == RIM)]
    assert np.ptp(others) == 0
    assert weights[0][line].min() > others.max() + 5


def test_copies_with_touching_cells_have_rims_too():
    samples = prepare(TrainConfig(**SMALL, touching=1), few(), np)
    labels = samples.training.labels
    assert len(labels) == 4
    assert [set(np.unique(one)) for one in labels] == [{0, 1, 2}] * 4


def test_a_cell_cut_by_the_edge_of_a_smaller_image_has_no_rim_there():
    cells = np.zeros((1, 20, 20), np.uint16)
    cells[0, 2:12, 2:15] = 1
    images = np.random.default_rng(0).random((1, 20, 20))
    unknown = np.ones((1, 20, 20), bool)
    unknown[0, :12, :15] = False
    dataset = Dataset("mine", images, (cells > 0) * 1, cells, unknown=unknown, sizes=((12, 15),))
    labels = Segment.dataset(dataset, TrainConfig(rim=2)).labels[0]
    assert (labels[4:12, 4:15] == 1).all()
    assert (labels[2:4, 2:15] == 2).all()


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"rim": 0.5}, "rim: got 0.5, expected 0, or a number >= 1"),
        ({"rim": -1}, "rim: got -1.0, expected 0, or a number >= 1"),
        ({"rim": 2, "task": "detect"}, "rim: got 2, expected 0 for task detect"),
        ({"rim": 2, "class_weights": "1 2"}, "class_weights: got 2, expected 3, one for each cla"),
    ],
)
def test_mistakes_are_one_line(settings_, message):
    with pytest.raises(InputError) as caught:
        prepare(TrainConfig(**{**SMALL, **settings_}), few(), np)
    assert str(caught.value).startswith(message)


def test_masks_without_numbers_have_no_rims():
    with pytest.raises(InputError, match=r"^rim: got .* without instances, expected masks in wh"):
        prepare(TrainConfig(**SMALL), few(instances=None), np)
    for width in (0, float("nan")):
        with pytest.raises(InputError, match=r"^rim: got (0|nan), expected a width of at least 1"):
            inside_and_rim(touching_disks(), width)


def test_from_train_to_the_numbered_cells_by_one_flag(tmp_path, capsys):
    dataset = few()
    for name, stack in (("images", dataset.images), ("masks", dataset.instances)):
        for number, one in enumerate(stack):
            (tmp_path / name).mkdir(exist_ok=True)
            write_tiff(tmp_path / name / f"{number}.tif", one)
    flags = "--base-channels 2 --depth 1 --input-size 60 --steps 2 -q --rim 2"
    own = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    assert main(["train", *own, *flags.split(), "--out", str(tmp_path / "run")]) == 0
    weights = tmp_path / "run" / "weights.safetensors"
    assert json.loads(read_metadata(weights)["cells"]) == {"rim": 2}

    image, out = tmp_path / "images" / "0.tif", tmp_path / "o.tif"
    command = ["segment", str(image), "-o", str(out), "-q", "--instances", "--overwrite"]
    maps = segment(UNet.load(weights, backend="numpy"), read_image(image)).probabilities
    for more, limits in (
        ([], OF_RIMS),
        (["--seeds", "0.5", "--threshold", "0.4"], {"seeds": 0.5, "threshold": 0.4}),
    ):
        assert main([*command, "--weights", str(weights), *more]) == 0
        expected, _ = grown_instances(cell_map(maps, RIM), **limits)
        np.testing.assert_array_equal(read_image(tmp_path / "o-instances.tif"), expected)

    # The same network without a word on rims, as after masks of three classes: the flag says it.
    plain = tmp_path / "plain.safetensors"
    UNet.load(weights, backend="numpy").save(plain)
    assert main([*command, "--weights", str(plain), "--rim", "2"]) == 0
    expected, _ = grown_instances(cell_map(maps, RIM), **OF_RIMS)
    np.testing.assert_array_equal(read_image(tmp_path / "o-instances.tif"), expected)

    capsys.readouterr()
    assert main([*command, "--weights", str(plain), "--rim", "3"]) == 2
    assert (
        "--rim: got class 3, expected a third class, the network has 3" in capsys.readouterr().err
    )
