"""A training to look at while it goes on: its curve and what it finds, as one picture."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_np import backend
from unet_np.errors import InputError, require
from unet_np.files import atomic_write
from unet_np.files.ours import PRODUCER, check_ours
from unet_np.images.overlay import DRAWN, FOUND, compared
from unet_np.training.logs import read_csv

if TYPE_CHECKING:
    from unet_np.training.run import Run

SHARE = 0.01
"""Of the time of a training: it is as much again with what runs beside it."""

_FIRST = 2.0  # seconds that the first picture may take, with the import of Matplotlib


class Live:
    """Draws a run into its folder, as often as a share of its time allows.

    Parameters
    ----------
    clock : callable
        Seconds.

    Examples
    --------
    >>> import itertools
    >>> live = Live(clock=lambda seconds=itertools.count(0, 100): next(seconds))
    >>> live.is_due(), live.is_due()  # after 100 and 200 seconds
    (False, True)
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._begun = clock, clock()
        self._spent, self._next = 0.0, _FIRST
        self._able = importlib.util.find_spec("matplotlib") is not None

    def is_due(self) -> bool:
        """Whether the time so far has room for one more picture."""
        return self._able and SHARE * (self._clock() - self._begun) >= self._spent + self._next

    def update(self, run: Run) -> None:
        """Draw if it is time; what goes wrong ends the pictures and not the training."""
        if not self.is_due():
            return
        start = self._clock()
        try:
            draw(run)
        except (OSError, InputError, ImportError):
            self._able = False
        self._next = self._clock() - start
        self._spent += self._next


def draw(run: Run) -> None:
    """Write ``progress.png`` into the folder of a run.

    Raises
    ------
    InputError, OSError
        If the metrics cannot be read, or the picture not be written.
    MissingExtraError
        If Matplotlib is not installed.
    """
    rows = read_csv(run.folder.metrics, ("step", "loss"))
    seen = _seen(run)
    figure = require("matplotlib.figure", "plot").Figure(
        (9 if seen else 5, 4), layout="constrained", dpi=100
    )
    axes = figure.subplots(1, 2 if seen else 1, squeeze=False)[0]
    _curve(axes[0], rows)
    axes[0].set_title(f"{Path(run.config.out).name}: step {run.step} of {run.config.steps}")
    if seen:
        name, picture = seen
        axes[1].imshow(picture)
        axes[1].set_title(name)
        axes[1].set_axis_off()
        for word, colour, height in (("drawn", DRAWN, -0.02), ("found now", FOUND, -0.07)):
            axes[1].text(
                0, height, word, color=np.array(colour) / 255 * 0.8, transform=axes[1].transAxes,
                va="top",
            )  # fmt: skip
    check_ours([run.folder.picture], False, "out")
    with atomic_write(run.folder.picture) as temporary:
        figure.savefig(temporary, metadata={"Software": PRODUCER})


def _curve(axes: Any, rows: list[dict[str, float]]) -> None:
    steps, loss = smoothed([row["step"] for row in rows], [row["loss"] for row in rows])
    axes.plot(steps, loss, color="#0072b2", label="training, weighted")
    looks = [(row["step"], row["validation_loss"]) for row in rows if "validation_loss" in row]
    if looks:
        axes.plot(*zip(*looks, strict=True), "o-", ms=3, color="#d55e00", label="validation")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend(frameon=False)


def smoothed(
    steps: list[float], values: list[float], most: int = 60
) -> tuple[list[float], list[float]]:
    """Means of so many equal parts of a curve; a single step hardly says anything.

    Examples
    --------
    >>> smoothed([1, 2, 3, 4], [4, 2, 1, 1], most=2)
    ([2.0, 4.0], [3.0, 1.0])
    """
    parts = np.array_split(np.arange(len(steps)), min(most, len(steps)))
    return (
        [float(steps[part[-1]]) for part in parts],
        [float(np.mean([values[i] for i in part])) for part in parts],
    )


def _seen(run: Run) -> tuple[str, np.ndarray] | None:
    """The middle of the first image held out, and what the network makes of it now."""
    samples = run.samples
    if not run.validation or run.config.task != "segment":
        return None
    tile = run.validation[0]
    image = backend.to_numpy(tile.image[0])
    found = backend.to_numpy(run.net.forward(tile.image[:1])[0].argmax(axis=0))
    drawn = np.maximum(backend.to_numpy(tile.labels[0]), 0)
    margin = (image.shape[-1] - found.shape[-1]) // 2
    middle = slice(margin, margin + found.shape[-1])
    name = samples.validation_names[0]
    return name, compared(image[:, middle, middle], drawn, found, side=400)
