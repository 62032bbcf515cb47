"""``unet-np evaluate``: score a segmentation against the truth."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.cli._common import add_axes, add_overwrite, check_outputs, example
from unet_np.errors import InputError

if TYPE_CHECKING:
    from unet_np.data.own.compared import Compared

_KINDS = ("probabilities", "instances")

_DESCRIPTION = """\
Score a prediction against labels, as the challenges' own programs do. Both are an image, a stack,
or a folder of images. Of the files that `unet-np segment` writes, NAME-instances.tif is the one for
seg_measure and NAME-probabilities.tif for all others. Images of different sizes can be scored by
iou, dice and seg_measure.

The files of two folders are paired by name, as in `unet-np train`; otherwise by the numbers in
their names (t9.tif and man_seg009.tif); and only if neither helps, in order. Predictions
without labels are left out; labels without a prediction are an error. A folder and a stack are
paired in order.

With --classes the prediction is classes 0, 1, 2, ..., such as NAME-labels.tif of `unet-np segment`,
and class 2 is class 2, whichever others occur. One that a side lacks is scored as 0; one that both
lack is left out. If the labels have other values for classes, --values lists them in order, such as
0 80 255, or '#000000' '#ff0000'; 0, 128 and 255 are taken for 0, 1 and 2 if all of them occur.
The table below the scores counts what the pixels of each class were taken for.

  probabilities   float in 0 to 1, or 8 or 16 bits, which are divided by 255 or 65535
  labels          0 is membrane or background, anything else is cell
  seg_measure     both number the cells: 0 is background

Without --metrics the three errors of the paper's Table 1 are computed; if labels and prediction
number cells, seg_measure. Each metric but seg_measure takes the best of its thresholds, those of
the challenge by default; --threshold fixes one that was chosen elsewhere."""

_EXAMPLE = """
unet-np evaluate out.tif labels.tif
unet-np evaluate out.tif labels.tif --metrics rand_error v_rand --threshold 0.5 --json scores.json
unet-np evaluate results/ masks/ --metrics iou seg_measure
unet-np evaluate results/ masks/ --classes --ignore 255
unet-np evaluate out-instances.tif masks.tif --metrics seg_measure --per-slice"""


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
    from unet_np.metrics import METRIC_NAMES

    parser = subparsers.add_parser(
        "evaluate",
        help="compare a segmentation with the truth",
        description=_DESCRIPTION,
        **example(_EXAMPLE),
    )
    add = parser.add_argument
    add("prediction", type=Path, metavar="PREDICTION", help="file or folder")
    add("labels", type=Path, metavar="LABELS", help="file or folder")
    add("--metrics", nargs="+", metavar="METRIC", help="such as rand_error iou (see below)")
    add("--classes", action="store_true", help="iou and dice of each class (see above)")
    add("--values", nargs="+", metavar="N", help="with --classes: of class 0, 1, ... in the labels")
    add("--ignore", nargs="+", metavar="N", help="values of the labels that count in no score")
    add_axes(parser, "the prediction")
    add("--threshold", nargs="+", type=float, metavar="X", help="one, or several to choose from")
    add("--per-slice", action="store_true", help="print the scores of each slice too")
    add("--json", type=Path, metavar="FILE", help="write the scores, with where they come from")
    add_overwrite(parser)
    add("-q", "--quiet", action="store_true", help="print nothing")
    parser.epilog = "metrics: " + ", ".join(METRIC_NAMES) + "\n\n" + str(parser.epilog)


def run(args: argparse.Namespace) -> int:
    """Read, score, print, write."""
    from unet_np.metrics.scoring import remarks

    _check(args)
    pairs = _read(args)
    scores: dict[str, Any] = {}
    notes: list[str] = []
    for metrics, pair in pairs:
        scores |= _score(args, metrics, pair)
        if args.classes:
            notes += _lacking(scores)
        else:
            notes += remarks(pair.labels, pair.prediction, metrics)
    if args.metrics and not args.classes:
        scores = {name: scores[name] for name in args.metrics}
    if args.json:
        _write_json(args, scores, [pair for _, pair in pairs])
    if not args.quiet:
        # Maps and numbered cells of one folder go together alike: one remark will do.
        same = {(pair.how, pair.left_out): pair.remark for _, pair in pairs}
        for note in filter(None, dict.fromkeys([*same.values(), *notes])):
            print(note, file=sys.stderr)
        if args.ignore:
            share = pairs[0][1].ignored.mean()
            print(f"labels: {share:.1%} of the pixels are ignored", file=sys.stderr)
        print("\n".join(score_lines(scores, args.per_slice)))
        if args.classes:
            print("\n".join(confusion_lines(_confusion(args, pairs[0][1]))))
    return 0


def _lacking(scores: dict[str, Any]) -> list[str]:
    """A remark on classes between others that occur on neither side.

    Examples
    --------
    >>> _lacking({"iou of class 2": {}})
    ['class 1 occurs on neither side and is left out']
    """
    numbers = {int(name.rpartition(" ")[2]) for name in scores}
    lacking = [str(number) for number in range(1, max(numbers)) if number not in numbers]
    if not lacking or len(lacking) > 2 * len(numbers):
        return []
    several = "classes" if len(lacking) > 1 else "class"
    verbs = "occur on neither side and are" if len(lacking) > 1 else "occurs on neither side and is"
    return [f"{several} {', '.join(lacking)} {verbs} left out"]


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be asked for, before anything is read."""
    from unet_np.data.own.values import parse_values
    from unet_np.metrics.scoring import OVERLAPS, PADDABLE

    if args.json:
        check_outputs([args.json], (args.prediction, args.labels), args.overwrite, "--json")
    args.ignore = parse_values(args.ignore or "none", "--ignore")
    args.values = None if args.values is None else parse_values(args.values, "--values")
    if args.values is not None and not args.classes:
        raise InputError("--values: got it without --classes, expected both")
    other = next((name for name in args.metrics or () if name not in PADDABLE), None)
    if args.ignore and other is not None:
        raise InputError(
            f"--ignore: got it with {other}, from which no pixels can be left out, expected one of "
            f"{', '.join(PADDABLE)}"
        )
    if args.classes:
        other = next((name for name in args.metrics or () if name not in OVERLAPS), None)
        if other is not None or args.threshold is not None:
            got = f"--metrics {other}" if other is not None else "--threshold"
            raise InputError(f"--classes: got {got}, expected iou or dice, without a threshold")


