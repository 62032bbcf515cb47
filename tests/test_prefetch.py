"""Tiles made ahead: in order, the same as a loop, with errors, and without hanging."""

import _thread
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np.backend import STREAMS, default_rng, parallel_map
from unet_np.training.prefetch import prefetch


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_order(start, length, ahead):
    with prefetch(lambda step: step, start, start + length, ahead) as items:
        assert list(items) == list(range(start, start + length))


def test_random_items_are_those_of_a_loop():
    def make(step):
        time.sleep(0.001 * (step % 3))
        return default_rng(np, (0, STREAMS["augment"], step)).random(5).tolist()

    with prefetch(make, 3, 20) as items:
        assert list(items) == [make(step) for step in range(3, 20)]


def test_works_ahead_in_another_thread_and_not_too_far():
    made = []

    def make(step):
        made.append((step, threading.get_ident()))
        return step

    with prefetch(make, 0, 100, ahead=3) as items:
        next(items)
        deadline = time.monotonic() + 5
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)
        assert [step for step, _ in made] == [0, 1, 2, 3]
    assert threading.get_ident() not in {thread for _, thread in made}
    assert len(made) == 4


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_comes_where_its_item_is_read(ahead):
    def make(step):
        if step == 2:
            raise ValueError("no tile")
        return step

    with prefetch(make, 0, 5, ahead) as items:
        assert (next(items), next(items)) == (0, 1)
        with pytest.raises(ValueError, match="no tile"):
            next(items)


def test_leaving_early_ends_the_thread():
    before = _thread._count()

    def read_one():
        with prefetch(lambda step: step, 0, 10**6) as items:
            next(items)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_one()
    deadline = time.monotonic() + 5
    while _thread._count() > before and time.monotonic() < deadline:
        time.sleep(0.005)
    assert _thread._count() == before


def test_the_pool_of_threads_stays_with_the_network():
    def make(step):
        return {*parallel_map(lambda _: threading.get_ident(), range(8))}

    with prefetch(make, 0, 1) as items:
        threads = next(items)
    assert len(threads) == 1
    assert threading.get_ident() not in threads
