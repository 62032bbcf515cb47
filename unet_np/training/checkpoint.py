"""The folder of a run: checkpoints that are whole or not there, and room for them.

All randomness comes from generators keyed by (seed, stream, step). A checkpoint therefore
holds no generator: the parameters, the velocity of the momentum and the step number are
the whole state of a training.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_np.backend import Array, array_module, asarray, to_numpy
from unet_np.errors import InputError, TrainingError, integer
from unet_np.files import temporary_folder
from unet_np.files.tables import csv_line
from unet_np.files.weights import read_metadata, read_weights, write_weights
from unet_np.training.config import TrainConfig, recorded_settings
from unet_np.training.logs import TRAINING_COLUMNS

# One key alone: the order of several is not the same in every file that safetensors writes.
_KEY = "unet-np checkpoint 1"
_SPARE_BYTES = 1 << 20  # for the small files of a run


@dataclass(frozen=True)
class RunFolder:
    """The files of a run, by name.

    Examples
    --------
    >>> RunFolder("runs/em").checkpoint.as_posix()
    'runs/em/checkpoint.safetensors'
    """

    path: str | os.PathLike[str]

    @property
    def checkpoint(self) -> Path:
        """Parameters, velocity and step, from which ``--resume`` goes on."""
        return Path(self.path, "checkpoint.safetensors")

    @property
    def weights(self) -> Path:
        """The weights as `UNet.save` writes them: the last, or with ``patience`` the best."""
        return Path(self.path, "weights.safetensors")

    @property
    def classes(self) -> Path:
        """Names of the classes, one a line, where images were classified by their folders."""
        return Path(self.path, "classes.txt")

    @property
    def metrics(self) -> Path:
        """The metrics of each step, the same for the same seed."""
        return Path(self.path, "metrics.csv")

    @property
    def times(self) -> Path:
        """The seconds of each step, which differ from run to run."""
        return Path(self.path, "times.csv")

    @property
    def config(self) -> Path:
        """The settings, as a TOML file that ``--config`` reads."""
        return Path(self.path, "config.toml")

    @property
    def picture(self) -> Path:
        """The curve and what is found so far, drawn now and then while the training goes on."""
        return Path(self.path, "progress.png")

    @property
    def report(self) -> Path:
        """A page on the training, written at its end."""
        return Path(self.path, "report.html")

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return Path(self.path, "tensorboard")

    @property
    def files(self) -> tuple[Path, ...]:
        """What a run writes and a new one replaces; the checkpoint first."""
        return (
            self.checkpoint,
            self.weights,
            self.metrics,
            self.times,
            self.config,
            self.classes,
        )

    def make(self) -> None:
        """Make the folder.

        Raises
        ------
        InputError
            If it cannot be made.
        """
        try:
            Path(self.path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def holds_run(self) -> bool:
        """Whether a training was begun here: by what the files hold, not by their names.

        Examples
        --------
        >>> RunFolder("no such folder").holds_run()
        False
        """
        if _KEY in read_metadata(self.checkpoint):
            return True
        begins = csv_line(TRAINING_COLUMNS).strip()
        return _first_line(self.metrics).startswith(begins) or _as_written(self.config)

    def begun_with(self, names: Iterable[str]) -> dict[str, Any]:
        """The settings of these names with which the run here was begun; empty without a run.

        Examples
        --------
        >>> RunFolder("no such folder").begun_with(["norm"])
        {}
        """
        try:
            config = recorded_settings(json.loads(read_metadata(self.checkpoint)[_KEY])["config"])
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
            return {}
        return {name: config[name] for name in names if name in config}

    def begin(
        self, parameter_bytes: int, resume: bool, overwrite: bool, keep_config: bool = False
    ) -> None:
        """Make the folder and see that a whole training fits, before the first step.

        Parameters
        ----------
        parameter_bytes : int
            Size of all parameters together.
        resume, overwrite : bool
            What to do with a run that is there: go on, or begin anew. Neither refuses.
            To begin where there are files of others, `overwrite` is needed as well.
        keep_config : bool
            Leave the file of the settings, which holds those of this run.

        Raises
        ------
        InputError
            If there is a run already, or a folder of other things, or it cannot be written to,
            or the disk has no room for two checkpoints (a new one stands beside the old until it
            is whole) and the weights.
        """
        old = self.holds_run()
        if old and not (resume or overwrite):
            raise InputError(
                f"out: got {self.path}, which holds a run already, expected a new folder, "
                "or --resume to go on with it, or --overwrite to begin anew"
            )
        self.make()
        if not (old or overwrite or (resume and self.checkpoint.exists())):
            self._check_empty(keep_config)
        there = sum(p.stat().st_size for p in (self.checkpoint, self.weights) if p.exists())
        self._probe(max(6 * parameter_bytes - there, 0) + _SPARE_BYTES)
        if not (resume and self.checkpoint.exists()):
            if old:
                # Without a run here, files of so plain a name are likely the user's own.
                for file in (self.classes, self.picture, self.report):
                    file.unlink(missing_ok=True)
            self._remove_run(keep_config)

    def _check_empty(self, keep_config: bool) -> None:
        """Refuse a folder of other things; hidden ones are never touched."""
        kept = {self.config} if keep_config else set()
        found = {path for path in Path(self.path).glob("[!.]*")} - kept
        if found:
            names = sorted(path.name for path in found)
            some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            replaced = [path.name for path in self.files if path in found]
            raise InputError(
                f"out: got {self.path}, which holds {some} and no run, expected a new or empty "
                f"folder, or --overwrite, which replaces {', '.join(replaced) or 'none of them'}"
            )

    def _remove_run(self, keep_config: bool) -> None:
        # The checkpoint goes first: without it, nothing is left to be resumed by mistake.
        for file in self.files:
            if file != self.classes and not (keep_config and file == self.config):
                file.unlink(missing_ok=True)
        for events in self.tensorboard.glob("events.out.tfevents.*"):
            events.unlink(missing_ok=True)

    def _probe(self, size: int) -> None:
        try:
            with (
                temporary_folder(Path(self.path)) as folder,
                open(folder / "probe", "wb") as file,
            ):
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    for _ in range(0, size, _SPARE_BYTES):
                        file.write(bytes(_SPARE_BYTES))
                    file.flush()
        except OSError as error:
            raise self._unwritable(error, size) from None

    def _unwritable(self, error: OSError, size: int = 0) -> InputError:
        room = f" with room for {size / 1e6:.0f} MB" if size else ""
        return InputError(
            f"out: got {self.path}, expected a folder that can be written to{room} "
            f"({error.strerror})"
        )


def _first_line(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline(1000)
    except OSError:
        return ""


def _as_written(path: Path) -> bool:
    """Whether settings stand in a file as a run writes them, before anything else."""
    if not path.is_file():
        return False
    try:
        return path.read_text("utf-8") == TrainConfig.from_toml(path).to_toml()
    except (OSError, ValueError):
        return False


def save_checkpoint(
    path: str | os.PathLike[str],
    params: Mapping[str, Array],
    velocity: Mapping[str, Array],
    state: Mapping[str, Any],
) -> None:
    """Write a checkpoint; the old one stays in place until the new one is whole.

    Parameters
    ----------
    path : path-like
        Ends in ``.safetensors``.
    params, velocity : mapping of str to array
        Of the network (its buffers too, as `UNet.state` has them) and of the optimiser.
    state : mapping
        What JSON can hold: the step, the settings, the length of the metrics file.

    Raises
    ------
    TrainingError
        If it cannot be written; the file at `path` is then still the old one.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> path = tempfile.mkdtemp() + "/checkpoint.safetensors"
    >>> save_checkpoint(path, {"w": np.ones(2)}, {"w": np.zeros(2)}, {"step": 7})
    >>> load_checkpoint(path)[2]
    {'step': 7}
    """
    arrays = {f"params.{name}": array for name, array in params.items()}
    arrays |= {f"velocity.{name}": array for name, array in velocity.items()}
    ready = {name: to_numpy(array) for name, array in arrays.items()}
    with writing(path):
        write_weights(path, ready, {_KEY: json.dumps(dict(state), sort_keys=True)})


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a failure to write during training into one line."""
    try:
        yield
    except (OSError, InputError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        kept = "; the one before it is kept" if Path(path).exists() else ""
        raise TrainingError(f"cannot write {path} ({reason}){kept}") from None


def load_checkpoint(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """Read what `save_checkpoint` wrote.

    Returns
    -------
    params, velocity : dict of str to numpy.ndarray
    state : dict

    Raises
    ------
    InputError
        If the file is missing, cut short, or no checkpoint.
    """
    arrays, metadata = read_weights(path, "checkpoint")
    if _KEY not in metadata:
        raise InputError(
            f"checkpoint: got {path}, a file of other content, expected a checkpoint of "
            "unet-np train"
        )
    groups: dict[str, dict[str, Array]] = {"params": {}, "velocity": {}}
    try:
        for key, array in arrays.items():
            group, _, name = key.partition(".")
            groups[group][name] = array
        state = json.loads(metadata[_KEY])
        _check_state(state)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"checkpoint: got {path}, expected a whole checkpoint ({type(error).__name__}: {error})"
        ) from None
    return groups["params"], groups["velocity"], state


def _check_state(state: Any) -> None:
    """Raise where a state cannot be gone on from, as that of a damaged file without checksum."""
    if not isinstance(state, dict) or not isinstance(state.get("config", {}), dict):
        raise TypeError("its settings are no table")
    for key, least in (("step", 0), ("metrics_bytes", 0), ("threads", 1)):
        integer(key, state.get(key, least), least)


def copy_into(targets: Mapping[str, Array], values: Mapping[str, Array], what: str) -> None:
    """Copy arrays into those of the same names, in place and in their memory order.

    Raises
    ------
    InputError
        If a name or a shape is another one.

    Examples
    --------
    >>> import numpy as np
    >>> target = {"w": np.zeros(2)}
    >>> copy_into(target, {"w": np.ones(2)}, "params")
    >>> target["w"]
    array([1., 1.])
    """
    for name in [*targets, *values]:
        got = values[name].shape if name in values else "none"
        expected = targets[name].shape if name in targets else "none"
        if got != expected:
            raise InputError(f"{what}: got shape {got} for {name}, expected {expected}")
    for name, target in targets.items():
        target[...] = asarray(values[name], array_module(target), target.dtype)
