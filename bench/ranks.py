"""A training step on two ranks of one thread each, beside one process of one and of two threads.

All ways take turns within one start of mpirun, step by step, so that all share the weather, and
PyTorch with two threads takes its turn too; the second rank sleeps while the first one works alone.
Each measured step is preceded by one that is not, since threads that have rested may begin on one
core. The sum of the gradients is timed by itself. `load_average` says how much else ran: above
about 0.5, seconds and ratios are those of a busy machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.network import OwnNetwork
from bench.peers import LAYOUTS, TorchNetwork
from unet_np import backend
from unet_np.backend import using_threads
from unet_np.data import load
from unet_np.errors import InputError
from unet_np.network.unet import UNet
from unet_np.training import samples
from unet_np.training.checkpoint import RunFolder
from unet_np.training.config import TrainConfig
from unet_np.training.early_stopping import EarlyStopping
from unet_np.training.loop import train_step
from unet_np.training.optim import SGD
from unet_np.training.ranks import ALONE, Ranks, launched
from unet_np.training.run import Run

WAYS = {
    "one thread": (1, 1, 1),
    "two threads": (1, 2, 1),
    "two threads, two tiles": (1, 2, 2),
    "two ranks": (2, 1, 1),
}
"""Ranks, threads of each, and tiles that each of them has in a step."""

PEERS = {f"torch {layout}": layout for layout in LAYOUTS}
"""PyTorch's memory orders: one process, two threads, two tiles."""

TILES = {way: count * tiles for way, (count, _, tiles) in WAYS.items()} | dict.fromkeys(PEERS, 2)
"""How many tiles a step has."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes and repeats."""
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 64], metavar="N")
    parser.add_argument("--sizes", type=int, nargs="+", default=[572], help="sides of the tile")
    parser.add_argument("--repeats", type=int, default=5, help="measured steps of each way")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Start mpirun with two ranks of this module."""
    if args.repeats < 1:
        raise InputError(f"repeats: got {args.repeats}, expected an integer >= 1")
    load_before = os.getloadavg()[0]
    mpirun = Path(sys.executable).with_name("mpirun")
    command = [str(mpirun), "-n", "2", sys.executable, "-m", "bench.ranks"]
    words = json.dumps([args.repeats, args.sizes, args.channels])
    done = subprocess.run([*command, words], stdout=subprocess.PIPE, text=True, check=True)
    return {"load_average": load_before, "networks": json.loads(done.stdout)}


def text(result: dict[str, Any]) -> str:
    """For a terminal.

    Examples
    --------
    >>> seconds = {"one thread": [2.0], "two ranks": [2.5], "torch nchw": [3.125]}
    >>> row = {"size": 572, "channels": 16, "bytes": 8e6, "seconds": seconds, "sum_seconds": [0.02]}
    >>> print(text({"load_average": 0.2, "networks": [row]}))
    load average 0.2 before
    tiles of 572 pixels, 16 channels, 8 MB of gradients, summed in 20 ms
      one thread              2.000 s   0.50 tiles/s
      two ranks               2.500 s   0.80 tiles/s
      torch nchw              3.125 s   0.64 tiles/s
    """
    lines = [f"load average {result['load_average']:.1f} before"]
    for row in result["networks"]:
        took = 1000 * statistics.median(row["sum_seconds"])
        shown = f"{row['bytes'] / 1e6:.0f} MB of gradients, summed in {took:.0f} ms"
        lines.append(f"tiles of {row['size']} pixels, {row['channels']} channels, {shown}")
        for way, seconds in row["seconds"].items():
            middle = statistics.median(seconds)
            lines.append(f"  {way:<22}{middle:7.3f} s{TILES[way] / middle:7.2f} tiles/s")
    return "\n".join(lines)


class _Steps:
    """One network, and a step of it each way."""

    def __init__(self, channels: int, size: int, ranks: Ranks) -> None:
        self.ranks = ranks
        shape: dict[str, Any] = {"base_channels": channels, "input_size": size}
        config = TrainConfig(**shape, weight_map=False, learning_rate=1e-6, backend="numpy")
        prepared = samples.prepare(config, load("synthetic-em", count=2, size=512), np)
        self.net = net = UNet(**prepared.architecture.to_dict(), backend="numpy")
        optimiser = SGD(net.params, config.learning_rate, config.momentum)
        self.runs, self.tiles = {}, {}
        for way, (count, threads, tiles) in WAYS.items():
            own = replace(prepared, config=config.replace(batch_size=tiles))
            # Nothing is written: the folder is for the message of an error.
            parts = own.config, RunFolder(config.out), own, net, optimiser, np
            used = ranks if count > 1 else ALONE
            self.runs[way] = Run(*parts, [], EarlyStopping(), threads, used)
            self.tiles[way] = own.tile(0)
        noise = OwnNetwork(channels, size, 2, np)
        with using_threads(2):
            self.peers = {
                name: TorchNetwork(self.net, noise.x, noise.labels, layout)
                for name, layout in PEERS.items()
            }

    def seconds(self, way: str) -> float:
        """Of one step; of several ranks the time of the slower one."""
        if way in self.peers:
            return self._by_the_first(self.peers[way].step)
        run, tile = self.runs[way], self.tiles[way]

        def step() -> None:
            with using_threads(run.threads):
                train_step(run, tile)

        return self._timed(step) if run.ranks.size > 1 else self._by_the_first(step)

    def sum_seconds(self) -> float:
        """Of the sum of all gradients, once all ranks are there."""
        return self._timed(lambda: self.ranks.mean(0.0, list(self.net.grads.values())))

    def _timed(self, call: Callable[[], object]) -> float:
        call()
        self.ranks.agree()
        start = time.perf_counter()
        call()
        return max(self.ranks.agree(time.perf_counter() - start))

    def _by_the_first(self, call: Callable[[], object]) -> float:
        """The others sleep: MPI waits by asking again and again, which takes a core."""
        self.ranks.agree()
        if self.ranks.first:
            call()
            start = time.perf_counter()
            call()
            self.ranks.comm.send(time.perf_counter() - start, 1)
        else:
            while not self.ranks.comm.Iprobe(0):
                time.sleep(0.01)
            seconds = self.ranks.comm.recv(source=0)
        return self.ranks.agree(None if self.ranks.first else seconds)[1]


def main(repeats: int, sizes: list[int], channels: list[int]) -> list[dict[str, Any]]:
    """On each rank: a row for each network."""
    rows = []
    with launched() as ranks:
        for size, count in itertools.product(sizes, channels):
            steps = _Steps(count, size, ranks)
            rounds = [{way: steps.seconds(way) for way in TILES} for _ in range(repeats)]
            seconds = {way: [one[way] for one in rounds] for way in TILES}
            sums = [steps.sum_seconds() for _ in range(repeats)]
            gradients = [backend.to_numpy(grad).nbytes for grad in steps.net.grads.values()]
            row = {"size": size, "channels": count, "bytes": sum(gradients)}
            rows.append(row | {"seconds": seconds, "sum_seconds": sums})
        return rows if ranks.first else []


if __name__ == "__main__":
    found = main(*json.loads(sys.argv[1]))
    if found:
        print(json.dumps(found))
