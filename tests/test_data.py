"""`unet_np.data`: the registry, the cache, downloads that fail in every way, and the data sets."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from unet_np import data
from unet_np.data import cache, catalogue, readers
from unet_np.data.catalogue import Archive
from unet_np.errors import InputError

FILED = ("isbi2012", "u373", "hela", "dsb2018")
ROOT = Path(__file__).parent.parent


def message(call, *args, **kwargs):
    """The text of the InputError, checked to be one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def real():
    """Skips a test of a real data set where it is absent."""

    def need(name):
        if not data.is_available(name):
            pytest.skip(f"{name} is not in {data.cache_folder()}")
        return name

    return need


# The catalogue and the registry


def test_names_and_facts():
    assert list(data.NAMES) == [*FILED, "synthetic-em", "synthetic-cells"]
    for name in data.NAMES:
        entry = data.info(name)
        assert entry.name == name
        assert all((entry.title, entry.description, entry.shape, entry.citation, entry.terms))
        assert (entry.folder is None) == name.startswith("synthetic")
    for name in FILED:
        assert "doi:" in data.info(name).citation


@pytest.mark.parametrize("name", ["ISBI2012", "", "phc-c2dh", None, 3, ["u373"]])
def test_unknown_names(name):
    for call in (data.info, data.load, data.fetch, data.verify, data.files):
        assert message(call, name).startswith(
            f"data: got {name!r}, expected one of isbi2012, u373, hela, dsb2018, synthetic-em"
        )


def test_the_nearest_name_is_offered():
    assert message(data.info, "ISBI2012").endswith("; nearest 'isbi2012'")
    assert "nearest" not in message(data.info, "zzz")


def test_registry():
    counts = {"isbi2012": 90, "u373": 496, "hela": 356, "dsb2018": 3}
    for name, count in counts.items():
        assert len(data.files(name)) == count
        for path, sha256 in data.files(name).items():
            assert re.fullmatch("[0-9a-f]{64}", sha256)
            assert not path.startswith("/")
            assert ".." not in path
        # A commit, not a branch: what is there never changes.
        mirror = data.info(name).mirror
        assert (mirror == "") == (name == "dsb2018")
        assert not mirror or re.fullmatch(
            r"https://raw.githubusercontent.com/[\w/-]+/[0-9a-f]{40}/[\w/-]+/", mirror
        )
    folders = {path.split("/")[0] for path in cache._registry()}
    assert folders == {data.info(name).folder for name in counts}


def test_pooch_reads_the_registry():
    read = pooch.create("anywhere", "")
    read.load_registry(Path(cache.__file__).parent / "registry.txt")
    assert read.registry == cache._registry()


# The cache folder


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("UNET_NP_DATA", str(tmp_path / "a"))
    assert data.cache_folder() == tmp_path / "a"
    assert data.cache_folder(tmp_path / "b") == tmp_path / "b"
    monkeypatch.setenv("UNET_NP_DATA", "~/c")
    assert data.cache_folder() == Path.home() / "c"
    for unset in (True, False):
        if unset:
            monkeypatch.delenv("UNET_NP_DATA")
        else:
            monkeypatch.setenv("UNET_NP_DATA", "")
        assert data.cache_folder().name == "unet-np"


