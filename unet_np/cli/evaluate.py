"""``unet-np evaluate``: score a segmentation against the truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.cli._common import check_output, example
from unet_np.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")

_DESCRIPTION = """\
Score a prediction against labels, as the challenges' own programs do. Both are an image, a stack,
or a folder whose images, sorted by name, are the slices.

  probabilities   float in 0 to 1, or 8 or 16 bits, which are divided by 255 or 65535
  labels          0 is membrane or background, anything else is cell
  seg_measure     both number the cells: 0 is background

Without --metrics the three errors of the paper's Table 1 are computed; if labels and prediction
number cells, seg_measure. Each metric but seg_measure takes the best of its thresholds, those of
the challenge by default; --threshold fixes one that was chosen elsewhere."""

_EXAMPLE = """
unet-np evaluate out.tif labels.tif
unet-np evaluate out.tif labels.tif --metrics rand_error v_rand --threshold 0.5 --json scores.json
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
    add("--threshold", nargs="+", type=float, metavar="X", help="one, or several to choose from")
    add("--per-slice", action="store_true", help="print the scores of each slice too")
    add("--json", type=Path, metavar="FILE", help="write the scores, with where they come from")
    add("-q", "--quiet", action="store_true", help="print nothing")
    parser.epilog = "metrics: " + ", ".join(_metric_names()) + "\n\n" + str(parser.epilog)


def run(args: argparse.Namespace) -> int:
    """Read, score, print, write."""
    from unet_np.metrics import evaluate

    if args.json:
        check_output(args.json, "--json")
        if args.json.resolve() in (args.prediction.resolve(), args.labels.resolve()):
            raise InputError(f"--json: got {args.json}, which is an input, expected another file")
    prediction, labels = (
        read_stack(args.prediction, "prediction"),
        read_stack(args.labels, "labels"),
    )
    if prediction.shape != labels.shape:
        raise InputError(
            f"prediction: got {_size(prediction)}, expected {_size(labels)} as the labels"
        )
    metrics = args.metrics or default_metrics(prediction, labels)
    thresholds = args.threshold
    if thresholds is not None and len(thresholds) == 1:
        thresholds = thresholds[0]
    scores: dict[str, Any] = {}
    for name in metrics:
        if name == "seg_measure":
            scores |= evaluate(numbered(labels, "labels"), numbered(prediction, "prediction"), name)
        else:
            truth, maps = (labels > 0).astype("uint8"), probabilities(prediction)
            scores |= evaluate(truth, maps, name, thresholds)
    if args.json:
        _write_json(args, scores)
    if not args.quiet:
        print("\n".join(score_lines(scores, args.per_slice)))
    return 0


def read_stack(path: Path, argument: str) -> np.ndarray:
    """The slices of a file or of a folder, (N, H, W).

    Raises
    ------
    InputError
        If there are none, they are no grey images, or differ in size.
    """
    import numpy as np

    from unet_np.images import read_image, to_grey

    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise InputError(f"{argument}: got the folder {path}, expected images in it")
    stacks = []
    for file in files:
        image = read_image(file, argument=argument)
        # A label map keeps its numbers; a picture that was stored in colour has grey ones.
        grey = to_grey(image) if image.ndim == 3 and image.shape[-1] in (3, 4) else image
        if grey.ndim not in (2, 3):
            raise InputError(f"{argument}: got {file} of shape {image.shape}, expected (N, H, W)")
        stacks.append(grey if grey.ndim == 3 else grey[None])
        if stacks[-1].shape[1:] != stacks[0].shape[1:]:
            raise InputError(
                f"{argument}: got {file} of {_size(stacks[-1])}, expected {_size(stacks[0])} "
                "as the first"
            )
    return np.concatenate(stacks)


def probabilities(prediction: np.ndarray) -> np.ndarray:
    """Values in [0, 1] of a prediction of any dtype.

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


def _size(stack: np.ndarray) -> str:
    count, height, width = stack.shape
    return f"{count} slices of {height} x {width}"


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
