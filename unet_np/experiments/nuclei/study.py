"""Images from elsewhere: nuclei of the 2018 Data Science Bowl, zero-shot, tuned and from scratch.

The paper's claim is that few annotated images are enough. Here the same network learns from 1, 2,
4, 8 and 16 images of a data set that it has never seen, from random weights and from those of
``u373``, with augmentation and without, and is tested on images held out for that alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from unet_np import pretrained
from unet_np.errors import InputError, MissingExtraError
from unet_np.experiments import runner
from unet_np.experiments.experiment import Places
from unet_np.experiments.nuclei import pictures as nuclei_pictures
from unet_np.experiments.nuclei import scores as scoring
from unet_np.experiments.nuclei.plan import NOTES, Plan, Trial
from unet_np.experiments.nuclei.trials import (
    Bench,
    kept,
    network,
    run_trial,
    seen_through,
    try_rate,
    weights_digest,
)

STARTS = ("u373", "")
ARMS = tuple((start, augment) for start in STARTS for augment in (True, False))
"""Start and augmentation of the four lines."""

AS_THEY_ARE = tuple(product(("em", "u373"), (False, True), (1,)))
"""Network, whether the contrast is inverted, and by how much the image is enlarged."""

ZERO_SHOT = (*AS_THEY_ARE, ("u373", False, 2), ("u373", True, 2))
"""With those that take long, four times the pixels."""

METRICS = ("seg_measure", "dice", "f1")


def run(
    plan: Plan, places: Places, overwrite: bool = False, draws: int | None = None
) -> dict[str, Any]:
    """The whole experiment; what is finished is read, what was stopped goes on.

    Parameters
    ----------
    plan : Plan
        What to do.
    places : Places
        Where files go. ``nuclei.json`` and the pictures are written after each number of images.
    overwrite : bool
        Begin anew.
    draws : int, optional
        Stop after so many of the plan's draws; the split is that of the whole plan.

    Returns
    -------
    dict
        What stands in the JSON file.

    Raises
    ------
    InputError
        If there are too few images, the plan has fewer draws, or finished trials are of other
        settings.
    TrainingError, TrainingInterrupted
        As `unet_np.training.loop.train`.
    """
    if draws is not None and not 1 <= draws <= plan.draws:
        raise InputError(f"--draws: got {draws}, expected 1 to {plan.draws}")
    dataset = plan.dataset()
    bench = Bench(plan, dataset, places, overwrite)
    tried = [try_rate(bench, start, rate) for start in STARTS for rate in plan.rates]
    rates = {start: best_rate([one for one in tried if one["start"] == start]) for start in STARTS}
    fixed = {"zero_shot": zero_shots(bench, AS_THEY_ARE), "baselines": baselines(bench)}
    trials: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    for draw, count in product(range(draws or plan.draws), plan.counts):
        for start, augment in ARMS:
            trial = Trial(start, augment, count, draw, rates[start])
            trials.append(run_trial(bench, trial))
        if count == plan.counts[-1]:
            fixed["zero_shot"] = zero_shots(bench, ZERO_SHOT)
        result = _result(bench, tried, rates, fixed, trials)
        runner.write_json(places.result("nuclei"), result)
        _draw(bench, result, places)
    places.say("\n".join(table_lines(result)))
    return result


def best_rate(tried: Sequence[dict[str, Any]]) -> float:
    """The learning rate with the highest SEG on the validation images; of equals the lowest.

    Examples
    --------
    >>> best_rate([{"learning_rate": r, "validation_seg": 0.5} for r in (0.03, 0.01)])
    0.01
    """
    return float(
        min(tried, key=lambda t: (-t["validation_seg"], t["learning_rate"]))["learning_rate"]
    )


def zero_shots(bench: Bench, wanted: Sequence[tuple[str, bool, int]]) -> list[dict[str, Any]]:
    """Networks of the package on the test images, without any training on such images."""
    rows = []
    for name, invert, enlarge in wanted:
        label = name + "-inverted" * invert + f"-enlarged-{enlarge}" * (enlarge > 1)
        settings = {
            "name": label,
            "start": name,
            "start_sha256": weights_digest(name),
            "inverted": invert,
            "enlarged": enlarge,
        }
        net = pretrained.load(name, backend="numpy")
        predict = seen_through(network(net), invert, enlarge)
        path = bench.folder(f"zero-shot/{label}") / "trial.json"
        rows.append(kept(path, settings, bench, partial(bench.score, predict)))
        bench.places.say(f"zero-shot {label}: SEG {rows[-1]['scores']['seg_measure']['value']:.4f}")
    return rows


def baselines(bench: Bench) -> list[dict[str, Any]]:
    """What needs no network: Otsu's threshold, and that with nuclei cut apart between seeds."""
    dataset, area = bench.dataset, bench.min_area
    test, validation = bench.split.test, bench.split.validation
    known, cells = bench.cells(validation), bench.cells(test)

    def seeded(indices: Sequence[int], radius: float) -> np.ndarray:
        return np.stack([scoring.seeded_nuclei(dataset.images[i], area, radius) for i in indices])

    radius, _ = scoring.best_of(known, scoring.RADII, lambda r: seeded(validation, r))
    plain = np.stack([scoring.otsu_nuclei(dataset.images[i], area) for i in test])
    return [
        {"name": "otsu", **scoring.score(cells, plain, bench.kinds)},
        {
            "name": "otsu-seeds",
            "radius": radius,
            **scoring.score(cells, seeded(test, radius), bench.kinds),
        },
    ]


