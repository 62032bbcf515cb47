"""One backend file: choosing a library, moving arrays, randomness, threads, memory."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import guard
import numpy as np
import pytest
from cuda_in_c import Module
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet_np import InputError, MissingExtraError, backend


def test_get_follows_argument_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNET_NP_BACKEND", "numpy")
    assert backend.get() is backend.get("auto") is backend.get("numpy") is np
    monkeypatch.setenv("UNET_NP_BACKEND", "gpu")
    with pytest.raises(InputError, match=r"^UNET_NP_BACKEND: got 'gpu', expected one of numpy"):
        backend.get()
    with pytest.raises(InputError, match=r"^backend: got 'torch', expected one of numpy, cupy"):
        backend.get("torch")


def test_get_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delenv("UNET_NP_BACKEND", raising=False)
    assert backend.get("auto") is np
    with pytest.raises(MissingExtraError, match=r"^cupy: not installed, .*cuda12"):
        backend.get("cupy")


def test_get_with_cupy_but_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise RuntimeError("no driver")

    runtime = SimpleNamespace(getDeviceCount=fail)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    monkeypatch.delenv("UNET_NP_BACKEND", raising=False)
    assert backend.get("auto") is np
    with pytest.raises(InputError, match=r"^backend: got 'cupy', expected a CUDA device"):
        backend.get("cupy")


def test_arrays_go_there_and_back(xp: object) -> None:
    array = np.arange(6.0).reshape(2, 3)
    device = backend.asarray(array, xp, "float32")
    assert backend.array_module(device) is xp
    assert device.dtype == np.float32
    assert np.array_equal(backend.to_numpy(device), array)
    assert np.array_equal(backend.asarray(device, np), array)


def test_mixing_is_refused(xp: object) -> None:
    if xp is np:
        return
    device, host = xp.ones(3), np.ones(3)
    with pytest.raises(TypeError, match="NumPy and CuPy arrays together"):
        backend.array_module(device, host)
    with pytest.raises(TypeError):
        np.asarray(device)
    with pytest.raises(TypeError):
        device + host
    with pytest.raises(TypeError):
        xp.add(device, host)


def test_guard_counts_what_the_host_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    xp = backend.get("cupy")
    guard.round_trips.clear()
    x = xp.ones((2, 2)) * 3
    assert not guard.round_trips
    assert float(x.sum()) == 12
    assert x.max() == 3
    assert guard.round_trips == {"float": 1, "bool": 1}


def test_tf32_reaches_products_of_two_matrices_and_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for allowed, kind, mode in ((True, 7, 3), (False, 1, 0)):
        backend.allow_tf32(allowed, backend.get("cupy"))
        assert vars(guard.products) == {"kind": kind, "mode": mode}


def test_random_numbers_come_from_the_key_alone(xp: object) -> None:
    draw = lambda key: backend.to_numpy(backend.default_rng(xp, key).random(5))  # noqa: E731
    assert np.array_equal(draw((1, 2, 3)), draw((1, 2, 3)))
    assert not np.array_equal(draw((1, 2, 3)), draw((1, 2, 4)))


def test_thread_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNET_NP_THREADS", "3")
    backend.set_thread_count(None)
    assert backend.thread_count() == 3
    monkeypatch.setenv("UNET_NP_THREADS", "many")
    backend.set_thread_count(None)
    with pytest.raises(InputError, match=r"^UNET_NP_THREADS: got 'many', expected an integer"):
        backend.thread_count()
    monkeypatch.delenv("UNET_NP_THREADS")
    backend.set_thread_count(None)
    assert backend.thread_count() >= 1
    with pytest.raises(InputError, match=r"^threads: got 0, expected an integer >= 1$"):
        backend.set_thread_count(0)


def test_parallel_map_keeps_order_and_uses_threads() -> None:
    backend.set_thread_count(2)
    try:
        barrier = threading.Barrier(2, timeout=20)

        def call(item: int) -> tuple[int, int]:
            barrier.wait()  # passes only if two threads are here at once
            return item, threading.get_ident()

        results = backend.parallel_map(call, range(4))
        assert [item for item, _ in results] == [0, 1, 2, 3]
        assert len({thread for _, thread in results}) == 2
    finally:
        backend.set_thread_count(None)


def test_parallel_map_passes_errors_on() -> None:
    def fail(item: int) -> int:
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        backend.parallel_map(fail, range(3))


def test_nested_parallel_map_does_not_wait_for_itself() -> None:
    inner = lambda n: sum(backend.parallel_map(abs, range(n)))  # noqa: E731
    assert backend.parallel_map(inner, [3, 4, 5, 6]) == [3, 6, 10, 15]


@given(st.integers(1, 3), st.integers(1, 300), st.integers(1, 60), st.sampled_from([1, 2]))
def test_row_blocks_cover_everything_once(batch: int, rows: int, columns: int, factor: int) -> None:
    large = np.zeros((batch, 2, factor * rows, columns))
    small = np.zeros((batch, 1, rows, 1))

    def call(large: np.ndarray, small: np.ndarray) -> None:
        assert large.shape[0] == factor * small.shape[0]
        large += 1
        small += 1

    backend.for_row_blocks(call, large, small)
    assert (large == 1).all()
    assert (small == 1).all()


def test_an_array_that_is_given_twice_comes_as_one_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy copies an input that overlaps an output, unless the two are one object."""
    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    xp = backend.get("cupy")
    x = backend.empty_channels_last(xp, (2, 3, 4, 5), "float32", zero=True)

    def call(one: guard.GuardArray, same: guard.GuardArray, other: guard.GuardArray) -> None:
        assert one is same
        assert one is not other
        assert one.shape == (4, 5, 3)
        assert one.flags.c_contiguous

    backend.for_row_blocks(call, x, x[:], xp.empty_like(x))


