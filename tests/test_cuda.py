"""The CUDA kernels without a GPU: compiled for one, and read as C against the plain convolution."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import guard
import numpy as np
import pytest
from cuda_in_c import Module
from hypothesis import given
from hypothesis import strategies as st
from oracles import relative_error

from unet_np import backend, ops
from unet_np.augmentation import warp_cuda
from unet_np.backend import arrays
from unet_np.errors import InputError
from unet_np.ops import (
    activation,
    conv,
    conv2d,
    conv2d_backward,
    fused_cuda,
    im2col,
    loss_cuda,
    winograd_cuda,
)
from unet_np.ops.beyond import norm_cuda
from unet_np.ops.joined import Joined
from unet_np.training import optim

SOURCES = {
    "winograd_cuda": winograd_cuda.SOURCE,
    "fused_cuda": fused_cuda.SOURCE,
    "sums": arrays.SUMS,
    "norm_cuda": norm_cuda.SOURCE,
    "optim": optim.SOURCE,
    "loss_cuda": loss_cuda.SOURCE,
    "dropout": activation.DROPOUT_SOURCE,
    "warp_cuda": warp_cuda.SOURCE,
    "uniform": backend.HashGenerator.SOURCE,
}
REGISTERS = 64
"""Of a thread, with which a multiprocessor has half of all the threads that it can have."""


on_a_gpu = pytest.mark.parametrize("xp", ["guard", "cupy"], indirect=True)


def with_nvcc(source: Path, options: list[str]) -> str:
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc")
    command = ["nvcc", "-cubin", "-Xptxas", "-v", *options, "-o", source.with_suffix(".cubin")]
    done = subprocess.run([*command, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def with_nvrtc(source: Path, options: list[str]) -> str:
    """By the library that CuPy has its kernels compiled with."""
    names = [f"nvidia.{name}" for name in ("cuda_nvrtc", "cu13")]
    found = [spec for name in names if (spec := _spec(name))]
    folders = [Path(place) for spec in found for place in spec.submodule_search_locations or []]
    libraries = [path for folder in folders for path in folder.glob("lib/libnvrtc.so.*")]
    if not libraries:
        pytest.skip("no NVRTC: neither nvidia-cuda-nvrtc-cu12 nor nvidia-cuda-nvrtc is installed")
    nvrtc, program = ctypes.CDLL(str(libraries[0])), ctypes.c_void_p()
    code, size = source.read_bytes(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, b"kernels", 0, None, None) == 0
    given = [option.encode() for option in ["--ptxas-options=-v", *options]]
    failed = nvrtc.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    return log.value.decode()


def _spec(name: str) -> object:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None


@pytest.mark.parametrize("compile_for_gpu", [with_nvcc, with_nvrtc])
@pytest.mark.parametrize("name", SOURCES)
def test_kernels_stay_in_registers(compile_for_gpu, name, tmp_path) -> None:
    """None of a thread's numbers goes to memory and back; for the H100's architecture."""
    source = tmp_path / "kernels.cu"
    source.write_text(f'extern "C" {{\n{SOURCES[name]}}}\n')
    said = compile_for_gpu(source, ["-arch=sm_90", "-DREAL=float"])
    kernels = re.findall(r"__global__ void (\w+)", SOURCES[name])
    used = [int(number) for number in re.findall(r"Used (\d+) registers", said)]
    assert len(used) == len(kernels)
    assert max(used) <= REGISTERS
    assert set(re.findall(r"(\d+) bytes spill", said)) == {"0"}


def problem(shape: tuple[int, ...], xp: ModuleType, dtype: str) -> tuple[list, list]:
    """The three results in float64 by im2col, and what the kernels make of rounded numbers."""
    batch, into, out, height, width, padding = shape
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s) for s in ((batch, into, height, width), (out, into, 3, 3), out))
    y = im2col.forward(x, w, b, padding)
    grad = rng.normal(size=y.shape)
    exact = [
        y,
        im2col.input_gradient(grad, w, x.shape, padding),
        im2col.weight_gradient(grad, x, w.shape, padding),
    ]
    x_, w_, b_, grad_ = (backend.asarray(array, xp, dtype) for array in (x, w, b, grad))
    return exact, [
        winograd_cuda.forward(x_, w_, b_, padding),
        winograd_cuda.input_gradient(grad_, w_, x.shape, padding),
        winograd_cuda.weight_gradient(grad_, x_, w.shape, padding),
    ]


@given(
    batch=st.integers(1, 3),
    into=st.integers(1, 40),
    out=st.integers(1, 40),
    height=st.integers(3, 40),
    width=st.integers(3, 40),
    padding=st.integers(0, 3),
    room=st.sampled_from([1, 10**5, winograd_cuda.ROOM]),
)
def test_kernels_agree_for_any_shape(batch, into, out, height, width, padding, room) -> None:
    """Also where memory has room for one tile at a time."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in guard.modules().items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(winograd_cuda, "ROOM", room)
        shape = batch, into, out, height, width, padding
        exact, found = problem(shape, backend.get("cupy"), "float64")
        for got, expected in zip(found, exact, strict=True):
            assert relative_error(got, expected) <= 1e-12


