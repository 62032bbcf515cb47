"""The Gaussian of section 3, layer by layer and through all 23 layers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_np import UNet, backend, ops
from unet_np.network.architecture import Architecture
from unet_np.network.init import gaussian_init, initial_buffers, store_weight


def test_every_weight_has_its_standard_deviation_and_every_bias_is_zero(xp):
    architecture = Architecture(base_channels=16)
    params = gaussian_init(architecture, 3, xp, "float64")
    for layer in architecture.layers:
        if layer.weight_shape is None:
            continue
        weight = backend.to_numpy(params.pop(f"{layer.name}.weight"))
        assert weight.shape == layer.weight_shape
        # A standard deviation from n numbers is off by 1 / sqrt(2 n) of itself, times 5.
        tolerance = 5 / np.sqrt(2 * weight.size)
        assert weight.std() == pytest.approx(np.sqrt(2 / layer.fan_in), rel=tolerance)
        assert abs(weight.mean()) < 5 * np.sqrt(2 / layer.fan_in / weight.size)
        bias = params.pop(f"{layer.name}.bias")
        assert bias.shape == (layer.out_channels,)
        assert not backend.to_numpy(bias).any()
    assert not params


def test_the_papers_example():
    layer = next(layer for layer in Architecture().layers if layer.name == "contract1.conv2")
    assert layer.fan_in == 9 * 64
    upconv = next(layer for layer in Architecture().layers if layer.name == "expand4.upconv")
    assert upconv.fan_in == 1024


@pytest.mark.parametrize(
    "options", [{"norm": "batch"}, {"norm": "instance"}, {"output": "vector"}, {"up": "nearest"}]
)
def test_options_have_their_arrays(options, xp):
    architecture = Architecture(base_channels=8, depth=2, **options)
    params = gaussian_init(architecture, 3, xp, "float64")
    buffers = initial_buffers(architecture, xp, "float64")
    for layer in architecture.layers:
        for name, shape in layer.parameter_shapes.items():
            array = backend.to_numpy(params.pop(f"{layer.name}.{name}"))
            assert array.shape == shape
            if layer.kind in ("batch_norm", "instance_norm"):
                assert (array == (name == "weight")).all()
        for name, shape in layer.buffer_shapes.items():
            array = backend.to_numpy(buffers.pop(f"{layer.name}.{name}"))
            assert array.shape == shape
            assert (array == (name == "var")).all()
    assert not params
    assert not buffers


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_normalisation_changes_no_drawn_weight(norm):
    plain = gaussian_init(Architecture(base_channels=2, depth=1), 1)
    other = gaussian_init(Architecture(base_channels=2, depth=1, norm=norm), 1)
    for name, array in plain.items():
        if name.endswith("weight"):
            np.testing.assert_array_equal(other[name], array)


def test_linear_weights_lie_with_their_outputs_side_by_side():
    weight = np.random.default_rng(0).normal(size=(3, 5))
    stored = store_weight("linear", weight, np, "float64")
    np.testing.assert_array_equal(stored, weight)
    assert stored.T.flags.c_contiguous


def test_seed_and_dtype():
    architecture = Architecture(base_channels=2, depth=1)
    single = gaussian_init(architecture, 1, np, "float32")
    double = gaussian_init(architecture, 1, np, "float64")
    other = gaussian_init(architecture, 2, np, "float64")
    for name in double:
        assert single[name].dtype == np.float32
        np.testing.assert_array_equal(single[name], double[name].astype("float32"))
        assert name.endswith("bias") or (other[name] != double[name]).all()


@given(st.sampled_from(["conv", "upconv"]), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_store_weight_changes_the_memory_order_alone(kind, first, second, kernel):
    weight = np.random.default_rng(0).normal(size=(first, second, kernel, kernel))
    stored = store_weight(kind, weight, np, "float64")
    np.testing.assert_array_equal(stored, weight)
    assert not np.shares_memory(stored, weight)
    outputs = 0 if kind == "conv" else 1
    innermost = stored.strides[outputs] == 8
    assert innermost or stored.shape[outputs] == 1


def _mean_squares(net, x):
    """Of each layer's input and output, for the layers with weights; skips are left out."""
    rows, run = {}, net.begin_pass()
    for layer in net.architecture.layers:
        before = float((x.astype("float64") ** 2).mean())
        x = run.forward(layer, x)
        if layer.weight_shape is not None:
            rows[layer.name] = (before, float((x.astype("float64") ** 2).mean()))
    return rows


def test_each_of_the_23_layers_passes_on_the_mean_square():
    """With unit mean square in, a layer's sums have variance 2, which its ReLU halves to 1.

    For one draw of the weights the gain is off, for the inputs of a layer are not of mean
    zero after a ReLU and its sums are few directions in K numbers: with 16 to 256 channels
    about sqrt(2 / K) of itself, 35 % at K = 16. The mean over three seeds has to lie within
    40 %, and that of all layers within 10 %; without the 2 in sqrt(2 / N) it would be 50 %.
    """
    gains = []
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(1, 1, 252, 252)).astype("float32")
        rows = _mean_squares(UNet(base_channels=16, seed=seed, backend="numpy"), x)
        assert len(rows) == 23
        gains.append([after / before / 2 for before, after in rows.values()])
    mean = np.mean(gains, axis=0)
    names = list(rows)
    # The first layer sees one channel and the last has two: few numbers, no average.
    wide = [i for i, name in enumerate(names) if name not in ("contract1.conv1", "output")]
    assert np.all(np.abs(mean[wide] - 1) < 0.4), dict(zip(names, mean, strict=True))
    assert np.mean(mean[wide]) == pytest.approx(1, abs=0.1)


def test_through_convolutions_and_relus_alone_the_variance_stays_one():
    """The paper's premise, "alternating convolution and ReLU layers", 23 of them in a row."""
    rng, results = np.random.default_rng(0), []
    for _ in range(3):
        x = rng.normal(size=(1, 64, 60, 60)).astype("float32")
        for _ in range(23):
            drawn = rng.normal(0, np.sqrt(2 / (9 * 64)), (64, 64, 3, 3))
            weight = store_weight("conv", drawn, np, "float32")
            y = ops.conv2d(x, weight, np.zeros(64, "float32"))[0]
            variance = float(y.var(axis=(0, 2, 3)).mean() + y.mean(axis=(0, 2, 3)).var())
            x = ops.relu(y)[0]
        results.append(variance / 2)
    # Each layer multiplies by 1 +- sqrt(2.5 / 64), roughly: 23 of them by up to 2.6 either way.
    assert 1 / 2.6 < np.exp(np.mean(np.log(results))) < 2.6


def test_the_whole_network_neither_vanishes_nor_explodes():
    """Pooling and up-convolution add some growth, where sqrt(1 / N) would take 2^-18."""
    x = np.random.default_rng(0).normal(size=(1, 1, 220, 220)).astype("float32")
    rows = _mean_squares(UNet(base_channels=16, backend="numpy"), x)
    assert all(0.5 < after < 1000 for _, after in rows.values())
