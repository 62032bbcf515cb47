"""`evaluate` and `best_threshold`."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np import metrics
from unet_np.errors import InputError

RNG = np.random.default_rng(3)
LABELS = (RNG.random((3, 16, 18)) > 0.3).astype(np.uint8)
PROPOSALS = np.clip(0.5 * LABELS + 0.6 * RNG.random(LABELS.shape), 0, 1).astype(np.float32)
WITH_THRESHOLD = tuple(name for name in metrics.METRIC_NAMES if name != "seg_measure")


def test_names_are_those_of_functions_of_the_package():
    for name in metrics.METRIC_NAMES:
        assert getattr(metrics, name).__name__ == name
    assert metrics.ISBI_METRICS == ("warping_error", "rand_error", "pixel_error")


@pytest.mark.parametrize("name", WITH_THRESHOLD)
@pytest.mark.parametrize("thresholds", [None, 0.5, (0.3, 0.55, 0.7)])
def test_whole_stack_and_slices(name, thresholds):
    function = getattr(metrics, name)
    got = metrics.evaluate(LABELS, PROPOSALS, (name,), thresholds)
    assert list(got) == [name]
    score = got[name]
    if name in ("iou", "dice"):
        tried = np.atleast_1d(0.5 if thresholds is None else thresholds)
        expected = max(function(LABELS, PROPOSALS, float(t)) for t in tried)
    else:
        expected = function(LABELS, PROPOSALS, thresholds)
    assert score["value"] == pytest.approx(expected, abs=1e-15)
    assert function(LABELS, PROPOSALS, score["threshold"]) == score["value"]
    assert score["slices"] == [
        function(label, proposal, score["threshold"])
        for label, proposal in zip(LABELS, PROPOSALS, strict=True)
    ]


def test_metrics_of_table_1_by_default_and_plain_numbers():
    got = metrics.evaluate(LABELS, PROPOSALS)
    assert tuple(got) == metrics.ISBI_METRICS
    assert json.loads(json.dumps(got)) == got
    for score in got.values():
        assert set(score) == {"value", "threshold", "slices"}


def test_one_name_and_one_slice():
    got = metrics.evaluate(LABELS[0], PROPOSALS[0], "rand_error", 0.5)
    assert list(got) == ["rand_error"]
    assert got["rand_error"]["slices"] == [got["rand_error"]["value"]]
    assert got["rand_error"]["threshold"] == 0.5


def test_seg_has_no_threshold_and_none_for_empty_frames():
    labels = np.array([[[1, 1, 2]], [[0, 0, 0]], [[3, 3, 3]]])
    proposals = np.array([[[7, 7, 0]], [[1, 1, 1]], [[0, 2, 2]]])
    got = metrics.evaluate(labels, proposals, "seg_measure")["seg_measure"]
    assert got["value"] == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert got["threshold"] is None
    assert got["slices"] == [0.5, None, pytest.approx(2 / 3)]
    got = metrics.evaluate(labels, proposals, "seg_measure", annotated=[False, True, True])
    assert got["seg_measure"]["value"] == pytest.approx(2 / 3)
    assert got["seg_measure"]["slices"] == [None, None, pytest.approx(2 / 3)]


def test_slices_without_interior_or_reference_are_none():
    labels = LABELS.copy()
    labels[1] = 0
    got = metrics.evaluate(labels, PROPOSALS, "pixel_error", 0.5)["pixel_error"]
    assert got["slices"][1] is None
    assert None not in (got["slices"][0], got["slices"][2])
    for annotated in (None, [True, False, True]):
        got = metrics.evaluate(labels, PROPOSALS, "rand_error", annotated=annotated)
        assert got["rand_error"]["slices"][1] is None
        assert got["rand_error"]["value"] == metrics.rand_error(LABELS[::2], PROPOSALS[::2])


@pytest.mark.parametrize("name", ["v_rand", "v_info"])
def test_means_over_slices_count_one_without_interior(name):
    labels = LABELS.copy()
    labels[1] = 0
    got = metrics.evaluate(labels, PROPOSALS, name)[name]
    assert got["slices"][1] == 0
    assert got["value"] == pytest.approx(np.mean(got["slices"]))
    assert got["value"] == getattr(metrics, name)(labels, PROPOSALS)
    got = metrics.evaluate(labels, PROPOSALS, name, annotated=[True, False, True])[name]
    assert got["slices"][1] is None


@pytest.mark.parametrize("name", WITH_THRESHOLD)
def test_best_threshold_is_the_best(name):
    tried = np.linspace(0.05, 0.95, 19)
    threshold = metrics.best_threshold(LABELS, PROPOSALS, name, tried)
    function = getattr(metrics, name)
    scores = [function(LABELS, PROPOSALS, float(t)) for t in tried]
    best = min(scores) if name.endswith(("error", "standard")) else max(scores)
    assert threshold in tried
    assert function(LABELS, PROPOSALS, threshold) == pytest.approx(best, abs=1e-15)
    assert type(threshold) is float


@settings(deadline=None, max_examples=30)
@given(st.floats(0.15, 0.85))
def test_threshold_found_on_one_stack_serves_another(wall):
    """Walls have probability `wall`, cells 1: every threshold from the wall on is right."""
    label = np.ones((6, 7), np.uint8)
    label[:, 3] = 0
    train = np.where(label, 1.0, wall)
    threshold = metrics.best_threshold(label, train, "rand_error")
    assert threshold >= np.float32(wall)
    assert metrics.rand_error(label, train[::-1], threshold) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"metrics": "rand_err"}, "metrics: got 'rand_err', .* nearest valid: rand_error"),
        ({"metrics": ("pixel_error", "warp_error")}, "nearest valid: warping_error"),
        ({"metrics": (3,)}, "metrics: got 3, expected names among"),
        ({"metrics": ()}, "metrics: got none"),
        ({"thresholds": 1.5}, "thresholds: got 1.5, .* nearest valid: 1.0"),
        ({"annotated": [True]}, "annotated: got the shape"),
        ({"annotated": [0, 1, 1]}, "annotated: got the shape"),
        ({"annotated": [False] * 3}, "annotated: got no frame"),
        ({"metrics": "seg_measure", "proposals": PROPOSALS}, "proposals: got the dtype float32"),
    ],
)
def test_bad_arguments(arguments, text):
    given_arguments = {"labels": LABELS, "proposals": PROPOSALS, **arguments}
    with pytest.raises(InputError, match=text) as caught:
        metrics.evaluate(**given_arguments)
    assert "\n" not in str(caught.value)


def test_seg_has_no_best_threshold():
    with pytest.raises(InputError, match="metrics: got 'seg_measure', expected"):
        metrics.best_threshold(LABELS, PROPOSALS, "seg_measure")
