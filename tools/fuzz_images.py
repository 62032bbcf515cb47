"""Mutated PNG, JPEG and TIFF files through `unet_np.images.open_image` and `open_bands`.

Each must give an image or one line: no traceback, no hang, no gigabyte, no pixel that Pillow or
tifffile would not read of the same bytes, and in bands the same as at once.

    python -m tools.fuzz_images --count 10000 --seed 0
"""

from __future__ import annotations

import io
import logging
import signal
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tools.fuzz import FAULTS, SECONDS, Outcome, keep_file, main, peak_memory
from unet_np.errors import InputError
from unet_np.images import open_bands, open_image


def seeds(rng: np.random.Generator) -> dict[str, bytes]:
    """Small whole files of every kind, by their names."""
    rows, columns = np.indices((40, 56))
    smooth = (120 + 60 * np.sin(rows / 7) + 50 * np.cos(columns / 9)).astype(np.uint8)
    grey = (smooth + rng.integers(0, 9, smooth.shape)).astype(np.uint8)
    deep = grey.astype(np.uint16) * 257
    colour = np.stack([grey, grey[::-1], grey[:, ::-1]], -1)
    stack = np.stack([grey, grey[::-1], grey[:, ::-1]])
    files = {}
    for name, array in {
        "grey": grey,
        "deep": deep,
        "rgb": colour,
        "rgba": np.dstack([colour, grey]),
        "bit": grey > 120,
    }.items():
        files[f"{name}.png"] = _saved(Image.fromarray(array), "PNG")
    files["palette.png"] = _saved(Image.fromarray(colour).quantize(16), "PNG")
    exif = Image.Exif()
    exif[274] = 6
    files["grey.jpg"] = _saved(Image.fromarray(grey), "JPEG", quality=90)
    files["rgb.jpg"] = _saved(Image.fromarray(colour), "JPEG", quality=90, exif=exif)
    files["progressive.jpg"] = _saved(Image.fromarray(colour), "JPEG", progressive=True)
    files["cmyk.jpg"] = _saved(Image.fromarray(colour).convert("CMYK"), "JPEG")
    plain = {"photometric": "minisblack", "metadata": None}
    for name in ("lzw", "zlib", "zstd", "packbits", "lzma", "jpeg", "jpeg2000", "webp"):
        files[f"{name}.tif"] = _tiff(colour, compression=name, metadata=None, photometric="rgb")
    for name, array, options in [
        ("plain", grey, plain),
        ("deep-predictor", deep, {**plain, "compression": "lzw", "predictor": True}),
        ("float", deep / np.float32(3), {**plain, "compression": "zlib", "predictor": True}),
        ("big", deep, {**plain, "byteorder": ">", "bigtiff": True, "compression": "lzw"}),
        ("tiled", deep, {**plain, "tile": (16, 16), "compression": "zlib"}),
        ("strips", grey, {**plain, "rowsperstrip": 8}),
        ("bits", grey > 120, {**plain, "photometric": "miniswhite"}),
        ("stack", stack, {"photometric": "minisblack", "compression": "zlib"}),
        ("imagej", stack, {"imagej": True, "metadata": {"axes": "TYX", "unit": "um"}}),
        ("ome", stack, {"ome": True, "metadata": {"axes": "CYX"}}),
        ("planar", stack, {"photometric": "rgb", "planarconfig": "separate"}),
        ("palette", grey, {"photometric": "palette", "colormap": _colours(), "metadata": None}),
        ("cmyk", np.dstack([colour, grey]), {"photometric": "separated", "metadata": None}),
        ("turned", grey, {**plain, "extratags": [(274, "H", 1, 6, True)]}),
    ]:
        files[f"{name}.tif"] = _tiff(array, **options)
    files["fax.tif"] = _saved(Image.fromarray(grey > 120), "TIFF", compression="group4")
    return files


