"""Files that are whole or not there: links, modes, and what must not be replaced."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from unet_np.errors import InputError
from unet_np.files import atomic_write

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other modes and links")


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write(path, "old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


@posix
@pytest.mark.parametrize("name", ["target.txt", "elsewhere/target.txt"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(tmp_path: Path, name: str, there: bool) -> None:
    target, middle, link = tmp_path / name, tmp_path / "middle", tmp_path / "link.txt"
    target.parent.mkdir(exist_ok=True)
    if there:
        target.write_text("old")
    middle.symlink_to(Path(name))
    link.symlink_to(middle)
    write(link, "new")
    assert link.is_symlink()
    assert middle.is_symlink()
    assert target.read_text() == link.read_text() == "new"
    assert len(list(tmp_path.rglob("*target*"))) == 1


@posix
@pytest.mark.parametrize("bits", [0o600, 0o640, 0o444, 0o755])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(bits)
    write(path, "new")
    assert mode(path) == bits
    assert path.read_text() == "new"


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "plain.txt").write_text("")
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.unlink()
            # As a library does that writes a private file and renames it.
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        assert mode(tmp_path / "a.txt") == mode(tmp_path / "plain.txt")
    finally:
        os.umask(before)


@posix
def test_threads_leave_the_umask_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the process: a look at it changes it for all other threads."""
    asked: list[int] = []
    monkeypatch.setattr(os, "umask", lambda mask: asked.append(mask) or 0o022)
    threads = [threading.Thread(target=write, args=(tmp_path / f"{n}.txt", "")) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == []
    assert len(list(tmp_path.iterdir())) == 4


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^path: got the folder .*, expected the name of a file$"):
        write(tmp_path, "")


@posix
@pytest.mark.parametrize("link", [False, True])
def test_devices_and_links_to_them_are_refused(tmp_path: Path, link: bool) -> None:
    path = pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    if link:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    with pytest.raises(InputError, match=r"^path: got the device .*pipe, expected the name of a"):
        write(path, "")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@posix
def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputError, match=r"^path: got the link in a circle .*, expected the name"):
        write(tmp_path / "a", "")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^path: got .*a.txt, expected a place that can be"):
        write(tmp_path / "file" / "a.txt", "")
