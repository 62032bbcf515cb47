"""The settings of a training, from a TOML file, from flags or from Python."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from unet_np.backend import NAMES
from unet_np.data.own.masks import KINDS as MASK_VALUES
from unet_np.data.own.pages import COLOURS
from unet_np.data.own.values import parse_values
from unet_np.errors import InputError, integer, one_of
from unet_np.network.architecture import Architecture, with_norm
from unet_np.tasks import TASKS, Task, find_task
from unet_np.training.fine_tuning import architecture_of
from unet_np.training.optim import Schedule
from unet_np.weighting.eq2 import DEFAULTS as WEIGHT_MAPS
from unet_np.weighting.eq2 import TERMS

OPEN = ("norm", "learning_rate", "momentum")
"""Settings whose value follows from others where none is given: see `TrainConfig`."""

_MOST = 10**6  # bytes of a file of settings
_SLICES = 10**6


def _setting(default: Any, description: str) -> Any:
    """A field with the line that ``--help`` and the documentation show."""
    return field(default=default, metadata={"help": description})


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training; the defaults are the paper's where it gives one.

    Every attribute is a key of the TOML file and, with hyphens, a flag of
    ``unet-np train``, whose ``--help`` describes each.

    Three are left open until the others are known: `norm`, `learning_rate` and `momentum`. To
    segment ``images`` by ``masks`` they are those with which the experiments went best; a network
    to ``start`` from decides on `norm`. Once made, a configuration holds their values.

    Raises
    ------
    InputError
        If a value has the wrong type or is out of its range; one line.

    Examples
    --------
    >>> config = TrainConfig(base_channels=16, steps=300)
    >>> config.architecture.parameters, config.tile_size
    (1940834, 572)
    >>> config.norm, config.learning_rate, config.momentum
    ('none', 0.001, 0.99)
    >>> config = TrainConfig(images="photos", masks="masks")
    >>> config.norm, config.learning_rate, config.momentum
    ('instance', 0.02, 0.9)
    >>> TrainConfig.from_dict({"base_chanels": 16})
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: config: got the unknown key 'base_chanels', expected a setting; \
nearest valid key is 'base_channels'
    """

    data: str = _setting("synthetic-em", "name of a data set (see: unet-np data)")
    images: str = _setting("", "own images, a file or folder; with --masks, instead of --data")
    masks: str = _setting("", "labels of --images: 0 background, cells as classes or instances")
    mask_values: str = _setting("auto", "what they mean: mask (cell or not), classes or cells")
    ignore: str = _setting("none", "values of --masks to leave out everywhere, such as 255, 254")
    background: str = _setting("auto", "value of the background in --masks (auto: 0, or lowest)")
    colour: str = _setting("auto", "of --images: grey, rgb (three channels), auto: as they are")
    axes: str = _setting("auto", "of --images if a file names them wrong: such as ZYX, C channels")
    validation: str = _setting("auto", "slices held out: auto (last eighth), none, or 26-29,3")
    exclude: str = _setting("none", "slices used for nothing, such as a test block: none or 0-9")
    start: str = _setting("", "weights to begin from: a file, or em, u373 or hela (fine-tuning)")
    task: str = _setting("segment", f"one of {', '.join(TASKS)}; the paper's is segment")
    base_channels: int = _setting(64, "channels of the first level")
    depth: int = _setting(4, "number of max poolings")
    padding: int = _setting(0, "of the 3x3 convolutions: 0 (the paper) or 1")
    up: str = _setting("upconv", "way up: upconv (the paper), nearest or bilinear and a conv 3x3")
    norm: str = _setting(
        None,
        "before each ReLU: none, batch or instance normalisation (default that of --start, else "
        "instance to segment own images, else none, as in the paper)",
    )
    activation: str = _setting("relu", "after each 3x3 convolution: a registered kind of layer")
    dropout: float = _setting(0.5, "probability at the end of the contracting path")
    steps: int = _setting(300, "steps of one batch each")
    batch_size: int = _setting(1, "tiles of a step; the paper has 1")
    learning_rate: float = _setting(
        None,
        "highest learning rate (default 0.2 (1 - momentum) to segment own images with instance "
        "normalisation, else 0.001)",
    )
    momentum: float = _setting(
        None,
        "of the gradient descent (default 0.9 to segment own images with instance normalisation, "
        "else 0.99)",
    )
    weight_decay: float = _setting(0.0, "decay of the weights; the paper has none")
    schedule: str = _setting("constant", "learning rate: constant, step, poly or cosine")
    warmup: int = _setting(0, "first steps, in which the learning rate rises linearly")
    decay_every: int = _setting(1000, "steps between two decays of schedule step")
    decay_factor: float = _setting(0.1, "factor of each decay of schedule step")
    decay_power: float = _setting(0.9, "exponent of schedule poly")
    gradient_limit: float = _setting(1e4, "gradient norm above which training stops")
    loss_limit: float = _setting(1e3, "loss above which training stops")
    input_size: int = _setting(0, "side of the input tile in pixels; 0 is the valid size near 572")
    seed: int = _setting(0, "seed of everything random")
    weight_map: bool = _setting(True, "weigh pixels by equation 2")
    weight_variant: str = _setting("paper", "formula of the weight map: paper or falk2019")
    weight_term: str = _setting(
        "background", "where eq. 2 adds its second term: background or everywhere (as printed)"
    )
    class_weights: str = _setting(
        "balanced", "w_c of eq. 2, one for each class, such as 1 5 2; balanced: 1 / frequency"
    )
    w0: float | None = _setting(
        None,
        "height of the weight map between cells (default 10, falk2019 50); detect: at a centre",
    )
    sigma: float | None = _setting(
        None, "width of the weight map in pixels (default 5, falk2019 6)"
    )
    heat_sigma: float = _setting(0.15, "detect: width of a Gaussian as a share of its object")
    rim: float = _setting(
        0.0, "width in pixels of a third class, the rim of each cell, which parts those that touch"
    )
    touching: int = _setting(
        0, "copies of each training image in which outlined cells are moved until they touch"
    )
    augment: bool = _setting(True, "augment the tiles")
    augmentation: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "settings of Augmentation, a table in TOML"}
    )
    validate_every: int = _setting(50, "steps between validations")
    patience: int = _setting(
        0,
        "stop after N validations without a lower loss, and keep the best weights; 0: never; only "
        "those every --validate-every steps count",
    )
    checkpoint_every: int = _setting(50, "steps between checkpoints")
    out: str = _setting("runs/unet", "folder of the run")
    backend: str = _setting("auto", "numpy, cupy or auto")
    dtype: str = _setting("float32", "float32 or float64")
    threads: int = _setting(0, "threads of one operation; 0 is one for each core")
    tensorboard: bool = _setting(False, "write for TensorBoard too, which must be installed")

    def __post_init__(self) -> None:
        for name, kind in _types().items():
            if name in OPEN and getattr(self, name) is None:
                continue
            object.__setattr__(self, name, _coerce(name, getattr(self, name), kind))
        self._settle()
        self._check_ranges()
        _ = self.rate, self.tile_size
        self._check_values()
        for name in ("validation", "exclude"):
            if not (name == "validation" and self.validation == "auto"):
                parse_slices(getattr(self, name), name)

    def _settle(self) -> None:
        """Give `norm`, `momentum` and `learning_rate` their values where they were left open."""
        own = bool(self.images and self.masks) and self.task == "segment"
        if self.norm is None:
            begun = architecture_of(self.start) if self.start else {}
            norm = begun.get("norm", "instance" if own and not self.start else "none")
            object.__setattr__(self, "norm", _coerce("norm", norm, str))
        recipe = own and self.norm == "instance"
        if self.momentum is None:
            object.__setattr__(self, "momentum", 0.9 if recipe else 0.99)
        if self.learning_rate is None:
            # What counts is rate / (1 - momentum): 0.02 at 0.9 would diverge at 0.99.
            rate = float(f"{0.2 * (1 - self.momentum):.6g}") if recipe else 0.001
            object.__setattr__(self, "learning_rate", rate)

    def _check_ranges(self) -> None:
        least_one = "steps", "validate_every", "checkpoint_every", "batch_size"
        for name in (*least_one, "seed", "threads", "touching", "patience"):
            integer(name, getattr(self, name), int(name in least_one))
        choices = {
            "weight_term": TERMS,
            "weight_variant": tuple(WEIGHT_MAPS),
            "backend": NAMES,
            "dtype": ("float32", "float64"),
            "mask_values": MASK_VALUES,
            "colour": COLOURS,
        }
        for name, allowed in choices.items():
            one_of(name, getattr(self, name), allowed)
        ranges = {
            "dropout": (0 <= self.dropout < 1, "0 <= dropout < 1"),
            "momentum": (0 <= self.momentum < 1, "0 <= momentum < 1"),
            "weight_decay": (self.weight_decay >= 0, "a number >= 0"),
            "gradient_limit": (self.gradient_limit > 0, "a number > 0"),
            "loss_limit": (self.loss_limit > 0, "a number > 0"),
            "w0": (self.w0 is None or self.w0 >= 0, "a number >= 0"),
            "sigma": (self.sigma is None or self.sigma > 0, "a number > 0"),
            "heat_sigma": (self.heat_sigma > 0, "a number > 0"),
            "rim": (self.rim == 0 or self.rim >= 1, "0, or a number >= 1"),
            "out": (bool(self.out), "the name of a folder"),
        }
        for name, (good, expected) in ranges.items():
            if not good:
                raise InputError(f"{name}: got {getattr(self, name)!r}, expected {expected}")
        if (self.weight_variant, self.weight_term) == ("falk2019", "everywhere"):
            raise InputError("weight_term: got 'everywhere', expected background for falk2019")
        if self.touching and not self.kind.moves_cells:
            raise InputError(f"touching: got {self.touching}, expected 0 for task {self.task}")
        if self.rim and self.task != "segment":
            raise InputError(f"rim: got {self.rim:g}, expected 0 for task {self.task}")
        needs_masks = self.kind.needs_masks or not self.images
        if bool(self.images) != bool(self.masks) and needs_masks:
            given, missing = ("images", "masks") if self.images else ("masks", "images")
            raise InputError(f"{missing}: got none, expected a file or folder to go with {given}")

    def _check_values(self) -> None:
        """Refuse values of masks and weights of classes that are none, or have no use."""
        _ = self.ignored_values, self.background_value
        if self.background_value in self.ignored_values:
            raise InputError(f"ignore: got {self.background}, the background, expected others")
        for name, unset in (("ignore", "none"), ("background", "auto")):
            if getattr(self, name) != unset and not self.masks:
                got = getattr(self, name)
                raise InputError(f"{name}: got {got} without masks, expected --images and --masks")
        if self.given_class_weights and self.task == "detect":
            raise InputError(f"class_weights: got {self.class_weights}, expected none to detect")
        if self.given_class_weights and not (self.weight_map and self.weight_variant == "paper"):
            raise InputError(
                f"class_weights: got {self.class_weights} without the weight map of the paper, "
                "expected balanced, or weight_map and weight_variant as they are (w0 of 0 leaves "
                "the weights of classes alone)"
            )

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """Values of masks that count nowhere.

        Examples
        --------
        >>> TrainConfig(images="a", masks="b", ignore="255,254").ignored_values
        (255, 254)
        """
        return parse_values(self.ignore, "ignore")

    @property
    def background_value(self) -> int | None:
        """The masks' value of the background; None if it is for the masks to say."""
        if self.background == "auto":
            return None
        values = parse_values(self.background, "background")
        if len(values) != 1:
            raise InputError(f"background: got {self.background}, expected one value, or auto")
        return values[0]

    @property
    def given_class_weights(self) -> tuple[float, ...]:
        """The weight of each class; empty if they are balanced.

        Examples
        --------
        >>> TrainConfig(class_weights="1, 2.5").given_class_weights
        (1.0, 2.5)
        """
        if self.class_weights == "balanced":
            return ()
        try:
            weights = tuple(float(word) for word in re.split(r"[,\s]+", self.class_weights.strip()))
        except ValueError:
            weights = ()
        if not weights or not all(0 < weight < math.inf for weight in weights):
            raise InputError(
                f"class_weights: got {self.class_weights!r}, expected a positive number for each "
                "class, or balanced"
            )
        return weights

    @property
    def kind(self) -> type[Task]:
        """What the network is for."""
        return find_task(self.task)

    @property
    def architecture(self) -> Architecture:
        """The network for images of one channel and two classes; see `with_channels`."""
        return self.with_channels(1, 2)

    def with_channels(self, in_channels: int, num_classes: int) -> Architecture:
        """The network for the data at hand."""
        names = ("base_channels", "depth", "padding", "up", "norm", "activation")
        sizes = {"in_channels": in_channels, "num_classes": num_classes}
        settings = {name: getattr(self, name) for name in names}
        return Architecture(**sizes | settings | dict(self.kind.options))

    @property
    def tile_size(self) -> int:
        """Side of the input tile; by default the valid size nearest to `Task.default_size`."""
        net = self.architecture
        if self.input_size:
            net.output_size(self.input_size)  # refuses sizes that do not work
            return self.input_size
        wanted = self.kind.default_size(self.padding)
        return min(net.nearest_input_sizes(wanted), key=lambda size: abs(size - wanted))

    @property
    def rate(self) -> Schedule:
        """The learning-rate schedule."""
        return Schedule(
            self.learning_rate,
            self.steps,
            self.schedule,
            self.warmup,
            self.decay_every,
            self.decay_factor,
            self.decay_power,
        )

    @property
    def weighting(self) -> tuple[float, float]:
        """w0 and sigma; what is not set is `Task.default_weighting`.

        Examples
        --------
        >>> TrainConfig().weighting, TrainConfig(weight_variant="falk2019", w0=10).weighting
        ((10.0, 5.0), (10.0, 6.0))
        """
        own = self.kind.default_weighting(self.weight_variant)
        w0, sigma = (
            default if value is None else value
            for value, default in zip((self.w0, self.sigma), own, strict=True)
        )
        return w0, sigma

    def resolved(self) -> TrainConfig:
        """With the values that settings left to others have, for a record of what was done."""
        w0, sigma = self.weighting
        return self.replace(w0=w0, sigma=sigma)

    def to_dict(self) -> dict[str, Any]:
        """Name to value, for a file; None where another setting decides."""
        return asdict(self)

    def to_toml(self) -> str:
        """A TOML file that `from_toml` reads back.

        Examples
        --------
        >>> print(TrainConfig().to_toml().splitlines()[0])
        data = "synthetic-em"
        """
        return to_toml(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], what: str = "config") -> TrainConfig:
        """From names and values; an unknown name is an error that names the nearest."""
        if "batch_norm" in values:
            values = recorded_settings(values)
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1, cutoff=0)[0]
                raise InputError(
                    f"{what}: got the unknown key {key!r}, expected a setting; "
                    f"nearest valid key is {near!r}"
                )
        return cls(**values)

    @classmethod
    def from_toml(
        cls, path: str | os.PathLike[str], begun: Mapping[str, Any] | None = None, /, **changes: Any
    ) -> TrainConfig:
        """From a TOML file; keyword arguments take the place of its values.

        Parameters
        ----------
        path : path-like
            The file.
        begun : mapping, optional
            Settings of the run to go on with, for those that are left open.

        Raises
        ------
        InputError
            If the file cannot be read, is no TOML, or holds a wrong key or value.
        """
        values = read_settings(path) | changes
        if "batch_norm" in values:
            values = recorded_settings(values)
        return cls.from_dict({**(begun or {}), **values}, f"config {path}")

    def stands_in(self, path: Path) -> bool:
        """Whether a file holds these settings, the folder aside."""
        try:
            return path.is_file() and TrainConfig.from_toml(path, out=self.out) == self
        except InputError:
            return False

    def replace(self, **changes: Any) -> TrainConfig:
        """A copy with some values changed."""
        return replace(self, **changes)


