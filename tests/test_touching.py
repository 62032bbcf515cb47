"""Cells that are brought together for training."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage

from unet_np import InputError, data
from unet_np.data import Dataset
from unet_np.training.config import TrainConfig
from unet_np.training.loop import train
from unet_np.training.samples import prepare
from unet_np.training.touching import DEEPEST, HALO, PAIRS, with_touching_cells


def apart(channels: int = 0, dtype: str = "uint8", count: int = 2) -> Dataset:
    """Two bright disks in each image, far from each other, on grey noise."""
    y, x = np.mgrid[:120, :150]
    cells = np.zeros((count, 120, 150), np.uint16)
    for n in range(count):
        cells[n][np.hypot(y - 40 - 5 * n, x - 40) < 15] = 1
        cells[n][np.hypot(y - 80, x - 105 + 3 * n) < 12] = 2
    shape = (count, *((channels,) if channels else ()), 120, 150)
    noise = np.random.default_rng(0).normal(100, 3, shape)
    inside = cells[:, None] if channels else cells
    images = (noise + 60 * (inside > 0)).astype(dtype)
    return Dataset("disks", images, (cells > 0).astype(np.uint8), cells)


def touching_pairs(cells: np.ndarray) -> set[tuple[int, int]]:
    pairs = set()
    for number in np.unique(cells[cells > 0]):
        near = scipy.ndimage.binary_dilation(cells == number, np.ones((3, 3)))
        pairs |= {(int(number), int(n)) for n in np.unique(cells[near]) if n > number}
    return pairs


@pytest.mark.parametrize("seed", range(5))
def test_copies_have_cells_that_touch_and_originals_stay(seed: int) -> None:
    some = apart()
    before = some.images.copy()
    more = with_touching_cells(some, 2, np.random.default_rng(seed))
    assert len(more) == 6
    assert np.array_equal(more.images[:2], before)
    assert np.array_equal(more.instances[:2], some.instances)
    assert np.array_equal(some.images, before)
    assert more.images.dtype == some.images.dtype
    assert more.ids == ("0", "1", "0+1", "1+1", "0+2", "1+2")
    assert not any(touching_pairs(cells) for cells in some.instances)
    for cells, labels in zip(more.instances[2:], more.labels[2:], strict=True):
        pairs = touching_pairs(cells)
        assert 1 <= len(pairs) <= PAIRS
        assert all(new > 2 for _, new in pairs)
        assert np.array_equal(labels, cells > 0)
    assert not np.array_equal(more.instances[2:4], more.instances[4:])


def test_the_copy_lies_whole_on_top_and_covers_little() -> None:
    some = apart(count=1)
    for seed in range(10):
        more = with_touching_cells(some, 1, np.random.default_rng(seed))
        old, cells, image = some.instances[0], more.instances[1], more.images[1].astype(float)
        for new in np.unique(cells[cells > 2]):
            area = np.count_nonzero(cells == new)
            assert area in (np.count_nonzero(old == 1), np.count_nonzero(old == 2))
            # A disk is as bright as the one that it was copied from.
            assert abs(image[cells == new].mean() - some.images[0][old > 0].mean()) < 2
        for number in (1, 2):
            covered = np.count_nonzero((old == number) & (cells != number))
            assert covered <= 0.15 * np.count_nonzero(old == number)
        far = scipy.ndimage.distance_transform_edt(cells <= 2) > HALO + 1
        assert np.array_equal(more.images[1][far], some.images[0][far])


def test_brightness_is_that_of_the_place() -> None:
    """A cell from a dark image is copied into a bright one without a step around it."""
    some = apart()
    images = some.images.astype(float)
    images[1] += 80
    some = replace(some, images=images)
    for seed in range(5):
        more = with_touching_cells(some, 1, np.random.default_rng(seed))
        for image, cells, level in zip(
            more.images[2:], more.instances[2:], (160, 240), strict=True
        ):
            for new in np.unique(cells[cells > 2]):
                assert abs(image[cells == new].mean() - level) < 4


def test_nothing_is_put_on_unknown_pixels_or_a_third_cell() -> None:
    some = apart()
    unknown = np.zeros(some.instances.shape, bool)
    unknown[:, :, 60:] = True
    some = replace(some, unknown=unknown)
    changed = 0
    for seed in range(10):
        more = with_touching_cells(some, 1, np.random.default_rng(seed))
        new = more.instances[2:] > 2
        assert not (new & unknown).any()
        assert np.array_equal(more.unknown, np.concatenate([unknown, unknown]))
        changed += new.any()
    assert changed


@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (0, "uint16"), (2, "float32")])
def test_colour_and_other_numbers(channels: int, dtype: str) -> None:
    some = apart(channels, dtype)
    more = with_touching_cells(some, 1, np.random.default_rng(0))
    assert more.images.shape == (4, *some.images.shape[1:])
    assert more.images.dtype == np.dtype(dtype)
    changed = (more.images[2:] != some.images).reshape(2, -1, 120, 150)
    assert (changed.any(axis=1).sum(axis=(1, 2)) > 300).all()
    assert all(touching_pairs(cells) for cells in more.instances[2:])


def test_values_stay_in_the_range_of_their_type() -> None:
    some = apart()
    bright = np.where(some.instances > 0, 255, some.images).astype(np.uint8)
    bright[1] //= 2
    more = with_touching_cells(replace(some, images=bright), 1, np.random.default_rng(1))
    for image, cells in zip(more.images[2:], more.instances[2:], strict=True):
        assert (image[cells > 2] > 90).all()


def test_the_same_generator_gives_the_same_copies() -> None:
    one, two = (with_touching_cells(apart(), 1, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.instances, two.instances)
    assert 0 < DEEPEST < HALO


def config(**changes: object) -> TrainConfig:
    settings = {
        "base_channels": 2,
        "depth": 1,
        "input_size": 36,
        "steps": 4,
        "validation": "none",
        "tensorboard": False,
        "threads": 1,
        "touching": 1,
    }
    return TrainConfig(**(settings | changes))


def test_a_training_learns_from_originals_and_copies(tmp_path) -> None:
    samples = prepare(config(), apart(count=3), np)
    assert samples.training_slices == (0, 1, 2, 0, 1, 2)
    assert len(samples.training.images) == 6
    assert sorted(samples.index(step) for step in range(6)) == list(range(6))
    # Between cells that were brought together the border weighs as eq. 2 wants it.
    assert samples.training.weights[3:].max() > samples.training.weights[:3].max() + 3
    whole = train(config(out=tmp_path / "whole"), progress=False, dataset=apart())
    train(config(out=tmp_path / "cut", steps=2), progress=False, dataset=apart())
    resumed = train(config(out=tmp_path / "cut"), True, progress=False, dataset=apart())
    for name, array in whole.net.params.items():
        assert np.array_equal(resumed.net.params[name], array)


def test_held_out_images_are_never_copied() -> None:
    some = apart(count=3)
    marked = some.images.copy()
    marked[2] = np.where(some.instances[2] > 0, 250, 5)
    samples = prepare(config(validation="2"), replace(some, images=marked), np)
    assert samples.training_slices == (0, 1, 0, 1)
    assert samples.validation_slices == (2,)
    plain = prepare(config(validation="2"), some, np)
    assert np.array_equal(samples.training.images, plain.training.images)


@pytest.mark.data
def test_u373_of_the_first_sequence_has_pairs_after_it() -> None:
    if not data.is_available("u373"):
        pytest.skip("u373 is not there; see UNET_NP_DATA")
    whole = data.load("u373", download=False)
    some = whole.subset([i for i, group in enumerate(whole.groups) if group == "01"][:4])
    more = with_touching_cells(some, 1, np.random.default_rng(0))
    assert not any(touching_pairs(cells) for cells in more.instances[:4])
    assert all(touching_pairs(cells) for cells in more.instances[4:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"instances": None},
            "touching: got disks without instances, expected images of one size in which each cell "
            "has a number, or touching 0",
        ),
        (
            {"sizes": ((100, 100), (120, 150))},
            "touching: got disks of several sizes, expected images of one size in which each cell "
            "has a number, or touching 0",
        ),
        (
            {"instances": np.zeros((2, 120, 150), int)},
            "touching: got no cell with 8 pixels of image around it, expected one to copy, or "
            "touching 0",
        ),
    ],
)
def test_bad_data(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        with_touching_cells(replace(apart(), **change), 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"touching": -1}, "touching: got -1, expected an integer >= 0"),
        ({"task": "classify"}, "touching: got 1, expected 0 for task classify"),
        ({"task": "detect"}, "touching: got 1, expected 0 for task detect"),
    ],
)
def test_bad_settings(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        config(**({"input_size": 0} | change))
