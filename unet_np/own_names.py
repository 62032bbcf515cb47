"""Which mask belongs to which image, and which labels to which prediction, by file names."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_np.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Endings of the files that are read."""

_MASK_WORD = re.compile(
    "masks?|labels?|gt|groundtruth|truth|seg|segmentations?|annotated|annotations?|instances?|"
    "binary|cp|man|manual|target|probability|probabilities|prediction|predictions|pred"
)
_IMAGE_WORD = re.compile("images?|imgs?|im|raw|input")


def list_images(folder: Path, argument: str) -> list[Path]:
    """The images of a folder by name; hidden files and files of other kinds are left out.

    Parameters
    ----------
    folder : pathlib.Path
        Its subfolders are not looked into.
    argument : str
        What error messages call it.

    Raises
    ------
    InputError
        If it holds no image; says what it holds.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b.png", "a.TIF", "._a.TIF", "notes.txt"):
    ...     (folder / name).touch()
    >>> [path.name for path in list_images(folder, "images")]
    ['a.TIF', 'b.png']
    """
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found = [path for path in visible if path.suffix.lower() in SUFFIXES and path.is_file()]
    if found:
        return found
    kinds = Counter("folders" if path.is_dir() else path.suffix or "other" for path in visible)
    holds = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4)) or "nothing"
    raise InputError(
        f"{argument}: got the folder {folder}, expected images in it ({', '.join(SUFFIXES)}); "
        f"it holds {holds}"
    )


