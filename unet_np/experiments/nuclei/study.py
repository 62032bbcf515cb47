"""Images from elsewhere: nuclei of the 2018 Data Science Bowl, on 1, 4 and 16 images.

The paper's claim is that few annotated images are enough. Here a network learns nucleus or not with
the weights of eq. 2, or inside, rim and background; from random weights, or from those of a network
of the package. It is tested on images held out for that alone, and beside a program that has
learned nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage

from unet_np import pretrained
from unet_np.errors import InputError
from unet_np.experiments.cells import ONE
from unet_np.experiments.nuclei import pictures
from unet_np.experiments.nuclei import scores as scoring
from unet_np.experiments.nuclei.plan import NOTES, Plan, plan
from unet_np.experiments.nuclei.trials import (
    Bench,
    inverted,
    network,
    run_trial,
    weights_digest,
)
from unet_np.experiments.protocol import Experiment, Places, Result, kept
from unet_np.metrics import seg_measure
from unet_np.tasks.segmentation import RIM
from unet_np.weighting.separation import inside_and_rim

NAMES = {
    "two-classes": "nucleus or not, eq. 2",
    "three-classes": "inside, rim and background",
    "wide": "wide, from scratch",
    "from-u373": "wide, from u373",
    "from-em": "wide, from em",
}
"""In tables."""

AS_THEY_ARE = (("em", False), ("em", True), ("u373", False), ("hela", False))
"""A network of the package, and whether the contrast is inverted."""

OWN_DATA = (72, 81)
"""The images that the chapter on own data is scored on: of every ninth the last two."""

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
        """Settings of all trials, and what each way changes in them."""
        head = super().head(command)
        for key in ("unit_variance", "exclude", "validation"):
            head["recipe"].pop(key, None)
        head["recipe"]["ways"] = self.plan.ways
        return head

    def measure(self, places: Places, resume: bool, overwrite: bool) -> Iterator[Result]:
        """Trial by trial; ``trials`` and their ``summary``, after each number of images."""
        plan = self.plan
        bench = self.bench = Bench(plan, self.dataset, places, overwrite)
        fixed = {"baselines": baselines(bench), "zero_shot": zero_shots(bench, AS_THEY_ARE)}
        trials: list[dict[str, Any]] = []
        for count in plan.numbers:
            trials += [run_trial(bench, trial) for trial in plan.trials(count, self.draws)]
            yield _figures(bench, fixed, trials)

    def draw(self, result: Result, path: Path) -> None:
        """SEG over the number of images, and what the networks see."""
        assert self.bench is not None
        pictures.draw(self.bench, result, path)

    def table(self, result: Result) -> list[str]:
        """SEG of each way by number of images, then those without training."""
        counts = result["summary"][0]["images"]
        lines = ["nuclei: SEG after training on n images, mean of the draws"]
        lines.append(f"  {'n':38}" + "".join(f"{count:8}" for count in counts))
        for line in result["summary"]:
            means = dict(zip(line["images"], line["seg_measure"], strict=True))
            shown = (f"{means[n]:8.4f}" if n in means else " " * 8 for n in counts)
            lines.append(f"  {line['name']:38}" + "".join(shown))
        for row in (*result["zero_shot"], *result["baselines"]):
            lines.append(f"  {row['name']:38}{row['scores']['seg_measure']['value']:8.4f}")
        return lines


def zero_shots(bench: Bench, wanted: Sequence[tuple[str, bool]]) -> list[dict[str, Any]]:
    """Networks of the package on the test images, without any training on such images."""
    rows = []
    for name, invert in wanted:
        label = name + "-inverted" * invert
        settings: dict[str, Any] = {"name": label, "start": name}
        settings["start_sha256"] = weights_digest(name)
        settings["inverted"] = invert
        predict = network(pretrained.load(name, backend="numpy"))
        make = partial(bench.score, inverted(predict) if invert else predict, ONE)
        path = bench.folder(f"zero-shot/{label}") / "trial.json"
        rows.append(kept(path, settings, make, bench.overwrite))
        bench.places.say(f"zero-shot {label}: SEG {rows[-1]['scores']['seg_measure']['value']:.4f}")
    return rows


def baselines(bench: Bench) -> list[dict[str, Any]]:
    """What needs no network: Otsu's threshold, and that with nuclei cut apart between seeds."""
    path = bench.folder("baselines") / "trial.json"
    about = {"split": bench.split.to_dict(bench.dataset.ids), "min_area": bench.min_area}
    rows = kept(path, about, lambda: {"rows": _baselines(bench)}, bench.overwrite)["rows"]
    return list(rows)


