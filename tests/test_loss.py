"""Soft-max and the energy of eq. 1."""

from __future__ import annotations

import re
from collections import Counter

import guard
import numpy as np
import pytest
import torch
from cuda_in_c import Module
from hypothesis import given
from hypothesis import strategies as st
from oracles import directional_error, leaf, relative_error

from unet_np import InputError, backend
from unet_np.ops import softmax, softmax_backward, weighted_cross_entropy


def problem(
    shape: tuple[int, ...], seed: int, scale: float = 3.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    batch, classes, height, width = shape
    logits = rng.normal(scale=scale, size=shape)
    labels = rng.integers(0, classes, (batch, height, width))
    return logits, labels, rng.uniform(0, 11, labels.shape)


def torch_energy(
    logits: torch.Tensor, labels: np.ndarray, weights: np.ndarray, ignore: int | None
) -> torch.Tensor:
    losses = torch.nn.functional.cross_entropy(
        logits,
        torch.from_numpy(labels),
        reduction="none",
        ignore_index=-100 if ignore is None else ignore,
    )
    return (losses * torch.from_numpy(weights)).sum()


@given(
    st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(1, 6), st.integers(1, 6)),
    st.integers(0, 99),
    st.sampled_from([None, 0, 255]),
    st.sampled_from(["sum", "mean"]),
)
def test_agrees_with_torch(
    shape: tuple[int, ...], seed: int, ignore: int | None, reduction: str
) -> None:
    logits, labels, weights = problem(shape, seed)
    if ignore == 255:
        labels[np.random.default_rng(seed).random(labels.shape) < 0.3] = 255
    tensor = leaf(logits)
    expected = torch_energy(tensor, labels, weights, ignore)
    if reduction == "mean":
        expected = expected / max(
            1, (labels != ignore).sum() if ignore is not None else labels.size
        )
    expected.backward()
    loss, grad = weighted_cross_entropy(logits, labels, weights, reduction, ignore)
    assert np.isclose(float(loss), expected.item(), rtol=1e-12, atol=1e-12)
    assert relative_error(grad, tensor.grad) <= 1e-10 or not tensor.grad.any()


