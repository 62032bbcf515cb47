"""Max pooling, its ties and its odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import directional_error, leaf, relative_error

from unet_np import InputError, backend
from unet_np.ops import max_pool2d, max_pool2d_backward


@given(
    hnp.array_shapes(min_dims=4, max_dims=4, min_side=2, max_side=13),
    st.booleans(),
    st.integers(0, 9),
)
def test_agrees_with_torch(shape: tuple[int, ...], ties: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few different whole numbers: most windows hold their largest number more than once.
    x = rng.integers(0, 2, shape).astype(float) if ties else rng.normal(size=shape)
    y, cache = max_pool2d(x)
    grad = rng.normal(size=y.shape)
    tensor = leaf(x)
    expected = torch.nn.functional.max_pool2d(tensor, 2)
    expected.backward(torch.from_numpy(grad))
    assert relative_error(y, expected) == 0
    assert relative_error(max_pool2d_backward(grad, cache), tensor.grad) == 0


def test_every_library_and_memory_order(xp: object) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 65, 90))
    expected, cache = max_pool2d(x)
    grad = rng.normal(size=expected.shape)
    grad_expected = max_pool2d_backward(grad, cache)
    last = backend.asarray(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), xp).transpose(0, 3, 1, 2)
    y, cache = max_pool2d(last)
    assert np.array_equal(backend.to_numpy(y), expected)
    got = max_pool2d_backward(backend.asarray(grad, xp), cache)
    assert np.array_equal(backend.to_numpy(got), grad_expected)


def test_finite_differences() -> None:
    rng = np.random.default_rng(1)
    x, grad = rng.normal(size=(2, 3, 6, 8)), rng.normal(size=(2, 3, 3, 4))
    grad_x = max_pool2d_backward(grad, max_pool2d(x)[1])
    for seed in range(5):
        error = directional_error(
            lambda x: float((max_pool2d(x)[0] * grad).sum()), [x], [grad_x], seed
        )
        assert error <= 1e-7


@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (1, 1, 4, 1)])
def test_too_small(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^x: got . x . pixels, expected at least 2 x 2$"):
        max_pool2d(np.zeros(shape))
