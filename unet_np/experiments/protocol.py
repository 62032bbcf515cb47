"""What every experiment has: places, a result that says where it comes from, pictures, a table.

An `Experiment` says what is measured, drawn and printed. `Experiment.run` is the same for all: it
reads a result that is finished, refuses one that was made with other settings or data, and writes
and shows what it has measured. What was trained before is the trainings' own matter: one that has
ended is not begun again, and one that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unet_np.data import Dataset
from unet_np.errors import InputError, MissingExtraError
from unet_np.experiments.provenance import provenance
from unet_np.experiments.recipes import Fold, Recipe
from unet_np.files import atomic_write
from unet_np.files.ours import check_ours
from unet_np.training.checkpoint import RunFolder
from unet_np.training.config import TrainConfig, recorded_settings
from unet_np.training.logs import Report

FREE = frozenset({"threads", "backend", "checkpoint_every", "tensorboard"})
"""Settings that change no result by more than a rounding."""

QUICK = "A quick run: it shows that all parts work, and its figures say nothing."

Result = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Where an experiment keeps its files, and how it talks.

    Attributes
    ----------
    runs, results : Path
        Folders of the trainings, and of JSON files and pictures.
    command : list of str or None
        For the JSON files; by default the arguments of this process.
    say : callable
        Is given lines for people.
    progress : bool or callable
        As in `unet_np.training.loop.train`.
    legs : Path or None
        Folder of what trainings leave, stopped or not: see `unet_np.experiments.legs`.
    """

    runs: Path = Path("runs")
    results: Path = Path("results")
    command: list[str] | None = None
    say: Callable[[str], object] = field(default=print, repr=False)
    progress: bool | Report = True
    legs: Path | None = None

    def folder(self, quick: bool, *names: str) -> Path:
        """The folder of a training."""
        return Path(self.runs, "quick" if quick else "", *names)

    def run(self, chosen: Recipe, fold: Fold) -> Path:
        """The folder of a fold's training."""
        return self.folder(chosen.quick, chosen.key, fold.name)

    def leg(self, chosen: Recipe, fold: Fold) -> Path | None:
        """The file of a fold's last leg."""
        return self.legs / f"{chosen.key}-{fold.name}.safetensors" if self.legs else None

    def result(self, name: str) -> Path:
        """The path of a JSON file."""
        return self.results / f"{name}.json"


class Experiment:
    """One result with its pictures and its table.

    Parameters
    ----------
    key : str
        What its files are called.
    chosen : Recipe
        Settings, of which the result tells.
    dataset : Dataset
        What it is measured on.
    """

    in_parts = False
    """Whether what is written may be a part, so that the rest is measured."""

    def __init__(self, key: str, chosen: Recipe, dataset: Dataset) -> None:
        self.key, self.chosen, self.dataset = key, chosen, dataset

    def head(self, command: list[str] | None) -> Result:
        """What is known before anything is measured."""
        return header(self.chosen, self.dataset, self.chosen.config, command)

    def measure(self, places: Places, resume: bool, overwrite: bool) -> Iterator[Result]:
        """The figures; several times if they grow, the whole of them last."""
        raise NotImplementedError

    def draw(self, result: Result, path: Path) -> None:
        """Pictures beside the JSON file, of a result that was just measured."""

    def table(self, result: Result) -> list[str]:
        """Lines for people."""
        return []

    def run(self, places: Places, resume: bool = True, overwrite: bool = False) -> Result:
        """Measure, write, draw and print; or read and print.

        Parameters
        ----------
        places : Places
            Where files go.
        resume : bool
            Go on with trainings that are there.
        overwrite : bool
            Begin anew, also where a result is there.

        Returns
        -------
        dict
            What stands in the JSON file.

        Raises
        ------
        InputError, TrainingError, TrainingInterrupted
            As `unet_np.training.loop.train`; InputError too if a result was made with other
            settings or data.
        """
        path, head = places.result(self.key), self.head(places.command)
        result = None
        if not overwrite and not self.in_parts:
            result = earlier(path, head)
        if result is None:
            check_result(path, overwrite)
            for figures in self.measure(places, resume, overwrite):
                result = head | figures
                write_json(path, result)
                try:
                    self.draw(result, path)
                except MissingExtraError as error:
                    places.say(f"no pictures: {error}")
            places.say(f"wrote {path}")
        else:
            places.say(f"{path} is there already; --overwrite begins anew")
        assert result is not None
        if lines := self.table(result):
            places.say("\n".join([*lines, QUICK] if result["quick"] else lines))
        return result


def header(
    chosen: Recipe, dataset: Dataset, config: TrainConfig, command: list[str] | None
) -> Result:
    """The part of a result that says where it comes from."""
    return {
        "experiment": chosen.name,
        "quick": chosen.quick,
        **provenance(command),
        "seed": config.seed,
        "recipe": recorded(chosen, config),
        "data": data_hashes(dataset),
    }


