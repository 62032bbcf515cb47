"""PNG and JPEG to pixels, by Pillow, after the file was checked.

Pillow is used through its two file classes: `PIL.Image.open` depends on a limit that belongs to
the whole process. The functions here raise `InputError` with a message that lacks its beginning
(argument and file), and whatever the decoder raises.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from unet_np.errors import InputError, require
from unet_np.images.bounds import EXPANSION, check_claim, check_memory, check_ratio
from unet_np.images.conventions import ALPHA_REMARK, Picture, oriented

_PART = 2**20  # bytes that are read at once
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by PNG's colour type
# First row and column, and steps of each of PNG's seven passes.
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
_ONE_PASS = ((0, 0, 1, 1),)
_ORIENTATION = 274


class Header(NamedTuple):
    """PNG's first chunk."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: int

    @property
    def data_size(self) -> int:
        """Bytes of the image data, uncompressed: each row has one more for its filter."""
        bits = self.depth * _SAMPLES[self.colour]
        passes = _ADAM7 if self.interlaced else _ONE_PASS
        total = 0
        for row, column, down, across in passes:
            rows = -(-max(self.height - row, 0) // down)
            columns = -(-max(self.width - column, 0) // across)
            total += rows * (1 + -(-columns * bits // 8)) if columns else 0
        return total


def read_png(file: Path, palette: str) -> Picture:
    """The picture of a PNG, if every one of its bytes and rows is there."""
    header = check_png(file)
    if header.depth == 16 and header.colour != 0:
        return _drop_alpha(_read_deep(file), header.colour in (4, 6), 1)
    png = require("PIL.PngImagePlugin", "io")
    with open(file, "rb") as stream, png.PngImageFile(stream) as image:
        if getattr(image, "is_animated", False):
            raise InputError(f"is an animation of {image.n_frames} pictures, expected one")
        orientation = _orientation(image)
        grey = image.mode == "P" and _is_grey(image.getpalette() or [])
        if image.mode == "P" and palette == "colour":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        array = np.asarray(image)
    if header.depth == 16:
        array = array.astype(np.uint16)
    picture = _drop_alpha(array, image.mode in ("LA", "RGBA"), orientation)
    if grey and picture.pixels.ndim == 3:
        picture.pixels, picture.axes = picture.pixels[..., 0], "YX"
    return picture


def read_jpeg(file: Path) -> Picture:
    """The picture of a JPEG, turned as its EXIF says; CMYK becomes RGB."""
    jpeg = require("PIL.JpegImagePlugin", "io")
    with open(file, "rb") as stream, jpeg.JpegImageFile(stream) as image:
        size = image.width * image.height * len(image.getbands())
        stored = file.stat().st_size
        check_claim(size, stored, EXPANSION[7])
        check_ratio(size, stored)
        check_memory(_copies(len(image.getbands())) * size)
        orientation = _orientation(image)
        mode = image.mode
        array = np.asarray(image if mode in ("L", "RGB") else image.convert("RGB"))
    picture = _drop_alpha(array, False, orientation)
    if mode == "CMYK":
        picture.remarks.append("is CMYK and read as RGB")
    return picture


def _is_grey(colours: list[int]) -> bool:
    return colours[::3] == colours[1::3] == colours[2::3]


def _drop_alpha(array: np.ndarray, alpha: bool, orientation: int) -> Picture:
    varies = alpha and bool((array[..., -1] != array[0, 0, -1]).any())
    if alpha:
        array = array[..., 0] if array.shape[-1] == 2 else array[..., :-1]
    pixels = oriented(array[None], orientation)[0]
    return Picture(pixels, "YXS"[: pixels.ndim], [ALPHA_REMARK] if alpha else [], alpha, varies)


def _read_deep(file: Path) -> np.ndarray:
    """16 bits in colour, of which Pillow reads 8."""
    try:
        import imagecodecs
    except ImportError:
        raise InputError(
            "is a 16-bit PNG in colour or with alpha, which needs imagecodecs; "
            "pip install 'unet-np[io]'"
        ) from None
    return imagecodecs.png_decode(file.read_bytes())


def _orientation(image: Any) -> int:
    """EXIF's, or 1: what cannot be read of the metadata says nothing of the pixels."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def pixel_bytes(file: Path, kind: str) -> int:
    """What decoding takes at most, by the header alone.

    Parameters
    ----------
    file : Path
        The image.
    kind : {"png", "jpeg"}
        Its format.

    Raises
    ------
    ValueError
        If it has no header.
    """
    with open(file, "rb") as stream:
        if kind == "png":
            if stream.read(16)[12:] != b"IHDR":
                raise ValueError("no header")
            header = _header(stream)
            samples = 3 if header.colour == 3 else _SAMPLES[header.colour]
            size = header.width * header.height * samples * (2 if header.depth == 16 else 1)
        else:
            with require("PIL.JpegImagePlugin", "io").JpegImageFile(stream) as image:
                samples = len(image.getbands())
                size = image.width * image.height * samples
    return (1 + _copies(samples)) * size + file.stat().st_size


def _copies(samples: int) -> int:
    """How often an image is in memory: as Pillow's, four samples for colour, and as an array."""
    return 2 if samples == 1 else 3


def check_png(file: Path) -> Header:
    """Every chunk whole, and as many rows in them as the header says.

    Pillow leaves the rows that are missing black, and does not look at the checksums of the image
    data.

    Raises
    ------
    InputError
        If the header claims more than the file or the machine can hold.
    ValueError
        If the file is damaged.
    """
    with open(file, "rb") as stream:
        stream.seek(8)
        chunks = list(_walk(stream))
        if not chunks or chunks[0][0] != b"IHDR" or chunks[0][2] != 13:
            raise ValueError("no header")
        header, stored = _header(stream), sum(size for name, _, size in chunks if name == b"IDAT")
        check_claim(header.data_size, stored, EXPANSION[8])
        samples = 3 if header.colour == 3 else _SAMPLES[header.colour]
        size = header.width * header.height * samples * (2 if header.depth == 16 else 1)
        check_ratio(size, file.stat().st_size)
        check_memory(_copies(samples) * size)
        if chunks[-1][0] != b"IEND":
            raise ValueError("no end")
        _check_chunks(stream, chunks, header.data_size)
    return header


def _header(stream: IO[bytes]) -> Header:
    stream.seek(16)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", stream.read(13))
    if not width or not height or colour not in _SAMPLES or depth not in (1, 2, 4, 8, 16):
        raise ValueError("damaged header")
    return Header(width, height, depth, colour, interlaced)


def _walk(stream: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and length of each chunk up to the end."""
    while len(start := stream.read(8)) == 8:
        size, name = struct.unpack(">I4s", start)
        yield name, stream.tell(), size
        if name == b"IEND":
            return
        stream.seek(size + 4, 1)


def _check_chunks(stream: IO[bytes], chunks: list[tuple[bytes, int, int]], expected: int) -> None:
    inflate, found = zlib.decompressobj(), 0
    for name, place, size in chunks:
        stream.seek(place)
        checksum, left = zlib.crc32(name), size
        while left:
            part = stream.read(min(left, _PART))
            if not part:
                raise ValueError(f"cut short in chunk {name!r}")
            left -= len(part)
            checksum = zlib.crc32(part, checksum)
            while name == b"IDAT" and part and not inflate.eof and found <= expected:
                found += len(inflate.decompress(part, _PART))
                part = inflate.unconsumed_tail
        if struct.pack(">I", checksum) != stream.read(4):
            raise ValueError(f"wrong checksum of chunk {name!r}")
    # What is still in the decompressor, after the last part.
    while not inflate.eof and found <= expected and (more := inflate.decompress(b"", _PART)):
        found += len(more)
    if found != expected or not inflate.eof:
        raise ValueError(f"{found} bytes of image data, not {expected}")
