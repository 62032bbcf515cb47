"""Data augmentation (Sec. 3.1) against SciPy's map_coordinates, and what it must keep."""

from __future__ import annotations

import dataclasses
import sys

import guard
import numpy as np
import pytest
import scipy.ndimage
from cuda_in_c import Module
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np import backend, data
from unet_np.augmentation.augment import Augmentation
from unet_np.augmentation.warp import Placing, displacement_field, sample
from unet_np.errors import InputError


def reference(image, coordinates, order):
    return scipy.ndimage.map_coordinates(
        image.astype(np.float64), coordinates, order=order, mode="mirror"
    )


def draws(seed):
    return np.random.default_rng(seed)


def scene(shape=(96, 80), seed=0):
    """A textured image with labels and weights of its structure."""
    image = scipy.ndimage.gaussian_filter(draws(seed).random(shape), 2, mode="mirror")
    image = ((image - image.min()) / np.ptp(image)).astype(np.float32)
    labels = np.digitize(image, [0.4, 0.6]).astype(np.int32)
    return image, labels, (1 + 9 * (labels == 1)).astype(np.float32)


PLAIN = {"brightness": 0.0, "contrast": 0.0, "gamma": 0.0}


@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    order=st.sampled_from([0, 1, 3]),
    reach=st.floats(0, 4),
    seed=st.integers(0, 2**32),
)
def test_sample_is_map_coordinates_mirrored(size, order, reach, seed):
    rng = draws(seed)
    image = rng.random(size)
    middle = (np.array(size)[:, None, None] - 1) / 2
    # With reach 1 the coordinates fill the image, with 4 they leave it three times over.
    coordinates = middle + rng.uniform(-1, 1, (2, 9, 11)) * reach * middle
    expected = reference(image, coordinates, order)
    np.testing.assert_allclose(sample(image, coordinates, order), expected, atol=1e-8)
    single = sample(image.astype(np.float32), coordinates, order)
    assert single.dtype == np.float32
    exact = reference(image.astype(np.float32), coordinates, order)
    np.testing.assert_allclose(single, exact, atol=1e-5)
    with guard.device() as xp:
        places = xp.asarray(coordinates)
        on_gpu = sample(xp.asarray(image), places, order)
        np.testing.assert_allclose(backend.to_numpy(on_gpu), expected, atol=1e-8)
        on_gpu = backend.to_numpy(sample(xp.asarray(image.astype(np.float32)), places, order))
        assert on_gpu.dtype == np.float32
        np.testing.assert_allclose(on_gpu, exact, atol=1e-5)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 2**32),
)
def test_displacement_field_is_the_cubic_spline_through_the_vectors(size, grid, seed):
    vectors = draws(seed).normal(0, 10, (2, *grid))
    places = [np.linspace(0, points - 1, n) for n, points in zip(size, grid, strict=True)]
    at = np.stack(np.meshgrid(*places, indexing="ij"))
    expected = np.stack([reference(one, at, 3) for one in vectors])
    np.testing.assert_allclose(displacement_field(size, vectors), expected, atol=1e-9)
    turned = Placing(0.4, (1.0, -1.0), (3.5, 2.0), (10.0, -7.0))
    y, x = np.arange(size[0])[:, None] - 3.5, 2.0 - np.arange(size[1])
    cos, sin = np.cos(0.4), np.sin(0.4)
    lies = np.stack([10 + cos * y - sin * x, -7 + sin * y + cos * x])
    np.testing.assert_allclose(
        displacement_field(size, vectors, turned), expected + lies, atol=1e-9
    )
    with guard.device() as xp:
        for placing, base in ((None, 0), (turned, lies)):
            field = backend.to_numpy(displacement_field(size, xp.asarray(vectors), placing))
            np.testing.assert_allclose(field, expected + base, atol=1e-9)


def test_displacement_field_meets_the_vectors_on_the_grid():
    vectors = draws(0).normal(0, 10, (2, 3, 3))
    field = displacement_field((101, 201), vectors)
    np.testing.assert_allclose(field[:, ::50, ::100], vectors, atol=1e-12)


def test_vectors_have_the_standard_deviation_asked_for():
    augmentation = Augmentation(sigma=10)
    vectors = np.stack([augmentation._draw(draws(i)).vectors for i in range(2000)])
    assert vectors.shape == (2000, 2, 3, 3)
    assert abs(vectors.std() - 10) < 0.2
    assert abs(vectors.mean()) < 0.2


