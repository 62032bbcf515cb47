"""The ISBI-2012 metrics against their definitions, spelled out slowly on small images."""

import math
from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from unet_np import metrics
from unet_np.metrics import Mismatch
from unet_np.metrics.isbi.deformation import SIMPLE, is_simple_point
from unet_np.metrics.isbi.mismatches import NEIGHBOURS
from unet_np.metrics.isbi.thresholds import best_index, challenge_thresholds

FOUR = ((0, -1), (-1, 0), (0, 1), (1, 0))
ERRORS = (
    metrics.pixel_error,
    metrics.rand_error,
    metrics.rand_error_standard,
    metrics.warping_error,
)

checked = settings(deadline=None, max_examples=40)


@st.composite
def pairs(draw, max_side=9, slices=False):
    """A label with some interior in each slice and a proposal with many ties."""
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=max_side))
    if slices:
        shape = (draw(st.integers(1, 3)), *shape)
    label = draw(arrays(np.uint8, shape, elements=st.integers(0, 1), fill=st.nothing()))
    label[..., 0, 0] = 1
    values = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9, 1.0])
    proposal = draw(arrays(np.float32, shape, elements=values.map(np.float32), fill=st.nothing()))
    return label, proposal


def flood(mask):
    """4-connected components by depth-first search, numbered from 1."""
    numbers = np.zeros(mask.shape, int)
    count = 0
    for start in zip(*np.nonzero(mask), strict=True):
        if numbers[start]:
            continue
        count += 1
        stack = [start]
        while stack:
            y, x = stack.pop()
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if inside and mask[y, x] and not numbers[y, x]:
                numbers[y, x] = count
                stack += [(y + dy, x + dx) for dy, dx in FOUR]
    return numbers


def alone(numbers):
    """Flat numbers in which each pixel of background is an object of its own."""
    flat = numbers.ravel().tolist()
    return [value if value else -1 - k for k, value in enumerate(flat)]


def fscore(tp, fp, fn):
    precision = 1.0 if fp == 0 else tp / (tp + fp)
    recall = 1.0 if fn == 0 else tp / (tp + fn)
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


# ---------------------------------------------------------------- thresholds


def test_thresholds_carry_the_roundings_of_repeated_addition():
    assert challenge_thresholds(1.0) == tuple(
        float(np.cumsum([0.0] + [0.1] * 10)[k]) for k in range(11)
    )
    assert metrics.CHALLENGE_THRESHOLDS[3] == 0.30000000000000004
    assert len(metrics.CHALLENGE_THRESHOLDS) == 11
    assert metrics.CHALLENGE_THRESHOLDS[:10] == metrics.WARPING_THRESHOLDS


def test_comparison_is_strict_and_in_double_precision():
    tenth = np.full((1, 2), 0.1, np.float32)  # 0.10000000149
    assert metrics.pixel_curve([[1, 1]], tenth, 0.1).tp.tolist() == [2]
    half = np.full((1, 2), 0.5, np.float32)
    assert metrics.pixel_curve([[1, 1]], half, 0.5).tp.tolist() == [0]


def test_proposals_are_rounded_to_float32_as_in_the_challenges_files():
    just_above = np.full((1, 2), 0.5 + 1e-12)
    assert metrics.pixel_curve([[1, 1]], just_above, 0.5).tp.tolist() == [0]


def test_best_is_the_middle_of_a_plateau():
    assert best_index(np.array([0.0, 1.0, 1.0, 1.0, 0.5])) == 2
    assert best_index(np.array([1.0, 1.0])) == 0
    assert best_index(np.array([0.3, 0.2, 0.9])) == 2
    curve = metrics.warping_curve([[1, 0], [0, 0]], [[1, 0], [0, 0]])
    assert curve.best == 4
    assert curve.best_threshold == 0.4


# ---------------------------------------------------------------- pixels


@checked
@given(pairs(slices=True))
def test_pixel_counts(pair):
    label, proposal = pair
    curve = metrics.pixel_curve(label, proposal)
    for k, threshold in enumerate(metrics.CHALLENGE_THRESHOLDS):
        counts = Counter(
            (t, float(p) > threshold)
            for t, p in zip(label.ravel().tolist(), proposal.ravel(), strict=True)
        )
        got = [int(c[k]) for c in (curve.tp, curve.fp, curve.fn, curve.tn)]
        assert got == [counts[1, True], counts[0, True], counts[1, False], counts[0, False]]
        assert curve.fscore[k] == pytest.approx(fscore(*got[:3]), abs=1e-12)
        assert curve.error[k] == pytest.approx((got[1] + got[2]) / label.size, abs=1e-15)
    assert metrics.pixel_error(label, proposal) == 1 - curve.fscore.max()


