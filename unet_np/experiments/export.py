"""What leaves an experiment: the package's own weights with their cards, and test pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from unet_np import data, pretrained
from unet_np.data import info
from unet_np.errors import InputError
from unet_np.experiments import cells, em, legs, pictures, runner
from unet_np.experiments.experiment import THE_RULE
from unet_np.experiments.protocol import (
    Places,
    check_result,
    header,
    read_json,
    weights_sha256,
    write_json,
)
from unet_np.experiments.recipes import Fold, Recipe
from unet_np.files import atomic_write
from unet_np.files.ours import check_ours
from unet_np.network.unet import UNet
from unet_np.training.checkpoint import RunFolder, load_checkpoint
from unet_np.training.config import recorded_settings

READS = {
    "em": "serial section electron micrographs at about 4 nm a pixel, membranes dark",
    "u373": "phase contrast of cells about 65 pixels across",
    "hela": "differential interference contrast of cells about 117 pixels across",
}


def export(
    chosen: Recipe,
    fold: Fold,
    places: Places,
    folder: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the weights of a finished fold as float16, and their model card.

    Where the run is gone, they are those of its last leg, which has float16 of the same numbers.

    Parameters
    ----------
    chosen, fold, places
        As for `run_fold`.
    folder : Path, optional
        Where to; by default the package's own.
    overwrite : bool
        Whether files of others may be replaced, and, in `folder`, any weights.

    Returns
    -------
    Path
        The weights.

    Raises
    ------
    InputError
        If the fold is not finished, its weights are not those of its result, the file would be
        larger than `unet_np.pretrained.MAX_BYTES`, a quick run would replace the package's own, or
        files of others are in the way.
    """
    if chosen.quick and folder is None:
        raise InputError("--export: got --quick, expected a full run for the package's own weights")
    result = _finished(chosen, fold, places)
    net = _scored(chosen, fold, places, result)
    size = 2 * result["recipe"]["parameters"]
    if size > pretrained.MAX_BYTES:
        raise InputError(
            f"--export: got {size / 1e6:.1f} MB of weights, expected at most "
            f"{pretrained.MAX_BYTES / 1e6:g} MB"
        )
    target = (folder or pretrained.path(chosen.name).parent) / f"{chosen.name}.safetensors"
    card = target.with_suffix(".md")
    # The package's own weights are known by their SHA-256.
    check_ours([card] if folder is None else [target, card], overwrite, "--export")
    limits = cell_limits(result)
    limits |= {"averaging": result["recipe"]["averaging"]} if limits else {}
    about = {"cells": json.dumps(limits)} if limits else {}
    net.save(target, "float16", about)
    if folder is None:
        pretrained.register(chosen.name)
    scored, why = _is_scored(target, result), why_this_fold(chosen, result, places)
    with atomic_write(card) as temporary:
        temporary.write_text(model_card(chosen, result, scored, why), "utf-8")
    places.say(f"wrote {target} and its card")
    return target


def _scored(chosen: Recipe, fold: Fold, places: Places, result: dict[str, Any]) -> UNet:
    """The network of a result, from its run or else from its last leg.

    A leg is known by its steps and by the commits that did them: the digest in the result is that
    of float32 weights.
    """
    run, leg = places.run(chosen, fold), places.leg(chosen, fold)
    weights = RunFolder(run).weights
    if weights.exists():
        if weights_sha256(run) != result["weights_sha256"]:
            raise InputError(f"--export: got {weights}, expected the weights that were scored")
        return UNet.load(weights, backend="numpy")
    if leg is None or not leg.exists():
        raise InputError(f"--export: got no {weights}, expected it, or its last leg in --legs")
    with TemporaryDirectory() as folder:
        legs.restore(leg, Path(folder))
        arrays, _, state = load_checkpoint(RunFolder(folder).checkpoint)
        done = legs.recorded(Path(folder))
    if (done, state["step"]) != (result["legs"], result["recipe"]["steps"]):
        raise InputError(f"--export: got {leg}, expected the last leg of what was scored")
    config = chosen.config
    net = UNet(**config.architecture.to_dict(), dropout=config.dropout, backend="numpy")
    net.set_buffers({name: arrays.pop(name) for name in net.buffers if name in arrays})
    net.set_params(arrays)
    return net


