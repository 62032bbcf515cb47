"""The convolution: five algorithms, PyTorch, finite differences, adjoints."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import directional_error, leaf, relative_error

from unet_np import InputError, backend
from unet_np.ops import conv, conv2d, conv2d_backward, few_pixels
from unet_np.ops.im2col import im2col

CASES = [
    # batch, C, K, H, W, kh, kw, padding
    (1, 1, 1, 3, 3, 3, 3, 0),
    (2, 3, 5, 9, 6, 3, 3, 0),
    (2, 17, 4, 11, 21, 3, 3, 1),
    (1, 2, 18, 5, 14, 3, 3, 2),
    (2, 3, 4, 7, 10, 3, 3, 3),
    (3, 4, 2, 6, 5, 1, 1, 0),
    (1, 2, 3, 8, 9, 2, 5, 0),
    (1, 2, 3, 8, 9, 5, 2, 1),
    (2, 16, 16, 43, 50, 3, 3, 0),
    (1, 9, 20, 70, 50, 3, 3, 1),
]


def problem(shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    batch, into, out, height, width, kh, kw, padding = shape
    rng = np.random.default_rng(seed)
    sizes = (
        (batch, into, height, width),
        (out, into, kh, kw),
        (out,),
        (batch, out, height + 2 * padding - kh + 1, width + 2 * padding - kw + 1),
    )
    return [rng.normal(size=size) for size in sizes]


ALL = ["naive", "im2col", "few_pixels", "winograd", "winograd_rows"]


def algorithms(kh: int, kw: int, numbers: int, xp: object = np) -> list[str]:
    names = ["im2col", "few_pixels", "auto"]
    if (kh, kw) == (3, 3):
        names += ["winograd", "winograd_rows"]
        names += [] if xp is np else ["winograd_cuda"]
    # The loops visit every output number.
    return [*names, "naive"] if numbers < 500 else names


def check_against_torch(shape: tuple[int, ...], algorithm: str, xp: object) -> None:
    x, w, b, grad = problem(shape)
    padding = shape[-1]
    y, cache = conv2d(*(backend.asarray(a, xp) for a in (x, w, b)), padding, algorithm)
    grads = conv2d_backward(backend.asarray(grad, xp), cache)
    tensors = [leaf(a) for a in (x, w, b)]
    expected = torch.nn.functional.conv2d(*tensors, padding=padding)
    expected.backward(torch.from_numpy(grad))
    assert relative_error(y, expected) <= 1e-10
    for got, tensor in zip(grads, tensors, strict=True):
        assert relative_error(got, tensor.grad) <= 1e-10


@pytest.mark.parametrize("shape", CASES)
def test_agrees_with_torch(shape: tuple[int, ...], xp: object) -> None:
    numbers = problem(shape)[3].size
    for algorithm in algorithms(shape[5], shape[6], numbers, xp):
        check_against_torch(shape, algorithm, xp)


@given(
    batch=st.integers(1, 3),
    into=st.integers(1, 20),
    out=st.integers(1, 20),
    height=st.integers(3, 30),
    width=st.integers(3, 30),
    kernel=st.sampled_from([(3, 3), (3, 3), (1, 1), (2, 3), (3, 1)]),
    padding=st.integers(0, 3),
)
def test_agrees_with_torch_for_any_shape(
    batch: int,
    into: int,
    out: int,
    height: int,
    width: int,
    kernel: tuple[int, int],
    padding: int,
) -> None:
    shape = (batch, into, out, height, width, *kernel, padding)
    for algorithm in algorithms(*kernel, numbers=10**6):
        check_against_torch(shape, algorithm, np)


@pytest.mark.parametrize(
    "algorithm", ["naive", "im2col", "few_pixels", "winograd", "winograd_rows"]
)
def test_agrees_with_finite_differences(algorithm: str) -> None:
    x, w, b, grad = problem((2, 3, 2, 6, 9, 3, 3, 1))

    def energy(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> float:
        return float((conv2d(x, w, b, 1, algorithm)[0] * grad).sum())

    _, cache = conv2d(x, w, b, 1, algorithm)
    grads = conv2d_backward(grad, cache)
    for seed in range(5):
        assert directional_error(energy, [x, w, b], list(grads), seed) <= 1e-7


@pytest.mark.parametrize(
    "algorithm", ["naive", "im2col", "few_pixels", "winograd", "winograd_rows"]
)
def test_input_gradient_is_the_adjoint(algorithm: str) -> None:
    x, w, _, grad = problem((2, 4, 3, 8, 7, 3, 3, 0), seed=3)
    y, cache = conv2d(x, w, np.zeros(3), 0, algorithm)
    grad_x, _, _ = conv2d_backward(grad, cache)
    assert np.isclose((y * grad).sum(), (x * grad_x).sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("algorithm", "limit"),
    [("im2col", 2e-6), ("few_pixels", 2e-6), ("winograd", 2e-5), ("winograd_rows", 1e-5)],
)
def test_float32_rounds_little(algorithm: str, limit: float) -> None:
    """A layer of the network's kind; errors relative to the largest output."""
    shape = (1, 64, 64, 50, 50, 3, 3, 0)
    x, w, b, grad = problem(shape)
    y, cache = conv2d(x, w, b, 0, "im2col")
    expected = (y, *conv2d_backward(grad, cache))
    single = [a.astype("float32") for a in (x, w, b, grad)]
    y, cache = conv2d(*single[:3], 0, algorithm)
    for got, exact in zip((y, *conv2d_backward(single[3], cache)), expected, strict=True):
        assert got.dtype == np.float32
        assert relative_error(got.astype(np.float64), exact) <= limit