# ---------------------------------------------------------------- Rand


def test_rand_error_of_a_wall_too_many():
    # A cell of 4 pixels cut into 2 + 1 by a pixel: pairs in one piece 4 + 1 + 1 of 16.
    curve = metrics.rand_curve([[1, 1, 1, 1]], [[1, 1, 0, 1]], 0.5)
    assert (curve.tp[0], curve.fp[0], curve.fn[0]) == (6, 0, 10)
    assert metrics.rand_error([[1, 1, 1, 1]], [[1, 1, 0, 1]], 0.5) == pytest.approx(1 - 12 / 22)


def test_diagonal_neighbours_are_not_connected():
    diagonal = np.eye(2)
    assert metrics.rand_curve(diagonal, diagonal, 0.5).tp.tolist() == [2]


@checked
@given(pairs(max_side=6, slices=True), st.sampled_from([0.0, 0.1, 0.5, 0.7]))
def test_rand_by_counting_pairs(pair, threshold):
    label, proposal = pair
    stack = zip(label.reshape(-1, *label.shape[-2:]), proposal, strict=True)
    total = Counter()
    plain = Counter()
    macro, plain_index, index = [], [], []
    for cells, probability in stack:
        first = flood(cells > 0).ravel()
        numbers = flood(probability.astype(float) > threshold)
        second = np.array(alone(numbers))
        chosen = np.flatnonzero(first)
        counts = Counter(
            (first[a] == first[b], second[a] == second[b]) for a, b in product(chosen, chosen)
        )
        total += counts
        macro.append(fscore(counts[True, True], counts[False, True], counts[True, False]))
        wrong = counts[True, False] + counts[False, True]
        index.append(1 - wrong / len(chosen) ** 2)
        flat = numbers.ravel()
        everything = Counter(
            (first[a] == first[b], flat[a] == flat[b])
            for a, b in combinations(range(first.size), 2)
        )
        plain += everything
        right = everything[True, True] + everything[False, False]
        plain_index.append(right / math.comb(first.size, 2))

    curve = metrics.rand_curve(label, proposal, threshold)
    standard = metrics.rand_curve_standard(label, proposal, threshold)
    for got, counts in ((curve, total), (standard, plain)):
        assert got.tp.tolist() == [counts[True, True]]
        assert got.tn.tolist() == [counts[False, False]]
        assert got.fp.tolist() == [counts[False, True]]
        assert got.fn.tolist() == [counts[True, False]]
    assert curve.fscore_macro[0] == pytest.approx(np.mean(macro), abs=1e-12)
    assert curve.index_n2[0] == pytest.approx(np.mean(index), abs=1e-12)
    assert standard.index[0] == pytest.approx(np.mean(plain_index), abs=1e-12)


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_slice_without_interior(empty):
    """It has no pairs; of means over slices it is a part with 0, the challenge's F of 0/0."""
    rng = np.random.default_rng(empty)
    labels = (rng.random((3, 12, 14)) > 0.3).astype(np.uint8)
    labels[empty] = 0
    proposals = np.clip(0.5 * labels + 0.6 * rng.random(labels.shape), 0, 1).astype(np.float32)
    others = np.delete(labels, empty, 0), np.delete(proposals, empty, 0)
    assert metrics.rand_error(labels, proposals) == metrics.rand_error(*others)
    got, alone = metrics.rand_curve(labels, proposals), metrics.rand_curve(*others)
    for name in ("tp", "tn", "fp", "fn", "precision", "recall", "fscore"):
        assert (getattr(got, name) == getattr(alone, name)).all()
    assert got.index_n2 == pytest.approx(alone.index_n2)
    assert got.error_nchoose2 == pytest.approx(alone.error_nchoose2)
    assert got.fscore_macro == pytest.approx(alone.fscore_macro * 2 / 3)
    assert metrics.v_rand(labels, proposals) == pytest.approx(metrics.v_rand(*others) * 2 / 3)
    assert metrics.v_info(labels, proposals) == pytest.approx(metrics.v_info(*others) * 2 / 3)
    (_, info), (_, rest) = (metrics.thinned_curves(*both) for both in ((labels, proposals), others))
    assert info.precision == pytest.approx(rest.precision * 2 / 3)
    assert info.recall == pytest.approx((rest.recall * 2 + 1) / 3)
    # The plain Rand index has pairs in every slice: background is an object.
    standard = metrics.rand_curve_standard(labels, proposals, 0.5)
    parts = [
        metrics.rand_curve_standard(labels[[i, j]], proposals[[i, j]], 0.5).tp[0]
        for i, j in ((0, 1), (1, 2), (0, 2))
    ]
    assert standard.tp[0] == sum(parts) / 2


