"""What stored samples mean: one table for every format, compression and command.

| what a file says | what is read |
|---|---|
| orientation (TIFF's tag, EXIF) | turned and mirrored as viewers show it |
| MinIsWhite, unsigned integers | inverted, so that values are as viewers show them |
| MinIsWhite, signed or float | as stored; there is no white to count from |
| palette | its colours, grey where they are grey; or its indices, for masks |
| CMYK | RGB |
| YCbCr in JPEG, WebP or JPEG XL | RGB, by the decoder; otherwise refused |
| alpha | left out |
| unspecified extra samples | channels |
| axis C | channels, 4 at most |
| axis T or Z, and axes without a name | slices; one such axis at most |

Where something is left out or could be meant otherwise there is a remark. The functions here raise
`InputError` with a message that lacks its beginning (argument and file).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unet_np.errors import InputError

MAX_CHANNELS = 4
"""More channels than these are refused: the package's arrays say (H, W, channels) by them."""

ALPHA_REMARK = "alpha is left out"
PALETTES = ("colour", "index")
_WITH_OWN_YCBCR = {6, 7, 34892, 33007, 50001, 50002, 52546}  # their decoders give RGB
_MEANINGS = {
    "MINISWHITE": 1,
    "MINISBLACK": 1,
    "RGB": 3,
    "PALETTE": 1,
    "MASK": 1,
    "SEPARATED": 4,
    "YCBCR": 3,
}
"""Photometric interpretations that are read, and how many samples each has."""


@dataclass(frozen=True)
class Samples:
    """What a file says of the samples of a pixel.

    Attributes
    ----------
    photometric : str
        A key of `_MEANINGS`, or another name of TIFF's, which is refused.
    bits : int
        Of a sample.
    extra : tuple of int
        For each sample past those of `photometric`: 0 unspecified, 1 or 2 alpha.
    palette : numpy.ndarray or None
        (colours, 3), uint8 or uint16.
    orientation : int
        1 to 8, as in TIFF and EXIF.
    compression : int
        TIFF's number.
    """

    photometric: str
    bits: int = 8
    extra: tuple[int, ...] = ()
    palette: np.ndarray | None = None
    orientation: int = 1
    compression: int = 1


@dataclass
class Picture:
    """Pixels with a letter for each axis, and what the user should know of them."""

    pixels: np.ndarray
    axes: str
    remarks: list[str] = field(default_factory=list)
    alpha: bool = False
    alpha_varies: bool = False


def interpret(
    stored: np.ndarray, samples: Samples, palette: str = "colour", plain: bool = False
) -> Picture:
    """Pixels as this package has them, from samples as they are stored.

    Parameters
    ----------
    stored : numpy.ndarray
        (D, H, W, samples of a pixel).
    samples : Samples
        What they mean.
    palette : {"colour", "index"}
        What becomes of a palette.
    plain : bool
        Whether all samples are kept, because the user has said what they are.

    Returns
    -------
    Picture
        (D, H, W) or (D, H, W, C).

    Raises
    ------
    InputError
        For interpretations that are not read.
    """
    name, base = samples.photometric, check_meaning(samples, stored.shape[-1])
    found = Picture(stored, "DYXS")
    if not plain:
        _choose_samples(found, samples, base)
    if name == "MINISWHITE":
        _invert(found, samples.bits)
    elif name == "PALETTE" and palette == "colour" and not plain:
        _paint(found, samples.palette)
    elif name == "SEPARATED" and not plain:
        _mix_inks(found, samples.bits)
    found.pixels = oriented(found.pixels, samples.orientation)
    if found.pixels.shape[-1] == 1 and not plain:
        found.pixels, found.axes = found.pixels[..., 0], "DYX"
    return found


def check_meaning(samples: Samples, count: int) -> int:
    """How many of `count` samples make the colour; an `InputError` if it is none that is read."""
    name = samples.photometric
    base = min(_MEANINGS.get(name, 0), count)
    if not base or (name == "SEPARATED" and count < 4):
        raise InputError(
            f"stores colour as {name} of {count} samples, expected grey, RGB, CMYK or a palette"
        )
    if name == "YCBCR" and samples.compression not in _WITH_OWN_YCBCR:
        raise InputError("stores colour as YCbCr without JPEG, expected grey, RGB or CMYK")
    return base


def _choose_samples(found: Picture, samples: Samples, base: int) -> None:
    """Leave out alpha; other extra samples are channels."""
    count = found.pixels.shape[-1]
    # Tags that name fewer are those of the last ones.
    extra = (0,) * (count - base - len(samples.extra)) + samples.extra
    extra = extra[len(extra) - (count - base) :]
    keep = [i for i in range(count) if i < base or extra[i - base] not in (1, 2)]
    if len(keep) < count:
        left_out = np.delete(found.pixels, keep, -1)
        found.alpha_varies = bool((left_out != left_out[..., :1, :1, :]).any())
        found.pixels, found.alpha = found.pixels[..., keep], True
        found.remarks.append(ALPHA_REMARK)


def _invert(found: Picture, bits: int) -> None:
    kind = found.pixels.dtype.kind
    if kind in "bu":
        white = found.pixels.dtype.type(2**bits - 1)
        first, others = found.pixels[..., :1], found.pixels[..., 1:]
        found.pixels = np.concatenate([white ^ first, others], axis=-1)
    else:
        found.remarks.append("is MinIsWhite of signed or float values, which are read as stored")
        return
    found.remarks.append("is stored as MinIsWhite and inverted: values are as viewers show them")


