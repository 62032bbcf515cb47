"""SEG, outcomes of objects, IoU and Dice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_np import metrics
from unet_np.errors import InputError
from unet_np.metrics import Outcome

checked = settings(deadline=None, max_examples=60)
instances = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 7)).flatmap(
    lambda shape: st.tuples(
        *[arrays(np.uint16, shape, elements=st.integers(0, 4), fill=st.nothing())] * 2
    )
)


def slow_matches(labels, proposals):
    """Each pair of objects, one by one."""
    rows = []
    for frame, (cells, found) in enumerate(zip(labels, proposals, strict=True)):
        for label in sorted(set(cells.ravel().tolist()) - {0}):
            cell = cells == label
            row = (frame, label, 0, 0.0)
            for number in set(found.ravel().tolist()) - {0}:
                candidate = found == number
                both = np.sum(cell & candidate)
                if both > 0.5 * np.sum(cell):
                    row = (frame, label, number, both / np.sum(cell | candidate))
            rows.append(row)
    return rows


def outcomes(labels, proposals):
    return [match.outcome.name for match in metrics.match_objects(labels, proposals)]


@checked
@given(instances)
def test_matches_by_trying_all_pairs(pair):
    expected = slow_matches(*pair)
    got = metrics.match_objects(*pair)
    assert [match[:3] for match in got] == [row[:3] for row in expected]
    assert [match.jaccard for match in got] == pytest.approx([row[3] for row in expected])
    if expected:
        mean = np.mean([row[3] for row in expected])
        assert metrics.seg_measure(*pair) == pytest.approx(mean, abs=1e-12)


@checked
@given(instances, st.permutations(range(1, 5)), st.permutations(range(1, 5)))
def test_numbers_of_objects_do_not_matter(pair, first, second):
    labels, proposals = pair
    labels[0, 0, 0] = 1
    large = np.array([0, 7, 60000, 1, 300])
    renamed = np.array([0, *first])[labels], large[np.array([0, *second])][proposals]
    turned = [np.swapaxes(a, 1, 2) for a in renamed]
    expected = metrics.seg_measure(labels, proposals)
    assert metrics.seg_measure(*renamed) == pytest.approx(expected, abs=1e-12)
    assert metrics.seg_measure(*turned) == pytest.approx(expected, abs=1e-12)
    assert metrics.seg_measure(labels, 9 * labels) == 1
    original, maps = metrics.outcome_map(labels, proposals), metrics.outcome_map(*renamed)
    np.testing.assert_array_equal(original, maps)


def test_exactly_half_is_no_match():
    labels = [[1, 1, 1, 1]]
    assert metrics.seg_measure(labels, [[3, 3, 0, 0]]) == 0
    assert metrics.seg_measure(labels, [[3, 3, 3, 0]]) == 0.75


def test_mean_is_over_objects_and_not_over_frames():
    labels = [[[1, 2, 3]], [[1, 0, 0]]]
    proposals = [[[1, 2, 3]], [[0, 0, 0]]]
    assert metrics.seg_measure(labels, proposals) == 0.75


def test_frames_without_reference_are_left_out():
    labels = np.array([[[1, 1, 0]], [[2, 0, 0]], [[0, 0, 0]]])
    proposals = np.array([[[4, 4, 0]], [[0, 0, 1]], [[5, 5, 5]]])
    assert metrics.seg_measure(labels, proposals) == 0.5
    assert metrics.seg_measure(labels, proposals, [True, False, True]) == 1
    matches = metrics.match_objects(labels, proposals, np.array([False, True, False]))
    assert [match[:3] for match in matches] == [(1, 2, 0)]
    shown = metrics.outcome_map(labels, proposals, [True, False, True])
    assert not shown[1].any()
    assert (shown[2] == Outcome.SPURIOUS).all()


def test_objects_that_the_reference_leaves_out_cost_nothing():
    assert metrics.seg_measure([[1, 1, 0, 0]], [[1, 1, 2, 2]]) == 1


@pytest.mark.parametrize(
    ("proposal", "expected"),
    [
        ([5, 5, 5, 0, 6, 6, 6], ["FOUND", "FOUND"]),
        ([5, 5, 0, 0, 0, 0, 6], ["FOUND", "MISSED"]),
        ([5, 5, 4, 0, 6, 0, 8], ["SPLIT", "SPLIT"]),
        # Object 7 lies in both by half, so in neither by more.
        ([5, 5, 7, 0, 6, 6, 7], ["FOUND", "FOUND"]),
        ([5, 0, 7, 0, 6, 6, 6], ["SPLIT", "FOUND"]),
        ([5, 5, 5, 5, 5, 5, 5], ["MERGED", "MERGED"]),
        ([5, 5, 5, 0, 5, 5, 6], ["MERGED", "MERGED"]),
        ([0, 0, 0, 0, 0, 0, 0], ["MISSED", "MISSED"]),
    ],
)
def test_outcomes(proposal, expected):
    assert outcomes([[1, 1, 1, 0, 2, 2, 2]], [proposal]) == expected


def test_outcome_map_paints_objects_and_spurious_ones_outside_them():
    labels = np.array([[1, 1, 1, 0, 2, 2, 2, 0, 0]])
    proposals = np.array([[5, 5, 5, 5, 6, 7, 7, 7, 8]])
    f, s, x = Outcome.FOUND, Outcome.SPLIT, Outcome.SPURIOUS
    got = metrics.outcome_map(labels, proposals)
    assert got.dtype == np.uint8
    assert got.tolist() == [[f, f, f, 0, s, s, s, 0, x]]


def test_number_types_and_many_objects():
    labels = np.arange(1, 2501, dtype=np.uint16).reshape(50, 50)
    proposals = labels[::-1].astype(np.int64) * 10**12
    assert metrics.seg_measure(labels, proposals) == 1
    assert metrics.match_objects(labels, proposals)[0].matched == 2451 * 10**12


@checked
@given(
    *[arrays(bool, (2, 3, 4))] * 2,
)
def test_iou_and_dice(labels, proposals):
    first = set(np.flatnonzero(labels).tolist())
    second = set(np.flatnonzero(proposals).tolist())
    if not first:
        for function in (metrics.iou, metrics.dice):
            with pytest.raises(InputError, match=r"labels: got background \(0\) all over"):
                function(labels, proposals)
        return
    got = metrics.iou(labels, proposals), metrics.dice(labels, proposals)
    assert got[0] == len(first & second) / len(first | second)
    assert got[1] == pytest.approx(2 * got[0] / (1 + got[0]), abs=1e-15)
    if second:
        assert metrics.iou(proposals, labels) == got[0]
        assert metrics.dice(proposals, labels) == got[1]
    turned = np.swapaxes(labels, 1, 2), np.swapaxes(proposals, 1, 2)
    assert (metrics.iou(*turned), metrics.dice(*turned)) == got


def test_overlap_at_a_threshold():
    assert metrics.iou([[1, 1, 0]], [[0.2, 0.9, 0.4]]) == 0.5
    assert metrics.iou([[1, 1, 0]], [[0.2, 0.9, 0.4]], threshold=0.1) == pytest.approx(2 / 3)
    assert metrics.overlap_counts([[1, 1]], np.full((1, 2), 0.1, np.float32), 0.1) == (2, 2, 2)