@given(
    batch=st.integers(1, 3),
    first=st.integers(1, 20),
    more=st.integers(1, 20),
    out=st.integers(1, 20),
    size=st.tuples(st.integers(3, 20), st.integers(3, 20)),
    margins=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    padding=st.integers(0, 2),
    room=st.sampled_from([1, winograd_cuda.ROOM]),
)
def test_two_maps_are_read_as_one_for_any_shape(
    batch, first, more, out, size, margins, padding, room
) -> None:
    """To the last bit what the convolution makes of the joined map, and its three gradients."""
    rng = np.random.default_rng(0)
    whole = tuple(side + margin for side, margin in zip(size, margins, strict=True))
    shapes = (batch, first, *whole), (batch, more, *size), (out, first + more, 3, 3), (out,)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in guard.modules().items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(winograd_cuda, "ROOM", room)
        xp = backend.get("cupy")
        skip, up, w, b = (xp.asarray(rng.normal(size=shape)) for shape in shapes)
        made, _ = ops.crop_concat(skip, up)
        expected, cache = conv2d(made, w, b, padding)
        y, cache_of_both = conv2d(Joined(skip, up), w, b, padding)
        grad = xp.asarray(rng.normal(size=y.shape))
        (grad_skip, grad_up), *grads = conv2d_backward(grad, cache_of_both)
        grad_made, *right = conv2d_backward(grad, cache)
        cropped = made[:, :first].shape, first
        right += [*ops.crop_concat_backward(grad_made, cropped), expected]
        for got, exact in zip([*grads, grad_skip, grad_up, y], right, strict=True):
            assert np.array_equal(backend.to_numpy(got), backend.to_numpy(exact))


@on_a_gpu
def test_two_maps_are_joined_for_whatever_does_not_read_both(xp) -> None:
    rng = np.random.default_rng(0)
    shapes = (2, 3, 9, 10), (2, 4, 7, 7), (5, 7, 3, 3), (5,)
    skip, up, w, b = (xp.asarray(rng.normal(size=shape)) for shape in shapes)
    both, (made, _) = Joined(skip, up), ops.crop_concat(skip, up)
    for name in ("im2col", "winograd_cuda"):
        (y, cache), (expected, same) = (conv2d(x, w, b, 1, name) for x in (both, made))
        assert relative_error(y, backend.to_numpy(expected)) <= 1e-14
        found, right = (conv2d_backward(y, kept, rectified=True) for kept in (cache, same))
        for got, exact in zip(found, right, strict=True):
            assert relative_error(got, backend.to_numpy(exact)) <= 1e-14


@pytest.mark.parametrize("xp", ["numpy", "guard"], indirect=True)
@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        ((1, 2, 8, 8), "float64", "got a batch of 1, expected 2 as in up"),
        ((2, 2, 8, 8), "float32", "got float32, expected float64 as in up"),
        ((2, 2, 8, 6), "float64", "got 8 x 6 pixels, expected at least 7 x 7"),
    ],
)
def test_maps_that_cannot_be_joined_are_not_read(xp, shape, dtype, error) -> None:
    skip, up = xp.ones(shape, dtype), xp.ones((2, 3, 7, 7))
    with pytest.raises(InputError, match=rf"^skip: {error}"):
        conv2d(Joined(skip, up), xp.ones((4, 5, 3, 3)), xp.ones(4))


