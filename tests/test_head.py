"""Global average pooling and the linear layer."""

from __future__ import annotations

import re
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import directional_error, leaf, relative_error

from unet_np import InputError, backend
from unet_np.ops import (
    global_average_pool,
    global_average_pool_backward,
    linear,
    linear_backward,
)


def check_pool(shape: tuple[int, ...], xp: ModuleType = np) -> None:
    rng = np.random.default_rng(0)
    x, grad = rng.normal(size=shape), rng.normal(size=shape[:2])
    y, cache = global_average_pool(backend.asarray(x, xp))
    grad_x = global_average_pool_backward(backend.asarray(grad, xp), cache)
    tensor = leaf(x)
    expected = torch.nn.functional.adaptive_avg_pool2d(tensor, 1)[:, :, 0, 0]
    expected.backward(torch.from_numpy(grad))
    assert np.abs(backend.to_numpy(y) - expected.detach().numpy()).max() <= 1e-12
    assert relative_error(grad_x, tensor.grad) <= 1e-10
    # Adjoint: <P x, g> = <x, P^T g>.
    other = (x * backend.to_numpy(grad_x)).sum()
    assert (backend.to_numpy(y) * grad).sum() == pytest.approx(other, abs=1e-10)


@given(st.tuples(*[st.integers(1, n) for n in (3, 9, 12, 12)]))
def test_pooling_agrees_with_torch_for_any_shape(shape: tuple[int, ...]) -> None:
    check_pool(shape)


@pytest.mark.parametrize("shape", [(2, 64, 33, 50), (3, 130, 1, 1)])
def test_pooling_agrees_with_torch(shape: tuple[int, ...], xp: ModuleType) -> None:
    check_pool(shape, xp)


def check_linear(shape: tuple[int, int, int], xp: ModuleType = np) -> None:
    batch, into, out = shape
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=size) for size in ((batch, into), (out, into), (out,))]
    grad = rng.normal(size=(batch, out))
    y, cache = linear(*(backend.asarray(array, xp) for array in arrays))
    grads = linear_backward(backend.asarray(grad, xp), cache)
    tensors = [leaf(array) for array in arrays]
    expected = torch.nn.functional.linear(*tensors)
    expected.backward(torch.from_numpy(grad))
    assert relative_error(y, expected) <= 1e-10
    for got, tensor in zip(grads, tensors, strict=True):
        assert relative_error(got, tensor.grad) <= 1e-10


@given(st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 9)))
def test_linear_agrees_with_torch_for_any_shape(shape: tuple[int, int, int]) -> None:
    check_linear(shape)


def test_linear_agrees_with_torch(xp: ModuleType) -> None:
    check_linear((5, 256, 7), xp)


def test_finite_differences() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 3)), rng.normal(size=6)
    grad = rng.normal(size=(2, 6))

    def energy(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> float:
        return float((linear(global_average_pool(x)[0], w, b)[0] * grad).sum())

    pooled, shape = global_average_pool(x)
    grad_pooled, grad_w, grad_b = linear_backward(grad, linear(pooled, w, b)[1])
    grad_x = global_average_pool_backward(grad_pooled, shape)
    for seed in range(5):
        assert directional_error(energy, [x, w, b], [grad_x, grad_w, grad_b], seed) <= 1e-7


def test_pooling_adds_rows_first_so_that_float32_loses_little() -> None:
    x = np.full((1, 1, 3000, 3000), 0.1, np.float32)
    assert abs(float(global_average_pool(x)[0].item()) - 0.1) <= 1e-6


@pytest.mark.parametrize("shape", [(2, 3), (1, 3, 0, 4)])
def test_bad_maps(shape: tuple[int, ...]) -> None:
    message = f"x: got shape {shape}, expected (B, C, H, W) with pixels"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        global_average_pool(np.ones(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((1, 2, 1, 1))}, "x: got shape (1, 2, 1, 1), expected (B, C)"),
        ({"w": np.ones((3, 4))}, "w: got shape (3, 4), expected (K, 2)"),
        ({"b": np.ones(2)}, "b: got shape (2,), expected (3,)"),
        (
            {"b": np.ones(3, "float32")},
            "x, w, b: got float64, float64, float32, expected one dtype",
        ),
    ],
)
def test_bad_input(change: dict[str, np.ndarray], message: str) -> None:
    good = {"x": np.ones((1, 2)), "w": np.ones((3, 2)), "b": np.ones(3)}
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        linear(**(good | change))
