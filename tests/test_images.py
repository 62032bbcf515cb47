"""`unet_np.images`: what is written elsewhere is read as it is; what is wrong is one line."""

import logging
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFile
from test_image_files import ROWS_OF_TABLE

from unet_np.errors import InputError, MissingExtraError
from unet_np.images import (
    Calibration,
    bounds,
    check_finite,
    normalise,
    open_image,
    read_image,
    to_grey,
    write_png,
    write_tiff,
)

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (20, 31), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (20, 31), dtype=np.uint16)
FLOAT = RNG.normal(size=(20, 31)).astype(np.float32)
RGB = RNG.integers(0, 256, (20, 31, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (20, 31, 4), dtype=np.uint8)
STACK = RNG.integers(0, 256, (5, 20, 31), dtype=np.uint8)


def message(call, *args, **kwargs):
    """The text of the InputError, checked to be one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


def same(got, expected):
    assert got.dtype == expected.dtype
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, expected)


# Reading


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (GREY8, {}),
        (GREY16, {}),
        (GREY16, {"byteorder": ">"}),
        (GREY16, {"bigtiff": True}),
        (GREY16, {"compression": "zlib", "predictor": 2}),
        (FLOAT, {}),
        (FLOAT.astype(np.float64), {"byteorder": ">"}),
        (GREY16.astype(np.int32) - 40000, {}),
        (STACK, {}),
        (STACK, {"compression": "zlib"}),
        (STACK, {"metadata": None}),
        (RGB, {"photometric": "rgb"}),
        (GREY8[:1], {}),
        (GREY8[:, :1], {}),
        (GREY8[:1, :1], {}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else f"{value.dtype}{value.shape}",
)
def test_tiff_as_it_is(tmp_path, array, options):
    tifffile.imwrite(tmp_path / "a.tif", array, **{"photometric": "minisblack"} | options)
    same(read_image(tmp_path / "a.tif"), array)


def test_tiff_with_separate_colour_planes(tmp_path):
    planes = np.ascontiguousarray(RGB.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    same(read_image(tmp_path / "a.tif"), RGB)


def test_tiff_stack_of_colour_images(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([RGB, RGB[::-1]]), photometric="rgb")
    same(read_image(tmp_path / "a.tif"), np.stack([RGB, RGB[::-1]]))


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_tiff_stack_of_imagej(tmp_path, axes):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": axes})
    same(read_image(tmp_path / "a.tif"), STACK)


READ_WITHOUT_IMAGECODECS = """
import sys
sys.modules["imagecodecs"] = None
import numpy as np
from unet_np.errors import InputError
from unet_np.images import read_image
folder = sys.argv[1]
for name in sys.argv[2:]:
    try:
        np.save(f"{folder}/{name}.npy", read_image(f"{folder}/{name}"))
    except InputError as error:
        print(error)
assert sys.modules["imagecodecs"] is None
"""


def read_without_imagecodecs(folder, *names):
    """Read each file in a process that has no imagecodecs, into NAME.npy; its printed lines."""
    command = [sys.executable, "-W", "error", "-c", READ_WITHOUT_IMAGECODECS, str(folder), *names]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_imagecodecs_what_tifffile_reads_alone_is_read(tmp_path):
    plain = {"photometric": "minisblack", "metadata": None}
    expected = {}
    for name, array, options in [
        ("none", GREY16, {}),
        ("deflate", FLOAT, {"compression": "zlib"}),
        ("predicted", GREY16, {"compression": "zlib", "predictor": 2}),
        ("packbits", GREY8, {"compression": "packbits"}),
        ("lzma", GREY16, {"compression": "lzma"}),
        ("big-endian", GREY16, {"compression": "zlib", "byteorder": ">"}),
        ("bool", GREY8 > 99, {}),
    ]:
        tifffile.imwrite(tmp_path / f"{name}.tif", array, **options, **plain)
        expected[f"{name}.tif"] = array
    assert not read_without_imagecodecs(tmp_path, *expected)
    for name, array in expected.items():
        same(np.load(tmp_path / f"{name}.npy"), array)


def test_without_imagecodecs_anything_else_is_one_line(tmp_path):
    plain = {"photometric": "minisblack", "metadata": None}
    for name, array, options in [
        ("LZW", GREY16, {"compression": "lzw"}),
        ("ZSTD", GREY16, {"compression": "zstd"}),
        ("JPEG", GREY8, {"compression": "jpeg"}),
        ("ADOBE_DEFLATE", FLOAT, {"compression": "zlib", "predictor": 3}),
        ("NONE", GREY16 % 4096, {"bitspersample": 12}),
    ]:
        tifffile.imwrite(tmp_path / f"{name}.tif", array, **options, **plain)
        (line,) = read_without_imagecodecs(tmp_path, f"{name}.tif")
        assert line.startswith(
            f"path: {tmp_path / name}.tif is {name}-compressed {array.dtype} of "
        )
        assert line.endswith("which needs imagecodecs; pip install 'unet-np[io]'")
        if name != "JPEG":
            same(read_image(tmp_path / f"{name}.tif"), array)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(RGB.astype(np.uint16)))
    (line,) = read_without_imagecodecs(tmp_path, "deep.png")
    assert "is a 16-bit PNG in colour or with alpha, which needs imagecodecs" in line


@pytest.mark.parametrize("array", [GREY8, GREY16, RGB, GREY8 > 99], ids=lambda a: str(a.shape))
def test_png_as_it_is(tmp_path, array):
    Image.fromarray(array).save(tmp_path / "a.png")
    same(read_image(tmp_path / "a.png"), array)


def test_png_with_palette(tmp_path):
    image = Image.fromarray(GREY8 % 4, mode=None).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "colour.png")
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    same(read_image(tmp_path / "colour.png"), colours[GREY8 % 4])
    image.putpalette([0, 0, 0, 9, 9, 9, 90, 90, 90, 255, 255, 255])
    image.save(tmp_path / "grey.png")
    same(read_image(tmp_path / "grey.png"), np.array([0, 9, 90, 255], np.uint8)[GREY8 % 4])


def test_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(40)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    got = read_image(tmp_path / "a.jpg")
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - smooth).max() <= 3
    Image.fromarray(RGB).save(tmp_path / "b.jpeg")
    assert read_image(tmp_path / "b.jpeg").shape == RGB.shape


def test_the_content_decides_and_not_the_name(tmp_path):
    Image.fromarray(GREY8).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    same(read_image(tmp_path / "a.tif"), GREY8)


def test_images_past_pillows_limit_are_read(tmp_path, monkeypatch):
    Image.fromarray(GREY8).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    same(read_image(tmp_path / "a.png"), GREY8)
    assert Image.MAX_IMAGE_PIXELS == 10


# Wrong files


def test_missing_folder_empty_and_other_files(tmp_path):
    missing = tmp_path / "none.png"
    assert message(read_image, missing) == (
        f"path: {missing} does not exist, expected a PNG, JPEG or TIFF image"
    )
    assert "is a folder" in message(read_image, tmp_path)
    (tmp_path / "empty.tif").touch()
    assert "is empty (0 bytes)" in message(read_image, tmp_path / "empty.tif")
    (tmp_path / "notes.tif").write_text("these are\nnotes")
    text = message(read_image, tmp_path / "notes.tif")
    assert text.endswith(
        "is not an image (starts with b'thes'), expected a PNG, JPEG or TIFF image"
    )
    assert "cannot be read" in message(read_image, "a\0b.png")
    assert message(read_image, 3).startswith("path: got int")


def test_the_argument_is_named(tmp_path):
    assert message(read_image, tmp_path / "a.png", argument="--mask").startswith("--mask: ")


def example_files(folder):
    Image.fromarray(GREY8).save(folder / "a.png")
    Image.fromarray(RGB).save(folder / "a.jpg")
    Image.fromarray(GREY16).save(folder / "lzw.tif", compression="tiff_lzw")
    tifffile.imwrite(folder / "plain.tif", GREY16)
    tifffile.imwrite(folder / "stack.tif", STACK, compression="zlib", photometric="minisblack")
    tifffile.imwrite(folder / "imagej.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    return sorted(folder.iterdir())


def read_or_message(file):
    """The image, or the one line that says why not; any other exception fails the test."""
    try:
        return read_image(file)
    except InputError as error:
        text = str(error)
    assert "\n" not in text
    return text


def test_truncated_files_are_refused_or_lack_no_pixel(tmp_path, capfd):
    for file in example_files(tmp_path):
        whole, content = read_image(file), file.read_bytes()
        refused = 0
        for length in np.linspace(1, len(content) - 1, 40).astype(int):
            file.write_bytes(content[:length])
            got = read_or_message(file)
            if isinstance(got, str):
                refused += 1
            else:
                same(got, whole)
        assert refused >= 30, file
        file.write_bytes(content[: len(content) // 2])
        assert "is truncated or damaged (" in message(read_image, file)
    assert "Traceback" not in capfd.readouterr().err


def test_damaged_files_raise_nothing_else(tmp_path):
    for file in example_files(tmp_path):
        content = file.read_bytes()
        for place in RNG.integers(8, len(content), 40):
            changed = bytearray(content)
            changed[place] ^= 0x5A
            file.write_bytes(changed)
            read_or_message(file)


def test_every_flipped_bit_of_a_png_is_noticed(tmp_path):
    labels = (np.indices((40, 50))[1] // 7).astype(np.uint8)
    write_png(tmp_path / "a.png", labels)
    content = (tmp_path / "a.png").read_bytes()
    for place in range(8, len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        (tmp_path / "a.png").write_bytes(changed)
        message(read_image, tmp_path / "a.png")


def test_threads_do_not_hear_each_other(tmp_path):
    files = example_files(tmp_path)
    whole = {file: read_image(file) for file in files}
    damaged = []
    for file in files:
        content = file.read_bytes()
        for place in (len(content) // 3, len(content) // 2, len(content) - 9):
            path = tmp_path / f"{place}-damaged-{file.name}"
            path.write_bytes(content[:place])
            damaged.append(path)
    before = state_of_libraries()

    def read_all(number):
        for path in damaged[number::2] * 3:
            read_or_message(path)
        return [read_or_message(file) for file in files]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(read_all, [0, 1] * 12):
            for file, got in zip(files, found, strict=True):
                same(got, whole[file])
    assert state_of_libraries() == before


def state_of_libraries():
    logger = logging.getLogger("tifffile")
    return (
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        list(warnings.filters),
        logger.propagate,
        logger.level,
        list(logger.handlers),
    )


def test_damage_is_seen_without_a_log(tmp_path):
    example = tmp_path / "a.tif"
    tifffile.imwrite(example, STACK, compression="zlib", photometric="minisblack")
    content = example.read_bytes()
    places = [content.find(np.array([tag], "<u2").tobytes(), 8) for tag in (258, 273)]
    level = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        for place in places:
            changed = bytearray(content)
            changed[place + 2 : place + 12] = b"\x04\0\xff\xff\xff\x0f\xf0\xff\xff\x7f"
            example.write_bytes(changed)
            assert "is truncated or damaged" in message(read_image, example)
    finally:
        logging.disable(level)


MEASURE = """
import sys
from unet_np.errors import InputError
from unet_np.images import read_image
import imagecodecs, tifffile, PIL.PngImagePlugin, PIL.JpegImagePlugin, time
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
for file in sys.argv[1:]:
    before, began = peak(), time.perf_counter()
    try:
        read_image(file)
    except InputError:
        print(peak() - before, time.perf_counter() - began)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what was used")
def test_what_promises_too_much_costs_nothing(tmp_path):
    name = "Headers that promise more than the file or the machine can hold"
    files = [str(tmp_path / case[0]) for case in ROWS_OF_TABLE[name](tmp_path)]
    command = [sys.executable, "-c", MEASURE, *files]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    costs = [[float(one) for one in line.split()] for line in done.stdout.splitlines()]
    assert len(costs) == len(files)
    assert max(megabytes for megabytes, _ in costs) < 200
    assert max(seconds for _, seconds in costs) < 1


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_more_than_the_memory_that_is_free(tmp_path, monkeypatch, name):
    image = Image.fromarray(np.zeros((400, 500), np.uint8))
    image.save(tmp_path / name)
    assert read_image(tmp_path / name).shape == (400, 500)
    monkeypatch.setattr(bounds, "available_memory", lambda: 300000)
    assert message(read_image, tmp_path / name) == (
        f"path: {tmp_path / name} needs 391 KiB of memory, expected at most 293 KiB, which is free "
        "here"
    )


def test_a_memory_error_is_no_damage(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", GREY8)

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(tifffile.TiffPage, "asarray", full)
    assert message(read_image, tmp_path / "a.tif") == (
        f"path: {tmp_path / 'a.tif'} needs more memory than there is, expected a smaller image"
    )


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says what was used")
def test_a_process_with_a_limit_says_so(tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros((9000, 9000), np.float32))
    code = """
import sys, numpy, tifffile, imagecodecs
from unet_np.images import bounds, read_image
import resource
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + 2**28,) * 2)
try:
    read_image(sys.argv[1])
except ValueError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a.tif")]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert "needs 618 MiB of memory, expected at most 256 MiB, which is free here" in done.stdout


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(tmp_path, value):
    image = FLOAT.copy()
    image[3, 4] = value
    tifffile.imwrite(tmp_path / "a.tif", image)
    assert message(read_image, tmp_path / "a.tif") == (
        f"path: {tmp_path / 'a.tif'} holds 1 NaN or infinite value, the first at (3, 4), "
        "expected finite numbers"
    )
    image[5:7, 0] = value
    assert message(check_finite, image, "image") == (
        "image holds 3 NaN or infinite values, the first at (3, 4), expected finite numbers"
    )
    assert "NaN" in message(normalise, image)


def test_too_many_axes(tmp_path):
    five = np.zeros((2, 3, 2, 20, 31), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", five, imagej=True, metadata={"axes": "TZCYX"})
    text = message(read_image, tmp_path / "a.tif")
    assert "has 5 axes, TZCYX of sizes (2, 3, 2, 20, 31), expected (H, W)" in text


def test_images_of_different_sizes_in_one_file(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY8, photometric="minisblack")
        writer.write(GREY8[:9], photometric="minisblack")
    text = message(read_image, tmp_path / "a.tif")
    assert "holds 2 images of different kinds ((20, 31), (9, 31)), expected one image" in text


def test_complex_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", FLOAT.astype(np.complex64))
    text = message(read_image, tmp_path / "a.tif")
    assert text.endswith("has dtype complex64, expected real numbers")


@pytest.mark.parametrize(("library", "name"), [("PIL.Image", "a.png"), ("tifffile", "a.tif")])
def test_a_missing_library_is_named(tmp_path, monkeypatch, library, name):
    write_png(tmp_path / "a.png", GREY8)
    write_tiff(tmp_path / "a.tif", GREY8)
    package = library.split(".")[0]

    class NotInstalled:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"pip install 'unet-np\[io\]'"):
        read_image(tmp_path / name)


# Grey and normalised


def test_grey_is_bt601_and_not_rounded():
    expected = 0.299 * RGB[..., 0] + 0.587 * RGB[..., 1] + 0.114 * RGB[..., 2]
    got = to_grey(RGB)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    # Pillow uses the same formula in integers of 16 bits.
    pillow = np.asarray(Image.fromarray(RGB).convert("L"), int)
    assert np.abs(got - pillow).max() <= 1


def test_grey_keeps_what_a_dim_channel_holds():
    # Blue alone, up to 22 of 255, as a nuclear stain is exported: three grey values if rounded.
    blue = np.stack([GREY8 * 0, GREY8 * 0, GREY8 % 23], -1)
    np.testing.assert_allclose(normalise(to_grey(blue)), normalise(GREY8 % 23), atol=1e-5)


def test_grey_of_every_shape():
    same(to_grey(GREY8), GREY8)
    same(to_grey(STACK), STACK)
    same(to_grey(GREY16[..., None]), GREY16)
    same(to_grey(np.stack([RGB, RGB])), np.stack([to_grey(RGB)] * 2))
    assert to_grey(RGB.astype(np.float32)).dtype == np.float32
    assert to_grey(RGB.astype(np.int32)).dtype == np.float64
    for dtype in (bool, np.uint8, np.uint16, np.int32, np.float64):
        three = np.repeat(GREY8[..., None], 3, axis=2).astype(dtype)
        same(to_grey(three), GREY8.astype(dtype))


@pytest.mark.parametrize("count", [2, 4])
def test_channels_that_have_no_common_grey(count):
    assert message(to_grey, RGBA[..., :count]) == (
        f"image: got {count} channels, expected one, or red, green and blue; give one of them, or "
        "three, as an image of its own"
    )


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (2, 2, 3, 4, 3), (4, 4, 0), ()])
def test_grey_of_no_image(shape):
    assert message(to_grey, np.zeros(shape)) == (
        f"image: got shape {shape}, expected (H, W), (H, W, 1 to 4 channels) or a stack (N, H, W)"
    )


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    image=arrays(np.float64, (3, 6, 7), elements=st.floats(-1e3, 1e3, width=16)),
    gain=st.floats(0.01, 100),
    offset=st.floats(-1e3, 1e3),
)
def test_normalise(image, gain, offset):
    got = normalise(image)
    assert got.dtype == np.float32
    for one, original in zip(got, image, strict=True):
        if original.std() < 1e-3:
            continue
        assert abs(one.astype(float).mean()) < 1e-5
        assert abs(one.astype(float).std() - 1) < 1e-5
        oracle = (original - original.mean()) / original.std()
        np.testing.assert_allclose(one, oracle, atol=1e-4)
        np.testing.assert_allclose(normalise(gain * original + offset), one, atol=2e-2)


@pytest.mark.parametrize("value", [0, 7, 0.1, -3.3, 1e300, 5e-324])
def test_normalise_a_constant_image(value):
    same(normalise(np.full((9, 11), value)), np.zeros((9, 11), np.float32))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_normalise_every_dtype(dtype):
    image = (np.arange(60).reshape(6, 10) % 2).astype(dtype)
    same(normalise(image), (np.arange(60).reshape(6, 10) % 2 * 2 - 1).astype(np.float32))


def test_normalise_does_not_overflow():
    assert np.isfinite(normalise(np.array([[1.7e308, -1.7e308], [0, 1]]))).all()


def test_normalise_refuses():
    assert "to_grey makes grey from colour" in message(normalise, RGB)
    assert "got shape (5,)" in message(normalise, np.zeros(5))
    assert "got dtype complex128" in message(normalise, np.zeros((5, 5), complex))


# Writing


@pytest.mark.parametrize(
    ("array", "axes", "stored"),
    [
        (GREY8, None, GREY8),
        (GREY16, None, GREY16),
        (FLOAT, None, FLOAT),
        (FLOAT.astype(np.float64), None, FLOAT),
        (GREY8 > 99, None, np.where(GREY8 > 99, 255, 0).astype(np.uint8)),
        (GREY16.astype(np.int64), None, GREY16),
        (STACK, None, STACK),
        (STACK, "TYX", STACK),
        (np.stack([FLOAT, -FLOAT]), "CYX", np.stack([FLOAT, -FLOAT], -1)),
        (RGB, "YXS", RGB),
    ],
)
def test_write_tiff(tmp_path, array, axes, stored):
    path = tmp_path / "new folder" / "a.tif"
    write_tiff(path, array, axes=axes)
    same(read_image(path), stored)
    assert [file.name for file in path.parent.iterdir()] == ["a.tif"]
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_imagej
        default = {2: "YX", 3: "ZYX"}[array.ndim]
        assert tiff.series[0].axes == (axes or default)


def test_write_tiff_axes_of_two_kinds(tmp_path):
    array = RNG.random((3, 2, 20, 31)).astype(np.float32)
    write_tiff(tmp_path / "a.tif", array)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.imagej_metadata["slices"] == 3
        assert tiff.imagej_metadata["channels"] == 2
        assert tiff.imagej_metadata["mode"] == "grayscale"
        np.testing.assert_array_equal(tiff.asarray(), array)


def test_write_tiff_slice_labels(tmp_path):
    array = np.zeros((2, 8, 8), np.float32)
    write_tiff(tmp_path / "a.tif", array, axes="CYX", labels=["membrane", "cell"])
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert list(tiff.imagej_metadata["Labels"]) == ["membrane", "cell"]
    text = message(write_tiff, tmp_path / "a.tif", array, axes="CYX", labels=["cell"])
    assert text == "labels: got 1, expected 2, one for each slice"


@pytest.mark.parametrize(
    ("array", "axes", "part"),
    [
        (GREY8, "ZYX", "axes: got ZYX for an array of shape (20, 31)"),
        (STACK, "QYX", "axes: got QYX"),
        (np.zeros((2, 2, 4, 4)), "CZYX", "of TZCYXS in this order"),
        (STACK, "YX", "axes: got YX"),
        (GREY8, "XY", "axes: got XY"),
        (np.zeros(4), None, "axes: got None for an array of shape (4,)"),
        (np.zeros((0, 4)), None, "array: got shape (0, 4), expected at least one pixel"),
        (GREY16[..., None].repeat(3, 2), "YXS", "array: got uint16 (20, 31, 3) for RGB"),
        (GREY8.astype(complex), None, "array: got dtype complex128"),
        (np.array([["a", "b"]]), None, "array: got dtype <U1"),
        (np.array([[0, 65536]]), None, "array: got int64 from 0 to 65536, expected 0 to 65535"),
        (np.array([[-1, 5]]), None, "array: got int64 from -1 to 5"),
        (np.array([[0, np.nan]]), None, "array: holds 1 NaN"),
        (np.array([[0, 1e39]]), None, "array: as float32, holds 1 NaN or infinite value"),
    ],
)
def test_write_tiff_refuses_and_leaves_nothing(tmp_path, array, axes, part):
    assert part in message(write_tiff, tmp_path / "a.tif", array, axes=axes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "CYX", "TCYX"])
@pytest.mark.parametrize("unit", ["um", "nm", "cm", "Å"])
def test_a_calibration_comes_back(tmp_path, axes, unit):
    array = np.zeros([{"T": 3, "Z": 4, "C": 2, "Y": 20, "X": 31}[one] for one in axes], np.uint8)
    calibration = Calibration(0.108, 0.216, unit, 0.5, 2.5)
    write_tiff(tmp_path / "a.tif", array, axes=axes, calibration=calibration)
    image = open_image(tmp_path / "a.tif")
    assert image.axes == axes.replace("CYX", "YXC")
    got = image.calibration
    assert (got.width, got.height) == pytest.approx((0.108, 0.216))
    assert (got.unit, got.spacing) == (unit, 0.5)
    assert got.interval == (2.5 if "T" in axes else None)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", GREY8)

    def full_disk(path, *args, **kwargs):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_tiff(tmp_path / "a.tif", GREY16)
    same(read_image(tmp_path / "a.tif"), GREY8)
    assert len(list(tmp_path.iterdir())) == 1


def test_names_of_written_files(tmp_path):
    assert "expected .tif or .tiff" in message(write_tiff, tmp_path / "a.png", GREY8)
    assert "expected .png" in message(write_png, tmp_path / "a.tif", GREY8)
    assert "got the folder" in message(write_png, make(tmp_path / "x.png"), GREY8)
    write_tiff(tmp_path / "a.TIFF", GREY8)
    same(read_image(tmp_path / "a.TIFF"), GREY8)


def make(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("array", [GREY8, GREY16, RGB, RGBA, GREY8[::2, ::-1]])
def test_write_png(tmp_path, array):
    write_png(tmp_path / "a.png", array)
    with Image.open(tmp_path / "a.png") as image:
        same(np.asarray(image).astype(array.dtype), array)
    same(read_image(tmp_path / "a.png"), array[..., :3] if array.ndim == 3 else array)


@pytest.mark.parametrize(
    "array", [FLOAT, STACK, GREY16.astype(int), np.zeros((0, 3), np.uint8), RGB.astype(np.uint16)]
)
def test_write_png_refuses(tmp_path, array):
    text = message(write_png, tmp_path / "a.png", array)
    assert text.startswith(f"array: got {array.dtype} {array.shape}, expected uint8 (H, W)")
    assert not list(tmp_path.iterdir())


# What is written is read


SIDES = st.integers(1, 12)
STORED = {
    "tif": [bool, np.uint8, np.uint16, np.int16, np.int64, np.float16, np.float32, np.float64],
    "png": [bool, np.uint8, np.uint16],
}


@st.composite
def writable(draw, kind):
    """An array that `write_tiff` or `write_png` takes."""
    dtype = np.dtype(draw(st.sampled_from(STORED[kind])))
    # Wider than 4, so that the last axis of a stack is never taken for channels.
    front = draw(st.lists(st.integers(2, 4), max_size=1 if kind == "tif" else 0))
    shape = (*front, draw(SIDES), draw(st.integers(5, 12)))
    if dtype.kind == "f":
        elements = st.floats(-1e4, 1e4, width=16)
    elif dtype.kind == "b":
        elements = st.booleans()
    else:
        elements = st.integers(0, min(65535, np.iinfo(dtype).max))
    return draw(arrays(dtype, shape, elements=elements))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), kind=st.sampled_from(["tif", "png"]))
def test_round_trip(tmp_path, data, kind):
    array = data.draw(writable(kind))
    path = tmp_path / f"a.{kind}"
    (write_tiff if kind == "tif" else write_png)(path, array)
    got = read_image(path)
    expected = array * 255 if array.dtype == bool else array
    assert got.dtype in (np.uint8, np.uint16, np.float32)
    # An axis of one is no axis to a TIFF reader; here only the height can be one.
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(to_grey(got), got)
    assert [file.name for file in tmp_path.iterdir() if file.suffix == f".{kind}"] == [path.name]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    start=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0"]
    ),
    rest=st.binary(max_size=200),
)
def test_noise_after_a_signature_is_one_line(tmp_path, start, rest):
    (tmp_path / "a.tif").write_bytes(start + rest)
    assert message(read_image, tmp_path / "a.tif").startswith(f"path: {tmp_path / 'a.tif'} ")
