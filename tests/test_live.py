"""The page "The network in your browser", in a real one: its numbers are the package's."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
from browser import new_page, serious_violations, serve, watched_pages
from PIL import Image
from scipy.ndimage import gaussian_filter

from unet_np import Architecture, UNet, predict_tiled, segment
from unet_np.files.weights import read_metadata
from unet_np.images import normalise, read_image, to_grey
from unet_np.pretrained import NAMES, load
from unet_np.pretrained import path as pretrained_file
from unet_np.tasks.segmentation import grown_instances, instances
from unet_np.tiling.plan import plan_axis
from unet_np.tiling.statistics import reference_windows

ROOT = Path(__file__).resolve().parent.parent
CHANGES = ("blur", "hide", "turn")
ROUNDING = 5e-5
"""Of probabilities in float32, which the package's faster convolutions round more than the page."""
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Live</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="widgets/load.js" defer></script></head>
<body><main><h1>Live</h1><div data-widget="live">Fallback.</div>
{}</main></body></html>"""
EXPERIMENT = '<div data-widget="live-{}">Fallback.</div>'

Open = Callable[..., Any]


def live_extension() -> ModuleType:
    spec = importlib.util.spec_from_file_location("book_live", ROOT / "tools" / "book_live.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


extension = live_extension()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The widgets as the book's build leaves them, and a page with all that is live."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "book" / "_static" / "widgets", folder / "widgets")
    extension.write(folder / "widgets" / "live")
    page = PAGE.format("".join(EXPERIMENT.format(change) for change in CHANGES))
    (folder / "page.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with serve(site) as running:
        yield running


@pytest.fixture
def open_live(browser: Any, address: str) -> Iterator[Open]:
    """Open the page; at the end nothing has failed, and nothing was asked of another place."""
    with watched_pages(browser, address, f"blob:{address}") as new:

        def opened(**options: Any) -> Any:
            page = new(**options)
            page.goto(f"{address}/page.html")
            page.wait_for_function("document.querySelectorAll('[data-ready=true]').length === 4")
            page.evaluate(HELPERS)
            return page

        yield opened


@pytest.fixture(scope="module")
def engine_page(browser: Any, address: str) -> Iterator[Any]:
    """One page for all tests that call functions and leave the widgets alone."""
    page = new_page(browser)
    page.goto(f"{address}/page.html")
    page.wait_for_selector("[data-ready=true]")
    page.evaluate(HELPERS)
    yield page
    page.context.close()


# Arrays travel as base64: a list of a million numbers takes Playwright long.
HELPERS = """() => {
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const send = (array) => {
        const all = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
        let text = "";
        for (let i = 0; i < all.length; i += 32768)
            text += String.fromCharCode(...all.subarray(i, i + 32768));
        return btoa(text);
    };
    const { live } = window.unetWidgets;
    const engine = live.engine(live.kernels());
    window.testing = {
        bytes, send, engine,
        floats: (text) => new Float32Array(bytes(text).buffer),
        file: (text, name) => new File([bytes(text)], name),
    };
}"""


def sent(array: np.ndarray | bytes) -> str:
    raw = array if isinstance(array, bytes) else np.ascontiguousarray(array, np.float32).tobytes()
    return base64.b64encode(raw).decode("ascii")


def received(text: str, dtype: Any = np.float32) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def random_network(
    path: Path, seed: int = 0, metadata: dict[str, str] | None = None, **options: Any
) -> tuple[UNet, dict[str, Any]]:
    """A network with biases and with statistics, and what the page needs of it."""
    net = UNet(backend="numpy", seed=seed, **options)
    rng = np.random.default_rng(seed)
    for name, array in net.state.items():
        if name.endswith(("bias", "mean")):
            array[...] = rng.normal(0, 0.3, array.shape)
        elif array.ndim == 1:  # scales and variances of a normalisation
            array[...] = rng.uniform(0.5, 2, array.shape)
    net.save(path, metadata=metadata)
    about = {"table": extension.table(net.architecture), "weights": sent(path.read_bytes())}
    return net, about


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def every_layer(net: UNet, x: np.ndarray) -> dict[str, np.ndarray]:
    """What each layer gives, before the next one may change it in place."""
    run, found = net.begin_pass(), {}
    for layer in net.architecture.layers:
        x = run.forward(layer, x)
        found[layer.name] = np.array(x)
    return found


FORWARD = """async ([about, kind, tile, height, width]) => {
    const { engine, bytes, floats, send } = window.testing;
    const net = engine.network(about.table, bytes(about.weights).buffer, kind);
    const found = {};
    for (const { layer, map } of net.forward(floats(tile), height, width))
        found[layer.name] = [[map.channels, map.height, map.width], send(net.values(map))];
    return [found, net.machine.kind];
}"""


# ---- the engine


def test_the_browser_of_the_tests_runs_both_engines(engine_page: Any) -> None:
    kinds = engine_page.evaluate("window.unetWidgets.live.kernels().available()")
    assert kinds == ["simd", "javascript"]


NETWORKS = [
    ({"base_channels": 3, "depth": 1}, (22, 30)),
    ({"base_channels": 5, "depth": 2, "in_channels": 3, "num_classes": 3}, (60, 48)),
    ({"base_channels": 4, "depth": 3, "num_classes": 5}, (108, 124)),
    ({"base_channels": 16, "depth": 4}, (188, 220)),
]


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize("kind", ["simd", "javascript"])
@pytest.mark.parametrize(("options", "size"), NETWORKS, ids=["1", "2", "3", "4"])
def test_every_layer_is_the_package_s(
    engine_page: Any,
    tmp_path: Path,
    kind: str,
    options: dict[str, int],
    size: tuple[int, int],
    norm: str,
) -> None:
    net, about = random_network(tmp_path / "net.safetensors", norm=norm, **options)
    tile = np.random.default_rng(1).normal(size=(net.architecture.in_channels, *size))
    tile = tile.astype(np.float32)
    seen = every_layer(net, tile[None])
    found, used = engine_page.evaluate(FORWARD, [about, kind, sent(tile), *size])
    assert used == kind
    assert list(found) == [layer.name for layer in net.architecture.layers]
    for name, (shape, values) in found.items():
        expected = seen[name][0]
        assert tuple(shape) == expected.shape
        assert relative(received(values).reshape(shape), expected) < 1e-4, name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["simd", "javascript"])
def test_logits_of_each_sample_are_the_package_s(engine_page: Any, name: str, kind: str) -> None:
    image = np.asarray(Image.open(extension.SAMPLES / f"{name}.png"))
    tile = normalise(image)[:316, :316]
    found = engine_page.evaluate(
        """async ([name, kind, tile]) => {
            const { engine, bytes, floats, send } = window.testing;
            const { live } = window.unetWidgets;
            const about = await live.session.load(`weights/${name}`);
            const net = engine.network(about.table, bytes(about.weights).buffer, kind);
            let last;
            for (const { map } of net.forward(floats(tile), 316, 316)) last = map;
            return send(net.values(last));
        }""",
        [name, kind, sent(tile)],
    )
    expected = load(name, backend="numpy").forward(tile[None, None])[0]
    assert relative(received(found).reshape(expected.shape), expected) < 1e-4


def test_a_layer_that_is_not_known_is_named(engine_page: Any, tmp_path: Path) -> None:
    options: dict[str, Any]
    for options, line in (
        ({"padding": 1}, "contract1.conv1: got a layer of kind conv (padding 1), expected one of"),
        ({"up": "nearest"}, "expand1.upsample: got a layer of kind upsample (padding 0)"),
    ):
        _, about = random_network(tmp_path / "n.safetensors", base_channels=2, depth=1, **options)
        with pytest.raises(Exception, match="got a layer of kind") as error:
            engine_page.evaluate(FORWARD, [about, "javascript", sent(np.zeros((16, 16))), 16, 16])
        assert line in str(error.value)


@pytest.mark.parametrize("depth", range(1, 6))
def test_sizes_tiles_and_receptive_fields_are_the_package_s(engine_page: Any, depth: int) -> None:
    network = Architecture(depth=depth)
    step, least = network.size_step, network.min_input_size
    sizes = [1, 2, 3, step - 1, step, step + 1, 100, 131, 512, 700]
    tiles = [least + network.margin + n * step for n in (1, 2, 5, 9)]
    tiles = [tile - (tile - least) % step for tile in tiles]
    found = engine_page.evaluate(
        """([table, sizes, tiles]) => {
            const { engine } = window.testing;
            const pixels = Array.from({ length: 2 * table.size_step }, (_, i) => i);
            return {
                fields: pixels.map((pixel) => engine.receptiveField(table, pixel)),
                tiles: sizes.map((size) => engine.tileFor(table, size)),
                valid: Array.from({ length: 400 }, (_, i) => engine.isValid(table, i)),
                plans: sizes.map((size) => tiles.map((tile) => engine.planAxis(table, size, tile))),
            };
        }""",
        [extension.table(network), sizes, tiles],
    )
    assert found["fields"] == [list(network.receptive_field(i)) for i in range(2 * step)]
    assert found["tiles"] == [network.input_size_for_output(size) for size in sizes]
    assert found["valid"] == [network.is_valid_input(i) for i in range(400)]
    for (size, tile), plan in zip(
        product(sizes, tiles), [plan for row in found["plans"] for plan in row], strict=True
    ):
        used = min(tile, network.input_size_for_output(size))
        spans = plan_axis(network, size, used)
        assert [(span.start, span.place.start, span.place.stop) for span in spans] == [
            (one["start"], one["from"], one["to"]) for one in plan
        ]
        assert all(one["tile"] == used for one in plan)


def test_grey_values_are_normalised_as_the_package_does(engine_page: Any) -> None:
    rng = np.random.default_rng(0)
    for image in (
        rng.integers(0, 256, (9, 11)),
        rng.integers(0, 65536, (30, 20)),
        1e30 * rng.normal(size=(5, 5)),
        np.full((3, 3), 7.0),
        np.zeros((1, 1)),
    ):
        values = image.astype(np.float32)
        found = engine_page.evaluate(
            "(v) => { const { engine, floats, send } = window.testing;"
            " return send(engine.normalise(floats(v))); }",
            sent(values),
        )
        np.testing.assert_allclose(
            received(found).reshape(values.shape), normalise(values), rtol=0, atol=1e-6
        )


WHOLE = """async ([about, image, height, width, tile, averaging]) => {
    const { session } = window.unetWidgets.live;
    const { bytes, floats, send } = window.testing;
    await session.ask({ do: "network", table: about.table, buffer: bytes(about.weights).buffer });
    await session.ask({ do: "image", values: floats(image), height, width });
    const parts = [];
    const { answer, total } = await session.ask({ do: "whole", tile, averaging },
        (event, data) => event === "part" && parts.push(data.done));
    return [send(answer), total, parts];
}"""


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize(
    ("size", "tile", "averaging", "count"),
    [
        ((75, 131), 60, 1, 28),
        ((75, 131), 108, 1, 4),
        ((13, 7), 60, 1, 1),
        ((2, 90), 108, 7, 14),
        ((61, 83), 92, 7, 28),
    ],
)
def test_an_image_in_tiles_is_the_package_s(
    engine_page: Any,
    tmp_path: Path,
    size: tuple[int, int],
    tile: int,
    averaging: int,
    count: int,
    norm: str,
) -> None:
    net, about = random_network(tmp_path / "net.safetensors", base_channels=4, depth=2, norm=norm)
    image = np.random.default_rng(2).integers(0, 256, size).astype(np.float32)
    answer, total, parts = engine_page.evaluate(WHOLE, [about, sent(image), *size, tile, averaging])
    expected = predict_tiled(net, normalise(image), averaging=averaging)[1]
    np.testing.assert_allclose(received(answer).reshape(size), expected, rtol=0, atol=ROUNDING)
    assert parts == list(range(1, total + 1))
    assert total == count


def test_a_large_image_is_normalised_by_windows_as_in_the_package(
    engine_page: Any, tmp_path: Path
) -> None:
    options = {"base_channels": 2, "depth": 1, "norm": "instance"}
    net, about = random_network(tmp_path / "net.safetensors", **options)
    size = (1030, 1101)
    # Dark above and light below: the statistics of a tile are not those of the image.
    ramp = np.linspace(0, 255, size[0], dtype=np.float32)[:, None]
    image = ramp + np.random.default_rng(2).normal(0, 30, size).astype(np.float32)
    assert len(reference_windows(net.architecture, size)[1]) == 9
    answer, _, _ = engine_page.evaluate(WHOLE, [about, sent(image), *size, 444, 1])
    expected = predict_tiled(net, normalise(image))[1]
    np.testing.assert_allclose(received(answer).reshape(size), expected, rtol=0, atol=ROUNDING)


def test_reference_windows_are_the_package_s(engine_page: Any) -> None:
    sizes = [(1, 1), (512, 512), (520, 696), (840, 840), (841, 841), (2048, 2048)]
    sizes += [(30, 40000), (40000, 1), (900, 1100)]
    for depth in range(1, 6):
        network = Architecture(depth=depth)
        found = engine_page.evaluate(
            """([table, sizes]) => {
                const { engine } = window.testing;
                return sizes.map((size) => engine.referenceWindows(table, ...size));
            }""",
            [extension.table(network), sizes],
        )
        for size, windows in zip(sizes, found, strict=True):
            window, corners = reference_windows(network, size)
            assert [(one["top"], one["left"]) for one in windows] == corners
            assert {(one["height"], one["width"]) for one in windows} == {window}


def test_statistics_are_measured_in_less_memory_than_a_tile_is_watched_in(
    engine_page: Any, tmp_path: Path
) -> None:
    options = {"base_channels": 4, "depth": 4, "norm": "instance"}
    net, about = random_network(tmp_path / "net.safetensors", **options)
    tile = np.random.default_rng(0).normal(size=(316, 316)).astype(np.float32)
    watched, measured, statistics = engine_page.evaluate(
        """([about, tile]) => {
            const { engine, bytes, floats } = window.testing;
            const file = bytes(about.weights).buffer;
            const made = () => engine.network(about.table, file, "javascript");
            const [one, other, found] = [made(), made(), {}];
            Array.from(one.forward(floats(tile), 316, 316));
            Array.from(other.measure([floats(tile)], 316, 316, found));
            return [one.machine.heap.length, other.machine.heap.length, found];
        }""",
        [about, sent(tile)],
    )
    assert measured < 0.45 * watched
    expected = net.statistics(tile[None, None])
    assert list(statistics) == list(expected)
    for name, (mean, var) in expected.items():
        np.testing.assert_allclose(
            np.transpose(statistics[name]), [mean, var], rtol=0, atol=ROUNDING
        )


# ---- cells


@pytest.mark.parametrize("erosion", [0, 1, 2.5])
@pytest.mark.parametrize("seed", range(4))
def test_cells_are_numbered_as_the_package_does(
    engine_page: Any, seed: int, erosion: float
) -> None:
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(70, 90)), 2 + seed % 3)
    probability = (1 / (1 + np.exp(-8 * noise / noise.std()))).astype(np.float32)
    # A ring, whose middle is background that one cell encloses.
    probability[20:40, 30:50], probability[26:34, 36:44] = 0.99, 0.1
    limits = {"seeds": 0.9, "threshold": 0.3, "min_area": 12, "erosion": erosion}
    grown, parts = engine_page.evaluate(
        """([probability, limits]) => {
            const { cells } = window.unetWidgets.live;
            const { floats, send } = window.testing;
            const values = floats(probability);
            return [limits, null].map((one) => {
                const { ids, count } = cells.number(values, 70, 90, one, one ? 0.3 : 0.5);
                return [send(ids), count];
            });
        }""",
        [sent(probability), limits],
    )
    expected, found = grown_instances(probability, 0.9, 0.3, min_area=12, erosion=erosion)
    assert len(found) == grown[1] > 1
    np.testing.assert_array_equal(received(grown[0], np.int32).reshape(70, 90), expected)
    expected, found = instances((probability > 0.5).astype(np.uint8))
    assert len(found) == parts[1]
    np.testing.assert_array_equal(received(parts[0], np.int32).reshape(70, 90), expected)


# ---- files


READ = """async ([text, name, options]) => {
    const { files } = window.unetWidgets.live;
    const { file, send } = window.testing;
    try {
        const { values, ...about } = await files.read(file(text, name), options);
        return { ...about, values: send(values) };
    } catch (error) {
        return { error: error.message, tooLarge: Boolean(error.tooLarge) };
    }
}"""


def read(browser_page: Any, raw: bytes, name: str = "image", **options: Any) -> dict[str, Any]:
    found = browser_page.evaluate(READ, [sent(raw), name, options])
    if "values" in found:
        found["values"] = received(found["values"]).reshape(found["height"], found["width"])
    return found


def tiff(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def picture(array: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def expected_grey(tmp_path: Path, raw: bytes) -> np.ndarray:
    (tmp_path / "image").write_bytes(raw)
    return to_grey(read_image(tmp_path / "image"))


def same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal, up to the rounding of the three products that make grey of colour."""
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=1e-6, atol=0)


