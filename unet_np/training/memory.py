"""Whether a training can fit into memory at all, before anything is allocated."""

from __future__ import annotations

import math

import numpy as np

from unet_np import backend
from unet_np.errors import InputError
from unet_np.images.bounds import available_memory, shown
from unet_np.training.config import TrainConfig

_SLACK = 64 << 20


def least_bytes(config: TrainConfig) -> int:
    """Bytes that a training holds at least: weights, gradients, velocity and maps of a tile.

    Examples
    --------
    >>> least_bytes(TrainConfig()) // 2**20
    867
    """
    net, side = config.architecture, config.tile_size
    shapes = net.shapes((config.batch_size, 1, side, side))
    maps = sum(math.prod(shape) for layer, shape in shapes if layer.its_kind.convolution)
    return np.dtype(config.dtype).itemsize * (3 * net.parameters + maps)


def training_bytes(config: TrainConfig, in_channels: int = 1, num_classes: int = 2) -> int:
    """Bytes that a training takes at most, beside the data; with what the normalisation keeps.

    Measured beside what Python holds: 1.8 to 2.5 times `least_bytes` for tiles of 572 pixels, and
    24 to 31 MB for the smallest networks.

    Examples
    --------
    >>> training_bytes(TrainConfig(base_channels=16)) // 2**20
    528
    """
    wider = (in_channels + num_classes) * config.batch_size * config.tile_size**2
    return 3 * (least_bytes(config) + np.dtype(config.dtype).itemsize * wider) + _SLACK


def check_memory(config: TrainConfig, processes: int = 1) -> None:
    """Refuse settings that this machine cannot hold; a device says so itself.

    Parameters
    ----------
    config : TrainConfig
        The settings.
    processes : int
        How many on this machine have the same settings.

    Raises
    ------
    InputError
        Naming the settings, what they take, and what is free.
    """
    free = available_memory()
    if free is None or backend.is_device(backend.get(config.backend)):
        return
    needed, each = least_bytes(config), free // processes
    if needed > each:
        names = ("base_channels", "depth", "batch_size")
        given = ", ".join(f"{name} {getattr(config, name)}" for name in names)
        raise InputError(
            f"base_channels: got {given} and tiles of {config.tile_size} pixels, which take at "
            f"least {shown(needed)}, expected what fits in {shown(each)} of memory"
        )
