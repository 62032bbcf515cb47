"""Training as in sections 2 and 3: one tile a step, momentum 0.99, weighted cross entropy.

A step is determined by the settings and its number alone: which slice, how it is
augmented and what drops out come from generators keyed by (seed, stream, step). A run
that is killed and resumed is therefore bit for bit the run that was left alone.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from unet_np import backend, data
from unet_np.backend import STREAMS, default_rng
from unet_np.data import Dataset
from unet_np.data.own.classes import read_classes
from unet_np.data.own.pairs import read_pairs
from unet_np.errors import InputError
from unet_np.files import atomic_write
from unet_np.network.unet import UNet
from unet_np.ops import weighted_cross_entropy
from unet_np.tasks import Task
from unet_np.training import samples
from unet_np.training.checkpoint import (
    RunFolder,
    copy_into,
    load_checkpoint,
    save_checkpoint,
    writing,
)
from unet_np.training.config import TrainConfig, recorded_settings
from unet_np.training.early_stopping import EarlyStopping
from unet_np.training.fine_tuning import start_from
from unet_np.training.interrupt import stop_after_step
from unet_np.training.logs import CsvLog, Report, TensorBoard, progress_bar
from unet_np.training.optim import SGD, check_step, gradient_norm
from unet_np.training.prefetch import prefetch
from unet_np.training.samples import Samples, Tile
from unet_np.weighting.eq2 import DEFAULTS as WEIGHT_MAPS

__all__ = ["TrainConfig", "TrainResult", "TrainingInterrupted", "train"]

MAY_CHANGE = ("steps", "checkpoint_every", "out", "tensorboard")
"""Settings that a resumed run may have of its own; the other ones would change its steps."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training; a checkpoint was saved."""


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
class _Run:
    """What the steps of a run share."""

    config: TrainConfig
    folder: RunFolder
    samples: Samples
    net: UNet
    optimiser: SGD
    xp: ModuleType
    validation: list[Tile]
    early: EarlyStopping
    step: int = 0
    metrics_bytes: int = 0
    times_bytes: int = 0
    threads: int = 0

    def advance(self, tile: Tile) -> dict[str, Any]:
        """One step of gradient descent; the row of the metrics."""
        rng = default_rng(self.xp, (self.config.seed, STREAMS["dropout"], self.step))
        logits = self.net.forward(tile.image, train=True, rng=rng)
        energy, grad = self.samples.energy(logits, tile)
        self.net.backward(grad, need_grad_x=False)
        loss, norm, rate = float(energy), gradient_norm(self.net.grads), self.config.rate(self.step)
        limits = self.config.gradient_limit, self.config.loss_limit
        check_step(self.step + 1, loss, norm, *limits, str(self.folder.checkpoint))
        self.optimiser.step(self.net.grads, rate)
        self.step += 1
        row = {"step": self.step, "learning_rate": rate, "loss": loss, "gradient_norm": norm}
        if self._due(self.config.validate_every):
            row |= validate(self.net, self.validation, self.samples.task)
            # Not the one of a last step between two others: with more steps it would not be.
            if "validation_loss" in row and self.step % self.config.validate_every == 0:
                self.early.update(self.step, row["validation_loss"])
        return row

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def save_if_due(self, log: CsvLog) -> None:
        """A checkpoint where the settings ask for one, at a new best and at an early end.

        With one at each new best, the file of weights never is of a later step than the
        checkpoint, and a resumed run need not find it again.
        """
        best = bool(self.early.patience) and self.early.keeps(self.step)
        if best or self.early.stops or self._due(self.config.checkpoint_every):
            self.save(log)

    def save(self, log: CsvLog) -> None:
        """Checkpoint, then weights: what `--resume` needs comes first."""
        with writing(self.folder.metrics):
            self.metrics_bytes = log.offset()
        state = {
            "step": self.step,
            "metrics_bytes": self.metrics_bytes,
            "config": self.config.to_dict(),
            "weighting": self.config.weighting,
            "data": self.samples.checksum,
            "threads": backend.thread_count(),
            "backend": self.xp.__name__,
            "early_stopping": self.early.state(),
        }
        save_checkpoint(self.folder.checkpoint, self.net.state, self.optimiser.velocity, state)
        self._save_weights()

    def _save_weights(self) -> None:
        if self.early.keeps(self.step) or self._over_before_it_counts():
            with writing(self.folder.weights):
                self.net.save(self.folder.weights)

    def _over_before_it_counts(self) -> bool:
        """Whether the last step is done and no validation was due before."""
        return self.step == self.config.steps and not self.early.counted

    def restore(self) -> None:
        """Continue from the checkpoint of the folder."""
        params, velocity, state = load_checkpoint(self.folder.checkpoint)
        check_same(state, self.config, self.samples.checksum, self.xp.__name__)
        # How work is shared out decides the order of sums, and so their last bits.
        self.threads = state["threads"]
        copy_into(self.net.state, params, "checkpoint")
        copy_into(self.optimiser.velocity, velocity, "checkpoint")
        self.step, self.metrics_bytes = state["step"], state["metrics_bytes"]
        if self.step and self.folder.times.exists():
            self.times_bytes = self.folder.times.stat().st_size
        self.early = EarlyStopping.of(self.config.patience, state.get("early_stopping", {}))
        self._save_weights()  # killed after a checkpoint, these may be older

    def result(self, last: dict[str, Any]) -> TrainResult:
        """What is handed back at the end."""
        early, net = self.early, self.net
        if early.patience:
            net = UNet.load(self.folder.weights, _name(self.xp), net.dtype, self.config.seed)
        at_the_end = self._over_before_it_counts() and (early.patience or "validation_loss" in last)
        best = self.step if at_the_end else early.best_step
        return TrainResult(net, self.step, last, self.folder, best, early.stops)


