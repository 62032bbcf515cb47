"""``unet-np evaluate``: score a segmentation against the truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unet_np.cli._common import check_output, example
from unet_np.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_PADDABLE = ("iou", "dice", "seg_measure")  # background around both changes nothing
_KINDS = ("probabilities", "instances")
_FEW = 16  # an 8-bit map whose highest probability is below 16 / 255 is rather one of classes


class Pair(NamedTuple):
    """Prediction and labels, (N, H, W) each, whether all slices have one size, and a remark."""

    prediction: np.ndarray
    labels: np.ndarray
    one_size: bool
    remark: str = ""


_DESCRIPTION = """\
Score a prediction against labels, as the challenges' own programs do. Both are an image, a stack,
or a folder of images. Two folders go together by name, as in `unet-np train`, or else in order. Of
what `unet-np segment` wrote NAME-instances.tif serves seg_measure and NAME-probabilities.tif the
rest. Images of different sizes have iou, dice and seg_measure.

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

    def pair(kind: str) -> Pair:
        if kind not in pairs:
            pairs[kind] = read_both(args.prediction, args.labels, kind)
        return pairs[kind]

    if args.classes:
        metrics = args.metrics or _PADDABLE[:2]
        scores = class_scores(*pair("labels")[:2], metrics, args.threshold)
    else:
        scores = _scores(args, pair)
    if args.json:
        _write_json(args, scores)
    if not args.quiet:
        for remark in sorted({one.remark for one in pairs.values()} - {""}):
            print(remark, file=sys.stderr)
        print("\n".join(score_lines(scores, args.per_slice)))
    return 0


def _scores(args: argparse.Namespace, pair: Callable[[str], Pair]) -> dict[str, Any]:
    """Each metric on the files that it is for."""
    from unet_np.metrics import evaluate

    metrics = args.metrics or _default(args.prediction, pair)
    thresholds = args.threshold
    if thresholds is not None and len(thresholds) == 1:
        thresholds = thresholds[0]
    scores: dict[str, Any] = {}
    for name in metrics:
        prediction, labels, one_size, _ = pair("instances" if name == "seg_measure" else _KINDS[0])
        if not one_size and name not in _PADDABLE:
            raise InputError(
                f"--metrics: got {name} for images of different sizes, expected one of "
                f"{', '.join(_PADDABLE)}"
            )
        if name == "seg_measure":
            scores |= evaluate(numbered(labels, "labels"), numbered(prediction, "prediction"), name)
        else:
            truth, maps = (labels > 0).astype("uint8"), probabilities(prediction)
            scores |= evaluate(truth, maps, name, thresholds)
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
    kind = _KINDS[1] if path.is_dir() and _of_segment(path, _KINDS[1]) else _KINDS[0]
    prediction, labels, one_size, _ = pair(kind)
    chosen = default_metrics(prediction, labels)
    return chosen if one_size or chosen == ("seg_measure",) else ("iou", "dice")


def _of_segment(folder: Path, kind: str) -> list[Path]:
    return sorted(file for file in folder.glob(f"*-{kind}.tif") if file.name[0] != ".")


def read_both(prediction: Path, labels: Path, kind: str) -> Pair:
    """Prediction and labels slice by slice, and whether all are of one size.

    Smaller slices lie in the upper left corner of the largest height and width, 0 around them.

    Parameters
    ----------
    prediction, labels : pathlib.Path
        Files or folders.
    kind : {"probabilities", "instances", "labels"}
        Which files are read of a folder that ``unet-np segment`` wrote.

    Raises
    ------
    InputError
        If there are no images, they are not grey, names do not pair, or sizes differ.
    """
    from unet_np.own_names import list_images
    from unet_np.own_pages import stack_pages

    files = [prediction], [labels]
    if prediction.is_dir():
        files = _of_segment(prediction, kind) or list_images(prediction, "prediction"), files[1]
    if labels.is_dir():
        files = files[0], list_images(labels, "labels")
    remark = ""
    if prediction.is_dir() and labels.is_dir():
        first, second, remark = _paired(*files)
        files = first, second
    sides = [
        [page for file in paths for page in _pages(file, argument)]
        for paths, argument in zip(files, ("prediction", "labels"), strict=True)
    ]
    if are_classes(sides[0]):
        raise InputError(
            f"prediction: got {prediction} with a probability of each of {len(sides[0])} classes, "
            "expected classes, NAME-labels.tif of `unet-np segment`, and --classes"
        )
    got, expected = (_size(pages) for pages in sides)
    if [page.shape for page in sides[0]] != [page.shape for page in sides[1]]:
        raise InputError(f"prediction: got {got}, expected {expected} as the labels")
    one_size = len({page.shape for page in sides[0]}) == 1
    return Pair(stack_pages(sides[0]), stack_pages(sides[1]), one_size, remark)


