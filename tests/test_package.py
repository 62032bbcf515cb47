"""What a user imports, and what that costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import unet_np


@pytest.mark.parametrize("name", unet_np.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(unet_np, name) is not None


@pytest.mark.parametrize("first", ["unet_np", "unet_np.weighting.eq2", "unet_np.training.loop"])
def test_names_are_functions_whatever_was_imported_before(first: str) -> None:
    code = (
        f"import {first}, unet_np, inspect\n"
        "import unet_np.training.samples, unet_np.training.loop\n"
        "assert inspect.isfunction(unet_np.weight_map)\n"
        "assert inspect.isfunction(unet_np.train)\n"
        "from unet_np.training.loop import TrainConfig\n"
        "assert unet_np.TrainConfig is TrainConfig\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'unet_np' has no attribute 'unett'"):
        _ = unet_np.unett


POSIX_ONLY = ("fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios", "tty")


def test_every_module_can_be_imported_without_those_that_windows_lacks() -> None:
    code = (
        "import pkgutil, sys, tempfile, subprocess, concurrent.futures, multiprocessing\n"
        "import numpy, scipy.ndimage, torch\n"  # what others import is theirs
        f"sys.modules.update(dict.fromkeys({POSIX_ONLY}))\n"
        "import importlib, unet_np\n"
        "for module in pkgutil.walk_packages(unet_np.__path__, 'unet_np.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "        print(module.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unet_np.network.unet" in done.stdout.split()
