"""``unet-np evaluate``: score a segmentation against the truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.cli._common import check_output, example
from unet_np.cli._scored_files import (
    MANY,
    Pair,
    of_segment,
    read_both,
    remarks_on_empty_slices,
    remarks_on_mask,
    remarks_on_numbers,
)
from unet_np.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_PADDABLE = ("iou", "dice", "seg_measure")  # background around both changes nothing
_KINDS = ("probabilities", "instances")


_DESCRIPTION = """\
Score a prediction against labels, as the challenges' own programs do. Both are an image, a stack,
or a folder of images. Of what `unet-np segment` wrote NAME-instances.tif serves seg_measure and
NAME-probabilities.tif the rest. Images of different sizes have iou, dice and seg_measure.

The files of two folders go together by name, as in `unet-np train`, else by the numbers in their
names (t9.tif and man_seg009.tif), and only where there is neither to go by in order. Predictions
without labels are left out; labels without a prediction are an error. A folder and a stack go
together in order.

With --classes the prediction is classes 0, 1, 2, ..., such as NAME-labels.tif of `unet-np segment`,
and the values of the labels, in order, are the same classes: 0, 128 and 255 are 0, 1 and 2.

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
unet-np evaluate results/ masks/ --classes
unet-np evaluate out-instances.tif masks.tif --metrics seg_measure --per-slice"""


def add_parser(subparsers: Any) -> None:
    """Add the command and its arguments."""
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
    add("--threshold", nargs="+", type=float, metavar="X", help="one, or several to choose from")
    add("--per-slice", action="store_true", help="print the scores of each slice too")
    add("--json", type=Path, metavar="FILE", help="write the scores, with where they come from")
    add("-q", "--quiet", action="store_true", help="print nothing")
    parser.epilog = "metrics: " + ", ".join(_metric_names()) + "\n\n" + str(parser.epilog)


def run(args: argparse.Namespace) -> int:
    """Read, score, print, write."""
    if args.json:
        check_output(args.json, "--json")
        if args.json.resolve() in (args.prediction.resolve(), args.labels.resolve()):
            raise InputError(f"--json: got {args.json}, which is an input, expected another file")
    pairs: dict[str, Pair] = {}
    remarks: list[str] = []

    def pair(kind: str) -> Pair:
        if kind not in pairs:
            pairs[kind] = read_both(args.prediction, args.labels, kind)
        return pairs[kind]

    if args.classes:
        metrics = args.metrics or _PADDABLE[:2]
        scores = class_scores(*pair("labels")[:2], metrics, args.threshold)
    else:
        scores = _scores(args, pair, remarks)
    if args.json:
        _write_json(args, scores, list(pairs.values()))
    if not args.quiet:
        # Maps and numbered cells of one folder go together alike: one remark will do.
        same = {(one.how, one.left_out): one.remark for one in pairs.values()}
        for remark in filter(None, dict.fromkeys([*same.values(), *remarks])):
            print(remark, file=sys.stderr)
        print("\n".join(score_lines(scores, args.per_slice)))
    return 0


def _scores(
    args: argparse.Namespace, pair: Callable[[str], Pair], remarks: list[str]
) -> dict[str, Any]:
    """Each metric on the files that it is for; remarks are added to those given."""
    from unet_np.metrics import evaluate

    metrics = args.metrics or _default(args.prediction, pair)
    thresholds = args.threshold
    if thresholds is not None and len(thresholds) == 1:
        thresholds = thresholds[0]
    scores: dict[str, Any] = {}
    for name in metrics:
        found = pair(_KINDS[name == "seg_measure"])
        if not found.one_size and name not in _PADDABLE:
            raise InputError(
                f"--metrics: got {name} for images of different sizes, expected one of "
                f"{', '.join(_PADDABLE)}"
            )
        if name == "seg_measure":
            cells = numbered(found.prediction, "prediction"), numbered(found.labels, "labels")
            scores |= evaluate(cells[1], cells[0], name)
            remarks += remarks_on_numbers(*cells)
        else:
            truth, maps = (found.labels > 0).astype("uint8"), probabilities(found.prediction)
            scores |= evaluate(truth, maps, name, thresholds)
    if set(metrics) - {"seg_measure"}:
        truth = pair(_KINDS[0]).labels
        remarks += [*remarks_on_mask(truth), *remarks_on_empty_slices(truth, metrics)]
    return scores


def class_scores(
    prediction: np.ndarray, labels: np.ndarray, metrics: Sequence[str], threshold: object = None
) -> dict[str, Any]:
    """Scores of each class but 0, of whole numbers.

    Parameters
    ----------
    prediction : numpy.ndarray
        (N, H, W), classes from 0.
    labels : numpy.ndarray
        Same shape; the values in order are the classes.
    metrics : sequence of str
        iou and dice.
    threshold : object
        Must be None: classes have none.

    Raises
    ------
    InputError
        For other metrics or a threshold, and if the labels have fewer values than the prediction
        has classes.

    Examples
    --------
    >>> import numpy as np
    >>> scores = class_scores(np.array([[[0, 1, 2]]]), np.array([[[0, 128, 255]]]), ["iou"])
    >>> {name: found["value"] for name, found in scores.items()}
    {'iou of class 1': 1.0, 'iou of class 2': 1.0}
    """
    import numpy as np

    from unet_np.metrics import evaluate

    other = next((name for name in metrics if name not in _PADDABLE[:2]), None)
    if other is not None or threshold is not None:
        got = f"--metrics {other}" if other is not None else "--threshold"
        raise InputError(f"--classes: got {got}, expected iou or dice, without a threshold")
    classes = numbered(prediction, "prediction")
    values, places = np.unique(labels, return_inverse=True)
    highest = int(classes.max())
    if highest >= len(values):
        raise InputError(
            f"labels: got {len(values)} values, expected at least {highest + 1}, for the classes 0 "
            f"to {highest} of the prediction"
        )
    truth, scores = places.reshape(labels.shape), {}
    for number in range(1, len(values)):
        pair = (truth == number).astype(np.uint8), (classes == number).astype(np.float32)
        for name, found in evaluate(*pair, list(metrics), 0.5).items():
            scores[f"{name} of class {number}"] = {**found, "threshold": None}
    return scores


def _default(path: Path, pair: Callable[[str], Pair]) -> tuple[str, ...]:
    """Metrics where the user names none."""
    kind = _KINDS[1] if path.is_dir() and of_segment(path, _KINDS[1]) else _KINDS[0]
    found = pair(kind)
    chosen = default_metrics(found.prediction, found.labels)
    return chosen if found.one_size or chosen == ("seg_measure",) else ("iou", "dice")


def probabilities(prediction: np.ndarray) -> np.ndarray:
    """Values in [0, 1] of a prediction of any dtype.

    Raises
    ------
    InputError
        If they look like classes or numbers of cells.

    Examples
    --------
    >>> import numpy as np
    >>> probabilities(np.array([0, 255], np.uint8)), probabilities(np.array([0, 1], np.uint8))
    (array([0., 1.], dtype=float32), array([0., 1.], dtype=float32))
    """
    import numpy as np

    from unet_np.data.own.masks import one_region_each

    if prediction.dtype.kind == "f":
        return prediction
    if prediction.dtype.kind not in "ui" or int(prediction.max()) <= 1:
        return prediction.astype(np.float32)
    highest = np.iinfo(prediction.dtype).max
    share = int(prediction.max()) / highest
    # Numbers of cells have one region each, which grey values up to the brightest seldom have.
    if share < MANY / 255 or (share < 0.5 and one_region_each(prediction) >= 0.5):
        raise InputError(
            f"prediction: got whole numbers up to {prediction.max()}, expected probabilities; "
            "--classes scores classes, --metrics seg_measure numbered cells"
        )
    # float64 first: 16 bits divided in single precision could miss a threshold by a rounding.
    return (prediction / float(highest)).astype(np.float32)


def numbered(stack: np.ndarray, argument: str) -> np.ndarray:
    """Numbers of cells as integers; TIFF files of many cells hold them as float32.

    Raises
    ------
    InputError
        If a number has a fraction.

    Examples
    --------
    >>> import numpy as np
    >>> numbered(np.array([0.0, 3.0], np.float32), "labels")
    array([0, 3])
    """
    import numpy as np

    if stack.dtype.kind != "f":
        return stack
    if not (stack == np.round(stack)).all():
        raise InputError(
            f"{argument}: got numbers with fractions, expected numbered cells for seg_measure"
        )
    return stack.astype(np.int64)


def default_metrics(prediction: np.ndarray, labels: np.ndarray) -> tuple[str, ...]:
    """seg_measure where both number cells, else the errors of the paper's Table 1.

    Examples
    --------
    >>> import numpy as np
    >>> default_metrics(np.array([0, 1, 2]), np.array([0, 1, 3]))
    ('seg_measure',)
    """
    from unet_np.metrics import ISBI_METRICS

    # Two values, such as 0 and 255, are a mask; grey values would be a prediction, not labels.
    whole = prediction.dtype.kind in "uib" and labels.dtype.kind in "uib"
    several = len({*labels.ravel()[labels.ravel() > 0].tolist()}) > 1
    return ("seg_measure",) if whole and several else ISBI_METRICS


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


def _metric_names() -> tuple[str, ...]:
    from unet_np.metrics import METRIC_NAMES

    return METRIC_NAMES


def _write_json(args: argparse.Namespace, scores: dict[str, Any], pairs: Sequence[Pair]) -> None:
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
    with atomic_write(args.json) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
