"""Every convolution of the network by itself, forward and backward."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.peers import LAYOUTS, TorchConv
from bench.timing import interleaved
from unet_np import backend, ops
from unet_np.network.architecture import Architecture


@dataclass(frozen=True)
class LayerCase:
    """A 3x3 convolution: name, input size, channels in and out, padding."""

    name: str
    size: int
    into: int
    out: int
    padding: int

    @property
    def operations(self) -> int:
        """Multiplications and additions of the direct forward pass."""
        rows = self.size - 2 + 2 * self.padding
        return 2 * 9 * self.into * self.out * rows**2

    @property
    def bytes(self) -> int:
        """Memory that must at least be read and written, in float32."""
        rows = self.size - 2 + 2 * self.padding
        numbers = self.size**2 * self.into + rows**2 * self.out + 9 * self.into * self.out
        return 4 * numbers


def layer_cases(architecture: Architecture, size: int) -> list[LayerCase]:
    """The 3x3 convolutions of the network on a tile of that size.

    Examples
    --------
    >>> cases = layer_cases(Architecture(), 572)
    >>> len(cases), cases[1]
    (18, LayerCase(name='contract1.conv2', size=570, into=64, out=64, padding=0))
    >>> round(sum(case.operations for case in cases) / 1e9)
    290
    """
    cases = []
    before = size
    for layer, shape in architecture.shapes((1, architecture.in_channels, size, size)):
        if layer.kind == "conv" and layer.kernel == 3:
            cases.append(
                LayerCase(layer.name, before, layer.in_channels, layer.out_channels, layer.padding)
            )
        before = shape[2]
    return cases


def bench_layers(
    cases: list[LayerCase],
    repeats: int,
    xp: Any,
    algorithms: tuple[str, ...],
    tf32: bool = False,
    layouts: tuple[str, ...] = LAYOUTS,
) -> list[dict[str, Any]]:
    """Median seconds of each layer, by each algorithm and by PyTorch in each layout.

    Parameters
    ----------
    cases : list of LayerCase
        The layers.
    repeats : int
        Measured calls.
    xp : module
        ``numpy`` or ``cupy``.
    algorithms : tuple of str
        Of `unet_np.ops.conv2d`.
    tf32 : bool
        For GPUs: whether PyTorch may round to TF32.
    layouts : tuple of str
        Of PyTorch's maps; it tries many algorithms for each layer first, seconds on a GPU.

    Returns
    -------
    list of dict
        One row a layer: its case, ``forward`` and ``backward`` with seconds by contender.
    """
    return [_bench_layer(case, repeats, xp, algorithms, tf32, layouts) for case in cases]


def _bench_layer(
    case: LayerCase,
    repeats: int,
    xp: Any,
    algorithms: tuple[str, ...],
    tf32: bool,
    layouts: tuple[str, ...],
) -> dict[str, Any]:
    rng = backend.default_rng(xp, (0, case.into, case.out))
    x = backend.empty_channels_last(xp, (1, case.into, case.size, case.size), "float32")
    x[...] = rng.random(x.shape, dtype=xp.float32)
    taps = rng.random((3, 3, case.into, case.out), dtype=xp.float32) - xp.float32(0.5)
    w, b = taps.transpose(3, 2, 0, 1), xp.zeros(case.out, "float32")
    forward: dict[str, Any] = {}
    backward: dict[str, Any] = {}
    for name in algorithms:
        y, cache = ops.conv2d(x, w, b, case.padding, name)
        forward[name] = partial(ops.conv2d, x, w, b, case.padding, name)
        backward[name] = partial(ops.conv2d_backward, y, cache)
    for layout in layouts:
        peer = TorchConv(x, w, b, case.padding, layout, tf32)
        forward[f"torch {layout}"] = peer.forward
        backward[f"torch {layout}"] = peer.backward
    row: dict[str, Any] = {
        "layer": case.name,
        "size": case.size,
        "in_channels": case.into,
        "out_channels": case.out,
        "operations": case.operations,
        "bytes": case.bytes,
    }
    for direction, calls in (("forward", forward), ("backward", backward)):
        times = interleaved(calls, repeats, partial(backend.synchronize, xp))
        row[direction] = {name: statistics.median(t) for name, t in times.items()}
    return row
