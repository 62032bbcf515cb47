"""``unet-np train``: train a network on a data set or on images of one's own."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.cli._common import example
from unet_np.errors import InputError
from unet_np.training.config import OPEN, TrainConfig, read_settings

if TYPE_CHECKING:
    from unet_np.data import Dataset
    from unet_np.training.ranks import Ranks

_DESCRIPTION = """\
Train as the paper does: one large augmented tile a step, momentum 0.99, weighted cross entropy.

OUT then holds weights.safetensors (the last weights, with --patience the best),
checkpoint.safetensors (from which --resume goes on, bit for bit, even after kill -9), metrics.csv,
times.csv, config.toml and report.html, and progress.png while a training of minutes goes on. Ctrl-C
finishes the step and saves. Settings come from --config, a TOML or JSON file such as
OUT/config.toml, and from flags, which take precedence.

--images and --masks are folders or files, 8 or 16 bits or float, grey or colour, of any sizes; a
mask has the name of its image, or a_mask for a. Its values are 0 and another, classes, or numbers
of cells; the first line that is printed says how they were read. To segment them, the defaults of
--norm, --learning-rate and --momentum are instance, 0.02 and 0.9, which worked best here in the
paper's experiments, and whatever else you leave open is as unet-np plan proposes it; a network to
--start from brings its own settings. Elsewhere the defaults are the paper's.

--task detect learns where objects are, for unet-np detect; --task classify what a patch's middle
pixel is, or, with --images alone, a folder that holds a folder for each class, what an image is.