def train(
    config: TrainConfig,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | Report = True,
    dataset: Dataset | None = None,
) -> TrainResult:
    """Train a network, or go on with a training.

    Parameters
    ----------
    config : TrainConfig
        All settings. The files go to the folder ``config.out``: see `RunFolder`.
    resume : bool
        Go on from the checkpoint of ``config.out``, bit for bit as if nothing had happened;
        from the start where there is none.
    overwrite : bool
        Begin anew in a folder that holds a run.
    progress : bool or callable
        True shows a bar with loss, steps a second and the time left; a callable gets each
        row of the metrics.
    dataset : Dataset, optional
        Takes the place of ``config.data`` and of ``config.images``.

    Returns
    -------
    TrainResult

    Raises
    ------
    InputError
        If settings, data or the folder are wrong; before the first step.
    TrainingError
        If the gradient is not finite or explodes, or a checkpoint cannot be written. The
        last good checkpoint stays.
    TrainingInterrupted
        On Ctrl-C, once the step is done and a checkpoint saved. A second Ctrl-C does not
        wait for it.

    Examples
    --------
    >>> import tempfile
    >>> config = TrainConfig(base_channels=2, depth=1, steps=2, input_size=36,
    ...                      weight_map=False, out=tempfile.mkdtemp())
    >>> train(config, progress=False).step
    2
    """
    last: dict[str, Any] = {}
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(backend.using_threads(config.threads or None))
        xp = backend.get(config.backend)
        prepared = samples.prepare(config, load_data(config) if dataset is None else dataset, xp)
        run = _begin(config, prepared, xp, resume, overwrite)
        enter(backend.using_threads(run.threads or backend.thread_count()))
        stopped = enter(stop_after_step())
        log = enter(CsvLog(run.folder.metrics, prepared.columns, run.metrics_bytes))
        times = enter(CsvLog(run.folder.times, ("step", "seconds"), run.times_bytes))
        board = enter(TensorBoard(run.folder.tensorboard, run.step, config.tensorboard))
        report = enter(progress_bar(progress, run.step, config.steps))
        end = run.step if run.early.stops else config.steps
        tiles = enter(prefetch(prepared.tile, run.step, end))
        if run.step == 0:
            run.save(log)  # a run killed at any moment from here on can be resumed
        begun = time.perf_counter()
        for tile in tiles:
            last = run.advance(tile)
            with writing(run.folder.metrics):
                log.write(last)
                times.write({"step": run.step, "seconds": time.perf_counter() - begun})
                board.write(last)
            run.save_if_due(log)
            report(last)
            if run.early.stops:
                break
            if stopped.is_set() and run.step < config.steps:
                run.save(log)
                raise TrainingInterrupted(
                    f"stopped after step {run.step} of {config.steps}; --resume goes on from there"
                )
    return run.result(last)


def load_data(config: TrainConfig) -> Dataset:
    """The data set that the settings name."""
    if config.images and not config.masks:
        return read_classes(config.images, config.colour, config.axes)
    if config.images:
        return read_pairs(
            config.images, config.masks, config.mask_values, config.colour, config.axes
        )
    return data.load(config.data)