def test_counts_of_large_cells_do_not_overflow():
    label = np.ones((8, 1024, 1024), np.uint8)
    curve = metrics.rand_curve(label, label, 0.5)
    assert curve.tp.tolist() == [8 * (1024 * 1024) ** 2]


# ---------------------------------------------------------------- warping


def test_116_of_256_neighbourhoods_are_simple():
    assert sum(SIMPLE) == 116
    assert len(SIMPLE) == 256


def test_simple_points_by_counting_groups_of_neighbours():
    """Simple: one 4-connected group of foreground touches by an edge, and some background."""
    for code in range(256):
        ring = [(code >> k) & 1 for k in range(8)]
        patch = np.zeros((3, 3), bool)
        for (dy, dx), value in zip(NEIGHBOURS, ring, strict=True):
            patch[1 + dy, 1 + dx] = value
        groups = flood(patch)
        touching = {int(groups[1 + dy, 1 + dx]) for dy, dx in FOUR} - {0}
        simple = len(touching) == 1 and not all(ring)
        assert is_simple_point(ring) == simple
        assert SIMPLE[code] == simple


def slow_warp(label, proposal, threshold):
    """The definition: passes over all mismatches until one flips nothing."""
    current = np.pad(label.astype(bool), 1)
    wide = np.pad(proposal.astype(np.float64), 1)
    target = wide > threshold
    target[[0, -1]] = target[:, [0, -1]] = False
    while True:
        columns, rows = np.nonzero((current != target).T)
        keys = [np.float32(abs(wide[y, x] - threshold)) for y, x in zip(rows, columns, strict=True)]
        order = sorted(range(len(keys)), key=lambda k: -keys[k])
        flips = 0
        for k in order:
            y, x = rows[k], columns[k]
            ring = [int(current[y + dy, x + dx]) for dy, dx in NEIGHBOURS]
            if is_simple_point(ring):
                current[y, x] ^= True
                flips += 1
        if flips == 0:
            return current[1:-1, 1:-1].astype(np.uint8)


@checked
@given(pairs(), st.sampled_from([0.0, 0.1, 0.30000000000000004, 0.5, 0.8]))
def test_warp_is_the_definition_in_passes(pair, threshold):
    label, proposal = pair
    got = metrics.warp(label, proposal, threshold)
    np.testing.assert_array_equal(got, slow_warp(label, proposal, threshold))


@pytest.mark.parametrize("seed", range(4))
def test_warp_of_larger_images_is_the_definition_in_passes(seed):
    rng = np.random.default_rng(seed)
    shape = (24, 37)
    label = ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > -0.05
    proposal = ndimage.gaussian_filter(rng.random(shape), 1)
    proposal = ((proposal - proposal.min()) / np.ptp(proposal)).astype(np.float32)
    for threshold in (0.2, 0.5):
        got = metrics.warp(label, proposal, threshold)
        np.testing.assert_array_equal(got, slow_warp(label, proposal, threshold))


@checked
@given(pairs(max_side=12))
def test_warping_keeps_topology_and_only_approaches_the_proposal(pair):
    label, proposal = pair
    warped = metrics.warp(label, proposal, 0.5)
    target = proposal > 0.5
    before, after = label != target, warped != target
    assert not (after & ~before).any()
    eight = np.ones((3, 3))
    for mask, structure in ((1, None), (0, eight)):
        counts = [ndimage.label(np.pad(a, 1) == mask, structure)[1] for a in (label, warped)]
        assert counts[0] == counts[1]


