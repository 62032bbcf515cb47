"""Up-sampling by 2: nearest and bilinear."""

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
from unet_np.ops import upsample, upsample_backward

CASES = [("nearest", 1), ("nearest", 0), ("bilinear", 1), ("bilinear", 0)]
MODES = pytest.mark.parametrize(("mode", "padding"), CASES)


def problem(
    shape: tuple[int, ...], mode: str, padding: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """An input and a gradient of the output."""
    rng = np.random.default_rng(seed)
    lost = 2 * (mode == "bilinear" and not padding)
    wide = (*shape[:2], 2 * shape[2] - lost, 2 * shape[3] - lost)
    return rng.normal(size=shape), rng.normal(size=wide)


def torch_upsample(x: torch.Tensor, mode: str, padding: int) -> torch.Tensor:
    more = {"align_corners": False} if mode == "bilinear" else {}
    y = torch.nn.functional.interpolate(x, scale_factor=2, mode=mode, **more)
    return y[:, :, 1:-1, 1:-1] if mode == "bilinear" and not padding else y


def check_against_torch(
    shape: tuple[int, ...], mode: str, padding: int, xp: ModuleType = np
) -> None:
    x, grad = problem(shape, mode, padding)
    y, cache = upsample(backend.asarray(x, xp), mode, padding)
    grad_x = upsample_backward(backend.asarray(grad, xp), cache)
    tensor = leaf(x)
    expected = torch_upsample(tensor, mode, padding)
    expected.backward(torch.from_numpy(grad))
    assert relative_error(y, expected) <= 1e-10
    assert relative_error(grad_x, tensor.grad) <= 1e-10


@given(st.tuples(*[st.integers(1, n) for n in (3, 9, 12, 12)]), st.sampled_from(CASES))
def test_agrees_with_torch_for_any_shape(shape: tuple[int, ...], case: tuple[str, int]) -> None:
    if case == ("bilinear", 0):
        shape = (*shape[:2], shape[2] + 1, shape[3] + 1)
    check_against_torch(shape, *case)


@MODES
@pytest.mark.parametrize("shape", [(2, 64, 33, 50), (1, 3, 2, 700), (1, 130, 40, 30)])
def test_agrees_with_torch(shape: tuple[int, ...], mode: str, padding: int, xp: ModuleType) -> None:
    check_against_torch(shape, mode, padding, xp)


@given(st.tuples(*[st.integers(2, n) for n in (3, 5, 9, 9)]), st.sampled_from(CASES))
def test_backward_is_the_adjoint(shape: tuple[int, ...], case: tuple[str, int]) -> None:
    """<U x, g> = <x, U^T g>."""
    x, grad = problem(shape, *case)
    y, cache = upsample(x, *case)
    assert (y * grad).sum() == pytest.approx((x * upsample_backward(grad, cache)).sum(), abs=1e-10)


@MODES
def test_finite_differences(mode: str, padding: int) -> None:
    x, grad = problem((2, 3, 4, 5), mode, padding)
    grad_x = upsample_backward(grad, upsample(x, mode, padding)[1])

    def energy(x: np.ndarray) -> float:
        return float((upsample(x, mode, padding)[0] * grad).sum())

    for seed in range(5):
        assert directional_error(energy, [x], [grad_x], seed) <= 1e-7


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_with_padding_0_a_part_gives_a_part_of_the_whole(mode: str) -> None:
    x, _ = problem((1, 2, 10, 11), mode, 0)
    whole, part = upsample(x, mode, 0)[0], upsample(x[:, :, 3:8, 2:9], mode, 0)[0]
    expected = whole[:, :, 6 : 6 + part.shape[2], 4 : 4 + part.shape[3]]
    assert np.array_equal(part, expected)


def test_bilinear_keeps_a_plane() -> None:
    """An interpolation is exact where the image is linear, away from the repeated edge."""
    rows, columns = np.mgrid[:6, :7].astype(float)
    y = upsample((2 * rows - 3 * columns)[None, None], "bilinear", 0)[0][0, 0]
    # The first pixel that is left stands at old row and column 1/4.
    rows, columns = np.mgrid[: y.shape[0], : y.shape[1]] / 2 + 0.25
    np.testing.assert_allclose(y, 2 * rows - 3 * columns, atol=1e-12)


@MODES
def test_constants_stay(mode: str, padding: int) -> None:
    assert (upsample(np.full((1, 3, 4, 5), 7.0), mode, padding)[0] == 7).all()


@MODES
def test_float32_and_memory_order(mode: str, padding: int) -> None:
    x, _ = problem((2, 3, 4, 5), mode, padding)
    y, _ = upsample(x.astype(np.float32), mode, padding)
    assert y.dtype == np.float32
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert relative_error(y, upsample(x, mode, padding)[0]) <= 1e-6


@MODES
def test_blocks_of_rows_join_without_a_seam(
    mode: str, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, grad = problem((2, 3, 9, 7), mode, padding)
    y, cache = upsample(x, mode, padding)
    grad_x = upsample_backward(grad, cache)
    monkeypatch.setattr("unet_np.ops.beyond.upsampling.block_elements", lambda xp: 1)
    assert np.array_equal(upsample(x, mode, padding)[0], y)
    assert np.array_equal(upsample_backward(grad, cache), grad_x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)),), "x: got shape (2, 3), expected (B, C, H, W)"),
        ((np.ones((1, 1, 2, 2)), "cubic"), "mode: got 'cubic', expected nearest or bilinear"),
        ((np.ones((1, 1, 2, 2)), "nearest", 2), "padding: got 2, expected 0 or 1"),
        (
            (np.ones((1, 1, 1, 4)), "bilinear", 0),
            "x: got 1 x 4 pixels, expected at least 2 x 2 with padding 0",
        ),
    ],
)
def test_bad_input(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        upsample(*arguments)