def _begin(
    config: TrainConfig, prepared: Samples, xp: ModuleType, resume: bool, overwrite: bool
) -> _Run:
    table = config.with_channels(prepared.in_channels, prepared.num_classes)
    if config.patience and not prepared.validation_slices:
        raise InputError(
            f"patience: got {config.patience} and no images held out, expected 0, or a validation "
            "of some of them"
        )
    folder = RunFolder(config.out)
    going_on = resume and folder.checkpoint.exists()
    net = UNet(
        **table.to_dict(),
        dropout=config.dropout,
        dtype=config.dtype,
        seed=config.seed,
        backend=_name(xp),
    )
    if prepared.task is not None and not going_on:
        prepared.task.begin(net.params)
    if config.start and not going_on:
        start_from(net, config.start)  # before anything is removed: it may lie in that folder
    folder.begin(table.parameters * int(config.dtype[-2:]) // 8, resume, overwrite)
    optimiser = SGD(net.params, config.learning_rate, config.momentum, config.weight_decay)
    early = EarlyStopping(config.patience)
    run = _Run(config, folder, prepared, net, optimiser, xp, prepared.validation_tiles(), early)
    if going_on:
        run.restore()
    with atomic_write(folder.config) as temporary:
        temporary.write_text(config.to_toml(), "utf-8")
    if prepared.class_names:
        with atomic_write(folder.classes) as temporary:
            temporary.write_text("\n".join(prepared.class_names) + "\n", "utf-8")
    return run


def _name(xp: ModuleType) -> str:
    return "cupy" if backend.is_device(xp) else "numpy"


def check_same(state: dict[str, Any], config: TrainConfig, checksum: int, library: str) -> None:
    """Refuse to resume with settings, data or an array library that would change the steps.

    Raises
    ------
    InputError
        Naming the first setting that differs.
    """
    free = set(MAY_CHANGE)
    if config.schedule in ("poly", "cosine"):
        free.remove("steps")  # they reach 0 at the last step
    if config.patience and state["config"].get("patience"):
        free.add("patience")  # more of it goes on with a run that stopped
    old = recorded_settings(state["config"])
    old |= dict(zip(("w0", "sigma"), _weighting(state), strict=True))
    for key, value in config.resolved().to_dict().items():
        # A run from before a setting was there had its default.
        before = old.get(key, getattr(TrainConfig, key, None))
        if key not in free and before != value:
            raise InputError(
                f"{key}: got {value!r}, expected {before!r}, with which the run was begun; "
                "a new --out begins another"
            )
    if state["backend"] != library:
        raise InputError(
            f"backend: got {library}, expected {state['backend']}, with which the run was begun"
        )
    if state["data"] != checksum:
        raise InputError("data: got other images or labels than those the run was begun with")
    if state["step"] > config.steps:
        raise InputError(
            f"steps: got {config.steps}, expected at least {state['step']}, which are done already"
        )


def _weighting(state: dict[str, Any]) -> tuple[float, float]:
    """w0 and sigma of a checkpoint; once the paper's own stood for those of the variant."""
    if "weighting" in state:
        w0, sigma = state["weighting"]
        return w0, sigma
    config = state["config"]
    unset = TrainConfig(
        task=config.get("task", "segment"), weight_variant=config.get("weight_variant", "paper")
    )
    w0, sigma = config.get("w0"), config.get("sigma")
    if (w0, sigma) == WEIGHT_MAPS["paper"]:
        return unset.weighting if unset.task == "segment" else (w0, sigma)
    return unset.replace(w0=w0, sigma=sigma).weighting


def validate(net: UNet, tiles: list[Tile], task: Task | None = None) -> dict[str, float]:
    """Mean cross entropy and share of wrong pixels over tiles, each pixel the same weight.

    Returns
    -------
    dict
        ``validation_loss`` and ``validation_pixel_error``, or what the task has in place of
        the latter; empty without tiles.
    """
    if task is not None:
        return task.validate(net.forward, tiles)
    loss = wrong = pixels = 0.0
    for tile in tiles:
        logits = net.forward(tile.image, train=False)
        loss += float(weighted_cross_entropy(logits, tile.labels, tile.weights)[0])
        mistakes = (logits.argmax(axis=1) != tile.labels) * tile.weights
        wrong, pixels = wrong + float(mistakes.sum()), pixels + float(tile.weights.sum())
    if not pixels:
        return {}
    return {"validation_loss": loss / pixels, "validation_pixel_error": wrong / pixels}
