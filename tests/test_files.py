"""Files that are whole or not there: links, modes, and what must not be replaced."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from unet_np.errors import InputError
from unet_np.files import atomic, atomic_write, temporary_folder

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


def test_names_of_any_length_that_the_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    write(path, "long")
    assert path.read_text() == "long"
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, sys; from unet_np.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.touch(); (temporary.parent / '.tmpabcdef').touch()\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], check=False)
    (left,) = tmp_path.iterdir()
    assert {file.name for file in left.iterdir()} == {"a.txt", ".tmpabcdef"}
    host = left.name.split("-")[2]
    kept = {
        ".checkpoint-notes",
        ".config-backup",
        ".probe-data",
        ".tmpabcdef",
        ".weights-of-my-diet",
        ".unet-np-mine",
        f".unet-np-{host}-{os.getpid()}-{'0' * 16}",  # of a process that lives
        f".unet-np-{'0' * 12}-{left.name.split('-')[3]}-{'0' * 16}",  # of another machine
        left.name + "-copy",
    }
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / left.name.replace(left.name[-16:], "f" * 16)).write_text("a file")
    kept |= {left.name.replace(left.name[-16:], "f" * 16), "b.txt"}
    write(tmp_path / "b.txt", "")
    assert {file.name for file in tmp_path.iterdir()} == kept


@posix
def test_links_to_folders_of_others_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a").write_text("")
    folder = tmp_path / "out"
    folder.mkdir()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    name = f".unet-np-{atomic._machine()}-{int(dead.stdout)}-{'0' * 16}"
    (folder / name).symlink_to(tmp_path / "precious")
    write(folder / "a.txt", "")
    assert (tmp_path / "precious" / "a").exists()


def test_an_interrupt_while_a_folder_is_removed_leaves_nothing_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_remove", interrupted)
        with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path):
            pass
    assert len(list(tmp_path.iterdir())) == 1
    atomic._remove_unfinished()
    assert list(tmp_path.iterdir()) == []
    atomic._unfinished.clear()


@pytest.mark.parametrize("error", [OSError(28, "No space"), OSError("5 requested and 3 written")])
def test_errors_name_the_file(tmp_path: Path, error: OSError) -> None:
    path = tmp_path / "a.txt"
    expected = pytest.raises(OSError, match=r"No space|3 written; is the disk full\?")
    with expected as caught, atomic_write(path):
        raise error
    assert caught.value.filename == str(path)


def test_errors_of_other_files_keep_their_names(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "a.txt"):
        (tmp_path / "missing").read_text()
    assert caught.value.filename == str(tmp_path / "missing")


ENDING = [signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM), signal.SIGINT]
COMMAND = """
import os, signal, sys, time
from pathlib import Path
from unet_np import cli
from unet_np.files import atomic_write
NUMBER = signal.Signals(int(sys.argv[2]))
# What started the tests may ignore it, as `nohup` does, and so would the command.
usual = signal.default_int_handler if NUMBER == signal.SIGINT else signal.SIG_DFL
signal.signal(NUMBER, usual)
class Doomed:
    def __del__(self):
        signal.raise_signal(NUMBER)
class Command:
    def run(args):
        with atomic_write(sys.argv[1]) as temporary:
            (temporary.parent / ".tmpabcdef").write_text("its own")
            {body}
            Path(sys.argv[1] + ".begun").touch()
            for _ in range(6000):
                time.sleep(0.01)
parser = cli._parser
cli._parser = lambda command: (parser(command)[0], Command)
sys.exit(cli.main(["summary"]))"""


def start_command(folder: Path, number: int, body: str = "pass") -> subprocess.Popen[str]:
    """A command that is in the middle of its write, and of a library's within it."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.replace("{body}", body), folder / "a", str(int(number))],
        stderr=subprocess.PIPE,
        text=True,
    )


def check_ended(process: subprocess.Popen[str], number: int) -> None:
    _, text = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert re.fullmatch(r"\n?unet-np summary: (ended by SIG(TERM|HUP)|interrupted)\n", text)


@posix
@pytest.mark.parametrize("number", ENDING)
def test_signals_that_end_a_command_leave_nothing(tmp_path: Path, number: int) -> None:
    process = start_command(tmp_path, number)
    begun = time.monotonic()
    while not (tmp_path / "a.begun").exists():
        assert time.monotonic() - begun < 60
        time.sleep(0.02)
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(number)
    check_ended(process, number)
    assert [file.name for file in tmp_path.iterdir()] == ["a.begun"]


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "body",
    [
        "[Doomed() for _ in range(3)]",
        """try: signal.raise_signal(NUMBER)
            except: pass""",
        """try: signal.raise_signal(NUMBER)
            except BaseException: raise ImportError('no such module')""",
    ],
    ids=["deleted", "let pass", "made an error"],
)
def test_a_signal_that_a_library_drops_comes_again(tmp_path: Path, number: int, body: str) -> None:
    """Else the command would go on; here for a minute."""
    check_ended(start_command(tmp_path, number, body), number)
    assert {file.name for file in tmp_path.iterdir()} <= {"a.begun"}
