"""Everything worth knowing of a GPU: probe, speed and memory against PyTorch, profile, trainings.

Each stage is a process with a share of the time (--seconds) and leaves STAGE.json in the folder as
it goes, so that one that fails or is cut off takes nothing along. Trainings leave probabilities,
which are scored where there is time, on any machine:

    python -m bench gpu --folder gpu                                               # on the GPU
    python -m bench gpu --folder gpu --only score --out results/bench-gpu.json     # at home

`--quick` is a dry run on the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from bench.layers import bench_layers, layer_cases
from bench.network import OwnNetwork, bench_memory, bench_network
from bench.peers import LAYOUTS, torch_module
from bench.timing import copy_rate, gemm_rate, interleaved
from unet_np import backend
from unet_np.augmentation.augment import Augmentation
from unet_np.data import Dataset
from unet_np.errors import InputError
from unet_np.experiments import experiment, runner
from unet_np.experiments.provenance import provenance
from unet_np.experiments.recipes import Recipe, recipe
from unet_np.files import atomic_write
from unet_np.network.architecture import Architecture
from unet_np.ops import conv
from unet_np.training import samples
from unet_np.training.loop import train_step
from unet_np.training.prefetch import prefetch
from unet_np.training.run import Run

TRAININGS = {"em": 2, "u373": 0, "hela": 0}
"""The fold of each, with normalisation: the paper's network needs more steps than there is time."""
SHARES = {
    "probe": 0.025,
    "network": 0.23,
    "ways": 0.02,
    "memory": 0.16,
    "layers": 0.06,
    "profile": 0.08,
    "training": 0.07,
    "em": 0.13,
    "u373": 0.09,
    "hela": 0.135,
}
"""Of the time; most of the network's goes into the algorithms that PyTorch tries."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, how long and what."""
    add = parser.add_argument
    add("--folder", type=Path, default=Path("gpu"), help="of the files of the stages (gpu)")
    add("--seconds", type=float, default=480, help="for all stages together (480)")
    add("--only", nargs="+", choices=[*SHARES, "score"], default=[*SHARES], metavar="STAGE")
    add("--quick", action="store_true", help="a dry run on the processor, about a minute")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The figures of all stages whose files are in the folder."""
    if args.seconds <= 0:
        raise InputError(f"--seconds: got {args.seconds:g}, expected a number > 0")
    args.folder.mkdir(parents=True, exist_ok=True)
    for stage in args.only:
        if stage != "score":
            _run(stage, args.folder, args.seconds * SHARES[stage], args.quick)
    if "score" in args.only:
        for path in sorted(args.folder.glob("*.npz")):
            _write(args.folder, f"{path.stem}-scores", score(path))
    names = [name for stage in SHARES for name in (stage, f"{stage}-scores")]
    paths = [path for name in names if (path := args.folder / f"{name}.json").exists()]
    figures = {path.stem: json.loads(path.read_text("utf-8")) for path in paths}
    # Of the machine with the GPU, not of the one that puts all together.
    made = dict(figures.get("probe", {}).get("made", {}))
    made.pop("command", None)
    return made | {"stages": figures}


def text(result: dict[str, Any]) -> str:
    """A line for each stage, and what it found last."""
    return "\n".join(f"{name}: {json.dumps(got)[:300]}" for name, got in result["stages"].items())


def _run(stage: str, folder: Path, seconds: float, quick: bool) -> None:
    """A stage in a process of its own, which ends when its time is over."""
    command = [sys.executable, "-m", "bench.gpu", stage, str(folder), str(seconds), str(int(quick))]
    # One thread for a dry run: two that wait for each other on a busy machine take minutes.
    few = {"OMP_NUM_THREADS": "1", "UNET_NP_THREADS": "1"} if quick else {}
    begun, path = time.perf_counter(), folder / f"{stage}.json"
    path.unlink(missing_ok=True)
    with open(folder / f"{stage}.log", "w", encoding="utf-8") as log:
        try:
            code = subprocess.run(
                command, timeout=seconds, stdout=log, stderr=log, env=os.environ | few
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if code is None:
        found["stopped"] = f"after {seconds:.0f} s"
    elif code:
        lines = (folder / f"{stage}.log").read_text("utf-8").strip().splitlines()
        found["failed"] = lines[-1] if lines else f"exit code {code}"
    _write(folder, stage, found | {"seconds": round(time.perf_counter() - begun, 1)})


def _write(folder: Path, stage: str, figures: dict[str, Any]) -> None:
    with atomic_write(folder / f"{stage}.json") as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


class Stage:
    """What a stage has to know, and the figures that it has so far."""

    def __init__(self, name: str, folder: Path, seconds: float, quick: bool) -> None:
        self.name, self.folder, self.quick = name, folder, quick
        self.end = time.perf_counter() + seconds
        self.library = "numpy" if quick else "cupy"
        self.xp: ModuleType = backend.get(self.library)
        self.wait = partial(backend.synchronize, self.xp)
        self.base, self.size, self.repeats = (4, 188, 1) if quick else (64, 572, 20)
        self.figures: dict[str, Any] = {}

    def found(self, **figures: Any) -> None:
        """Keep figures, also should the stage be cut off."""
        self.figures |= figures
        _write(self.folder, self.name, self.figures)

    def seconds(self, function: Any) -> float:
        """Of the fastest of several calls."""
        return min(interleaved({"": function}, self.repeats, self.wait)[""])


def probe(stage: Stage) -> None:
    """The machine, its limits, and the parts of a step that are no convolution."""
    xp, quick = stage.xp, stage.quick
    stage.found(made=provenance([]), gpu=backend.device_about(xp))
    stage.found(copy_rate=copy_rate(xp, 2**20 if quick else 2**30))
    for tf32 in (False, True):
        backend.allow_tf32(tf32, xp)
        batch, tiles, channels = (2, 64, 16) if quick else (36, 4096, 512)
        a, b = (xp.ones((batch, n, channels), "float32") for n in (tiles, channels))
        seconds = stage.seconds(lambda a=a, b=b: xp.matmul(a, b))
        rates = {
            "gemm_rate": gemm_rate(xp, 256 if quick else 8192),
            "batched_rate": 2 * batch * tiles * channels**2 / seconds,
        }
        stage.found(**{f"{key}{'_tf32' if tf32 else ''}": rate for key, rate in rates.items()})
    size = 64 if quick else 512
    image = xp.asarray(np.random.default_rng(0).random((size, size), np.float32))
    labels, weights = (image > 0.5).astype("uint8"), xp.ones((size, size), "float32")
    window = (stage.size, Architecture(base_channels=4).output_size(stage.size))

    def tile() -> Any:
        return Augmentation().tile(image, labels, weights, *window, np.random.default_rng(1))

    def drop() -> Any:
        rng = backend.default_rng(xp, (0, 1, 2))
        return rng.random((64, 64, 8 * stage.base), dtype=xp.float32)

    stage.found(tile_seconds=stage.seconds(tile), dropout_seconds=stage.seconds(drop))


def network(stage: Stage) -> None:
    """Prediction and step against PyTorch in both layouts, in float32 and with TF32.

    With TF32 once more in the end: what a host is busy with at first, it may not be then, and
    PyTorch has its algorithms.
    """
    for name, tf32 in (("tf32", True), ("float32", False), ("tf32_again", True)):
        backend.allow_tf32(tf32, stage.xp)
        how = stage.base, stage.size, stage.repeats, stage.xp, tf32
        stage.found(**{name: bench_network(*how)})


def ways(stage: Stage) -> None:
    """The network by each algorithm that ``auto`` may be there, in turn: for `conv.ON_GPU`.

    ``error`` is what the logits differ from those by im2col in float32, as a share of the largest.
    """
    own, names = OwnNetwork(stage.base, stage.size, 1, stage.xp), ("im2col", "winograd_cuda")

    def run(kind: str, algorithm: str) -> Any:
        with mock.patch.object(conv, "ON_GPU", algorithm):
            return getattr(own, kind)()

    exact = run("forward", "im2col")
    for kind, tf32 in product(("forward", "step"), (False, True)):
        backend.allow_tf32(tf32, stage.xp)
        found: dict[str, Any] = {}
        if kind == "forward":
            errors = {name: abs(run(kind, name) - exact).max() / abs(exact).max() for name in names}
            found["error"] = {name: float(error) for name, error in errors.items()}
        calls = {name: partial(run, kind, name) for name in names}
        times = interleaved(calls, stage.repeats, stage.wait)
        found |= {name: statistics.median(t) for name, t in times.items()}
        found["faster"] = min(names, key=lambda name: found[name])
        stage.found(**{f"{kind}{'_tf32' if tf32 else ''}": found})


def memory(stage: Stage) -> None:
    """Peak memory of prediction and step."""
    how = stage.base, stage.size, stage.library, backend.thread_count()
    for kind in ("step", "forward"):
        stage.found(**{kind: bench_memory(kind, *how)})


def layers(stage: Stage) -> None:
    """Each convolution by each algorithm."""
    cases = layer_cases(Architecture(base_channels=stage.base), stage.size)
    cases = cases[:1] if stage.quick else cases
    names = ("im2col", "winograd", "winograd_rows" if stage.quick else "winograd_cuda")
    for name, tf32 in (("float32", False), ("tf32", True)):
        backend.allow_tf32(tf32, stage.xp)
        how = stage.repeats, stage.xp, names, tf32, LAYOUTS if stage.quick else ()
        stage.found(**{name: bench_layers(cases, *how)})


def profile(stage: Stage) -> None:
    """The kernels of a prediction and of a step: how many, and which take the most time."""
    own = OwnNetwork(stage.base, stage.size, 1, stage.xp)
    for name, tf32 in (("float32", False), ("tf32", True)):
        backend.allow_tf32(tf32, stage.xp)
        stage.found(**{f"forward_{name}": _kernels(stage, own.forward)})
        stage.found(**{name: _kernels(stage, own.step)})


def _kernels(stage: Stage, call: Callable[[], object]) -> dict[str, Any]:
    """What the GPU does in a call, and how long the host needs to ask for it."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    gpu = torch_module().cuda.is_available()
    kind = ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU
    call()
    asked = []
    for _ in range(stage.repeats):
        stage.wait()
        begun = time.perf_counter()
        call()
        asked.append(time.perf_counter() - begun)
    stage.wait()
    with record(activities=[kind]) as recorded:
        call()
        stage.wait()
    calls, busy = Counter[str](), Counter[str]()
    for event in recorded.events():
        # What the host did to ask for a kernel is an event of its own.
        if not gpu or event.device_type.name == "CUDA":
            calls[event.name[:120]] += 1
            busy[event.name[:120]] += event.time_range.elapsed_us() / 1e6
    most = [[key, calls[key], seconds] for key, seconds in busy.most_common(40)]
    figures = {"calls": calls.total(), "busy_seconds": busy.total()}
    return figures | {"host_seconds": statistics.median(asked), "most": most}