def to_toml(values: Mapping[str, Any], remarks: Mapping[str, str] | None = None) -> str:
    """Settings as a TOML file, each under its remark; None is left out.

    Examples
    --------
    >>> print(to_toml({"depth": 2, "w0": None}, {"depth": "small cells"}), end="")
    # small cells
    depth = 2
    """
    lines: list[str] = []
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for key, value in values.items():
        if value is not None and key not in tables:
            lines += [*_remark(key, remarks), f"{key} = {_toml(value)}"]
    for key, table in tables.items():
        if table:
            lines += ["", *_remark(key, remarks), f"[{key}]"]
            lines += [f"{name} = {_toml(value)}" for name, value in table.items()]
    return "\n".join(lines) + "\n"


def _remark(key: str, remarks: Mapping[str, str] | None) -> list[str]:
    return [f"# {remarks[key]}"] if remarks and key in remarks else []


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file of settings names, TOML or, where it is called so, JSON.

    Raises
    ------
    InputError
        If the file cannot be read, or is neither.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST + 1)
        if len(content) > _MOST:
            raise InputError(f"config: got {path}, expected a TOML file of at most 1 MB")
        loads = json.loads if os.fspath(path).endswith(".json") else tomllib.loads
        values = loads(content.decode("utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no table of settings")
    except OSError as error:
        raise InputError(f"config: got {path}, expected a TOML file ({error.strerror})") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"config: got {path}, expected a TOML file ({error})") from None
    return {key: _as_named(value) for key, value in values.items()}