def _paint(found: Picture, palette: np.ndarray | None) -> None:
    """Colours in place of the indices of the first sample; grey ones stay one channel."""
    indices = found.pixels[..., 0]
    if palette is None or indices.dtype.kind not in "bu":
        raise InputError("has a palette without colours, expected one for each of its indices")
    if indices.max(initial=0) >= len(palette):
        raise InputError(
            f"has index {indices.max()} and a palette of {len(palette)} colours, expected one for "
            "each index"
        )
    grey = bool((palette == palette[:, :1]).all())
    colours = palette[:, :1] if grey else palette
    found.pixels = np.concatenate([colours[indices.astype(np.intp)], found.pixels[..., 1:]], -1)


def _mix_inks(found: Picture, bits: int) -> None:
    """RGB = (1 - C) (1 - K), (1 - M) (1 - K), (1 - Y) (1 - K), as printers and Pillow have it."""
    inks, dtype = found.pixels, found.pixels.dtype
    if dtype.kind not in "uf":
        raise InputError(f"stores CMYK as {dtype}, expected unsigned integers or floats")
    if dtype.kind == "u":
        full = 2**bits - 1
        light = full - inks[..., :4].astype(np.float64)
        mixed = np.rint(light[..., :3] * light[..., 3:] / full).astype(dtype)
    else:
        light = 1 - inks[..., :4]
        mixed = light[..., :3] * light[..., 3:]
    found.pixels = np.concatenate([mixed, inks[..., 4:]], -1)
    found.remarks.append("is CMYK and read as RGB")


def oriented(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels turned and mirrored as TIFF's and EXIF's orientation says.

    Parameters
    ----------
    pixels : numpy.ndarray
        (D, H, W, ...).
    orientation : int
        1 to 8; others are taken for 1, as viewers do.

    Examples
    --------
    >>> oriented(np.array([[[1, 2], [3, 4]]]), 6).tolist()
    [[[3, 1], [4, 2]]]
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(1, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels


def arrange(picture: Picture, order: str, override: str | None = None) -> Picture:
    """Axes in this package's order, ([N,] H, W [, C]), or an error that names them.

    Parameters
    ----------
    picture : Picture
        With one letter an axis: Y, X, C, and any others, which are slices.
    order : str
        The letters in the order in which the file has its axes; the user's letters go by it.
    override : str, optional
        The user's letters, one for each axis that is longer than one, and for Y and X.

    Returns
    -------
    Picture
        Axes such as "YX", "YXC", "ZYX", "TYXC".

    Raises
    ------
    InputError
        If there are more axes, more channels, or other letters than can be read.

    Examples
    --------
    >>> stack = Picture(np.zeros((2, 1, 3, 4)), "TDYX")
    >>> arrange(stack, "TDYX").axes, arrange(stack, "TDYX", "CYX").axes
    ('TYX', 'YXC')
    """
    sizes = dict(zip(picture.axes, picture.pixels.shape, strict=True))
    kept = [letter for letter in order if letter in "YX" or sizes.get(letter, 1) > 1]
    shape = tuple(sizes[letter] for letter in kept)
    shown = "".join(kept).replace("S", "C").replace("D", "Z")
    if override is not None:
        shown = _letters(override, shape)
    names = dict(zip(kept, shown, strict=True))
    inside = [letter for letter in picture.axes if letter in kept]
    pixels = picture.pixels.reshape([sizes[letter] for letter in inside])
    axes = "".join(names[letter] for letter in inside)
    slices = [i for i, letter in enumerate(axes) if letter not in "YXC"]
    if len(slices) > 1 or axes.count("C") > 1:
        letters = shown if override else "".join(kept)
        raise InputError(
            f"has {len(axes)} axes, {letters} of sizes {shape}, expected (H, W), (H, W, channels) "
            "or a stack (N, H, W)"
        )
    if "C" in axes and pixels.shape[axes.index("C")] > MAX_CHANNELS:
        hint = "" if slices else f"; as axes {shown.replace('C', 'Z')} they would be slices"
        raise InputError(
            f"has {pixels.shape[axes.index('C')]} channels (axes {shown} of sizes {shape}), "
            f"expected 1 to {MAX_CHANNELS}{hint}"
        )
    places = slices + [axes.index(letter) for letter in "YXC" if letter in axes]
    named = "".join(axes[i] for i in places)
    alpha = picture.alpha, picture.alpha_varies
    return Picture(pixels.transpose(places), named, picture.remarks, *alpha)


_USUAL = {2: "YX", 3: "ZYX", 4: "ZCYX", 5: "TZCYX"}


def _letters(override: str, shape: Sequence[int]) -> str:
    """The user's letters, checked; S is a sample, which is a channel, if it stands last."""
    letters = override.upper()
    if letters.endswith("S"):
        letters = letters[:-1] + "C"
    good = letters.isalpha() and len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters)
    if not good or len(letters) != len(shape):
        raise InputError(
            f"has {len(shape)} axes of sizes {tuple(shape)}, got axes {override!r}, expected a "
            f"letter of TZCYX for each, such as {_USUAL.get(len(shape), 'TZCYX')}"
        )
    return letters
