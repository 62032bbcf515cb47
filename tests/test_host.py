"""Threads, forks and interrupts: nothing hangs, nothing is left behind, results stay the same."""

from __future__ import annotations

import _thread
import faulthandler
import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import ThreadpoolController

from unet_np import InputError, UNet, backend, data
from unet_np.backend import host
from unet_np.ops import weighted_cross_entropy
from unet_np.tiling import predict_tiled
from unet_np.training.loop import TrainConfig, train
from unet_np.training.prefetch import prefetch

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")


def blas_threads() -> list[int]:
    libraries = ThreadpoolController().info()
    return [entry["num_threads"] for entry in libraries if entry["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Also where the machine, or what started the tests, allows BLAS a single one."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        backend.set_thread_count(2)
        faulthandler.dump_traceback_later(900, exit=True)
        yield
        faulthandler.cancel_dump_traceback_later()
        backend.set_thread_count(None)
        assert set(blas_threads()) == {2}
        assert not host._blas.asked


def small_net(seed: int = 0) -> UNet:
    return UNet(base_channels=4, depth=1, dropout=0, seed=seed, backend="numpy")


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 1, 64, 64)).astype("float32")


def in_threads(*functions: Callable[[], object]) -> list[object]:
    """What each gives or raises, all having begun at once."""
    results: list[object] = [None] * len(functions)
    barrier = threading.Barrier(len(functions))

    def call(number: int) -> None:
        barrier.wait()
        try:
            results[number] = functions[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=call, args=(n,)) for n in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def script(text: str, quiet: bool = True) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"UNET_NP_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" or not quiet
    return done.stdout.strip()


# Memory


def held(pool: host.Pool) -> list[int]:
    return sorted(region.size for region in pool.regions)


def test_freed_memory_is_used_again_in_parts_and_together() -> None:
    pool = host.Pool()
    large, small = pool.take(1024), pool.take(512)
    first, second = large.ctypes.data, small.ctypes.data
    del large, small
    again = pool.take(512)
    assert again.ctypes.data == second  # the smallest gap that is large enough
    parts = [pool.take(256), pool.take(320)]
    assert [part.ctypes.data for part in parts] == [first, first + 256]
    del parts[0]
    assert pool.take(200).ctypes.data == first
    parts.clear()
    assert pool.take(1000).ctypes.data == first
    assert held(pool) == [512, 1024]


def test_what_nobody_uses_is_given_back_before_the_pool_grows() -> None:
    pool = host.Pool()
    two = [pool.take(1024), pool.take(512)]
    two.clear()
    first = pool.take(1536)
    assert held(pool) == [1536]  # as much as was in use at the worst
    assert pool.most == first.size == 1536


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 100)), max_size=60))
def test_arrays_in_use_never_overlap_and_growth_gives_back_what_it_can(
    actions: list[tuple[bool, int]],
) -> None:
    pool = host.Pool()
    live: list[np.ndarray] = []
    worst = 0
    for take, number in actions:
        before = len(pool.regions), held(pool)
        if take or not live:
            live.append(pool.take(number * 1000))
            assert live[-1].size >= number * 1000
            live[-1][:] = len(live) % 251
        else:
            live.pop(number % len(live))
        worst = max(worst, sum(part.size for part in live))
        assert pool.most == worst
        if (len(pool.regions), held(pool)) != before:
            assert sum(held(pool)) <= worst or all(region.slices for region in pool.regions)
        ends = sorted((part.ctypes.data, part.ctypes.data + part.size) for part in live)
        assert all(end <= start for (_, end), (start, _) in pairwise(ends))


VIEWS: list[Callable[[np.ndarray], object]] = [
    lambda a: a,
    lambda a: a[10:20],
    lambda a: a.T[3:, ::2],
    lambda a: a.reshape(300, 1200)[:, None],
    lambda a: a.view("uint8"),
    lambda a: np.lib.stride_tricks.as_strided(a, (5, 5), (4, 4)),
    lambda a: np.broadcast_to(a[0], (9, 600)),
    lambda a: memoryview(a),
    lambda a: np.frombuffer(a.data.cast("B"), "float32"),
    lambda a: a.view(np.matrix),
    lambda a: torch.from_numpy(a)[1],
    lambda a: iter(a),
    lambda a: a.flat,
    lambda a: a.__array_interface__ and a.ctypes,
]


