"""What `test_ranks` starts with mpirun: trainings on small images, some of which go wrong.

python tests/on_ranks.py WHAT FOLDER
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import guard
import numpy as np

from unet_np import backend, data
from unet_np.ops import conv
from unet_np.training.config import TrainConfig
from unet_np.training.loop import train
from unet_np.training.ranks import Ranks, launched

COMMON: dict[str, Any] = {
    "base_channels": 2, "depth": 1, "input_size": 36, "steps": 20, "seed": 5, "dtype": "float64",
    "checkpoint_every": 3, "validate_every": 5, "backend": "numpy", "learning_rate": 0.01,
}  # fmt: skip
"""With dropout 0.5, momentum 0.99 and augmentation, which are the defaults."""

TRAININGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "two tiles each": {"batch_size": 2},
    "instance": {"norm": "instance"},
    "batch": {"norm": "batch"},
    "batch, one step": {"norm": "batch", "steps": 1},
    "begun": {"steps": 2},
    "patience": {"patience": 1, "steps": 60, "learning_rate": 0.2, "warmup": 3},
    "detect": {"task": "detect", "base_channels": 3},
}
"""Each in a folder of its name."""


def settings(folder: str | Path, name: str) -> TrainConfig:
    """Of one of the trainings."""
    return TrainConfig(**COMMON | TRAININGS[name] | {"out": str(Path(folder, name))})


def dataset() -> data.Dataset:
    """Four small micrographs."""
    return data.load("synthetic-em", count=4, size=64)


def same(folder: str, ranks: Ranks) -> None:
    """Every training; each rank keeps what it ends with."""
    for name in TRAININGS:
        config = settings(folder, name)
        if name == "begun":
            config = config.replace(start=str(Path(folder, "paper", "weights.safetensors")))
        result = train(config, progress=False, dataset=dataset(), ranks=ranks)
        state = {key: backend.to_numpy(array) for key, array in result.net.state.items()}
        if not config.patience:
            np.savez(Path(folder, f"{name} {ranks.rank}.npz"), **state)


def fails(folder: str, ranks: Ranks) -> None:
    """The last rank cannot make its tile of step 7."""
    from unet_np.training.samples import Samples

    real = Samples._one

    def broken(self: Samples, number: int) -> Any:
        if not ranks.first and number == 6 * ranks.size + ranks.rank:
            raise MemoryError("no room for tile 7")
        return real(self, number)

    Samples._one = broken  # type: ignore[method-assign]
    train(settings(folder, "paper"), progress=False, dataset=dataset(), ranks=ranks)


def full(folder: str, ranks: Ranks) -> None:
    """The disk of the first rank has no room for the fourth file."""
    import safetensors.numpy

    real, calls = safetensors.numpy.save_file, []

    def fill(arrays: Any, path: Any, metadata: Any = None) -> None:
        calls.append(path)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        real(arrays, path, metadata)

    safetensors.numpy.save_file = fill
    train(settings(folder, "paper"), progress=False, dataset=dataset(), ranks=ranks)


def device(folder: str, ranks: Ranks, nccl: bool = False) -> None:
    """On the stand-in for CuPy, with its stand-in for NCCL or through the host."""
    modules = guard.modules()
    sums: list[int] = []

    class Group:
        def all_reduce(self, array: Any, out: Any) -> None:
            assert isinstance(array, guard.GuardArray)
            assert array is out
            sums.append(array.size)
            ranks.comm.Allreduce(array._array.copy(), out._array)

    modules["cupy"].cuda.nccl = SimpleNamespace(available=nccl)
    group = SimpleNamespace(init_process_group=lambda size, rank, use_mpi: Group())
    sys.modules.update(modules | {"cupyx.distributed": group})  # type: ignore[dict-item]
    # Where all inputs are 0, so is the direct sum, and a ReLU hands nothing back; Winograd's may
    # be 1e-18, and hands all.
    conv.ON_GPU = "im2col"
    config = settings(folder, "paper").replace(backend="cupy", dropout=0.0)
    result = train(config, progress=False, dataset=dataset(), ranks=ranks)
    assert sums == [result.net.architecture.parameters] * (config.steps if nccl else 0)


def killed(folder: str, ranks: Ranks) -> None:
    """The second rank is killed in the middle, as by a machine without memory."""
    import os
    import signal

    real = Ranks.mean

    def mean(self: Ranks, loss: float, arrays: Any) -> float:
        calls.append(loss)
        if self.rank == 1 and len(calls) == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, loss, arrays)

    calls: list[float] = []
    Ranks.mean = mean  # type: ignore[method-assign]
    train(settings(folder, "paper"), progress=False, dataset=dataset(), ranks=ranks)


def slow(folder: str, ranks: Ranks) -> None:
    """Nothing for a long while, before the first step."""
    Path(folder, f"{ranks.rank}").touch()
    time.sleep(1000)


def main(what: str, folder: str) -> int:
    """As the command line does: errors are one line of the rank that failed."""
    from unet_np import cli
    from unet_np.cli import train as command

    def run(args: Any) -> int:
        with launched() as ranks:
            chosen[what](ranks)
        return 0

    chosen: dict[str, Any] = {
        "same": lambda ranks: same(folder, ranks),
        "fails": lambda ranks: fails(folder, ranks),
        "full": lambda ranks: full(folder, ranks),
        "slow": lambda ranks: slow(folder, ranks),
        "killed": lambda ranks: killed(folder, ranks),
        "device": lambda ranks: device(folder, ranks),
        "nccl": lambda ranks: device(folder, ranks, nccl=True),
    }
    command.run = run
    return cli.main(["train"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