@pytest.mark.parametrize("order", [1, 3])
def test_whole_augmentation_matches_map_coordinates_on_the_dense_field(order):
    image, labels, weights = scene((512, 512))
    augmentation = Augmentation(order=order, **PLAIN)
    warped = augmentation(image, labels, weights, rng=draws(4))
    field = augmentation.coordinates((512, 512), draws(4))
    np.testing.assert_allclose(warped[0], reference(image, field, order), atol=1e-5)
    np.testing.assert_array_equal(warped[1], reference(labels, field, 0))
    np.testing.assert_allclose(warped[2], reference(weights, field, 1), rtol=1e-5)


@pytest.mark.parametrize("size", [512, 538, 545, 566, 600])
def test_widths_at_which_spline_poles_underflow(size):
    # Powers of the spline's pole leave the range of doubles at these widths.
    image = draws(0).random((40, size)).astype(np.float32)
    coordinates = np.stack(np.mgrid[:40, :size]) + 0.3
    np.testing.assert_allclose(
        sample(image, coordinates), reference(image, coordinates, 3), atol=1e-5
    )


def test_rotation_is_about_the_centre_and_keeps_distances():
    augmentation = Augmentation(sigma=0, shift=0, flip=False, rotation=180)
    draw = augmentation._draw(draws(1))
    places = augmentation._coordinates(np, draw, (41, 61), (0, 0))
    np.testing.assert_allclose(places[:, 20, 30], [20, 30], atol=1e-12)
    away = places - places[:, 20:21, 30:31]
    grid = np.mgrid[-20:21, -30:31]
    np.testing.assert_allclose((away**2).sum(0), (grid**2).sum(0), atol=1e-9)
    assert abs(draw.angle) > 0.1
    np.testing.assert_allclose(away[:, 20, 31], [-np.sin(draw.angle), np.cos(draw.angle)])


def test_quarter_turn_is_exact_to_rounding():
    image, _, _ = scene((33, 33))
    quarter = Augmentation(sigma=0, shift=0, flip=False, rotation=90, **PLAIN)
    draw = quarter._draw(draws(0))._replace(angle=np.pi / 2)
    places = quarter._coordinates(np, draw, (33, 33), (0, 0))
    np.testing.assert_allclose(sample(image, places), np.rot90(image, -1), atol=1e-5)


