"""Batch normalisation, with the batch's and with running statistics; instance normalisation."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import directional_error, leaf, relative_error

from unet_np import InputError, UNet, backend
from unet_np.ops import (
    batch_norm,
    batch_norm_backward,
    channel_statistics,
    instance_norm,
    instance_norm_backward,
)
from unet_np.training.checkpoint import RunFolder, load_checkpoint, save_checkpoint
from unet_np.training.config import TrainConfig
from unet_np.training.loop import train


def problem(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, ...]:
    """x, weight, bias, running mean and variance, and a gradient of the output."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, shape)
    weight, bias, mean = rng.normal(size=(3, shape[1]))
    return x, weight, bias, mean, rng.uniform(0.5, 2, shape[1]), rng.normal(size=shape)


def check_against_torch(shape: tuple[int, ...], train: bool, xp: ModuleType = np) -> None:
    *arrays, grad = problem(shape)
    ours = [backend.asarray(array.copy(), xp) for array in arrays]
    y, cache = batch_norm(*ours, train=train)
    grads = batch_norm_backward(backend.asarray(grad, xp), cache)
    x, weight, bias = (leaf(array) for array in arrays[:3])
    mean, var = (torch.from_numpy(array.copy()) for array in arrays[3:])
    expected = torch.nn.functional.batch_norm(x, mean, var, weight, bias, train)
    expected.backward(torch.from_numpy(grad))
    assert relative_error(y, expected) <= 1e-10
    for got, tensor in zip(grads, (x, weight, bias), strict=True):
        # The gradient of x is a difference: its rounding is that of what is subtracted.
        scale = max(np.abs(tensor.grad.numpy()).max(), 1e-2)
        assert np.abs(backend.to_numpy(got) - tensor.grad.numpy()).max() <= 1e-10 * scale
    assert relative_error(ours[3], mean) <= 1e-10
    assert relative_error(ours[4], var) <= 1e-10


@given(st.tuples(*[st.integers(1, n) for n in (3, 9, 12, 12)]), st.booleans())
def test_agrees_with_torch_for_any_shape(shape: tuple[int, ...], train: bool) -> None:
    if train and shape[0] * shape[2] * shape[3] < 3:  # two numbers always become -1 and 1
        shape = (*shape[:2], 2, 3)
    check_against_torch(shape, train)


SHAPES = [(2, 64, 33, 50), (1, 3, 2, 700), (1, 2, 131, 140)]
"""Sums on a GPU take two rounds, two, and three."""


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, (3, 130, 1, 1)])
def test_agrees_with_torch(shape: tuple[int, ...], train: bool, xp: ModuleType) -> None:
    check_against_torch(shape, train, xp)


def test_one_number_in_each_channel(xp: ModuleType) -> None:
    check_against_torch((1, 3, 1, 1), False, xp)


@pytest.mark.parametrize("train", [True, False])
def test_finite_differences(train: bool) -> None:
    x, weight, bias, mean, var, grad = problem((2, 3, 4, 5))

    def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Any:
        return batch_norm(x, weight, bias, mean.copy(), var.copy(), train)

    grads = batch_norm_backward(grad, forward(x, weight, bias)[1])
    for seed in range(5):
        error = directional_error(
            lambda *arrays: float((forward(*arrays)[0] * grad).sum()),
            [x, weight, bias],
            list(grads),
            seed,
        )
        assert error <= 1e-7


def test_the_channels_have_mean_0_and_variance_1() -> None:
    x, _, _, mean, var, _ = problem((3, 4, 10, 12))
    y, _ = batch_norm(x, np.ones(4), np.zeros(4), mean, var)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1, rtol=1e-5)


