"""Scores of detections against brute force and by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_np import InputError
from unet_np.metrics import box_iou, match_points, score_points


def best_by_brute_force(truth, found, radius):
    """Most pairs, then least distance, over all ways to pair the points."""
    few, many = (truth, found) if len(truth) <= len(found) else (found, truth)
    best = (0, 0.0)
    for chosen in permutations(range(len(many)), len(few)):
        d = [np.hypot(*(few[i] - many[k])) for i, k in enumerate(chosen)]
        near = [value for value in d if value <= radius]
        best = max(best, (len(near), -sum(near)))
    return best[0], -best[1]


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 999), st.floats(0.5, 8))
def test_the_assignment_is_optimal(n, m, seed, radius):
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 10, (n, 2)), rng.integers(0, 10, (m, 2))
    match = match_points(truth, found, radius)
    count, total = best_by_brute_force(truth, found, radius)
    assert len(match.pairs) == count
    assert match.distances.sum() == pytest.approx(total)
    for column in match.pairs.T:
        assert len(set(column.tolist())) == len(column)
    assert (match.distances <= radius).all()


def test_a_second_detection_of_an_object_is_spurious():
    scores = score_points([[[5, 5]]], [[[5, 5], [5, 6]]], radius=3)
    assert scores[:3] == (1, 1, 0)
    assert scores.precision == 0.5
    assert scores.recall == 1
    assert scores.f1 == pytest.approx(2 / 3)
    assert scores.distance == 0


def test_images_are_counted_together():
    scores = score_points([[[0, 0]], [], [[1, 1], [9, 9]]], [[], [[3, 3]], [[1, 2]]], radius=2)
    assert scores[:3] == (1, 1, 2)
    assert scores.distance == 1


def test_detections_where_nothing_is_known_are_not_spurious():
    unknown = np.zeros((10, 10), bool)
    unknown[:, 5:] = True
    found = [[2, 2], [2, 7], [8, 8], [7, 30]]
    scores = score_points([[[8, 8.4]]], [found], 2, [unknown])
    assert scores[:3] == (1, 1, 0)  # (8, 8) is a pair, (2, 7) and beyond the border unknown
    assert score_points([[[8, 8.4]]], [found], 2)[:3] == (1, 3, 0)
    assert score_points([[[8, 8.4]]], [found], 2, [None])[:3] == (1, 3, 0)


def test_nothing_at_all_has_no_scores():
    scores = score_points([[]], [[]], 1)
    assert np.isnan([scores.precision, scores.recall, scores.f1, scores.distance]).all()
    assert score_points([], [], 1)[:3] == (0, 0, 0)
    assert score_points([[]], [[[1, 1]]], 1).f1 == 0


def by_pixels(a, b, size=24):
    """Intersection over union of two boxes of whole pixels, counted."""
    masks = []
    for top, left, bottom, right in (a, b):
        mask = np.zeros((size, size), bool)
        mask[top:bottom, left:right] = True
        masks.append(mask)
    union = (masks[0] | masks[1]).sum()
    return (masks[0] & masks[1]).sum() / union if union else 0


boxes = st.tuples(*[st.integers(0, 11)] * 4).map(
    lambda b: (b[0], b[1], b[0] + b[2] + 1, b[1] + b[3] + 1)
)


@given(st.lists(boxes, min_size=1, max_size=4), st.lists(boxes, min_size=1, max_size=4))
def test_iou_counts_pixels(first, second):
    got = box_iou(first, second)
    expected = [[by_pixels(a, b) for b in second] for a in first]
    assert got == pytest.approx(np.array(expected))


def test_iou_of_nothing():
    assert box_iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert box_iou([[3, 3, 3, 3]], [[3, 3, 3, 3]]).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match_points([1, 2], [], 1), r"truth: got shape \(2,\), expected \(n, 2\)"),
        (lambda: match_points([], [[np.nan, 1]], 1), "found: got NaN or infinity"),
        (lambda: match_points([], [], 0), "radius: got 0, expected a number > 0"),
        (lambda: score_points([[]], [], 1), r"found: got 0 images \(unknown: 1\), expected 1"),
        (lambda: box_iou([[1, 2, 3]], []), r"first: got shape \(1, 3\), expected \(n, 4\)"),
        (lambda: box_iou([], [[2, 0, 1, 1]]), "second: got a box that ends before it begins"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(InputError, match=message):
        call()
