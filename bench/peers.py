"""PyTorch as the peer: the same layer, the same network, the same step.

It is imported where it is used, so that it does not count in the memory of a process that has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unet_np import backend
from unet_np.export import to_torch

LAYOUTS = ("nchw", "channels_last")


def torch_module(threads: int | None = None, tf32: bool = False, tried: bool = True) -> Any:
    """PyTorch at its best: as many threads as this package uses, algorithms tried before use.

    Those that it has `tried` on a GPU need much memory to be tried.
    """
    import torch

    torch.set_num_threads(threads or backend.thread_count())
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = tried
    return torch


def to_tensor(array: Any, layout: str) -> Any:
    """A copy of the array as a tensor on the same kind of device, in that memory layout."""
    import torch

    device = "cuda" if backend.is_device(backend.array_module(array)) else "cpu"
    tensor = torch.from_numpy(np.array(backend.to_numpy(array), order="C")).to(device)
    if tensor.ndim == 4 and layout == "channels_last":
        return tensor.to(memory_format=torch.channels_last)
    return tensor


class TorchConv:
    """One convolution with gradients for input, weights and bias."""

    def __init__(self, x: Any, w: Any, b: Any, padding: int, layout: str, tf32: bool) -> None:
        self.torch = torch_module(tf32=tf32)
        self.x, self.w, self.b = (to_tensor(a, layout).requires_grad_(True) for a in (x, w, b))
        self.padding = padding
        self.y = self._convolve()
        self.grad = self.torch.rand_like(self.y)

    def _convolve(self) -> Any:
        return self.torch.nn.functional.conv2d(self.x, self.w, self.b, padding=self.padding)

    def forward(self) -> Any:
        """The convolution alone."""
        with self.torch.no_grad():
            return self._convolve()

    def backward(self) -> Any:
        """All three gradients."""
        inputs = (self.x, self.w, self.b)
        return self.torch.autograd.grad(self.y, inputs, self.grad, retain_graph=True)


class TorchNetwork:
    """The same network with the same weights: prediction, and a step of SGD with momentum."""

    def __init__(
        self, net: Any, x: Any, labels: Any, layout: str, tf32: bool = False, tried: bool = True
    ) -> None:
        self.torch = torch = torch_module(tf32=tf32, tried=tried)
        self.x = to_tensor(x, layout)
        self.labels = to_tensor(labels, layout)
        self.module = to_torch(net).to(self.x.device)
        if layout == "channels_last":
            self.module = self.module.to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.SGD(self.module.parameters(), lr=1e-6, momentum=0.99)

    def forward(self) -> Any:
        """Prediction, dropout off, nothing kept."""
        self.module.eval()
        with self.torch.no_grad():
            return self.module(self.x)

    def step(self) -> Any:
        """Forward, energy, backward, update."""
        self.module.train()
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.torch.nn.functional.cross_entropy(self.module(self.x), self.labels)
        loss.backward()
        self.optimiser.step()
        return loss
