"""Overlap-tile (Fig. 2): any size, mirrored border, seams that cannot be seen."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np import UNet, backend, data
from unet_np.backend import host
from unet_np.errors import InputError
from unet_np.images import normalise, read_image
from unet_np.network.architecture import Architecture
from unet_np.ops import softmax
from unet_np.tiling import SYMMETRIES, make_tiling, predict_tiled, turn
from unet_np.tiling import statistics as tile_statistics
from unet_np.tiling.memory import choose_tile, forward_bytes
from unet_np.tiling.plan import overlap, plan_axis, stride, tile_count, tile_sizes
from unet_np.tiling.statistics import reference_windows
from unet_np.windows import mirrored

DEPTHS = st.integers(1, 5)


def make_net(depth, padding=0, classes=2, channels=1, dtype="float64", **options):
    return UNet(
        in_channels=channels,
        num_classes=classes,
        base_channels=4,
        depth=depth,
        padding=padding,
        dtype=dtype,
        seed=depth,
        backend="numpy",
        **options,
    )


def whole_pass(net, image):
    """One pass over the whole image, mirrored by NumPy: what tiles must agree with."""
    image = image if image.ndim == 3 else image[None]
    half = net.architecture.margin // 2
    pads = [(0, 0)]
    for size in image.shape[1:]:
        full = net.architecture.input_size_for_output(size)
        pads.append((half, full - half - size))
    padded = np.pad(image, pads, mode="reflect")[None]
    probabilities = softmax(net.forward(padded))[0][0]
    return probabilities[:, : image.shape[1], : image.shape[2]]


def random_image(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# Seams


@pytest.mark.parametrize(
    ("depth", "size", "tile"),
    [
        (1, (23, 40), 22),
        (2, (50, 70), 44),
        (2, (51, 37), (48, 60)),
        (2, (97, 64), 72),
        (3, (100, 130), 108),
        (3, (111, 113), 124),
        (4, (100, 60), 204),
        (4, (129, 130), 236),
        (4, (37, 150), (220, 252)),
    ],
)
def test_tiles_equal_one_pass_over_the_whole_image(depth, size, tile):
    net, image = make_net(depth), random_image(size)
    assert len(make_tiling(net.architecture, size, tile=tile)) > 1
    tiled = predict_tiled(net, image, tile=tile)
    np.testing.assert_allclose(tiled, whole_pass(net, image), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("depth", "size", "tile"),
    [
        (1, (60, 41), 32),
        (2, (150, 83), 64),
        (2, (64, 130), (80, 84)),
        (3, (190, 143), 136),
        (4, (300, 50), 272),
    ],
)
def test_tiles_equal_one_pass_with_padding(depth, size, tile):
    net, image = make_net(depth, padding=1), random_image(size)
    assert len(make_tiling(net.architecture, size, tile=tile)) > 1
    tiled = predict_tiled(net, image, tile=tile)
    np.testing.assert_allclose(tiled, whole_pass(net, image), rtol=0, atol=1e-12)


def with_statistics(net):
    """Running statistics far from 0 and 1, as after training."""
    rng = np.random.default_rng(1)
    for name, array in net.buffers.items():
        array[...] = rng.uniform(0.5, 2, array.shape) * (1 if name.endswith(".var") else 0.3)
    return net


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize("up", ["upconv", "nearest", "bilinear"])
@pytest.mark.parametrize(
    ("depth", "padding", "size", "tiles"),
    [
        (1, 0, (23, 40), 2),
        (2, 0, (50, 71), 1),
        (2, 1, (150, 83), 1),
        (3, 0, (100, 130), 4),
    ],
)
def test_tiles_equal_one_pass_with_every_way_up(depth, padding, size, tiles, up, norm):
    net = with_statistics(make_net(depth, padding, up=up, norm=norm))
    image, table = random_image(size), net.architecture
    around = sum(overlap(table)) if padding else table.margin
    tile = table.nearest_input_sizes(around + (tiles + 2) * table.size_step)[-1]
    assert len(make_tiling(table, size, tile=tile)) > 1
    tiled = predict_tiled(net, image, tile=tile)
    np.testing.assert_allclose(tiled, whole_pass(net, image), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_normalisation_at_test_time_takes_no_memory(norm):
    paper = forward_bytes(Architecture(), (572, 572))
    assert forward_bytes(Architecture(norm=norm), (572, 572)) == paper


def test_tiles_off_the_pooling_grid_would_show():
    # The reason for aligned tiles: the same pixel, two pixels further in its tile, differs.
    net, image = make_net(2), random_image((80, 80))
    whole = whole_pass(net, image)
    shifted = whole_pass(net, image[2:])
    inside = np.abs(whole[:, 32:50, 30:50] - shifted[:, 30:48, 30:50])
    assert inside.max() > 1e-6
    aligned = whole_pass(net, image[4:])
    np.testing.assert_allclose(whole[:, 32:50, 30:50], aligned[:, 28:46, 30:50], atol=1e-12)


def test_the_overlap_with_padding_is_needed():
    # A tile of the padded net is wrong within the receptive field of its edge.
    net, image = make_net(2, padding=1), random_image((96, 64))
    whole = softmax(net.forward(image[None, None]))[0][0]
    part = softmax(net.forward(image[None, None, 32:]))[0][0]
    before = overlap(net.architecture)[0]
    error = np.abs(whole[:, 32:] - part).max(axis=(0, 2))
    assert error[before:].max() < 1e-12
    assert error[: before - net.architecture.size_step].max() > 1e-9


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (1, 30), (7, 3), (19, 90)])
@pytest.mark.parametrize("padding", [0, 1])
def test_images_smaller_than_the_margin_are_mirrored_more_than_once(size, padding):
    net, image = make_net(2, padding), random_image(size)
    result = predict_tiled(net, image)
    assert result.shape == (2, *size)
    np.testing.assert_allclose(result, whole_pass(net, image), rtol=0, atol=1e-12)


def test_a_valid_size_is_the_plain_forward_pass():
    net = make_net(2)
    image = random_image((52, 52))
    half = net.architecture.margin // 2
    logits = net.forward(np.pad(image, half, mode="reflect")[None, None])
    assert logits.shape[-2:] == image.shape
    np.testing.assert_allclose(predict_tiled(net, image), softmax(logits)[0][0], atol=1e-13)


def test_float32_agrees_to_its_rounding():
    net, image = make_net(3, dtype="float32"), random_image((120, 90)).astype(np.float32)
    tiled = predict_tiled(net, image, tile=124)
    assert tiled.dtype == np.float32
    np.testing.assert_allclose(tiled, whole_pass(net, image), rtol=0, atol=5e-5)


@pytest.mark.data
@pytest.mark.parametrize("norm", ["none", "instance"])
@pytest.mark.parametrize(("padding", "tile"), [(0, 572), (1, 400)])
def test_seams_on_a_slice_of_the_real_stack(padding, tile, norm):
    if not data.is_available("isbi2012"):
        pytest.skip("isbi2012 is not in the cache")
    folder = data.fetch("isbi2012", paths=["test/3.png"], download=False)
    image = normalise(read_image(folder / "test" / "3.png"))
    net = make_net(4, padding, norm=norm)
    tiled = predict_tiled(net, image, tile=tile)
    assert tiled.shape == (2, 512, 512)
    np.testing.assert_allclose(tiled, whole_pass(net, image), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    steps=st.integers(0, 8),
    batch=st.integers(1, 5),
    padding=st.sampled_from([0, 1]),
    norm=st.sampled_from(["none", "instance"]),
)
def test_any_size_tile_and_batch_gives_the_same(height, width, steps, batch, padding, norm):
    net, image = make_net(1, padding, classes=3, norm=norm), random_image((height, width))
    smallest = next(tile_sizes(net.architecture, 100))[0]
    tile = smallest + steps * net.architecture.size_step
    tiled = predict_tiled(net, image, tile=tile, batch=batch)
    np.testing.assert_allclose(tiled, whole_pass(net, image), rtol=0, atol=1e-12)
    np.testing.assert_allclose(tiled.sum(axis=0), 1, atol=1e-12)


# Instance normalisation: all tiles share the statistics of the image


@pytest.mark.parametrize("padding", [0, 1])
def test_a_large_image_takes_its_statistics_from_windows(padding, monkeypatch):
    monkeypatch.setattr(tile_statistics, "REFERENCE_PIXELS", 15000)
    net, image = make_net(2, padding, norm="instance"), random_image((190, 233)).cumsum(axis=0)
    table = net.architecture
    window, corners = reference_windows(table, image.shape)
    assert len(corners) == 9
    half = table.margin // 2
    full = [table.input_size_for_output(size) for size in image.shape]
    pads = [(half, n - half - size) for n, size in zip(full, image.shape, strict=True)]
    padded = np.pad(image, pads, mode="reflect")
    cut = [
        padded[row + half :, column + half :][: window[0], : window[1]] for row, column in corners
    ]
    shared = net.statistics(np.stack(cut)[:, None])
    logits = net.forward(padded[None, None], statistics=shared)
    expected = softmax(logits)[0][0][:, : image.shape[0], : image.shape[1]]
    for tile in (table.nearest_input_sizes(120)[0], table.nearest_input_sizes(150)[0], None):
        tiled = predict_tiled(net, image, tile=tile)
        np.testing.assert_allclose(tiled, expected, rtol=0, atol=1e-12)
    small = predict_tiled(net, image, memory_budget=2**21)
    np.testing.assert_allclose(small, expected, rtol=0, atol=1e-12)


def test_tiles_with_statistics_of_their_own_would_show_seams():
    # What the shared ones are for: the same image, each tile normalised by itself.
    net, image = make_net(2, norm="instance"), random_image((96, 96)).cumsum(axis=1)
    shared = predict_tiled(net, image, tile=72)
    tiling = make_tiling(net.architecture, image.shape, tile=72)
    alone = np.empty_like(shared)
    half = net.architecture.margin // 2
    padded = np.pad(image, (half, half + 4), mode="reflect")
    for row, column in next(tiling.batches()):
        part = padded[row.start + half :, column.start + half :][:72, :72]
        own = softmax(net.forward(part[None, None]))[0][0]
        alone[:, row.place, column.place] = own[:, row.keep, column.keep]
    assert np.abs(alone - shared).max() > 0.01


@settings(max_examples=200)
@given(
    depth=DEPTHS,
    padding=st.sampled_from([0, 1]),
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)
def test_windows_are_valid_and_reach_from_border_to_border(depth, padding, size):
    table = Architecture(depth=depth, padding=padding, norm="instance")
    window, corners = reference_windows(table, size)
    whole = [table.input_size_for_output(side) for side in size]
    assert all(table.is_valid_input(side) for side in window)
    for axis in (0, 1):
        starts = sorted({corner[axis] for corner in corners})
        assert starts[0] == -(table.margin // 2)
        assert starts[-1] + window[axis] == whole[axis] - table.margin // 2
    if whole[0] * whole[1] <= tile_statistics.REFERENCE_PIXELS:
        assert len(corners) == 1
    elif table.min_input_size <= 341:
        used = len(corners) * window[0] * window[1]
        assert used <= tile_statistics.REFERENCE_PIXELS


def test_a_budget_too_small_for_the_statistics_is_one_line():
    net, image = make_net(2, norm="instance"), random_image((300, 310))
    message = (
        r"memory_budget: got 2000000 bytes, expected at least \d+, which the statistics of an "
        r"image of 300 x 310 pixels take with instance normalisation$"
    )
    with pytest.raises(InputError, match=message):
        predict_tiled(net, image, memory_budget=2_000_000)
    assert predict_tiled(make_net(2), image, memory_budget=2_000_000).shape == (2, 300, 310)


# The plan


@settings(deadline=None, max_examples=200)
@given(depth=DEPTHS, padding=st.sampled_from([0, 1]), size=st.integers(1, 2000), draw=st.data())
def test_spans_cover_the_axis_once_on_the_grid(depth, padding, size, draw):
    architecture = Architecture(depth=depth, padding=padding)
    tile, count = draw.draw(st.sampled_from(list(tile_sizes(architecture, size))))
    spans = plan_axis(architecture, size, tile)
    assert len(spans) == count == tile_count(architecture, size, tile)
    covered = [i for span in spans for i in range(span.place.start, span.place.stop)]
    assert covered == list(range(size))
    half = architecture.margin // 2
    for span in spans:
        assert (span.start + half) % architecture.size_step == 0
        assert 0 <= span.keep.start < span.keep.stop <= tile - architecture.margin
        assert span.keep.start + span.start + half == span.place.start


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_kept_pixels_see_no_padding_inside_the_image(depth):
    architecture = Architecture(depth=depth, padding=1)
    tile = sum(overlap(architecture)) + 2 * architecture.size_step
    spans = plan_axis(architecture, 1000, tile)
    for number, span in enumerate(spans):
        kept = range(span.keep.start, span.keep.stop)
        if number > 0:
            assert min(architecture.receptive_field(pixel)[0] for pixel in kept) >= 0
        if number < len(spans) - 1:
            assert max(architecture.receptive_field(pixel)[1] for pixel in kept) < tile


@given(size=st.integers(1, 12), reach=st.integers(0, 50))
def test_mirrored_is_numpy_pad(size, reach):
    expected = np.pad(np.arange(size), reach, mode="reflect")
    places = np.arange(-reach, size + reach)
    assert np.array_equal(mirrored(places, size), expected)
    assert np.array_equal(mirrored(places, size, reach + size), expected)
    assert np.array_equal(mirrored(places.astype(float), size), expected)


def test_stride_of_the_paper():
    assert stride(Architecture(), 572) == 384
    assert [tile for tile, _ in tile_sizes(Architecture(), 388)][-1] == 572


# Options


def test_borders_are_those_of_numpy_pad():
    net, image = make_net(1), random_image((9, 9))
    half = net.architecture.margin // 2
    full = net.architecture.input_size_for_output(9)
    for border in ("reflect", "symmetric", "edge"):
        padded = np.pad(image, (half, full - half - 9), mode=border)[None, None]
        expected = softmax(net.forward(padded))[0][0, :, :9, :9]
        np.testing.assert_allclose(predict_tiled(net, image, border=border), expected, atol=1e-13)


@pytest.mark.parametrize("norm", ["none", "instance"])
@pytest.mark.parametrize("averaging", [7, 8])
def test_averaging_maps_every_version_back(averaging, norm):
    net, image = make_net(2, norm=norm), random_image((45, 62))
    expected = np.zeros((2, 45, 62))
    for flipped, quarters in SYMMETRIES[:averaging]:
        version = np.rot90(np.fliplr(image) if flipped else image, quarters)
        back = np.rot90(whole_pass(net, version), -quarters, axes=(1, 2))
        expected += (back[:, :, ::-1] if flipped else back) / averaging
    result = predict_tiled(net, image, averaging=averaging, tile=56)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_the_mean_of_all_8_does_not_depend_on_the_orientation(norm):
    # A size on the pooling grid: else the turned image stands differently on it.
    net, image = make_net(2, norm=norm), random_image((48, 48))
    first = predict_tiled(net, image, averaging=8)
    for symmetry in SYMMETRIES:
        turned = predict_tiled(net, turn(image, symmetry), averaging=8)
        np.testing.assert_allclose(turned, turn(first, symmetry), rtol=0, atol=1e-12)


def test_symmetries_are_the_8_of_the_square():
    square = np.arange(9).reshape(3, 3)
    assert len({turn(square, symmetry).tobytes() for symmetry in SYMMETRIES}) == 8
    assert np.array_equal(turn(square, SYMMETRIES[0]), square)


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_image_and_network_may_be_on_two_devices(xp, norm):
    image = random_image((60, 50)).astype(np.float32)
    expected = predict_tiled(make_net(2, dtype="float32", norm=norm), image, tile=52, averaging=7)
    net = UNet(base_channels=4, depth=2, seed=2, backend=xp.__name__, norm=norm)
    for source in (image, xp.asarray(image)):
        result = predict_tiled(net, source, tile=52, averaging=7)
        assert type(result) is type(source)
        np.testing.assert_allclose(backend.to_numpy(result), expected, atol=1e-4)


def test_channels_and_integer_images():
    net = make_net(1, channels=3)
    image = np.random.default_rng(0).integers(0, 9, (3, 30, 25), dtype=np.uint8)
    np.testing.assert_allclose(predict_tiled(net, image), whole_pass(net, image.astype(float)))


def test_result_straight_into_a_memmap(tmp_path):
    net, image = make_net(1, dtype="float32"), random_image((40, 30)).astype(np.float32)
    out = np.memmap(tmp_path / "p.dat", np.float32, "w+", shape=(2, 40, 30))
    returned = predict_tiled(net, image, out=out, averaging=7, tile=28)
    assert returned is out
    out.flush()
    stored = np.fromfile(tmp_path / "p.dat", np.float32).reshape(2, 40, 30)
    np.testing.assert_allclose(stored, predict_tiled(net, image, averaging=7), atol=1e-6)


def test_image_from_a_memmap_is_left_alone(tmp_path):
    net = make_net(1)
    path = tmp_path / "image.npy"
    np.save(path, random_image((40, 30)))
    image = np.load(path, mmap_mode="r")
    before = image.copy()
    result = predict_tiled(net, image)
    assert np.array_equal(image, before)
    np.testing.assert_allclose(result, whole_pass(net, before), atol=1e-12)


def test_progress_counts_tiles_of_all_versions():
    net, calls = make_net(1), []
    tiling = make_tiling(net.architecture, (40, 40), tile=28, batch=2)
    predict_tiled(
        net,
        random_image((40, 40)),
        tile=28,
        batch=2,
        averaging=7,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls[0] == (0, 7 * len(tiling))
    assert calls[-1] == (7 * len(tiling), 7 * len(tiling))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


# Memory


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    megabytes=st.integers(40, 3000),
    padding=st.sampled_from([0, 1]),
)
def test_chosen_tiles_fit_the_budget(height, width, megabytes, padding):
    architecture = Architecture(base_channels=16, padding=padding)
    budget = megabytes * 2**20
    tile = choose_tile(architecture, (height, width), budget)
    assert forward_bytes(architecture, tile) <= budget
    tiling = make_tiling(architecture, (height, width), memory_budget=budget)
    assert forward_bytes(architecture, tiling.tile, batch=tiling.batch) <= budget


def test_more_memory_is_never_more_work():
    architecture = Architecture(base_channels=16)
    work = []
    for megabytes in (30, 60, 120, 250, 500, 1000, 4000):
        tiling = make_tiling(architecture, (1500, 900), memory_budget=megabytes * 2**20)
        work.append(len(tiling) * tiling.tile[0] * tiling.tile[1])
    assert work == sorted(work, reverse=True)
    assert len(tiling) == 1


def test_forward_bytes_is_the_sum_by_hand():
    small = Architecture(base_channels=4, depth=1)
    # 22 -> 20 -> 18: the second convolution has the most, 4 channels before and after.
    assert forward_bytes(small, (22, 22), 4) == 4 * (4 * 20**2 + 4 * 18**2)
    # 102 -> 100 -> 98 -> 49 -> 47 -> 45 -> 90: there expand1.crop_concat has more, the up-conv's
    # 4 channels, both together in 8, and the skip.
    joined = 4 * 90**2 + 8 * 90**2 + 4 * 98**2
    assert forward_bytes(small, (102, 102), 8, batch=3) == 3 * 8 * joined


@pytest.fixture
def traced(monkeypatch):
    """One thread, with one scratch memory, and all arrays of NumPy's own: tracemalloc sees them."""
    monkeypatch.setattr(host, "POOLED_BYTES", 2**60)
    backend.set_thread_count(1)
    yield
    backend.set_thread_count(None)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.usefixtures("traced")
