"""From raw images to probabilities, labels and cells."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_np import UNet
from unet_np.errors import InputError
from unet_np.images import normalise
from unet_np.tasks.segmentation import grown_instances, instances, most_probable, segment
from unet_np.tasks.task import prepare
from unet_np.tiling import predict_tiled


def make_net(channels=1, classes=2):
    return UNet(
        in_channels=channels, num_classes=classes, base_channels=2, depth=2, seed=1, backend="numpy"
    )


def random_image(shape, dtype=np.uint8, top=200):
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def test_segment_is_normalise_tiles_and_argmax():
    net, image = make_net(classes=3), random_image((30, 47))
    result = segment(net, image)
    assert result.probabilities.dtype == np.float32
    assert result.probabilities.shape == (3, 30, 47)
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-6)
    expected = predict_tiled(net, normalise(image))
    assert np.array_equal(result.probabilities, expected)
    assert np.array_equal(result.labels, expected.argmax(axis=0))
    assert result.labels.dtype == np.uint8


def test_exposure_and_bit_depth_do_not_matter():
    net, image = make_net(), random_image((30, 30))
    first = segment(net, image).probabilities
    for other in (image.astype(np.uint16) * 257, image / 255.0, image.astype(np.int32) * 1000 + 7):
        np.testing.assert_allclose(segment(net, other).probabilities, first, atol=1e-4)


def test_a_constant_image_gives_finite_probabilities():
    assert np.isfinite(segment(make_net(), np.full((9, 9), 7)).probabilities).all()


def test_options_reach_the_tiles():
    net, image, calls = make_net(), random_image((60, 50)), []
    plain = segment(net, image).probabilities
    tiled = segment(net, image, tile=52, progress=lambda *call: calls.append(call))
    np.testing.assert_allclose(tiled.probabilities, plain, atol=1e-5)
    assert len(calls) > 1 or calls[0][1] > 1


def test_colour_becomes_grey_for_one_channel():
    grey = random_image((20, 30))
    colour = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_allclose(prepare(colour), prepare(grey), atol=1e-5)
    assert prepare(colour).shape == (1, 20, 30)


def test_colour_stays_for_three_channels_and_alpha_goes():
    image = random_image((20, 30, 4))
    ready = prepare(image, 3)
    assert ready.shape == (3, 20, 30)
    np.testing.assert_allclose(ready.mean(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(ready.std(axis=(1, 2)), 1, atol=1e-5)
    assert np.array_equal(ready[1], normalise(image[..., 1]))
    assert segment(make_net(3), image).labels.shape == (20, 30)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((20, 30), 3, r"image: got 1 channel, expected 3, which the network reads"),
        ((20, 30, 2), 3, r"image: got 2 channels, expected 3"),
        ((20, 30, 3), 2, r"image: got 3 channels, expected 2"),
        ((5, 20, 30), 1, r"image: got shape \(5, 20, 30\), expected \(H, W\) or"),
        ((20,), 1, r"image: got shape \(20,\)"),
    ],
)
def test_bad_images_are_one_line(shape, channels, message):
    with pytest.raises(InputError, match=message):
        prepare(np.zeros(shape), channels)


@given(arrays(np.float32, (4, 3, 5), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_most_probable_is_argmax(probabilities):
    assert np.array_equal(most_probable(probabilities), probabilities.argmax(axis=0))


def test_most_probable_of_many_classes():
    probabilities = np.zeros((300, 1, 2), np.float32)
    probabilities[299, 0, 1] = 1
    labels = most_probable(probabilities)
    assert labels.dtype == np.uint16
    assert labels.tolist() == [[0, 299]]


@settings(deadline=None)
@given(
    labels=arrays(
        np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2)
    ),
    foreground=st.integers(0, 2),
    min_area=st.integers(1, 6),
    diagonal=st.booleans(),
)
def test_instances_are_the_large_components(labels, foreground, min_area, diagonal):
    ids, cells = instances(labels, foreground=foreground, min_area=min_area, diagonal=diagonal)
    neighbours = scipy.ndimage.generate_binary_structure(2, 2 if diagonal else 1)
    components, count = scipy.ndimage.label(labels == foreground, neighbours)
    large = [i for i in range(1, count + 1) if (components == i).sum() >= min_area]
    assert [cell.id for cell in cells] == list(range(1, len(large) + 1))
    for cell, component in zip(cells, large, strict=True):
        mask = components == component
        assert np.array_equal(ids == cell.id, mask)
        rows, columns = np.nonzero(mask)
        assert cell.area == len(rows)
        assert cell.centroid == pytest.approx((rows.mean(), columns.mean()))
        box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert cell.bbox == box
    assert (ids > 0).sum() == sum(cell.area for cell in cells)


def test_corners_connect_only_when_asked():
    labels = np.eye(3, dtype=np.uint8)
    assert len(instances(labels)[1]) == 3
    assert len(instances(labels, diagonal=True)[1]) == 1


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros((2, 2, 2), int), {}, r"labels: got int64 \(2, 2, 2\), expected integers"),
        (np.zeros((2, 2)), {}, r"labels: got float64"),
        (np.zeros((2, 2), int), {"min_area": 0}, r"min_area: got 0, expected an integer >= 1"),
    ],
)
def test_bad_labels_are_one_line(labels, options, message):
    with pytest.raises(InputError, match=message):
        instances(labels, **options)


@given(seed=st.integers(0, 1000))
def test_grown_cells_fill_what_their_seeds_reach(seed):
    rng = np.random.default_rng(seed)
    probability = scipy.ndimage.gaussian_filter(rng.random((24, 30)), 1.5)
    low, high = np.quantile(probability, [0.5, 0.85])
    ids, cells = grown_instances(probability, high, low, min_area=2)
    seeds, _ = instances(probability > high, min_area=2)
    assert (ids[seeds > 0] == seeds[seeds > 0]).all()
    reached = scipy.ndimage.binary_propagation(seeds > 0, mask=probability > low)
    assert (ids > 0)[reached].all()
    enclosed = scipy.ndimage.binary_fill_holes(reached)
    assert not (ids > 0)[~enclosed].any()
    for cell in cells:
        part = ids == cell.id
        assert part.sum() == cell.area
        assert scipy.ndimage.label(part)[1] == 1
        assert (ids > 0)[scipy.ndimage.binary_fill_holes(part)].all()
    one = grown_instances(probability, high, high, min_area=2)[0]
    assert np.array_equal(one[probability > high], seeds[probability > high])


def test_erosion_cuts_the_neck_between_two_seeds():
    """Two discs joined by a bridge three pixels wide, as where the line between cells has a gap."""
    y, x = np.mgrid[:41, :81]
    left, right = np.hypot(y - 20, x - 22) < 15, np.hypot(y - 20, x - 58) < 15
    probability = np.where(left | right | (abs(y - 20) < 2) & (x > 22) & (x < 58), 0.97, 0.2)
    assert len(grown_instances(probability, 0.9, 0.5)[1]) == 1
    ids, cells = grown_instances(probability, 0.9, 0.5, erosion=3)
    assert len(cells) == 2
    # All that was above the threshold is given back, the bridge in two halves.
    assert np.array_equal(ids > 0, probability > 0.5)
    assert len(np.unique(ids[left])) == len(np.unique(ids[right])) == 1
    assert len(grown_instances(probability, 0.9, 0.5, erosion=20)[1]) == 0
    # A cell at the edge is not eroded from there, and an image full of cell not at all.
    assert grown_instances(np.full((5, 90), 0.97), 0.9, 0.5, erosion=4)[1][0].area == 450
    edge = np.where(y < 4, 0.97, 0.1)
    assert len(grown_instances(edge, 0.9, 0.5, erosion=3)[1]) == 1
    # Small seeds are left out before they are eroded.
    assert len(grown_instances(probability, 0.9, 0.5, erosion=12, min_area=600)[1]) == 2


def test_what_an_erosion_cuts_off_is_a_part_of_its_neighbour():
    """A cell with an arm: the neck falls to the erosion, and the arm is no cell of its own."""
    y, x = np.mgrid[:41, :81]
    body, arm = np.hypot(y - 20, x - 22) < 15, np.hypot(y - 20, x - 50) < 6
    probability = np.where(body | arm | ((abs(y - 20) < 2) & (x > 22) & (x < 50)), 0.97, 0.2)
    assert len(grown_instances(probability, 0.9, 0.5, erosion=3)[1]) == 2
    ids, cells = grown_instances(probability, 0.9, 0.5, erosion=3, min_area=200)
    assert len(cells) == 1
    assert np.array_equal(ids > 0, probability > 0.5)
    # Two large cells on both sides of it: it goes to the one with the longer border.
    wide = np.where(body | (abs(y - 20) < 3) & (x > 22) | (np.hypot(y - 20, x - 66) < 13), 0.97, 0)
    wide[16:25, 43:50] = 0.97
    ids, cells = grown_instances(wide, 0.9, 0.5, erosion=3, min_area=200)
    assert len(cells) == 2
    assert len(np.unique(ids[16:25, 43:50])) == 1


@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.5, 2.5]), st.integers(2, 40))
@settings(max_examples=30)
def test_after_an_erosion_no_small_cell_has_a_neighbour(seed, erosion, min_area):
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 50)), 2)
    probability = 1 / (1 + np.exp(-8 * noise / noise.std()))
    whole = grown_instances(probability, 0.6, 0.4, min_area=min_area)[0]
    ids, cells = grown_instances(probability, 0.6, 0.4, min_area=min_area, erosion=erosion)
    assert [cell.id for cell in cells] == list(range(1, len(cells) + 1))
    assert set(np.unique(ids)) == {0, *range(1, len(cells) + 1)}
    # Parts of what is a cell without the erosion, or background that only now one cell encloses.
    assert (probability[(ids > 0) & (whole == 0)] <= 0.4).all()
    for cell in cells:
        around = scipy.ndimage.binary_dilation(ids == cell.id) & (ids != cell.id)
        assert cell.area >= min_area or not ids[around & (probability > 0.4)].any()


def test_a_negative_erosion_is_one_line():
    with pytest.raises(InputError, match=r"^erosion: got -1, expected a number of pixels >= 0$"):
        grown_instances(np.zeros((3, 4)), 0.5, 0.5, erosion=-1)


@pytest.mark.parametrize(
    ("probability", "limits", "message"),
    [
        (np.zeros((2, 3, 4)), (0.5, 0.5), r"probability: got float64 \(2, 3, 4\)"),
        (np.zeros((3, 4), int), (0.5, 0.5), "expected floats of shape"),
        (np.zeros((3, 4)), (0.4, 0.5), "seeds: got 0.4, expected a number from 0.5 to 1"),
        (np.zeros((3, 4)), (1.5, 0.5), "seeds: got 1.5"),
    ],
)
def test_bad_limits_of_cells_are_one_line(probability, limits, message):
    with pytest.raises(InputError, match=message) as caught:
        grown_instances(probability, *limits)
    assert "\n" not in str(caught.value)