def some(dtype: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(size=shape).astype(kind)
    info = np.iinfo(kind)
    # Half of it in runs, so that compression has words to find.
    array = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    array[: shape[0] // 2] = array[0, 0]
    return array


TIFFS = {
    **{
        f"{dtype} {order} {compression} {predictor}": (
            some(dtype, 37, 23),
            {"byteorder": order, "compression": compression, "predictor": predictor},
        )
        for dtype in ("uint8", "uint16", "int16", "uint32")
        for order in "<>"
        for compression, predictor in ((None, None), ("zlib", None), ("zlib", True))
    },
    "float32": (some("float32", 9, 8), {}),
    "float32 deflate": (some("float32", 9, 8), {"compression": "zlib"}),
    "strips": (some("uint16", 50, 31), {"rowsperstrip": 7, "compression": "zlib"}),
    "tiles": (some("uint8", 50, 70), {"tile": (16, 32), "compression": "zlib"}),
    "rgb": (some("uint8", 20, 30, 3), {"photometric": "rgb"}),
    "rgb predicted": (
        some("uint16", 20, 30, 3),
        {"photometric": "rgb", "compression": "zlib", "predictor": True},
    ),
    "rgba": (some("uint8", 20, 30, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "grey and alpha": (
        some("uint16", 20, 30, 2),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
    ),
    "counted from white": (some("uint16", 20, 30), {"photometric": "miniswhite"}),
    "counted from white, with a sign": (some("int16", 20, 30), {"photometric": "miniswhite"}),
    **{
        f"orientation {n}": (some("uint8", 20, 31), {"extratags": [(274, 3, 1, n, True)]})
        for n in range(1, 9)
    },
}


@pytest.mark.parametrize("name", TIFFS)
def test_a_tiff_is_read_as_the_package_does(engine_page: Any, tmp_path: Path, name: str) -> None:
    array, options = TIFFS[name]
    raw = tiff(array, **options)
    found = read(engine_page, raw)
    same(found["values"], expected_grey(tmp_path, raw))
    assert found["bits"] == 8 * array.dtype.itemsize
    assert found["colour"] == (array.ndim == 3 and array.shape[2] > 2)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "raw"])
@pytest.mark.parametrize(
    "array",
    [some("uint8", 300, 400), some("uint16", 120, 77), some("uint8", 60, 50, 3)],
    ids=["uint8", "uint16", "rgb"],
)
def test_a_tiff_of_pillow_is_read(
    engine_page: Any, tmp_path: Path, compression: str, array: np.ndarray
) -> None:
    raw = picture(array, "TIFF", compression=compression)
    found = read(engine_page, raw)
    same(found["values"], expected_grey(tmp_path, raw))


def test_lzw_reads_long_words_and_full_tables(engine_page: Any, tmp_path: Path) -> None:
    for array in (np.zeros((400, 900), np.uint8), some("uint8", 500, 600) // 32):
        raw = picture(array, "TIFF", compression="tiff_lzw")
        found = read(engine_page, raw)
        np.testing.assert_array_equal(found["values"], array.astype(np.float32))


def test_a_page_of_a_stack_is_chosen(engine_page: Any) -> None:
    stack = some("uint16", 4, 12, 10)
    for page in range(4):
        found = read(engine_page, tiff(stack, photometric="minisblack"), page=page)
        assert found["pages"] == 4
        np.testing.assert_array_equal(found["values"], stack[page].astype(np.float32))


def png16(samples: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits whose rows take the five filters in turn."""
    height, width, count = samples.shape
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    step, lines, above = 2 * count, [], np.zeros(rows.shape[1], int)
    for y, row in enumerate(rows):
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        guess = left + above - corner
        near = [abs(guess - one) for one in (left, above, corner)]
        paeth = np.where(
            (near[0] <= near[1]) & (near[0] <= near[2]),
            left,
            np.where(near[1] <= near[2], above, corner),
        )
        prediction = (np.zeros_like(row), left, above, (left + above) // 2, paeth)[y % 5]
        lines.append(bytes([y % 5, *((row - prediction) % 256)]))
        above = row

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(lines))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", data[:99]), chunk(b"IDAT", data[99:])]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour_type", "count"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_png_of_16_bits_keeps_them(engine_page: Any, colour_type: int, count: int) -> None:
    samples = np.random.default_rng(3).integers(0, 65536, (23, 17, count))
    found = read(engine_page, png16(samples, colour_type))
    expected = to_grey(samples[..., : 1 if count < 3 else 3].astype(np.uint16))
    same(found["values"], expected)
    assert (found["bits"], found["colour"]) == (16, count > 2)


def test_other_pngs_are_read_by_the_browser(engine_page: Any, tmp_path: Path) -> None:
    palette = Image.fromarray(some("uint8", 20, 30, 3)).quantize(8)
    stream = io.BytesIO()
    palette.save(stream, "PNG")
    bits = Image.fromarray(some("uint8", 20, 30) > 99)
    one = io.BytesIO()
    bits.save(one, "PNG")
    for raw, scale in (
        (picture(some("uint8", 20, 30), "PNG"), 1),
        (picture(some("uint8", 20, 30, 3), "PNG"), 1),
        (stream.getvalue(), 1),
        (one.getvalue(), 255),
    ):
        expected = expected_grey(tmp_path, raw).astype(np.float32) * scale
        same(read(engine_page, raw)["values"], expected)


def test_a_jpeg_is_turned_as_its_exif_says(engine_page: Any, tmp_path: Path) -> None:
    smooth = 128 + 900 * gaussian_filter(np.random.default_rng(0).normal(size=(40, 64)), 4)
    image = Image.fromarray(smooth.clip(0, 255).astype(np.uint8))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=95, exif=exif)
        found = read(engine_page, stream.getvalue())
        expected = expected_grey(tmp_path, stream.getvalue())
        np.testing.assert_allclose(found["values"], expected, rtol=0, atol=2)


def test_a_jpeg_is_read_by_the_browser(engine_page: Any, tmp_path: Path) -> None:
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(60, 80)), 4)
    raw = picture((128 + 900 * smooth).clip(0, 255).astype(np.uint8), "JPEG", quality=95)
    found = read(engine_page, raw)
    np.testing.assert_allclose(found["values"], expected_grey(tmp_path, raw), rtol=0, atol=2)


NAN = np.ones((4, 6), np.float32)
NAN[2, 3] = NAN[3, 0] = np.nan
BAD = {
    "empty": (b"", "bad is empty, expected a PNG, JPEG or TIFF image."),
    "text": (
        b"hello",
        "bad is no image that can be read here, expected a PNG, JPEG or TIFF image.",
    ),
    "cut png": (picture(some("uint8", 40, 40), "PNG")[:300], "bad is truncated or damaged"),
    "cut png of 16 bits": (
        png16(np.random.default_rng(0).integers(0, 65536, (9, 9, 1)), 0)[:120],
        "bad is truncated or damaged",
    ),
    "headless jpeg": (b"\xff\xd8\xff\xe0", "bad is truncated or damaged"),
    "cut jpeg": (picture(some("uint8", 40, 40), "JPEG")[:100], "bad is truncated or damaged"),
    "cut tiff": (tiff(some("uint8", 40, 40))[:1000], "bad is truncated or damaged"),
    "cut lzw": (
        picture(some("uint8", 40, 40), "TIFF", compression="tiff_lzw")[:-900],
        "bad is truncated or damaged",
    ),
    "no directory": (b"II*\0\0\0\0\0", "bad holds no image, expected"),
    "nan": (tiff(NAN), "bad holds 2 NaN or infinite values, the first at (2, 3), expected finite"),
    "big tiff": (tiff(some("uint8", 4, 4), bigtiff=True), "bad is a BigTIFF, expected a TIFF"),
    "doubles": (tiff(some("float64", 4, 4)), "bad has samples of 64 bits (format 3), expected"),
    "bits": (picture(some("uint8", 9, 9) > 99, "TIFF"), "bad has samples of 1 bits (format 1)"),
    "four channels": (
        tiff(some("uint8", 9, 9, 4), photometric="rgb", extrasamples=["unspecified"]),
        "bad has 4 channels, expected one, or red, green and blue.",
    ),
    "planes": (
        tiff(some("uint8", 3, 9, 9), photometric="rgb", planarconfig="separate"),
        "bad has its colours in separate planes, expected",
    ),
    "jpeg in tiff": (
        picture(some("uint8", 16, 16), "TIFF", compression="jpeg"),
        "bad is JPEG, expected uncompressed, deflate, LZW or PackBits.",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(engine_page: Any, name: str) -> None:
    raw, line = BAD[name]
    found = read(engine_page, raw, "bad")
    assert found["error"].startswith(line)
    assert "\n" not in found["error"]
    assert found["error"].endswith(".")
    assert not found["tooLarge"]


def test_a_large_image_is_refused_and_its_middle_can_be_cut(engine_page: Any) -> None:
    array = (np.arange(17_000)[:, None] * 7 + np.arange(260) * 3).astype(np.uint16)
    for raw in (
        tiff(array, compression="zlib"),
        tiff(array, tile=(256, 128), compression="zlib"),
        picture(array.astype(np.uint8), "PNG"),
        png16(array[:, :, None], 0),
    ):
        found = read(engine_page, raw, "large")
        assert found["tooLarge"]
        assert found["error"].startswith("large has 17000 x 260 pixels, expected at most 2048 x")
        found = read(engine_page, raw, "large", cut=True)
        top = 7476
        expected = array[top : top + 2048]
        if found["bits"] == 8:
            expected = expected.astype(np.uint8)
        np.testing.assert_array_equal(found["values"], expected.astype(np.float32))


@pytest.mark.parametrize("most", [1, 255, 256, 65535])
def test_a_label_map_is_a_png_of_its_numbers(engine_page: Any, most: int) -> None:
    ids = np.random.default_rng(0).integers(0, most, (31, 45), endpoint=True).astype(np.int32)
    ids[0, 0] = most
    text = engine_page.evaluate(
        """async (text) => {
            const { bytes, send } = window.testing;
            const ids = new Int32Array(bytes(text).buffer);
            const png = await window.unetWidgets.live.files.writePng(ids, 45, 31);
            return send(new Uint8Array(await png.arrayBuffer()));
        }""",
        sent(ids.tobytes()),
    )
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.verify()
    array = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert array.dtype == (np.uint8 if most < 256 else np.uint16)
    np.testing.assert_array_equal(array, ids)


# ---- the page

SESSION = "window.unetWidgets.live.session"


def status(page: Any) -> str:
    return page.locator("[data-widget=live] [role=status]").inner_text()


def alert(page: Any) -> str:
    return page.locator("[data-widget=live] [role=alert]").inner_text()


def wait_idle(page: Any, words: str) -> None:
    """Wait for a status with these words, or fail with what went wrong instead."""
    page.wait_for_function(
        """(words) => {
            const place = document.querySelector('[data-widget=live]');
            const said = place.querySelector('[role=status]').textContent.includes(words);
            const failed = !place.querySelector('[role=alert]').hidden;
            return !window.unetWidgets.live.session.busy && (said || failed);
        }""",
        arg=words,
    )
    assert words in status(page), alert(page)


def choose_sample(page: Any, name: str = "EM membranes", tile: int = 220) -> None:
    page.get_by_label("tiles of").select_option(str(tile))
    page.get_by_role("button", name=name).click()
    wait_idle(page, "took")


def give(page: Any, raw: bytes, name: str) -> None:
    page.get_by_label("or a file of your own").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": raw}
    )


def test_nothing_is_loaded_before_it_is_asked_for(open_live: Open, address: str) -> None:
    page = open_live()
    asked: list[str] = []
    names = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    assert not [name for name in names if "/weights/" in name or "/samples/" in name]
    loaded = page.evaluate(
        """performance.getEntriesByType('resource')
            .reduce((sum, one) => sum + one.decodedBodySize, 0)"""
    )
    assert 50_000 < loaded < 150_000
    page.on("request", lambda request: asked.append(request.url.removeprefix(address)))
    choose_sample(page)
    scripts = [path for path in asked if not path.startswith("blob:")]
    assert scripts == ["/widgets/live/samples/em.js", "/widgets/live/weights/em.js"]


def test_page_fits_a_phone_and_is_accessible(open_live: Open) -> None:
    page = open_live(width=390, scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not serious_violations(page)
    choose_sample(page)
    page.locator("#live-box-2").click()
    page.locator(".live-channel").first.click()
    page.wait_for_selector(".live-large canvas")
    page.get_by_role("button", name="Hide and compare").click()
    page.wait_for_selector("[data-widget=live-hide] .live-bar")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not serious_violations(page)


def test_boxes_fill_with_the_shapes_of_the_package(open_live: Open) -> None:
    page = open_live()
    choose_sample(page)
    tabs = page.get_by_role("tab")
    labels = [tabs.nth(i).get_attribute("aria-label") for i in range(tabs.count())]
    architecture = Architecture(base_channels=16)
    expected = [("input", (1, 1, 220, 220))] + [
        (layer.name, shape)
        for layer, shape in architecture.shapes((1, 1, 220, 220))
        if layer.kind in ("relu", "pool", "crop_concat") or layer.name == "output"
    ]
    for label, (name, (_, *shape)) in zip(labels, expected, strict=True):
        assert label.startswith(f"{name}: {' × '.join(map(str, shape))}, ")
        assert label.endswith(" ms")
    assert page.locator(".live-box.live-done").count() == len(expected)
    assert "220 × 220 pixels took" in status(page)


def test_a_box_shows_its_channels_most_active_first_by_keyboard(open_live: Open) -> None:
    page = open_live()
    choose_sample(page)
    page.locator("[role=tab][tabindex='0']").focus()
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('#live-panel').textContent.includes('output:')")
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "document.querySelector('#live-panel').textContent.includes('contract2.pool: 16 channels')"
    )
    channels = page.locator(".live-channel")
    assert channels.count() == 16
    means = [float(text.split(": ")[1]) for text in channels.all_inner_texts()]
    assert means == sorted(means, reverse=True)
    image = np.asarray(Image.open(extension.SAMPLES / "em.png"))
    tile = normalise(image)[82:302, 82:302]  # the middle of 384, on the grid of 16
    seen = every_layer(load("em", backend="numpy"), tile[None, None])
    expected = np.abs(seen["contract2.pool"][0]).mean(axis=(1, 2))
    order = [int(text.split(": ")[0]) for text in channels.all_inner_texts()]
    assert order == list(np.argsort(-expected))
    np.testing.assert_allclose(means, expected[order], rtol=0.06)
    page.locator("[role=tab][aria-selected=true]").press("ArrowRight")
    page.get_by_role("button", name="Show all 32").press("Enter")
    page.wait_for_function("document.querySelectorAll('.live-channel').length === 32")
    channels.first.press("Enter")
    page.wait_for_selector(".live-large canvas")
    assert "in full, 106 × 106" in page.inner_text(".live-large")


def test_every_control_has_a_name_and_a_stop_of_the_tab_key(open_live: Open) -> None:
    page = open_live()
    choose_sample(page)
    wanted = page.evaluate(
        """[...document.querySelectorAll(
            '[data-widget] :is(input, select, button, [tabindex="0"])')]
            .filter((one) => one.checkVisibility() && !one.disabled && one.tabIndex >= 0).length"""
    )
    assert wanted >= 20
    seen = []
    for _ in range(wanted - 1):  # the sample's button has the focus
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                """() => {
                const one = document.activeElement;
                window.stops = window.stops || new Set();
                window.stops.add(one);
                return [one.getAttribute('aria-label') || (one.labels && one.labels.length
                    ? one.labels[0].textContent : one.textContent),
                    getComputedStyle(one).outlineStyle, window.stops.size];
            }"""
            )
        )
    assert all(label.strip() for label, _, _ in seen)
    assert all(outline != "none" for _, outline, _ in seen), seen
    assert seen[-1][-1] == wanted - 1


@pytest.mark.parametrize(("name", "words"), [("hela", "HeLa cells"), ("u373", "U373 cells")])
def test_a_whole_sample_is_segmented_as_by_the_command_line(
    open_live: Open, name: str, words: str, tmp_path: Path
) -> None:
    page = open_live()
    choose_sample(page, words)
    page.get_by_label("tiles of").select_option("444")
    page.get_by_role("button", name="Segment the whole image").click()
    wait_idle(page, "Done")
    image = np.asarray(Image.open(extension.SAMPLES / f"{name}.png"))
    expected = segment(load(name, backend="numpy"), image).probabilities[1]
    found = received(
        page.evaluate("window.testing.send(window.unetWidgets.live.session.image.answer)")
    ).reshape(image.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    limits = page.evaluate("window.unetWidgets.live.session.network.limits")
    high, low = limits.pop("seeds"), limits.pop("threshold")
    assert limits.pop("averaging") == 7  # by the command line; here where its box is ticked
    ids, cells = grown_instances(found, high, low, **limits)
    assert f"{len(cells)} parts are numbered" in status(page)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the label map").click()
    assert waiting.value.suggested_filename == f"{name}-labels.png"
    waiting.value.save_as(tmp_path / "labels.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "labels.png")), ids)


def test_a_network_with_instance_normalisation_and_its_own_cells(
    open_live: Open, tmp_path: Path
) -> None:
    limits = {"seeds": 0.6, "threshold": 0.4, "min_area": 9, "erosion": 1.5}
    about_cells = {"cells": json.dumps(limits)}
    options = {"base_channels": 4, "depth": 2, "norm": "instance"}
    path = tmp_path / "hela.safetensors"
    net, about = random_network(path, metadata=about_cells, **options)
    page = open_live()
    script = f"window.unetWidgets.live.receive('weights/hela', {json.dumps(about)});"
    page.route("**/weights/hela.js", lambda route: route.fulfill(body=script))
    page.get_by_label("network").select_option("hela")
    page.get_by_label("tiles of").select_option("220")
    image = gaussian_filter(np.random.default_rng(4).normal(size=(150, 230)), 5)
    image = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    give(page, picture(image, "PNG"), "mine.png")
    wait_idle(page, "took")
    assert page.get_by_label("threshold").input_value() == "0.4"
    expected = predict_tiled(net, normalise(image))[1]
    answer = "window.testing.send(window.unetWidgets.live.session.image.answer)"
    tile = received(page.evaluate(answer)).reshape(image.shape)
    known = ~np.isnan(tile)
    assert 0 < known.mean() < 1
    np.testing.assert_allclose(tile[known], expected[known], rtol=0, atol=ROUNDING)
    page.get_by_role("button", name="Segment the whole image").click()
    wait_idle(page, "Done")
    found = received(page.evaluate(answer)).reshape(image.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)
    ids, cells = grown_instances(found, 0.6, 0.4, min_area=9, erosion=1.5)
    assert ids.max() != grown_instances(found, 0.6, 0.4, min_area=9)[0].max()
    assert f"{len(cells)} parts are numbered" in status(page)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the label map").click()
    waiting.value.save_as(tmp_path / "labels.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "labels.png")), ids)
    page.get_by_role("button", name="Show its receptive field").click()
    assert "Mean and variance of each channel are those of the whole image" in status(page)


def test_the_threshold_moves_what_is_numbered(open_live: Open) -> None:
    page = open_live()
    choose_sample(page, tile=444)
    page.get_by_role("button", name="Segment the whole image").click()
    wait_idle(page, "Done")
    page.get_by_label("over the image").select_option("numbered")
    page.wait_for_function(
        "document.querySelector('[role=status]').textContent.includes('parts are numbered')"
    )
    first = status(page)
    canvas = page.locator("[data-widget=live] canvas").first
    before = canvas.screenshot()
    page.get_by_label("threshold").fill("0.9")
    page.wait_for_function(
        "(first) => document.querySelector('[role=status]').textContent !== first", arg=first
    )
    answer = received(
        page.evaluate("window.testing.send(window.unetWidgets.live.session.image.answer)")
    ).reshape(384, 384)
    share = 100 * float((answer > np.float32(0.9)).mean())
    _, cells = instances((answer > np.float32(0.9)).astype(np.uint8))
    assert status(page) == (
        f"{share:.1f} % of the pixels are cell; {len(cells)} parts are numbered."
    )
    assert canvas.screenshot() != before


def test_a_click_cuts_a_tile_there_with_the_answer_of_the_whole(open_live: Open) -> None:
    page = open_live()
    choose_sample(page)
    canvas = page.locator("[data-widget=live] canvas").first
    box = canvas.bounding_box()
    canvas.click(position={"x": 0.25 * box["width"], "y": 0.75 * box["height"]})
    wait_idle(page, "took")
    row, column = page.evaluate("window.unetWidgets.live.session.point")
    assert abs(row - 288) <= 2
    assert abs(column - 96) <= 2
    answer = received(
        page.evaluate("window.testing.send(window.unetWidgets.live.session.image.answer)")
    ).reshape(384, 384)
    known = ~np.isnan(answer)
    assert known.sum() > 36 * 36  # the first tile's, and this one's
    assert known[row, column]
    image = np.asarray(Image.open(extension.SAMPLES / "em.png"))
    expected = segment(load("em", backend="numpy"), image).probabilities[1]
    np.testing.assert_allclose(answer[known], expected[known], rtol=0, atol=1e-3)


def test_a_pixel_of_the_answer_shows_its_receptive_field(open_live: Open) -> None:
    page = open_live()
    choose_sample(page)
    architecture = Architecture(base_channels=16)
    page.get_by_label("row").fill("200")
    page.get_by_label("column").fill("7")
    page.get_by_role("button", name="Show its receptive field").click()
    rows, columns = (
        [edge + at - at % 16 - 92 for edge in architecture.receptive_field(at % 16)]
        for at in (200, 7)
    )
    text = status(page)
    assert "Pixel (200, 7):" in text
    assert f"rows {rows[0]} to {rows[1]} and columns {columns[0]} to {columns[1]}" in text
    assert "what lies outside of the image is mirrored" in text
    page.locator("[data-widget=live] .unet-views canvas").nth(1).click()
    page.wait_for_function(
        "document.querySelector('[role=status]').textContent.includes('no other pixel has a say')"
    )
    assert "cell with probability 0." in status(page)


def test_stop_stops_and_the_page_goes_on(open_live: Open) -> None:
    page = open_live()
    choose_sample(page)
    page.get_by_label("mean over 7 turned versions").check()
    page.get_by_role("button", name="Segment the whole image").click()
    page.wait_for_function(
        "/^Tile \\d+ of/.test(document.querySelector('[role=status]').textContent)"
    )
    assert page.locator("[data-widget=live]").get_attribute("aria-busy") == "true"
    assert page.locator("[data-widget=live] progress").get_attribute("value") != "0"
    page.get_by_role("button", name="Stop").first.click()
    wait_idle(page, "Stopped. What was computed stays.")
    known = page.evaluate(
        "window.unetWidgets.live.session.image.answer.filter((p) => p >= 0).length"
    )
    assert 0 < known < 384 * 384
    assert page.get_by_role("button", name="Download the label map").is_disabled()
    page.get_by_role("button", name="Watch the tile here").click()
    wait_idle(page, "took")


@pytest.mark.parametrize("name", ["text", "nan", "cut png"])
def test_a_bad_file_leaves_the_page_as_it_was(open_live: Open, name: str) -> None:
    page = open_live()
    choose_sample(page)
    raw, line = BAD[name]
    give(page, raw, "bad")
    page.wait_for_selector("[data-widget=live] [role=alert]:not([hidden])")
    assert alert(page).startswith(line)
    assert page.evaluate("window.unetWidgets.live.session.image.name") == "em"
    page.get_by_role("button", name="Watch the tile here").click()
    wait_idle(page, "took")
    assert page.locator("[data-widget=live] [role=alert]").is_hidden()


def test_one_pixel_and_one_grey_are_refused_in_a_line(open_live: Open) -> None:
    page = open_live()
    for array, where in (
        (np.full((1, 1), 9), "its only pixel"),
        (np.full((5, 7), 9), "every pixel"),
    ):
        give(page, picture(array.astype(np.uint8), "PNG"), "grey.png")
        page.wait_for_selector("[data-widget=live] [role=alert]:not([hidden])")
        page.wait_for_function(
            "(w) => document.querySelector('[role=alert]').textContent.includes(w)", arg=where
        )
        assert alert(page) == (
            f"grey has the value 9 in {where}, expected an image with something in it."
        )


def test_an_image_of_one_s_own_in_colour_and_of_an_odd_size(open_live: Open) -> None:
    page = open_live()
    page.get_by_label("tiles of").select_option("220")
    colour = some("uint8", 33, 51, 3)
    give(page, picture(colour, "PNG"), "mine.png")
    wait_idle(page, "took")
    assert "It is a colour image; the network reads its grey values." in status(page)
    page.get_by_role("button", name="Segment the whole image").click()
    wait_idle(page, "Done: 33 × 51 pixels")
    found = received(
        page.evaluate("window.testing.send(window.unetWidgets.live.session.image.answer)")
    ).reshape(33, 51)
    expected = segment(load("em", backend="numpy"), colour).probabilities[1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_an_image_is_dropped_anywhere_on_the_page(open_live: Open) -> None:
    page = open_live()
    page.get_by_label("tiles of").select_option("220")
    drop = """([text, name]) => {
        const data = new DataTransfer();
        if (text) data.items.add(window.testing.file(text, name));
        const how = { dataTransfer: data, bubbles: true, cancelable: true };
        const event = new DragEvent("drop", how);
        document.querySelector("h1").dispatchEvent(event);
        return event.defaultPrevented;
    }"""
    assert page.evaluate(drop, ["", ""])
    assert alert(page) == "What was dropped is no file, expected a PNG, JPEG or TIFF image."
    assert page.evaluate(drop, [sent(picture(some("uint8", 40, 50), "PNG")), "dropped.png"])
    wait_idle(page, "took")
    assert page.evaluate(f"{SESSION}.image.name") == "dropped"


def test_a_large_image_is_cut_on_request(open_live: Open) -> None:
    page = open_live()
    page.get_by_label("tiles of").select_option("220")
    array = (np.arange(2049)[:, None] % 251 + np.arange(2050) % 5).astype(np.uint8)
    give(page, picture(array, "PNG"), "large.png")
    page.get_by_role("button", name="Take its middle, 2048 × 2048").click()
    wait_idle(page, "took")
    size = page.evaluate(f"[{SESSION}.image.height, {SESSION}.image.width]")
    assert size == [2048, 2048]


def test_another_network_reads_the_same_image(open_live: Open) -> None:
    page = open_live()
    choose_sample(page)
    page.get_by_label("network").select_option("hela")
    wait_idle(page, "took")
    assert page.evaluate(f"{SESSION}.network.name") == "hela"
    threshold = json.loads(read_metadata(pretrained_file("hela"))["cells"])["threshold"]
    assert float(page.get_by_label("threshold").input_value()) == threshold
    assert page.evaluate(f"{SESSION}.image.name") == "em"


def test_a_page_of_a_stack_can_be_chosen_in_the_page(open_live: Open) -> None:
    page = open_live()
    page.get_by_label("tiles of").select_option("220")
    stack = some("uint16", 3, 40, 50)
    stack[0, :, :25] = 5
    give(page, tiff(stack, photometric="minisblack"), "stack.tif")
    wait_idle(page, "took")
    chosen = page.get_by_label("page of the stack")
    chosen.fill("3")
    chosen.press("Enter")
    page.wait_for_function(f"{SESSION}.image.values[0] === {int(stack[2, 0, 0])}")


# ---- experiments


COMPARE = """async ([about, image, height, width, place, change, amount]) => {
    const { session } = window.unetWidgets.live;
    const { bytes, floats, send } = window.testing;
    await session.ask({ do: "network", table: about.table, buffer: bytes(about.weights).buffer });
    await session.ask({ do: "image", values: floats(image), height, width });
    const found = await session.ask({ do: "compare", place, change, amount });
    const tile = send(found.tile.values);
    return { ...found, before: send(found.before), after: send(found.after), tile };
}"""


def compare(page: Any, about: Any, image: np.ndarray, change: str, amount: float) -> Any:
    size = image.shape
    place = {"top": 0, "left": 0, "height": size[0], "width": size[1]}
    found = page.evaluate(COMPARE, [about, sent(image), *size, place, change, amount])
    shape = (found["height"], found["width"])
    for name in ("before", "after"):
        found[name] = received(found[name]).reshape(shape)
    found["tile"] = received(found["tile"])
    return found


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_experiments_change_the_tile_and_compare_all_boxes(
    engine_page: Any, tmp_path: Path, norm: str
) -> None:
    net, about = random_network(tmp_path / "net.safetensors", base_channels=4, depth=2, norm=norm)
    image = np.random.default_rng(0).integers(0, 256, (76, 92)).astype(np.float32)
    ready = normalise(image)
    # The changed tile has the statistics of the image as it was.
    window = reference_windows(net.architecture, ready.shape)[0]
    half = net.architecture.margin // 2
    around = [(half, side - size - half) for side, size in zip(window, ready.shape, strict=True)]
    shared = net.statistics(np.pad(ready, around, mode="reflect")[None, None])

    def answer(tile: np.ndarray) -> np.ndarray:
        logits = net.forward(tile[None, None].astype(np.float32), statistics=shared)[0]
        return 1 / (1 + np.exp(logits[0] - logits[1]))

    hidden = ready.copy()
    hidden[33:43, 41:51] = 0
    blurred = gaussian_filter(ready.astype(float), 1.5, mode="mirror", truncate=4)
    cases = [
        ("blur", 1.5, blurred, answer(blurred)),
        ("hide", 10, hidden, answer(hidden)),
        *(
            ("turn", n, np.rot90(ready, n), np.rot90(answer(np.rot90(ready, n).copy()), -n))
            for n in (1, 2, 3)
        ),
    ]
    for change, amount, tile, expected in cases:
        found = compare(engine_page, about, image, change, amount)
        np.testing.assert_allclose(found["tile"].reshape(tile.shape), tile, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(found["before"], answer(ready), rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(found["after"], expected, rtol=0, atol=ROUNDING)
        changes = {one["name"]: one["change"] for one in found["boxes"]}
        assert changes["input"] == pytest.approx(
            np.linalg.norm(ready - (np.rot90(tile, -amount) if change == "turn" else tile))
            / np.linalg.norm(ready),
            rel=1e-4,
        )
        assert all(value > 0 for name, value in changes.items() if name != "input")


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_what_is_hidden_changes_nothing_beyond_the_receptive_field(
    engine_page: Any, tmp_path: Path, norm: str
) -> None:
    net, about = random_network(tmp_path / "net.safetensors", base_channels=4, depth=2, norm=norm)
    image = np.random.default_rng(0).integers(0, 256, (140, 140)).astype(np.float32)
    found = compare(engine_page, about, image, "hide", 4)
    fields = [net.architecture.receptive_field(at) for at in range(found["height"])]
    sees = np.array([first < 72 and last >= 68 for first, last in fields])
    reached = sees[:, None] & sees
    moved = found["before"] != found["after"]
    assert not moved[~reached].any()
    assert moved[reached].mean() > 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [("blur", "Blurred by 2 px"), ("hide", "Fig. 1 allows 107 px"), ("turn", "Turned by 90°")],
)
def test_an_experiment_runs_in_the_page(open_live: Open, change: str, words: str) -> None:
    page = open_live()
    page.get_by_label("tiles of").select_option("220")
    place = page.locator(f"[data-widget=live-{change}]")
    place.get_by_role("button", name="and compare").press("Enter")
    place.locator(".live-bar").first.wait_for()
    text = place.locator("[role=status]").inner_text()
    assert words in text
    assert "of the pixels get another class" in text
    rows = place.locator("tbody th").all_inner_texts()
    assert rows == [
        *(f"contract{i}" for i in range(1, 6)),
        *(f"expand{i}" for i in range(4, 0, -1)),
        "output",
    ]
    assert place.locator("canvas").count() == 4


# ---- without a server, and the build


def test_it_works_in_a_page_opened_from_a_folder(browser: Any, site: Path) -> None:
    page = new_page(browser)
    page.goto((site / "page.html").as_uri())
    page.wait_for_selector("[data-widget=live][data-ready=true]")
    choose_sample(page)
    assert "took" in status(page)
    page.context.close()


def test_weights_that_are_not_there_are_a_line(browser: Any, address: str) -> None:
    page = new_page(browser)
    page.route("**/weights/em.js", lambda route: route.abort())
    page.goto(f"{address}/page.html")
    page.wait_for_selector("[data-ready=true]")
    page.get_by_role("button", name="EM membranes").click()
    page.wait_for_selector("[data-widget=live] [role=alert]:not([hidden])")
    assert alert(page) == ("weights/em.js could not be loaded; is the book's whole folder there?")
    page.unroute("**/weights/em.js")
    choose_sample(page)
    page.context.close()


def test_the_build_writes_weights_and_samples_once(tmp_path: Path) -> None:
    written = extension.write(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        *(f"weights/{name}.js" for name in NAMES),
        *(f"samples/{name}.js" for name in sorted(NAMES)),
    ]
    before = [path.stat().st_mtime_ns for path in written]
    extension.write(tmp_path)
    assert [path.stat().st_mtime_ns for path in written] == before
    text = written[0].read_text(encoding="ascii")
    start = 'window.unetWidgets.live.receive("weights/em", '
    assert text.startswith(start)
    value = json.loads(text.removeprefix(start).removesuffix(");\n"))
    weights = ROOT / "unet_np" / "pretrained" / "em.safetensors"
    assert base64.b64decode(value["weights"]) == weights.read_bytes()
    names = [layer["name"] for layer in value["table"]["layers"]]
    assert names == [layer.name for layer in Architecture(base_channels=16).layers]
    assert value["table"]["margin"] == 184


def test_samples_are_small_and_cited() -> None:
    for name in NAMES:
        assert (extension.SAMPLES / f"{name}.png").stat().st_size < 200_000
        about = json.loads((extension.SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
        assert "doi:" in about["words"]