def test_a_gpu_that_computes_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("libnvrtc.so.12: cannot open\nand more")

    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["cupy"], "ones", fail)
    monkeypatch.delenv("UNET_NP_BACKEND", raising=False)
    said = r"^backend: NumPy and not CuPy, which fails: RuntimeError: libnvrtc.so.12: cannot open; "
    with pytest.warns(UserWarning, match=said):
        assert backend.get("auto") is np
    with pytest.raises(InputError, match=r"^backend: got 'cupy', which fails \(RuntimeError: lib"):
        backend.get("cupy")


def test_numbers_of_a_gpu_depend_on_key_and_place_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def reference(place: int) -> float:
        bits = place
        for key in np.random.SeedSequence((1, 2, 3)).generate_state(2, np.uint32):
            bits ^= int(key)
            for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
                bits = (bits ^ bits >> shift) * factor % 2**32
            bits ^= bits >> 16
        return (bits >> 8) / 2**24

    for name, module in guard.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    rng = backend.default_rng(backend.get("cupy"), (1, 2, 3))
    drawn = [backend.to_numpy(rng.random(shape, dtype=np.float32)) for shape in ((2, 3), 4)]
    assert np.concatenate([drawn[0].ravel(), drawn[1]]).tolist() == [*map(reference, range(10))]


@given(
    st.lists(hnp.array_shapes(max_side=7), min_size=1, max_size=3),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 2**40),
    st.sampled_from([0, 2**31 - 5]),
)
def test_a_gpu_draws_the_numbers_of_the_host_by_one_kernel(shapes, dtype, seed, drawn) -> None:
    sequence = np.random.SeedSequence((seed, 1))
    with guard.device() as cupy:
        on_host, on_device = (backend.HashGenerator(xp, sequence) for xp in (np, cupy))
        on_host.drawn = on_device.drawn = drawn
        for shape in shapes:
            launched = Module.launches
            guard.calls.clear()
            got, expected = (rng.random(shape, dtype) for rng in (on_device, on_host))
            assert (Module.launches - launched, dict(guard.calls)) == (1, {"empty": 1})
            assert got.dtype == expected.dtype == dtype
            assert np.array_equal(backend.to_numpy(got), expected)


def test_a_gpu_draws_no_numbers_where_none_are_asked_for(xp: object) -> None:
    """CUDA refuses a kernel of no threads."""
    empty = backend.default_rng(xp, (0,)).random((2, 0), dtype=np.float32)
    assert (empty.shape, empty.dtype) == ((2, 0), np.float32)