def _baselines(bench: Bench) -> list[dict[str, Any]]:
    dataset, area, test = bench.dataset, bench.min_area, bench.split.test
    others = [*bench.split.validation, *(i for draw in bench.split.draws for i in draw)]
    cells = bench.cells(test)

    def seeded(indices: Sequence[int], radius: float) -> np.ndarray:
        return np.stack([scoring.seeded_nuclei(dataset.images[i], area, radius) for i in indices])

    radius, _ = scoring.best_of(bench.cells(others), scoring.RADII, lambda r: seeded(others, r))
    plain = np.stack([scoring.otsu_nuclei(dataset.images[i], area) for i in test])
    return [
        {"name": "otsu", **scoring.score(cells, plain, bench.kinds)},
        {
            "name": "otsu-seeds",
            "radius": radius,
            **scoring.score(cells, seeded(test, radius), bench.kinds),
        },
    ]


def own_data(bench: Bench, radius: float) -> dict[str, Any]:
    """How hard the test images of the chapter on own data are: by Otsu with seeds, too."""
    indices = [i for i in OWN_DATA if i < len(bench.dataset)]
    if not indices:
        return {}
    images, cells = bench.dataset.images[indices], bench.cells(indices)
    found = [scoring.seeded_nuclei(image, bench.min_area, radius) for image in images]
    touching = [kind["touching"] for kind in scoring.kinds(images, cells).values()]
    return {
        "images": [bench.dataset.ids[i] for i in indices],
        "seg_measure": seg_measure(cells, np.stack(found)),
        "touching": float(np.mean(touching)),
    }


def rim_shares(bench: Bench, width: float, near: int = 3) -> dict[str, float]:
    """How many pixels of draw 0 are rim, and how many of those lie near a second nucleus."""
    cells = bench.cells(bench.split.draws[0])
    rim = inside_and_rim(cells, width) == RIM
    between = np.stack([near_another(one, near) for one in cells])
    return {"of_pixels": float(rim.mean()), "between_two": float(between[rim].mean())}


def near_another(cells: np.ndarray, distance: int) -> np.ndarray:
    """Pixels of nuclei that have another nucleus within so many pixels, along both axes.

    Examples
    --------
    >>> near_another(np.array([[0, 1, 1, 1, 2, 2, 2, 0]]), 1).astype(int)
    array([[0, 0, 0, 1, 1, 0, 0, 0]])
    """
    size, most = 2 * distance + 1, np.iinfo(np.int32).max
    lowest = scipy.ndimage.minimum_filter(np.where(cells > 0, cells, most).astype(np.int32), size)
    highest = scipy.ndimage.maximum_filter(cells.astype(np.int32), size)
    return np.asarray((cells > 0) & (lowest != highest))


def summary(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of the picture: each score of each way over the number of images.

    Returns
    -------
    list of dict
        ``name``, ``way``, ``images`` and, for each metric, the means over the draws and ``draws``,
        the values themselves.
    """
    lines = []
    for way in dict.fromkeys(t["way"] for t in trials):
        own = [t for t in trials if t["way"] == way]
        counts = sorted({t["images"] for t in own})
        line: dict[str, Any] = {"name": NAMES[way], "way": way, "images": counts, "draws": {}}
        for metric in METRICS:
            values = [
                [t["scores"][metric]["value"] for t in own if t["images"] == count]
                for count in counts
            ]
            line[metric] = [float(np.mean(some)) for some in values]
            line["draws"][metric] = values
        lines.append(line)
    return lines


def _figures(bench: Bench, fixed: dict[str, Any], trials: list[dict[str, Any]]) -> dict[str, Any]:
    plan, split = bench.plan, bench.split
    return {
        "split": split.to_dict(bench.dataset.ids),
        "notes": NOTES.format(validation=plan.validation),
        "rules": scoring.RULES,
        "min_area": bench.min_area,
        "nuclei": {
            "test": bench.numbers(split.test),
            "validation": bench.numbers(split.validation),
            "draws": [bench.numbers(draw) for draw in split.draws],
        },
        "draws_done": 1 + max(trial["draw"] for trial in trials),
        "summary": summary(trials),
        **fixed,
        "own_data": own_data(bench, fixed["baselines"][1]["radius"]),
        "rims": rim_shares(bench, plan.ways["three-classes"]["rim"]),
        "trials": trials,
    }
