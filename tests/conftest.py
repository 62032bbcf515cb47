"""What all tests share: backends, randomness, headless plots, a browser, data that must exist."""

from __future__ import annotations

import functools
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from types import ModuleType
from typing import Any

# Before anything imports pyplot, also in the processes that tests start.
os.environ.setdefault("MPLBACKEND", "Agg")

import guard
import pytest
from browser import STATIC, WIDGET, open_browser, serve, watched_pages
from hypothesis import HealthCheck, settings

from unet_np import backend, data
from unet_np.errors import InputError, MissingExtraError

# With a GPU too, tests compute on the processor where they do not ask for CuPy by its name.
os.environ.setdefault("UNET_NP_BACKEND", "numpy")

# A process that was started in the background ignores Ctrl-C, and so do those that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines differ too much for a deadline on an example, and a shared machine is slow at times.
COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
    "print_blob": True,
}
settings.register_profile("default", **COMMON)
settings.register_profile("ci", derandomize=True, **COMMON)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What stands by now stays: a collection of garbage need not go through thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["numpy", "guard", "cupy"])
def xp(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The array library: NumPy, a stand-in for CuPy that refuses host arrays, and CuPy."""
    if request.param == "guard":
        for name, module in guard.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        return backend.get("cupy")
    try:
        return backend.get(request.param)
    except (InputError, MissingExtraError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for all tests of a file. Not for all files: its loop of events is the thread's."""
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def static_address() -> Iterator[str]:
    """Of a web server for what the book's pages load."""
    with serve(STATIC) as running:
        yield running


@pytest.fixture
def open_widget(browser: Any, static_address: str) -> Iterator[Callable[..., Any]]:
    """Open a page with one widget; at the end, nothing has failed or left the server."""
    with watched_pages(browser, static_address) as new:

        def opened(name: str, attributes: str = "", **options: Any) -> Any:
            page, url = new(**options), f"{static_address}/page.html"
            html = WIDGET.format(name=name, attributes=attributes, scripts="/widgets")
            page.route(url, lambda route: route.fulfill(body=html, content_type="text/html"))
            page.goto(url)
            page.wait_for_selector("[data-ready=true]")
            return page

        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under UNET_NP_REQUIRE_DATA=1 a test that needs data fails where it would skip."""
    report = yield
    needs_data = any(item.get_closest_marker(name) for name in ("data", "reference"))
    required = os.environ.get("UNET_NP_REQUIRE_DATA") == "1"
    if report.skipped and needs_data and required and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"UNET_NP_REQUIRE_DATA=1, and {item.nodeid} skipped: {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _one_painting() -> Iterator[None]:
    """Trainings share synthetic micrographs, which take longer than they do; none may write."""

    @functools.cache
    def painted(*arguments: Any) -> data.Dataset:
        made = paint(*arguments)
        for array in (made.images, made.labels, made.instances):
            array.flags.writeable = False
        return made

    paint = data._synthetic
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_synthetic", painted)
        yield


@pytest.fixture(autouse=True)
def _heard_loggers() -> None:
    """Libraries that read a configuration of logging turn off all loggers that they do not name."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("unet_np") and isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture(autouse=True)
def _number_of_threads() -> Iterator[None]:
    """A command with ``--threads`` sets it for its process, which ends; here it goes on."""
    yield
    backend.set_thread_count(None)
