"""Which mask belongs to which image, by the names of the files."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

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


def share_a_name(images: Sequence[Path], masks: Sequence[Path]) -> bool:
    """Whether any two names mean the same, as `pair_names` reads them.

    Examples
    --------
    >>> share_a_name([Path("a.png")], [Path("b.png"), Path("a_mask.tif")])
    True
    """
    return bool({_words(path) for path in images} & {_words(path) for path in masks})


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
