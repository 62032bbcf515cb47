"""Training as in sections 2 and 3: one tile a step, momentum 0.99, weighted cross entropy.

A step is determined by the settings and its number alone: which slice, how it is
augmented and what drops out come from generators keyed by (seed, stream, step). A run
that is killed and resumed is therefore bit for bit the run that was left alone.
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import Any

from unet_np import backend
from unet_np.data import Dataset
from unet_np.training import samples
from unet_np.training.config import TrainConfig
from unet_np.training.interrupt import TrainingInterrupted, stop_after_step
from unet_np.training.logs import Report
from unet_np.training.memory import check_memory
from unet_np.training.optim import check_step, squared_norm
from unet_np.training.prefetch import prefetch
from unet_np.training.ranks import ALONE, Ranks
from unet_np.training.run import Run, TrainResult
from unet_np.training.samples import Tile

__all__ = ["TrainConfig", "TrainResult", "TrainingInterrupted", "train", "train_step"]

AHEAD = 2
"""Tiles that a thread of its own makes before they are asked for."""


def train(
    config: TrainConfig,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | Report = True,
    dataset: Dataset | None = None,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Train a network, or go on with a training.

    Parameters
    ----------
    config : TrainConfig
        All settings. The files go to the folder ``config.out``: see `RunFolder`.
    resume : bool
        Go on from the checkpoint of ``config.out``, bit for bit as if nothing had happened;
        from the start where there is none. That is promised of the weights and of
        ``metrics.csv``, also where there are more steps than before; the checkpoint records the
        settings of the last call too, and ``times.csv`` the seconds of each.
    overwrite : bool
        Begin anew in a folder that holds a run.
    progress : bool or callable
        True shows a bar with loss, steps a second and the time left; a callable gets each
        row of the metrics.
    dataset : Dataset, optional
        Takes the place of ``config.data`` and of ``config.images``.
    ranks : Ranks
        The processes that train together, from `unet_np.training.ranks.launched`; the first one
        has the folder.

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
    FailedElsewhereError
        If another rank failed.

    Examples
    --------
    >>> import tempfile
    >>> config = TrainConfig(base_channels=2, depth=1, steps=2, input_size=36,
    ...                      weight_map=False, out=tempfile.mkdtemp())
    >>> train(config, progress=False).step
    2
    """
    row: dict[str, Any] = {}
    with backend.using_threads(config.threads or ranks.threads):
        xp = backend.get(config.backend)
        check_memory(config, ranks.here)
        dataset = samples.load_data(config) if dataset is None else dataset
        prepared = samples.prepare(config, dataset, xp, ranks.rank, ranks.size)
        run = Run.begin(config, prepared, xp, resume, overwrite, ranks)
        # A GPU makes them in a moment, and two threads that ask it wait for each other.
        ahead = 0 if backend.is_device(xp) else AHEAD
        with (
            closing(run),
            backend.using_threads(run.threads),
            stop_after_step() as stopped,
            run.reports(progress) as report,
            prefetch(prepared.tile, run.step, run.end, ahead) as tiles,
        ):
            for tile in tiles:
                row = train_step(run, tile)
                if run.due(config.validate_every):
                    row |= run.validate()
                report(row)
                if run.early.stops:
                    break
                if ranks.any(stopped.is_set()) and run.step < config.steps:
                    run.save()
                    where = f"step {run.step} of {config.steps}"
                    raise TrainingInterrupted(f"stopped after {where}; --resume goes on from there")
        run.check()
    return run.result(row)


def train_step(run: Run, tile: Tile) -> dict[str, Any]:
    """One step of gradient descent on the energy of a tile, or of a tile on each rank.

    Parameters
    ----------
    run : Run
        Its network is changed, and its step counted.
    tile : Tile
        Of the step.

    Returns
    -------
    dict
        The row of the metrics. On a GPU loss and norm come into it with the next step, or with
        `Run.check`.

    Raises
    ------
    TrainingError
        If loss or gradient are not finite or beyond their limits; then nothing is changed. On a GPU
        it is the one before that fails, and neither of the two changes anything.
    """
    config, net = run.config, run.net
    rng = run.samples.dropout(run.step, run.xp)
    outputs = net.forward(tile.image, train=True, rng=rng)
    energy, grad = run.samples.task.energy(outputs, tile.labels, tile.weights)
    net.backward(grad, need_grad_x=False)
    energy = run.ranks.mean(energy, [*net.grads.values(), *net.buffers.values()])
    numbers = backend.Arriving(energy, squared_norm(net.grads))
    rate, limits = config.rate(run.step), (config.gradient_limit, config.loss_limit)
    row: dict[str, Any] = {"step": run.step + 1, "learning_rate": rate}

    def check() -> None:
        loss, square = numbers.floats()
        row.update(loss=loss, gradient_norm=math.sqrt(square))
        check_step(row["step"], loss, math.sqrt(square), *limits, str(run.folder.checkpoint))

    run.check(check)
    run.optimiser.step(net.grads, rate, numbers.on_device, *limits)
    run.step += 1
    return row
