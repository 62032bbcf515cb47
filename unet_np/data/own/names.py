"""Which mask belongs to which image, and which labels to which prediction, by file names.

One rule for both. Files of one name go together first; of the rest, those of one name without the
ending; without one known word, such as ``_mask``, at its end or else at its beginning; and without
any such word, upper case, leading zeros and the ending of another image, as in ``a.jpg_mask.png``.
A letter with its accent is the same whether it is stored as one character or as two, as on a Mac.
Where no name has a partner so, the numbers in the names decide, as in ``t000.tif`` and
``man_seg000.tif``. What then is left is an error that names the nearest file.
"""

from __future__ import annotations

import difflib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_np.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Endings of the files that are read."""

RESULTS = ("probabilities", "labels", "instances", "objects-overlay", "overlay")
"""What ``segment``, ``detect`` and ``view`` add to the name of an image, in that of a picture."""

_LOGGER = logging.getLogger(__name__)
_NO_IMAGES = frozenset(
    ".txt .md .csv .tsv .json .xml .xlsx .ini .db .toml .yml .yaml .log .pdf .py .geojson".split()  # noqa: SIM905
)
_INNER_ENDING = re.compile(r"\.(png|jpe?g|tiff?)(?![^\W_])", re.IGNORECASE)
_RESULT = re.compile(rf"(.+?)-({'|'.join(RESULTS)})(-\d+)?", re.DOTALL)

_MASK_WORDS = (
    "masks?|labels?|gt|groundtruth|truth|seg|segmentations?|annotated|annotations?|instances?|"
    "binary|cp|man|manual|target|probability|probabilities|prediction|predictions|pred"
)
_MASK_WORD = re.compile(_MASK_WORDS)
_KNOWN_WORD = re.compile(f"{_MASK_WORDS}|images?|imgs?|im|raw|input")
_LAST_WORD = re.compile(rf"(?<=.)[\W_]+({_KNOWN_WORD.pattern})$", re.IGNORECASE)
_FIRST_WORD = re.compile(rf"^({_KNOWN_WORD.pattern})[\W_]+(?=.)", re.IGNORECASE)


def list_images(folder: Path, argument: str) -> list[Path]:
    """The images of a folder by name; hidden files and files of other kinds are left out.

    A remark tells of files that may be images and are not read: those with another ending, without
    one, and links that lead nowhere. Of texts and tables there is none.

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
        _tell_left_out(folder, [path for path in visible if path not in set(found)])
        return found
    kinds = Counter(map(_kind, visible))
    holds = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4)) or "nothing"
    raise InputError(
        f"{argument}: got the folder {folder}, expected images in it ({', '.join(SUFFIXES)}); "
        f"it holds {holds}"
    )


def _kind(path: Path) -> str:
    """What a file of a folder is, for messages that count them."""
    if path.is_dir():
        return "folders"
    if path.is_symlink() and not path.exists():
        return "links that lead nowhere"
    return path.suffix.lower() or "without an ending"


def _one(kind: str) -> str:
    return {"links that lead nowhere": "link that leads nowhere"}.get(kind, kind)


def _tell_left_out(folder: Path, others: Sequence[Path]) -> None:
    kinds: dict[str, list[str]] = {}
    for path in others:
        kind = _kind(path)
        if kind == "folders" or path.suffix.lower() in _NO_IMAGES or path.name == "Thumbs.db":
            continue
        kinds.setdefault("no regular files" if kind in SUFFIXES else kind, []).append(path.name)
    if kinds:
        counted = ", ".join(_counted(kind, names) for kind, names in kinds.items())
        _LOGGER.warning("%s: %s", folder, f"left out: {counted}; read are {', '.join(SUFFIXES)}")


def _counted(kind: str, names: list[str]) -> str:
    more = ", ..." if len(names) > 1 else ""
    return f"{len(names)} {_one(kind) if len(names) == 1 else kind} ({names[0]}{more})"