def _is_scored(weights: Path, result: dict[str, Any]) -> bool:
    """Whether the float16 that are shipped are the very numbers that were scored.

    They are where the fold was predicted by a run that a leg had brought back.
    """
    with TemporaryDirectory() as folder:
        UNet.load(weights, backend="numpy").save(RunFolder(folder).weights)
        return weights_sha256(Path(folder)) == result["weights_sha256"]


def cell_limits(result: dict[str, Any]) -> dict[str, float]:
    """What makes cells, as `unet_np.tasks.segmentation.grown_instances` calls it; empty for EM.

    Examples
    --------
    >>> thresholds = {"seg_measure": 0.95, "iou": 0.8}
    >>> cell_limits({"experiment": "hela", "thresholds": thresholds, "min_area": 9})
    {'seeds': 0.95, 'threshold': 0.8, 'min_area': 9}
    """
    if result["experiment"] == "em":
        return {}
    thresholds = result["thresholds"]
    limits = {
        "seeds": thresholds["seg_measure"],
        "threshold": thresholds["iou"],
        "min_area": result["min_area"],
    }
    return limits | ({"erosion": result["erosion"]} if "erosion" in result else {})


def why_this_fold(chosen: Recipe, result: dict[str, Any], places: Places) -> str:
    """That a fold has the best training side of all; empty where it has not, or nothing says so.

    The training side is the mean SEG of the held-out frames and of their copies with cells brought
    together, by which the thresholds were chosen too.
    """
    own = result["fold"]["name"]
    folds = (read_json(places.result(chosen.key)) or {}).get("folds", [])
    read = [read_json(places.result(f"{chosen.key}-{fold}")) or {} for fold in folds]
    rules = [one.get("rules_compared", {}).get(THE_RULE, {}) for one in read]
    if len(rules) < 2 or not all("composites" in rule for rule in rules):
        return ""
    sides = [(rule["validation"] + rule["composites"]) / 2 for rule in rules]
    if folds[int(np.argmax(sides))] != own:
        return ""
    each = (f"{side:.3f} for {fold}" for fold, side in zip(folds, sides, strict=True))
    tests = ", ".join(f"{rule['test']:.3f}" for rule in rules)
    return (
        f"Of the folds {own} is shipped, since its SEG on the training side is the highest, the "
        f"mean of the validation slices and of those copies: {', '.join(each)}, each on frames of "
        f"its own. The scores on the test slices, {tests} in this order, had no say."
    )