mpirun -n 4 unet-np train ... trains in four processes, each with tiles of its own (or one GPU): a
step is that of --batch-size 4. It needs pip install 'unet-np[scale]'."""

_EXAMPLE = """
unet-np train --data isbi2012 --base-channels 16 --steps 300 --seed 5 --out runs/em
unet-np train --out runs/em --resume
unet-np train --images photos/ --masks masks/ --out runs/mine
unet-np train --images photos/ --masks masks/ --start u373 --steps 300 --out runs/tuned
unet-np train --task detect --data hela --norm batch --learning-rate 0.003 --out runs/detect
unet-np train --task classify --images folder-of-class-folders/ --depth 3 --out runs/classes"""

_SHOWN = {"str": "TEXT", "int": "N", "float": "X"}


def add_parser(subparsers: Any) -> None:
    """Add the command; a flag for each setting of `TrainConfig`."""
    parser = subparsers.add_parser(
        "train", help="train a network", description=_DESCRIPTION, **example(_EXAMPLE)
    )
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="TOML file of settings")
    add("--resume", action="store_true", help="go on with the run in --out")
    add("--overwrite", action="store_true", help="start again although --out holds a run")
    add("-q", "--quiet", action="store_true", help="no progress bar and no summary")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser, without: str = "") -> None:
    """A flag for each setting but one."""
    add = parser.add_argument
    for entry in fields(TrainConfig):
        if entry.name in ("augmentation", without):
            continue  # a table: in a TOML file only
        flag, default = "--" + entry.name.replace("_", "-"), entry.default
        text = entry.metadata["help"] + ("" if default is None else f" (default {default!r})")
        # Flags that are not given are left out, so that the TOML file or the run decides.
        common: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text}
        if entry.type == "bool":
            add(flag, action=argparse.BooleanOptionalAction, **common)
        else:
            kind = str(entry.type).removesuffix(" | None")
            convert = {"int": int, "float": float}.get(kind, str)
            several: dict[str, Any] = (
                {"nargs": "+"} if entry.name in ("ignore", "class_weights") else {}
            )
            add(flag, type=convert, metavar=_SHOWN[kind], **several, **common)


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    # Imported late: --help need not wait for the network.
    from unet_np.training.interrupt import TrainingInterrupted
    from unet_np.training.ranks import launched

    try:
        with launched() as ranks:
            args.quiet |= not ranks.first
            _train(args, ranks)
    except TrainingInterrupted as stop:
        print(f"unet-np train: {stop}", file=sys.stderr)
        return 130
    return 0


def _train(args: argparse.Namespace, ranks: Ranks) -> None:
    from unet_np.training.loop import train
    from unet_np.training.memory import check_memory
    from unet_np.training.plan import is_own, propose
    from unet_np.training.samples import load_data

    if args.resume and args.overwrite:
        raise InputError("overwrite: got --overwrite with --resume, expected one of the two")
    config, planned = settings(args), ""
    # Only the first rank need see the run.
    open_yet = ranks.agree(is_own(config) and not (args.resume and _begun(config.out)))[0]
    if not open_yet:
        check_memory(config, ranks.here)
    dataset = load_data(config)
    if open_yet:
        plan = propose(dataset, config, given_settings(args), ranks.here)
        # The free memory may differ; what somebody said may not, and is compared later.
        first = ranks.agree(plan.config)[0]
        config = plan.config.replace(**{name: getattr(first, name) for name in plan.reasons})
        planned = ", ".join(f"{name} {value}" for name, value, _ in plan.rows())
    for remark in () if args.quiet else remarks(config, dataset):
        print(remark)
    if planned and not args.quiet:
        print(f"plan: {planned} (unet-np plan says why)")
    result = train(config, args.resume, args.overwrite, not args.quiet, dataset, ranks)
    if ranks.first:
        _report(config, dataset, args.quiet)
    if not args.quiet:
        figures = ", ".join(f"{key} {value:.4g}" for key, value in result.last.items())
        print(f"{figures or f'step {result.step}, nothing left to do'}")
        if result.stopped_early:
            print(f"stopped early: the lowest validation loss is that of step {result.best_step}")
        kept = f", of step {result.best_step}" if config.patience else ""
        print(f"weights: {result.folder.weights}{kept}")


def _report(config: TrainConfig, dataset: Dataset, quiet: bool) -> None:
    """The page on the training, which is done: nothing that goes wrong here may seem otherwise."""
    from unet_np.training.report import write_report

    try:
        page = write_report(config.out, dataset)
    except (InputError, OSError, MemoryError) as error:
        print(f"report: not written ({error})", file=sys.stderr)
        return
    if not quiet:
        print(f"report: {page}")


def remarks(config: TrainConfig, dataset: Dataset) -> list[str]:
    """What a user should know before the first step: how files were read, what does not fit.

    Examples
    --------
    >>> from unet_np.data import load
    >>> print(*remarks(TrainConfig(), load("synthetic-em", count=1, size=200)))
    input_size: the tile of 572 pixels gives 388, more than the images have (200 x 200); 396 fits
    """
    found = [dataset.note] if dataset.note else []
    net, largest = config.architecture, max(dataset.shape)
    size, output = config.tile_size, config.architecture.output_size(config.tile_size)
    fitting = net.nearest_input_sizes(largest + net.margin)[-1]
    # Half as much again is nothing to speak of: what lies outside is mirrored.
    if net.has_map and 2 * output > 3 * largest and fitting < size:
        shape = " x ".join(str(side) for side in dataset.shape)
        found.append(
            f"input_size: the tile of {size} pixels gives {output}, more than the images have "
            f"({shape}); {fitting} fits"
        )
    every, waits = config.validate_every, config.patience
    if waits and (waits + 1) * every > config.steps:
        found.append(
            f"patience: {waits} validations after the first, one every {every} steps, are not over "
            f"by step {config.steps}; the best weights are kept, but nothing stops early"
        )
    return found


def _where_they_are(config: TrainConfig, stored: Path, given: set[str]) -> TrainConfig:
    """Settings of a run that may have moved, and its images with it.

    Their place is as seen from the folder in which the run was begun. If they are not there, but
    beside where the run is now, as they were then, they are taken from there.
    """
    begun, now = Path(TrainConfig.from_toml(stored).out), stored.parent
    folder = None if begun.is_absolute() else Path(*now.absolute().parts[: -len(begun.parts)])
    changes = {}
    for name in ("images", "masks"):
        place = getattr(config, name)
        if not place or name in given or Path(place).exists():
            continue
        if folder is None or folder / begun != now.absolute() or not (folder / place).exists():
            raise InputError(
                f"{name}: got {place}, which is not there, expected --{name} with the place where "
                "they are now"
            )
        changes[name] = str(folder / place)
    return config.replace(**changes)


def given_settings(args: argparse.Namespace) -> set[str]:
    """The names of those that a flag or the file names."""
    names = {entry.name for entry in fields(TrainConfig)} & set(vars(args))
    return names | set(read_settings(args.config) if args.config else ())


def _begun(out: str | Path) -> dict[str, Any]:
    """What the run there has for settings that are left open."""
    from unet_np.training.checkpoint import RunFolder
    from unet_np.training.plan import PLANNED

    return RunFolder(out).begun_with((*OPEN, *PLANNED))


def settings(args: argparse.Namespace) -> TrainConfig:
    """The settings from the TOML file, or the run to resume, and the flags."""
    names = {entry.name for entry in fields(TrainConfig)}
    flags = {key: value for key, value in vars(args).items() if key in names}
    if args.config is not None:
        config = TrainConfig.from_toml(args.config, **flags)
        if args.resume:
            config = TrainConfig.from_toml(args.config, _begun(config.out), **flags)
        own = Path(config.out, "config.toml")
        if own.resolve() == args.config.resolve() and not config.stands_in(own):
            raise InputError(
                f"--config: got {args.config}, which the run in --out replaces, expected a copy "
                "of it or another --out"
            )
        return config
    stored = Path(flags.get("out", TrainConfig.out), "config.toml")
    if args.resume and stored.exists():
        given = {"out": str(stored.parent), **flags}
        config = TrainConfig.from_toml(stored, _begun(stored.parent), **given)
        return _where_they_are(config, stored, set(flags))
    if args.resume and not set(flags) - {"out", "threads", "backend"}:
        # Nothing says what to train: a mistyped folder would begin the paper's network instead.
        raise InputError(f"--resume: got {stored.parent}, which holds no run, expected one")
    return TrainConfig(**flags)