def training(stage: Stage) -> None:
    """Where the time of a training goes: EM's steps with normalisation, tiles made here or there.

    Seconds a step: of ``step`` from the same tile, of a ``tile`` alone, of both by one thread and
    of both by two, as `train` has them.
    """
    chosen, fold_number = _recipe("em", stage.quick)
    backend.allow_tf32(True, stage.xp)
    dataset = chosen.dataset()
    count = 3 if stage.quick else 20
    with tempfile.TemporaryDirectory() as scratch:
        config = chosen.fold_config(chosen.folds(dataset)[fold_number], Path(scratch, "run"))
        config = config.replace(backend=stage.library, steps=10**6)
        own = samples.prepare(config, dataset, stage.xp)
        run = Run.begin(config, own, stage.xp, False, False)
        tile = own.tile(0)

        def ahead(tiles: int) -> None:
            with prefetch(own.tile, 0, count, tiles) as made:
                for one in made:
                    train_step(run, one)

        def again(function: Callable[[], object]) -> Callable[[], object]:
            return lambda: [function() for _ in range(count)]

        ways = {
            "step": again(lambda: train_step(run, tile)),
            "tile": again(lambda: own.tile(1)),
            "one_thread": lambda: ahead(0),
            "two_threads": lambda: ahead(2),
        }
        times = interleaved(ways, 1 if stage.quick else 3, stage.wait)
        stage.found(**{name: statistics.median(t) / count for name, t in times.items()})
        stage.found(kernels=_kernels(stage, lambda: train_step(run, tile)))
        stage.found(kernels_of_tile=_kernels(stage, lambda: own.tile(1)))
        run.check()
        run.close()