def test_labels_stay_labels_and_weights_stay_positive():
    image, _, _ = scene((120, 120))
    labels = draws(0).choice([0, 7, 250], (120, 120)).astype(np.uint8)
    weights = draws(1).choice([0.0, 1e-6, 50.0], (120, 120)).astype(np.float32)
    for seed in range(10):
        _, moved, weighed = Augmentation()(image, labels, weights, rng=draws(seed))
        assert moved.dtype == np.uint8
        assert set(np.unique(moved)) <= {0, 7, 250}
        assert weighed.dtype == np.float32
        assert weighed.min() >= 0
        assert weighed.max() <= 50 * (1 + 1e-6)


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(-1, 300), min_size=1, max_size=6),
    st.sampled_from([np.int32, np.int64]),
)
@settings(deadline=None, max_examples=30)
def test_labels_of_each_class_survive_exactly(seed, values, dtype):
    """Each pixel has the label of the pixel that it was read from, and so each class by itself."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array(values, dtype), (30, 40))
    image = rng.random((30, 40), np.float32)

    def warped(these):
        again = np.random.default_rng(seed + 1)
        return Augmentation(sigma=4).tile(image, these, None, 44, 24, again)[1]

    whole = warped(labels)
    assert whole.dtype == dtype
    assert set(np.unique(whole)) <= set(values)
    for value in set(values):
        np.testing.assert_array_equal(warped(labels == value), whole == value)
    numbered = warped(np.arange(labels.size, dtype=np.int32).reshape(labels.shape))
    np.testing.assert_array_equal(whole, labels.ravel()[numbered])


def test_image_labels_and_weights_move_together():
    # A disk that is the same in all three is so afterwards.
    y, x = np.mgrid[:128, :128]
    disk = (y - 50) ** 2 + (x - 70) ** 2 < 30**2
    image, weights = disk.astype(np.float32), disk.astype(np.float32)
    for seed in range(5):
        warped, moved, weighed = Augmentation(**PLAIN)(image, disk, weights, rng=draws(seed))
        assert moved.dtype == bool
        assert moved.sum() > 500
        assert np.mean((warped > 0.5) != moved) < 0.003
        assert np.mean((weighed > 0.5) != moved) < 0.003


@given(
    size=st.tuples(st.integers(5, 60), st.integers(5, 60)),
    output=st.integers(1, 40),
    margin=st.integers(0, 30),
    seed=st.integers(0, 2**32),
)
def test_tile_of_nothing_is_an_exact_crop_of_the_mirrored_image(size, output, margin, seed):
    image = draws(seed).random(size).astype(np.float32)
    ids = np.arange(image.size).reshape(size)
    tile, labels, weights = Augmentation.off().tile(
        image, ids, image, output + 2 * margin, output, draws(seed)
    )
    pad = margin + max(output - min(size), 0)
    mirrored = np.pad(image, pad, mode="reflect")
    numbers = np.pad(ids, pad, mode="reflect")
    free = np.array(size) - output
    low, high = np.minimum(free, 0), np.maximum(free, 0)
    found = []
    for top in range(low[0], high[0] + 1):
        for left in range(low[1], high[1] + 1):
            begin = np.array([top, left]) + pad
            inner = tuple(slice(b, b + output) for b in begin)
            if np.array_equal(numbers[inner], labels):
                outer = tuple(slice(b - margin, b + output + margin) for b in begin)
                found.append(np.array_equal(mirrored[outer], tile))
                np.testing.assert_array_equal(mirrored[inner], weights)
    assert any(found)


def test_tile_is_the_warp_of_the_padded_image():
    image, labels, weights = scene((90, 70))
    augmentation = Augmentation(**PLAIN)
    tile, moved, weighed = augmentation.tile(image, labels, weights, 60, 40, draws(3))
    rng = draws(3)
    draw = augmentation._draw(rng)
    corner = np.floor(rng.random(2) * (np.array([90, 70]) - 40 + 1)) - 10
    assert (corner + 10 >= 0).all()
    field = displacement_field((60, 60), draw.vectors)
    y, x = np.mgrid[:60, :60] - 29.5
    y, x = draw.flip[0] * y, draw.flip[1] * x
    cos, sin = np.cos(draw.angle), np.sin(draw.angle)
    at = np.stack([cos * y - sin * x, sin * y + cos * x]) + field
    at += (29.5 + corner + draw.shift)[:, None, None]
    np.testing.assert_allclose(tile, reference(image, at, 3), atol=1e-5)
    np.testing.assert_array_equal(moved, reference(labels, at[:, 10:50, 10:50], 0))
    np.testing.assert_allclose(weighed, reference(weights, at[:, 10:50, 10:50], 1), rtol=1e-5)


def test_tiles_come_from_everywhere_and_nowhere_else():
    image = np.arange(20.0)[:, None] * np.ones(30)
    tops = {
        int(Augmentation.off().tile(image, None, None, 12, 12, draws(i))[0][0, 0])
        for i in range(300)
    }
    assert tops == set(range(9))


def test_flips_are_exact_and_each_as_likely():
    image, labels, _ = scene((31, 24))
    augmentation = dataclasses.replace(Augmentation.off(), flip=True)
    counts = dict.fromkeys(range(4), 0)
    variants = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
    for seed in range(400):
        warped, moved, _ = augmentation(image, labels, rng=draws(seed))
        which = [np.array_equal(warped, v) for v in variants]
        assert sum(which) == 1
        counts[which.index(True)] += 1
        v = [labels, labels[::-1], labels[:, ::-1], labels[::-1, ::-1]][which.index(True)]
        np.testing.assert_array_equal(moved, v)
    assert min(counts.values()) > 60


def test_same_generator_same_result_other_generator_another():
    arrays = scene()
    first, again = (Augmentation()(*arrays, rng=draws(5)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], Augmentation()(*arrays, rng=draws(6))[0])


def test_threads_do_not_change_results():
    arrays = scene((300, 200))
    results = []
    try:
        for threads in (1, 2):
            backend.set_thread_count(threads)
            results.append(Augmentation()(*arrays, rng=draws(0)))
    finally:
        backend.set_thread_count(None)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_switching_one_setting_off_leaves_the_others():
    full = Augmentation()._draw(draws(2))
    without = Augmentation(rotation=0, flip=False, sigma=0)._draw(draws(2))
    assert without.angle == 0
    assert not without.vectors.any()
    np.testing.assert_array_equal(full.shift, without.shift)
    assert (full.brightness, full.contrast, full.gamma) == without[4:]


def test_arguments_are_not_changed():
    arrays = scene()
    before = [a.copy() for a in arrays]
    Augmentation()(*arrays, rng=draws(0))
    Augmentation.off().tile(*arrays, 40, 20, draws(0))
    dataclasses.replace(Augmentation.off(), gamma=0.5)(*arrays, rng=draws(0))
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_channels_are_warped_alike():
    image, _, _ = scene()
    stack = np.stack([image, 2 * image + 3, image**2])
    warped, _, _ = Augmentation(**PLAIN)(stack, rng=draws(0))
    assert warped.shape == stack.shape
    alone, _, _ = Augmentation(**PLAIN)(image, rng=draws(0))
    np.testing.assert_array_equal(warped[0], alone)
    np.testing.assert_allclose(warped[1], 2 * alone + 3, atol=1e-4)


def test_grey_values_vary_with_the_image_whatever_its_scale():
    image, _, _ = scene()
    one, _, _ = Augmentation()(image.astype(np.float64), rng=draws(7))
    other, _, _ = Augmentation()(1000 * image.astype(np.float64) - 50, rng=draws(7))
    np.testing.assert_allclose(1000 * one - 50, other, rtol=1e-6, atol=1e-6)
    plain, _, _ = Augmentation(**PLAIN)(image.astype(np.float64), rng=draws(7))
    assert abs(one - plain).max() > 0.01


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma"])
def test_each_grey_setting_does_what_it_says(name):
    image, _, _ = scene((64, 64))
    settings = dataclasses.replace(Augmentation.off(), **{name: 0.5})
    draw = settings._draw(draws(3))
    varied, _, _ = settings(image, rng=draws(3))
    mean, deviation = image.mean(), image.std()
    expected = {
        "brightness": image + draw.brightness * deviation,
        "contrast": mean + draw.contrast * (image - mean),
        "gamma": image**draw.gamma,  # its grey values go from 0 to 1
    }[name]
    np.testing.assert_allclose(varied, expected, atol=1e-5)
    assert abs(varied - image).max() > 0.005


def test_constant_image_stays_finite():
    flat, _, _ = Augmentation()(np.full((20, 20), 7.0, np.float32), rng=draws(0))
    np.testing.assert_allclose(flat, 7, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64, bool])
def test_dtypes(dtype):
    image = draws(0).integers(0, 2, (30, 30)).astype(dtype)
    warped, _, _ = Augmentation()(image, rng=draws(0))
    assert warped.dtype == (np.float64 if dtype is np.float64 else np.float32)


def test_tile_is_the_same_on_every_library_and_stays_there(xp):
    arrays = scene((70, 90))
    expected = Augmentation().tile(*arrays, 60, 40, draws(1))
    results = Augmentation().tile(*(backend.asarray(a, xp) for a in arrays), 60, 40, draws(1))
    for result, host in zip(results, expected, strict=True):
        assert isinstance(result, xp.ndarray)
        assert result.dtype == host.dtype
        np.testing.assert_allclose(backend.to_numpy(result), host, atol=1e-4)


def test_same_warp_on_every_library(xp):
    arrays = scene((70, 90))
    expected = Augmentation()(*arrays, rng=draws(1))
    results = Augmentation()(*(backend.asarray(a, xp) for a in arrays), rng=draws(1))
    for result, host in zip(results, expected, strict=True):
        assert isinstance(result, xp.ndarray)
        np.testing.assert_allclose(backend.to_numpy(result), host, atol=1e-4)
    own = Augmentation()(backend.asarray(arrays[0], xp), rng=backend.default_rng(xp, (0, 2, 0)))
    assert isinstance(own[0], xp.ndarray)


def test_a_tile_on_the_device_waits_for_nothing(monkeypatch):
    """It is made while the network works, for which every answer to the host would wait."""
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    xp = backend.get("cupy")
    image, labels, weights = (backend.asarray(a, xp) for a in scene((70, 90)))
    Augmentation().tile(image, labels, weights, 60, 40, draws(0))  # the spline's matrices are kept
    guard.round_trips.clear()
    guard.calls.clear()
    launched = Module.launches
    Augmentation().tile(image, labels, weights, 60, 40, draws(0))
    assert Module.launches - launched == 7
    assert guard.calls.total() < 50
    assert guard.round_trips == {"asarray": 1}  # the vectors: an upload that nobody waits for


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_places_that_are_no_numbers_read_nothing_outside_of_a_gpus_image(wrong, order):
    """It does not ask, for the host would have to wait: what is read is some pixel of the image."""
    image = 1 + draws(0).random((5, 7))
    places = np.full((2, 1, 2), 3.0)
    places[:, 0, 1] = wrong
    with guard.device() as xp:
        got = backend.to_numpy(sample(xp.asarray(image), xp.asarray(places), order))
    np.testing.assert_allclose(got[0, 0], image[3, 3], rtol=1e-8)
    assert 0.5 < got[0, 1] < 2.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": 0}, "grid: got 0, expected an integer from 1 to 1000"),
        ({"grid": 2.5}, "grid: got 2.5"),
        ({"order": 2}, "order: got 2, expected 1"),
        ({"flip": 0.5}, "flip: got 0.5, expected True or False"),
        ({"sigma": -1}, "sigma: got -1, expected a finite number >= 0"),
        ({"shift": float("nan")}, "shift: got nan"),
        ({"gamma": float("inf")}, "gamma: got inf"),
        ({"contrast": "much"}, "contrast: got 'much'"),
        ({"rotation": 360}, "rotation: got 360, expected 0 to 180 degrees"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        Augmentation(**settings)
    assert "\n" not in str(caught.value)


def test_bad_arrays():
    image = np.zeros((8, 8), np.float32)
    augment, rng = Augmentation(), draws(0)
    with pytest.raises(InputError, match=r"image: got shape \(8,\)"):
        augment(image[0], rng=rng)
    with pytest.raises(InputError, match=r"image: got dtype complex128"):
        augment(image.astype(complex), rng=rng)
    with pytest.raises(InputError, match=r"labels: got shape \(7, 8\)"):
        augment(image, image[1:] > 0, rng=rng)
    with pytest.raises(InputError, match="labels: got dtype float32"):
        augment(image, image, rng=rng)
    with pytest.raises(InputError, match=r"weights: got shape \(8, 7\)"):
        augment(image, None, image[:, 1:], rng=rng)
    with pytest.raises(InputError, match="rng: got NoneType"):
        augment(image)
    for sizes in ((4, 6), (5, 2), (4, 0)):
        with pytest.raises(InputError, match="input_size, output_size"):
            augment.tile(image, None, None, *sizes, rng)
    with pytest.raises(InputError, match=r"vectors: got shape \(3, 3\)"):
        displacement_field((8, 8), np.zeros((3, 3)))
    places = np.zeros((2, 3, 3))
    with pytest.raises(InputError, match="order: got 2"):
        sample(image, places, 2)
    with pytest.raises(InputError, match=r"coordinates: got shape \(3, 3\)"):
        sample(image, places[0])
    with pytest.raises(InputError, match=r"image: got shape \(8,\)"):
        sample(image[0], places)
    with pytest.raises(InputError, match="coordinates: got NaN or infinity"):
        sample(image, places + np.inf)


@pytest.mark.data
@pytest.mark.parametrize("slice_", [0, 17])
def test_real_em_slice(slice_):
    if not data.is_available("isbi2012"):
        pytest.skip("isbi2012 is not there; see UNET_NP_DATA")
    stack = data.load("isbi2012")
    image, labels = stack.images[slice_], stack.labels[slice_]
    weights = 1 + 9 * (labels == 0).astype(np.float32)
    augmentation = Augmentation(**PLAIN)
    warped, moved, weighed = augmentation(image, labels, weights, rng=draws(8))
    field = augmentation.coordinates(image.shape, draws(8))
    scale = image.max()
    np.testing.assert_allclose(warped / scale, reference(image, field, 3) / scale, atol=1e-5)
    np.testing.assert_array_equal(moved, reference(labels, field, 0))
    np.testing.assert_array_equal(np.unique(moved), np.unique(labels))
    assert weighed.min() >= 1
    # Membranes stay dark: labels have moved with the image.
    assert warped[moved == 0].mean() < warped[moved == 1].mean() - 0.1 * scale