def recorded(chosen: Recipe, config: TrainConfig) -> dict[str, Any]:
    """The settings that a result stands for."""
    settings = config.resolved().to_dict()
    return {key: settings[key] for key in settings if key not in ("images", "masks", "out")} | {
        "unit_variance": chosen.unit_variance,
        "averaging": chosen.averaging,
        "parameters": config.architecture.parameters,
    }


def data_hashes(dataset: Dataset) -> dict[str, Any]:
    """What the data were: name, slices and the SHA-256 of each stack's bytes.

    Examples
    --------
    >>> list(data_hashes(Dataset("mine", np.zeros((1, 2, 2)))))
    ['name', 'shape', 'sha256', 'citation']
    """
    stacks = {name: getattr(dataset, name) for name in ("images", "labels", "instances", "unknown")}
    return {
        "name": dataset.name,
        "shape": list(dataset.images.shape),
        "sha256": {
            name: sha256(np.ascontiguousarray(stack).tobytes())
            for name, stack in stacks.items()
            if stack is not None
        },
        "citation": dataset.citation,
    }


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256.

    Examples
    --------
    >>> sha256(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(content).hexdigest()


def weights_sha256(folder: Path) -> str:
    """That of the weights of a run."""
    return sha256(RunFolder(folder).weights.read_bytes())


def earlier(path: Path, head: Result) -> Result | None:
    """The result that an earlier run of the same settings wrote, or None.

    Raises
    ------
    InputError
        If it was made with other settings or other data, or is damaged.
    """
    old = read_json(path)
    if old is not None:
        check_same(old, head, path)
    return old


def kept(path: Path, head: Result, make: Callable[[], Result], overwrite: bool = False) -> Result:
    """What a file holds, or else what is made and written there.

    Raises
    ------
    InputError
        As `earlier`.
    """
    result = None if overwrite else earlier(path, head)
    if result is None:
        result = head | make()
        write_json(path, result)
    return result


def check_same(old: Result, new: Result, path: Path) -> None:
    """Refuse to take a result for that of other settings or other data.

    Parameters
    ----------
    old, new : dict
        Results with their ``recipe`` and ``data``, or, without, settings beside the figures.
    path : Path
        Of the old one.

    Raises
    ------
    InputError
        Naming the first setting that differs; also if the old one has no settings or data.
    """
    for part in ("recipe", "data"):
        if part in new and not isinstance(old.get(part), dict):
            raise InputError(f"result: got {path} without its {part}, expected a whole result")
    if (change := first_change(old.get("recipe", old), new.get("recipe", new))) is not None:
        key, before, value = change
        raise InputError(
            f"{key}: got {value!r}, expected {before!r}, with which {path} was made; "
            "--overwrite or another folder begins anew"
        )
    if "data" in new and old["data"].get("sha256") != new["data"]["sha256"]:
        raise InputError(f"data: got others than those with which {path} was made")


def first_change(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first setting that differs, and both values."""
    old = recorded_settings(old)
    for key, value in new.items():
        # A result from before a setting was there had its default.
        before = old.get(key, getattr(TrainConfig, key, None))
        if key not in FREE and before != value:
            return key, before, value
    return None


def check_result(path: Path, overwrite: bool) -> None:
    """Refuse to write a result, or pictures beside it, over files of others.

    Raises
    ------
    InputError
        Naming the first such file.
    """
    # Pictures from before they said who drew them belong to the result that they lie beside.
    check_ours([path, *([] if path.exists() else pictures(path))], overwrite, "--results")


def write_json(path: Path, result: Any) -> None:
    """Write a result, whole or not at all.

    Raises
    ------
    InputError
        If the path cannot be written to.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Result | None:
    """A result that was written, None where there is none.

    Raises
    ------
    InputError
        If the file holds something else.
    """
    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise ValueError("no regular file")
        result = json.loads(path.read_text("utf-8"))
        if isinstance(result, dict):
            return result
        reason = f"a {type(result).__name__}"
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
    raise InputError(f"result: got {path} with {reason}, expected a result of an experiment")


def pictures(path: Path) -> list[Path]:
    """What may be drawn beside a result.

    Examples
    --------
    >>> pictures(Path("em.json"))[1].name
    'em-curve.png'
    """
    kinds = ("", "-curve", "-slices", "-images", "-compared")
    return [path.with_name(f"{path.stem}{kind}.png") for kind in kinds]


def rounded(value: Any, digits: int = 6) -> float | None:
    """A number with so many significant digits, more being noise in a diff; None if not finite.

    Examples
    --------
    >>> rounded(1 / 3), rounded(200 / 3, 2), rounded(np.nan)
    (0.333333, 67.0, None)
    """
    return float(f"{float(value):.{digits}g}") if math.isfinite(value) else None