def train(stage: Stage) -> None:
    """A training as long as the time allows, and the probabilities that scores are made from."""
    chosen, fold_number = _recipe(stage.name, stage.quick)
    backend.allow_tf32(True, stage.xp)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[fold_number]
    clock: list[float] = []

    def fit(steps: int, folder: Path) -> Any:
        clock.clear()
        config = chosen.config.replace(
            steps=steps,
            validate_every=max(steps // 10, 10),
            checkpoint_every=10**6,
            backend=stage.library,
        )
        now = Recipe(**{**vars(chosen), "config": config})
        note = lambda _: clock.append(time.perf_counter())  # noqa: E731
        net = runner.train_fold(now, dataset, fold, folder, False, True, note)
        # A median: some steps are followed by a validation.
        return net, statistics.median(np.diff(clock[len(clock) // 2 :]))

    with tempfile.TemporaryDirectory() as scratch:
        _, pilot = fit(10 if stage.quick else 40, Path(scratch, "pilot"))
        # The rest is for validations and predictions, each of which is several steps' work, and for
        # the start.
        room = 0.6 * (stage.end - time.perf_counter())
        steps = 10 if stage.quick else int(np.clip(room / pilot, 20, chosen.config.steps))
        net, per = fit(steps, Path(scratch, "run"))
        stage.found(steps=steps, seconds_per_step=per, curve=runner.curve(Path(scratch, "run")))
        rest = Path(scratch, "run"), 1 if stage.quick else chosen.averaging, lambda _: None
        parts: dict[str, tuple[Dataset, Sequence[int]]] = {
            "side": (dataset, experiment.threshold_slices(chosen, fold)),
            "maps": (dataset, fold.test),
        }
        if crowd := experiment.composites(chosen, dataset, fold):
            parts["crowd"] = crowd, range(len(crowd))
        kept, timed = {}, {}
        for part, (source, indices) in parts.items():
            maps, timed[part] = runner.predict_slices(net, source, indices, *rest)
            kept[part] = np.round(255 * maps).astype(np.uint8)  # small enough to be carried
        stage.found(prediction_seconds=timed)
        with (
            atomic_write(stage.folder / f"{stage.name}.npz") as temporary,
            open(temporary, "wb") as file,
        ):
            np.savez_compressed(file, quick=stage.quick, **kept)  # type: ignore[arg-type]


def score(path: Path) -> dict[str, Any]:
    """Scores and thresholds of the probabilities that a training left."""
    with np.load(path) as file:
        quick = bool(file["quick"])
        parts = {part: file[part] / np.float32(255) for part in file if part != "quick"}
    chosen, number = _recipe(path.stem, quick)
    dataset = chosen.dataset()
    fold = chosen.folds(dataset)[number]
    crowd = experiment.composites(chosen, dataset, fold)
    crowded = None if crowd is None else (crowd.instances, parts["crowd"])
    predicted = experiment.Predicted(parts["side"], parts["maps"], crowded, (0.0, 0))  # type: ignore[arg-type]
    return experiment.score_fold(chosen, dataset, fold, predicted)


def _recipe(name: str, quick: bool) -> tuple[Recipe, int]:
    wide = {} if quick else {"base_channels": 64}
    return recipe(name, quick=quick, norm="instance", **wide), 0 if quick else TRAININGS[name]


STAGES = {
    "probe": probe,
    "network": network,
    "ways": ways,
    "memory": memory,
    "layers": layers,
    "profile": profile,
    "training": training,
    **dict.fromkeys(TRAININGS, train),
}

if __name__ == "__main__":
    name, folder, seconds, quick = sys.argv[1:]
    if quick == "1":
        os.environ["UNET_NP_BACKEND"] = "numpy"
    STAGES[name](Stage(name, Path(folder), float(seconds), quick == "1"))