def pair_names(images: Sequence[Path], masks: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Each image with its mask.

    Names need not be equal: upper and lower case, leading zeros, the ending, and words such as
    ``_mask``, ``-labels``, ``_seg``, ``_gt`` or ``img_`` do not count. Where no name has a partner
    then, the numbers in the names decide, as in ``t000.tif`` and ``man_seg000.tif``. One image
    and one mask always go together.

    Parameters
    ----------
    images, masks : sequence of pathlib.Path
        Of any order.

    Returns
    -------
    list of (pathlib.Path, pathlib.Path)
        Sorted by the image's name.

    Raises
    ------
    InputError
        If a file is without its partner, or two names mean the same; names the nearest.

    Examples
    --------
    >>> pairs = pair_names([Path("a.png"), Path("b.png")], [Path("B_mask.tif"), Path("a.png")])
    >>> [(image.name, mask.name) for image, mask in pairs]
    [('a.png', 'a.png'), ('b.png', 'B_mask.tif')]
    >>> pair_names([Path("cell1.png"), Path("b.png")], [Path("cel1_mask.png"), Path("b.png")])
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: masks: got none for cell1.png, expected a name such as \
cell1_mask.png; nearest is cel1_mask.png
    """
    if len(images) == len(masks) == 1:
        return [(images[0], masks[0])]
    left, right = _by_key(images, masks, _words)
    if not left.keys() & right.keys():
        left, right = _by_key(images, masks, _numbers)
    if left and left.keys() == right.keys():
        return sorted((left[key], right[key]) for key in left)
    _refuse_doubles(images, "images")
    _refuse_doubles(masks, "masks")
    left, right = ({_words(path): path for path in paths} for paths in (images, masks))
    alone = next((path for key, path in sorted(left.items()) if key not in right), None)
    if alone is not None:
        wanted = f"{alone.stem}_mask.png"
        raise InputError(
            f"masks: got none for {alone.name}, expected a name such as {wanted}; "
            f"{_nearest(alone, [right[key] for key in right if key not in left] or masks)}"
        )
    alone = next(path for key, path in sorted(right.items()) if key not in left)
    raise InputError(
        f"images: got none for the mask {alone.name}, expected as many images as masks; "
        f"{_nearest(alone, [left[key] for key in left if key not in right] or images)}"
    )


class Pairing(NamedTuple):
    """Predictions and labels that go together; see `pair_labels`.

    Attributes
    ----------
    pairs : list of (pathlib.Path, pathlib.Path)
        Each prediction with its labels, in the order of `in_order`.
    how : str
        ``by name``, ``by number`` or ``in order``.
    left_out : list of pathlib.Path
        Predictions without labels.
    """

    pairs: list[tuple[Path, Path]]
    how: str
    left_out: list[Path]


def pair_labels(predictions: Sequence[Path], labels: Sequence[Path]) -> Pairing:
    """The prediction that belongs to each file of labels.

    Names decide first and the numbers in them next, both as `pair_names` reads them, but there may
    be more predictions than labels: of a video often only some frames are annotated. Only where
    there is neither a name nor a number to go by do as many files go together in order.

    Parameters
    ----------
    predictions, labels : sequence of pathlib.Path
        Of any order.

    Raises
    ------
    InputError
        If labels are without a prediction, two names mean the same, or what would go together in
        order has different numbers.

    Examples
    --------
    >>> frames = [Path(f"mask{number:03}.tif") for number in range(84)]
    >>> found = pair_labels(frames, [Path("man_seg006.tif"), Path("man_seg014.tif")])
    >>> found.how, len(found.left_out), [str(frame) for frame, _ in found.pairs]
    ('by name', 82, ['mask006.tif', 'mask014.tif'])
    >>> pair_labels([Path("t9.tif"), Path("t10.tif")], [Path("gt009.tif"), Path("gt010.tif")]).how
    'by number'
    >>> pair_labels([Path("t9.tif"), Path("t10.tif")], [Path("gt009.tif"), Path("gt011.tif")])
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: prediction: got none for gt011.tif, expected one with its name or \
its numbers; nearest are t10.tif, t9.tif
    """
    for how, key_of in (("by name", _words), ("by number", _numbers)):
        left, right = _by_key(predictions, labels, key_of)
        if right and right.keys() <= left.keys():
            both = {left[key]: right[key] for key in right}
            alone = [left[key] for key in left.keys() - right.keys()]
            return Pairing(
                [(path, both[path]) for path in in_order(list(both))], how, in_order(alone)
            )
        if key_of is _words and {*map(_words, predictions)} & {*map(_words, labels)}:
            _refuse_doubles(predictions, "prediction")
            _refuse_doubles(labels, "labels")
            _refuse_missing(predictions, labels, _words)
    if any(map(_numbers, predictions)):
        _refuse_missing(predictions, [path for path in labels if _numbers(path)], _numbers)
    return Pairing(_pair_in_order(predictions, labels), "in order", [])


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Sorted by name, with numbers by what they are: t9 before t10.

    Examples
    --------
    >>> [path.name for path in in_order([Path("t10.tif"), Path("t9.tif"), Path("t.tif")])]
    ['t.tif', 't9.tif', 't10.tif']
    """
    # Padded with zeros, numbers sort as text does.
    padded = {path: re.sub(r"\d+", lambda number: number[0].zfill(20), path.name) for path in paths}
    return sorted(paths, key=lambda path: (padded[path], path))


def split_folder(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Images and masks that lie in one folder: a mask has a word such as ``_mask`` in its name.

    Examples
    --------
    >>> images, masks = split_folder([Path("a.png"), Path("a_mask.png")])
    >>> images[0].name, masks[0].name
    ('a.png', 'a_mask.png')
    """
    masks = [path for path in paths if any(map(_MASK_WORD.fullmatch, _all_words(path)))]
    return [path for path in paths if path not in masks], masks


def _all_words(path: Path) -> list[str]:
    # OME writes two endings.
    stem = path.stem.lower().removesuffix(".ome")
    stem = re.sub(r"\d+", lambda number: number[0].lstrip("0") or "0", stem)
    return [word for word in re.split(r"[\W_]+", stem) if word]


def _words(path: Path) -> tuple[str, ...]:
    """What is left of a name without the words that tell images from masks."""
    words = _all_words(path)
    # Of img1 and mask1 the number is left.
    parts = [re.sub(r"^([a-z]+)(?=\d)", lambda m: "" if _tells(m[1]) else m[1], w) for w in words]
    return tuple(part for part in parts if not _tells(part)) or tuple(words)


def _tells(word: str) -> bool:
    return bool(_MASK_WORD.fullmatch(word) or _IMAGE_WORD.fullmatch(word))


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.stem))


def _by_key(
    images: Sequence[Path], masks: Sequence[Path], key_of: Callable[[Path], tuple]
) -> tuple[dict, dict]:
    """Key to path on both sides; empty where a key is missing or stands for two."""
    sides = []
    for paths in (images, masks):
        keys = {key_of(path): path for path in paths}
        sides.append(keys if len(keys) == len(paths) and () not in keys else {})
    return sides[0], sides[1]


def _pair_in_order(predictions: Sequence[Path], labels: Sequence[Path]) -> list[tuple[Path, Path]]:
    if len(predictions) != len(labels):
        raise InputError(
            f"prediction: got {len(predictions)} files, expected {len(labels)} as the labels; "
            f"names such as {in_order(predictions)[0].name} and {in_order(labels)[0].name} do not "
            "tell which go together"
        )
    pairs = list(zip(in_order(predictions), in_order(labels), strict=True))
    for path, label in pairs:
        if _numbers(path) and _numbers(label) and _numbers(path) != _numbers(label):
            raise InputError(
                f"prediction: got {path.name} where, in order, {label.name} is, expected names or "
                "numbers that tell which go together"
            )
    return pairs


def _refuse_missing(
    predictions: Sequence[Path], labels: Sequence[Path], key_of: Callable[[Path], tuple]
) -> None:
    keys = {key_of(path) for path in predictions}
    alone = next((path for path in in_order(labels) if key_of(path) not in keys), None)
    if alone is not None:
        raise InputError(
            f"prediction: got none for {alone.name}, expected one with its name or its numbers; "
            f"{_nearest(alone, predictions)}"
        )


def _refuse_doubles(paths: Sequence[Path], argument: str) -> None:
    seen: dict[tuple[str, ...], Path] = {}
    for path in sorted(paths):
        other = seen.setdefault(_words(path), path)
        if other != path:
            raise InputError(
                f"{argument}: got {other.name} and {path.name}, which mean the same image, "
                "expected one of the two"
            )


def _nearest(path: Path, others: Sequence[Path]) -> str:
    names = [other.name for other in sorted(others)]
    near = difflib.get_close_matches(path.name, names, 3, cutoff=0.5)
    near = near or difflib.get_close_matches(path.name, names, 1, cutoff=0)  # any is near enough
    return f"nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}"