def test_shift_and_scale_of_the_input_change_nothing_and_get_no_gradient() -> None:
    """Why a bias before it would do nothing: along both directions the energy is flat."""
    x, weight, bias, mean, var, grad = problem((2, 3, 8, 8))
    y, cache = batch_norm(x, weight, bias, mean, var)
    other, _ = batch_norm(3 * x + 5, weight, bias, mean, var)
    np.testing.assert_allclose(other, y, atol=1e-5)
    grad_x, _, _ = batch_norm_backward(grad, cache)
    np.testing.assert_allclose(grad_x.sum(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(
        (grad_x * (x - x.mean((0, 2, 3), keepdims=True))).sum((0, 2, 3)), 0, atol=1e-3
    )


def test_running_statistics_come_near_those_of_the_data() -> None:
    rng, mean, var = np.random.default_rng(0), np.zeros(2), np.ones(2)
    for _ in range(100):
        x = rng.normal([[[[4.0]], [[-1.0]]]], [[[[2.0]], [[0.5]]]], (1, 2, 20, 20))
        batch_norm(x, np.ones(2), np.zeros(2), mean, var)
    np.testing.assert_allclose(mean, [4, -1], atol=0.1)
    np.testing.assert_allclose(var, [4, 0.25], rtol=0.1)


def test_evaluation_leaves_the_running_statistics_alone() -> None:
    x, weight, bias, mean, var, _ = problem((2, 3, 4, 5))
    before = mean.copy(), var.copy()
    batch_norm(x, weight, bias, mean, var, train=False)
    assert np.array_equal(mean, before[0])
    assert np.array_equal(var, before[1])


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
def test_memory_is_used_again_only_where_allowed(train: bool, keep: bool, overwrite: bool) -> None:
    x, weight, bias, mean, var, _ = problem((2, 3, 4, 5))
    expected, _ = batch_norm(x, weight, bias, mean.copy(), var.copy(), train)
    given = x.copy()
    y, cache = batch_norm(given, weight, bias, mean.copy(), var.copy(), train, keep, overwrite)
    assert np.array_equal(y, expected)
    assert np.array_equal(given, x) != overwrite
    assert (cache is not None) == keep
    assert np.shares_memory(y, given) == (overwrite and not keep)
    if cache is not None:
        assert np.shares_memory(cache[0], given) == overwrite
        assert not np.shares_memory(cache[0], y)


def test_backward_in_place() -> None:
    *arrays, grad = problem((2, 3, 4, 5))
    _, cache = batch_norm(*arrays)
    expected = batch_norm_backward(grad, cache)
    got = batch_norm_backward(grad, cache, out=grad)
    assert got[0] is grad
    for a, b in zip(got, expected, strict=True):
        assert np.array_equal(a, b)


def test_float32_far_from_zero(xp: ModuleType) -> None:
    """The variance is that of the differences from the mean, not a difference of squares."""
    rng = np.random.default_rng(0)
    x = (1000 + rng.normal(size=(1, 2, 200, 200))).astype(np.float32)
    mean, var, zeros, ones = (xp.full(2, n, np.float32) for n in (0, 1, 0, 1))
    ours = backend.asarray(x.transpose(0, 2, 3, 1).copy(), xp).transpose(0, 3, 1, 2)
    y = backend.to_numpy(batch_norm(ours, ones, zeros, mean, var)[0])
    exact = x.astype(float)
    exact -= exact.mean(axis=(0, 2, 3), keepdims=True)
    exact /= np.sqrt(exact.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
    assert y.dtype == mean.dtype == var.dtype == np.float32
    assert np.abs(y - exact).max() <= 1e-3


@pytest.mark.parametrize("place", [0, 64, 5000])
def test_float32_statistics_with_one_pixel_far_from_all(xp: ModuleType, place: int) -> None:
    """Also where it is the one that a thread measures the distances of its pixels from."""
    x = np.random.default_rng(0).normal(size=(1, 200, 200, 2)).astype(np.float32)
    x.reshape(-1, 2)[place] = -1e6
    ours = backend.asarray(x, xp).transpose(0, 3, 1, 2)
    mean, var = (backend.to_numpy(array) for array in channel_statistics(ours))
    exact = x.astype(float)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(var, exact.var(axis=(0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("keep", [True, False])
def test_with_the_relu_behind(xp: ModuleType, keep: bool) -> None:
    x, weight, bias, mean, var, _ = (
        backend.asarray(array, xp) for array in problem((2, 3, 14, 15))
    )
    last = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)  # as a network's maps lie
    for maps in (x, last):
        for pair in (
            [batch_norm(maps, weight, bias, mean, var, False, keep, False, on) for on in (0, 1)],
            [instance_norm(maps, weight, bias, None, keep, False, on) for on in (0, 1)],
        ):
            plain, rectified = (backend.to_numpy(y) for y, _ in pair)
            assert (plain < 0).any()
            assert np.array_equal(rectified, np.maximum(plain, 0))


def test_a_resumed_training_is_bit_for_bit_the_same(tmp_path: Path) -> None:
    """The running statistics are part of the checkpoint."""
    config = TrainConfig(
        base_channels=2,
        depth=1,
        up="bilinear",
        norm="batch",
        steps=6,
        input_size=44,
        weight_map=False,
        tensorboard=False,
        checkpoint_every=3,
        validate_every=1,
        threads=1,
    )
    whole = train(config.replace(out=tmp_path / "whole"), progress=False)
    parts = config.replace(out=tmp_path / "parts")
    first = train(parts.replace(steps=3), progress=False).net
    resumed = train(parts, resume=True, progress=False)
    for name, array in whole.net.state.items():
        assert np.array_equal(resumed.net.state[name], array), name
        assert not np.array_equal(first.state[name], array), name
    assert RunFolder(tmp_path / "whole").metrics.read_bytes() == resumed.folder.metrics.read_bytes()
    loaded = UNet.load(resumed.folder.weights, backend="numpy")
    assert loaded.architecture == config.architecture
    for name, array in whole.net.buffers.items():
        assert np.array_equal(loaded.buffers[name], array)


def test_a_checkpoint_from_when_there_was_a_flag_goes_on(tmp_path: Path) -> None:
    """And so does its TOML file: the same steps, with the weights that were then the only ones."""
    config = TrainConfig(
        base_channels=2,
        depth=1,
        norm="batch",
        weight_term="everywhere",
        steps=4,
        input_size=36,
        tensorboard=False,
        threads=1,
    )
    whole = train(config.replace(out=tmp_path / "whole"), progress=False)
    cut = config.replace(out=tmp_path / "cut")
    folder = train(cut.replace(steps=2), progress=False).folder
    params, velocity, state = load_checkpoint(folder.checkpoint)
    for name in ("norm", "weight_term"):
        del state["config"][name]
    state["config"]["batch_norm"] = True
    save_checkpoint(folder.checkpoint, params, velocity, state)
    text = folder.config.read_text("utf-8").splitlines()
    text = [line for line in text if not line.startswith(("norm", "weight_term"))]
    folder.config.write_text("\n".join([*text, "batch_norm = true"]) + "\n", "utf-8")
    again = TrainConfig.from_toml(folder.config, steps=4)
    assert again == cut
    resumed = train(again, resume=True, progress=False)
    for name, array in whole.net.state.items():
        assert np.array_equal(resumed.net.state[name], array), name
    with pytest.raises(InputError, match="weight_term: got 'background', expected 'everywhere'"):
        train(again.replace(weight_term="background", steps=5), resume=True, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((2, 3))}, "x: got shape (2, 3), expected (B, C, H, W)"),
        ({"weight": np.ones(2)}, "weight: got shape (2,), expected (3,)"),
        ({"bias": np.ones((3, 1))}, "bias: got shape (3, 1), expected (3,)"),
        ({"mean": np.ones(4)}, "mean: got shape (4,), expected (3,)"),
        ({"var": np.ones(4)}, "var: got shape (4,), expected (3,)"),
        (
            {"x": np.ones((1, 3, 1, 1))},
            "x: got 1 number in each channel, expected at least 2 for the statistics of a batch; "
            "a larger tile or batch has them",
        ),
    ],
)
def test_bad_input(change: dict[str, np.ndarray], message: str) -> None:
    good = {name: np.ones(3) for name in ("weight", "bias", "mean", "var")}
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        batch_norm(**({"x": np.ones((1, 3, 4, 4))} | good | change))


# Instance normalisation


def check_instance_norm_against_torch(shape: tuple[int, ...], xp: ModuleType = np) -> None:
    x, weight, bias, _, _, grad = problem(shape)
    ours = [backend.asarray(array.copy(), xp) for array in (x, weight, bias)]
    y, cache = instance_norm(*ours)
    assert cache is not None
    grads = instance_norm_backward(backend.asarray(grad, xp), cache)
    tensors = [leaf(array) for array in (x, weight, bias)]
    expected = torch.nn.functional.instance_norm(tensors[0], None, None, *tensors[1:])
    expected.backward(torch.from_numpy(grad))
    assert relative_error(y, expected) <= 1e-10
    for got, tensor in zip(grads, tensors, strict=True):
        scale = max(np.abs(tensor.grad.numpy()).max(), 1e-2)
        assert np.abs(backend.to_numpy(got) - tensor.grad.numpy()).max() <= 1e-10 * scale


@given(st.tuples(*[st.integers(1, n) for n in (3, 9, 12, 12)]))
def test_instance_norm_agrees_with_torch_for_any_shape(shape: tuple[int, ...]) -> None:
    if shape[2] * shape[3] < 3:  # two numbers always become -1 and 1
        shape = (*shape[:2], 2, 3)
    check_instance_norm_against_torch(shape)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 130, 2, 2)])