def _paired(predictions: list[Path], labels: list[Path]) -> tuple[list[Path], list[Path], str]:
    """By name; in order where no name has a partner, with a remark that says so."""
    from unet_np.own_names import pair_names, share_a_name

    if len(predictions) == len(labels) and not share_a_name(predictions, labels):
        remark = (
            f"prediction and labels share no names and go together in order: {predictions[0].name} "
            f"with {labels[0].name}, ..., {predictions[-1].name} with {labels[-1].name}"
        )
        return predictions, labels, remark
    try:
        pairs = pair_names(predictions, labels)
    except InputError as error:
        text = str(error).replace("masks: ", "labels: ", 1).replace("images: ", "prediction: ", 1)
        raise InputError(text) from None
    return [first for first, _ in pairs], [second for _, second in pairs], ""


def _pages(file: Path, argument: str) -> list[np.ndarray]:
    from unet_np.images import read_image, to_grey

    image = read_image(file, argument=argument)
    # A label map keeps its numbers; a picture that was stored in colour has grey ones.
    grey = to_grey(image) if image.ndim == 3 and image.shape[-1] in (3, 4) else image
    if grey.ndim not in (2, 3):
        raise InputError(f"{argument}: got {file} of shape {image.shape}, expected (N, H, W)")
    return list(grey) if grey.ndim == 3 else [grey]


def are_classes(pages: Sequence[np.ndarray]) -> bool:
    """Whether pages are the probabilities of the classes of one image, which add up to 1.

    Examples
    --------
    >>> import numpy as np
    >>> map_ = np.array([[0.25, 1.0]])
    >>> are_classes([map_, 1 - map_]), are_classes([map_, map_]), are_classes([map_])
    (True, False, False)
    """
    import numpy as np

    if len(pages) < 2 or len({page.shape for page in pages}) > 1 or pages[0].dtype.kind != "f":
        return False
    return bool(np.allclose(np.sum(pages, axis=0), 1, atol=1e-3))


def probabilities(prediction: np.ndarray) -> np.ndarray:
    """Values in [0, 1] of a prediction of any dtype.

    Raises
    ------
    InputError
        If they look like classes.

    Examples
    --------
    >>> import numpy as np
    >>> probabilities(np.array([0, 255], np.uint8)), probabilities(np.array([0, 1], np.uint8))
    (array([0., 1.], dtype=float32), array([0., 1.], dtype=float32))
    """
    import numpy as np

    if prediction.dtype.kind == "f":
        return prediction
    if prediction.dtype.kind not in "ui" or int(prediction.max()) <= 1:
        return prediction.astype(np.float32)
    if int(prediction.max()) < _FEW:
        raise InputError(
            f"prediction: got whole numbers up to {prediction.max()}, expected probabilities; "
            "--classes scores classes, --metrics seg_measure numbered cells"
        )
    # float64 first: 16 bits divided in single precision could miss a threshold by a rounding.
    return (prediction / float(np.iinfo(prediction.dtype).max)).astype(np.float32)


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


def _size(pages: list[np.ndarray]) -> str:
    sizes = {page.shape for page in pages}
    shown = (
        f"{pages[0].shape[0]} x {pages[0].shape[1]}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    )
    return f"{len(pages)} slices of {shown}"


def _write_json(args: argparse.Namespace, scores: dict[str, Any]) -> None:
    import json

    from unet_np.files import atomic_write
    from unet_np.provenance import provenance

    result = {
        **provenance(),
        "prediction": str(args.prediction),
        "labels": str(args.labels),
        "scores": scores,
    }
    with atomic_write(args.json) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
