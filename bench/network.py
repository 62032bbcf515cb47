"""The whole network: prediction, training step, peak memory, and how the cost grows."""

from __future__ import annotations

import itertools
import statistics
from functools import partial
from types import ModuleType
from typing import Any

from bench.layers import layer_cases
from bench.peers import LAYOUTS, TorchNetwork, torch_module
from bench.process import in_own_process, peak
from bench.timing import interleaved, ratios
from unet_np import backend, ops
from unet_np.network.architecture import Architecture
from unet_np.network.unet import UNet
from unet_np.training.optim import SGD

CONTENDERS = ("unet_np", *(f"torch {layout}" for layout in LAYOUTS))
PEERS = list(CONTENDERS[1:])


class OwnNetwork:
    """This package's network on one batch of noise: prediction, and a step of SGD."""

    def __init__(self, base_channels: int, size: int, batch: int, xp: ModuleType) -> None:
        name = "cupy" if backend.is_device(xp) else "numpy"
        self.net = UNet(base_channels=base_channels, backend=name)
        rng = backend.default_rng(xp, (0,))
        self.x = rng.random((batch, 1, size, size), dtype=xp.float32)
        out = self.net.architecture.output_size(size)
        self.labels = (rng.random((batch, out, out)) < 0.5).astype(xp.int64)
        self.optimiser: SGD | None = None

    def forward(self) -> Any:
        """Prediction, dropout off, nothing kept."""
        return self.net.forward(self.x)

    def step(self) -> Any:
        """Forward, energy, backward, update."""
        if self.optimiser is None:
            self.optimiser = SGD(self.net.params, 1e-6, 0.99)
        logits = self.net.forward(self.x, train=True)
        loss, grad = ops.weighted_cross_entropy(logits, self.labels, reduction="mean", check=False)
        del logits
        self.net.backward(grad, need_grad_x=False)
        self.optimiser.step(self.net.grads)
        return loss


SETTLE = 1.0  # seconds of a call, below which it is preceded by one that is not measured


def bench_network(
    base_channels: int,
    size: int,
    repeats: int,
    xp: ModuleType,
    tf32: bool = False,
    batch: int = 1,
) -> dict[str, Any]:
    """Prediction and training step against PyTorch in both layouts, interleaved.

    Returns
    -------
    dict
        For ``forward`` and ``step``: ``seconds`` (medians by contender), ``ratio`` (median,
        round by round, to PyTorch's better layout) and ``ratio_range``.
    """
    own = OwnNetwork(base_channels, size, batch, xp)
    contenders: dict[str, Any] = {"unet_np": own}
    for layout in LAYOUTS:
        contenders[f"torch {layout}"] = TorchNetwork(own.net, own.x, own.labels, layout, tf32)
    result: dict[str, Any] = {"base_channels": base_channels, "size": size, "batch": batch}
    result["repeats"] = repeats
    for kind in ("forward", "step"):
        calls = {name: getattr(network, kind) for name, network in contenders.items()}
        times = interleaved(calls, repeats, partial(backend.synchronize, xp), SETTLE)
        rounds = ratios(times, "unet_np", PEERS)
        result[kind] = {
            "seconds": {name: statistics.median(t) for name, t in times.items()},
            "ratio": statistics.median(rounds),
            "ratio_range": [min(rounds), max(rounds)],
        }
    return result


def bench_widths(
    widths: list[int], tiles: list[tuple[int, int]], repeats: int, xp: ModuleType
) -> list[dict[str, Any]]:
    """`bench_network` for each width of level 1 and each tile, on one thread and on all cores.

    Parameters
    ----------
    widths : list of int
        Channels of level 1.
    tiles : list of (int, int)
        Side of a tile in pixels, and how many of them make a batch.
    repeats : int
        Measured rounds of each.
    xp : module
        ``numpy`` or ``cupy``.

    Returns
    -------
    list of dict
        With ``threads`` beside what `bench_network` gives.
    """
    rows = []
    counts = sorted({1, backend.thread_count(xp)})
    for (size, batch), width, threads in itertools.product(tiles, widths, counts):
        with backend.using_threads(threads), backend.limited_blas(threads):
            row = bench_network(width, size, repeats, xp, batch=batch)
        rows.append({"threads": threads} | row)
    return rows


