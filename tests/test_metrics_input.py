"""What the metrics refuse, each in one line that names the argument."""

import numpy as np
import pytest

from unet_np import metrics
from unet_np.errors import InputError

LABEL = np.array([[1, 1, 0, 1], [1, 1, 0, 1]], np.uint8)
GOOD = np.where(LABEL, 0.9, 0.2).astype(np.float32)
WITH_THRESHOLDS = (
    metrics.pixel_error,
    metrics.rand_error,
    metrics.rand_error_standard,
    metrics.warping_error,
    metrics.v_rand,
    metrics.v_info,
    metrics.info_curve,
    metrics.evaluate,
    metrics.best_threshold,
)
WITH_THRESHOLD = (metrics.iou, metrics.dice)
MASKS = (*WITH_THRESHOLDS, *WITH_THRESHOLD)
NUMBERS = (metrics.seg_measure, metrics.match_objects, metrics.outcome_map)


def message(function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 320
    return text


def changed(array, value):
    copy = np.array(array, dtype=np.result_type(array, type(value)))
    copy[0, 1] = value
    return copy


@pytest.mark.parametrize("function", [*MASKS, *NUMBERS])
class TestAll:
    def test_shapes_differ(self, function):
        text = message(function, LABEL, LABEL[:, :3])
        assert text == "proposals: got the shape (2, 3), expected that of labels, (2, 4)"
        assert "(1, 2, 4)" in message(function, LABEL, LABEL[None])

    @pytest.mark.parametrize("shape", [(), (8,), (1, 1, 2, 4)])
    def test_wrong_number_of_axes(self, function, shape):
        array = np.ones(shape, np.uint8)
        assert message(function, array, array).startswith(f"labels: got the shape {shape}")

    @pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 4, 4)])
    def test_no_pixels(self, function, shape):
        array = np.ones(shape, np.uint8)
        assert "expected at least one pixel" in message(function, array, array)

    def test_not_numbers(self, function):
        words = np.full(LABEL.shape, "cell")
        assert message(function, words, LABEL).startswith("labels: got the dtype <U4")
        assert message(function, LABEL, LABEL * 1j).startswith("proposals: got the dtype complex")
        assert message(function, LABEL, [[1, 0], [1]]).startswith("proposals: got rows of unequal")
        assert message(function, None, LABEL).startswith("labels: got the dtype object")


@pytest.mark.parametrize("function", MASKS)
class TestMasks:
    @pytest.mark.parametrize("value", [2, 255, -1, 0.5, np.nan])
    def test_labels_that_are_not_0_and_1(self, function, value):
        text = message(function, changed(LABEL, value), GOOD)
        assert text.startswith(f"labels: got the value {value}, expected 0 (")
        assert text.endswith("nearest valid: labels > 0")

    def test_nan(self, function):
        text = message(function, LABEL, changed(GOOD, np.nan))
        assert text.startswith("proposals: got NaN at 1 pixels")

    @pytest.mark.parametrize("value", [-0.1, 1.1, np.inf, -np.inf])
    def test_not_probabilities(self, function, value):
        text = message(function, LABEL, changed(GOOD, value))
        assert "expected probabilities in [0, 1]; nearest valid: np.clip(proposals, 0, 1)" in text

    def test_bytes(self, function):
        text = message(function, LABEL, 255 * LABEL)
        assert text.endswith("nearest valid: proposals / 255")

    def test_rounding_is_no_mistake(self, function):
        function(LABEL, changed(GOOD, 1 + 1e-7))
        function(LABEL, changed(GOOD, -1e-9))


@pytest.mark.parametrize("function", [f for f in MASKS if f not in WITH_THRESHOLD])
def test_no_interior_at_all(function):
    for label, good in ((LABEL, GOOD), (np.stack([LABEL] * 2), np.stack([GOOD] * 2))):
        text = message(function, np.zeros_like(label), good)
        assert text.startswith("labels: got membrane (0) all over, expected at least one pixel")


@pytest.mark.parametrize("function", WITH_THRESHOLDS)
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "thresholds: got [], expected a number"),
        ([0.1, np.nan], "thresholds: got [0.1, nan], expected a number"),
        (np.eye(2), "thresholds: got array([[1., 0.], [0., 1.]]), expected"),
        ("half", "thresholds: got 'half', expected"),
        (128, "thresholds: got 128.0, expected numbers in [0, 1]"),
        ([0.5, -0.1], "thresholds: got -0.1, expected numbers in [0, 1]"),
    ],
)
def test_thresholds(function, value, text):
    assert message(function, LABEL, GOOD, thresholds=value).startswith(text)


@pytest.mark.parametrize("function", [*WITH_THRESHOLD, metrics.warp, metrics.warping_map])
@pytest.mark.parametrize("value", [None, [0.5], np.nan, "half", 2])
def test_threshold(function, value):
    assert message(function, LABEL, GOOD, threshold=value).startswith("threshold: got ")


@pytest.mark.parametrize("function", [metrics.warp, metrics.warping_map])
def test_warping_one_slice(function):
    assert message(function, LABEL[None], GOOD[None]).startswith("label: got the shape (1, 2, 4)")
    assert message(function, LABEL, GOOD[:1]).startswith("proposal: got the shape (1, 4)")
    assert message(function, LABEL, 2 * GOOD).startswith("proposal: got values from")
    assert message(function, 2 * LABEL, GOOD).startswith("label: got the value 2")


@pytest.mark.parametrize("radius", [1.5, True, "20", None])
def test_radius(radius):
    text = message(metrics.warping_error, LABEL, GOOD, radius=radius)
    assert text.startswith("radius: got ")
    assert "nearest valid: 20" in text
    assert message(metrics.classify_mismatches, LABEL, LABEL, radius).startswith("radius: got ")


def test_maps_of_mismatches_and_thinning_take_one_mask():
    assert message(metrics.classify_mismatches, LABEL[None], LABEL[None]).startswith("warped: got")
    assert message(metrics.classify_mismatches, LABEL, 2 * LABEL).startswith("proposed: got")
    assert message(metrics.classify_mismatches, LABEL, LABEL[:1]).startswith("proposed: got")
    assert message(metrics.thin_borders, LABEL[None]).startswith("interior: got the shape")
    assert message(metrics.thin_borders, np.stack([LABEL] * 2)).startswith("interior: got the sha")
    assert message(metrics.thin_borders, 2 * LABEL).startswith("interior: got the value 2")


@pytest.mark.parametrize("function", NUMBERS)
class TestNumbers:
    def test_not_whole_numbers(self, function):
        text = message(function, LABEL, GOOD)
        assert text.startswith("proposals: got the dtype float32, expected whole numbers")
        assert message(function, LABEL > 0, LABEL).startswith("labels: got the dtype bool")

    def test_negative(self, function):
        text = message(function, LABEL, changed(LABEL, -3))
        assert text.startswith("proposals: got the instance number -3")

    @pytest.mark.parametrize("annotated", [[True, True], True, [1], [[True]]])
    def test_annotated(self, function, annotated):
        text = message(function, LABEL, LABEL, annotated)
        assert text.startswith("annotated: got the shape")
        assert "(1,)" in text


def test_seg_without_any_object():
    empty = np.zeros((2, 3, 4), np.uint8)
    assert message(metrics.seg_measure, empty, empty).startswith("labels: got no object")
    labels = empty.copy()
    labels[0] = 1
    text = message(metrics.seg_measure, labels, labels, [False, True])
    assert text.startswith("labels: got no object in any annotated frame")
    assert metrics.match_objects(empty, empty) == []
    assert not metrics.outcome_map(empty, empty).any()
