"""What stands around the steps of a training: files, reports, checkpoints, an early end."""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

from unet_np import backend
from unet_np.backend import Array
from unet_np.errors import InputError, require
from unet_np.files import atomic_write
from unet_np.network.unet import UNet
from unet_np.training.checkpoint import (
    RunFolder,
    copy_into,
    load_checkpoint,
    save_checkpoint,
    writing,
)
from unet_np.training.config import TrainConfig
from unet_np.training.early_stopping import EarlyStopping
from unet_np.training.fine_tuning import start_from, weights_file
from unet_np.training.live import Live
from unet_np.training.lock import FolderLock
from unet_np.training.logs import CsvLog, Report, TensorBoard, progress_bar
from unet_np.training.optim import SGD
from unet_np.training.prefetch import Background
from unet_np.training.ranks import ALONE, Ranks
from unet_np.training.resume import check_same
from unet_np.training.samples import Samples, Tile


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves.

    Attributes
    ----------
    net : UNet
        The trained network: with ``patience`` the best one, else that of the last step.
    step : int
        Steps done.
    last : dict
        The last row of the metrics; empty if no step was left to do.
    folder : RunFolder
        The files of the run.
    best_step : int
        The step of the lowest validation loss; 0 without validation. Of the validations every
        ``validate_every`` steps, or where the run ended before the first of them, its last step.
    stopped_early : bool
        Whether ``patience`` ended it.
    """

    net: UNet
    step: int
    last: dict[str, Any]
    folder: RunFolder
    best_step: int = 0
    stopped_early: bool = False


@dataclass
class Run:
    """A training and its folder, as far as it is done.

    Attributes
    ----------
    config : TrainConfig
        The settings.
    folder : RunFolder
        Its files.
    samples : Samples
        What it learns from.
    net : UNet
        The network.
    optimiser : SGD
        Of its parameters.
    xp : module
        The array library.
    validation : list of Tile
        The tiles that are held out.
    early : EarlyStopping
        The lowest validation loss so far.
    threads : int
        Among which work is shared out: how decides the order of sums, and so their last bits.
    ranks : Ranks
        The processes that train together. The first one has the folder; what the others would write
        is left out.
    lock : FolderLock
        Of the folder.
    step : int
        Steps done.
    """

    config: TrainConfig
    folder: RunFolder
    samples: Samples
    net: UNet
    optimiser: SGD
    xp: ModuleType
    validation: list[Tile]
    early: EarlyStopping
    threads: int
    ranks: Ranks = ALONE
    lock: FolderLock | None = None
    step: int = 0
    _metrics_bytes: int = 0
    _times_bytes: int = 0
    _log: CsvLog | None = field(default=None, repr=False)
    _late: Callable[[], None] | None = field(default=None, repr=False)
    _write_rows: Callable[[], None] = field(default=lambda: None, repr=False)
    _writing: Background = field(default_factory=Background, repr=False)

    @classmethod
    def begin(
        cls,
        config: TrainConfig,
        samples: Samples,
        xp: ModuleType,
        resume: bool,
        overwrite: bool,
        ranks: Ranks = ALONE,
    ) -> Run:
        """Make the network and the folder, or go on with what is there.

        Raises
        ------
        InputError
            If the folder cannot be used, or the run in it was begun with other settings, or ranks
            differ in settings or data.
        MissingExtraError
            If TensorBoard is asked for and not installed.
        """
        if config.tensorboard:
            require("tensorboard", "tensorboard")  # before anything is removed
        ranks.check_alike(_must_be_alike(config, samples, xp))
        net = UNet(
            **samples.architecture.to_dict(),
            dropout=config.dropout,
            dtype=config.dtype,
            seed=config.seed,
            backend=_name(xp),
        )
        folder = RunFolder(config.out)
        going_on = resume and folder.checkpoint.exists()
        if ranks.first and not going_on:
            samples.task.begin(net.params)
            if config.start:
                check_start(config.start, folder)
                start_from(net, config.start)
        optimiser = SGD(net.params, config.learning_rate, config.momentum, config.weight_decay)
        tiles = samples.validation_tiles() if ranks.first else []
        early, threads = EarlyStopping(config.patience), backend.thread_count()
        run = cls(config, folder, samples, net, optimiser, xp, tiles, early, threads, ranks)
        if ranks.first:
            run._take_folder(resume, overwrite, going_on)
        try:
            run._share()
        except BaseException:
            run.close()
            raise
        return run

    def _take_folder(self, resume: bool, overwrite: bool, going_on: bool) -> None:
        """Begin the run in its folder, or go on with the one that is there."""
        config, folder, names = self.config, self.folder, self.samples.class_names
        folder.make()
        with ExitStack() as stack:
            self.lock = stack.enter_context(FolderLock(config.out))
            as_it_is = config.stands_in(folder.config)
            size = self.samples.architecture.parameters * self.net.dtype.itemsize
            folder.begin(size, resume, overwrite, as_it_is)
            if going_on:
                self._restore()
            # One that holds these settings may be the user's own, with remarks.
            if not as_it_is:
                with atomic_write(folder.config) as temporary:
                    temporary.write_text(config.to_toml(), "utf-8")
            if names:
                with atomic_write(folder.classes) as temporary:
                    temporary.write_text("\n".join(names) + "\n", "utf-8", "surrogateescape")
            stack.pop_all()

    def _share(self) -> None:
        """Give every rank what the first one begins with."""
        if self.ranks.size == 1:
            return
        groups = self.net.state, self.optimiser.velocity
        mine = [{name: backend.to_numpy(a) for name, a in group.items()} for group in groups]
        begun = (mine, self.step, self.threads, self.early) if self.ranks.first else None
        theirs, self.step, self.threads, self.early = self.ranks.agree(begun)[0]
        for group, values in zip(groups, theirs, strict=True):
            copy_into(group, values, "ranks")

    def validate(self) -> dict[str, float]:
        """The figures of the tiles that are held out; the first rank finds them for all."""
        figures = None
        if self.ranks.first:
            figures = self.samples.task.validate(self.net.forward, self.validation)
        return self.ranks.agree(figures)[0]

    def check(self, step: Callable[[], None] | None = None) -> None:
        """Check a step by calling it: at once, or on a GPU when the next step has been queued.

        The GPU by then has work to do while the host waits for the numbers of the step before, and
        skips by itself an update that must not be. Without a `step` the last one is waited for.
        """
        if backend.is_device(self.xp):
            step, self._late = self._late, step
        if step is not None:
            step()

    def close(self) -> None:
        """Let other trainings have the folder, once all is written."""
        try:
            self._writing.wait()
        finally:
            if self.lock is not None:
                self.lock.close()

    @property
    def end(self) -> int:
        """The step after which the training is over."""
        return self.step if self.early.stops else self.config.steps

    def due(self, every: int) -> bool:
        """Whether the step just done is one of those `every` so many, or the last."""
        return self.step % every == 0 or self.step == self.config.steps

    @contextmanager
    def reports(self, progress: bool | Report) -> Iterator[Report]:
        """What to call with each row of the metrics, when its step is done.

        It writes the row once it has its numbers, saves where a checkpoint is due, and shows the
        progress; on the first rank only.
        """
        config, folder = self.config, self.folder
        if not self.ranks.first:
            yield self._note
            return
        with ExitStack() as stack:
            enter = stack.enter_context
            log = self._log = enter(
                CsvLog(folder.metrics, self.samples.columns, self._metrics_bytes)
            )
            times = enter(CsvLog(folder.times, ("step", "seconds"), self._times_bytes))
            board = enter(TensorBoard(folder.tensorboard, self.step, config.tensorboard))
            show = enter(progress_bar(progress, self.step, config.steps))
            if self.step == 0:
                self.save()
                self._writing.wait()  # a run killed at any moment from here on can be resumed
            begun, live = time.perf_counter(), Live()
            waiting: list[tuple[dict[str, Any], float]] = []
            written: list[dict[str, Any]] = []

            def write_rows() -> None:
                while waiting and "loss" in waiting[0][0]:
                    row, seconds = waiting.pop(0)
                    with writing(folder.metrics):
                        log.write(row)
                        times.write({"step": row["step"], "seconds": seconds})
                        board.write(row)
                    written.append(row)

            def report(row: dict[str, Any]) -> None:
                self._check_folder()
                self._note(row)
                waiting.append((row, time.perf_counter() - begun))
                write_rows()
                self._save_if_due()
                while written:
                    show(written.pop(0))
                live.update(self)

            self._write_rows = write_rows
            yield report

    def _note(self, row: dict[str, Any]) -> None:
        """Take note of a validation."""
        # Not the one of a last step between two others: with more steps it would not be.
        if "validation_loss" in row and self.step % self.config.validate_every == 0:
            self.early.update(self.step, row["validation_loss"])

    def _check_folder(self) -> None:
        if self.lock is not None:
            self.lock.check()

    def _save_if_due(self) -> None:
        """A checkpoint where the settings ask for one, at a new best and at an early end.

        With one at each new best, the file of weights never is of a later step than the
        checkpoint, and a resumed run need not find it again.
        """
        best = bool(self.early.patience) and self.early.keeps(self.step)
        if best or self.early.stops or self.due(self.config.checkpoint_every):
            self.save()

    def save(self) -> None:
        """Checkpoint, then weights: what `--resume` needs comes first.

        On a GPU a copy is written beside the next steps, which need not wait for it.
        """
        if not self.ranks.first:
            return
        self._check_folder()
        self.check()  # a checkpoint is of steps that are known to be good, and has their rows
        self._write_rows()
        if self._log is not None:
            with writing(self.folder.metrics):
                self._metrics_bytes = self._log.offset()
        state = {
            "step": self.step,
            "metrics_bytes": self._metrics_bytes,
            "config": self.config.to_dict(),
            "weighting": self.config.weighting,
            "data": self.samples.checksum,
            "threads": self.threads,
            "ranks": self.ranks.size,
            "backend": self.xp.__name__,
            "early_stopping": self.early.state(),
        }
        weights = self.early.keeps(self.step) or self._over_before_it_counts()
        net, velocity = self.net, self.optimiser.velocity
        if backend.is_device(self.xp):
            net, velocity = _copies(net, velocity)
            self._writing.begin(partial(self._write, net, velocity, state, weights))
        else:
            self._write(net, velocity, state, weights)

    def _write(
        self, net: UNet, velocity: dict[str, Array], state: dict[str, Any], weights: bool
    ) -> None:
        save_checkpoint(self.folder.checkpoint, net.state, velocity, state)
        if weights:
            self._write_weights(net)

    def _write_weights(self, net: UNet) -> None:
        with writing(self.folder.weights):
            net.save(self.folder.weights, metadata=self.samples.task.notes())

    def _over_before_it_counts(self) -> bool:
        """Whether the last step is done and no validation was due before."""
        return self.step == self.config.steps and not self.early.counted

    def _restore(self) -> None:
        """Continue from the checkpoint of the folder."""
        params, velocity, state = load_checkpoint(self.folder.checkpoint)
        library, ranks = self.xp.__name__, self.ranks.size
        check_same(state, self.config, self.samples.checksum, library, ranks)
        copy_into(self.net.state, params, "checkpoint")
        copy_into(self.optimiser.velocity, velocity, "checkpoint")
        self.step, self.threads = state["step"], state["threads"]
        self._metrics_bytes = state["metrics_bytes"]
        if self.step and self.folder.times.exists():
            self._times_bytes = self.folder.times.stat().st_size
        self.early = EarlyStopping.of(self.config.patience, state.get("early_stopping", {}))
        if self.early.keeps(self.step) or self._over_before_it_counts():
            self._write_weights(self.net)  # killed after a checkpoint, these may be older

    def result(self, last: dict[str, Any]) -> TrainResult:
        """What is handed back at the end."""
        early, net = self.early, self.net
        if early.patience and self.ranks.first:
            net = UNet.load(self.folder.weights, _name(self.xp), net.dtype, self.config.seed)
        at_the_end = self._over_before_it_counts() and (early.patience or "validation_loss" in last)
        best = self.step if at_the_end else early.best_step
        return TrainResult(net, self.step, last, self.folder, best, early.stops)


def check_start(start: str, folder: RunFolder) -> None:
    """Refuse to begin from a file that the run will replace.

    Raises
    ------
    InputError
        If it is one of the folder's own.

    Examples
    --------
    >>> check_start("runs/a/weights.safetensors", RunFolder("runs/a"))
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: start: got runs/a/weights.safetensors, which the run in --out \
replaces, expected a copy of it or another --out
    """
    file = weights_file(start)
    if file.resolve() in [path.resolve() for path in folder.files]:
        raise InputError(
            f"start: got {start}, which the run in --out replaces, expected a copy of it or "
            "another --out"
        )


def _must_be_alike(config: TrainConfig, samples: Samples, xp: ModuleType) -> dict[str, Any]:
    """What ranks have to have in common: neither the places of files nor the number of cores."""
    settings = config.to_dict()
    for name in ("out", "images", "masks", "start", "threads", "backend"):
        del settings[name]
    settings["backend"], settings["data"] = xp.__name__, f"checksum {samples.checksum:08x}"
    return settings


def _copies(net: UNet, velocity: dict[str, Array]) -> tuple[UNet, dict[str, Array]]:
    """The network and the velocity as they are now."""
    now = copy.copy(net)  # its parameters are copied: see `Network.__setstate__`
    now.buffers = OrderedDict((name, array.copy()) for name, array in net.buffers.items())
    return now, {name: array.copy() for name, array in velocity.items()}


def _name(xp: ModuleType) -> str:
    return "cupy" if backend.is_device(xp) else "numpy"