def bench_memory(
    kind: str, base_channels: int, size: int, library: str, threads: int
) -> dict[str, Any]:
    """Peak memory of a prediction ("forward") or a training "step", in a process of its own each.

    From the peak is taken what the process held once its libraries were loaded, so that
    the size of a library does not count, and parameters and feature maps do. On a GPU it
    is what the memory pool of either library has taken, PyTorch's without the algorithms that
    it would only have tried.

    Returns
    -------
    dict
        ``bytes`` by contender and ``ratio`` to PyTorch's better layout.
    """
    peaks = {
        name: in_own_process(peak_of, name, kind, library, base_channels, size, threads)
        for name in CONTENDERS
    }
    return {"bytes": peaks, "ratio": peaks["unet_np"] / min(peaks[name] for name in PEERS)}


def peak_of(name: str, kind: str, library: str, base_channels: int, size: int, threads: int) -> int:
    """Bytes that this process, which must be new, takes for it beyond its libraries."""
    backend.set_thread_count(threads)
    xp = backend.get(library)
    torch = None if name == "unet_np" else torch_module(threads)
    before = peak()
    network: Any = OwnNetwork(base_channels, size, 1, xp)
    if torch is not None:
        own = network
        layout = name.removeprefix("torch ")
        network = TorchNetwork(own.net, own.x, own.labels, layout, tried=False)
        del own
    for _ in range(2):
        getattr(network, kind)()
    if not backend.is_device(xp):
        return peak() - before
    return backend.pool_bytes(xp) if torch is None else int(torch.cuda.max_memory_reserved())


def bench_scaling(
    base_channels: int, sizes: list[int], batches: list[int], repeats: int, xp: ModuleType
) -> dict[str, Any]:
    """How the time of a prediction grows with tile size, batch and threads.

    Returns
    -------
    dict
        ``sizes``: for each size the seconds, the operations of the direct convolutions for
        each input pixel (fewer in small tiles, which lose more of themselves to the margin),
        and the time for each pixel and each operation, relative to the median over the sizes;
        ``batches``: seconds over those of batch 1, on tiles of
        ``batch_size_tile``; ``threads``: seconds by thread count.
    """
    wait = partial(backend.synchronize, xp)
    networks = {str(size): OwnNetwork(base_channels, size, 1, xp) for size in sizes}
    times = interleaved({size: net.forward for size, net in networks.items()}, repeats, wait)
    architecture = Architecture(base_channels=base_channels)
    work = {size: sum(c.operations for c in layer_cases(architecture, int(size))) for size in times}
    middle = min((size for size in sizes if size >= 300), default=max(sizes))
    batched = {str(batch): OwnNetwork(base_channels, middle, batch, xp) for batch in batches}
    batch_times = interleaved({b: net.forward for b, net in batched.items()}, repeats, wait)
    one = batch_times[str(batches[0])]
    thread_times = {}
    for threads in sorted({1, backend.thread_count()}):
        with backend.using_threads(threads), backend.limited_blas(threads):
            calls = {"forward": networks[str(middle)].forward}
            thread_times[str(threads)] = statistics.median(
                interleaved(calls, repeats, wait)["forward"]
            )
    return {
        "sizes": {
            size: {
                "seconds": statistics.median(times[size]),
                "operations_per_pixel": work[size] / int(size) ** 2,
                "time_per_pixel": _relative(times, {n: int(n) ** 2 for n in times})[size],
                "time_per_operation": _relative(times, work)[size],
            }
            for size in times
        },
        "batches": {
            b: statistics.median([own / first for own, first in zip(t, one, strict=True)])
            for b, t in batch_times.items()
        },
        "batch_size_tile": middle,
        "threads": thread_times,
    }


def _relative(times: dict[str, list[float]], work: dict[str, int]) -> dict[str, float]:
    """Median time for each unit of work, relative to the median over all sizes."""
    unit = {size: statistics.median(seconds) / work[size] for size, seconds in times.items()}
    middle = statistics.median(unit.values())
    return {size: value / middle for size, value in unit.items()}
