"""What can be known of a TIFF before its data is read, so that no decoder guesses or is deceived.

The functions here raise `InputError` with a message that lacks its beginning (argument and file),
or `ValueError` where the file is damaged.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from unet_np.errors import InputError
from unet_np.images.bounds import EXPANSION, check_claim, shown

_WITHOUT_IMAGECODECS = {1, 8, 32773, 32946, 34925}  # compressions that tifffile reads alone
_JPEG, _JPEG_2000 = {6, 7, 33007}, {33003, 33004, 33005, 34712}
_SLACK = 2**26  # bytes; a segment may unpack to that much more than it should


def check_pages(pages: Sequence[Any], file_size: int) -> None:
    """What can be known of pages before their data is read.

    Raises
    ------
    InputError
        If data lies outside of the file, is missing, or cannot hold the pixels; or if a codec is
        missing that it needs.
    """
    for page in pages:
        page = getattr(page, "keyframe", page) if not hasattr(page, "tags") else page
        if page.planarconfig not in (1, 2):
            raise ValueError(f"planar configuration {page.planarconfig}")
        _check_codec(page)
        _check_segments(page, file_size)


def check_chain(tiff: Any, last: Any) -> None:
    """tifffile ends where a page points out of the file, or back, without an error."""
    kind, file = tiff.tiff, tiff.filehandle
    file.seek(last.offset)
    (count,) = struct.unpack(kind.tagnoformat, file.read(kind.tagnosize))
    file.seek(count * kind.tagsize, 1)
    (follows,) = struct.unpack(kind.offsetformat, file.read(kind.offsetsize))
    if follows:
        raise ValueError(f"page {last.index + 2} does not lie where it should")


def check_tags(pages: Iterable[Any]) -> None:
    """tifffile leaves out the tags that it cannot read, and guesses how long the data is.

    Raises
    ------
    ValueError
        If it has done so.
    """
    for page in pages:
        kind, file = page.parent.tiff, page.parent.filehandle
        file.seek(page.offset)
        (count,) = struct.unpack(kind.tagnoformat, file.read(kind.tagnosize))
        lost = count - len(list(page.tags))
        if lost > 0:
            raise ValueError(f"{lost} of the {count} tags of page {page.index + 1}")
        if page.compression != 1 and not {279, 325, 514} & {tag.code for tag in page.tags}:
            raise ValueError("no tag says how long its data is")


def _check_codec(page: Any) -> None:
    predicted = page.predictor not in (1, 2)
    odd = page.bitspersample not in (1, 8, 16, 32, 64) or page.fillorder == 2
    alone = page.compression in _WITHOUT_IMAGECODECS and not predicted and not odd
    if not alone and not has_imagecodecs():
        raise needs_imagecodecs(page)


def has_imagecodecs() -> bool:
    """Whether imagecodecs can be imported; tifffile has a small substitute that cannot do all."""
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    return True


def needs_imagecodecs(page: Any) -> InputError:
    """The error that names what the file needs."""
    name = getattr(page.compression, "name", page.compression)
    return InputError(
        f"is {name}-compressed {page.dtype} of {page.bitspersample} bits, which needs imagecodecs; "
        "pip install 'unet-np[io]'"
    )


def _check_segments(page: Any, file_size: int) -> None:
    """Strips and tiles: where they lie, how many, and how much they would unpack to."""
    offsets, counts = page.dataoffsets, page.databytecounts
    expected = math.prod(page.chunked)
    if len(offsets) != len(counts) or len(offsets) < expected:
        raise ValueError(f"{len(offsets)} strips or tiles of {expected}")
    if max((o + c for o, c in zip(offsets, counts, strict=True)), default=0) > file_size:
        raise ValueError("data past the end of the file")
    # tifffile takes both for a strip or tile that was left out, and gives zeros.
    empty = sum(not o or not c for o, c in zip(offsets[:expected], counts, strict=False))
    if empty:
        raise InputError(f"lacks {empty} of its {expected} strips or tiles, expected all of them")
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    whole = math.prod(page.shaped) * bits // 8
    expansion = EXPANSION.get(int(page.compression))
    if page.subsampling is None or page.compression != 1:
        check_claim(whole, min(sum(counts), file_size), expansion)
    one = math.prod(page.chunks) * bits // 8
    if one > 4 * whole + _SLACK:
        raise ValueError(f"tiles of {shown(one)} in an image of {shown(whole)}")
    if page.compression != 1 and max(counts) > 4 * one + 65536:
        raise ValueError(f"{shown(max(counts))} of data for {shown(one)} of pixels")
    if page.compression in _JPEG | _JPEG_2000:
        _check_codestreams(page, one)


def _check_codestreams(page: Any, expected: int) -> None:
    """JPEG and JPEG 2000 have sizes of their own, which their decoders believe."""
    file = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        data = file.read(count)
        size = _jpeg_2000_size(data) if page.compression in _JPEG_2000 else _jpeg_size(data)
        if size > 4 * expected + _SLACK:
            raise ValueError(f"a codestream of {shown(size)} for {shown(expected)} of pixels")


def _jpeg_size(data: bytes) -> int:
    """Bytes of the pixels that a JPEG stream claims, or 0 if it has no frame header."""
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[place + i : place + i + 2]) for i in (5, 7))
            return height * width * data[place + 9] * (1 + (data[place + 4] > 8))
        place += 2 + length
    return 0


def _jpeg_2000_size(data: bytes) -> int:
    place = data.find(b"\xff\x4f\xff\x51")
    if place < 0 or len(data) < place + 42:
        return 0
    width, height = (int.from_bytes(data[place + i : place + i + 4]) for i in (8, 12))
    return width * height * int.from_bytes(data[place + 40 : place + 42])