@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_memory_is_in_use_while_anything_refers_to_it(number: int) -> None:
    array = backend.empty(np, (600, 600), "float32")
    address = array.ctypes.data
    view = VIEWS[number](array)
    del array
    others = [backend.empty(np, (600, 600), "float32") for _ in range(4)]
    assert address not in {other.ctypes.data for other in others}
    del view, others
    gc.collect()
    # Other tests may have left gaps, some of which are taken first.
    again = []
    while not again or not 0 <= address - again[-1].ctypes.data < again[-1].nbytes:
        again.append(backend.empty(np, (600, 600), "float32"))
        assert len(again) < 500


def test_threads_never_share_memory_of_the_pool() -> None:
    def work(seed: int) -> bool:
        chance = random.Random(seed)
        live: list[np.ndarray] = []
        for step in range(400):
            live.append(backend.empty(np, (chance.randint(256, 300), 1024), "float32"))
            live[-1][::64] = 1000 * seed + step
            if len(live) > chance.randint(1, 5):
                gone = live.pop(chance.randrange(len(live)))
                if gone[0, 0] != gone[-1 - (len(gone) - 1) % 64, 5]:
                    return False
        return all((array[::64] == array[0, 0]).all() for array in live)

    assert in_threads(*(partial(work, seed) for seed in range(4))) == [True] * 4


# How many threads


@pytest.mark.parametrize(
    ("shares", "threads", "worth"), [(0, 1, 1), (0, 4, 1), (1.9, 4, 1), (2, 4, 2), (9, 4, 4)]
)
def test_as_many_threads_as_the_work_is_worth(shares: float, threads: int, worth: int) -> None:
    with backend.using_threads(threads):
        with backend.sharing(shares * backend.MIN_SHARE):
            assert backend.sharing_threads() == worth
            assert backend.thread_count() == threads
            with backend.sharing(99 * backend.MIN_SHARE):
                assert backend.sharing_threads() == worth
        assert backend.sharing_threads() == threads


def test_a_number_of_threads_for_this_thread_alone() -> None:
    with backend.using_threads(3):
        assert backend.thread_count() == 3
        with backend.using_threads(1):
            assert backend.thread_count() == 1
        assert in_threads(backend.thread_count) == [2]
        assert backend.thread_count() == 3
    assert backend.thread_count() == 2
    with pytest.raises(InputError, match=r"^threads: got 0, expected an integer >= 1$"):
        backend.using_threads(0).__enter__()


def test_work_in_the_background_has_the_number_of_who_asked_for_it() -> None:
    with backend.using_threads(3):
        assert backend.parallel_map(lambda _: backend.thread_count(), range(2)) == [3, 3]
        with prefetch(lambda _: backend.thread_count(), 0, 2) as counts:
            assert list(counts) == [3, 3]


def test_another_number_does_not_end_the_work_of_others() -> None:

    done = threading.Event()

    def work() -> bool:
        try:
            return all(len(backend.parallel_map(abs, range(300))) == 300 for _ in range(60))
        finally:
            done.set()

    def change() -> None:
        while not done.is_set():
            backend.set_thread_count(2)
            time.sleep(1e-4)

    assert in_threads(work, work, change) == [True, True, None]


# BLAS


def test_overlapping_limits_leave_nothing_behind() -> None:
    first, second = backend.single_threaded_blas(), backend.single_threaded_blas()
    first.__enter__()
    second.__enter__()
    assert set(blas_threads()) == {1}
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}  # somebody still needs it
    second.__exit__(None, None, None)
    assert set(blas_threads()) == {2}


def test_the_fewest_threads_that_anyone_asks_for() -> None:
    with backend.limited_blas(3):
        assert set(blas_threads()) == {3}
        with backend.single_threaded_blas():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {3}


def test_a_limit_that_an_interrupt_left_is_undone_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    limit = backend.single_threaded_blas()
    limit.__enter__()
    with monkeypatch.context() as patch:
        patch.setattr(host._blas, "apply", interrupt)
        with pytest.raises(KeyboardInterrupt):
            limit.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    with backend.single_threaded_blas():
        pass
    assert set(blas_threads()) == {2}


def test_blas_heeds_every_thread() -> None:
    """Else two that predict beside each other share a core with four of BLAS."""
    with backend.single_threaded_blas():
        pass  # from now on threadpoolctl heeds this thread alone
    found: list[list[int]] = []

    def ask() -> None:
        with backend.single_threaded_blas():
            found.append(blas_threads())
        found.append(blas_threads())

    other = threading.Thread(target=ask)
    other.start()
    other.join()
    assert [set(counts) for counts in found] == [{1}, {2}]