def test_forward_bytes_is_what_is_allocated(padding):
    net = UNet(base_channels=8, depth=2, padding=padding, backend="numpy")
    size = net.architecture.nearest_input_sizes(600)[0]
    x = np.zeros((1, 1, size, size), np.float32)
    net.forward(x)  # once before, for what stays: the thread's scratch memory
    tracemalloc.start()
    try:
        net.forward(x)
        allocated = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.95 < allocated / forward_bytes(net.architecture, (size, size)) < 1.1


@pytest.mark.parametrize("norm", ["none", "instance"])
@pytest.mark.usefixtures("traced")
def test_prediction_stays_within_the_budget(norm, monkeypatch):
    monkeypatch.setattr(tile_statistics, "REFERENCE_PIXELS", 80000)
    net = UNet(base_channels=8, depth=2, norm=norm, backend="numpy")
    image = np.zeros((700, 650), np.float32)
    budget = 6 * 2**20
    predict_tiled(net, image, memory_budget=budget)  # for the scratch memory, as above
    tracemalloc.start()
    try:
        result = predict_tiled(net, image, memory_budget=budget)
        allocated = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(make_tiling(net.architecture, image.shape, memory_budget=budget)) > 4
    assert allocated - result.nbytes < 1.15 * budget


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 50}, r"tile: got 50, .*nearest valid: 48 and 52"),
        ({"tile": 10}, r"tile: got 10, .*nearest valid: 44"),
        ({"averaging": 4}, r"averaging: got 4, expected 1, 7 or 8"),
        ({"border": "wrap"}, r"border: got 'wrap', expected one of reflect, symmetric, edge"),
        ({"batch": 0}, r"batch: got 0, expected an integer >= 1"),
        ({"batch": 1.5}, r"batch: got 1.5, expected an integer >= 1"),
        ({"tile": 60.0}, r"tile: got 60.0, expected an integer >= 1"),
        ({"tile": "60"}, r"tile: got '60', expected an integer >= 1"),
        ({"tile": (60,)}, r"tile: got \(60,\), expected one number, or height and width"),
        ({"memory_budget": 2e9}, r"memory_budget: got 2000000000.0, expected an integer >= 1"),
        ({"memory_budget": "1G"}, r"memory_budget: got '1G', expected an integer >= 1"),
        ({"memory_budget": 1000}, r"memory_budget: got 1000 bytes, expected at least \d+"),
        ({"out": np.zeros((2, 5, 5))}, r"out: got float64 \(2, 5, 5\), expected .*\(2, 60, 70\)"),
        ({"out": np.zeros((2, 60, 70), int)}, r"out: got int64 .*, expected a floating"),
    ],
)
def test_bad_options_are_one_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        predict_tiled(make_net(2), random_image((60, 70)), **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(5), r"image: got shape \(5,\), expected \(H, W\) or \(1, H, W\)"),
        (np.zeros((2, 5, 5)), r"image: got shape \(2, 5, 5\)"),
        (np.zeros((0, 5)), r"image: got shape"),
        (np.zeros((5, 5), complex), r"image: got dtype complex128, expected real numbers"),
        (np.full((5, 5), np.nan), r"image: got NaN or infinity, expected finite numbers"),
        (np.full((5, 5), np.inf), r"image: got NaN or infinity"),
    ],
)
def test_bad_images_are_one_line(image, message):
    with pytest.raises(InputError, match=message):
        predict_tiled(make_net(2), image)


def test_a_classifier_has_no_map_to_be_tiled():
    net = UNet(base_channels=2, depth=1, output="vector", backend="numpy")
    with pytest.raises(InputError, match=r"^output: got vector, expected a network whose output"):
        predict_tiled(net, np.zeros((30, 30)))
    with pytest.raises(InputError, match=r"^output: got vector, expected a network whose output"):
        make_tiling(net.architecture, (30, 30))


def test_tiles_too_small_to_join_name_the_smallest():
    with pytest.raises(InputError, match=r"tile: got 188, too small .*expected at least 204"):
        make_tiling(Architecture(), (512, 512), tile=188)
    assert len(make_tiling(Architecture(), (4, 4), tile=188)) == 1
