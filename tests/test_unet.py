"""The whole network against PyTorch, finite differences, files and bad input."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import sys
import threading
from pathlib import Path

import guard
import numpy as np
import pytest
import torch
from cuda_in_c import Module
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import directional_error, leaf, relative_error

from unet_np import SGD, Architecture, InputError, UNet, backend, ops
from unet_np.export import to_torch, torch_unet
from unet_np.export.torch_model import torch_name
from unet_np.network.architecture import OUTPUTS, UPS
from unet_np.ops import conv, fused_cuda
from unet_np.tasks import TASKS

PAPER_PARAMETERS = 31_030_658


def tile(net: UNet, batch: int = 1, extra: tuple[int, int] = (0, 0), seed: int = 0) -> np.ndarray:
    """Noise of the smallest valid size, some steps larger."""
    sides = [net.architecture.min_input_size + net.architecture.size_step * n for n in extra]
    shape = (batch, net.architecture.in_channels, *sides)
    return np.random.default_rng(seed).normal(size=shape).astype(net.dtype)


def check_against_torch(net: UNet, x: np.ndarray, train: bool = True) -> None:
    module, tensor = to_torch(net).train(train), leaf(x)
    device_x = backend.asarray(x, net.xp)
    logits = net.forward(device_x, train=train, keep=True)
    grad = np.random.default_rng(1).normal(size=logits.shape)
    grad_x = net.backward(backend.asarray(grad, net.xp))
    expected = module(tensor)
    expected.backward(torch.from_numpy(grad))
    assert relative_error(logits, expected) <= 1e-8
    assert relative_error(grad_x, tensor.grad) <= 1e-8
    parameters = dict(module.named_parameters())
    assert list(net.grads) == list(net.params)
    assert set(parameters) == set(net.params)
    largest = max(float(parameter.grad.abs().max()) for parameter in parameters.values())
    for name, parameter in parameters.items():
        # Before a batch normalisation some biases have a gradient of 0, up to rounding.
        if float(parameter.grad.abs().max()) < 1e-12 * largest:
            assert abs(backend.to_numpy(net.grads[name])).max() < 1e-12 * largest
        else:
            # What a normalisation all but takes away is a small difference of large numbers.
            share = min(1.0, float(parameter.grad.abs().max()) / (1e-6 * largest))
            assert share * relative_error(net.grads[name], parameter.grad) <= 1e-8, name
    buffers = dict(module.named_buffers())
    for name, buffer in net.buffers.items():
        assert relative_error(buffer, buffers[torch_name(name)]) <= 1e-8, name


@pytest.mark.parametrize("padding", [0, 1])
def test_forward_and_all_gradients_agree_with_torch(padding: int, xp: object) -> None:
    name = "numpy" if xp is np else "cupy"
    net = UNet(base_channels=4, dropout=0, padding=padding, dtype="float64", backend=name)
    check_against_torch(net, tile(net, 2, (0, 1)))


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize("up", UPS)
def test_all_options_agree_with_torch(up: str, norm: str, output: str, padding: int) -> None:
    options = {"up": up, "norm": norm, "output": output, "padding": padding}
    for train in (True, False):
        net = UNet(2, 3, 4, 2, dropout=0, dtype="float64", backend="numpy", **options)
        check_against_torch(net, tile(net, 2, (1, 2)), train)


@pytest.mark.parametrize(
    "options",
    [
        {"up": "bilinear", "norm": "batch"},
        {"up": "nearest", "padding": 1, "num_classes": 1, "task": "depth", "output": "map"},
        {"output": "vector", "norm": "batch"},
        {"norm": "instance"},
    ],
    ids=str,
)
def test_options_on_the_device(options: dict[str, object], xp: object) -> None:
    name = "numpy" if xp is np else "cupy"
    net = UNet(base_channels=4, depth=2, dropout=0, dtype="float64", backend=name, **options)
    check_against_torch(net, tile(net, 2, (1, 2)))


@settings(max_examples=15)
@given(
    in_channels=st.integers(1, 3),
    num_classes=st.integers(1, 4),
    base_channels=st.integers(1, 17),
    depth=st.integers(1, 3),
    padding=st.integers(0, 1),
    up=st.sampled_from(UPS),
    norm=st.sampled_from(["none", "instance"]),
    output=st.sampled_from(OUTPUTS),
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    batch=st.integers(1, 2),
)
def test_every_architecture_agrees_with_torch(
    in_channels: int,
    num_classes: int,
    base_channels: int,
    depth: int,
    padding: int,
    up: str,
    norm: str,
    output: str,
    extra: tuple[int, int],
    batch: int,
) -> None:
    net = UNet(
        in_channels,
        num_classes,
        base_channels,
        depth,
        padding,
        dropout=0,
        dtype="float64",
        backend="numpy",
        up=up,
        norm=norm,
        task="regression",
        output=output,
    )
    off_the_kink(net)
    check_against_torch(net, tile(net, batch, extra))


def off_the_kink(net: UNet) -> None:
    """Draw the biases: where they and all inputs of a pixel are 0, ReLU has no one derivative.

    Winograd's sums leave a rounding there, which counts as positive or not.
    """
    rng = np.random.default_rng(2)
    params = net.params.items()
    drawn = {n: rng.normal(0, 0.1, a.shape) if n.endswith(".bias") else a for n, a in params}
    net.set_params(drawn)


@pytest.mark.slow
def test_the_paper_s_own_network_agrees_with_torch() -> None:
    """Base 64, depth 4, in float32, on one tile that gives 36 x 20 pixels."""
    net = UNet(dropout=0, backend="numpy")
    x = tile(net, 1, (2, 1))
    logits = net.forward(x)
    with torch.no_grad():
        expected = to_torch(net)(torch.from_numpy(x))
    assert relative_error(logits, expected) <= 1e-4


@pytest.mark.parametrize(
    "options",
    [{}, {"up": "nearest", "norm": "batch"}, {"up": "bilinear"}, {"norm": "instance"}],
    ids=str,
)
def test_finite_differences(options: dict[str, object]) -> None:
    net = UNet(base_channels=2, depth=2, dropout=0, dtype="float64", backend="numpy", **options)
    x = tile(net, 2)
    rng = np.random.default_rng(2)
    # Biases away from 0 and a tiny step keep nearly all units away from the kinks of ReLU and
    # max pool, where there is no derivative.
    net.set_params({name: p + 0.1 * rng.normal(size=p.shape) for name, p in net.params.items()})
    shape = (2, net.architecture.output_size(x.shape[2]), net.architecture.output_size(x.shape[3]))
    labels, weights = rng.integers(0, 2, shape), rng.uniform(1, 3, shape)
    _, grad_logits = ops.weighted_cross_entropy(net.forward(x, train=True), labels, weights)
    grad_x = net.backward(grad_logits)
    names, arrays = list(net.params), [np.array(p) for p in net.params.values()]
    grads = [grad_x, *net.grads.values()]

    def energy(x: np.ndarray, *params: np.ndarray) -> float:
        net.set_params(dict(zip(names, params, strict=True)))
        return float(ops.weighted_cross_entropy(net.forward(x, True), labels, weights)[0])

    for seed in range(3):
        assert directional_error(energy, [x, *arrays], grads, seed, step=1e-8) <= 1e-5


def test_finite_differences_of_a_classifier() -> None:
    options = {"output": "vector", "norm": "batch", "padding": 1, "dropout": 0}
    net = UNet(2, 3, 2, 2, dtype="float64", backend="numpy", **options)
    x = np.random.default_rng(0).normal(size=(3, 2, 11, 14))
    grad = np.random.default_rng(1).normal(size=(3, 3))
    net.forward(x, train=True)
    grad_x = net.backward(grad)
    names, arrays = list(net.params), [np.array(p) for p in net.params.values()]
    grads = [grad_x, *net.grads.values()]

    def energy(x: np.ndarray, *params: np.ndarray) -> float:
        net.set_params(dict(zip(names, params, strict=True)))
        return float((net.forward(x, train=True) * grad).sum())

    for seed in range(3):
        assert directional_error(energy, [x, *arrays], grads, seed, step=1e-7) <= 1e-5


@pytest.mark.parametrize("options", [{}, {"up": "nearest", "norm": "instance"}], ids=str)
def test_a_step_on_the_device_copies_nothing_and_reads_in_order(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By CuPy's rules, as the stand-in counts; all maps are read some ten times in a step."""
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    xp = backend.get("cupy")
    net = UNet(base_channels=16, depth=2, backend="cupy", **options)
    x = backend.asarray(tile(net), xp)
    maps = sum(math.prod(shape) for _, shape in net.architecture.shapes(x.shape))
    size = net.architecture.output_size(x.shape[2])
    guard.costs.clear()
    logits = net.forward(x, train=True)
    _, grad = ops.weighted_cross_entropy(logits, xp.zeros((1, size, size), int), check=False)
    net.backward(grad, need_grad_x=False)
    assert guard.costs["copied"] == 0
    assert guard.costs["scattered"] < maps


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_on_the_device_no_map_is_joined_or_split(
    norm: str, xp: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The convolution reads both maps; layer by layer, for whoever looks at them, they are one."""
    if xp is np:
        return
    net = UNet(base_channels=4, depth=2, dropout=0, norm=norm, backend="cupy")
    x = backend.asarray(tile(net), xp)
    run, y = net.begin_pass(keep=True), x
    for layer in net.architecture.layers:
        y = run.forward(layer, y)
    grad = 2 * y
    for layer in reversed(net.architecture.layers):
        grad = run.backward(layer, grad)
    for name in ("crop_concat", "crop_concat_backward"):
        monkeypatch.setattr(fused_cuda, name, None)
    logits = net.forward(x, train=True)
    grad_x = net.backward(2 * logits)
    pairs = [
        (logits, y),
        (grad_x, grad),
        *((net.grads[name], run.grads[name]) for name in run.grads),
    ]
    for got, expected in pairs:
        expected = backend.to_numpy(expected)
        np.testing.assert_allclose(
            backend.to_numpy(got), expected, rtol=0, atol=1e-5 * abs(expected).max()
        )


def test_on_the_device_any_convolution_may_be_behind_the_joining(
    xp: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    if xp is np:
        return
    net = UNet(base_channels=4, depth=2, dropout=0, dtype="float64", backend="cupy")
    x, found = backend.asarray(tile(net), xp), []
    for algorithm in ("winograd_cuda", "im2col"):
        monkeypatch.setattr(conv, "ON_GPU", algorithm)
        logits = net.forward(x, train=True)
        grad_x = net.backward(2 * logits)
        found.append([backend.to_numpy(one) for one in (logits, grad_x, *net.grads.values())])
    for got, expected in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 * abs(expected).max())


@pytest.mark.parametrize("options", [{}, {"up": "bilinear", "norm": "batch"}], ids=str)
def test_a_step_on_the_device_asks_nothing_of_the_host(
    xp: object, options: dict[str, object]
) -> None:
    """Forward, energy, backward, update: no number crosses over."""
    if xp is np:
        return
    net = UNet(base_channels=4, depth=2, backend="cupy", **options)
    x = backend.asarray(tile(net), xp)
    size = net.architecture.output_size(x.shape[2])
    labels = xp.zeros((1, size, size), int)
    optimiser = SGD(net.params, 1e-3)

    def step() -> None:
        logits = net.forward(x, train=True)
        _, grad = ops.weighted_cross_entropy(logits, labels, reduction="mean", check=False)
        net.backward(grad, need_grad_x=False)
        optimiser.step(net.grads)

    step()  # the constant matrices of the convolution are copied once
    before = backend.to_numpy(net.params["contract1.conv1.weight"]).copy()
    guard.round_trips.clear()
    step()
    assert not guard.round_trips
    after = backend.to_numpy(net.params["contract1.conv1.weight"])
    assert not np.array_equal(before, after)


def test_the_paper_s_numbers() -> None:
    net = UNet(backend="numpy")
    assert sum(p.size for p in net.params.values()) == PAPER_PARAMETERS
    assert sum(name.endswith("weight") for name in net.params) == 23
    assert net.architecture.shapes((1, 1, 572, 572))[-1][1] == (1, 2, 388, 388)
    assert net.summary().splitlines()[-1] == "23 convolutional layers, 31,030,658 parameters"
    assert re.search(r"contract5.conv2 +conv 3x3 +1 x 1024 x 28 x 28 +9,438,208", net.summary())


def test_params_are_in_the_order_in_which_data_meets_them() -> None:
    names = [name.split(".weight")[0] for name in UNet(base_channels=1, depth=1).params]
    assert [name for name in names if not name.endswith("bias")] == [
        "contract1.conv1",
        "contract1.conv2",
        "contract2.conv1",
        "contract2.conv2",
        "expand1.upconv",
        "expand1.conv1",
        "expand1.conv2",
        "output",
    ]


def test_dropout_only_while_training_and_from_the_seed() -> None:
    make = lambda seed: UNet(base_channels=2, depth=2, seed=seed, backend="numpy")  # noqa: E731
    net, same = make(1), make(1)
    x = tile(net)
    assert np.array_equal(net.forward(x), net.forward(x))
    first, second = net.forward(x, train=True), net.forward(x, train=True)
    assert not np.array_equal(first, second)
    assert np.array_equal(same.forward(x, train=True), first)
    assert np.array_equal(same.forward(x, train=True), second)
    rng = lambda: backend.default_rng(np, (7,))  # noqa: E731
    assert np.array_equal(net.forward(x, True, rng()), net.forward(x, True, rng()))


def test_prediction_keeps_nothing_unless_asked() -> None:
    net = UNet(base_channels=1, depth=1, backend="numpy")
    x = tile(net)
    logits = net.forward(x)
    with pytest.raises(InputError, match=r"^backward: got no feature maps, expected forward"):
        net.backward(logits)
    net.forward(x, keep=True)
    assert net.backward(logits).shape == x.shape
    assert net.forward(x, train=True) is not None
    assert not net.grads  # those of the step before
    assert net.backward(logits, need_grad_x=False) is None
    assert net.grads


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (2, 12, 12), (1, 1, 12, 12), (12,), ()])
def test_backward_refuses_another_shape_and_then_takes_the_right_one(shape: tuple) -> None:
    net = UNet(base_channels=1, depth=1, dropout=0, backend="numpy")
    logits = net.forward(tile(net, extra=(4, 4)), train=True)
    expected = f"grad_logits: got shape {shape}, expected {logits.shape} as the logits"
    with pytest.raises(InputError, match=f"^{re.escape(expected)}$"):
        net.backward(np.ones(shape, "float32"))
    with pytest.raises(InputError, match=r"^grad_logits: got dtype complex128, expected real"):
        net.backward(logits.astype(complex))
    assert net.backward(logits).shape == (1, 1, *tile(net, extra=(4, 4)).shape[2:])


def test_an_interrupted_backward_leaves_nothing_to_go_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    net = UNet(base_channels=1, depth=1, backend="numpy")
    x = tile(net)
    logits = net.forward(x, train=True)
    with monkeypatch.context() as patch:
        patch.setattr(ops, "max_pool2d_backward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            net.backward(logits)
    with pytest.raises(InputError, match=r"^backward: got no feature maps"):
        net.backward(logits)
    net.forward(x, train=True)
    assert net.backward(logits).shape == x.shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_gradient_is_that_of_the_image_as_it_was(dtype: str, output: str) -> None:
    net = UNet(base_channels=2, depth=1, dropout=0, dtype=dtype, backend="numpy", output=output)
    x = tile(net, extra=(1, 1))
    logits = net.forward(x, train=True)
    net.backward(np.ones_like(logits))
    expected = {name: grad.copy() for name, grad in net.grads.items()}
    net.forward(x, train=True)
    x *= 3  # as a loop does that fills the same array with the next tile
    net.backward(np.ones_like(logits))
    assert all(np.array_equal(net.grads[name], grad) for name, grad in expected.items())


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
def test_another_thread_may_predict_between_forward_and_backward(norm: str) -> None:
    net = UNet(base_channels=2, depth=1, dropout=0, backend="numpy", norm=norm)
    x, other = tile(net, extra=(1, 1)), tile(net, extra=(3, 2), seed=4)
    logits = net.forward(x, train=True)
    net.backward(logits)
    expected = {name: grad.copy() for name, grad in net.grads.items()}
    assert np.array_equal(net.forward(x, train=True), logits)
    thread = threading.Thread(target=net.forward, args=(other,))
    thread.start()
    thread.join()
    net.backward(logits)
    assert all(np.array_equal(net.grads[name], grad) for name, grad in expected.items())


@pytest.mark.parametrize("way", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("up", UPS)
def test_copies_and_pickles_go_on_as_the_network(way: object, up: str) -> None:
    net = UNet(base_channels=3, depth=2, up=up, backend="numpy", norm="batch")
    x = tile(net)
    net.forward(x, train=True)
    other = way(net)
    with pytest.raises(InputError, match=r"^backward: got no feature maps"):
        other.backward(np.zeros((1, 2, 4, 4)))
    assert {n: (a.tobytes(), a.strides) for n, a in other.params.items()} == {
        n: (a.tobytes(), a.strides) for n, a in net.params.items()
    }
    assert other.xp is np
    assert np.array_equal(other.forward(x), net.forward(x))
    assert np.array_equal(other.forward(x, train=True), net.forward(x, train=True))
    other.params["output.bias"] += 1
    assert not np.array_equal(other.forward(x), net.forward(x))


def test_integers_and_other_floats_are_cast() -> None:
    net = UNet(base_channels=1, depth=1, backend="numpy")
    x = np.random.default_rng(0).integers(0, 255, tile(net).shape)
    assert net.forward(x.astype(np.uint8)).dtype == np.float32
    assert np.array_equal(net.forward(x), net.forward(x.astype(float)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (1, 1, 512, 512),
            "input height: got 512, which is odd (121) at contract4.pool; "
            "nearest valid sizes are 508 and 524",
        ),
        (
            (1, 1, 572, 573),
            "input width: got 573, which is odd (569) at contract2.pool; "
            "nearest valid sizes are 572 and 588",
        ),
        (
            (1, 1, 172, 188),
            "input height: got 172, which leaves no pixel at expand3.conv2; "
            "nearest valid size is 188",
        ),
        ((1, 3, 188, 188), "x: got 3 channels, expected 1"),
        ((188, 188), "x: got shape (188, 188), expected (B, 1, H, W)"),
        ((0, 1, 188, 188), "x: got a batch of 0, expected at least 1 image"),
    ],
)
def test_sizes_are_refused_before_any_arithmetic(shape: tuple[int, ...], message: str) -> None:
    net = UNet(base_channels=1, backend="numpy")
    net.params.pop("contract1.conv1.weight")  # arithmetic would fail differently
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        net.forward(np.zeros(shape))


def test_complex_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"^x: got dtype complex128, expected real numbers$"):
        UNet(base_channels=1, backend="numpy").forward(np.zeros((1, 1, 188, 188), complex))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dropout": 1.0}, "dropout: got 1.0, expected 0 <= dropout < 1"),
        ({"dropout": "0.5"}, "dropout: got '0.5', expected 0 <= dropout < 1"),
        ({"dropout": None}, "dropout: got None, expected 0 <= dropout < 1"),
        ({"dtype": "float16"}, "dtype: got float16, expected float32 or float64"),
        ({"seed": -1}, "seed: got -1, expected an integer >= 0"),
        ({"seed": 1.0}, "seed: got 1.0, expected an integer >= 0"),
        ({"seed": True}, "seed: got True, expected an integer >= 0"),
        ({"depth": 0}, "depth: got 0, expected an integer >= 1"),
        ({"num_classes": 1}, "num_classes: got 1, expected an integer >= 2"),
        ({"depth": np.array([2])}, "depth: got array([2]), expected an integer >= 1"),
        ({"padding": 2}, "padding: got 2, expected 0 (the paper) or 1"),
        ({"padding": 1.0}, "padding: got 1.0, expected 0 (the paper) or 1"),
        ({"padding": True}, "padding: got True, expected 0 (the paper) or 1"),
        ({"padding": "1"}, "padding: got '1', expected 0 (the paper) or 1"),
        (
            {"up": "deconv"},
            "up: got 'deconv', expected one of upconv, nearest, bilinear; nearest valid is "
            "'upconv'",
        ),
        (
            {"activation": "leaky"},
            "activation: got 'leaky', expected one of relu; nearest valid is 'relu'",
        ),
        (
            {"norm": True},
            "norm: got True, expected one of none, batch, instance; nearest valid is 'none'",
        ),
        (
            {"task": "count"},
            "output: got '', expected map or vector; for task count as in "
            "unet_np.tasks.TASKS['count'].options",
        ),
        (
            {"output": "maps"},
            "output: got 'maps', expected map or vector; for task segment as in "
            "unet_np.tasks.TASKS['segment'].options",
        ),
        (
            {"task": "count", "output": "vector", "num_classes": 0},
            "num_classes: got 0, expected an integer >= 1",
        ),
        (
            {"backend": "jax"},
            "backend: got 'jax', expected one of numpy, cupy, auto; nearest valid is 'auto'",
        ),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        UNet(**arguments)


def test_integers_of_numpy_are_integers(tmp_path: Path) -> None:
    numbers = {"in_channels": 2, "num_classes": 3, "base_channels": 2, "depth": 1, "padding": 1}
    plain = UNet(**numbers, seed=4, backend="numpy")
    net = UNet(**{k: np.int16(v) for k, v in numbers.items()}, seed=np.uint8(4), backend="numpy")
    assert net.architecture == plain.architecture
    net.save(tmp_path / "weights.safetensors")  # JSON holds no integers of NumPy
    x = np.random.default_rng(0).normal(size=(1, 2, 8, 8))
    assert np.array_equal(net.forward(x), plain.forward(x))
    assert np.array_equal(net.forward(x, train=True), plain.forward(x, train=True))


def test_dtype_may_be_a_type() -> None:
    assert UNet(base_channels=1, dtype=np.float64, backend="numpy").dtype == np.float64


def test_save_and_load(tmp_path: Path) -> None:
    net = UNet(2, 3, 4, 2, padding=1, dropout=0.25, dtype="float64", seed=5, backend="numpy")
    net.save(tmp_path / "new" / "net.safetensors")
    again = UNet.load(tmp_path / "new" / "net.safetensors", backend="numpy", dtype="float64")
    assert again.architecture == net.architecture == Architecture(2, 3, 4, 2, 1)
    assert again.dropout == 0.25
    assert list(again.params) == list(net.params)
    for name, array in net.params.items():
        assert np.array_equal(again.params[name], array)
        assert again.params[name].strides == array.strides
    net.save(tmp_path / "half.safetensors", dtype="float16")
    half = UNet.load(tmp_path / "half.safetensors", backend="numpy")
    assert half.dtype == np.float32
    assert relative_error(half.params["output.weight"], net.params["output.weight"]) <= 1e-3


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("up", UPS)
def test_save_and_load_keep_all_options(tmp_path: Path, up: str, output: str, norm: str) -> None:
    options = {"up": up, "norm": norm, "task": "mine", "output": output}
    net = UNet(1, 3, 2, 1, backend="numpy", **options)
    x = tile(net, 2, (1, 1))
    net.forward(x, train=True)  # moves the running statistics
    net.save(tmp_path / "net.safetensors")
    again = UNet.load(tmp_path / "net.safetensors", backend="numpy")
    assert again.architecture == net.architecture
    assert list(again.state) == list(net.state)
    assert list(again.buffers) == list(net.buffers)
    assert np.array_equal(again.forward(x), net.forward(x))


@pytest.mark.parametrize("task", TASKS)
def test_files_from_before_the_output_had_a_name(tmp_path: Path, task: str) -> None:
    from safetensors.numpy import save_file

    net = UNet(base_channels=2, depth=1, backend="numpy", **TASKS[task].options)
    described = net.architecture.to_dict()
    del described["output"]
    text = json.dumps({"architecture": described, "dropout": 0.5})
    arrays = {name: np.ascontiguousarray(array) for name, array in net.params.items()}
    save_file(arrays, tmp_path / "old.safetensors", {"unet_np": text})
    again = UNet.load(tmp_path / "old.safetensors", backend="numpy")
    assert again.architecture == net.architecture
    assert np.array_equal(again.forward(tile(net)), net.forward(tile(net)))


def test_files_from_before_the_options_are_the_paper_s_network(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    net = UNet(base_channels=2, depth=1, backend="numpy")
    sizes = {"in_channels": 1, "num_classes": 2, "base_channels": 2, "depth": 1, "padding": 0}
    text = json.dumps({"architecture": sizes, "dropout": 0.5})
    arrays = {name: np.ascontiguousarray(array) for name, array in net.params.items()}
    save_file(arrays, tmp_path / "old.safetensors", {"unet_np": text})
    again = UNet.load(tmp_path / "old.safetensors", backend="numpy")
    assert again.architecture == net.architecture
    assert np.array_equal(again.forward(tile(net)), net.forward(tile(net)))


@pytest.mark.parametrize("flag", [False, True])
def test_files_with_a_flag_for_batch_norm_still_load(tmp_path: Path, flag: bool) -> None:
    from safetensors.numpy import save_file

    net = UNet(base_channels=2, depth=1, norm="batch" if flag else "none", backend="numpy")
    net.forward(tile(net), train=True)
    about = {"architecture": net.architecture.to_dict(), "dropout": 0.5}
    del about["architecture"]["norm"]
    about["architecture"]["batch_norm"] = flag
    arrays = {name: np.ascontiguousarray(array) for name, array in net.state.items()}
    save_file(arrays, tmp_path / "old.safetensors", {"unet_np": json.dumps(about)})
    again = UNet.load(tmp_path / "old.safetensors", backend="numpy")
    assert again.architecture == net.architecture
    assert np.array_equal(again.forward(tile(net)), net.forward(tile(net)))


def test_running_statistics_are_checked() -> None:
    net = UNet(base_channels=1, depth=1, norm="batch", backend="numpy")
    good = {name: array.copy() for name, array in net.buffers.items()}
    net.forward(tile(net), train=True)
    moved = {name: array.copy() for name, array in net.buffers.items()}
    assert all(not np.array_equal(moved[name], good[name]) for name in good)
    bad = dict(good, **{"contract1.bn1.var": np.array([-1.0])})
    with pytest.raises(
        InputError,
        match=r"^weights: got a negative number in contract1.bn1.var, expected variances$",
    ):
        net.set_buffers(bad)
    with pytest.raises(InputError, match=r"^weights: got no expand1.bn2.var, expected all 12"):
        net.set_buffers({name: good[name] for name in list(good)[:-1]})
    for name, array in net.buffers.items():
        assert np.array_equal(array, moved[name])
    net.set_buffers(good)
    assert all(np.array_equal(net.buffers[name], good[name]) for name in good)


def test_prediction_leaves_running_statistics_alone_and_images_apart() -> None:
    net = UNet(base_channels=2, depth=1, norm="batch", backend="numpy")
    x = tile(net, 3)
    net.forward(x, train=True)
    before = {name: array.copy() for name, array in net.buffers.items()}
    together = net.forward(x)
    np.testing.assert_allclose(net.forward(x[1:2]), together[1:2], atol=1e-5)
    assert np.array_equal(net.forward(x, keep=True), together)
    for name, array in net.buffers.items():
        assert np.array_equal(array, before[name])


def test_with_instance_norm_each_image_has_its_own_statistics() -> None:
    net = UNet(base_channels=3, depth=2, norm="instance", dtype="float64", backend="numpy")
    x = tile(net, 2, (1, 0)) * np.array([1.0, 30.0])[:, None, None, None]
    together = net.forward(x)
    assert not net.buffers
    for n in range(2):
        alone = net.forward(x[n : n + 1])
        np.testing.assert_allclose(alone, together[n : n + 1], rtol=0, atol=1e-12)
        own = net.statistics(x[n : n + 1])
        np.testing.assert_allclose(
            net.forward(x[n : n + 1], statistics=own), alone, rtol=0, atol=1e-12
        )
    assert np.abs(net.forward(x[:1], statistics=own) - together[:1]).max() > 1e-3


def test_statistics_take_all_images_as_one() -> None:
    """As if they stood beside each other: every layer meets mean 0 and variance 1 over both."""
    net = UNet(base_channels=3, depth=1, norm="instance", dtype="float64", backend="numpy")
    x = tile(net, 2) + np.array([0.0, 5.0])[:, None, None, None]
    statistics = net.statistics(x)
    names = [layer.name for layer in net.architecture.layers if layer.kind == "instance_norm"]
    assert list(statistics) == names
    first = ops.conv2d(x, net.params["contract1.conv1.weight"], np.zeros(3))[0]
    np.testing.assert_allclose(statistics[names[0]][0], first.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(statistics[names[0]][1], first.var(axis=(0, 2, 3)), rtol=1e-10)
    # The next one comes after a normalisation by the statistics of both.
    z = ops.instance_norm(first, np.ones(3), np.zeros(3), statistics[names[0]])[0]
    second = ops.conv2d(np.maximum(z, 0), net.params["contract1.conv2.weight"], np.zeros(3))[0]
    np.testing.assert_allclose(statistics[names[1]][1], second.var(axis=(0, 2, 3)), rtol=1e-10)
    assert UNet(base_channels=1, depth=1, backend="numpy").statistics(tile(net)) == {}


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_under_a_normalisation_convolutions_have_no_bias(norm: str) -> None:
    net = UNet(base_channels=1, depth=1, norm=norm, backend="numpy")
    assert list(net.params)[:4] == [
        "contract1.conv1.weight",
        f"contract1.{norm[0]}n1.weight",
        f"contract1.{norm[0]}n1.bias",
        "contract1.conv2.weight",
    ]
    assert "expand1.upconv.bias" in net.params
    assert "output.bias" in net.params
    assert net.architecture.parameters == sum(array.size for array in net.params.values())


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(0, 1), st.integers(0, 9), st.integers(0, 9))
def test_a_classifier_takes_every_size_that_leaves_a_pixel(
    depth: int, padding: int, more: int, across: int
) -> None:
    net = UNet(
        base_channels=1, depth=depth, padding=padding, output="vector", backend="numpy", dropout=0
    )
    size = net.architecture.min_input_size
    x = np.random.default_rng(0).normal(size=(2, 1, size + more, size + across))
    assert net.forward(x, train=True).shape == (2, 2)
    assert net.backward(np.ones((2, 2))).shape == x.shape
    with pytest.raises(InputError, match=rf"leaves no pixel at .* valid size is {size}$"):
        net.forward(x[:, :, : size - 1])


def test_a_detector_has_three_channels() -> None:
    net = UNet(base_channels=1, depth=1, backend="numpy", **TASKS["detect"].options)
    assert net.architecture.num_classes == 3
    assert net.forward(tile(net)).shape[1] == 3


def test_bad_files(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    UNet(base_channels=1, depth=1, backend="numpy").save(good)
    cases = {
        "missing": None,
        "empty": b"",
        "cut": good.read_bytes()[:-50],
        "text": b"not weights at all, but long enough to be read as a header length",
    }
    for name, content in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"^weights: got .*expected a .*safetensors file"):
            UNet.load(path)
    with pytest.raises(InputError, match=r"^weights: got a folder at"):
        UNet.load(tmp_path)


def test_files_of_others(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match=r"without a U-Net's description, expected a file of"):
        UNet.load(tmp_path / "foreign.safetensors")
    description = '{"architecture": {"base_channels": 1, "depth": 1}, "dropout": 0.5}'
    for numbers, message in (
        (2, r"with 2 numbers, expected the 39 or more of the network that it describes"),
        (2000, r"^weights: got no contract1.conv1.weight, expected all"),
    ):
        part = {"output.bias": np.zeros(numbers)}
        save_file(part, tmp_path / "part.safetensors", {"unet_np": description})
        with pytest.raises(InputError, match=message):
            UNet.load(tmp_path / "part.safetensors")


def test_weights_of_another_architecture_change_nothing() -> None:
    net = UNet(base_channels=2, depth=1, backend="numpy")
    before = {name: array.copy() for name, array in net.params.items()}
    other = UNet(base_channels=4, depth=1, backend="numpy").params
    with pytest.raises(
        InputError,
        match=r"^weights: got contract1.conv1.weight of shape \(4, 1, 3, 3\), "
        r"expected \(2, 1, 3, 3\)$",
    ):
        net.set_params(other)
    deeper = UNet(base_channels=2, depth=2, backend="numpy").params
    with pytest.raises(InputError, match=r"^weights: got "):
        net.set_params(deeper)
    spoilt = dict(before, **{"output.bias": np.array([0, np.nan])})
    with pytest.raises(InputError, match=r"^weights: got NaN or infinity in output.bias"):
        net.set_params(spoilt)
    for name, array in net.params.items():
        assert np.array_equal(array, before[name])


def test_host_arrays_on_a_device_network_are_refused(xp: object) -> None:
    if xp is np:
        return
    net = UNet(base_channels=1, depth=1, backend="cupy")
    with pytest.raises(TypeError, match="NumPy and CuPy arrays together"):
        net.forward(tile(net))


def test_torch_module_stands_alone() -> None:
    """Its file is a copy that a user may take along: it imports PyTorch and nothing of ours."""
    source = Path(torch_unet.__file__).read_text()
    imports = [line for line in source.splitlines() if re.match(r"\s*(import|from) ", line)]
    assert imports == ["from typing import Any", "import torch", "from torch import nn"]
    module = torch_unet.UNet(base_channels=2)
    assert module(torch.zeros(1, 1, 188, 188)).shape == (1, 2, 4, 4)


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("up", ["upconv", "nearest"])
def test_a_whole_pass_is_its_layers_one_by_one(norm: str, up: str) -> None:
    """Convolutions do the ReLUs beside them in a whole pass alone."""
    net = UNet(base_channels=4, depth=2, norm=norm, up=up, dropout=0, backend="numpy")
    x = np.random.default_rng(0).normal(size=(2, 1, 60, 60)).astype("float32")
    run, y, layers = net.begin_pass(train=True, keep=True), x, net.architecture.layers
    for layer in layers:
        y = run.forward(layer, y)
    assert np.array_equal(net.forward(x, train=True), y)
    grad = np.random.default_rng(1).normal(size=y.shape).astype("float32")
    grad_x = net.backward(grad.copy())
    for layer in reversed(layers):
        grad = run.backward(layer, grad)
    assert np.array_equal(grad_x, grad)
    for name, one in net.grads.items():
        assert np.array_equal(one, run.grads[name]), name


def test_a_step_on_the_device_is_few_launches() -> None:
    """A host needs some ten microseconds for each, and the whole step takes ten milliseconds."""
    with guard.device() as xp:
        net = UNet(base_channels=8, depth=4, backend="cupy")
        x = xp.ones((1, 1, 188, 188), "float32")
        size = net.architecture.output_size(188)
        labels, optimiser = xp.zeros((1, size, size), "int32"), SGD(net.params, 1e-3)
        before = Module.launches
        logits = net.forward(x, train=True)
        _, grad = ops.weighted_cross_entropy(logits, labels, reduction="mean", check=False)
        net.backward(grad, need_grad_x=False)
        optimiser.step(net.grads)
        launches = Module.launches - before
    convolutions, others = 18, 4 * 8  # of 3x3; for each level pooling, joining, up-convolution
    assert launches <= 11 * convolutions + 2 * others
