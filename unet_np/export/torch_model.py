"""From this package's network to PyTorch's, for checks and for users who want to leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from unet_np import backend
from unet_np.errors import InputError, MissingExtraError
from unet_np.network import kinds

if TYPE_CHECKING:
    from unet_np.network.architecture import Architecture
    from unet_np.network.unet import UNet


def to_torch(net: UNet) -> Any:
    """A ``torch.nn.Module``, ``unet_np.export.torch_unet.UNet``, with a copy of the weights.

    Parameters
    ----------
    net : UNet
        The network.

    Returns
    -------
    torch.nn.Module
        On the CPU, of the network's dtype, in eval mode (dropout off, running statistics).

    Raises
    ------
    InputError
        If the network's activation has no class in ``torch.nn``.
    MissingExtraError
        If PyTorch is not installed.
    """
    torch = needs_torch()
    from unet_np.export import torch_unet

    with torch.device("meta"):
        module = torch_unet.UNet(**torch_options(net.architecture), dropout=net.dropout)
    state = {name: torch.from_numpy(array) for name, array in torch_state(net).items()}
    module.load_state_dict(state, assign=True)
    return module.eval()


def needs_torch() -> Any:
    """PyTorch, which no extra but the book's brings.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtraError(
            "torch: not installed, expected for to_torch; pip install torch"
        ) from None
    return torch


def torch_options(architecture: Architecture) -> dict[str, Any]:
    """The arguments with which ``unet_np.export.torch_unet.UNet`` is the same network.

    Raises
    ------
    InputError
        If the network's activation has no class in ``torch.nn``.
    """
    options = architecture.to_dict()
    del options["task"]  # a name, on which no layer depends
    if "activation" in options:
        options["activation"] = kinds.find(architecture.activation).torch
        if not options["activation"]:
            known = ", ".join(n for n in kinds.names("activation") if kinds.find(n).torch)
            raise InputError(
                f"activation: got {architecture.activation!r}, which has no class in torch.nn, "
                f"expected one of {known}"
            )
    return options


def probability_options(architecture: Architecture) -> dict[str, Any]:
    """As `torch_options`, for ``unet_np.export.torch_unet.Probabilities``."""
    rest = (architecture.min_input_size - architecture.margin) % architecture.size_step
    return torch_options(architecture) | {"margin": architecture.margin, "rest": rest}


def to_probabilities(net: UNet) -> Any:
    """A PyTorch module from normalised images to probabilities of the same size.

    Raises
    ------
    InputError, MissingExtraError
        As `to_torch`.
    """
    torch = needs_torch()
    from unet_np.export import torch_unet

    module = torch_unet.Probabilities(**probability_options(net.architecture))
    module.load_state_dict(
        {name: torch.from_numpy(array) for name, array in torch_state(net).items()}
    )
    return module.float().eval()


def torch_state(net: UNet) -> dict[str, np.ndarray]:
    """A copy of parameters and buffers under the names of PyTorch's state dict."""
    state = {}
    for name, array in net.state.items():
        state[torch_name(name)] = np.array(backend.to_numpy(array), order="C")
        if name.endswith(".mean"):
            # PyTorch counts batches for an averaging that is not used here.
            counter = torch_name(name).replace("running_mean", "num_batches_tracked")
            state[counter] = np.zeros((), np.int64)
    return state


def torch_name(name: str) -> str:
    """What PyTorch calls a parameter or a buffer: only running statistics have other names.

    Examples
    --------
    >>> torch_name("contract1.bn1.var"), torch_name("output.bias")
    ('contract1.bn1.running_var', 'output.bias')
    """
    block, _, last = name.rpartition(".")
    return f"{block}.running_{last}" if last in ("mean", "var") else name
