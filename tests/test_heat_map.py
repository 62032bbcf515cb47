"""Objects, their heat map, and the way back from its peaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import directional_error, leaf, relative_error

from unet_np import InputError, backend
from unet_np.ops.beyond.heat import (
    detection_loss,
    heat_cross_entropy,
    log_sigmoid,
    sigmoid,
    smooth_l1,
)
from unet_np.tasks import heat_map
from unet_np.tasks.heat_map import (
    Objects,
    decode,
    find_objects,
    object_ids,
    peaks,
    suppress,
    targets,
)


def rectangles(shape, boxes):
    """A map of numbered rectangles."""
    ids = np.zeros(shape, np.int32)
    for number, (top, left, bottom, right) in enumerate(boxes, 1):
        ids[top:bottom, left:right] = number
    return ids


# Objects


def test_objects_of_rectangles():
    boxes = [(2, 3, 6, 5), (10, 10, 13, 20)]
    found = find_objects(rectangles((16, 24), boxes))
    assert found.centres.tolist() == [[3.5, 3.5], [11, 14.5]]
    assert found.sizes.tolist() == [[4, 2], [3, 10]]
    assert found.boxes.tolist() == [list(box) for box in boxes]


def test_an_empty_map_has_no_objects():
    found = find_objects(np.zeros((4, 4), int))
    assert found.centres.shape == (0, 2)
    assert found.sizes.shape == (0, 2)
    assert heat_map.typical_size(np.zeros((2, 16, 24), int)) == (2.0, 3.0)


def test_a_full_map_is_one_object():
    found = find_objects(np.full((3, 5), 7))
    assert found.centres.tolist() == [[1, 2]]
    assert found.sizes.tolist() == [[3, 5]]


def test_a_marker_without_a_mask_is_a_centre_without_a_size():
    instances = rectangles((9, 20), [(1, 1, 8, 6)])
    markers = np.zeros_like(instances)
    markers[4, 3] = 1
    markers[3:6, 14:17] = 9
    ids = object_ids(instances, markers)
    found = find_objects(ids)
    assert sorted(np.unique(ids)) == [-9, 0, 1]
    assert found.centres.tolist() == [[4, 15], [4, 3]]
    assert np.isnan(found.sizes[0]).all()
    assert found.sizes[1].tolist() == [7, 5]
    assert heat_map.typical_size(ids) == (7, 5)


def test_a_marker_that_reaches_beyond_its_mask_is_no_second_object():
    instances = rectangles((9, 9), [(1, 1, 5, 5)])
    markers = np.zeros_like(instances)
    markers[3:7, 3:7] = 4
    assert np.array_equal(object_ids(instances, markers), instances)


@pytest.mark.parametrize("ids", [np.zeros((2, 3, 4), int), np.zeros((3, 4))])
def test_objects_are_found_in_maps_of_integers(ids):
    with pytest.raises(InputError, match=r"ids: got .*, expected integers of shape \(H, W\)"):
        find_objects(ids)


# Targets


def test_the_larger_value_counts_where_objects_overlap():
    centres = np.array([[10.0, 10.0], [10.0, 14.0]])
    sizes = np.array([[20.0, 20.0], [30.0, 40.0]])
    both = targets(Objects(centres, sizes), (24, 24))
    one, two = (targets(Objects(centres[[i]], sizes[[i]]), (24, 24)) for i in (0, 1))
    assert np.array_equal(both.heat, np.maximum(one.heat, two.heat))
    assert (both.heat == 1).sum() == 2
    # Height and width are those of the object whose Gaussian it is.
    own = one.heat >= two.heat
    inside = both.heat > 0
    expected = np.where(own, one.log_sizes, two.log_sizes)
    assert np.array_equal(both.log_sizes[:, inside], expected[:, inside])


def test_gaussians_have_the_width_of_their_objects():
    size = np.array([[40.0, 90.0]])
    heat = targets(Objects(np.array([[50.0, 50.0]]), size), (101, 101), share=0.1).heat
    sigma = 0.1 * 60
    assert heat[50, 50] == 1
    assert heat[50, 56] == pytest.approx(np.exp(-(6**2) / (2 * sigma**2)))
    assert heat[50, 50 + 19] == 0
    assert np.array_equal(heat, heat[::-1, ::-1])


def test_sizes_count_near_known_boxes_only():
    objects = Objects(np.array([[8.0, 8.0], [8.0, 40.0]]), np.array([[20.0, 30.0], [np.nan] * 2]))
    maps = targets(objects, (17, 60), typical=(20.0, 20.0))
    assert maps.heat[8, 40] == 1
    assert maps.size_weights[8, 40] == 0
    assert maps.size_weights[8, 8] == 1
    known = maps.size_weights > 0
    assert (maps.heat[known] >= heat_map.NEAR).all()
    assert np.allclose(np.exp(maps.log_sizes[:, known]), [[20.0], [30.0]])


def test_centres_outside_of_the_image_are_left_out():
    objects = Objects(np.array([[-0.6, 3.0], [3.0, 7.5]]), np.full((2, 2), 8.0))
    assert targets(objects, (8, 8)).heat.max() == 0


# Peaks


def test_peaks_are_found_in_order():
    heat = np.zeros((9, 12), np.float32)
    heat[0, 0], heat[4, 5], heat[8, 11], heat[4, 6] = 0.4, 0.9, 0.6, 0.8
    points, scores = peaks(heat, 0.3)
    assert points.tolist() == [[4, 5], [8, 11], [0, 0]]
    assert scores == pytest.approx([0.9, 0.6, 0.4])
    assert len(peaks(heat, 0.7)[0]) == 1


def by_hand(points, scores, radius):
    """Suppression with loops: a point stays if no point that stays and is higher is near."""
    kept = []
    for i in sorted(range(len(points)), key=lambda i: (-scores[i], i)):
        if all(np.hypot(*(points[i] - points[k])) > radius for k in kept):
            kept.append(i)
    return kept


@given(st.integers(0, 40), st.integers(0, 99), st.floats(0, 8))
def test_suppression_is_greedy_by_score(count, seed, radius):
    rng = np.random.default_rng(seed)
    points, scores = rng.integers(0, 20, (count, 2)), rng.integers(0, 5, count) / 5
    kept = suppress(points, scores, radius)
    assert kept.tolist() == by_hand(points, scores, radius)
    for i in range(len(kept)):
        for k in kept[:i]:
            assert np.hypot(*(points[kept[i]] - points[k])) > radius


@given(st.integers(0, 999))
def test_there_and_back(seed):
    """Boxes that are far enough apart come back from their own maps."""
    rng = np.random.default_rng(seed)
    boxes = []
    for row in range(0, 96, 32):
        for column in range(0, 96, 32):
            if rng.random() < 0.7:
                top, left = row + rng.integers(0, 12), column + rng.integers(0, 12)
                boxes.append((top, left, top + rng.integers(3, 20), left + rng.integers(3, 20)))
    truth = find_objects(rectangles((96, 96), boxes))
    maps = targets(truth, (96, 96))
    found = decode(np.concatenate([maps.heat[None], maps.log_sizes]), 0.9)
    assert len(found.scores) == len(boxes)
    order = [int(np.argmin(np.abs(truth.centres - c).sum(axis=1))) for c in found.centres]
    assert sorted(order) == list(range(len(boxes)))
    assert np.abs(found.centres - truth.centres[order]).max(initial=0) <= 0.5
    assert np.abs(found.boxes - truth.boxes[order]).max(initial=0) <= 0.501


def test_a_radius_may_be_given_or_follows_the_size():
    maps = np.zeros((3, 20, 40), np.float32)
    maps[0, 10, 10], maps[0, 10, 16] = 0.9, 0.8
    maps[1:] = np.log(14)
    assert len(decode(maps).scores) == 2  # 0.4 of 14 is less than 6
    assert len(decode(maps, radius=6).scores) == 1
    maps[1:] = np.log(16)
    assert len(decode(maps).scores) == 1
    assert len(decode(maps).above(0.95).scores) == 0


def test_sizes_of_an_untrained_network_stay_finite():
    maps = np.full((3, 8, 8), 1e4, np.float32)
    maps[0] = 0
    maps[0, 2, 2] = 1
    assert np.isfinite(decode(maps).boxes).all()


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        (np.zeros((2, 4, 4)), {}, r"maps: got shape \(2, 4, 4\), expected \(3, H, W\)"),
        (np.zeros((3, 4, 4)), {"threshold": 0}, "threshold: got 0, expected 0 < threshold <= 1"),
        (np.zeros((3, 4, 4)), {"radius": -1}, "radius: got -1, expected a number >= 0"),
    ],
)
def test_decode_refuses(maps, options, message):
    with pytest.raises(InputError, match=message):
        decode(maps, **options)


def test_peaks_on_any_backend(xp):
    heat = np.zeros((6, 6), np.float32)
    heat[1, 4], heat[4, 1] = 0.7, 0.5
    maps = np.stack([heat, heat, heat])
    found = decode(backend.asarray(maps, xp))
    assert found.centres.tolist() == [[1, 4], [4, 1]]


# The loss


def problem(seed, shape=(2, 7, 9)):
    rng = np.random.default_rng(seed)
    heat = rng.random(shape) ** 2
    heat[0, 2, 3] = heat[-1, 5, 8] = heat[0, 0, 0] = 1
    return rng.normal(scale=3, size=shape), heat, rng.integers(0, 3, shape) / 2.0


@given(st.integers(0, 99), st.sampled_from([0.0, 1.0, 10.0]))
def test_cross_entropy_agrees_with_torch(seed, w0):
    logits, heat, weights = problem(seed)
    tensor = leaf(logits)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        tensor, torch.from_numpy(heat), torch.from_numpy(weights * (1 + w0 * heat)), reduction="sum"
    )
    expected = each / max((weights > 0).sum(), 1)
    expected.backward()
    loss, grad = heat_cross_entropy(logits, heat, weights, w0)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-12)
    assert relative_error(grad, tensor.grad) < 1e-12


def test_the_loss_is_least_where_the_map_is_right():
    _, heat, weights = problem(3)
    heat = heat.clip(0.01, 0.99)
    right = np.log(heat / (1 - heat))
    loss, grad = heat_cross_entropy(right, heat, weights)
    assert np.abs(grad).max() < 1e-15
    for step in (-0.1, 0.1):
        assert heat_cross_entropy(right + step, heat, weights)[0] > loss


def test_smooth_l1_agrees_with_torch():
    rng = np.random.default_rng(1)
    values, true = rng.normal(size=(2, 2, 5, 6)), rng.normal(size=(2, 2, 5, 6))
    true[0] = values[0] + 0.05 * rng.normal(size=true[0].shape)  # both branches
    weights = rng.integers(0, 3, (2, 5, 6)) / 2.0
    tensor = leaf(values)
    each = torch.nn.functional.smooth_l1_loss(
        tensor, torch.from_numpy(true), reduction="none", beta=0.1
    )
    expected = (each * torch.from_numpy(weights)[:, None]).sum() / weights.sum()
    expected.backward()
    loss, grad = smooth_l1(values, true, weights)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-12)
    assert relative_error(grad, tensor.grad) < 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_finite_differences(seed):
    logits, heat, weights = problem(seed)
    rng = np.random.default_rng(seed)
    outputs = np.concatenate([logits[:, None], rng.normal(size=(2, 2, 7, 9))], axis=1)
    true = np.concatenate([heat[:, None], rng.normal(size=(2, 2, 7, 9))], axis=1)
    both = np.stack([weights, rng.random(weights.shape)], axis=1)
    _, grad = detection_loss(outputs, true, both)

    def energy(x):
        return float(detection_loss(x, true, both)[0])

    assert directional_error(energy, [outputs], [grad], seed) < 1e-7


def test_the_loss_is_finite_at_any_logit():
    for value in (-1e4, 1e4):
        for y in (0.0, 0.5, 1.0):
            loss, grad = heat_cross_entropy(np.full((1, 1, 1), value), np.full((1, 1, 1), y))
            assert np.isfinite(loss)
            assert np.isfinite(grad).all()
    assert sigmoid(np.array([-1e4, 1e4])).tolist() == [0, 1]
    small = log_sigmoid(np.array([40.0]))
    assert small == pytest.approx(-np.exp(-40.0), rel=1e-9)


def test_what_is_unknown_costs_nothing():
    logits, heat, _ = problem(0)
    weights = np.ones_like(logits)
    weights[:, 3:] = 0
    loss, grad = heat_cross_entropy(logits, heat, weights)
    assert not grad[:, 3:].any()
    logits[:, 3:] = 50
    assert heat_cross_entropy(logits, heat, weights)[0] == loss
    nothing = smooth_l1(np.ones((1, 2, 3, 3)), np.zeros((1, 2, 3, 3)), np.zeros((1, 3, 3)))
    assert nothing[0] == 0
    assert not nothing[1].any()


def test_a_tile_without_objects_has_a_loss():
    loss, grad = heat_cross_entropy(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)))
    assert float(loss) == pytest.approx(np.log(2))
    assert (grad > 0).all()


def test_the_loss_on_any_backend(xp):
    logits, heat, weights = problem(0)
    outputs = np.stack([logits, logits, logits], axis=1).astype(np.float32)
    true = np.stack([heat, heat, heat], axis=1).astype(np.float32)
    both = np.stack([weights, weights], axis=1).astype(np.float32)
    host = detection_loss(outputs, true, both)
    there = detection_loss(*(backend.asarray(a, xp) for a in (outputs, true, both)))
    assert float(there[0]) == pytest.approx(float(host[0]), rel=1e-5)
    assert there[1].dtype == np.float32
    assert relative_error(there[1], host[1]) < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda z: heat_cross_entropy(z[0], z[0]),
            r"logits: got shape \(4, 4\), expected \(B, H, W\)",
        ),
        (
            lambda z: heat_cross_entropy(z, z[:, :2]),
            r"heat: got shape \(1, 2, 4\), expected \(1, 4, 4\)",
        ),
        (lambda z: heat_cross_entropy(z, z, z[:, :2]), "weights: got shape"),
        (lambda z: heat_cross_entropy(z, z, w0=-1), "w0: got -1, expected a number >= 0"),
        (lambda z: smooth_l1(z, z, z), r"values: got shape \(1, 4, 4\), expected \(B, C, H, W\)"),
        (lambda z: smooth_l1(z[None], z[None, :, :2], z), "targets: got shape"),
        (lambda z: smooth_l1(z[None], z[None], z[:, :2]), "weights: got shape"),
        (lambda z: smooth_l1(z[None], z[None], z, 0), "beta: got 0, expected a number > 0"),
        (lambda z: detection_loss(z, z, z), r"outputs: got shape .*, expected \(B, 3, H, W\)"),
        (
            lambda z: detection_loss(np.zeros((1, 3, 4, 4)), z, z),
            r"targets: got shape \(1, 4, 4\), expected \(1, 3, 4, 4\)",
        ),
    ],
)
def test_the_loss_refuses(call, message):
    with pytest.raises(InputError, match=message):
        call(np.zeros((1, 4, 4)))
