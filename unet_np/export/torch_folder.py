"""To PyTorch users: weights, the module's source and how to use them, in one folder."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from unet_np.export.torch_model import torch_options, torch_state
from unet_np.files import atomic_write
from unet_np.files.ours import PRODUCER
from unet_np.files.weights import write_weights

if TYPE_CHECKING:
    from unet_np.network.unet import UNet

_USAGE = """\
import torch_unet, safetensors.torch  # this folder; PyTorch and safetensors, nothing else
net = torch_unet.UNet({arguments}).eval(); \
net.load_state_dict(safetensors.torch.load_file("{weights}"))
# {output} of float32 ({shape}), zero mean and unit variance in each channel; H, W: {sizes}
"""


def save_torch(net: UNet, path: str | os.PathLike[str]) -> list[Path]:
    """Write what loads in PyTorch where this package is not installed.

    Parameters
    ----------
    net : UNet
        The network.
    path : path-like
        A folder, or the name of the weights, which ends in ``.safetensors``.

    Returns
    -------
    list of pathlib.Path
        The files: the state dict (``weights.safetensors``), the module's source
        (``torch_unet.py``) and three lines that show how to load and call it
        (``weights.txt``).

    Raises
    ------
    InputError
        If a file cannot be written, or the network's activation has no class in ``torch.nn``.
        Then none is.
    MissingExtraError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from unet_np import UNet
    >>> [file.name for file in save_torch(UNet(base_channels=2, depth=1), tempfile.mkdtemp())]
    ['weights.safetensors', 'torch_unet.py', 'weights.txt']
    """
    files = torch_files(path)
    usage = _usage(net, files[0].name)
    source = Path(__file__).with_name("torch_unet.py").read_text("utf-8")
    with ExitStack() as stack:
        temporary = [stack.enter_context(atomic_write(file)) for file in files]
        write_weights(temporary[0], torch_state(net), {"format": "pt", "producer": PRODUCER})
        temporary[1].write_text(source, "utf-8")
        temporary[2].write_text(usage, "utf-8")
    return files


def torch_files(path: str | os.PathLike[str]) -> list[Path]:
    """The files that `save_torch` writes.

    Examples
    --------
    >>> [file.as_posix() for file in torch_files("model/a.safetensors")]
    ['model/a.safetensors', 'model/torch_unet.py', 'model/a.txt']
    """
    weights = Path(path)
    if weights.suffix != ".safetensors":
        weights = weights / "weights.safetensors"
    return [weights, weights.with_name("torch_unet.py"), weights.with_suffix(".txt")]


def _usage(net: UNet, weights: str) -> str:
    table = net.architecture
    arguments = ", ".join(f"{name}={value!r}" for name, value in torch_options(table).items())
    output = "logits = net(image)"
    if table.margin:
        output += f", {table.margin // 2} pixels smaller on each side than the image,"
    return _USAGE.format(
        arguments=arguments,
        weights=weights,
        output=output,
        shape=f"B, {table.in_channels}, H, W",
        sizes=f"{table.min_input_size} + {table.size_step} k",
    )