def recorded_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint or a result says it was made with, in today's settings.

    Before there was `norm` there was a flag ``batch_norm``, and the second term of eq. 2 was added
    everywhere.

    Examples
    --------
    >>> recorded_settings({"batch_norm": False, "depth": 4})
    {'weight_term': 'everywhere', 'norm': 'none', 'depth': 4}
    >>> recorded_settings({"norm": "batch", "depth": 4})
    {'norm': 'batch', 'depth': 4}
    """
    if "norm" in values:
        return dict(values)
    term = "everywhere" if values.get("task", "segment") == "segment" else "background"
    return {"weight_term": term, "norm": "none"} | with_norm(values)


def parse_slices(text: str, name: str = "slices") -> tuple[int, ...]:
    """Slices from a text such as ``26-29,3``, sorted; ``none`` is empty.

    Examples
    --------
    >>> parse_slices("26-29,3")
    (3, 26, 27, 28, 29)
    >>> parse_slices("9-x")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: slices: got '9-x', expected slices such as 0-9,12, or none
    """
    if text == "none":
        return ()
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        numbers = (first, last if dash else first)
        short = all(number.isdecimal() and len(number) < 10 for number in numbers)
        if not short or int(numbers[0]) > int(numbers[1]):
            raise InputError(f"{name}: got {text!r}, expected slices such as 0-9,12, or none")
        if int(numbers[1]) > _SLICES:
            raise InputError(f"{name}: got {text!r}, expected slices of at most {_SLICES}")
        chosen.update(range(int(numbers[0]), int(numbers[1]) + 1))
    return tuple(sorted(chosen))


# A name that is no UTF-8 holds lone surrogates, which no TOML file may; its private characters may.
_TO_PRIVATE = {0xDC00 + byte: 0x10DC00 + byte for byte in range(128, 256)}
_FROM_PRIVATE = {private: lone for lone, private in _TO_PRIVATE.items()}


def _toml(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False).translate(_TO_PRIVATE)
    return "".join(f"\\U{ord(c):08X}" if ord(c) in _FROM_PRIVATE else c for c in text)


def _as_named(value: Any) -> Any:
    return value.translate(_FROM_PRIVATE) if isinstance(value, str) else value


# Settings that may be given as lists, and what an empty one is.
_LISTS = {
    "validation": "none",
    "exclude": "none",
    "ignore": "none",
    "background": "auto",
    "class_weights": "balanced",
}


def _types() -> dict[str, Any]:
    return get_type_hints(TrainConfig)


def _plain(value: Any) -> Any:
    """Scalars and arrays of NumPy, and ranges, as what a file can hold."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(entry) for entry in value]
    return value


def _is_name(value: str) -> bool:
    """Whether a file could have this name: it may be no UTF-8, but has to be bytes."""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _coerce(name: str, value: Any, kind: Any) -> Any:
    """The value in the field's type where nothing is lost, else an `InputError`."""
    value = _plain(value)
    if name in _LISTS and isinstance(value, int | float | list | tuple):
        listed = [value] if isinstance(value, int | float) else value
        return ",".join(str(item) for item in listed) or _LISTS[name]
    if kind == float | None:
        if value is None:
            return None
        kind = float
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif isinstance(value, os.PathLike) and kind is str:
        return os.fspath(value)
    elif kind in (int, str, bool):
        if type(value) is kind and not (kind is str and not _is_name(value)):
            return value
    elif isinstance(value, dict):
        return value
    if isinstance(value, str) and not _is_name(value):
        raise InputError(f"{name}: got {value!r}, expected a name that a file may have")
    expected = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}
    raise InputError(f"{name}: got {value!r}, expected {expected.get(kind, 'a table')}")