def _colours() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16) * 257


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _tiff(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes, mostly one: bits, bytes, numbers, cuts, copies."""
    data = bytearray(content)
    for _ in range(min(rng.geometric(0.6), 4)):
        head = min(len(data), 256) if rng.random() < 0.5 else len(data)
        place = int(rng.integers(0, max(head - 4, 1)))
        kind = rng.integers(0, 7)
        if kind == 0:
            data[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            data[place] = int(rng.integers(0, 256))
        elif kind in (2, 3):
            value = int(rng.choice([0, 1, 2, 255, 256, 65535, 2**31 - 1, 2**32 - 1, 40000]))
            size = int(rng.choice([2, 4]))
            order = "big" if rng.random() < 0.5 else "little"
            data[place : place + size] = (value % 256**size).to_bytes(size, order)
        elif kind == 4:
            del data[max(int(rng.integers(1, len(data))), 8) :]
        elif kind == 5:
            length = int(rng.integers(1, 40))
            del data[place : place + length]
        else:
            other, length = int(rng.integers(0, len(data))), int(rng.integers(1, 40))
            data[place : place + length] = data[other : other + length]
        if len(data) < 8:
            data += b"\0" * 8
    if data[:4] == b"\x89PNG" and rng.random() < 0.6:
        _mend_checksums(data)
    return bytes(data)


def _mend_checksums(data: bytearray) -> None:
    """Right checksums over wrong chunks, so that the decoder meets what is in them."""
    place = 8
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        end = place + 8 + size
        if end + 4 > len(data):
            return
        struct.pack_into(">I", data, end, zlib.crc32(data[place + 4 : end]))
        place = end + 4


def peer(file: Path) -> np.ndarray | None:
    """The same bytes by Pillow or tifffile, the conventions applied by hand; None if unsure."""
    start = file.read_bytes()[:4]
    if start[:2] in (b"II", b"MM"):
        return _by_tifffile(file)
    with Image.open(file) as image:
        orientation = image.getexif().get(274, 1)
        mode = image.mode
        if mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        array = np.asarray(image.convert("RGB") if mode == "CMYK" else image)
    if array.ndim == 3 and array.shape[-1] in (2, 4):
        array = array[..., 0] if array.shape[-1] == 2 else array[..., :3]
    array = _turned(array, orientation)
    return array


def _by_tifffile(file: Path) -> np.ndarray | None:
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        array = tiff.pages.first.asarray() if len(tiff.pages) == 1 else tiff.asarray()
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            array = np.moveaxis(array, -3, -1)
        photometric = page.photometric if 262 in page.tags else 1
        base = {2: 3, 5: 4, 6: 3}.get(int(photometric), 1)
        extra = page.samplesperpixel - base
        if extra < 0 or (extra and page.extrasamples[-extra:] != (2,) * extra):
            return None
        if extra:
            array = array[..., :base]
        if photometric == 0 and array.dtype.kind in "ub":
            full = 1 if array.dtype == bool else 2**page.bitspersample - 1
            array = (full - array).astype(array.dtype)
        elif photometric == 3:
            colours = page.colormap.T
            for times in (256, 257):
                if (colours == (colours >> 8) * times).all():
                    colours = (colours >> 8).astype(np.uint8)
            array = colours[array.astype(int)]
        elif photometric == 5 and array.dtype == np.uint8:
            rgb = (255.0 - array[..., :3]) * (255 - array[..., 3:]) / 255
            array = np.rint(rgb).astype(np.uint8)
        return _turned(array, page.tags.valueof(274, 1))


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """By EXIF's words: 2 mirrored, 3 upside down, 4 flipped, 5 transposed, 6 and 8 turned."""
    axes = (0, 1) if array.ndim == 2 or array.shape[-1] in (3, 4) else (-2, -1)
    turn: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: lambda a: np.flip(a, axes[1]),
        3: lambda a: np.rot90(a, 2, axes),
        4: lambda a: np.flip(a, axes[0]),
        5: lambda a: np.swapaxes(a, *axes),
        6: lambda a: np.rot90(a, -1, axes),
        7: lambda a: np.swapaxes(np.rot90(a, 2, axes), *axes),
        8: lambda a: np.rot90(a, 1, axes),
    }
    return turn.get(orientation, lambda a: a)(array)


def differs(pixels: np.ndarray, other: np.ndarray) -> bool:
    """Whether two readings differ, whatever the order of slices and channels."""
    if other.ndim == 3 and pixels.ndim == 2 and (other == other[..., :1]).all():
        other = other[..., 0]  # a palette of grey values
    if pixels.size != other.size:
        return True
    if pixels.shape != np.squeeze(other).shape and pixels.shape != other.shape:
        other = np.moveaxis(np.squeeze(other), 0, -1)
        if pixels.shape != other.shape:
            return True
    return not np.array_equal(np.squeeze(pixels), np.squeeze(other), equal_nan=True)


def in_bands(file: Path) -> list[np.ndarray] | None:
    """The slices as they are read a few rows at a time; None if they are refused."""
    try:
        with open_bands(file) as image:
            image.check()
            pages = ([band for _, band in image.bands(i)] for i in range(image.count))
            return [np.concatenate(page) for page in pages]
    except InputError:
        return None


def check(file: Path) -> tuple[str, str]:
    """What became of one file, and the detail if that is a fault."""

    def too_late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(SECONDS)
    try:
        try:
            image = open_image(file)
        except InputError as error:
            if "\n" in str(error):
                return "two lines", str(error)
            return ("refused", "") if in_bands(file) is None else ("different", "by bands alone")
        found = in_bands(file)
        if found is None or not all(map(np.array_equal, found, image.pages)):
            return "different", "by bands"
    except TimeoutError:
        return "hang", ""
    except BaseException as error:
        return "foreign", repr(error)
    finally:
        signal.alarm(0)
    signal.alarm(SECONDS)
    try:
        other = peer(file)
    except BaseException as error:
        return "read, not by the peer", repr(error)
    finally:
        signal.alarm(0)
    if other is None:
        return "read, not compared", ""
    if differs(image.pixels, other):
        return "different", f"{image.pixels.shape} {other.shape}"
    return "read, the same", ""


def run(count: int, seed: int, keep: Path | None = None) -> Iterator[Outcome]:
    """What becomes of each of `count` mutated files."""
    logging.disable(logging.CRITICAL)
    rng = np.random.default_rng(seed)
    originals = seeds(rng)
    names = sorted(originals)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mutated")
        for number in range(count):
            name = names[number % len(names)]
            file.write_bytes(mutated(originals[name], rng))
            outcome, detail = check(file)
            if outcome in (*FAULTS, "read, not by the peer"):
                keep_file(file, keep, f"{number}-{name}")
            yield name, outcome, detail, peak_memory()


if __name__ == "__main__":
    sys.exit(main(__doc__, run))
