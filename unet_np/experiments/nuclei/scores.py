"""Nuclei from probabilities or from grey values alone, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import scipy.ndimage

from unet_np.experiments.cells import find_cells
from unet_np.metrics import ObjectMatch, Outcome, dice, evaluate, match_objects, seg_measure
from unet_np.metrics.isbi.thresholds import best_index
from unet_np.weighting.separation import separation_border

RULES = (
    "A nucleus begins as a 4-connected component of the pixels whose probability is above `seeds`, "
    "and grows to where it is no longer above `threshold`; with three classes the probability is "
    "that of the inside and half of that of the rim. Holes in it are filled. A component of fewer "
    "pixels than half the smallest annotated nucleus of the validation images, or half its inside, "
    "is left out. The whole image counts. SEG and the scores by kind are means over nuclei, so "
    "that images of many nuclei weigh more; Dice is over all pixels; F1 counts a nucleus as found "
    "where a segment overlaps it by a Jaccard index above 0.5, and unlike SEG it also counts "
    "segments where no nucleus is."
)
"""How nuclei are made and counted."""

RADII = (3, 5, 7, 9, 11)
"""Pixels by which the seeds of `seeded_nuclei` are apart at least, to choose from."""

Setting = TypeVar("Setting")

DIM, SMALL = 0.5, 0.5
"""Share of the median nucleus below which a nucleus is called dim, or small."""


HIGH, LOW = (0.5, 0.7, 0.8, 0.9, 0.95), (0.25, 0.4, 0.5, 0.7)
PAIRS = tuple((high, low) for high in HIGH for low in LOW if low <= high)
"""Where nuclei begin and end, to choose from; as with one threshold where both are equal."""


def find_nuclei(
    probability: np.ndarray, seeds: float, threshold: float, min_area: int
) -> np.ndarray:
    """The numbered nuclei of one image, by the rules of `RULES`: int32 (H, W), 0 is background."""
    return find_cells(probability, seeds, min_area, border=0, low=threshold)


def best_of(
    cells: np.ndarray, candidates: Sequence[Setting], find: Callable[[Setting], np.ndarray]
) -> tuple[Setting, float]:
    """The candidate with the highest SEG, and that SEG; of equally good ones the middle one.

    Parameters
    ----------
    cells : numpy.ndarray
        (N, H, W), numbered, of the validation images.
    candidates : sequence
        Thresholds, or another setting.
    find : callable
        From a candidate to the segments, (N, H, W).

    Examples
    --------
    >>> cells = np.array([[[1, 1, 0, 2, 2]]])
    >>> best_of(cells, (0.2, 0.6), lambda t: cells * (t > 0.5))
    (0.6, 1.0)
    """
    scores = [seg_measure(cells, find(one)) for one in candidates]
    number = best_index(np.array(scores))
    return candidates[number], scores[number]


def choose_limits(
    cells: np.ndarray,
    probabilities: np.ndarray,
    min_area: int,
    pairs: Sequence[tuple[float, float]] = PAIRS,
) -> tuple[tuple[float, float], float]:
    """Of pairs of seeds and threshold that with the best SEG on the validation images, and its SEG.

    Examples
    --------
    >>> cells = np.array([[[1, 1, 0, 2, 2]]])
    >>> choose_limits(cells, np.array([[[0.9, 0.9, 0.55, 0.9, 0.9]]]), 1, [(0.5, 0.5), (0.7, 0.7)])
    ((0.7, 0.7), 1.0)
    """

    def find(pair: tuple[float, float]) -> np.ndarray:
        return np.stack([find_nuclei(one, *pair, min_area) for one in probabilities])

    return best_of(cells, pairs, find)


def otsu(image: np.ndarray) -> float:
    """The grey value that parts an image into the two groups of least variance within (Otsu 1979).

    That is where the variance between the groups is largest.

    Parameters
    ----------
    image : numpy.ndarray
        Grey values; the brighter group is above the result.

    Examples
    --------
    >>> otsu(np.array([[0, 0, 1, 9, 10]])) in range(1, 9)
    True
    """
    if image.min() == image.max():
        return float(image.max())  # no groups: nothing is above it
    counts, edges = np.histogram(image, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = image.size - below
    sums = np.cumsum(counts * centres)
    gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    between = below * above * gap**2
    best = np.flatnonzero(between == between.max())
    # Where no grey value lies between the groups, every split there is as good: the middle one.
    return float(edges[int(best[len(best) // 2]) + 1])


def otsu_nuclei(image: np.ndarray, min_area: int) -> np.ndarray:
    """Bright components of an image, split from the rest at Otsu's threshold; no network."""
    return find_nuclei((image > otsu(image)).astype(np.float32), 0.5, 0.5, min_area)


def seeded_nuclei(image: np.ndarray, min_area: int, radius: float) -> np.ndarray:
    """Those of `otsu_nuclei`, cut between seeds: each pixel goes to the nearest seed.

    A seed is where the distance to the background, a little smoothed, is highest.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W).
    min_area : int
        Pixels.
    radius : float
        A seed is deeper inside than all other pixels within this many pixels.

    Examples
    --------
    >>> row, column = np.indices((21, 40))
    >>> disks = [np.hypot(row - 10, column - x) < 8 for x in (12, 26)]
    >>> image = (disks[0] | disks[1]) * 100
    >>> int(otsu_nuclei(image, 1).max()), int(seeded_nuclei(image, 1, 5).max())
    (1, 2)
    """
    whole = otsu_nuclei(image, min_area)
    inside = whole > 0
    distance = scipy.ndimage.gaussian_filter(scipy.ndimage.distance_transform_edt(inside), 1.0)
    highest = scipy.ndimage.maximum_filter(distance, 2 * int(radius) + 1)
    # Two pixels of a ridge can be equally deep up to the last bits.
    seeds, count = scipy.ndimage.label((distance > highest - 1e-6) & inside, np.ones((3, 3)))
    if not count:
        return whole
    nearest = scipy.ndimage.distance_transform_edt(
        seeds == 0, return_distances=False, return_indices=True
    )
    # A pixel nearest to a seed of another component stays apart from it.
    pairs = whole.astype(np.int64) * (count + 1) + seeds[tuple(nearest)]
    _, numbers = np.unique(np.where(inside, pairs, 0), return_inverse=True)
    return numbers.reshape(image.shape).astype(np.int32)


