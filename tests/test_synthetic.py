"""`unet_np.data.synthetic`: seeded pictures that pose the paper's two problems."""

import hashlib
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from unet_np.data import fields, synthetic_cells, synthetic_em, synthetic_stack
from unet_np.errors import InputError

MAKERS = [synthetic_em, synthetic_cells]
FOUR = ndimage.generate_binary_structure(2, 1)


def message(call, *args, **kwargs):
    """The text of the InputError, checked to be one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(image, labels, instances, shape):
    assert image.shape == labels.shape == instances.shape == shape
    assert (image.dtype, labels.dtype, instances.dtype) == (np.uint8, np.uint8, np.uint16)
    assert set(np.unique(labels)) <= {0, 1}
    np.testing.assert_array_equal(instances > 0, labels == 1)
    numbers = np.unique(instances[instances > 0])
    np.testing.assert_array_equal(numbers, np.arange(1, len(numbers) + 1))
    # Each instance is one connected region, and no two touch.
    assert ndimage.label(labels, FOUR)[1] == len(numbers)


@settings(deadline=None, max_examples=25)
@given(
    make=st.sampled_from(MAKERS),
    shape=st.tuples(st.integers(32, 150), st.integers(32, 150)),
    seed=st.integers(0, 2**40),
    index=st.integers(0, 2**20),
)
def test_every_size_and_seed(make, shape, seed, index):
    check(*make(shape, seed=seed, index=index), shape)


@settings(deadline=None, max_examples=15)
@given(
    modality=st.sampled_from(["dic", "phase"]),
    cell_size=st.floats(12, 300),
    seed=st.integers(0, 99),
)
def test_every_cell_size(modality, cell_size, seed):
    check(*synthetic_cells((90, 120), seed, modality=modality, cell_size=cell_size), (90, 120))


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_numbers_give_the_same_image(make):
    first, again = make(200, seed=4, index=2), make(200, seed=4, index=2)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    hashes = {
        hashlib.sha256(make(64, seed=seed, index=index)[0].tobytes()).digest()
        for seed in range(3)
        for index in range(3)
    }
    assert len(hashes) == 9


@pytest.mark.parametrize("make", MAKERS)
def test_global_random_state_is_left_alone(make):
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    make(64)
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("make", MAKERS)
def test_512_in_well_under_a_second(make):
    make(64)
    times = []
    for index in range(3):
        start = time.thread_time()  # the machine may be busy with something else
        make(512, index=index)
        times.append(time.thread_time() - start)
    assert min(times) < 1.0


def best_threshold_error(image, labels, sigma):
    smooth = ndimage.gaussian_filter(image.astype(float), sigma)
    return min(((smooth > level) != labels).mean() for level in range(40, 200, 4))


@pytest.mark.parametrize("index", range(3))
def test_em_is_like_the_real_stack(index):
    # The real slices: 22 % membrane, mean 126, standard deviation 40 to 47, 96 to 136 regions, and
    # a smoothed threshold errs on 15 to 19 % of the pixels.
    image, labels, instances = synthetic_em(512, index=index)
    assert 0.15 < (labels == 0).mean() < 0.30
    assert 60 <= instances.max() <= 200
    assert 110 < image.mean() < 155
    assert 33 < image.std() < 50
    membrane, cell = image[labels == 0].mean(), image[labels == 1].mean()
    assert cell - membrane > 40
    # Not solved by looking at one pixel, nor at a few, and yet better than a guess.
    error = min(best_threshold_error(image, labels, sigma) for sigma in (0, 1, 2, 3))
    assert 0.09 < error < 0.8 * (labels == 0).mean()


def test_em_has_cells_of_many_sizes():
    sizes = np.bincount(synthetic_em(512)[2].ravel())[1:]
    assert np.percentile(sizes, 95) > 8 * np.percentile(sizes, 20)


@pytest.mark.parametrize("index", range(3))
def test_cells_touch_with_a_few_pixels_between(index):
    _, _, instances = synthetic_cells(512, index=index)
    count = instances.max()
    assert 10 <= count <= 60
    near = 0
    for number in range(1, count + 1):
        grown = ndimage.binary_dilation(instances == number, iterations=6)
        near += bool(set(np.unique(instances[grown])) - {0, number})
    assert near >= 0.6 * count
    assert 0.2 < (instances > 0).mean() < 0.95


@pytest.mark.parametrize("index", range(3))
def test_dic_has_no_threshold(index):
    # A relief is as bright as dark: grey values alone do not tell cells from ground.
    image, labels, _ = synthetic_cells(512, index=index)
    assert abs(image[labels == 1].mean() - image[labels == 0].mean()) < 5
    assert image[labels == 1].std() > image[labels == 0].std()


def test_phase_contrast_is_dark_with_a_bright_halo():
    image, labels, _ = synthetic_cells(512, modality="phase")
    outside = ndimage.distance_transform_edt(labels == 0)
    halo = (outside > 0) & (outside < 4)
    assert image[halo].mean() > image[outside > 20].mean() + 5
    assert image[labels == 1].mean() < image[outside > 20].mean()


def test_stack_is_its_slices():
    images, labels, instances = synthetic_stack(synthetic_em, 3, size=(40, 50), seed=1, first=5)
    assert images.shape == labels.shape == instances.shape == (3, 40, 50)
    for i in range(3):
        for stack, one in zip(
            (images, labels, instances), synthetic_em((40, 50), 1, 5 + i), strict=True
        ):
            np.testing.assert_array_equal(stack[i], one)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("size", [31, 0, -5, (64, 31), (64,), (64, 64, 64), 64.0, "64", None, True])
def test_sizes_that_are_refused(make, size):
    assert message(make, size).startswith(f"size: got {size!r}, expected a number or (height")


@pytest.mark.parametrize("make", MAKERS)
def test_seeds_that_are_refused(make):
    assert message(make, 64, seed=-1) == "seed: got -1, expected an integer >= 0"
    assert message(make, 64, index=1.5) == "index: got 1.5, expected an integer >= 0"


def test_other_arguments_that_are_refused():
    assert message(synthetic_cells, 64, modality="x") == (
        "modality: got 'x', expected one of dic, phase; nearest valid is 'phase'"
    )
    for size in (11, np.nan):
        assert message(synthetic_cells, 64, cell_size=size).startswith("cell_size: got")
    for count in (0, 1.5, True):
        assert message(synthetic_stack, synthetic_em, count).startswith("count: got")


# Brushes


@pytest.mark.parametrize("scale", [1.5, 5, 20])
def test_smooth_noise_has_unit_variance_and_its_scale(scale):
    field = fields.smooth_noise(np.random.default_rng(0), (900, 700), scale)
    assert field.dtype == np.float32
    # The tolerance is that of so many independent patches.
    loose = 4 * scale / 800
    assert abs(field.mean()) < 2 * loose
    assert abs(field.std() - 1) < 0.05 + loose
    neighbours = np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1]
    assert 1 - 2 / scale**2 < neighbours < 1


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 60), scale=st.floats(0.8, 80))
def test_splines_sum_to_one(size, scale):
    first, weights = fields._spline(size, scale)
    np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=1e-5)
    assert (weights >= -1e-6).all()
    assert (np.diff(first) >= 0).all()
    # A plane goes through a cubic spline unchanged.
    points = np.arange(first[-1] + 4, dtype=np.float32)[:, None]
    line = fields._interpolate(points, first, weights)[:, 0]
    np.testing.assert_allclose(line, np.arange(size) / scale + 1, rtol=1e-4)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), count=st.integers(1, 30))
def test_power_diagram_against_all_pairs(seed, count):
    rng = np.random.default_rng(seed)
    centres, radii = rng.random((count, 2)) * 50, rng.uniform(2, 12, count)
    points = rng.random((200, 2)) * 50
    power = ((points[:, None] - centres) ** 2).sum(axis=2) - radii**2
    got = fields.power_diagram(centres, radii, points)
    np.testing.assert_allclose(power[np.arange(200), got], power.min(axis=1), atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), spacing=st.floats(0.3, 1.2))
def test_scattered_discs_keep_their_distance(seed, spacing):
    rng = np.random.default_rng(seed)
    centres, radii = fields.scatter_discs(rng, (80, 60), rng.uniform(3, 15, 150), spacing)
    away = np.hypot(*(centres[:, None] - centres).transpose(2, 0, 1))
    reach = spacing * (radii[:, None] + radii)
    np.fill_diagonal(away, np.inf)
    assert (away >= reach - 1e-9).all()


@settings(deadline=None)
@given(regions=arrays(np.int32, (7, 9), elements=st.integers(0, 3)))
def test_borders_against_a_loop(regions):
    expected = np.zeros(regions.shape, bool)
    for y in range(7):
        for x in range(9):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < 7 and 0 <= u < 9 and regions[v, u] != regions[y, x]:
                    expected[y, x] = True
    np.testing.assert_array_equal(fields.borders(regions), expected)


def test_distance_to_nothing_is_far():
    assert (fields.distance_to(np.zeros((30, 40), bool)) >= 50).all()