def test_numbers_of_a_gpu_are_uniform_and_independent() -> None:
    kept = []
    for step in range(4):
        numbers = backend.HashGenerator(np, np.random.SeedSequence((0, 1, step))).random(2**16)
        counts = np.histogram(numbers, 64, (0, 1))[0]
        assert ((counts - 1024) ** 2 / 1024).sum() < 120  # of 63 degrees of freedom: 1e-5
        kept.append(numbers - 0.5)
    lagged = [(kept[0][:-lag] * kept[0][lag:]).mean() for lag in (1, 2, 64, 1024)]
    between = [(kept[0] * other).mean() for other in kept[1:]]
    assert max(map(abs, lagged + between)) < 5 / 12 / 2**8  # five standard deviations


def test_a_gpu_gets_all_work_at_once(xp: object) -> None:
    with backend.using_threads(3):
        assert backend.thread_count(xp) == (3 if xp is np else 1)


@pytest.mark.parametrize("rows", [1, 79, 81, 325, 326, 651, 2000])
@pytest.mark.parametrize(("common", "columns"), [(3, 2), (96, 32), (32, 96), (200, 200)])
def test_products_in_pieces_are_whole(xp: object, rows: int, common: int, columns: int) -> None:
    rng = backend.default_rng(xp, (0,))
    a, b = rng.random((2, rows, common)), rng.random((2, common, columns))
    out = xp.full((2, columns, rows), xp.nan).swapaxes(1, 2)
    backend.product(a, b, out)
    assert xp.allclose(out, a @ b, rtol=1e-13)
    sums = xp.full((2, common, columns), xp.nan)
    backend.sum_of_products(a, out, sums)
    assert xp.allclose(sums, a.swapaxes(1, 2) @ out, rtol=1e-13)


def test_a_product_is_cut_where_its_pieces_are_small_and_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    matmul = np.matmul
    monkeypatch.setattr(
        np, "matmul", lambda a, b, out: (asked.append(a.shape[0]), matmul(a, b, out=out))
    )
    for rows, common, columns in [(325, 96, 32), (374, 96, 32), (374, 192, 32), (600, 128, 128)]:
        backend.product(
            *map(np.ones, [(rows, common), (common, columns)]), np.ones((rows, columns))
        )
    assert asked == [325, 187, 187, 125, 125, 124, 600]


def test_scratch_is_one_for_each_thread_and_name() -> None:
    a = backend.scratch(np, "a", (10,), "float32")
    assert np.shares_memory(a, backend.scratch(np, "a", (2, 3), "float32"))
    assert not np.shares_memory(a, backend.scratch(np, "b", (10,), "float32"))
    others: list[np.ndarray] = []
    thread = threading.Thread(
        target=lambda: others.append(backend.scratch(np, "a", (10,), "float32"))
    )
    thread.start()
    thread.join()
    assert not np.shares_memory(a, others[0])


def test_a_kernel_is_not_asked_for_more_than_it_can_count() -> None:
    words = r"^uniform: got 2147483648 numbers, expected at most 2147483647 on a GPU$"
    with guard.device() as xp, pytest.raises(InputError, match=words):
        backend.run_kernel(backend.HashGenerator.SOURCE, "uniform", 2**31, (xp.zeros(1),), 1)


def test_scratch_of_a_gpu_is_one_for_each_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one stream has not read yet, another one must not overwrite."""
    with guard.device() as xp:

        def place(shape: tuple[int, ...] = (10,)) -> int:
            return backend.scratch(xp, "streams", shape, "float32").data.ptr

        first = place()
        assert place((2, 5)) == first
        monkeypatch.setattr(guard.stream, "ptr", 7)
        assert place() != first
        monkeypatch.setattr(guard.stream, "ptr", 0)
        assert place() == first
        monkeypatch.setattr(xp.cuda.runtime, "getDevice", lambda: 1)
        assert place() != first
        assert place((11,)) == place()  # the larger one from then on


def test_channels_last_memory(xp: object) -> None:
    x = backend.empty_channels_last(xp, (2, 3, 4, 5), "float64", zero=True)
    assert x.shape == (2, 3, 4, 5)
    assert backend.as_channels_last(x).shape == (2, 4, 5, 3)
    assert float(x.sum()) == 0
    sums = backend.channel_sums(xp.ones((2, 3, 4, 5)))
    assert backend.to_numpy(sums).tolist() == [40, 40, 40]