def _read(args: argparse.Namespace) -> list[tuple[tuple[str, ...], Compared]]:
    """Which metrics are asked for of which files: maps and numbered cells are other files."""
    from unet_np.data.own.compared import of_segment, read_both
    from unet_np.metrics.scoring import OVERLAPS, default_metrics

    def read_kind(kind: str) -> Compared:
        places = args.prediction, args.labels
        return read_both(*places, kind, args.axes or "auto", args.ignore)

    if args.classes:
        return [(tuple(args.metrics or OVERLAPS), read_kind("labels"))]
    read: dict[str, Compared] = {}
    metrics = args.metrics
    if not metrics:
        numbered = args.prediction.is_dir() and of_segment(args.prediction, _KINDS[1])
        kind = _KINDS[bool(numbered)]
        pair = read[kind] = read_kind(kind)
        metrics = default_metrics(pair.labels, pair.prediction)
        if (args.ignore or not pair.one_size) and metrics != ("seg_measure",):
            metrics = OVERLAPS
    pairs = []
    for kind in _KINDS:
        chosen = tuple(name for name in metrics if kind == _KINDS[name == "seg_measure"])
        if chosen:
            pairs.append((chosen, read.get(kind) or read_kind(kind)))
    return pairs


def _score(args: argparse.Namespace, metrics: tuple[str, ...], pair: Compared) -> dict[str, Any]:
    import numpy as np

    from unet_np.data.own.values import listed
    from unet_np.metrics.scoring import PADDABLE, class_scores, score

    if args.classes:
        if pair.bits and args.values is None:
            colours = listed(np.unique(pair.labels[~pair.ignored]).tolist(), pair.bits)
            raise InputError(
                f"labels: got the colours {colours}, expected numbers of classes, or --values with "
                "the colour of class 0, 1, 2, ..."
            )
        sides = pair.labels, pair.prediction
        return dict(class_scores(*sides, metrics, args.values, pair.ignored))
    other = next((name for name in metrics if name not in PADDABLE), None)
    if other is not None and not pair.one_size:
        raise InputError(
            f"--metrics: got {other} for images of different sizes, expected one of "
            f"{', '.join(PADDABLE)}"
        )
    one = args.threshold is not None and len(args.threshold) == 1
    threshold = args.threshold[0] if one else args.threshold
    return dict(score(pair.labels, pair.prediction, metrics, threshold))


def score_lines(scores: dict[str, Any], per_slice: bool) -> list[str]:
    """The scores as text.

    Examples
    --------
    >>> print(*score_lines({"iou": {"value": 0.5, "threshold": 0.1, "slices": [None]}}, True),
    ...       sep="\\n")
    iou                   0.500000  threshold 0.1
      slice 0             -
    """
    lines = []
    for name, found in scores.items():
        at = "" if found["threshold"] is None else f"  threshold {found['threshold']:.6g}"
        lines.append(f"{name:22}{found['value']:.6f}{at}")
        for number, value in enumerate(found["slices"] if per_slice else ()):
            text = "-" if value is None else f"{value:.6f}"
            lines.append(f"  {f'slice {number}':20}{text}")
    return lines


def _confusion(args: argparse.Namespace, pair: Compared) -> list[list[int]]:
    from unet_np.metrics import confusion

    table = confusion(pair.labels, pair.prediction, args.values, pair.ignored)
    return [[int(count) for count in row] for row in table]


def confusion_lines(table: list[list[int]]) -> list[str]:
    """The table of what pixels were taken for as text: shares of the pixels of each class.

    Classes that are nowhere have no row and no column.

    Examples
    --------
    >>> print(*confusion_lines([[3, 0, 1], [0, 0, 0], [0, 0, 4]]), sep="\\n")
    pixels of               pixels   taken for 0           2
      class 0                    4         75.0%       25.0%
      class 2                    4          0.0%      100.0%
    """
    numbers = [n for n, row in enumerate(table) if sum(row) or any(other[n] for other in table)]
    names = [f"taken for {numbers[0]}", *map(str, numbers[1:])]
    lines = [f"{'pixels of':20}{'pixels':>10}  " + "".join(f"{name:>12}" for name in names)]
    for number in numbers:
        total = sum(table[number])
        shares = "".join(
            f"{table[number][other] / total:12.1%}" if total else f"{'-':>12}" for other in numbers
        )
        lines.append(f"{f'  class {number}':20}{total:10}  {shares}")
    return lines


def _write_json(args: argparse.Namespace, scores: dict[str, Any], pairs: list[Compared]) -> None:
    import json

    from unet_np.experiments.provenance import provenance
    from unet_np.files import atomic_write

    result = {
        **provenance(),
        "prediction": str(args.prediction),
        "labels": str(args.labels),
        "pairs": pairs[-1].how,
        "left_out": max(pair.left_out for pair in pairs),
        "scores": scores,
    }
    if args.classes:
        result["confusion"] = _confusion(args, pairs[-1])
    with atomic_write(args.json) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
