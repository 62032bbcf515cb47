"""Images from elsewhere: nuclei of the 2018 Data Science Bowl, zero-shot, tuned and from scratch.

The paper's claim is that few annotated images are enough. Here the same network learns from 1, 2,
4, 8 and 16 images of a data set that it has never seen, from random weights and from those of
``u373``, with augmentation and without, and is tested on images held out for that alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from unet_np import pretrained
from unet_np.errors import InputError
from unet_np.experiments.nuclei import pictures
from unet_np.experiments.nuclei import scores as scoring
from unet_np.experiments.nuclei.plan import NOTES, Plan, Trial, plan
from unet_np.experiments.nuclei.trials import (
    Bench,
    network,
    run_trial,
    seen_through,
    try_rate,
    weights_digest,
)
from unet_np.experiments.protocol import Experiment, Places, Result, kept

STARTS = ("u373", "")
ARMS = tuple((start, augment) for start in STARTS for augment in (True, False))
"""Start and augmentation of the four lines."""

AS_THEY_ARE = tuple(product(("em", "u373"), (False, True), (1,)))
"""Network, whether the contrast is inverted, and by how much the image is enlarged."""

ZERO_SHOT = (*AS_THEY_ARE, ("u373", False, 2), ("u373", True, 2))
"""With those that take long, four times the pixels."""

METRICS = ("seg_measure", "dice", "f1")


def study(quick: bool = False, draws: int | None = None, **settings: Any) -> Nuclei:
    """The study by `unet_np.experiments.nuclei.plan.plan`.

    Parameters
    ----------
    quick : bool
        A run that only shows that all parts work.
    draws : int, optional
        Stop after so many of the plan's draws; the split is that of the whole plan.
    **settings
        Settings of `TrainConfig` in the place of the plan's; None is left out.
    """
    return Nuclei(plan(quick, **settings), draws)


class Nuclei(Experiment):
    """The whole experiment; a trial that is finished is read, one that was stopped goes on.

    ``nuclei.json`` and the pictures are written after each number of images.

    Raises
    ------
    InputError
        If there are too few images or the plan has fewer draws.
    """

    in_parts = True

    def __init__(self, chosen: Plan, draws: int | None = None) -> None:
        if draws is not None and not 1 <= draws <= chosen.draws:
            raise InputError(f"--draws: got {draws}, expected 1 to {chosen.draws}")
        super().__init__("nuclei", chosen.recipe(chosen.config), chosen.dataset())
        self.plan, self.draws = chosen, draws or chosen.draws
        self.bench: Bench | None = None

    def head(self, command: list[str] | None) -> Result:
        """Settings of all trials, without those that differ from trial to trial."""
        head = super().head(command)
        for key in ("unit_variance", "start", "augment", "learning_rate", "exclude", "validation"):
            head["recipe"].pop(key, None)
        return head

    def measure(self, places: Places, resume: bool, overwrite: bool) -> Iterator[Result]:
        """Learning rates, then trial by trial; ``trials`` and their ``summary``."""
        plan = self.plan
        bench = self.bench = Bench(plan, self.dataset, places, overwrite)
        tried = [try_rate(bench, start, rate) for start in STARTS for rate in plan.rates]
        rates = {start: best_rate([t for t in tried if t["start"] == start]) for start in STARTS}
        fixed = {"zero_shot": zero_shots(bench, AS_THEY_ARE), "baselines": baselines(bench)}
        trials: list[dict[str, Any]] = []
        for draw, count in product(range(self.draws), plan.counts):
            for start, augment in ARMS:
                trials.append(run_trial(bench, Trial(start, augment, count, draw, rates[start])))
            if count == plan.counts[-1]:
                fixed["zero_shot"] = zero_shots(bench, ZERO_SHOT)
            yield _figures(bench, tried, rates, fixed, trials)

    def draw(self, result: Result, path: Path) -> None:
        """SEG over the number of images, and what the networks see."""
        assert self.bench is not None
        pictures.draw(self.bench, result, path)

    def table(self, result: Result) -> list[str]:
        """SEG of each arm by number of images, then those without training."""
        counts = result["summary"][0]["images"]
        lines = ["nuclei: SEG after training on n images, mean of the draws"]
        lines.append(f"  {'n':38}" + "".join(f"{count:8}" for count in counts))
        for line in result["summary"]:
            lines.append(f"  {line['name']:38}" + "".join(f"{v:8.4f}" for v in line["seg_measure"]))
        for row in (*result["zero_shot"], *result["baselines"]):
            lines.append(f"  {row['name']:38}{row['scores']['seg_measure']['value']:8.4f}")
        return lines


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
        rows.append(kept(path, settings, partial(bench.score, predict), bench.overwrite))
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


def _figures(
    bench: Bench,
    tried: list[dict[str, Any]],
    rates: dict[str, float],
    fixed: dict[str, Any],
    trials: list[dict[str, Any]],
) -> dict[str, Any]:
    plan, split = bench.plan, bench.split
    return {
        "split": split.to_dict(bench.dataset.ids),
        "notes": NOTES.format(count=plan.search_count, validation=plan.validation),
        "rules": scoring.RULES,
        "min_area": bench.min_area,
        "nuclei": {
            "test": bench.numbers(split.test),
            "validation": bench.numbers(split.validation),
            "draws": [bench.numbers(draw) for draw in split.draws],
        },
        "search": tried,
        "rates": {start or "scratch": rate for start, rate in rates.items()},
        "draws_done": len(trials) // (len(ARMS) * len(plan.counts)),
        "summary": summary(trials),
        **fixed,
        "trials": trials,
    }