def arm_name(start: str, augment: bool) -> str:
    """As in the table.

    Examples
    --------
    >>> arm_name("", True)
    'from scratch, augmented'
    """
    way = f"fine-tuned from {start}" if start else "from scratch"
    return f"{way}, {'augmented' if augment else 'not augmented'}"


def summary(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of the picture: each score of each arm over the number of images.

    Returns
    -------
    list of dict
        ``name``, ``start``, ``augment``, ``images`` and, for each metric, the means over the draws
        and ``draws``, the values themselves.
    """
    lines = []
    for start, augment in ARMS:
        own = [t for t in trials if (t["start"], t["augment"]) == (start, augment)]
        counts = sorted({t["images"] for t in own})
        line: dict[str, Any] = {"name": arm_name(start, augment), "start": start}
        line |= {"augment": augment, "images": counts, "draws": {}}
        for metric in METRICS:
            values = [
                [t["scores"][metric]["value"] for t in own if t["images"] == count]
                for count in counts
            ]
            line[metric] = [float(np.mean(some)) for some in values]
            line["draws"][metric] = values
        lines.append(line)
    return lines


def _result(
    bench: Bench,
    tried: list[dict[str, Any]],
    rates: dict[str, float],
    fixed: dict[str, Any],
    trials: list[dict[str, Any]],
) -> dict[str, Any]:
    plan, dataset = bench.plan, bench.dataset
    head = runner.header(bench.recipe(plan.config), dataset, plan.config, bench.places.command)
    for key in ("unit_variance", "start", "augment", "learning_rate", "exclude", "validation"):
        head["recipe"].pop(key, None)  # they differ from trial to trial
    return {
        **head,
        "split": bench.split.to_dict(dataset.ids),
        "notes": NOTES.format(count=plan.search_count, validation=plan.validation),
        "rules": scoring.RULES,
        "min_area": bench.min_area,
        "nuclei": {
            "test": bench.numbers(bench.split.test),
            "validation": bench.numbers(bench.split.validation),
            "draws": [bench.numbers(draw) for draw in bench.split.draws],
        },
        "search": tried,
        "rates": {start or "scratch": rate for start, rate in rates.items()},
        "draws_done": len(trials) // (len(ARMS) * len(plan.counts)),
        "summary": summary(trials),
        **fixed,
        "trials": trials,
    }


def _draw(bench: Bench, result: dict[str, Any], places: Places) -> None:
    try:
        nuclei_pictures.draw(bench, result, places.result("nuclei"))
    except MissingExtraError as error:
        places.say(f"no pictures: {error}")


def table_lines(result: dict[str, Any]) -> list[str]:
    """The table as text: SEG of each arm by number of images, then those without training."""
    counts = result["summary"][0]["images"]
    lines = ["nuclei: SEG after training on n images, mean of the draws"]
    lines.append(f"  {'n':38}" + "".join(f"{count:8}" for count in counts))
    for line in result["summary"]:
        lines.append(f"  {line['name']:38}" + "".join(f"{v:8.4f}" for v in line["seg_measure"]))
    for row in (*result["zero_shot"], *result["baselines"]):
        lines.append(f"  {row['name']:38}{row['scores']['seg_measure']['value']:8.4f}")
    if result["quick"]:
        lines.append("A quick run: it shows that all parts work, and its figures say nothing.")
    return lines