def test_cache_folder_that_is_a_file(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert message(data.cache_folder, file) == f"cache: got the file {file}, expected a folder"
    monkeypatch.setenv("UNET_NP_DATA", str(file))
    assert message(data.load, "isbi2012").startswith("UNET_NP_DATA: got the file")


# A small data set in the form of isbi2012 on a server of its own


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def serving(handler):
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(partial(Quiet, directory=folder)) as base:
        yield folder, base


def register(monkeypatch, folder, base, name="isbi2012"):
    """Let the files in `folder` be the data set."""
    entry = replace(data.info(name), mirror=base)
    monkeypatch.setitem(catalogue._BY_NAME, name, entry)
    found = {
        f"{entry.folder}/{path.relative_to(folder).as_posix()}": hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    monkeypatch.setattr(cache, "_registry", lambda: found)
    monkeypatch.setattr(cache, "_RETRIES", 0)


@pytest.fixture
def small(server, monkeypatch):
    """Two training slices and one test slice; the folder that is served."""
    folder, base = server
    rng = np.random.default_rng(0)
    for part, count in (("train/image", 2), ("train/label", 2), ("test", 1)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (40, 50), dtype=np.uint8)
            if part == "train/label":
                image = np.where(image > 60, 255, 0).astype(np.uint8)
            Image.fromarray(image).save(folder / part / f"{i}.png")
    register(monkeypatch, folder, base)
    return folder


def everything_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_download(small, tmp_path, capfd):
    loaded = data.load("isbi2012", tmp_path / "new" / "cache")
    stored = np.array([np.array(Image.open(small / f"train/label/{i}.png")) for i in (0, 1)])
    images = np.array([np.array(Image.open(small / f"train/image/{i}.png")) for i in (0, 1)])
    np.testing.assert_array_equal(loaded.images, images)
    np.testing.assert_array_equal(loaded.labels, stored == 255)
    assert loaded.labels.dtype == np.uint8
    assert loaded.source == tmp_path / "new" / "cache" / "isbi2012"
    # Only the files of this split, and nothing else.
    files = [path for path in everything_in(loaded.source) if path.endswith("png")]
    assert len(files) == 4
    assert len(everything_in(loaded.source)) == 4 + 3
    report = data.verify("isbi2012", tmp_path / "new" / "cache")
    assert (report.missing, report.damaged, len(report.whole)) == (("test/0.png",), (), 4)
    assert not data.is_available("isbi2012", tmp_path / "new" / "cache")
    data.fetch("isbi2012", tmp_path / "new" / "cache")
    assert data.is_available("isbi2012", tmp_path / "new" / "cache")
    assert data.verify("isbi2012", tmp_path / "new" / "cache").ok
    assert capfd.readouterr().err == ""


def test_progress_is_shown_when_asked(small, tmp_path, capfd):
    data.fetch("isbi2012", tmp_path / "c", progress=True)
    assert "fetch isbi2012" in capfd.readouterr().err


def test_test_split_has_no_labels(small, tmp_path):
    loaded = data.load("isbi2012", tmp_path / "c", split="test")
    assert loaded.labels is None
    assert loaded.instances is None
    assert loaded.ids == ("test/0",)


def test_nothing_is_fetched_twice(small, tmp_path):
    data.fetch("isbi2012", tmp_path / "c")
    for path in small.rglob("*.png"):
        path.unlink()
    assert len(data.load("isbi2012", tmp_path / "c")) == 2


def test_a_server_that_gives_other_content(small, tmp_path):
    (small / "train/image/1.png").write_bytes(b"something else")
    text = message(data.load, "isbi2012", tmp_path / "c")
    assert "SHA256 hash" in text or "hash" in text
    assert text.startswith("isbi2012: 4 files are missing in")
    # The first file came whole and stays; of the second one there is no trace.
    assert [p for p in everything_in(tmp_path / "c") if "png" in p] == [
        "isbi2012/train/image/0.png"
    ]


def test_a_server_that_lacks_a_file(small, tmp_path):
    (small / "test/0.png").unlink()
    text = message(data.load, "isbi2012", tmp_path / "c", split="test")
    assert "test/0.png is missing and cannot be downloaded from http://127" in text
    assert "HTTPError: 404" in text


def test_no_network(small, tmp_path, monkeypatch):
    register(monkeypatch, small, "http://127.0.0.1:9/")
    folder = tmp_path / "c"
    text = message(data.load, "isbi2012", folder)
    # Where it belongs, how to say that it lies elsewhere, and where it can be had.
    assert text.startswith(f"isbi2012: 4 files are missing in {folder / 'isbi2012'} and cannot be")
    assert "from http://127.0.0.1:9/" in text
    assert "UNET_NP_DATA" in text
    assert "(no connection, ConnectionError)" in text
    assert len(text) < 500
    assert not [path for path in everything_in(folder) if path.endswith(".png")]
    with pytest.raises(data.DownloadError):
        data.load("isbi2012", folder)


class Unsteady(Quiet):
    """Refuses every file once, and gives other content the second time."""

    asked: dict[str, int]

    def do_GET(self):
        self.asked[self.path] = self.asked.get(self.path, 0) + 1
        if self.asked[self.path] == 1:
            return self.send_error(503)
        if self.asked[self.path] == 2:
            self.path = "/test/0.png"
        return super().do_GET()


def test_a_server_that_fails_now_and_then(small, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_RETRIES", 2)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    Unsteady.asked = {}
    with serving(partial(Unsteady, directory=small)) as base:
        entry = replace(data.info("isbi2012"), mirror=base)
        monkeypatch.setitem(catalogue._BY_NAME, "isbi2012", entry)
        assert len(data.load("isbi2012", tmp_path / "c")) == 2
    assert set(Unsteady.asked.values()) == {3}


class Dripping(Quiet):
    """Sends a byte now and then: no single read is late."""

    ended: threading.Event

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.ended.wait(0.05):
            self.wfile.write(b"x")


def test_a_server_that_never_ends(small, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_LIMIT", 0.5)
    Dripping.ended = threading.Event()
    with serving(Dripping) as base:
        entry = replace(data.info("isbi2012"), mirror=base)
        monkeypatch.setitem(catalogue._BY_NAME, "isbi2012", entry)
        began = time.monotonic()
        text = message(data.load, "isbi2012", tmp_path / "c")
        assert time.monotonic() - began < 5
        assert "(TimeoutError: not all came within 0.5 seconds)" in text
        Dripping.ended.set()
    assert not [path for path in (tmp_path / "c").rglob("*") if path.is_file()]


def test_no_download_wanted(small, tmp_path):
    text = message(data.load, "isbi2012", tmp_path / "c", download=False)
    assert "4 files are missing" in text
    assert "expected them there" in text
    assert "UNET_NP_DATA" in text
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("content", [b"", b"half of it", None])
def test_a_damaged_file_is_named_and_kept(small, tmp_path, content):
    folder = data.fetch("isbi2012", tmp_path / "c")
    bad = folder / "train/label/1.png"
    if content is None:
        changed = bytearray(bad.read_bytes())
        changed[-20] ^= 1
        content = bytes(changed)
    bad.write_bytes(content)
    os.utime(bad, ns=(1, 1))
    text = message(data.load, "isbi2012", tmp_path / "c")
    assert text.startswith(f"isbi2012: {bad} is damaged: got {len(content)} bytes")
    assert "delete it and fetch again" in text
    assert bad.read_bytes() == content
    assert data.verify("isbi2012", tmp_path / "c").damaged == ("train/label/1.png",)
    # The other part does not need it.
    assert len(data.load("isbi2012", tmp_path / "c", split="test")) == 1


def test_a_file_is_hashed_once(small, tmp_path, monkeypatch):
    data.fetch("isbi2012", tmp_path / "c")
    data.verify("isbi2012", tmp_path / "c")
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: pytest.fail("hashed again"))
    assert data.verify("isbi2012", tmp_path / "c").ok


def test_a_cache_that_cannot_be_written(small, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "isbi2012").touch()
    text = message(data.load, "isbi2012", tmp_path / "c")
    assert str(tmp_path / "c" / "isbi2012") in text


def test_no_public_address(small, tmp_path, monkeypatch):
    for path in small.rglob("*.png"):
        path.unlink()
    (small / "ids.txt").write_text("a")
    register(monkeypatch, small, "", "dsb2018")
    text = message(data.load, "dsb2018", tmp_path / "c")
    assert f"{tmp_path / 'c' / 'dsb2018' / 'ids.txt'} is missing" in text
    assert "no public address" in text
    assert "UNET_NP_DATA" in text
    assert "https://bbbc.broadinstitute.org/BBBC038" in text


# Cell tracking: the archive, and frames that lack cells


def tracking_files(folder, frames=12):
    """A small set as the Cell Tracking Challenge lays it out; in 02/003 cell 2 has no mask."""
    for sequence in ("01", "02"):
        for part in (sequence, f"{sequence}_GT/SEG", f"{sequence}_GT/TRA"):
            (folder / part).mkdir(parents=True)
        for frame in range(frames):
            image = np.full((30, 200), frame, np.uint8)
            markers = np.zeros((30, 200), np.uint16)
            markers[14:17, 10:13], markers[14:17, 150:153] = 1, 2
            Image.fromarray(image).save(folder / f"{sequence}/t{frame:03}.tif")
            Image.fromarray(markers).save(
                folder / f"{sequence}_GT/TRA/man_track{frame:03}.tif", compression="tiff_lzw"
            )
        for frame in (1, 3):
            masks = np.zeros((30, 200), np.uint16)
            masks[10:20, 5:18] = 7
            if (sequence, frame) != ("02", 3):
                masks[10:20, 145:160] = 8
            Image.fromarray(masks).save(folder / f"{sequence}_GT/SEG/man_seg{frame:03}.tif")


@pytest.fixture
def tracking(server, monkeypatch):
    folder, base = server
    tracking_files(folder)
    register(monkeypatch, folder, base, "u373")
    content = folder / "u373.zip"
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*.tif")):
            archive.write(path, f"PhC-C2DH-U373/{path.relative_to(folder).as_posix()}")
        archive.writestr("PhC-C2DH-U373/README.txt", "not asked for")

    def offer(sha256=None):
        right = hashlib.sha256(content.read_bytes()).hexdigest()
        made = Archive(base + "u373.zip", sha256 or right)
        monkeypatch.setitem(catalogue._BY_NAME, "u373", replace(data.info("u373"), archive=made))

    offer()
    return folder, offer


def test_the_archive_is_used_for_many_files(tracking, tmp_path):
    folder, _ = tracking
    for path in folder.rglob("*.tif"):
        path.unlink()
    target = data.fetch("u373", tmp_path / "c")
    assert data.verify("u373", tmp_path / "c").ok
    assert not (target / "README.txt").exists()
    assert everything_in(tmp_path / "c")[0] == "PhC-C2DH-U373"
    assert all(path.startswith("PhC-C2DH-U373") for path in everything_in(tmp_path / "c"))


def test_the_cache_never_holds_an_unfinished_archive(tracking, tmp_path, monkeypatch):
    seen, unpack = [], pooch.Unzip._extract_file

    def look(self, *args):
        unpack(self, *args)
        seen.append([p for p in everything_in(tmp_path / "c") if (tmp_path / "c" / p).is_file()])

    monkeypatch.setattr(pooch.Unzip, "_extract_file", look)
    before = set(os.listdir(tempfile.gettempdir()))
    data.fetch("u373", tmp_path / "c")
    # A process killed there leaves nothing but what the system empties.
    assert seen == [[]]
    left = set(os.listdir(tempfile.gettempdir())) - before
    assert not [name for name in left if name.startswith("unet-np-")]


def test_files_come_one_by_one_where_the_archive_is_another(tracking, tmp_path):
    _, offer = tracking
    offer(sha256="0" * 64)
    data.fetch("u373", tmp_path / "c")
    assert data.verify("u373", tmp_path / "c").ok


def test_members_that_are_wrong_are_not_taken(tracking, tmp_path):
    folder, offer = tracking
    with zipfile.ZipFile(folder / "u373.zip", "w") as archive:
        archive.writestr("PhC-C2DH-U373/01/t000.tif", b"wrong")
        archive.write(folder / "01/t001.tif", "PhC-C2DH-U373/01/t001.tif")
    offer()
    data.fetch("u373", tmp_path / "c")
    assert data.verify("u373", tmp_path / "c").ok


def test_tracking_frames(tracking, tmp_path):
    both = data.load("u373", tmp_path / "c")
    assert both.ids == ("01/001", "01/003", "02/001", "02/003")
    assert both.groups == ("01", "01", "02", "02")
    assert both.frames == (1, 3, 1, 3)
    assert both.images[:, 0, 0].tolist() == [1, 3, 1, 3]
    np.testing.assert_array_equal(both.labels, both.instances > 0)
    assert both.instances.dtype == both.markers.dtype == np.uint16
    assert both.complete.tolist() == [True, True, True, False]
    missing = both.unknown[3]
    assert missing[15, 151]
    assert not missing[15, 80]
    assert not missing[both.instances[3] > 0].any()
    one = data.load("u373", tmp_path / "c", split="02")
    assert one.ids == both.group("02").ids == ("02/001", "02/003")
    np.testing.assert_array_equal(one.unknown, both.group("02").unknown)


def test_every_tracking_frame(tracking, tmp_path):
    loaded = data.load("u373", tmp_path / "c", split="01", every_frame=True)
    assert loaded.frames == tuple(range(12))
    assert np.flatnonzero(loaded.complete).tolist() == [1, 3]
    assert loaded.unknown[0].all()
    assert (loaded.markers > 0).any(axis=(1, 2)).all()


@given(
    instances=arrays(np.uint16, (6, 9), elements=st.integers(0, 3)),
    markers=arrays(np.uint16, (6, 9), elements=st.integers(0, 3)),
    radius=st.floats(0, 12),
)
def test_unannotated_against_a_loop(instances, markers, radius):
    expected = np.zeros((6, 9), bool)
    for marker in np.unique(markers[markers > 0]):
        if (instances[markers == marker] > 0).any():
            continue
        for v, u in np.argwhere(markers == marker):
            y, x = np.indices((6, 9))
            expected |= np.hypot(y - v, x - u) <= radius
    expected &= instances == 0
    np.testing.assert_array_equal(readers.unannotated(instances, markers, radius), expected)


@given(labels=arrays(np.uint8, (2, 6, 9), elements=st.integers(0, 1)))
def test_connected_cells(labels):
    found = readers.connected_cells(labels)
    np.testing.assert_array_equal(found > 0, labels == 1)
    for one, numbers in zip(labels, found, strict=True):
        assert numbers.max() == ndimage.label(one)[1]


# load


@pytest.mark.parametrize(
    ("name", "split"), [("isbi2012", "01"), ("u373", "train"), ("dsb2018", "test"), ("hela", "")]
)
def test_splits_that_are_not_there(name, split):
    expected = ", ".join(data.info(name).splits)
    assert message(data.load, name, split=split) == (
        f"split: got {split!r} for {name}, expected one of {expected}"
    )


@pytest.mark.parametrize("name", ["synthetic-em", "synthetic-cells"])
def test_synthetic(name):
    train = data.load(name, count=3, size=(64, 80), seed=2)
    assert train.images.shape == train.labels.shape == train.instances.shape == (3, 64, 80)
    assert train.images.dtype == np.uint8
    assert train.unknown is None
    assert train.complete.all()
    longer = data.load(name, count=4, size=(64, 80), seed=2)
    np.testing.assert_array_equal(longer.images[:3], train.images)
    test = data.load(name, count=3, size=(64, 80), seed=2, split="test")
    assert not any((a == b).all() for a in train.images for b in test.images)
    assert message(data.load, name, count=0) == "count: got 0, expected an integer >= 1"


def test_auto_says_what_it_chose(small, tmp_path, capsys):
    made = data.load("auto", tmp_path / "c", count=1, size=64)
    assert made.name == "synthetic-em"
    assert made.note == (
        f"data: synthetic-em, since isbi2012 is not in {tmp_path / 'c'} "
        "(unet-np data fetch isbi2012)"
    )
    assert capsys.readouterr().err == made.note + "\n"
    assert not (tmp_path / "c").exists()
    data.fetch("isbi2012", tmp_path / "c")
    lines = []
    found = data.load_default(tmp_path / "c", announce=lines.append)
    assert found.name == "isbi2012"
    assert lines == [found.note] == [f"data: isbi2012 from {tmp_path / 'c' / 'isbi2012'}"]


BARE = """
import sys
EXTRAS = ("pooch", "tifffile", "PIL", "tqdm", "safetensors", "threadpoolctl", "requests")
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
sys.meta_path.insert(0, NotInstalled())
import unet_np.data as data
print(data.load("synthetic-cells", count=1, size=64).images.shape)
print(data.load("auto", count=1, size=64).note)
try:
    data.load("isbi2012")
except ImportError as error:
    print(error)
"""


def test_synthetic_data_needs_no_extras():
    environment = {k: v for k, v in os.environ.items() if k != "UNET_NP_DATA"}
    command = [sys.executable, "-W", "error", "-c", BARE]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    shape, note, error = done.stdout.splitlines()
    assert shape == "(1, 64, 64)"
    assert note.startswith("data: synthetic-em, since reading isbi2012 needs more (PIL: not")
    assert error.endswith("pip install 'unet-np[io]'")


# Dataset


def some(count=4):
    images = np.arange(count * 6).reshape(count, 2, 3)
    return data.Dataset(
        "mine",
        images,
        labels=(images % 2).astype(np.uint8),
        unknown=images == 0,
        groups=("a",) * (count - 1) + ("b",),
        note="hello",
    )


@given(indices=st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_subset(indices):
    whole, part = some(), some().subset(indices)
    for name in ("images", "labels", "unknown"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[indices])
    assert part.instances is None
    assert part.ids == tuple(str(i) for i in indices)
    assert part.groups == tuple("aaab"[i] for i in indices)
    assert part.frames == tuple(indices)
    assert (part.name, part.note, len(part), part.shape) == ("mine", "hello", len(indices), (2, 3))
    mask = np.isin(np.arange(4), indices)
    assert whole.subset(mask).frames == tuple(sorted(set(indices)))


def test_subset_refuses():
    assert message(some().subset, [0, 4]) == "indices: got 4, expected 0 to 3"
    assert message(some().subset, [-1]) == "indices: got -1, expected 0 to 3"
    for wrong in ([], [0.5], [True, False], 2, np.zeros(4, bool)):
        assert "expected at least one index from 0 to 3" in message(some().subset, wrong)


def test_groups_and_summary():
    assert some().group("b").ids == ("3",)
    assert message(some().group, "c") == "group: got 'c', expected one of a, b"
    assert some().complete.tolist() == [False, True, True, True]
    text = some().summary()
    assert "4 images of 2 x 3" in text
    assert "class 0 50.0%, class 1 50.0%" in text
    assert "groups: a (3), b (1)" in text
    assert "unknown: 4.2% of the pixels, of which 1 images have some" in text


def test_datasets_that_do_not_fit():
    images = np.zeros((2, 4, 5))
    assert message(data.Dataset, "x", images[0]) == (
        "images: got shape (4, 5), expected (N, H, W) or (N, C, H, W)"
    )
    for name in ("labels", "instances", "markers", "unknown"):
        assert message(data.Dataset, "x", images, **{name: images[:1]}) == (
            f"{name}: got shape (1, 4, 5), expected (2, 4, 5), that of the images"
        )
    assert message(data.Dataset, "x", images, ids=("a",)) == (
        "ids: got 1, expected 2, one for each image"
    )


@given(
    count=st.integers(2, 60), breaks=st.sets(st.integers(1, 59), min_size=1, max_size=5).map(sorted)
)
def test_blocks(count, breaks):
    if breaks[-1] >= count:
        assert message(data.blocks, count, breaks).startswith(f"breaks: got {tuple(breaks)}")
        return
    folds = data.blocks(count, breaks)
    assert len(folds) == len(breaks) + 1
    np.testing.assert_array_equal(np.concatenate([test for _, test in folds]), np.arange(count))
    for train, test in folds:
        assert (np.diff(test) == 1).all()
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(count))


@pytest.mark.parametrize("breaks", [(), (0,), (5, 5), (7, 3), (30,)])
def test_blocks_that_are_refused(breaks):
    assert message(data.blocks, 30, breaks).endswith("at least one, ascending from 1 to 29")


# The real data sets


@pytest.mark.data
@pytest.mark.parametrize("name", FILED)
def test_every_real_file_is_whole(real, name):
    report = data.verify(real(name))
    assert report.ok, report


@pytest.mark.data
def test_isbi2012(real):
    train = data.load(real("isbi2012"))
    assert train.images.shape == train.labels.shape == (30, 512, 512)
    assert train.images.dtype == np.uint8
    assert abs((train.labels == 0).mean() - 0.22) < 0.005
    assert train.images[train.labels == 1].mean() > train.images[train.labels == 0].mean() + 50
    assert train.frames == tuple(range(30))
    # In slice order: neighbours resemble each other least where the blocks break.
    flat = train.labels.reshape(30, -1)
    links = [np.corrcoef(flat[i], flat[i + 1])[0, 1] for i in range(29)]
    assert set(np.argsort(links)[:2]) == {9, 25}
    test = data.load("isbi2012", split="test")
    assert test.images.shape == (30, 512, 512)
    assert test.labels is None


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape", "partial"),
    [
        ("u373", (34, 520, 696), {"02/026", "02/051", "02/085", "02/106"}),
        (
            "hela",
            (18, 512, 512),
            {f"01/{i}" for i in ("034", "039", "067")}
            | {f"02/{i}" for i in ("007", "014", "042", "061", "067")},
        ),
    ],
)
def test_cell_tracking(real, name, shape, partial):
    both = data.load(real(name))
    assert both.images.shape == shape
    assert {i for i, whole in zip(both.ids, both.complete, strict=True) if not whole} == partial
    assert both.images.dtype == np.uint8
    diameters = [
        2 * np.sqrt(size / np.pi) for one in both.instances for size in np.bincount(one.ravel())[1:]
    ]
    diameters = [d for d in diameters if d]
    assert abs(np.median(diameters) - data.info(name).cell_size) < 1
    # Every gold-standard cell holds exactly one marker.
    for masks, markers in zip(both.instances, both.markers, strict=True):
        for cell in np.unique(masks[masks > 0]):
            inside = markers[masks == cell]
            assert len(np.unique(inside[inside > 0])) == 1


@pytest.mark.data
def test_dsb2018(real):
    nuclei = data.load(real("dsb2018"))
    assert nuclei.images.shape == (90, 520, 696)
    assert sum(len(np.unique(one)) - 1 for one in nuclei.instances) == 9177
    assert len(set(nuclei.ids)) == 90
