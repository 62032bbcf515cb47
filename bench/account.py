"""From im2col to the final version: what each idea was expected to give, and what it gave.

Every variant is the present code with one thing taken away, so all of them can be
measured again, in turn, in one process.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

from bench.layers import layer_cases
from bench.network import OwnNetwork
from bench.peers import LAYOUTS, TorchNetwork
from bench.timing import interleaved
from unet_np import backend
from unet_np.backend import host
from unet_np.network.architecture import Architecture
from unet_np.ops import conv, im2col, winograd, winograd_rows, winograd_tiles

NEVER = 10**12
ONLY_SQUARES: dict[tuple[ModuleType, str], Any] = {
    (conv, "ALGORITHMS"): conv.ALGORITHMS | {"few_pixels": im2col},
    (winograd_rows, "FEW_KERNELS"): 0,
    (winograd_rows, "FEW_KERNELS_ELSE"): 0,
}

# Name, what it changes against the one before, constants of the modules that make it so.
VARIANTS: list[tuple[str, str, dict[tuple[ModuleType, str], Any]]] = [
    (
        "im2col",
        "one matrix product for each convolution",
        ONLY_SQUARES | {(winograd, "MIN_TILES"): NEVER, (host, "POOLED_BYTES"): NEVER},
    ),
    (
        "Winograd, small blocks",
        "a quarter of the multiplications; blocks of 48 tiles, which fit a core's own cache",
        ONLY_SQUARES
        | {
            (winograd_tiles, "BLOCK_ELEMENTS"): 48 * 64,
            (winograd, "MIN_TILES_OF_BLOCK"): 48,
            (winograd, "MIN_TILES"): 100,
            (host, "POOLED_BYTES"): NEVER,
        },
    ),
    (
        "larger blocks",
        "fewer calls, during which one thread of Python waits for the other",
        ONLY_SQUARES | {(winograd, "MIN_TILES"): 100, (host, "POOLED_BYTES"): NEVER},
    ),
    (
        "memory used again",
        "no fresh pages from the system in every step",
        ONLY_SQUARES | {(winograd, "MIN_TILES"): 100},
    ),
    (
        "Winograd at the bottom too",
        "the 1024-channel layers with their 49 tiles",
        ONLY_SQUARES,
    ),
    (
        "from row to row",
        "few channels: half of the multiplications, and nothing to cut out",
        {},
    ),
]


@contextmanager
def variant(constants: dict[tuple[ModuleType, str], Any]) -> Iterator[None]:
    """The package with other constants, for a while.

    Examples
    --------
    >>> with variant({(winograd, "MIN_TILES"): 7}):
    ...     winograd.MIN_TILES
    7
    """
    with ExitStack() as stack:
        for (module, name), value in constants.items():
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def bench_account(base_channels: int, size: int, repeats: int, xp: ModuleType) -> dict[str, Any]:
    """Seconds of prediction and training step for each variant, with PyTorch beside them.

    Returns
    -------
    dict
        ``operations`` of the direct 3x3 convolutions forward; ``rows``: name, what changed,
        seconds of ``forward`` and ``step``; ``torch``: seconds by layout.
    """
    own = OwnNetwork(base_channels, size, 1, xp)

    def run(kind: str, constants: dict[tuple[ModuleType, str], Any]) -> None:
        with variant(constants):
            getattr(own, kind)()

    result: dict[str, Any] = {
        "operations": sum(
            case.operations for case in layer_cases(Architecture(base_channels=base_channels), size)
        ),
        "rows": [{"name": name, "change": change} for name, change, _ in VARIANTS],
        "torch": {layout: {} for layout in LAYOUTS},
    }
    peers = {name: TorchNetwork(own.net, own.x, own.labels, name) for name in LAYOUTS}
    for kind in ("forward", "step"):
        calls: dict[str, Any] = {
            name: partial(run, kind, constants) for name, _, constants in VARIANTS
        }
        calls |= {layout: getattr(peer, kind) for layout, peer in peers.items()}
        times = interleaved(calls, repeats, partial(backend.synchronize, xp))
        for row in result["rows"]:
            row[kind] = statistics.median(times[row["name"]])
        for layout in LAYOUTS:
            result["torch"][layout][kind] = statistics.median(times[layout])
    return result
