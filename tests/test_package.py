"""What a user imports, and what that costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import unet_np


@pytest.mark.parametrize("name", unet_np.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(unet_np, name) is not None


@pytest.mark.parametrize("first", ["unet_np", "unet_np.weight_map", "unet_np.train"])
def test_names_are_functions_whatever_was_imported_before(first: str) -> None:
    code = (
        f"import {first}, unet_np, inspect\n"
        "import unet_np.samples, unet_np.train\n"
        "assert inspect.isfunction(unet_np.weight_map)\n"
        "assert inspect.isfunction(unet_np.train)\n"
        "from unet_np.train import TrainConfig\n"
        "assert unet_np.TrainConfig is TrainConfig\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'unet_np' has no attribute 'unett'"):
        _ = unet_np.unett
