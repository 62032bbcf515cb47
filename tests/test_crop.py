"""Copy and crop."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_np import InputError, backend
from unet_np.ops import center_crop, crop_concat, crop_concat_backward

SMALL = st.integers(1, 5)
EXTRA = st.integers(0, 5)


@given(SMALL, SMALL, SMALL, SMALL, SMALL, EXTRA, EXTRA)
def test_forward_and_adjoint(
    batch: int, first: int, second: int, height: int, width: int, rows: int, columns: int
) -> None:
    rng = np.random.default_rng(0)
    skip = rng.normal(size=(batch, first, height + rows, width + columns))
    up = rng.normal(size=(batch, second, height, width))
    y, cache = crop_concat(skip, up)
    top, left = rows // 2, columns // 2
    assert np.array_equal(y[:, :first], skip[:, :, top : top + height, left : left + width])
    assert np.array_equal(y[:, first:], up)
    grad = rng.normal(size=y.shape)
    grad_skip, grad_up = crop_concat_backward(grad, cache)
    assert (grad_skip.shape, grad_up.shape) == (skip.shape, up.shape)
    assert np.isclose((y * grad).sum(), (skip * grad_skip).sum() + (up * grad_up).sum())


def test_cut_away_pixels_have_gradient_zero(xp: object) -> None:
    skip, up = xp.ones((1, 2, 7, 6)), xp.ones((1, 3, 4, 4))
    y, cache = crop_concat(skip, up)
    grad_skip, _ = crop_concat_backward(xp.ones(y.shape), cache)
    grad_skip = backend.to_numpy(grad_skip)
    assert grad_skip.sum() == 2 * 4 * 4
    assert grad_skip[0, 0, 1:5, 1:5].all()


def test_center_crop_is_a_view() -> None:
    x = np.zeros((2, 5, 5))
    center_crop(x, 3, 3)[...] = 1
    assert x.sum() == 18


@pytest.mark.parametrize(
    ("skip", "up", "message"),
    [
        ((1, 1, 3, 9), (1, 1, 4, 4), "skip: got 3 x 9 pixels, expected at least 4 x 4"),
        ((2, 1, 4, 4), (1, 1, 4, 4), "skip: got a batch of 2, expected 1 as in up"),
    ],
)
def test_bad_input(skip: tuple[int, ...], up: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        crop_concat(np.zeros(skip), np.zeros(up))


def test_one_dtype() -> None:
    with pytest.raises(InputError, match=r"^skip: got float64, expected float32 as in up$"):
        crop_concat(np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 4, 4), "float32"))