@pytest.mark.parametrize("algorithm", ["im2col", "few_pixels", "winograd", "winograd_rows"])
@pytest.mark.parametrize("threads", [1, 3])
def test_thread_count_changes_only_rounding(algorithm: str, threads: int) -> None:
    x, w, b, grad = problem((2, 16, 24, 61, 40, 3, 3, 0))
    y, cache = conv2d(x, w, b, 0, algorithm)
    expected = (y, *conv2d_backward(grad, cache))
    backend.set_thread_count(threads)
    try:
        y, cache = conv2d(x, w, b, 0, algorithm)
        for got, before in zip((y, *conv2d_backward(grad, cache)), expected, strict=True):
            assert relative_error(got, before) <= 1e-13
    finally:
        backend.set_thread_count(None)


@pytest.mark.parametrize("algorithm", ["im2col", "few_pixels", "winograd", "winograd_rows"])
def test_same_call_gives_the_same_bits(algorithm: str) -> None:
    x, w, b, grad = (a.astype("float32") for a in problem((1, 32, 48, 90, 70, 3, 3, 0)))
    first = [conv2d_backward(grad, conv2d(x, w, b, 0, algorithm)[1]) for _ in range(4)]
    for grads in first[1:]:
        for one, other in zip(first[0], grads, strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
def test_channels_are_shared_out(threads: int) -> None:
    with backend.using_threads(threads):
        shares = few_pixels.parts(512, np)
    assert len(shares) == threads
    assert [n for share in shares for n in range(512)[share]] == list(range(512))


@pytest.mark.parametrize(
    ("shares", "threads", "apart"),
    [
        (0.9, 2, False),
        (1, 1, False),
        (1, 2, True),
        (15, 2, True),
        (16, 2, False),
        (1, 8, True),
        (2, 8, False),
    ],
)
def test_which_gradients_are_made_side_by_side(shares: float, threads: int, apart: bool) -> None:
    assert conv._are_apart(shares, threads) is apart


@pytest.mark.parametrize("need_grad_b", [True, False])
def test_gradients_made_side_by_side_are_the_same(need_grad_b: bool) -> None:
    x, w, b, grad = problem((1, 16, 24, 66, 70, 3, 3, 0))
    assert conv._are_apart(conv._work(w.shape, x.shape) / backend.MIN_SHARE, 2)
    cache = conv2d(np.maximum(x, 0), w, b)[1]
    how = {"rectified": True, "need_grad_b": need_grad_b}
    with backend.using_threads(1):
        alone = conv2d_backward(grad, cache, **how)
    with backend.using_threads(2):
        apart = conv2d_backward(grad, cache, **how)
    assert (apart[2] is None) is not need_grad_b
    for one, other in zip(alone, apart, strict=True):
        assert one is other is None or np.array_equal(one, other)


def test_a_failure_beside_the_other_gradient_is_told() -> None:
    x, w, b, grad = problem((1, 16, 24, 66, 70, 3, 3, 0))
    cache = conv2d(x, w, b)[1]
    with backend.using_threads(2), pytest.raises(ValueError, match=r"mismatch|broadcast|reshape"):
        conv2d_backward(grad[:, :-1], cache)
    with backend.using_threads(2):
        assert conv2d_backward(grad, cache)[0].shape == x.shape


@pytest.mark.parametrize(
    ("pixels", "of", "name"),
    [
        (22, "y", "few_pixels"),
        (23, "y", "winograd_rows"),
        (22, "w", "few_pixels"),
        (23, "w", "winograd_rows"),
        (14, "x", "few_pixels"),
        (15, "x", "winograd_rows"),
    ],
)
def test_few_pixels_take_one_product_at_any_width(pixels: int, of: str, name: str) -> None:
    shape = 1, 8, pixels, pixels
    assert conv.choose((8, 8, 3, 3), shape, "auto", np, of) == name


@pytest.mark.parametrize("channels", [2, 64, 128, 384])
@pytest.mark.parametrize("side", [5, 60])
def test_a_batch_of_no_image_has_no_output(channels: int, side: int) -> None:
    x, w, b, _ = problem((1, channels, channels, side, side, 3, 3, 0))
    assert conv2d(x[:0], w, b, rectify=True)[0].shape == (0, channels, side - 2, side - 2)


@pytest.mark.parametrize("channels", [2, 8, 32, 64, 100])
@pytest.mark.parametrize("side", [5, 8, 14, 24, 33, 60])
def test_an_image_gets_the_same_numbers_in_a_batch_as_alone(channels: int, side: int) -> None:
    x, w, b, _ = problem((5, channels, channels, side, side, 3, 3, 0))
    x, w, b = (a.astype("float32") for a in (x, w, b))
    with backend.single_threaded_blas():  # as in a pass through a network
        together = conv2d(x, w, b, rectify=True)[0]
        for part in (slice(0, 1), slice(1, 3), slice(3, 5)):
            assert np.array_equal(together[part], conv2d(x[part], w, b, rectify=True)[0])


def test_memory_order_of_the_arguments_does_not_matter() -> None:
    x, w, b, _ = problem((2, 16, 16, 40, 44, 3, 3, 0))
    expected, _ = conv2d(x, w, b)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    stored = np.ascontiguousarray(w.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    assert relative_error(conv2d(last, stored, b)[0], expected) <= 1e-14
    assert relative_error(conv2d(x[::-1], w, b)[0][::-1], expected) <= 1e-14


def test_without_the_input_gradient() -> None:
    x, w, b, grad = problem((1, 2, 3, 6, 6, 3, 3, 0))
    _, cache = conv2d(x, w, b)
    grad_x, grad_w, _ = conv2d_backward(grad, cache, need_grad_x=False)
    assert grad_x is None
    assert relative_error(grad_w, conv2d_backward(grad, cache)[1]) == 0


def test_without_the_bias_s_gradient() -> None:
    x, w, b, grad = problem((1, 2, 3, 6, 6, 3, 3, 0))
    _, cache = conv2d(x, w, b)
    *some, grad_b = conv2d_backward(grad, cache, need_grad_b=False)
    assert grad_b is None
    for one, other in zip(some, conv2d_backward(grad, cache)[:2], strict=True):
        assert np.array_equal(one, other)


def test_im2col_holds_every_window() -> None:
    pixels = np.random.default_rng(0).normal(size=(6, 7, 2))
    cols = im2col(pixels, 1, 3, (3, 2)).reshape(2, 6, 3, 2, 2)
    for i in range(2):
        for j in range(6):
            assert np.array_equal(cols[i, j], pixels[1 + i : 4 + i, j : j + 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((3, 3))}, "x: got shape (3, 3), expected (B, C, H, W)"),
        ({"w": np.ones((2, 5, 3, 3))}, "w: got shape (2, 5, 3, 3), expected (K, 1, kh, kw)"),
        ({"b": np.ones(3)}, "b: got shape (3,), expected (2,)"),
        (
            {"b": np.ones(2, "float32")},
            "x, w, b: got float64, float64, float32, expected one dtype",
        ),
        ({"padding": -1}, "padding: got -1, expected an integer >= 0"),
        (
            {"x": np.ones((1, 1, 2, 9))},
            "x: got height 2 with padding 0, expected at least the kernel's 3; "
            "nearest valid height is 3",
        ),
        (
            {"algorithm": "fft"},
            "algorithm: got 'fft', expected one of auto, naive, im2col, few_pixels, winograd, "
            "winograd_rows, winograd_cuda",
        ),
        (
            {"w": np.ones((2, 1, 1, 2)), "algorithm": "winograd"},
            "algorithm: got 'winograd' for a 1x2 kernel, expected 3x3",
        ),
        (
            {"algorithm": "winograd_cuda"},
            "algorithm: got 'winograd_cuda' for arrays of NumPy, expected CuPy's; use 'winograd'",
        ),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    good = {"x": np.ones((1, 1, 6, 6)), "w": np.ones((2, 1, 3, 3)), "b": np.ones(2)}
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        conv2d(**(good | change))


def test_arrays_of_two_libraries_are_refused(xp: object) -> None:
    if xp is np:
        return
    x, w, b, grad = problem((1, 1, 1, 4, 4, 3, 3, 0))
    with pytest.raises(TypeError, match="NumPy and CuPy arrays together"):
        conv2d(backend.asarray(x, xp), w, b)
    _, cache = conv2d(*(backend.asarray(a, xp) for a in (x, w, b)))
    with pytest.raises(TypeError, match="NumPy and CuPy arrays together"):
        conv2d_backward(grad, cache)


@pytest.mark.parametrize(
    "algorithm", ["naive", "im2col", "few_pixels", "winograd", "winograd_rows"]
)
@pytest.mark.parametrize("padding", [0, 3])
def test_a_relu_in_the_blocks_is_the_one_beside_them(algorithm: str, padding: int) -> None:
    """Behind the convolution and, on the way back, before it; blocks of unequal height too."""
    shape = (2, 3, 4, 5) if algorithm == "naive" else (20, 24, 187, 90)
    x, w, b, grad = problem((1, *shape, 3, 3, padding))
    x = np.maximum(x, 0)
    y, cache = conv2d(x, w, b, padding, algorithm)
    rectified, _ = conv2d(x, w, b, padding, algorithm, rectify=True)
    assert np.array_equal(rectified, np.maximum(y, 0))
    grad_x, grad_w, _ = conv2d_backward(grad, cache)
    masked, same, _ = conv2d_backward(grad, cache, rectified=True)
    assert np.array_equal(masked, np.where(x > 0, grad_x, 0))
    assert np.array_equal(same, grad_w)


@pytest.mark.parametrize("algorithm", ["im2col", "few_pixels", "winograd", "winograd_rows"])
def test_kernels_of_all_widths_and_layers_from_several_threads(algorithm: str) -> None:
    """What a thread has laid out for one layer does not reach into another.

    A product is a rounding off where BLAS has other threads to itself.
    """
    shapes = [
        (1, 8, 8, 131, 60, 3, 3, 1),
        (1, 12, 8, 90, 77, 3, 3, 0),
        (1, 300, 500, 25, 24, 3, 3, 1),
    ]
    problems = [problem(shape) for shape in shapes]

    def passes(number: int) -> list[np.ndarray]:
        x, w, b, grad = problems[number % len(shapes)]
        y, cache = conv2d(x, w, b, shapes[number % len(shapes)][-1], algorithm)
        return [y, *conv2d_backward(grad, cache)]

    expected = [passes(number) for number in range(len(shapes))]
    with ThreadPoolExecutor(3) as executor:
        for number, got in enumerate(executor.map(passes, range(9))):
            for one, other in zip(got, expected[number % len(shapes)], strict=True):
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())