def kinds(images: np.ndarray, cells: np.ndarray) -> dict[tuple[int, int], dict[str, bool]]:
    """What each annotated nucleus is like: whether it touches another, is dim, small, or cut off.

    Parameters
    ----------
    images, cells : numpy.ndarray
        (N, H, W), grey values and numbers.

    Returns
    -------
    dict
        By frame and number: ``touching`` (another nucleus lies within the 3 by 3 square around one
        of its pixels), ``dim`` (its mean above the image's median is less than half of that of the
        image's median nucleus), ``small`` (less than half the median area over all images),
        ``at_the_border`` (of the image).

    Examples
    --------
    >>> cells = np.zeros((1, 9, 9), int)
    >>> cells[0, 3:5, 2:4], cells[0, 3:5, 4:8] = 1, 2
    >>> kinds(cells * 10.0, cells)[0, 1]
    {'touching': True, 'dim': False, 'small': False, 'at_the_border': False}
    """
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for frame, (image, one) in enumerate(zip(images, cells, strict=True)):
        numbers = np.unique(one[one > 0])
        if not numbers.size:
            continue
        touching = np.isin(numbers, one[separation_border(one, 2)])
        edge = np.concatenate([one[0], one[-1], one[:, 0], one[:, -1]])
        light = scipy.ndimage.mean(image, one, numbers) - np.median(image)
        for i, number in enumerate(numbers):
            found[frame, int(number)] = {
                "touching": bool(touching[i]),
                "dim": bool(light[i] < DIM * np.median(light)),
                "small": int((one == number).sum()),
                "at_the_border": bool(number in edge),
            }
    middle = np.median([entry["small"] for entry in found.values()]) if found else 0
    for entry in found.values():
        entry["small"] = bool(entry["small"] < SMALL * middle)
    return found


def score(
    cells: np.ndarray, found: np.ndarray, kind: Mapping[tuple[int, int], Mapping[str, bool]]
) -> dict[str, Any]:
    """SEG, Dice and F1 of the test images, what became of the nuclei, and which kinds fare worse.

    Parameters
    ----------
    cells, found : numpy.ndarray
        (N, H, W), annotated and segmented nuclei.
    kind : mapping
        Of `kinds`.

    Returns
    -------
    dict
        ``scores`` by metric, as of `unet_np.metrics.evaluate`; ``nuclei``: how many are found,
        split, merged and missed, and the spurious segments; ``kinds``: number, SEG and share of
        merged nuclei of each kind and of those without any.

    Examples
    --------
    >>> cells = np.array([[[1, 1, 0, 2, 2]]])
    >>> result = score(cells, cells, kinds(cells * 10, cells))
    >>> result["scores"]["f1"]["value"], result["nuclei"]["found"], result["kinds"]["touching"]
    (1.0, 2, {'number': 0, 'seg': None, 'merged': None})
    """
    matches = match_objects(cells, found)
    scores: dict[str, Any] = dict(evaluate(cells, found, "seg_measure"))
    pairs = list(zip(cells > 0, found > 0, strict=True))
    scores["dice"] = {
        "value": dice(cells > 0, found > 0) if (cells > 0).any() else None,
        "slices": [dice(a, b) if a.any() else None for a, b in pairs],
    }
    slices = [[match for match in matches if match.frame == i] for i in range(len(cells))]
    segments = [len(np.unique(one[one > 0])) for one in found]
    scores["f1"] = {
        "value": _f1(matches, sum(segments)),
        "slices": [_f1(some, count) for some, count in zip(slices, segments, strict=True)],
    }
    outcomes = [match.outcome for match in matches]
    names = {
        outcome.name.lower(): outcomes.count(outcome)
        for outcome in (Outcome.FOUND, Outcome.SPLIT, Outcome.MERGED, Outcome.MISSED)
    }
    used = {(match.frame, match.matched) for match in matches if match.matched}
    return {
        "scores": scores,
        "nuclei": names | {"spurious": sum(segments) - len(used)},
        "kinds": _by_kind(matches, kind),
    }


def _f1(matches: Sequence[ObjectMatch], segments: int) -> float | None:
    hits = sum(match.jaccard > 0.5 for match in matches)
    total = len(matches) + segments
    return 2 * hits / total if total else None


def _by_kind(
    matches: Sequence[ObjectMatch], kind: Mapping[tuple[int, int], Mapping[str, bool]]
) -> dict[str, Any]:
    groups: dict[str, list[ObjectMatch]] = {
        name: [] for name in ("touching", "dim", "small", "at_the_border", "none_of_these")
    }
    for match in matches:
        own = [name for name, is_so in kind[match.frame, match.label].items() if is_so]
        for name in own or ["none_of_these"]:
            groups[name].append(match)
    return {name: _group(some) for name, some in groups.items()}


def _group(matches: Sequence[ObjectMatch]) -> dict[str, Any]:
    if not matches:
        return {"number": 0, "seg": None, "merged": None}
    return {
        "number": len(matches),
        "seg": float(np.mean([m.jaccard for m in matches])),
        "merged": float(np.mean([m.outcome == Outcome.MERGED for m in matches])),
    }