def without_results(paths: Sequence[Path]) -> list[Path]:
    """Images without what ``unet-np segment`` and ``detect`` made of them, if both are there.

    A remark tells of them.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        A result is a TIFF or PNG file with the name of another one of these and a word of
        `RESULTS`, such as ``a-labels.tif`` for ``a.png``.

    Examples
    --------
    >>> paths = [Path("a.png"), Path("a-labels.tif"), Path("b-labels.tif")]
    >>> [path.name for path in without_results(paths)]
    ['a.png', 'b-labels.tif']
    """
    stems = {_composed(path.stem) for path in paths}
    results = [path for path in paths if _is_result(path, stems)]
    if results:
        more = f" and {len(results) - 1} more" * (len(results) > 1)
        remark = f"left out, with the name of a result of an image beside it{more}"
        _LOGGER.warning("%s: %s", results[0], remark)
    return [path for path in paths if path not in set(results)]


def _is_result(path: Path, stems: set[str]) -> bool:
    match = _RESULT.fullmatch(_composed(path.stem))
    return match is not None and path.suffix in (".tif", ".png") and match[1] in stems


def pair_names(images: Sequence[Path], masks: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Each image with its mask.

    Equal names go first, and then those that differ in the ending, in a word such as ``_mask``,
    ``-labels``, ``_seg``, ``_gt`` or ``img_``, in upper case or in leading zeros; the rule stands
    at the head of this module. One image and one mask always go together.

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
        If a file is without its partner, or two have the same; names the nearest.

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
    pairs, _ = _match(images, masks)
    alone = [
        _rest(paths, found) for paths, found in zip((images, masks), _sides(pairs), strict=True)
    ]
    if not any(alone):
        return sorted(pairs)
    _refuse_doubles(images, alone[0], "images")
    _refuse_doubles(masks, alone[1], "masks")
    if alone[0]:
        wanted = f"{alone[0][0].stem}_mask.png"
        raise InputError(
            f"masks: got none for {alone[0][0].name}, expected a name such as {wanted}; "
            f"{_nearest(alone[0][0], alone[1] or masks)}"
        )
    raise InputError(
        f"images: got none for the mask {alone[1][0].name}, expected as many images as masks; "
        f"{_nearest(alone[1][0], images)}"
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

    By the rule of `pair_names`, but there may be more predictions than labels: of a video often
    only some frames are annotated. Only where there is neither a name nor a number to go by do as
    many files go together in order.

    Parameters
    ----------
    predictions, labels : sequence of pathlib.Path
        Of any order.

    Raises
    ------
    InputError
        If labels are without a prediction, two files have the same, or what would go together in
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
    pairs, how = _match(predictions, labels)
    found, labelled = _sides(pairs)
    alone, missing = _rest(predictions, found), in_order(_rest(labels, labelled))
    if not missing:
        partner = dict(pairs)
        ordered = [(path, partner[path]) for path in in_order(found)]
        return Pairing(ordered, how, in_order(alone))
    if how == "by name":
        # Without labels of that name a second prediction would simply be left out.
        wanted = {_words(path) for path in missing}
        _refuse_doubles(predictions, [p for p in alone if _words(p) in wanted], "prediction")
        _refuse_doubles(labels, missing, "labels")
    elif any(map(_numbers, predictions)):
        keys = {_numbers(path) for path in predictions}
        missing = [path for path in missing if _numbers(path) and _numbers(path) not in keys]
    else:
        missing = []
    if missing:
        raise InputError(
            f"prediction: got none for {missing[0].name}, expected one with its name or its "
            f"numbers; {_nearest(missing[0], predictions)}"
        )
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


def _match(first: Sequence[Path], second: Sequence[Path]) -> tuple[list[tuple[Path, Path]], str]:
    """The files that go together, and whether by name or by number; the rest is left."""
    pairs: list[tuple[Path, Path]] = []
    for keys in _NAMES:
        left, right = (
            _singles(_rest(paths, found), key_of)
            for paths, found, key_of in zip((first, second), _sides(pairs), keys, strict=True)
        )
        pairs += [(path, right[key]) for key, path in left.items() if key in right]
    if pairs or {*map(_words, first)} & {*map(_words, second)}:
        return pairs, "by name"
    left, right = _singles(first, _numbers), _singles(second, _numbers)
    if len(left) < len(first) or len(right) < len(second) or () in (*left, *right):
        return [], "by number"  # a number that two have tells nothing
    return [(path, right[key]) for key, path in left.items() if key in right], "by number"


def _sides(pairs: Sequence[tuple[Path, Path]]) -> tuple[list[Path], list[Path]]:
    return [first for first, _ in pairs], [second for _, second in pairs]


def _rest(paths: Sequence[Path], found: Sequence[Path]) -> list[Path]:
    known = set(found)
    return sorted(path for path in paths if path not in known)


def _singles(paths: Sequence[Path], key_of: Callable[[Path], Hashable]) -> dict[Hashable, Path]:
    """The files whose key no other has, by key."""
    counts = Counter(map(key_of, paths))
    return {key_of(path): path for path in paths if counts[key_of(path)] == 1}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _name(path: Path) -> str:
    return _composed(path.name)


def _stem(path: Path) -> str:
    # OME writes two endings, and results of x.ome.tif are x.ome-labels.tif.
    return re.sub(r"\.ome(?![^\W_])", "", _composed(path.stem), count=1, flags=re.IGNORECASE)


def _without_one_word(path: Path) -> str:
    stem = _stem(path)
    return _LAST_WORD.sub("", stem) if _LAST_WORD.search(stem) else _FIRST_WORD.sub("", stem)


def _all_words(path: Path) -> list[str]:
    # Zeros lead where a number begins, and not behind the point of 0.05.
    stem = _INNER_ENDING.sub("", _stem(path).lower())
    stem = re.sub(r"(?<!\d[.,])(?<!\d)0+(?=\d)", "", stem)
    return [word for word in re.split(r"[\W_]+", stem) if word]


def _words(path: Path) -> tuple[str, ...]:
    """What is left of a name without the words that tell images from masks."""
    words = _all_words(path)
    # Of img1 and mask1 the number is left.
    parts = [re.sub(r"^([a-z]+)(?=\d)", lambda m: "" if _tells(m[1]) else m[1], w) for w in words]
    return tuple(part for part in parts if not _tells(part)) or tuple(words)


def _tells(word: str) -> bool:
    return bool(_KNOWN_WORD.fullmatch(word))


# What a name is taken for on either side, the most exact first. That img_1 has the mask img_1_gt
# comes before 1 and img_1 both being 1.
_NAMES: tuple[tuple[Callable[[Path], Hashable], Callable[[Path], Hashable]], ...] = (
    (_name, _name),
    (_stem, _stem),
    (_stem, _without_one_word),
    (_without_one_word, _stem),
    (_without_one_word, _without_one_word),
    (_words, _words),
)


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.stem))


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


def _refuse_doubles(paths: Sequence[Path], alone: Sequence[Path], argument: str) -> None:
    """Refuse two of one side for one of the other, of which at least one found no partner."""
    # Of names that are the same only loosely, one may well have found its own partner.
    for key_of, among in ((_without_one_word, paths), (_words, alone)):
        counts = Counter(map(key_of, among))
        for path in alone:
            if counts[key_of(path)] > 1:
                first, second, *_ = sorted(p for p in among if key_of(p) == key_of(path))
                raise InputError(
                    f"{argument}: got {first.name} and {second.name}, which mean the same image, "
                    "expected one of the two"
                )


def _nearest(path: Path, others: Sequence[Path]) -> str:
    names = [other.name for other in sorted(others)]
    near = difflib.get_close_matches(path.name, names, 3, cutoff=0.5)
    near = near or difflib.get_close_matches(path.name, names, 1, cutoff=0)  # any is near enough
    return f"nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}"