@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 9),
    more=st.integers(1, 9),
    height=st.integers(2, 12),
    width=st.integers(2, 12),
    margins=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_what_stands_between_is_numpys_for_any_shape(
    batch, channels, more, height, width, margins
) -> None:
    """Ties, odd edges and odd margins too; where nothing is added up, to the last bit."""
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (batch, channels, height, width)).astype(float)
    rows, columns = (
        max(1, size - margin) for size, margin in zip((height, width), margins, strict=True)
    )
    up = rng.normal(size=(batch, more, rows, columns))
    w, b = rng.normal(size=(channels, more, 2, 2)), rng.normal(size=more)
    pooled = rng.normal(size=(batch, channels, height // 2, width // 2))
    joined = rng.normal(size=(batch, channels + more, rows, columns))
    squares = rng.normal(size=(batch, more, 2 * height, 2 * width))

    def results(xp: ModuleType) -> list[tuple[float, np.ndarray]]:
        x_, up_, w_, b_, pooled_, joined_, squares_ = (
            backend.asarray(one, xp) for one in (x, up, w, b, pooled, joined, squares)
        )
        y, windows = ops.max_pool2d(x_)
        together, shapes = ops.crop_concat(x_, up_)
        larger, inputs = ops.conv_transpose2d(x_, w_, b_)
        exact = [
            y,
            ops.max_pool2d_backward(pooled_, windows),
            ops.relu_backward(x_ + 1, x_),
            together,
            *ops.crop_concat_backward(joined_, shapes),
        ]
        rounded = [larger, *ops.conv_transpose2d_backward(squares_, inputs)]
        kinds = [0.0] * len(exact) + [1e-13] * len(rounded)
        return list(zip(kinds, map(backend.to_numpy, exact + rounded), strict=True))

    with pytest.MonkeyPatch.context() as patch:
        for name, module in guard.modules().items():
            patch.setitem(sys.modules, name, module)
        found, expected = results(backend.get("cupy")), results(np)
    for (bound, got), (_, right) in zip(found, expected, strict=True):
        assert got.shape == right.shape
        assert abs(got - right).max() <= bound * max(1, abs(right).max())


@on_a_gpu
def test_sums_of_many_rows_are_taken_in_rounds(xp) -> None:
    pixels = np.random.default_rng(0).random((2, 3, 150, 141), np.float32)
    found = backend.to_numpy(backend.channel_sums(backend.asarray(pixels, xp)))
    np.testing.assert_allclose(found, pixels.sum(axis=(0, 2, 3), dtype=np.float64), rtol=1e-6)
    twice = backend.asarray(2.0 + 0 * pixels, xp, "float64")  # another dtype than the sums'
    doubled = backend.to_numpy(backend.channel_sums(backend.asarray(pixels, xp), times=twice))
    np.testing.assert_allclose(doubled, 2 * found, rtol=1e-6)


@on_a_gpu
def test_gradients_of_another_shape_or_dtype_are_not_read_past_their_end(xp) -> None:
    x = xp.ones((1, 2, 4, 4), "float32")
    w, b = xp.ones((2, 3, 2, 2), "float32"), xp.zeros(3, "float32")
    pooled, larger = ops.max_pool2d(x)[1], ops.conv_transpose2d(x, w, b)[1]
    for backward, cache, shape in (
        (ops.relu_backward, x, (1, 2, 4, 4)),
        (ops.max_pool2d_backward, pooled, (1, 2, 2, 2)),
        (ops.conv_transpose2d_backward, larger, (1, 3, 8, 8)),
    ):
        with pytest.raises(ValueError, match=r"shape|broadcast"):
            backward(xp.ones((*shape[:3], shape[3] + 1), "float32"), cache)
        if backward is ops.conv_transpose2d_backward:  # as many numbers, in another shape
            with pytest.raises(ValueError, match=r"shape|broadcast"):
                backward(xp.ones((*shape[:2], 4 * shape[2], shape[3] // 4), "float32"), cache)
        plain = backward(xp.ones(shape, "float32"), cache)
        other = backward(xp.ones(shape, "float64"), cache)
        one, two = (r[0] if isinstance(r, tuple) else r for r in (plain, other))
        assert np.array_equal(backend.to_numpy(one), backend.to_numpy(two))


@on_a_gpu
def test_what_is_no_number_stays_none(xp) -> None:
    x = np.full((1, 1, 2, 6), -1.0)
    x[0, 0, 0, 1] = x[0, 0, 1, 2] = x[0, 0, 0, 4] = np.nan
    pooled = backend.to_numpy(ops.max_pool2d(backend.asarray(x, xp))[0])
    assert np.isnan(pooled).all()


@on_a_gpu
@pytest.mark.parametrize("shape", [(1, 64, 64, 62, 62, 0), (2, 32, 96, 33, 47, 1)])
def test_kernels_round_little(shape, xp) -> None:
    exact, found = problem(shape, xp, "float32")
    for got, expected in zip(found, exact, strict=True):
        assert got.dtype == np.float32
        assert relative_error(got, expected) <= 2e-5


@on_a_gpu
def test_sum_over_tiles_is_cut_for_all_multiprocessors(xp, monkeypatch) -> None:
    """Few channels and many tiles are many small products, whose sums are added in order."""
    counts = []
    real = backend.products_within

    def note(memory, count, *rest, **options):
        counts.append(count)
        real(memory, count, *rest, **options)

    monkeypatch.setattr(winograd_cuda, "products_within", note)
    exact, found = problem((1, 8, 8, 140, 140, 0), xp, "float64")
    assert counts[-1] == 36 * 19  # 1225 tiles, 64 to a part
    assert relative_error(found[2], exact[2]) <= 1e-12


@on_a_gpu
def test_pieces_follow_the_memory_that_they_may_have(xp, monkeypatch) -> None:
    """Also where the same maps were whole before; the last piece is smaller than the others."""
    counts: list[int] = []

    def note(memory, count, sizes, *rest, **options):
        counts.append(sizes[0])
        backend.products_within(memory, count, sizes, *rest, **options)

    monkeypatch.setattr(winograd_cuda, "products_within", note)
    rng = np.random.default_rng(0)
    x, w, b = (xp.asarray(rng.normal(size=s)) for s in ((1, 8, 30, 30), (4, 8, 3, 3), 4))
    whole = backend.to_numpy(winograd_cuda.forward(x, w, b, 0))
    kernels = 36 * 8 * 4
    monkeypatch.setattr(winograd_cuda, "ROOM", 36 * 12 * 20 + kernels)
    pieces = backend.to_numpy(winograd_cuda.forward(x, w, b, 0))
    assert counts == [49, 17, 17, 15]  # 7 x 7 tiles
    np.testing.assert_allclose(pieces, whole, atol=1e-12)


@on_a_gpu
def test_relu_in_the_kernel_is_that_of_its_own(xp) -> None:
    rng = np.random.default_rng(0)
    x, w, b = (xp.asarray(rng.normal(size=s)) for s in ((1, 9, 11, 8), (10, 9, 3, 3), 10))
    y, rectified = (winograd_cuda.forward(x, w, b, 1, relu=relu) for relu in (False, True))
    assert np.array_equal(backend.to_numpy(rectified), np.maximum(backend.to_numpy(y), 0))


@pytest.mark.parametrize("xp", ["guard"], indirect=True)
def test_automatic_choice_launches_the_kernels(xp) -> None:
    def launches(into: int, out: int) -> int:
        x, w = xp.ones((1, into, 9, 9)), xp.ones((out, into, 3, 3))
        before = Module.launches
        y, cache = conv2d(x, w, xp.ones(out))
        conv2d_backward(y, cache)
        return Module.launches - before

    bias = 1  # its gradient's sum
    assert launches(8, 8) == 6 + bias
    assert launches(1, 64) == 6 + bias


@on_a_gpu
def test_numbers_may_be_numpys(xp) -> None:
    """Their bytes are not those that a kernel wants."""
    x, w, b = (
        xp.asarray(np.random.default_rng(0).random(s)) for s in ((1, 2, 9, 8), (3, 2, 3, 3), 3)
    )
    expected, got = (conv2d(x, w, b, padding)[0] for padding in (1, np.int64(1)))
    assert np.array_equal(backend.to_numpy(got), backend.to_numpy(expected))
    dropped, kept = (
        backend.to_numpy(ops.dropout(x, p, backend.default_rng(xp, (0,)))[0])
        for p in (0.5, np.float32(0.5))
    )
    assert np.array_equal(dropped, kept)


@on_a_gpu
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_relu_s_gradient_in_the_kernel_is_that_of_its_own(xp, padding) -> None:
    rng = np.random.default_rng(0)
    x, w = (xp.asarray(rng.normal(size=size)) for size in ((2, 8, 11, 9), (10, 8, 3, 3)))
    x = xp.maximum(x, 0)
    y, cache = conv2d(x, w, xp.zeros(10), padding, "winograd_cuda")
    plain = conv2d_backward(y, cache)[0]
    masked = conv2d_backward(y, cache, rectified=True)[0]
    assert np.array_equal(backend.to_numpy(masked), backend.to_numpy(plain * (x > 0)))


@pytest.mark.parametrize("xp", ["guard"], indirect=True)
@pytest.mark.parametrize("algorithm", ["im2col", "winograd_cuda"])
def test_either_way_may_be_the_automatic_one(xp, algorithm, monkeypatch) -> None:
    """The one switch, and what the ReLU in it depends on."""
    monkeypatch.setattr(conv, "ON_GPU", algorithm)
    rng = np.random.default_rng(0)
    sizes = (1, 8, 9, 9), (8, 8, 3, 3), (8,)
    arrays = [rng.normal(size=size) for size in sizes]
    for rectify in (False, True):
        y, cache = conv2d(*(xp.asarray(array) for array in arrays), rectify=rectify)
        expected, same = conv2d(*arrays, rectify=rectify)
        assert relative_error(y, expected) <= 1e-12
        found = conv2d_backward(y, cache, rectified=rectify)
        for got, exact in zip(
            found, conv2d_backward(expected, same, rectified=rectify), strict=True
        ):
            assert relative_error(got, exact) <= 1e-12