def test_a_thin_wall_is_followed_by_one_pixel_and_not_by_two():
    label = np.ones((5, 9), np.uint8)
    label[:, 4] = 0
    # Two pixels on, the old wall of 5 stays, and the new one grows from both ends until the
    # 1 pixel that would cut the cell.
    for shift, remaining in ((1, 0), (2, 5 + 1)):
        proposal = np.roll(label, shift, axis=1)
        curve = metrics.warping_curve(label, proposal, 0.5)
        assert curve.mismatches.tolist() == [remaining]


def test_cells_grow_into_the_border_of_the_image():
    label = np.zeros((5, 5), np.uint8)
    label[1:4, 1:4] = 1
    assert metrics.warp(label, np.ones((5, 5)), 0.5).all()


def slow_classes(warped, target, radius):
    """The table of the definition, pixel by pixel."""
    height, width = warped.shape
    whole = radius < 1 or radius > width or radius > height
    numbers = flood(warped)
    classes = np.zeros(warped.shape, np.uint8)

    def around(image, y, x):
        near = [(y + dy, x + dx) for dy, dx in NEIGHBOURS]
        rows, columns = image.shape
        return {int(image[p]) for p in near if 0 <= p[0] < rows and 0 <= p[1] < columns}

    for y, x in zip(*np.nonzero(warped != target), strict=True):
        found = around(numbers, y, x)
        interior = warped[y, x]
        if found <= {0}:
            kind = Mismatch.OBJECT_DELETION if interior else Mismatch.OBJECT_ADDITION
        elif len(found) == 1:
            kind = Mismatch.HOLE_ADDITION if interior else Mismatch.HOLE_DELETION
        elif len(found) > 2:
            kind = Mismatch.SPLIT if interior else Mismatch.MERGE
        elif not interior:
            kind = Mismatch.HOLE_ADDITION
        else:
            cut = warped.copy()
            cut[y, x] = False
            if whole:
                parts = around(flood(cut), y, x)
            else:
                padded = np.pad(cut, radius)
                window = padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
                parts = around(flood(window), radius, radius)
            kind = Mismatch.SPLIT if len(parts) > 2 else Mismatch.HOLE_DELETION
        classes[y, x] = kind
    return classes


@checked
@given(pairs(max_side=10), st.sampled_from([-1, 0, 1, 2, 3, 20]))
def test_classes_of_mismatches(pair, radius):
    warped, target = pair[0] > 0, pair[1] > 0.5
    got = metrics.classify_mismatches(warped, target, radius)
    np.testing.assert_array_equal(got, slow_classes(warped, target, radius))


@checked
@given(pairs(max_side=8, slices=True))
def test_warping_curve_adds_up(pair):
    label, proposal = pair
    curve = metrics.warping_curve(label, proposal)
    assert curve.mismatches.tolist() == sum(curve.pixels.values()).tolist()
    expected = (curve.pixels[Mismatch.SPLIT] + curve.pixels[Mismatch.MERGE]) / label.size
    np.testing.assert_array_equal(curve.error, expected)
    assert metrics.warping_error(label, proposal) == expected.min()
    assert (curve.error_clusters <= curve.error).all()
    assert (curve.error <= curve.error_all_types).all()
    pixel = metrics.pixel_curve(label, proposal, metrics.WARPING_THRESHOLDS)
    assert (curve.error_all_types <= pixel.error).all()
    slices = [metrics.warping_curve(*one) for one in zip(label, proposal, strict=True)]
    assert sum(s.mismatches for s in slices).tolist() == curve.mismatches.tolist()
    for kind in Mismatch:
        for of in ("pixels", "clusters"):
            parts = sum(getattr(one, of)[kind] for one in slices)
            assert parts.tolist() == getattr(curve, of)[kind].tolist()


def test_clusters_hang_together_by_corners_for_merges_only():
    diagonal = np.eye(3, dtype=bool)
    zeros, ones = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    for kind in Mismatch:
        classes = (diagonal * kind).astype(np.uint8)
        holes = kind == Mismatch.HOLE_ADDITION
        assert metrics.count_clusters(classes, ones, kind) == (
            1 if holes or kind == Mismatch.MERGE else 3
        )
        assert metrics.count_clusters(classes, zeros, kind) == (1 if kind == Mismatch.MERGE else 3)


