"""``unet-np experiment``: the paper's experiments on real data."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from unet_np.cli._common import check_output, choose_threads, example
from unet_np.errors import InputError
from unet_np.files.ours import check_ours

NAMES = ("em", "u373", "hela", "nuclei", "detect", "classify", "border")
STUDIES = {
    "nuclei": "nuclei.study",
    "detect": "tasks.detection",
    "classify": "tasks.classification",
    "border": "border.study",
}
"""Modules of experiments that are one whole, by name; the others have folds."""

_DESCRIPTION = """\
Run an experiment of the paper on real data: train, predict and score on slices that the network
has not seen.

  em     EM stack, Table 1: cross-validation over the blocks 0-9, 10-25 and 26-29 (folds 0, 1, 2)
  u373   Table 2: trained on sequence 01 and tested on 02 (fold 0), and the other way (fold 1)
  hela   likewise
  nuclei images from elsewhere: 1, 4 and 16 images, from random and from given weights, beside Otsu
  detect centres and boxes of HeLa cells (01 to 02) and of nuclei
  classify  is a pixel of the EM stack membrane or cell: the sliding window before the U-Net
  border padding 1 against none: errors by distance to the cuts between tiles, on the EM stack

Each fold writes RESULTS/NAME-FOLD.json with pictures beside it, and RESULTS/NAME.json is the table
of the folds that there are. --norm adds -norm to NAME, another seed -seed-N; --both is the easier
test and no part of the table. The trainings lie under RUNS. A fold that is finished is not run
again; one that was stopped goes on with --resume."""

_EXAMPLE = """
unet-np experiment em --quick
unet-np experiment em --fold 2
unet-np experiment em --fold 2 --resume
unet-np experiment hela
unet-np experiment nuclei --quick"""


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "experiment",
        help="run an experiment of the paper",
        description=_DESCRIPTION,
        **example(_EXAMPLE),
    )
    add = parser.add_argument
    add("name", metavar="NAME", choices=NAMES, help=", ".join(NAMES))
    add("--fold", type=int, metavar="N", help="one fold (default: all of them)")
    add("--all", action="store_true", help="all folds, which is the default")
    add(
        "--both",
        action="store_true",
        help="u373, hela: trained on earlier frames of both sequences, tested on later ones",
    )
    add("--quick", action="store_true", help="a minute or two, to see that all parts work")
    add("--resume", action="store_true", help="go on with trainings that were stopped")
    add("--overwrite", action="store_true", help="start again, also what is finished")
    add("--search", action="store_true", help="search the learning rate, on fold 1 or --fold")
    add("--ablation", action="store_true", help="leave out parts, on the last fold or --fold")
    add("--test-slices", nargs="*", type=int, metavar="N", help="em: draw slices without labels")
    add(
        "--norm",
        choices=("none", "instance"),
        help="em, u373, hela: of the network (default: none)",
    )
    add("--legs", type=Path, metavar="FOLDER", help="what --resume and --export go on from, small")
    add("--export", action="store_true", help="write the weights of --fold as the package's own")
    for flag, text in (
        ("--steps", "steps of each training"),
        ("--base-channels", "channels of the first level"),
        ("--input-size", "side of the input tile in pixels"),
        ("--averaging", "versions that a prediction is the mean of: 1, 7 or 8"),
        ("--seed", "seed of everything random"),
    ):
        add(flag, type=int, metavar="N", help=f"{text} (default: the recipe's)")
    add("--draws", type=int, metavar="N", help="nuclei: draws of training images (default: all)")
    add("--learning-rate", type=float, metavar="X", help="(default: the recipe's)")
    add("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="default: runs")
    add("--results", type=Path, metavar="FOLDER", help="default: results; quick: RUNS/quick")
    add("--threads", type=int, metavar="N", help="default: all cores")
    add("-q", "--quiet", action="store_true", help="print the table only")


def run(args: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    from unet_np.training.interrupt import TrainingInterrupted

    _check(args)
    choose_threads(args.threads)
    places = _places(args)
    check_output(places.result(args.name), "--results")
    keys = ("steps", "base_channels", "input_size", "seed", "learning_rate")
    settings = {key: getattr(args, key) for key in keys}
    try:
        if args.name in STUDIES:
            module = importlib.import_module(f"unet_np.experiments.{STUDIES[args.name]}")
            more = {"draws": args.draws} if args.name == "nuclei" else {}
            module.study(args.quick, **settings, **more).run(places, overwrite=args.overwrite)
        else:
            _run_folds(args, settings, places)
    except TrainingInterrupted as stop:
        print(f"unet-np experiment: {stop}", file=sys.stderr)
        return 130
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.resume and args.overwrite:
        raise InputError("overwrite: got --overwrite with --resume, expected one of the two")
    if args.all and args.fold is not None:
        raise InputError(f"--all: got --fold {args.fold} too, expected one of the two")
    if args.both:
        if args.name == "em":
            raise InputError("--both: got the experiment em, expected u373 or hela")
        for name in ("fold", "all", "search", "ablation", "export"):
            _exclude(args, name)
    if args.name != "em":
        _refuse(args, "test_slices", "em")
    unused = ("fold", "both", "search", "ablation", "export", "averaging", "norm", "legs")
    for name in unused if args.name in STUDIES else ():
        _refuse(args, name, "em, u373 or hela")
    if args.name == "nuclei":
        _refuse(args, "learning_rate", "any other")
    else:
        _refuse(args, "draws", "nuclei")
    if args.search and args.learning_rate is not None:
        raise InputError(
            f"--learning-rate: got {args.learning_rate:g} with --search, expected one of the two"
        )
    if args.averaging not in (None, 1, 7, 8):
        raise InputError(f"--averaging: got {args.averaging}, expected 1, 7 or 8")


def _exclude(args: argparse.Namespace, name: str) -> None:
    if (value := getattr(args, name)) is not None and value is not False:
        shown = f"--{name}" if value is True else f"--{name} {value}"
        raise InputError(f"--both: got {shown} too, expected one of the two")


def _refuse(args: argparse.Namespace, name: str, expected: str) -> None:
    """Refuse a flag that the experiment has no use for."""
    value = getattr(args, name)
    # By identity: 0 is equal to False, and somebody's --fold 0 no flag that was left out.
    if value is not None and value is not False:
        flag = "--" + name.replace("_", "-")
        raise InputError(f"{flag}: got the experiment {args.name}, expected {expected}")


def _places(args: argparse.Namespace) -> Any:
    from unet_np.experiments import Places

    results = args.results or (args.runs / "quick" if args.quick else Path("results"))

    def say(text: str) -> None:
        # A line of the table goes out in any case, and news only if somebody wants them.
        if not args.quiet or "\n" in text:
            print(text, flush=True)

    return Places(args.runs, results, None, say, not args.quiet, args.legs)


def _run_folds(args: argparse.Namespace, settings: dict[str, Any], places: Any) -> None:
    from unet_np import experiments

    settings |= {"averaging": args.averaging, "norm": args.norm}
    if args.ablation and not args.quick:
        given = {key: value for key, value in settings.items() if value is not None}
        settings = experiments.REDUCED[args.name] | given
    chosen = experiments.recipe(args.name, args.quick, **settings)
    dataset = chosen.dataset()
    folds = chosen.folds(dataset)
    some = experiments.choose_folds(folds, args.fold)
    if args.both:
        some = (experiments.both_fold(dataset),)

    def one(default: int) -> Any:
        return folds[default] if args.fold is None else some[0]

    if args.search:
        steps = experiments.SEARCH_STEPS if args.steps is None else args.steps
        experiments.search(chosen, dataset, one(1), places, steps=steps, overwrite=args.overwrite)
    elif args.ablation:
        experiments.ablate(chosen, dataset, one(-1), places, overwrite=args.overwrite)
    elif args.test_slices is not None or args.export:
        if args.export:
            experiments.export(chosen, one(-1), places, overwrite=args.overwrite)
        if args.test_slices is not None:
            numbers = args.test_slices or (0, 9, 19)
            experiments.draw_test_slices(chosen, one(-1), places, numbers, overwrite=args.overwrite)
    else:
        check_ours([places.result(chosen.key)], args.overwrite, "--results")
        for fold in some:
            places.say(f"{chosen.name}, {fold.name}")
            experiments.run_fold(chosen, dataset, fold, places, args.resume, args.overwrite)
        if not args.both:
            finished = experiments.finished_folds(chosen, folds, places)
            experiments.summarise(chosen, finished, places)