def model_card(chosen: Recipe, result: dict[str, Any], scored: bool = False, why: str = "") -> str:
    """The card of a network: what it reads, data, split, recipe, scores and licence.

    `scored` says that the scores are those of the float16 weights themselves, and `why` why they
    are of this fold.
    """
    entry, split = info(chosen.data), result["fold"]
    settings = recorded_settings(result["recipe"])
    is_em = chosen.name == "em"
    paper = em.U_NET if is_em else {"seg_measure": cells.PAPER[chosen.name][cells.U_NET]}
    rows = []
    for name, found in result["scores"].items():
        threshold = result["thresholds"].get(name)
        at = "" if threshold is None else f" (threshold {threshold:g})"
        beside = f"{paper[name]:g}" if paper.get(name) is not None else ""
        rows.append(f"| `{name}`{at} | {found['value']:.6f} | {beside} |")
    growth = []
    if limits := cell_limits(result):
        eroded = f", loses {limits['erosion']:.1f} pixels" if "erosion" in limits else ""
        growth = [
            f"A cell begins as {limits['min_area']} pixels or more above probability "
            f"{limits['seeds']:g}{eroded} and grows to {limits['threshold']:g}, as with `unet-np "
            f"segment --model {chosen.name} --instances`, which also keeps cells that lie wholly "
            f"within {cells.BORDER} pixels of the border; the score leaves these out.",
            "",
        ]
    keys = ("base_channels", "depth", "padding", "norm", "dropout", "steps", "input_size",
            "learning_rate", "schedule", "warmup", "momentum", "weight_map", "weight_term",
            "touching", "augment", "seed")  # fmt: skip
    note = em.NOT_THE_SAME_TEST if is_em else cells.NOT_THE_SAME_TEST
    lines = [
        f"# Model card: {chosen.name}",
        "",
        f"A U-Net of {settings['parameters']:,} parameters (float16) for {READS[chosen.name]}. One "
        "grey channel, zero mean and unit variance; class 1 is cell.",
        "",
        "## Data",
        "",
        f"{entry.title}. {entry.citation}.",
        "",
        f"Licence of the data: {entry.terms}",
        "",
        "## Split",
        "",
        *(f"* {part}: {', '.join(split[part])}" for part in ("training", "validation", "test")),
        "",
        "The network learned from the training slices; thresholds were chosen on "
        f"{_chosen_on(result)}. The recipe itself was settled with an eye on test slices, so the "
        "scores are on the hopeful side.",
        "",
        *([why, ""] if why else []),
        "## Recipe",
        "",
        *(f"* `{key}`: {settings[key]}" for key in keys if key in settings),
        f"* averaging of the prediction: {settings['averaging']}",
        "",
        f"`{result['command']}`, commit {result['commit']}.",
        "",
        "## Scores on the test slices",
        "",
        "| metric | this network | the paper's u-net |",
        "|---|---|---|",
        *rows,
        "",
        *growth,
        f"They were measured with {'these' if scored else 'float32'} weights. " + note,
        "",
        "## Limits",
        "",
        "Trained on few images of one kind. On images of another magnification, contrast or "
        "preparation it is likely to fail; train on images of your own instead. Not for diagnosis.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _chosen_on(result: dict[str, Any]) -> str:
    """The images that thresholds were chosen on."""
    if "threshold_slices" in result:
        return ", ".join(result["threshold_slices"])
    compared = result.get("rules_compared", {})
    crowded = any("composites" in rule for rule in compared.values())
    more = ", and on copies of them in which cells are brought together" if crowded else ""
    return f"the validation slices{more}"


def draw_test_slices(
    chosen: Recipe,
    fold: Fold,
    places: Places,
    numbers: Sequence[int],
    name: str = "em-test-slices",
    overwrite: bool = False,
) -> Path:
    """Segment some of the 30 unlabelled ISBI slices with the network of a fold, and draw them.

    Parameters
    ----------
    chosen, fold, places
        As for `run_fold`, of ``em``.
    numbers : sequence of int
        Slices, 0 to 29.
    name : str
        Of the picture.
    overwrite : bool
        Whether files of others may be replaced.

    Returns
    -------
    Path
        The picture. Beside it a JSON file says where it comes from.

    Raises
    ------
    InputError
        If the fold is not finished, a slice is not there, or files of others are in the way.
    """
    path = places.results / f"{name}.png"
    check_result(path.with_suffix(".json"), overwrite)
    result = _finished(chosen, fold, places)
    test = _unlabelled(chosen)
    outside = [n for n in numbers if not 0 <= n < len(test)]
    if outside:
        raise InputError(f"--test-slices: got {outside[0]}, expected 0 to {len(test) - 1}")
    folder = places.run(chosen, fold)
    net = UNet.load(RunFolder(folder).weights)
    some = test.subset(list(numbers))
    maps, _ = runner.predict_slices(
        net, some, range(len(some)), folder, chosen.averaging, places.say
    )
    threshold = result["thresholds"]["rand_error"]
    pictures.draw_slices(some.images, maps, threshold, path)
    source = {
        **header(chosen, some, chosen.fold_config(fold, folder), places.command),
        "slices": list(some.ids),
        "threshold": threshold,
        "weights_sha256": result["weights_sha256"],
        "caption": "Above: slices without public labels. Below: what the network takes for "
        "membrane, in orange.",
        "share_of_membrane": [float(np.mean(one <= threshold)) for one in maps],
    }
    write_json(path.with_suffix(".json"), source)
    places.say(f"wrote {path}")
    return path


def _unlabelled(chosen: Recipe) -> data.Dataset:
    if chosen.quick and not data.is_available(chosen.data):
        return data.load(chosen.synthetic, split="test", count=3, size=128)
    return data.load(chosen.data, split="test")


def _finished(chosen: Recipe, fold: Fold, places: Places) -> dict[str, Any]:
    result = read_json(places.result(f"{chosen.key}-{fold.name}"))
    if result is None:
        raise InputError(
            f"--fold: got {fold.name}, which is not finished, expected one that is; "
            f"unet-np experiment {chosen.name} runs them"
        )
    return dict(result)