def test_an_interrupt_between_two_libraries_of_blas_leaves_no_limit_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    before, kind = blas_threads(), type(libraries[0])
    limit = kind.set_num_threads
    presses = [KeyboardInterrupt]

    def once(library: Any, number: int) -> None:
        limit(library, number)
        if presses:
            raise presses.pop()

    with monkeypatch.context() as patch:
        patch.setattr(kind, "set_num_threads", once)
        with pytest.raises(KeyboardInterrupt), backend.single_threaded_blas():
            pass
        with backend.single_threaded_blas():
            assert set(blas_threads()) == {1}
    assert blas_threads() == before == [2] * len(before)


# Interrupts


def test_each_item_is_taken_by_one_thread() -> None:
    """An interpreter without a lock hands out some of an `enumerate` twice, and an end too far."""
    taken: list[int] = []
    with backend.using_threads(4):
        for _ in range(20):
            taken.clear()
            assert backend.parallel_map(taken.append, range(2000)) == [None] * 2000
            assert sorted(taken) == list(range(2000))


def test_nothing_runs_on_after_an_error() -> None:
    """Else it would write to memory that the next call uses."""
    both = threading.Barrier(2, timeout=20)
    done: list[int] = []

    def call(item: int) -> None:
        if item < 2:
            both.wait()
        if item == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)
        done.append(item)

    with pytest.raises(KeyboardInterrupt):
        backend.parallel_map(call, range(50))
    count = len(done)
    time.sleep(0.2)
    assert len(done) == count <= 2


