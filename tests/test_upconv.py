"""The 2x2 up-convolution."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import directional_error, leaf, relative_error

from unet_np import InputError, backend
from unet_np.ops import conv_transpose2d, conv_transpose2d_backward


def problem(shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    batch, into, out, height, width = shape
    rng = np.random.default_rng(seed)
    sizes = (
        (batch, into, height, width),
        (into, out, 2, 2),
        (out,),
        (batch, out, 2 * height, 2 * width),
    )
    return [rng.normal(size=size) for size in sizes]


def check_against_torch(shape: tuple[int, ...], xp: object) -> None:
    x, w, b, grad = problem(shape)
    y, cache = conv_transpose2d(*(backend.asarray(a, xp) for a in (x, w, b)))
    grads = conv_transpose2d_backward(backend.asarray(grad, xp), cache)
    tensors = [leaf(a) for a in (x, w, b)]
    expected = torch.nn.functional.conv_transpose2d(*tensors, stride=2)
    expected.backward(torch.from_numpy(grad))
    assert relative_error(y, expected) <= 1e-10
    for got, tensor in zip(grads, tensors, strict=True):
        assert relative_error(got, tensor.grad) <= 1e-10


@given(st.tuples(*[st.integers(1, n) for n in (3, 9, 9, 12, 12)]))
def test_agrees_with_torch_for_any_shape(shape: tuple[int, ...]) -> None:
    check_against_torch(shape, np)


@pytest.mark.parametrize("shape", [(2, 64, 32, 33, 50), (1, 8, 4, 1, 700)])
def test_agrees_with_torch(shape: tuple[int, ...], xp: object) -> None:
    check_against_torch(shape, xp)


def test_is_the_loop_that_defines_it() -> None:
    x, w, b, _ = problem((2, 3, 2, 4, 3))
    y, _ = conv_transpose2d(x, w, b)
    for n, k, i, j in np.ndindex(*y.shape):
        expected = (x[n, :, i // 2, j // 2] * w[:, k, i % 2, j % 2]).sum() + b[k]
        assert abs(y[n, k, i, j] - expected) <= 1e-12


def test_finite_differences() -> None:
    x, w, b, grad = problem((2, 3, 2, 4, 3))
    grads = conv_transpose2d_backward(grad, conv_transpose2d(x, w, b)[1])

    def energy(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> float:
        return float((conv_transpose2d(x, w, b)[0] * grad).sum())

    for seed in range(5):
        assert directional_error(energy, [x, w, b], list(grads), seed) <= 1e-7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((2, 3))}, "x: got shape (2, 3), expected (B, C, H, W)"),
        ({"w": np.ones((2, 3, 2, 2))}, "w: got shape (2, 3, 2, 2), expected (1, K, 2, 2)"),
        ({"w": np.ones((1, 3, 3, 3))}, "w: got shape (1, 3, 3, 3), expected (1, K, 2, 2)"),
        ({"b": np.ones(2)}, "b: got shape (2,), expected (3,)"),
        (
            {"x": np.ones((1, 1, 4, 4), "float32")},
            "x, w, b: got float32, float64, float64, expected one dtype",
        ),
    ],
)
def test_bad_input(change: dict[str, np.ndarray], message: str) -> None:
    good = {"x": np.ones((1, 1, 4, 4)), "w": np.ones((1, 3, 2, 2)), "b": np.ones(3)}
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        conv_transpose2d(**(good | change))
