"""Values that a user names: those of masks to leave out, of the background, of the classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from unet_np.errors import InputError

_VALUE = re.compile(r"-?\d+|#[0-9a-fA-F]{6}(?:[0-9a-fA-F]{6})?")


def parse_values(text: str | Iterable[str], argument: str) -> tuple[int, ...]:
    """Values of masks from a text such as ``255,254`` or ``#ff0000``; ``none`` is empty.

    Parameters
    ----------
    text : str or iterable of str
        Whole numbers, and colours as two or four digits for each of red, green and blue, in the
        order of `unet_np.data.own.masks.as_numbers`.
    argument : str
        What messages call it.

    Raises
    ------
    InputError
        If it is none of these.

    Examples
    --------
    >>> parse_values("255, 254", "ignore"), parse_values(["-1", "#0000ff"], "ignore")
    ((255, 254), (-1, 255))
    >>> parse_values("void", "ignore")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: ignore: got 'void', expected whole numbers or colours such as \
#ff0000, or none
    """
    parts = [text] if isinstance(text, str) else list(text)
    words = [word for part in parts for word in re.split(r"[,\s]+", part.strip()) if word]
    if words == ["none"]:
        return ()
    for word in words:
        if not _VALUE.fullmatch(word):
            raise InputError(
                f"{argument}: got {word!r}, expected whole numbers or colours such as #ff0000, "
                "or none"
            )
    values = tuple(int(word[1:], 16) if word[0] == "#" else int(word) for word in words)
    if len(set(values)) < len(values) or not values:
        raise InputError(f"{argument}: got {' '.join(words)!r}, expected values, each once")
    return values


def shown(value: int, colour_bits: int = 0) -> str:
    """A value as the user knows it: a number, or a colour as in ``#ff0000``.

    Examples
    --------
    >>> shown(255), shown(255, 8)
    ('255', '#0000ff')
    """
    return f"#{int(value):0{3 * colour_bits // 4}x}" if colour_bits else str(int(value))


def listed(values: Sequence[int], colour_bits: int = 0, most: int = 16) -> str:
    """Several values as `shown`, the first of many.

    Examples
    --------
    >>> listed([0, 1, 2], most=2)
    '0, 1, ...'
    """
    return ", ".join([shown(value, colour_bits) for value in values[:most]]) + ", ..." * (
        len(values) > most
    )