def test_memory_of_an_abandoned_call_is_not_used_again() -> None:
    before = backend.scratch(np, "abandoned", (100,), "float32")

    def fail(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.parallel_map(fail, range(4))
    assert not np.shares_memory(before, backend.scratch(np, "abandoned", (100,), "float32"))


timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timer")


@timer
@pytest.mark.parametrize("function", ["interrupted_passes", "interrupted_trainings"])
def test_interrupts_at_any_moment(function: str, tmp_path: Path) -> None:
    """In a process of their own: one that meets a finaliser is lost, and only printed."""
    printed = script(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_host
        test_host.{function}({str(tmp_path)!r})
        """,
        quiet=False,
    )
    assert printed == "done"
    assert not list(tmp_path.rglob(".*"))


class Interrupts:
    """Ctrl-C on the main thread after so many seconds and once more, wherever it then is."""

    def __init__(self, first: float, second: float) -> None:
        self.seconds = [first, second]
        signal.signal(signal.SIGALRM, self.ring)

    def ring(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, self.seconds.pop(0) if self.seconds else 0)
        signal.raise_signal(signal.SIGINT)

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self.seconds.pop(0))

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def interrupted_passes(_: str) -> None:
    """Results and limits are those of a network that nobody interrupted."""
    net, x = small_net(), picture()
    expected, before = net.forward(x), blas_threads()
    chance = random.Random(0)
    for _ in range(100):
        with suppress(KeyboardInterrupt), Interrupts(chance.uniform(1e-5, 0.02), 0.5):
            while True:
                net.backward(net.forward(x, train=True))
        assert np.array_equal(net.forward(x), expected)
        assert blas_threads() == before
    assert _thread._count() <= 2  # the helpers
    print("done")


def interrupted_trainings(folder: str) -> None:
    """What is resumed is the run left alone."""
    faulthandler.dump_traceback_later(500, exit=True)
    expected = train_small(Path(folder, "alone"), 12)
    chance = random.Random(1)
    stopped = 0
    for number in range(12):
        weights = b""
        for attempt in range(100):
            first, second = chance.uniform(1e-4, 0.03 * (1 + attempt)), chance.choice([1e-3, 1])
            try:
                with Interrupts(first, second):
                    weights = train_small(Path(folder, str(number)), 12)
                break
            except KeyboardInterrupt:
                stopped += 1
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert weights == expected
    assert stopped > 12
    assert backend.thread_count() == 2
    time.sleep(0.1)
    faulthandler.cancel_dump_traceback_later()
    assert _thread._count() <= 2  # the helpers
    print("done")


# Forks


@fork
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_predicts_after_the_parent_has(method: str) -> None:
    net, x = small_net(), picture()
    expected = net.forward(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and forks, from 3.12 on
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, context) as executor:
            results = [executor.submit(net.forward, x).result(timeout=60) for _ in range(2)]
    assert all(np.array_equal(result, expected) for result in results)


@fork
def test_a_child_of_a_fork_in_the_middle_of_anything_predicts() -> None:
    """Threads predict and hold locks and limits at the moment of each fork."""
    printed = script("""
        import os, sys, threading, warnings
        import numpy as np
        from threadpoolctl import ThreadpoolController
        from unet_np import UNet
        warnings.simplefilter("ignore", DeprecationWarning)
        blas = lambda: {e["num_threads"] for e in ThreadpoolController().info()
                        if e["user_api"] == "blas"}
        ThreadpoolController().limit(limits=2, user_api="blas")
        net = UNet(base_channels=4, depth=1, dropout=0, backend="numpy")
        x = np.random.default_rng(0).normal(size=(1, 1, 64, 64))
        expected = net.forward(x)
        stop = threading.Event()
        def work():
            while not stop.is_set():
                net.forward(x)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(10):
            child = os.fork()
            if child == 0:
                import faulthandler
                faulthandler.dump_traceback_later(20, exit=True)
                same = np.array_equal(net.forward(x), expected)
                os._exit(0 if same and blas() == {2} else 3)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        for thread in threads:
            thread.join()
        print(codes, blas())
    """)
    assert printed == f"{[0] * 10} {{2}}"


def test_a_thread_goes_on_when_the_main_thread_is_at_its_end(tmp_path: Path) -> None:
    """Python's executors take no more work then."""
    printed = script(f"""
        import threading, time
        import numpy as np
        from unet_np import UNet, train
        from unet_np.training.loop import TrainConfig
        net = UNet(base_channels=4, depth=1, dropout=0, backend="numpy")
        x = np.random.default_rng(0).normal(size=(1, 1, 64, 64))
        config = TrainConfig(base_channels=2, depth=1, steps=5, input_size=36, weight_map=False,
                             tensorboard=False, threads=2, backend="numpy", out={str(tmp_path)!r})
        def work():
            threading.main_thread().join()
            net.forward(x)
            print(train(config, progress=False).step)
        threading.Thread(target=work).start()
    """)
    assert printed == "5"


# Schedules

DATA = data.load("synthetic-em", count=2, size=64)


def schedule(seed: int, folder: Path, expected: dict[str, object]) -> None:
    """Some threads that train, predict and change settings, in an order drawn from the seed."""
    chance = random.Random(seed)
    net = small_net()

    def rest() -> None:
        time.sleep(chance.choice([0, 0, 1e-4, 2e-3]))

    def predict() -> object:
        rest()
        image = picture()[0, 0]
        return np.array_equal(predict_tiled(net, image, tile=36), expected["predict"])

    def gradient() -> object:
        rest()
        own = small_net()
        with backend.using_threads(2):
            logits = own.forward(picture(), train=True)
            labels = np.zeros((1, *logits.shape[2:]), int)
            own.backward(weighted_cross_entropy(logits, labels)[1])
        return all(np.array_equal(own.grads[n], g) for n, g in expected["gradient"].items())

    def training() -> object:
        rest()
        return train_small(folder / f"{seed}-{chance.random()}", 2) == expected["training"]

    def limits() -> object:
        with backend.limited_blas(chance.choice([1, 2])), backend.using_threads(1):
            rest()
            return backend.thread_count() == 1

    def count() -> object:
        backend.set_thread_count(2)
        return True

    kinds = [predict, predict, gradient, gradient, training, limits, count]
    functions = [chance.choice(kinds) for _ in range(chance.randint(2, 5))]
    assert in_threads(*functions) == [True] * len(functions), [f.__name__ for f in functions]


def train_small(out: Path, steps: int) -> bytes:
    """The weights after so many steps, going on where `out` has a run."""
    config = TrainConfig(
        base_channels=2,
        depth=1,
        steps=steps,
        checkpoint_every=3,
        input_size=36,
        weight_map=False,
        tensorboard=False,
        threads=2,
        backend="numpy",
        out=str(out),
    )
    train(config, resume=True, progress=False, dataset=DATA)
    return (out / "weights.safetensors").read_bytes()


def test_200_random_schedules(tmp_path: Path) -> None:
    net = small_net()
    logits = net.forward(picture(), train=True)
    labels = np.zeros((1, *logits.shape[2:]), int)
    net.backward(weighted_cross_entropy(logits, labels)[1])
    expected = {
        "predict": predict_tiled(small_net(), picture()[0, 0], tile=36),
        "gradient": dict(net.grads),
        "training": train_small(tmp_path / "alone", 2),
    }
    before = _thread._count()
    filters, umask = list(warnings.filters), os.umask(0o022)
    os.umask(umask)
    begun = time.monotonic()
    for seed in range(200):
        schedule(seed, tmp_path, expected)
        assert time.monotonic() - begun < 200, f"only {seed} schedules in 200 s"
    assert warnings.filters == filters
    assert os.umask(umask) == umask
    time.sleep(0.1)
    assert _thread._count() <= before