def test_instance_norm_agrees_with_torch(shape: tuple[int, ...], xp: ModuleType) -> None:
    check_instance_norm_against_torch(shape, xp)


def test_given_statistics_agree_with_torch(xp: ModuleType) -> None:
    x, weight, bias, mean, var, grad = problem((3, 5, 7, 8))
    ours = [backend.asarray(array.copy(), xp) for array in (x, weight, bias, mean, var)]
    y, cache = instance_norm(*ours[:3], (ours[3], ours[4]))
    assert cache is not None
    grads = instance_norm_backward(backend.asarray(grad, xp), cache)
    tensors = [leaf(array) for array in (x, weight, bias)]
    given_ = [torch.from_numpy(array) for array in (mean, var)]
    expected = torch.nn.functional.batch_norm(tensors[0], *given_, *tensors[1:], False)
    expected.backward(torch.from_numpy(grad))
    assert relative_error(y, expected) <= 1e-10
    for got, tensor in zip(grads, tensors, strict=True):
        assert relative_error(got, tensor.grad) <= 1e-10
    for array, before in zip(ours[3:], (mean, var), strict=True):
        assert np.array_equal(backend.to_numpy(array), before)


@pytest.mark.parametrize("given_", [True, False])
def test_finite_differences_of_instance_norm(given_: bool) -> None:
    x, weight, bias, mean, var, grad = problem((2, 3, 4, 5))
    statistics = (mean, var) if given_ else None

    def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Any:
        return instance_norm(x, weight, bias, statistics)

    grads = instance_norm_backward(grad, forward(x, weight, bias)[1])
    for seed in range(5):
        error = directional_error(
            lambda *arrays: float((forward(*arrays)[0] * grad).sum()),
            [x, weight, bias],
            list(grads),
            seed,
        )
        assert error <= 1e-7