def test_hole_clusters_are_counted_apart_by_value_of_the_warped_label():
    classes = np.full((1, 2), Mismatch.HOLE_DELETION, np.uint8)
    warped = np.array([[True, False]])
    assert metrics.count_clusters(classes, warped, Mismatch.HOLE_DELETION) == 2


def test_warping_map_shows_splits_and_merges():
    label = np.zeros((7, 11), np.uint8)
    label[1:6, 1:10] = 1
    cut = label.copy()
    cut[:, 5] = 0
    found = metrics.warping_map(label, cut)
    assert found.splits.sum() == 1
    assert not found.merges.any()
    found = metrics.warping_map(cut, label)
    assert found.merges.sum() == 5
    assert not found.splits.any()
    assert metrics.warping_error(label, cut, 0.5) == 1 / 77
    # At exactly 1 + rounding both the label and the map see the same proposal.
    metrics.warping_map(label, cut * np.float32(1 + 1e-7), 1.0)


# ---------------------------------------------------------------- thinning, V_Rand, V_Info


def slow_flood(interior):
    """The rules of the flooding, neighbour by neighbour."""
    basin, dam, soft_dam, unvisited, queued = "basin", "dam", "soft", "new", "queued"
    numbers = flood(interior)
    if not numbers.any():
        return np.ones_like(numbers)
    height, width = interior.shape
    state = np.where(numbers > 0, basin, unvisited).astype(object)

    def near(y, x):
        for dy, dx in FOUR:
            if 0 <= y + dy < height and 0 <= x + dx < width:
                yield y + dy, x + dx

    queue = [
        (y, x)
        for x in range(width)
        for y in range(height)
        if state[y, x] == unvisited and any(state[q] == basin for q in near(y, x))
    ]
    for p in queue:
        state[p] = queued
    while queue:
        p = queue.pop(0)
        own = queued
        for q in near(*p):
            if state[q] == basin:
                if own in (queued, soft_dam):
                    own, numbers[p] = basin, numbers[q]
                elif own == basin and numbers[q] != numbers[p]:
                    own, numbers[p] = dam, 0
            elif state[q] in (dam, soft_dam):
                if own == queued:
                    own, numbers[p] = soft_dam, 0
            elif state[q] == unvisited:
                state[q] = queued
                queue.append(q)
        state[p] = own
    return numbers


@checked
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=10)))
def test_border_thinning_is_the_flooding(interior):
    got = metrics.thin_borders(interior)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, slow_flood(interior))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_border_thinning_of_larger_images(seed, share):
    interior = np.random.default_rng(seed).random((40, 31)) < share
    np.testing.assert_array_equal(metrics.thin_borders(interior), slow_flood(interior))


def entropy(symbols):
    counts = np.array(list(Counter(symbols).values()), float)
    p = counts / counts.sum()
    return float(-(p * np.log(p)).sum())


@checked
@given(pairs(max_side=7), st.sampled_from([0.0, 0.3, 0.5]))
def test_info_is_mutual_information(pair, threshold):
    label, proposal = pair
    cells = flood(label > 0).ravel()
    objects = alone(flood(proposal.astype(float) > threshold))
    chosen = np.flatnonzero(cells)
    first = [int(cells[k]) for k in chosen]
    second = [objects[k] for k in chosen]
    a, b = entropy(first), entropy(second)
    shared = a + b - entropy(list(zip(first, second, strict=True)))
    curve = metrics.info_curve(label, proposal, threshold)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert curve.fscore[0] == 0
    else:
        assert curve.precision[0] == pytest.approx(shared / a, abs=1e-9)
        assert curve.recall[0] == pytest.approx(shared / b, abs=1e-9)
        assert curve.fscore[0] == pytest.approx(2 * shared / (a + b), abs=1e-9)


def test_v_scores_forgive_wide_membranes_and_see_missing_walls():
    label = np.ones((12, 13), np.uint8)
    label[:, 6] = 0
    wide = label.copy()
    wide[:, 4:9] = 0
    assert metrics.v_rand(label, wide, 0.5) == 1
    assert metrics.v_info(label, wide, 0.5) == pytest.approx(1, abs=1e-12)
    assert metrics.v_rand(label, np.ones_like(label), 0.5) == pytest.approx(2 / 3)
    assert metrics.v_info(label, np.ones_like(label), 0.5) == 0


