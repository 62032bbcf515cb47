"""The weight map (eq. 2) against brute force over all cells, and separation borders."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from unet_np import backend, data
from unet_np.errors import InputError
from unet_np.weighting.cell_distance import bounded_distances, two_nearest_cells
from unet_np.weighting.eq2 import TERMS, balancing_weights, separation_term, weight_map
from unet_np.weighting.separation import cells_in_mask, separate_touching, separation_border

EIGHT = np.ones((3, 3), bool)


def distances_to_every_cell(instances):
    """One full-image distance transform for each cell; rows of infinity make it at least two."""
    labels = np.unique(instances[instances > 0])
    stack = np.full((max(2, len(labels)), *instances.shape), np.inf)
    for row, label in zip(stack, labels, strict=False):
        row[:] = scipy.ndimage.distance_transform_edt(instances != label)
    return stack


def brute_force_weights(instances, w0, sigma, term):
    """Eq. 2 with the nearest pair searched among all pairs of cells."""
    stack = distances_to_every_cell(instances)
    nearest = np.full(instances.shape, np.inf)
    for i in range(len(stack)):
        for j in range(i):
            nearest = np.minimum(nearest, stack[i] + stack[j])
    classes = (instances > 0).astype(int)
    counts = np.bincount(classes.ravel(), minlength=2)
    w_c = (classes.size / ((counts > 0).sum() * np.maximum(counts, 1)))[classes]
    where = (instances == 0) | (term == "everywhere")
    return w_c + where * w0 * np.exp(-(nearest**2) / (2 * sigma**2))


def scattered(rng, shape, cells, share):
    """Pixels of `cells` labels thrown at random, so that every odd shape occurs."""
    labels = rng.choice(np.r_[1:200, 40000, 2**31 - 1], cells)
    return rng.choice(labels, shape) * (rng.random(shape) < share)


def disks(size=512, per_side=10, seed=0):
    rng = np.random.default_rng(seed)
    instances = np.zeros((size, size), np.int32)
    step = size / per_side
    y, x = np.mgrid[:size, :size]
    for i in range(per_side**2):
        centre = (np.array(divmod(i, per_side)) + 0.5 + rng.uniform(-0.1, 0.1, 2)) * step
        radius = rng.uniform(0.25, 0.5) * step
        instances[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = i + 1
    return instances


IMAGES = {
    "shape": st.tuples(st.integers(1, 32), st.integers(1, 32)),
    "cells": st.integers(1, 8),
    "share": st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]),
    "seed": st.integers(0, 2**32),
}


@given(**IMAGES)
def test_two_nearest_cells_are_exact(shape, cells, share, seed):
    instances = scattered(np.random.default_rng(seed), shape, cells, share)
    stack = np.sort(distances_to_every_cell(instances), axis=0)
    d1, d2 = two_nearest_cells(instances)
    np.testing.assert_array_equal(d1, stack[0])
    np.testing.assert_array_equal(d2, stack[1])


@given(**IMAGES, limit=st.floats(0, 30))
def test_a_limit_changes_nothing_within_it(shape, cells, share, seed, limit):
    instances = scattered(np.random.default_rng(seed), shape, cells, share)
    stack = np.sort(distances_to_every_cell(instances), axis=0)
    d1, d2 = two_nearest_cells(instances, limit)
    near = stack[0] <= limit
    np.testing.assert_array_equal(d1[near], stack[0][near])
    near = stack[0] + stack[1] <= limit
    np.testing.assert_array_equal(d2[near], stack[1][near])
    assert (d1 + d2 > limit)[~near].all()


@given(**IMAGES, w0=st.floats(0, 100), sigma=st.floats(0.3, 30), term=st.sampled_from(TERMS))
def test_weight_map_is_brute_force_over_all_pairs(shape, cells, share, seed, w0, sigma, term):
    instances = scattered(np.random.default_rng(seed), shape, cells, share)
    weights = weight_map(instances, w0, sigma, term=term)
    assert weights.dtype == np.float32
    assert weights.shape == shape
    # float32 itself holds 100 to 8e-6 only.
    np.testing.assert_allclose(
        weights, brute_force_weights(instances, w0, sigma, term), atol=1e-5, rtol=1e-7
    )


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("sigma", [1, 5, 40])
def test_weight_map_of_many_disks_is_brute_force(sigma, term):
    instances = disks(160, 5)
    expected = brute_force_weights(instances, 10, sigma, term)
    np.testing.assert_allclose(weight_map(instances, 10, sigma, term=term), expected, atol=1e-5)


def test_the_second_term_is_in_the_background_unless_asked_for_everywhere():
    instances = disks(96, 3)
    background, cell = balancing_weights(instances)
    inside = instances > 0
    by_default, everywhere = weight_map(instances), weight_map(instances, term="everywhere")
    np.testing.assert_array_equal(by_default, weight_map(instances, term="background"))
    np.testing.assert_allclose(by_default[inside], cell)
    np.testing.assert_array_equal(by_default[~inside], everywhere[~inside])
    assert everywhere[inside].max() > cell + 5
    assert by_default[~inside].max() > background + 5


def test_defaults_are_those_of_the_paper():
    instances = disks(96, 3)
    np.testing.assert_array_equal(weight_map(instances), weight_map(instances, 10, 5))
    assert weight_map(instances).max() > 8


def test_reading_note_of_eq_2_is_wrong():
    # d1 + d2^2 for (d1 + d2)^2 gives another map: the gap below would weigh far less.
    instances = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 2]])
    d1, d2 = two_nearest_cells(instances)
    printed = weight_map(instances, term="everywhere") - np.where(instances > 0, 9 / 4, 9 / 14)
    np.testing.assert_allclose(printed, 10 * np.exp(-((d1 + d2) ** 2) / 50), atol=1e-6)
    assert abs(printed - 10 * np.exp(-(d1 + d2**2) / 50)).max() > 0.5


def test_falk2019_is_the_later_formula():
    instances = disks(120, 3)
    stack = np.sort(distances_to_every_cell(instances), axis=0)
    d1, d2 = stack[:2]
    background = 0.1 + 0.9 * np.exp(-(d1**2) / 200) + 50 * np.exp(-((d1 + d2) ** 2) / 72)
    expected = np.where(instances > 0, 1, background)
    result = weight_map(instances, variant="falk2019")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)
    other = weight_map(instances, 5, 3, variant="falk2019")
    background += 5 * np.exp(-((d1 + d2) ** 2) / 18) - 50 * np.exp(-((d1 + d2) ** 2) / 72)
    np.testing.assert_allclose(other, np.where(instances > 0, 1, background), atol=1e-5)


def test_one_cell_has_no_second_and_none_has_no_first():
    one = np.zeros((9, 9), int)
    one[3:5, 3:6] = 7
    np.testing.assert_allclose(weight_map(one), np.where(one > 0, 81 / 12, 81 / 150))
    assert np.isinf(two_nearest_cells(one)[1]).all()
    none = np.zeros((9, 9), int)
    assert (weight_map(none) == 1).all()
    assert np.isinf(two_nearest_cells(none)[0]).all()
    assert (weight_map(none + 5) == 1).all()
    np.testing.assert_allclose(weight_map(none, variant="falk2019"), 0.1)
    far = weight_map(one, variant="falk2019")
    np.testing.assert_allclose(far[3, 6], 0.1 + 0.9 * math.exp(-1 / 200), atol=1e-6)


@given(**IMAGES)
def test_weights_are_positive_and_w_c_has_mean_one(shape, cells, share, seed):
    instances = scattered(np.random.default_rng(seed), shape, cells, share)
    for variant in ("paper", "falk2019"):
        weights = weight_map(instances, variant=variant)
        assert np.isfinite(weights).all()
        assert weights.min() > 0
    balance = weight_map(instances, w0=0)
    assert balance.mean() == pytest.approx(1, rel=1e-5)
    sums = [float(balance[part].sum()) for part in (instances > 0, instances == 0) if part.any()]
    assert min(sums) == pytest.approx(max(sums), rel=1e-5)


def test_a_stack_shares_frequencies_but_not_cells():
    stack = np.stack([disks(64, 2, seed) for seed in range(3)])
    stack[1, :, 32:] = 0
    pair = balancing_weights(stack)
    apart = np.stack([weight_map(one, class_weights=pair) for one in stack])
    np.testing.assert_array_equal(weight_map(stack), apart)
    assert not np.array_equal(weight_map(stack)[1], weight_map(stack[1]))
    later = np.stack([weight_map(one, variant="falk2019") for one in stack])
    np.testing.assert_array_equal(weight_map(stack, variant="falk2019"), later)


def test_labels_are_names_only():
    instances = disks(96, 3)
    renamed = np.where(instances > 0, 60000 - 7 * instances, 0).astype(np.uint16)
    np.testing.assert_array_equal(weight_map(instances), weight_map(renamed))
    np.testing.assert_allclose(weight_map(instances), weight_map(instances.T).T, atol=1e-6)


def test_separation_term():
    d1, d2 = np.array([0.0, 3.0, 1.0, np.inf]), np.array([0.0, 4.0, np.inf, np.inf])
    np.testing.assert_allclose(separation_term(d1, d2), [10, 10 * math.exp(-49 / 50), 0, 0])


def test_large_images_use_wide_integers():
    instances = np.zeros((1, 33000), int)
    instances[0, 0], instances[0, -1] = 1, 2
    d1, d2 = two_nearest_cells(instances)
    np.testing.assert_array_equal(d1 + d2, 32999)
    assert d2[0, 0] == 32999


def cpu_seconds(function, repeats=3):
    best = math.inf
    for _ in range(repeats):
        begin = time.thread_time()
        function()
        best = min(best, time.thread_time() - begin)
    return best


@pytest.fixture
def one_thread():
    backend.set_thread_count(1)
    yield
    backend.set_thread_count(None)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_ten_times_faster_than_a_transform_for_each_cell():
    instances = disks()
    ours = cpu_seconds(lambda: weight_map(instances))
    theirs = cpu_seconds(lambda: distances_to_every_cell(instances), 1)
    assert theirs / ours > 10


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_time_grows_with_pixels_and_not_with_cells():
    few = disks(512, 4)
    y, x = np.mgrid[:512, :512]
    many = np.where((y % 8 > 1) & (x % 8 > 1), y // 8 * 64 + x // 8 + 1, 0)
    assert many.max() == 4096
    once = cpu_seconds(lambda: weight_map(few))
    assert cpu_seconds(lambda: weight_map(many)) < 3 * once
    # Rings in rings: every cell's bounding box is large, and so is the distance to the next.
    y, x = np.mgrid[-256:256, -256:256]
    rings = (np.hypot(y, x) / 8).astype(int) + 1
    assert cpu_seconds(lambda: weight_map(rings)) < 3 * once
    large = np.tile(few, (2, 2))
    assert cpu_seconds(lambda: weight_map(large)) < 3 * 4 * once


@pytest.mark.parametrize("variant", ["paper", "falk2019"])
def test_weight_map_is_the_same_on_every_library_and_stays_there(xp, variant):
    instances = disks(64, 3)
    result = weight_map(backend.asarray(instances, xp), variant=variant)
    assert isinstance(result, xp.ndarray)
    expected = weight_map(instances, variant=variant)
    np.testing.assert_allclose(backend.to_numpy(result), expected, atol=1e-5)


def touching(labels):
    """Whether two cells share a 3 by 3 square, by looking at every pair of neighbours."""
    padded = np.pad(labels, 1)
    height, width = labels.shape
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
            if ((labels > 0) & (near > 0) & (near != labels)).any():
                return True
    return False


@given(**IMAGES, width=st.sampled_from([1, 2]))
def test_no_two_cells_touch_afterwards(shape, cells, share, seed, width):
    instances = scattered(np.random.default_rng(seed), shape, cells, share)
    apart = separate_touching(instances, width)
    assert apart.dtype == np.int32
    assert not touching(apart)
    # Pixels become background or stay what they were.
    np.testing.assert_array_equal(apart[apart > 0], instances[apart > 0])
    border = separation_border(instances, width)
    np.testing.assert_array_equal(border, (instances > 0) & (apart == 0))
    if not touching(instances):
        np.testing.assert_array_equal(apart, instances)


def test_width_of_the_border():
    halves = np.repeat([[1, 2]], 6, axis=1) * np.ones((5, 1), int)
    np.testing.assert_array_equal(separate_touching(halves)[2], [1] * 6 + [0] + [2] * 5)
    np.testing.assert_array_equal(separate_touching(halves, 2)[2], [1] * 5 + [0] * 2 + [2] * 5)
    corners = np.array([[1, 0], [0, 2]])
    np.testing.assert_array_equal(separate_touching(corners), [[1, 0], [0, 0]])


@given(**IMAGES, radius=st.floats(0, 6))
def test_cells_in_mask_cover_it_and_keep_its_parts_apart(shape, cells, share, seed, radius):
    rng = np.random.default_rng(seed)
    mask = scipy.ndimage.binary_dilation(rng.random(shape) < share / 4, iterations=2)
    found = cells_in_mask(mask, radius)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found > 0, mask)
    np.testing.assert_array_equal(np.unique(found[mask]), np.arange(1, found.max() + 1))
    # Every cell is 4-connected, and within one part of the mask.
    for label in range(1, found.max() + 1):
        assert scipy.ndimage.label(found == label)[1] == 1
    if radius == 0:
        assert found.max() == scipy.ndimage.label(mask)[1]
    assert not touching(separate_touching(mask, radius=radius))


def test_two_disks_with_a_neck_are_cut_at_the_neck():
    y, x = np.mgrid[:60, :100]
    first, second = ((y - 30) ** 2 + (x - c) ** 2 <= 20**2 for c in (31, 68))
    mask = first | second
    assert scipy.ndimage.label(mask)[1] == 1
    cells = cells_in_mask(mask, radius=9)
    assert cells.max() == 2
    left, right = cells[30, 31], cells[30, 68]
    assert (cells[first & (x < 48)] == left).all()
    assert (cells[second & (x > 51)] == right).all()
    apart = separate_touching(mask, radius=9)
    assert scipy.ndimage.label(apart > 0, EIGHT)[1] == 2
    assert (mask & (apart == 0)).sum() < 40


def test_teeth_of_a_rough_outline_are_no_cells():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    mask[2:10, 20:25] = True  # survives a disk of radius 2, but not of 3
    assert cells_in_mask(mask, radius=2).max() == 1


def test_masks_without_background_or_without_cells():
    assert (cells_in_mask(np.ones((5, 6), bool)) == 1).all()
    assert (cells_in_mask(np.zeros((5, 6), bool)) == 0).all()
    stack = np.zeros((2, 5, 6), bool)
    stack[1, :, :2] = stack[1, :, 4:] = True
    found = cells_in_mask(stack)
    assert found[0].max() == 0
    assert found[1].max() == 2


def test_separation_is_the_same_on_every_library_and_stays_there(xp):
    mask = disks(64, 3) > 0
    result = separate_touching(backend.asarray(mask, xp), radius=2)
    assert isinstance(result, xp.ndarray)
    np.testing.assert_array_equal(backend.to_numpy(result), separate_touching(mask, radius=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 2), bool),), "instances: got dtype bool, expected integers"),
        ((np.zeros((2, 2)),), "instances: got dtype float64, expected integers"),
        ((np.zeros(4, int),), r"instances: got shape \(4,\), expected \(H, W\) or \(N, H, W\)"),
        ((np.zeros((0, 4), int),), r"instances: got shape \(0, 4\)"),
        ((np.full((2, 2), -1),), "instances: got labels from -1 to -1, expected 0 to 2147483647"),
        ((np.full((2, 2), 2**31),), "instances: got labels from 2147483648"),
        ((np.eye(2, dtype=int), -1), "w0: got -1, expected a finite number >= 0"),
        ((np.eye(2, dtype=int), math.inf), "w0: got inf"),
        ((np.eye(2, dtype=int), 10, 0), "sigma: got 0, expected a finite number > 0"),
        ((np.eye(2, dtype=int), 10, math.nan), "sigma: got nan"),
        ((np.eye(2, dtype=int), 10, 5, "Paper"), "variant: got 'Paper', expected one of paper"),
        ((np.eye(2, dtype=int), 10, 5, "paper", (1, 0)), r"class_weights: got \(1, 0\)"),
        ((np.eye(2, dtype=int), 10, 5, "paper", (1, 1, 1)), "expected two positive numbers"),
        ((np.eye(2, dtype=int), 10, 5, "falk2019", (1, 1)), "expected None for variant"),
        (
            (np.eye(2, dtype=int), 10, 5, "paper", None, "cells"),
            "term: got 'cells', expected one of background, everywhere",
        ),
        (
            (np.eye(2, dtype=int), 50, 6, "falk2019", None, "everywhere"),
            "term: got 'everywhere', expected background for variant 'falk2019'",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        weight_map(*arguments)
    assert "\n" not in str(caught.value)


def test_bad_arguments_of_the_parts():
    instances = np.eye(3, dtype=int)
    with pytest.raises(InputError, match="limit: got -1"):
        two_nearest_cells(instances, -1)
    with pytest.raises(InputError, match=r"instances: got shape \(1, 3, 3\), expected \(H, W\),"):
        two_nearest_cells(instances[None])
    with pytest.raises(InputError, match="width: got 3, expected 1 or 2 pixels"):
        separation_border(instances, 3)
    with pytest.raises(InputError, match="mask: got int64 of shape"):
        cells_in_mask(instances)
    with pytest.raises(InputError, match="radius: got -1"):
        cells_in_mask(instances > 0, -1)
    with pytest.raises(InputError, match="instances: got dtype float64"):
        separate_touching(instances * 1.0)


def real(name):
    if not data.is_available(name):
        pytest.skip(f"{name} is not there; see UNET_NP_DATA")
    return data.load(name)


@pytest.mark.data
def test_isbi_membranes_are_the_gaps_between_cells():
    instances = real("isbi2012").instances[0].astype(np.int32)
    assert instances.max() > 100
    d1, d2 = two_nearest_cells(instances)
    stack = np.full((2, *instances.shape), np.inf)
    for label in range(1, instances.max() + 1):
        # Running two minima over one full-image transform for each cell.
        one = scipy.ndimage.distance_transform_edt(instances != label)
        stack[1] = np.minimum(stack[1], np.maximum(stack[0], one))
        stack[0] = np.minimum(stack[0], one)
    np.testing.assert_array_equal(d1, stack[0])
    np.testing.assert_array_equal(d2, stack[1])
    expected = separation_term(*stack) + np.where(
        instances > 0, *balancing_weights(instances)[::-1]
    )
    everywhere = weight_map(instances, term="everywhere")
    np.testing.assert_allclose(everywhere, expected, atol=1e-5)
    weights = weight_map(instances)
    expected = np.where(instances > 0, balancing_weights(instances)[1], expected)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    thin = (instances == 0) & (d1 + d2 < 6)
    assert weights[thin].mean() > 3 * weights[instances > 0].mean()


@pytest.mark.data
@pytest.mark.parametrize(("name", "touch"), [("hela", True), ("u373", False)])
def test_cell_tracking_masks(name, touch):
    dataset = real(name)
    known = [i for i, one in enumerate(dataset.instances) if one.any()][:3]
    for instances in dataset.instances[known].astype(np.int32):
        assert touching(instances) == touch
        apart = separate_touching(instances)
        assert not touching(apart)
        assert set(np.unique(apart)) == set(np.unique(instances))
        stack = np.sort(distances_to_every_cell(apart), axis=0)
        background, cell = balancing_weights(apart)
        expected = np.where(apart > 0, cell, background + separation_term(*stack[:2]))
        weights = weight_map(apart)
        np.testing.assert_allclose(weights, expected, atol=1e-5)
        if touch:
            border = separation_border(instances)
            assert weights[border].min() > 8
        # A mask in which cells touch: its cells are never fewer than its parts.
        cells = cells_in_mask(instances > 0)
        assert scipy.ndimage.label(instances > 0)[1] <= cells.max() <= len(np.unique(instances)) + 2


def test_bounded_distances_do_not_search_in_vain():
    # Nothing is nearer than the limit; a search past it would be visible in d2.
    instances = np.zeros((50, 1), int)
    instances[0], instances[-1] = 1, 2
    d1, d2 = bounded_distances(instances, 5, 10)
    assert d1[5, 0] == 5
    assert np.isinf(d1[25, 0])
    assert np.isinf(d2[25, 0])