def test_instance_norm_of_one_image_is_batch_norm_in_training() -> None:
    x, weight, bias, mean, var, grad = problem((1, 3, 6, 7))
    y, cache = instance_norm(x, weight, bias)
    expected, other = batch_norm(x, weight, bias, mean, var)
    assert np.array_equal(y, expected)
    assert cache is not None
    assert other is not None
    for a, b in zip(
        instance_norm_backward(grad, cache), batch_norm_backward(grad, other), strict=True
    ):
        assert np.array_equal(a, b)


def test_own_statistics_given_are_own_statistics(xp: ModuleType) -> None:
    arrays = [backend.asarray(array, xp) for array in problem((1, 4, 9, 11))[:3]]
    own = channel_statistics(arrays[0])
    expected, _ = instance_norm(*arrays)
    got, _ = instance_norm(*arrays, own)
    np.testing.assert_allclose(backend.to_numpy(got), backend.to_numpy(expected), atol=1e-12)


def test_statistics_of_channels(xp: ModuleType) -> None:
    x = problem((3, 5, 8, 6))[0]
    mean, var = channel_statistics(backend.asarray(x, xp))
    np.testing.assert_allclose(backend.to_numpy(mean), x.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(var), x.var(axis=(0, 2, 3)), rtol=1e-12)
    far = (1000 + x).astype(np.float32)
    exact = far.astype(float).var(axis=(0, 2, 3))
    np.testing.assert_allclose(channel_statistics(far)[1], exact, rtol=1e-4)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("given_", [True, False])
def test_instance_norm_uses_memory_again_only_where_allowed(
    keep: bool, overwrite: bool, given_: bool
) -> None:
    x, weight, bias, mean, var, grad = problem((2, 3, 4, 5))
    statistics = (mean, var) if given_ else None
    expected, cache = instance_norm(x, weight, bias, statistics)
    assert cache is not None
    given_x = x.copy()
    y, kept = instance_norm(given_x, weight, bias, statistics, keep, overwrite)
    assert np.array_equal(y, expected)
    assert np.array_equal(given_x, x) != overwrite
    assert (kept is not None) == keep
    assert np.shares_memory(y, given_x) == (overwrite and not keep)
    in_place = grad.copy()
    grad_x = instance_norm_backward(in_place, cache, out=in_place)[0]
    assert grad_x is in_place
    assert np.array_equal(grad_x, instance_norm_backward(grad, cache)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((2, 3))}, "x: got shape (2, 3), expected (B, C, H, W)"),
        ({"weight": np.ones(2)}, "weight: got shape (2,), expected (3,)"),
        ({"statistics": (np.ones(3), np.ones(4))}, "var: got shape (4,), expected (3,)"),
        (
            {"x": np.ones((5, 3, 1, 1))},
            "x: got 1 number in each channel, expected at least 2 for the statistics of an image; "
            "a larger tile has them",
        ),
    ],
)
def test_bad_input_of_instance_norm(change: dict[str, Any], message: str) -> None:
    good = {"x": np.ones((1, 3, 4, 4)), "weight": np.ones(3), "bias": np.ones(3)}
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        instance_norm(**(good | change))


def test_statistics_of_another_dtype_are_not_misread(xp: ModuleType) -> None:
    pixels = np.random.default_rng(0).random((1, 5, 4, 3))
    x = backend.asarray(pixels, xp, "float32").transpose(0, 3, 1, 2)  # as a network's maps lie
    weight, bias = xp.full(3, 2, "float32"), xp.ones(3, "float32")
    same = channel_statistics(x)
    other = tuple(one.astype("float64") for one in same)
    expected, found = (
        backend.to_numpy(instance_norm(x, weight, bias, pair)[0]) for pair in (same, other)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