def test_v_rand_is_a_mean_over_slices():
    label = np.ones((2, 6, 7), np.uint8)
    label[:, :, 3] = 0
    proposal = label.copy()
    proposal[1] = 1
    assert metrics.v_rand(label, proposal, 0.5) == pytest.approx((1 + 2 / 3) / 2)


# ---------------------------------------------------------------- what holds for all


@checked
@given(pairs(slices=True))
def test_a_perfect_proposal_has_no_error(pair):
    label = pair[0]
    for error in ERRORS:
        assert error(label, label) == 0
    assert metrics.v_rand(label, label) == 1
    # A slice with one cell only holds no information, by the challenge's rule.
    several = np.mean([flood(one > 0).max() > 1 for one in label])
    assert metrics.v_info(label, label) == pytest.approx(several, abs=1e-9)
    assert metrics.iou(label, label) == metrics.dice(label, label) == 1


@checked
@given(pairs(slices=True))
def test_ranges(pair):
    label, proposal = pair
    for function in (*ERRORS, metrics.v_rand, metrics.v_info):
        got = function(label, proposal)
        assert type(got) is float
        assert 0 <= got <= 1 + 1e-12


@checked
@given(pairs(slices=True))
def test_errors_without_order_of_pixels_do_not_change_when_images_are_turned(pair):
    label, proposal = pair
    turned = [np.swapaxes(a, 1, 2) for a in pair]
    mirrored = [a[:, ::-1, :] for a in pair]
    for error in (metrics.pixel_error, metrics.rand_error, metrics.rand_error_standard):
        expected = error(label, proposal)
        assert error(*turned) == pytest.approx(expected, abs=1e-12)
        assert error(*mirrored) == pytest.approx(expected, abs=1e-12)
    expected = metrics.info_curve(label, proposal).fscore
    np.testing.assert_allclose(metrics.info_curve(*turned).fscore, expected, atol=1e-9)


@checked
@given(pairs(slices=True))
def test_order_of_slices_and_memory_does_not_matter(pair):
    label, proposal = pair
    for error in ERRORS:
        expected = error(label, proposal)
        assert error(label[::-1], proposal[::-1]) == pytest.approx(expected, abs=1e-12)
        assert error(np.asfortranarray(label), np.asfortranarray(proposal)) == expected


@checked
@given(pairs())
def test_types_of_labels_and_one_slice_as_a_stack(pair):
    label, proposal = pair
    before = label.copy(), proposal.copy()
    for error in ERRORS:
        expected = error(label, proposal)
        for kind in (bool, np.int64, np.float64):
            assert error(label.astype(kind), proposal) == expected
        assert error(label[None], proposal[None]) == expected
        assert error(label, proposal.astype(np.float64)) == expected
    np.testing.assert_array_equal(label, before[0])
    np.testing.assert_array_equal(proposal, before[1])


@checked
@given(pairs(slices=True), st.sampled_from([0.0, 0.1, 0.5, 0.7]))
def test_one_threshold_is_one_point_of_the_curve(pair, threshold):
    label, proposal = pair
    assert metrics.pixel_error(label, proposal, threshold) == pytest.approx(
        1 - metrics.pixel_curve(label, proposal, [0.9, threshold]).fscore[1]
    )
    assert metrics.rand_error(label, proposal, threshold) == pytest.approx(
        1 - metrics.rand_curve(label, proposal, [threshold, 0.2]).fscore[0]
    )
    assert metrics.warping_error(label, proposal, threshold) == pytest.approx(
        metrics.warping_curve(label, proposal, [threshold, 0.2]).error[0]
    )
    for error in ERRORS:
        several = [error(label, proposal, t) for t in (0.2, threshold)]
        assert error(label, proposal, (0.2, threshold)) == min(several)


def test_classes_do_not_depend_on_how_many_windows_are_numbered_at_a_time(monkeypatch):
    rng = np.random.default_rng(5)
    warped, target = rng.random((2, 40, 45)) > 0.25
    expected = metrics.classify_mismatches(warped, target, 5)
    assert (expected == Mismatch.SPLIT).sum() > 10
    monkeypatch.setattr("unet_np.metrics.isbi.mismatches.BATCH", 300)
    np.testing.assert_array_equal(metrics.classify_mismatches(warped, target, 5), expected)
    np.testing.assert_array_equal(slow_classes(warped, target, 5), expected)
