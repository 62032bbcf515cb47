"""ReLU and dropout."""

from __future__ import annotations

import guard
import numpy as np
import pytest
import torch
from cuda_in_c import Module
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import leaf, relative_error

from unet_np import InputError, backend
from unet_np.ops import dropout, dropout_backward, relu, relu_backward

SHAPES = hnp.array_shapes(min_dims=4, max_dims=4, max_side=9)


def maps(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    # Whole numbers, so that zeros occur.
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(float)


@given(SHAPES)
def test_relu_agrees_with_torch(shape: tuple[int, ...]) -> None:
    x, grad = maps(shape), maps(shape, 1)
    y, cache = relu(x)
    tensor = leaf(x)
    expected = tensor.relu()
    expected.backward(torch.from_numpy(grad))
    assert relative_error(y, expected) == 0
    assert relative_error(relu_backward(grad, cache), tensor.grad) == 0


def test_relu_on_every_library_and_in_place(xp: object) -> None:
    x = backend.asarray(maps((2, 3, 70, 5)), xp)
    expected = backend.to_numpy(relu(x)[0])
    y, cache = relu(x, out=x)
    assert y is x
    assert np.array_equal(backend.to_numpy(y), expected)
    grad = backend.asarray(np.ones(x.shape), xp)
    assert relu_backward(grad, cache, out=grad) is grad
    assert np.array_equal(backend.to_numpy(grad), expected > 0)


def test_relu_leaves_its_argument_alone() -> None:
    x = maps((1, 2, 3, 4))
    before = x.copy()
    _, cache = relu(x)
    grad = maps(x.shape, 1)
    kept = grad.copy()
    relu_backward(grad, cache)
    assert np.array_equal(x, before)
    assert np.array_equal(grad, kept)


@given(SHAPES, st.floats(0, 0.95), st.integers(0, 5))
def test_dropout_zeroes_or_scales(shape: tuple[int, ...], p: float, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=shape)
    y, cache = dropout(x, p, np.random.default_rng(seed))
    kept = y != 0
    assert np.allclose(y[kept], x[kept] / (1 - p), rtol=1e-14)
    # Linear, with a diagonal matrix: the backward pass is the forward pass.
    assert np.array_equal(dropout_backward(x, cache), y)


@given(SHAPES, st.floats(0, 0.95), st.integers(0, 5), st.sampled_from(["float32", "float64"]))
def test_dropout_on_a_gpu_is_that_of_the_same_numbers(shape, p, seed, dtype) -> None:
    """Also in the planes of an image; one launch for the numbers, one for each direction."""
    rng, sequence = np.random.default_rng(seed), np.random.SeedSequence((seed,))
    x, grad = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    y, cache = dropout(x, p, backend.HashGenerator(np, sequence))
    with guard.device() as cupy:
        launched = Module.launches
        got, same = dropout(cupy.asarray(x), p, backend.HashGenerator(cupy, sequence))
        back = dropout_backward(cupy.asarray(grad), same)
        assert Module.launches - launched == 3
        assert got.dtype == dtype
        assert np.array_equal(backend.to_numpy(got), y)
        assert np.array_equal(backend.to_numpy(back), dropout_backward(grad, cache))


def test_dropout_on_a_gpu_is_three_launches() -> None:
    with guard.device() as cupy:
        x = backend.empty_channels_last(cupy, (1, 8, 5, 5), "float32")
        guard.calls.clear()
        rng = backend.default_rng(cupy, (0,))
        dropout_backward(x, dropout(x, 0.5, rng)[1])
        # That it is in order already is no copy; the rest is room and views.
        assert set(guard.calls) == {"empty", "transpose", "ascontiguousarray"}


def test_dropout_is_the_identity_at_p_0() -> None:
    x = maps((2, 3, 4, 5))
    assert np.array_equal(dropout(x, 0.0, np.random.default_rng(0))[0], x)


def test_dropout_keeps_the_mean_and_follows_its_seed(xp: object) -> None:
    x = xp.ones((1, 8, 100, 100), "float32")
    y, _ = dropout(x, 0.5, backend.default_rng(xp, (3, 1, 0)))
    again, _ = dropout(x, 0.5, backend.default_rng(xp, (3, 1, 0)))
    other, _ = dropout(x, 0.5, backend.default_rng(xp, (3, 1, 1)))
    y, again, other = (backend.to_numpy(array) for array in (y, again, other))
    # 80,000 coins: the mean of 2 x coin has a standard deviation of 1 / sqrt(80,000).
    assert abs(y.mean() - 1) < 5 / np.sqrt(80_000)
    assert np.array_equal(y, again)
    assert not np.array_equal(y, other)
    assert y.dtype == np.float32


@pytest.mark.parametrize("p", [-0.1, 1.0, 2.0])
def test_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(InputError, match=rf"^p: got {p}, expected 0 <= p < 1$"):
        dropout(np.ones((1, 1, 2, 2)), p, np.random.default_rng(0))
