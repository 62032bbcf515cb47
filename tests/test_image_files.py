"""`docs/files.md`, row by row: files of every kind are written, and read as the values in them."""

import io
import os
import re
import struct
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_np.errors import InputError
from unet_np.images import Calibration, open_image, read_image

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.indices((20, 31))
GREY = RNG.integers(0, 256, (20, 31), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (20, 31), dtype=np.uint16)
REAL = RNG.normal(size=(20, 31)).astype(np.float32)
RGB = RNG.integers(0, 256, (20, 31, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (20, 31, 3), dtype=np.uint16)
ALPHA = RNG.integers(0, 256, (20, 31), dtype=np.uint8)
STACK = RNG.integers(0, 256, (4, 20, 31), dtype=np.uint8)
DEEP_STACK = RNG.integers(0, 65536, (6, 20, 31), dtype=np.uint16)
FILM = RNG.integers(0, 65536, (3, 2, 20, 31), dtype=np.uint16)
SMOOTH = (120 + 60 * np.sin(ROWS / 7) + 50 * np.cos(COLUMNS / 9)).astype(np.uint8)
PLAIN = {"photometric": "minisblack", "metadata": None}
TABLE = Path(__file__).parent.parent / "docs" / "files.md"

ROWS_OF_TABLE = {}


def row(name):
    """Add a function that writes files into a folder and yields each with what must be read."""

    def add(function):
        ROWS_OF_TABLE[name] = function
        return function

    return add


def turned(array, orientation):
    """By the words of the TIFF standard: where row 0 and column 0 lie."""
    return {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }[orientation](array)


# PNG and JPEG


@row("PNG, grey of 1, 2, 4, 8 or 16 bits")
def _(folder):
    for name, array in {"1": GREY > 99, "8": GREY, "16": DEEP}.items():
        Image.fromarray(array).save(folder / f"{name}.png")
        yield f"{name}.png", array
    for bits in (2, 4):
        few = GREY % 2**bits
        (folder / f"{bits}.png").write_bytes(png(few, bits))
        yield f"{bits}.png", few * np.uint8(255 // (2**bits - 1))


@row("PNG, RGB of 8 or 16 bits")
def _(folder):
    for name, array in {"8": RGB, "16": RGB16}.items():
        (folder / f"{name}.png").write_bytes(imagecodecs.png_encode(array))
        yield f"{name}.png", array


@row("PNG with alpha")
def _(folder):
    deep = ALPHA.astype(np.uint16) * 257
    for name, array, alpha in [
        ("la", GREY, ALPHA),
        ("rgba", RGB, ALPHA),
        ("la16", DEEP, deep),
        ("rgba16", RGB16, deep),
    ]:
        (folder / f"{name}.png").write_bytes(imagecodecs.png_encode(np.dstack([array, alpha])))
        yield f"{name}.png", array, "alpha is left out"


@row("PNG or TIFF with a palette")
def _(folder):
    image = Image.fromarray(GREY % 4).convert("P")
    for name, colours in {
        "colour": [[0, 0, 0], [255, 0, 0], [0, 255, 0], [255, 0, 0]],
        "grey": [[0, 0, 0], [9, 9, 9], [90, 90, 90], [255, 255, 255]],
    }.items():
        image.putpalette(np.ravel(colours).tolist() + [0] * 756)
        shown = np.array(colours, np.uint8)[GREY % 4]
        for ending in ("png", "tif"):
            image.save(folder / f"{name}.{ending}")
            yield f"{name}.{ending}", shown if name == "colour" else shown[..., 0]
            yield f"{name}.{ending}", GREY % 4, None, {"palette": "index"}
    images = [Image.fromarray(page % 4).convert("P") for page in STACK]
    for number, image in enumerate(images):
        image.putpalette([number, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255] + [0] * 756)
    images[0].save(folder / "stack.tif", save_all=True, append_images=images[1:])
    tables = [[[number, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]] for number in range(4)]
    pairs = zip(tables, STACK, strict=True)
    yield "stack.tif", np.stack([np.array(table, np.uint8)[page % 4] for table, page in pairs])
    many = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    for ending, options in {"tif": {}, "lzw.tif": {"compression": "lzw"}}.items():
        tifffile.imwrite(folder / f"many.{ending}", GREY, colormap=many, **options)
        yield f"many.{ending}", many.T[GREY]
        yield f"many.{ending}", GREY, None, {"palette": "index"}


@row("JPEG, grey or colour")
def _(folder):
    colour = np.dstack([SMOOTH, SMOOTH // 2, 255 - SMOOTH])
    for name, array, options in [
        ("grey", SMOOTH, {}),
        ("colour", colour, {"subsampling": 0}),
        ("progressive", colour, {"subsampling": 0, "progressive": True}),
    ]:
        Image.fromarray(array).save(folder / f"{name}.jpg", quality=98, **options)
        yield f"{name}.jpg", array, None, {"within": 6}


@row("JPEG or TIFF in CMYK")
def _(folder):
    image = Image.fromarray(np.dstack([SMOOTH, SMOOTH // 2, 255 - SMOOTH])).convert("CMYK")
    image.save(folder / "a.jpg", quality=98, subsampling=0)
    image.save(folder / "a.tif")
    image.save(folder / "lzw.tif", compression="tiff_lzw")
    inks = np.asarray(image).astype(float) / 255
    light = (1 - inks[..., :3]) * (1 - inks[..., 3:]) * 255
    for name, within in (("a.jpg", 12), ("a.tif", 1), ("lzw.tif", 1)):
        yield name, np.rint(light).astype(np.uint8), "is CMYK and read as RGB", {"within": within}
    deep = np.dstack([RGB16, DEEP])
    tifffile.imwrite(folder / "16.tif", deep, photometric="separated", metadata=None)
    light = (65535 - deep[..., :3].astype(float)) * (65535 - deep[..., 3:].astype(float)) / 65535
    yield "16.tif", np.rint(light).astype(np.uint16), "is CMYK and read as RGB", {"within": 1}


@row("Orientation, in EXIF or TIFF's tag")
def _(folder):
    for tag in range(1, 9):
        exif = Image.Exif()
        exif[274] = tag
        Image.fromarray(SMOOTH).save(folder / f"{tag}.jpg", quality=98, exif=exif)
        yield f"{tag}.jpg", turned(SMOOTH, tag), None, {"within": 6}
        Image.fromarray(SMOOTH).save(folder / f"{tag}.png", exif=exif)
        yield f"{tag}.png", turned(SMOOTH, tag)
        for compression in (None, "lzw", "zlib"):
            for name, array in {"grey": DEEP, "rgb": RGB}.items():
                path = f"{name}-{tag}-{compression}.tif"
                options = {"photometric": "rgb" if name == "rgb" else "minisblack"}
                options |= {"compression": compression, "extratags": [(274, "H", 1, tag, True)]}
                tifffile.imwrite(folder / path, array, metadata=None, **options)
                yield path, turned(array, tag)

    # Tags of the first page of a stack, which speak for the others.
    options = {"extratags": [(274, "H", 1, 6, True)], "compression": "lzw"}
    tifffile.imwrite(folder / "stack.tif", STACK, **options, **PLAIN)
    yield "stack.tif", np.rot90(STACK, -1, (1, 2))


# TIFF: numbers and compressions


@row("TIFF, integers of 1 to 64 bits, with or without a sign, and floats of 16 to 64")
def _(folder):
    arrays = {"bool": GREY > 99}
    for code in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"):
        limits = np.iinfo(code)
        arrays[code] = RNG.integers(limits.min, limits.max, (20, 31), dtype=code, endpoint=True)
    arrays |= {code: (REAL * 100).astype(code) for code in ("f2", "f4", "f8")}
    for name, array in arrays.items():
        for order in "<>":
            for big in (False, True):
                path = f"{name}{'le' if order == '<' else 'be'}{'-big' * big}.tif"
                tifffile.imwrite(folder / path, array, byteorder=order, bigtiff=big, **PLAIN)
                yield path, array
    for bits in (2, 4, 12, 14):
        few = (DEEP % 2**bits).astype(np.uint8 if bits < 8 else np.uint16)
        tifffile.imwrite(folder / f"{bits}.tif", few, bitspersample=bits, **PLAIN)
        yield f"{bits}.tif", few


@row("TIFF in LZW, deflate, PackBits, LZMA or Zstandard, with or without a predictor")
def _(folder):
    arrays = {"u1": GREY, "u2": DEEP, "i4": DEEP.astype("i4") - 40000, "f4": REAL, "rgb": RGB}
    arrays |= {"f8": REAL.astype("f8"), "i2": DEEP.astype("i2"), "u4": DEEP.astype("u4") * 60000}
    arrays |= {"rgb16": RGB16, "f2": REAL.astype("f2"), "stack": STACK}
    for name, array in arrays.items():
        photometric = "rgb" if "rgb" in name else "minisblack"
        for compression in ("lzw", "zlib", "packbits", "lzma", "zstd"):
            for predictor in (False, True):
                for order in "<>":
                    path = f"{name}-{compression}-{predictor}-{'le' if order == '<' else 'be'}.tif"
                    tifffile.imwrite(
                        folder / path,
                        array,
                        compression=compression,
                        predictor=predictor and compression != "packbits",
                        byteorder=order,
                        photometric=photometric,
                        metadata=None,
                    )
                    yield path, array


@row("TIFF in WebP, JPEG 2000, JPEG XL or CCITT, without loss")
def _(folder):
    for name, array, compression, options in [
        ("webp", RGB, "webp", {"level": 101}),
        ("jp2", DEEP, "jpeg2000", {"level": 0}),
        ("jp2-rgb", RGB, "jpeg2000", {"level": 0}),
        ("jxl", DEEP, "jpegxl", {"lossless": True}),
        ("png", DEEP, "png", {}),
    ]:
        photometric = "rgb" if array.ndim == 3 else "minisblack"
        tifffile.imwrite(
            folder / f"{name}.tif",
            array,
            compression=compression,
            compressionargs=options,
            photometric=photometric,
            metadata=None,
        )
        yield f"{name}.tif", array
    for kind in ("group3", "group4", "tiff_ccitt"):
        Image.fromarray(GREY > 99).save(folder / f"{kind}.tif", compression=kind)
        yield f"{kind}.tif", GREY > 99


@row("TIFF in JPEG")
def _(folder):
    colour = np.dstack([SMOOTH, SMOOTH // 2, 255 - SMOOTH])
    for name, array, options in [
        ("grey", SMOOTH, {"photometric": "minisblack"}),
        ("rgb", colour, {"photometric": "rgb"}),
        ("ycbcr", colour, {"photometric": "rgb", "compressionargs": {"subsampling": (1, 1)}}),
        ("tiled", SMOOTH, {"photometric": "minisblack", "tile": (16, 16)}),
        ("planar", colour.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
    ]:
        options = {"compression": "jpeg", "metadata": None} | options
        options["compressionargs"] = {"level": 98} | options.get("compressionargs", {})
        tifffile.imwrite(folder / f"{name}.tif", array, **options)
        remark = "axes ZYX" if name == "planar" else None
        yield f"{name}.tif", colour if array.ndim == 3 else array, remark, {"within": 12}


@row("TIFF in strips, tiles, and samples in separate planes")
def _(folder):
    planes = np.ascontiguousarray(RGB16.transpose(2, 0, 1))
    for compression in (None, "lzw", "zstd"):
        for name, options in {
            "strips": {"rowsperstrip": 7},
            "tiles": {"tile": (16, 16)},
            "predicted": {"tile": (16, 16), "predictor": compression is not None},
        }.items():
            path = f"{name}-{compression}.tif"
            options = {"metadata": None, "photometric": "rgb", "compression": compression} | options
            tifffile.imwrite(folder / path, RGB16, **options)
            yield path, RGB16
            tifffile.imwrite(folder / f"planar-{path}", planes, planarconfig="separate", **options)
            yield f"planar-{path}", RGB16, "axes ZYX"


@row("MinIsWhite, in every compression")
def _(folder):
    remark = "MinIsWhite"
    for name, array, full in (("1", GREY > 99, 1), ("8", GREY, 255), ("16", DEEP, 65535)):
        for compression in (None, "lzw", "zlib", "packbits"):
            options = {"photometric": "miniswhite", "compression": compression, "metadata": None}
            tifffile.imwrite(folder / f"{name}-{compression}.tif", array, **options)
            yield (
                f"{name}-{compression}.tif",
                (full - array.astype(int)).astype(array.dtype),
                remark,
            )
    for kind in ("group4", "tiff_lzw", None):
        # Pillow stores what is to be seen inverted under this tag.
        Image.fromarray(GREY > 99).save(folder / f"{kind}.tif", compression=kind, tiffinfo={262: 0})
        yield f"{kind}.tif", GREY > 99, remark
    tifffile.imwrite(folder / "float.tif", REAL, photometric="miniswhite", metadata=None)
    yield "float.tif", REAL, "read as stored"


@row("TIFF with alpha or with samples of no name")
def _(folder):
    four, two = np.dstack([RGB, ALPHA]), np.dstack([GREY, ALPHA])
    options = {"metadata": None, "planarconfig": "contig"}
    for name, array, photometric, extra, expected in [
        ("rgba", four, "rgb", "unassalpha", RGB),
        ("premultiplied", four, "rgb", "assocalpha", RGB),
        ("rgb and infrared", four, "rgb", "unspecified", four),
        ("grey and alpha", two, "minisblack", "unassalpha", GREY),
        ("two channels", two, "minisblack", "unspecified", two),
    ]:
        for compression in (None, "lzw"):
            tifffile.imwrite(
                folder / f"{name}-{compression}.tif",
                array,
                photometric=photometric,
                extrasamples=[extra],
                compression=compression,
                **options,
            )
            remark = "alpha is left out" if expected is not array else None
            yield f"{name}-{compression}.tif", expected, remark


# TIFF: pages and axes


@row("Stacks without names of the axes")
def _(folder):
    tifffile.imwrite(folder / "one.tif", np.tile(STACK, (2, 1, 1)), photometric="minisblack")
    yield "one.tif", np.tile(STACK, (2, 1, 1)), None, {"axes": "IYX"}
    tifffile.imwrite(folder / "plain.tif", STACK, **PLAIN)
    yield "plain.tif", STACK, None, {"axes": "IYX"}
    with tifffile.TiffWriter(folder / "each.tif") as writer:
        for page in STACK:
            writer.write(page, photometric="minisblack", compression="lzw")
    yield "each.tif", STACK, None, {"axes": "IYX"}
    images = [Image.fromarray(page) for page in STACK]
    options = {"save_all": True, "append_images": images[1:], "compression": "tiff_lzw"}
    images[0].save(folder / "pillow.tif", **options)
    yield "pillow.tif", STACK, None, {"axes": "IYX"}
    colours = np.stack([RGB, RGB[::-1]])
    tifffile.imwrite(folder / "rgb.tif", colours, photometric="rgb")
    yield "rgb.tif", colours, None, {"axes": "IYXC"}
    with tifffile.TiffWriter(folder / "truncate.tif") as writer:
        writer.write(STACK, photometric="minisblack", truncate=True)
    yield "truncate.tif", STACK, None, {"axes": "IYX"}


@row("Axes that tifffile's description names")
def _(folder):
    for axes, array, expected, kept in [
        ("TYX", DEEP_STACK, DEEP_STACK, "TYX"),
        ("CYX", DEEP_STACK[:2], np.moveaxis(DEEP_STACK[:2], 0, -1), "YXC"),
        ("ZCYX", FILM, np.moveaxis(FILM, 1, -1), "ZYXC"),
        ("CZYX", FILM.swapaxes(0, 1), np.moveaxis(FILM, 1, -1), "ZYXC"),
    ]:
        for compression in (None, "lzw"):
            path = f"{axes}-{compression}.tif"
            options = {"photometric": "minisblack", "compression": compression}
            tifffile.imwrite(folder / path, array, metadata={"axes": axes}, **options)
            remark = "axis C holds 2 channels" if "C" in axes else None
            yield path, expected, remark, {"axes": kept}
    # Stored as one picture in colour, and called what they are.
    for axes, expected, kept in [
        ("ZYX", STACK, "ZYX"),
        ("TYX", STACK, "TYX"),
        ("CYX", np.moveaxis(STACK, 0, -1), "YXC"),
    ]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            tifffile.imwrite(folder / f"planes-{axes}.tif", STACK, metadata={"axes": axes})
        yield f"planes-{axes}.tif", expected, None, {"axes": kept}


@row("ImageJ's hyperstacks: T and Z are slices, C is channels")
def _(folder):
    for axes, array, expected in [
        ("TYX", FILM[:, 0], FILM[:, 0]),
        ("ZYX", FILM[:, 0], FILM[:, 0]),
        ("CYX", FILM[0], np.moveaxis(FILM[0], 0, -1)),
        ("ZCYX", FILM, np.moveaxis(FILM, 1, -1)),
        ("TCYX", FILM, np.moveaxis(FILM, 1, -1)),
    ]:
        tifffile.imwrite(folder / f"{axes}.tif", array, imagej=True, metadata={"axes": axes})
        kept = axes.replace("C", "") + "C" * ("C" in axes)
        remark = "axis C holds 2 channels" if "C" in axes else None
        yield f"{axes}.tif", expected, remark, {"axes": kept}
    with tifffile.TiffWriter(folder / "first.tif", imagej=True) as writer:
        writer.write(FILM[:, 0], metadata={"axes": "TYX"}, truncate=True)
    yield "first.tif", FILM[:, 0], None, {"axes": "TYX"}
    colours = np.stack([RGB, RGB[::-1]])
    tifffile.imwrite(folder / "rgb.tif", colours, imagej=True, metadata={"axes": "ZYXS"})
    yield "rgb.tif", colours, None, {"axes": "ZYXC"}


@row("ImageJ's stacks whose header counts wrong")
def _(folder):
    for name, said, axes in [
        ("fewer", "images=5\nframes=5\n", "TYX"),
        ("more", "images=3\nslices=3\n", "ZYX"),
        ("one", "images=1\n", "IYX"),
        ("plain", "images=7\n", "IYX"),
    ]:
        description = f"ImageJ=1.53t\n{said}hyperstack=true\n"
        imagej_pages(folder / f"{name}.tif", STACK, description)
        yield f"{name}.tif", STACK, "its header names", {"axes": axes}
    # Stopped within the third of its frames of two channels.
    planes = FILM.reshape(6, 20, 31)[:5]
    imagej_pages(folder / "channels.tif", planes, "ImageJ=1\nimages=20\nchannels=2\nframes=10\n")
    expected = np.moveaxis(FILM[:2], 1, -1)
    yield "channels.tif", expected, "of which the first 4 are read", {"axes": "TYXC"}


def imagej_pages(path, stack, description):
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(stack):
            text = description if number == 0 else None
            writer.write(page, metadata=None, contiguous=False, description=text)


@row("OME-TIFF in one file")
def _(folder):
    for axes, array, expected in [
        ("TYX", FILM[:, 0], FILM[:, 0]),
        ("CYX", FILM[0], np.moveaxis(FILM[0], 0, -1)),
        ("ZCYX", FILM, np.moveaxis(FILM, 1, -1)),
        ("CZYX", FILM.swapaxes(0, 1), np.moveaxis(FILM, 1, -1)),
        ("YXS", RGB, RGB),
    ]:
        for compression in (None, "lzw"):
            path = f"{axes}-{compression}.ome.tif"
            options = {"compression": compression, "ome": True, "metadata": {"axes": axes}}
            options["photometric"] = "rgb" if "S" in axes else "minisblack"
            tifffile.imwrite(folder / path, array, **options)
            kept = axes.replace("S", "C").replace("C", "") + "C" * ("C" in axes or "S" in axes)
            remark = "axis C holds 2 channels" if "C" in axes else None
            yield path, expected, remark, {"axes": kept}
    # One without a UUID of its own, whose file was given another name.
    old = (folder / "TYX-None.ome.tif").read_bytes()
    (folder / "renamed.ome.tif").write_bytes(old)
    yield "renamed.ome.tif", FILM[:, 0], None, {"axes": "TYX"}


@row("OME-TIFF of several files: the planes of this file")
def _(folder):
    pages = [GREY, GREY[::-1]]
    names = ["well_C0.ome.tif", "well_C1.ome.tif"]
    blocks = "".join(ome_block(c, name, names.index(name)) for c, name in enumerate(names))
    for number, name in enumerate(names):
        write_ome(folder / name, pages[number], ome_image(0, 2, blocks), number)
        yield name, pages[number], "1 of the 2 planes"
    lone = folder / "alone"
    lone.mkdir()
    write_ome(lone / names[1], pages[1], ome_image(0, 2, blocks), 1)
    yield f"alone/{names[1]}", pages[1], "1 of the 2 planes"
    positions = ["run_Pos0.ome.tif", "run_Pos1.ome.tif"]
    images = "".join(ome_image(n, 1, ome_block(0, name, n)) for n, name in enumerate(positions))
    for number, name in enumerate(positions):
        write_ome(folder / name, pages[number], images, number)
        yield name, pages[number]

    # Half of the slices in each file, two channels: pages 0 to 3 are Z 0 and 1.
    slices = ["run_Z0.ome.tif", "run_Z2.ome.tif"]
    blocks = "".join(
        f'<TiffData FirstZ="{2 * number}" IFD="0" PlaneCount="4">'
        f'<UUID FileName="{name}">urn:uuid:{number}</UUID></TiffData>'
        for number, name in enumerate(slices)
    )
    planes = RNG.integers(0, 256, (4, 2, 20, 31), dtype=np.uint8)
    for number, name in enumerate(slices):
        half = planes[2 * number : 2 * number + 2]
        write_ome(folder / name, half.reshape(4, 20, 31), ome_image(0, 2, blocks, z=4), number)
        yield name, np.moveaxis(half, 1, -1), "4 of the 8 planes", {"axes": "ZYXC"}


@row("OME-TIFF that was interrupted: its whole frames")
def _(folder):
    planes = RNG.integers(0, 256, (3, 2, 20, 31), dtype=np.uint8)
    for name, count, frames, remark in [
        ("five", 5, 2, "1 planes of an unfinished frame left out"),
        ("four", 4, 2, "4 of the 6 planes"),
    ]:
        pages = planes.reshape(6, 20, 31)[:count]
        write_ome(folder / f"{name}.ome.tif", pages, ome_image(0, 2, "", t=3), 0)
        expected = np.moveaxis(planes[:frames], 1, -1)
        yield f"{name}.ome.tif", expected, remark, {"axes": "TYXC"}


def ome_block(channel, name, number):
    return (
        f'<TiffData FirstC="{channel}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{number}</UUID></TiffData>'
    )


def ome_image(number, channels, blocks, z=1, t=1):
    each = "".join(f'<Channel ID="Channel:{number}:{c}"/>' for c in range(channels))
    return (
        f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" '
        f'Type="uint8" SizeX="31" SizeY="20" SizeC="{channels}" SizeZ="{z}" SizeT="{t}">'
        f"{each}{blocks}</Pixels></Image>"
    )


def write_ome(path, page, images, number):
    head = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    xml = f'<?xml version="1.0"?>{head} UUID="urn:uuid:{number}">{images}</OME>'
    tifffile.imwrite(path, page, description=xml.encode(), **PLAIN)


@row("Three or four planes that are one picture in colour")
def _(folder):
    for name, array, expected in [
        ("3", STACK[:3], np.moveaxis(STACK[:3], 0, -1)),
        ("4", STACK, np.moveaxis(STACK[:3], 0, -1)),
    ]:
        # What tifffile.imwrite makes of such a shape if nothing else is said.
        with warnings.catch_warnings():
            # That it will write a stack one day.
            warnings.simplefilter("ignore", DeprecationWarning)
            tifffile.imwrite(folder / f"{name}.tif", array)
        yield f"{name}.tif", expected, "photometric='minisblack'", {"axes": "YXC"}
        yield f"{name}.tif", array, None, {"override": "ZYX", "axes": "ZYX"}
        tifffile.imwrite(folder / f"{name}-stack.tif", array, photometric="minisblack")
        yield f"{name}-stack.tif", array, None, {"axes": "IYX"}


@row("Smaller copies, thumbnails and masks of the image in the same file")
def _(folder):
    large = RNG.integers(0, 256, (128, 160), dtype=np.uint8)
    tiles = {"tile": (64, 64), "metadata": None}
    for compression in (None, "lzw"):
        for marked in (0, 1):
            path = f"pages-{compression}-{marked}.tif"
            with tifffile.TiffWriter(folder / path) as writer:
                for step, kind in ((1, 0), (2, marked), (4, marked)):
                    options = {"subfiletype": kind, "compression": compression} | tiles
                    writer.write(large[::step, ::step], **options)
            yield path, large, "2 smaller copies"
        with tifffile.TiffWriter(folder / f"sub-{compression}.ome.tif", ome=True) as writer:
            options = {"tile": (64, 64), "compression": compression}
            writer.write(large, subifds=1, **options)
            writer.write(large[::2, ::2], subfiletype=1, **options)
        yield f"sub-{compression}.ome.tif", large
    with tifffile.TiffWriter(folder / "thumbnail.tif") as writer:
        writer.write(large, metadata=None)
        writer.write(np.dstack([large[::4, ::4]] * 3), subfiletype=1, metadata=None)
    yield "thumbnail.tif", large, "1 smaller copy"
    with tifffile.TiffWriter(folder / "mask.tif") as writer:
        writer.write(large, metadata=None)
        writer.write(large > 99, subfiletype=4, metadata=None)
    yield "mask.tif", large, "1 mask"


@row("MetaMorph's stacks, as an example of what tifffile puts into order")
def _(folder):
    # One page, the planes behind each other, and how many there are in the count of a tag.
    tags = [(code, "2I", 4, (0, 1) * 4, True) for code in (33628, 33629)]
    tifffile.imwrite(folder / "a.stk", STACK[0], extratags=tags, **PLAIN)
    with open(folder / "a.stk", "ab") as stream:
        stream.write(STACK[1:].tobytes())
    yield "a.stk", STACK
    content = (folder / "a.stk").read_bytes()
    (folder / "cut.stk").write_bytes(content[:-500])
    yield "cut.stk", "is truncated or damaged"


@row("Pixel size, unit, spacing and frame interval")
def _(folder):
    resolution = (1 / 0.108, 1 / 0.216)
    for unit, read in (("um", "um"), ("micron", "um"), ("\\u00B5m", "um"), ("nm", "nm")):
        path = f"imagej-{read}-{len(unit)}.tif"
        metadata = {"axes": "TYX", "unit": unit, "finterval": 2.0, "spacing": 0.5}
        tifffile.imwrite(
            folder / path, STACK, imagej=True, resolution=resolution, metadata=metadata
        )
        yield path, STACK, None, {"calibration": Calibration(0.108, 0.216, read, 0.5, 2.0)}
    metadata = {"axes": "TYX", "PhysicalSizeX": 0.108, "PhysicalSizeXUnit": "µm"}
    metadata |= {"PhysicalSizeY": 216, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.5}
    metadata |= {"TimeIncrement": 500.0, "TimeIncrementUnit": "ms"}
    tifffile.imwrite(folder / "a.ome.tif", STACK, ome=True, metadata=metadata)
    yield "a.ome.tif", STACK, None, {"calibration": Calibration(0.108, 0.216, "um", 0.5, 0.5)}
    options = {"resolution": (50000, 25000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "cm.tif", GREY, **options, **PLAIN)
    yield "cm.tif", GREY, None, {"calibration": Calibration(2e-5, 4e-5, "cm")}
    options = {"resolution": (72, 72), "resolutionunit": "INCH"}
    tifffile.imwrite(folder / "screen.tif", GREY, **options, **PLAIN)
    yield "screen.tif", GREY, None, {"calibration": Calibration()}


# Refused


@row("More than four channels")
def _(folder):
    five = RNG.integers(0, 256, (20, 31, 5), dtype=np.uint8)
    tifffile.imwrite(folder / "samples.tif", five, planarconfig="contig", **PLAIN)
    planes = np.moveaxis(five, -1, 0)
    tifffile.imwrite(folder / "planes.tif", planes, planarconfig="separate", **PLAIN)
    tifffile.imwrite(folder / "c.tif", planes, imagej=True, metadata={"axes": "CYX"})
    options = {"photometric": "rgb", "extrasamples": ["unspecified", "unspecified"]}
    tifffile.imwrite(folder / "rgb.tif", five, planarconfig="contig", metadata=None, **options)
    for name in ("samples", "planes", "c", "rgb"):
        yield f"{name}.tif", "has 5 channels"
    yield "c.tif", planes, None, {"override": "ZYX"}
    # Channels in the last axis, which tifffile writes as twenty pages of 31 x 5.
    tifffile.imwrite(folder / "last.tif", five)
    yield "last.tif", "20 pages of 31 x 5"


@row("More than one axis of slices")
def _(folder):
    five = np.zeros((2, 3, 2, 20, 31), np.uint8)
    tifffile.imwrite(folder / "a.tif", five, imagej=True, metadata={"axes": "TZCYX"})
    yield "a.tif", "has 5 axes, TZCYX of sizes (2, 3, 2, 20, 31), expected (H, W)"


@row("Images of different kinds in one file")
def _(folder):
    for name, second in {"size": GREY[:9], "colour": RGB, "dtype": DEEP}.items():
        with tifffile.TiffWriter(folder / f"{name}.tif") as writer:
            writer.write(GREY, photometric="minisblack")
            writer.write(second, photometric="rgb" if name == "colour" else "minisblack")
        yield f"{name}.tif", "holds 2 images of different kinds"


@row("OME-TIFF whose XML is damaged or of another image, or that holds several images")
def _(folder):
    image = ome_image(0, 1, "")
    write_ome(folder / "cut.ome.tif", GREY, image.replace("</Pixels>", ""), 0)
    yield "cut.ome.tif", "has damaged OME metadata (mismatched tag"
    write_ome(folder / "other.ome.tif", GREY[:, :20], image, 0)
    yield "other.ome.tif", "has pages of 20 x 20, expected 20 x 31, as its OME metadata says"
    two = image + ome_image(1, 1, '<TiffData IFD="1"/>')
    write_ome(folder / "two.ome.tif", STACK[:2], two, 0)
    yield "two.ome.tif", "holds 2 images of OME"
    write_ome(folder / "hole.ome.tif", STACK[:3], ome_image(0, 2, HOLE, t=3), 0)
    yield "hole.ome.tif", "holds 3 planes, expected 4"


HOLE = '<TiffData IFD="0" PlaneCount="1"/><TiffData IFD="1" FirstT="1" PlaneCount="2"/>'


@row("YCbCr without JPEG, CIELAB, raw sensor data, CMYK with a sign")
def _(folder):
    for photometric, name in ((6, "YCbCr without JPEG"), (8, "CIELAB"), (32803, "CFA")):
        array = GREY if photometric == 32803 else RGB
        tifffile.imwrite(folder / f"{photometric}.tif", array, metadata=None)
        set_tag(folder / f"{photometric}.tif", 262, photometric)
        yield f"{photometric}.tif", f"stores colour as {name}"

    cmyk = np.dstack([RGB, GREY]).astype(np.int16)
    tifffile.imwrite(folder / "signed.tif", cmyk, photometric="separated", metadata=None)
    yield "signed.tif", "stores CMYK as int16"


@row("Complex numbers, NaN and infinity")
def _(folder):
    tifffile.imwrite(folder / "complex.tif", REAL.astype(np.complex64), **PLAIN)
    yield "complex.tif", "has dtype complex64, expected real numbers"
    for value in (np.nan, np.inf, -np.inf):
        image = REAL.copy()
        image[3, 4] = value
        tifffile.imwrite(folder / f"{value}.tif", image, **PLAIN)
        yield f"{value}.tif", "holds 1 NaN or infinite value, the first at (3, 4)"


@row("Damaged files, files that are cut short, and stacks that lack pages")
def _(folder):
    whole = png(GREY, 8)
    (folder / "bit.png").write_bytes(whole[:200] + bytes([whole[200] ^ 4]) + whole[201:])
    yield "bit.png", "is truncated or damaged"
    (folder / "rows.png").write_bytes(png(GREY, 8, height=25))
    yield "rows.png", "640 bytes of image data, not 800"
    (folder / "few.png").write_bytes(png(GREY, 8, height=15))
    yield "few.png", "640 bytes of image data, not 480"
    tifffile.imwrite(folder / "strips.tif", GREY, rowsperstrip=5, compression="zlib", **PLAIN)
    set_tag(folder / "strips.tif", 257, 40, 278, 10)
    yield "strips.tif", "is truncated or damaged"
    tifffile.imwrite(folder / "planes.tif", RGB, photometric="rgb", metadata=None)
    set_tag(folder / "planes.tif", 284, 0)
    yield "planes.tif", "planar configuration 0"
    tifffile.imwrite(folder / "last.tif", STACK, compression="lzw", **PLAIN)
    content = bytearray((folder / "last.tif").read_bytes())
    with tifffile.TiffFile(folder / "last.tif") as tiff:
        page = tiff.pages[1]
        place = page.offset + 2 + 12 * len(list(page.tags))
    content[place : place + 4] = struct.pack("<I", 8)
    (folder / "last.tif").write_bytes(content)
    yield "last.tif", "page 3 does not lie where it should"
    imagej = {"imagej": True, "metadata": {"axes": "TYX"}}
    tifffile.imwrite(folder / "line.tif", STACK, **imagej)
    with tifffile.TiffFile(folder / "line.tif") as tiff:
        place = tiff.pages[2].tags[273].offset + 8
    content = bytearray((folder / "line.tif").read_bytes())
    content[place : place + 4] = struct.pack("<I", struct.unpack_from("<I", content, place)[0] + 4)
    (folder / "line.tif").write_bytes(content)
    yield "line.tif", "page 3 does not lie behind the last"
    with tifffile.TiffWriter(folder / "short.tif", imagej=True) as writer:
        writer.write(STACK, metadata=imagej["metadata"], truncate=True)
    os.truncate(folder / "short.tif", (folder / "short.tif").stat().st_size - 700)
    yield "short.tif", "is truncated"
    tifffile.imwrite(folder / "empty.tif", GREY, rowsperstrip=20, **PLAIN)
    set_tag(folder / "empty.tif", 279, 0)
    yield "empty.tif", "lacks 1 of its 1 strips or tiles"
    tifffile.imwrite(folder / "nowhere.tif", GREY, compression="zlib", **PLAIN)
    set_tag(folder / "nowhere.tif", 273, 0)
    yield "nowhere.tif", "lacks 1 of its 1 strips or tiles"


@row("Headers that promise more than the file or the machine can hold")
def _(folder):
    (folder / "claims.png").write_bytes(png(GREY, 8, height=40000, width=40000))
    yield "claims.png", "claims 1.49 GiB of pixels"
    (folder / "inflates.png").write_bytes(png(np.zeros((8, 8), np.uint8), 8, raw=bytes(10**7)))
    yield "inflates.png", "bytes of image data, not 72"
    for name, content in {
        "zeros": zeros_png(40000, 40000, 8, 0),
        "bits": zeros_png(60000, 60000, 1, 0),
        "rgba": zeros_png(20000, 20000, 8, 6),
    }.items():
        (folder / f"{name}.png").write_bytes(content)
        yield f"{name}.png", "expected less than 500 times its size above 1 GiB"
    tifffile.imwrite(folder / "wide.tif", GREY, compression="zlib", **PLAIN)
    set_tag(folder / "wide.tif", 256, 2**31 - 1)
    yield "wide.tif", "GiB of pixels, expected at most"
    tifffile.imwrite(folder / "rows.tif", GREY, compression="zlib", **PLAIN)
    set_tag(folder / "rows.tif", 257, 2**31 - 1, 278, 1)
    yield "rows.tif", "1 strips or tiles of 2147483647"
    stored = zlib.compress(bytes(10**8), 9)
    tifffile.imwrite(folder / "strip.tif", GREY[:8, :8], compression="zlib", **PLAIN)
    place = (folder / "strip.tif").stat().st_size
    with open(folder / "strip.tif", "ab") as stream:
        stream.write(stored)
    set_tag(folder / "strip.tif", 273, place, 279, len(stored))
    yield "strip.tif", "of data for 64 bytes of pixels"
    stream = io.BytesIO()
    Image.fromarray(SMOOTH).save(stream, "JPEG")
    (folder / "a.jpg").write_bytes(jpeg_of_size(stream.getvalue(), 65500))
    yield "a.jpg", "claims 4 GiB of pixels"
    tifffile.imwrite(folder / "jpeg.tif", SMOOTH, compression="jpeg", **PLAIN)
    (folder / "jpeg.tif").write_bytes(jpeg_of_size((folder / "jpeg.tif").read_bytes(), 65500))
    yield "jpeg.tif", "a codestream of 4 GiB"
    tifffile.imwrite(folder / "jp2.tif", DEEP, compression="jpeg2000", **PLAIN)
    content = bytearray((folder / "jp2.tif").read_bytes())
    place = content.find(b"\xff\x4f\xff\x51")
    content[place + 8 : place + 16] = struct.pack(">II", 60000, 60000)
    (folder / "jp2.tif").write_bytes(content)
    yield "jp2.tif", "a codestream of 3.35 GiB"
    description = "ImageJ=1.53t\nimages=999999999\nframes=999999999\n"
    tifffile.imwrite(folder / "frames.tif", GREY, description=description, **PLAIN)
    yield "frames.tif", "names 999999999 images and holds 1"


@row("Pipes, devices, folders, empty files and files of other kinds")
def _(folder):
    (folder / "empty.tif").touch()
    yield "empty.tif", "is empty (0 bytes)"
    (folder / "notes.tif").write_text("these are\nnotes")
    yield "notes.tif", "is not an image (starts with b'thes')"
    (folder / "folder.tif").mkdir()
    yield "folder.tif", "is a folder"
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
        yield "pipe.png", "is a pipe, expected a PNG, JPEG or TIFF image"
        (folder / "device.png").symlink_to("/dev/zero")
        yield "device.png", "is a device"


@row("Animations")
def _(folder):
    images = [Image.fromarray(page) for page in STACK]
    images[0].save(folder / "a.png", save_all=True, append_images=images[1:])
    yield "a.png", "is an animation of 4 pictures, expected one"


# Files by hand


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(array, bits, height=None, width=None, raw=None):
    """A grey PNG of few bits, whose header may say another size than there is."""
    if raw is None:
        places = np.arange(bits)[::-1]
        rows = (array[..., None] >> places & 1).reshape(len(array), -1).astype(np.uint8)
        raw = b"".join(b"\0" + np.packbits(one).tobytes() for one in rows)
    size = struct.pack(">II", width or array.shape[1], height or array.shape[0])
    header = size + bytes([bits, 0, 0, 0, 0])
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def zeros_png(height, width, bits, colour):
    """A whole PNG of zeros, made without holding its pixels."""
    total = height * (1 + width * bits * {0: 1, 6: 4}[colour] // 8)
    count, rest = divmod(total, 2**20)
    squeeze = zlib.compressobj(9, wbits=-15)
    # A block that refers to none before it may be repeated.
    block = squeeze.compress(bytes(2**20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    end = squeeze.compress(bytes(rest)) + squeeze.flush()
    adler = struct.pack(">HH", total % 65521, 1)
    data = b"\x78\xda" + block * count + end + adler
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def jpeg_of_size(content, side):
    changed = bytearray(content)
    place = content.find(b"\xff\xc0")
    changed[place + 5 : place + 9] = struct.pack(">HH", side, side)
    return bytes(changed)


def set_tag(path, *codes_and_values):
    """Other values of tags of the first page, as numbers of 32 bits."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        places = {tag.code: tag.offset for tag in tiff.pages[0].tags}
    for code, value in zip(codes_and_values[::2], codes_and_values[1::2], strict=True):
        struct.pack_into("<HII", content, places[code] + 2, 4, 1, value)
    path.write_bytes(content)


# The tests


def check(folder, name, expected, remark=None, options=None):
    options = dict(options or {})
    within, axes = options.pop("within", 0), options.pop("axes", None)
    calibration = options.pop("calibration", None)
    if "override" in options:
        options["axes"] = options.pop("override")
    path = folder / name
    if isinstance(expected, str):
        with pytest.raises(InputError) as caught:
            read_image(path, **options)
        text = str(caught.value)
        assert text.startswith(f"path: {path} ")
        assert expected in text
        assert "\n" not in text
        return
    image = open_image(path, **options)
    assert image.pixels.dtype == expected.dtype, name
    assert image.pixels.dtype.isnative
    assert image.pixels.shape == expected.shape, name
    if within:
        assert np.abs(image.pixels.astype(float) - expected).max() <= within, name
    else:
        np.testing.assert_array_equal(image.pixels, expected, err_msg=name)
    assert axes is None or image.axes == axes, name
    if remark is None:
        assert not image.remarks, name
    else:
        assert any(remark in one for one in image.remarks), (name, image.remarks)
    if calibration is not None:
        got = image.calibration
        assert got.unit == calibration.unit
        for key in ("width", "height", "spacing", "interval"):
            assert getattr(got, key) == pytest.approx(getattr(calibration, key)), (name, key)


@pytest.mark.parametrize("name", ROWS_OF_TABLE)
def test_row(tmp_path, name):
    cases = list(ROWS_OF_TABLE[name](tmp_path))
    assert cases
    for case in cases:
        check(tmp_path, *case)


def test_the_png_of_zeros_is_whole(tmp_path):
    (tmp_path / "a.png").write_bytes(zeros_png(2000, 1000, 8, 6))
    assert not read_image(tmp_path / "a.png").any()


def test_the_table_has_these_rows_and_no_others():
    # What comes after has the tests of `test_own_rows`.
    text = TABLE.read_text("utf-8").partition("## Values of masks")[0]
    rows = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    told = [one.strip() for one in rows if set(one) - set("-: ") and one.strip() != "what"]
    assert told == list(ROWS_OF_TABLE)