def test_every_library(xp: object) -> None:
    logits, labels, weights = problem((2, 3, 8, 9), 0)
    expected = weighted_cross_entropy(logits, labels, weights)
    loss, grad = weighted_cross_entropy(
        *(backend.asarray(a, xp) for a in (logits, labels, weights))
    )
    assert np.isclose(float(loss), float(expected[0]), rtol=1e-13)
    assert relative_error(grad, expected[1]) <= 1e-13
    p, cache = softmax(backend.asarray(logits, xp))
    back = softmax_backward(backend.asarray(logits, xp), cache)
    assert relative_error(back, softmax_backward(logits, softmax(logits)[1])) <= 1e-13
    assert np.allclose(backend.to_numpy(p).sum(axis=1), 1)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    st.integers(0, 99),
    st.sampled_from([("i4", None), ("?", None), ("u1", 255), ("i2", -1), ("u4", 2**32 - 1)]),
    st.sampled_from(["sum", "mean"]),
    st.booleans(),
    st.sampled_from([3.0, 1e4]),
    st.booleans(),
)
def test_the_kernel_does_what_the_plain_way_does(
    shape, seed, kind_and_ignored, reduction, weighted, scale, planes
) -> None:
    """Channels or pixels side by side, infinite weights where nothing counts, a class too high."""
    logits, labels, weights = problem(shape, seed, scale)
    kind, ignored = kind_and_ignored
    labels = (labels % 2 if kind == "?" else labels).astype(kind)
    if kind == "i4":
        labels[0, 0, 0] = 9
    if ignored is not None:
        nowhere = np.random.default_rng(seed).random(labels.shape) < 0.3
        labels[nowhere], weights[nowhere] = ignored, np.inf
    arrays = [labels, weights if weighted else None]
    how = reduction, ignored, False
    expected = weighted_cross_entropy(logits, *arrays, *how)
    with guard.device() as cupy:
        on_device = backend.empty_channels_last(cupy, shape, float)
        on_device[...] = cupy.asarray(logits)
        on_device = cupy.ascontiguousarray(on_device) if planes else on_device
        there = [None if array is None else cupy.asarray(array) for array in arrays]
        loss, grad = weighted_cross_entropy(on_device, *there, *how)
        assert loss.shape == ()
        assert grad.transpose(0, 2, 3, 1).flags.c_contiguous
        loss, grad = float(loss), backend.to_numpy(grad)
    assert np.isclose(loss, float(expected[0]), rtol=1e-13, atol=1e-13)
    assert np.allclose(grad, expected[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("options", "most"), [({}, 3), ({"ignore_label": 255}, 5)], ids=str)
def test_energy_on_a_gpu_is_few_launches(options: dict[str, int], most: int) -> None:
    """And nobody waits for one of them, also where the GPU has to count."""
    with guard.device() as cupy:
        logits = backend.empty_channels_last(cupy, (1, 2, 9, 9), "float32", zero=True)
        labels, weights = cupy.zeros((1, 9, 9), np.int64), cupy.ones((1, 9, 9))
        launched = Module.launches
        guard.calls.clear()
        guard.round_trips.clear()
        weighted_cross_entropy(logits, labels, weights, "mean", check=False, **options)
        assert Module.launches - launched == 1
        # Of three that see to the order, that of the logits has nothing to do.
        made = guard.calls - Counter(empty=9, transpose=9, ascontiguousarray=1)
        assert sum(made.values()) <= most
        assert not guard.round_trips


def test_without_weights_every_pixel_counts_one() -> None:
    logits, labels, _ = problem((1, 2, 5, 5), 0)
    ones = np.ones(labels.shape)
    with_ones = weighted_cross_entropy(logits, labels, ones)
    without = weighted_cross_entropy(logits, labels)
    assert with_ones[0] == without[0]
    assert np.array_equal(with_ones[1], without[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_logits(xp: object, dtype: str) -> None:
    logits = xp.asarray(np.array([1e4, -1e4], dtype).reshape(1, 2, 1, 1))
    right, grad_right = weighted_cross_entropy(logits, xp.asarray(np.array([[[0]]])))
    wrong, grad_wrong = weighted_cross_entropy(logits, xp.asarray(np.array([[[1]]])))
    assert (float(right), float(wrong)) == (0.0, 2e4)
    assert grad_right.ravel().tolist() == [0, 0]
    assert grad_wrong.ravel().tolist() == [1, -1]
    assert grad_wrong.dtype == dtype
    assert softmax(logits)[0].ravel().tolist() == [1, 0]


def test_shifting_all_logits_changes_nothing() -> None:
    logits, labels, weights = problem((1, 3, 4, 4), 2)
    a = weighted_cross_entropy(logits, labels, weights)
    b = weighted_cross_entropy(logits + 1000, labels, weights)
    assert np.isclose(a[0], b[0], rtol=1e-10)
    assert np.allclose(a[1].sum(axis=1), 0, atol=1e-12)


def test_finite_differences() -> None:
    logits, labels, weights = problem((2, 3, 4, 5), 1)
    _, grad = weighted_cross_entropy(logits, labels, weights)
    upstream = np.random.default_rng(4).normal(size=logits.shape)
    grad_softmax = softmax_backward(upstream, softmax(logits)[1])
    for seed in range(5):
        energy = directional_error(
            lambda a: float(weighted_cross_entropy(a, labels, weights)[0]), [logits], [grad], seed
        )
        soft = directional_error(
            lambda a: float((softmax(a)[0] * upstream).sum()), [logits], [grad_softmax], seed
        )
        assert max(energy, soft) <= 1e-7


def test_all_pixels_ignored() -> None:
    logits, _, _ = problem((1, 2, 3, 3), 0)
    labels = np.full((1, 3, 3), 255)
    loss, grad = weighted_cross_entropy(logits, labels, reduction="mean", ignore_label=255)
    assert float(loss) == 0
    assert not grad.any()


def test_ignored_pixel_may_have_any_weight() -> None:
    logits, labels, weights = problem((1, 2, 2, 2), 0)
    labels[0, 0, 0], weights[0, 0, 0] = 255, 1e30
    loss, grad = weighted_cross_entropy(logits, labels, weights, ignore_label=255)
    assert float(loss) < 1e3
    assert not grad[0, :, 0, 0].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros((2, 3))}, "logits: got shape (2, 3), expected (B, K, H, W)"),
        ({"labels": np.zeros((1, 2, 2), int)}, "labels: got shape (1, 2, 2), expected (1, 3, 3)"),
        ({"labels": np.zeros((1, 3, 3))}, "labels: got dtype float64, expected integers"),
        (
            {"labels": np.full((1, 3, 3), 255)},
            "labels: got class 255, expected 0 to 1; nearest valid is 1",
        ),
        (
            {"labels": np.full((1, 3, 3), -1)},
            "labels: got class -1, expected 0 to 1; nearest valid is 0",
        ),
        ({"weights": np.zeros((1, 3, 4))}, "weights: got shape (1, 3, 4), expected (1, 3, 3)"),
        (
            {"weights": np.full((1, 3, 3), np.nan)},
            "weights: got a negative or not finite number, expected >= 0",
        ),
        (
            {"weights": np.full((1, 3, 3), -0.5)},
            "weights: got a negative or not finite number, expected >= 0",
        ),
        (
            {"reduction": "average"},
            "reduction: got 'average', expected one of sum, mean; nearest valid is 'mean'",
        ),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    good = {"logits": np.zeros((1, 2, 3, 3)), "labels": np.zeros((1, 3, 3), int)}
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        weighted_cross_entropy(**(good | change))
