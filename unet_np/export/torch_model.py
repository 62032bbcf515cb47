"""From this package's network to PyTorch's, for checks and for users who want to leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from unet_np import backend
from unet_np.errors import MissingExtraError

if TYPE_CHECKING:
    from unet_np.network.architecture import Architecture
    from unet_np.network.unet import UNet


def to_torch(net: UNet) -> Any:
    """A ``torch.nn.Module``, `unet_np.export.torch_unet.UNet`, with a copy of the weights.

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
    MissingExtraError
        If PyTorch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtraError(
            "torch: not installed, expected for to_torch; pip install torch"
        ) from None
    from unet_np.export import torch_unet

    with torch.device("meta"):
        module = torch_unet.UNet(**torch_options(net.architecture), dropout=net.dropout)
    state = {
        torch_name(name): torch.from_numpy(np.array(backend.to_numpy(array), order="C"))
        for name, array in net.state.items()
    }
    for name in list(state):
        if name.endswith(".running_mean"):
            # PyTorch counts batches for an averaging that is not used here.
            counter = name.replace("running_mean", "num_batches_tracked")
            state[counter] = torch.zeros((), dtype=torch.int64)
    module.load_state_dict(state, assign=True)
    return module.eval()


def torch_options(architecture: Architecture) -> dict[str, Any]:
    """The arguments with which `unet_np.export.torch_unet.UNet` is the same network."""
    options = architecture.to_dict()
    del options["task"]  # a name, of which no layer depends
    return options


def torch_name(name: str) -> str:
    """What PyTorch calls a parameter or a buffer: only running statistics have other names.

    Examples
    --------
    >>> torch_name("contract1.bn1.var"), torch_name("output.bias")
    ('contract1.bn1.running_var', 'output.bias')
    """
    block, _, last = name.rpartition(".")
    return f"{block}.running_{last}" if last in ("mean", "var") else name
