"""What a launch button opens: the file is there, it is a notebook, and it runs on its own.

A notebook opened on Colab or Binder, or downloaded, has no checkout around it: only the package,
installed. Here that is the package's real wheel, unpacked into a folder that comes first on the
path. Some notebooks run in `make test`, all of them under UNET_NP_LAUNCH=all (`make launch`).
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
HTML = Path(os.environ.get("UNET_NP_HTML", ROOT / "_build" / "html"))
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = CONFIG["repository"]["url"].removeprefix("https://github.com/")
BRANCH = CONFIG["repository"]["branch"]
# Where a module has another name than what is installed.
# contourpy is what matplotlib draws contours with.
DISTRIBUTIONS = {"PIL": "pillow", "contourpy": "matplotlib"}
# One that computes, and those that read stored results.
SAMPLE = {"intro", "table-1", "speed"}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(path: Path) -> list[Any]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def files_of_git() -> set[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return set(listing.stdout.split("\0"))


def requirement_names(lines: list[str]) -> set[str]:
    return {re.split(r"[\[<>=; ]", line)[0].lower() for line in lines}


def launch_links(page: str) -> dict[str, str]:
    """The path in the repository that each button of a page opens, by the host."""
    found = {}
    for link in re.findall(r'href="(https://[^"]+)"', page):
        address = urlsplit(link.replace("&amp;", "&"))
        path = unquote(address.path)
        if address.netloc == "colab.research.google.com":
            begin = f"/github/{REPOSITORY}/blob/{BRANCH}/"
        elif address.netloc == "mybinder.org":
            begin = f"/v2/gh/{REPOSITORY}/{BRANCH}"
            path += parse_qs(address.query)["urlpath"][0].removeprefix("lab/tree/")
        else:
            continue
        assert path.startswith(begin), link
        found[address.netloc] = path.removeprefix(begin)
    return found


@every_notebook
def test_buttons_open_files_of_the_repository(path: Path) -> None:
    page = HTML / "book" / f"{path.stem}.html"
    if not page.is_file():
        pytest.skip("the book is not built: make book")
    text = page.read_text(encoding="utf-8")
    place = path.relative_to(ROOT).as_posix()
    assert launch_links(text) == {"colab.research.google.com": place, "mybinder.org": place}
    assert place in files_of_git()
    download = re.search(r'href="([^"]*_sources/[^"]+\.ipynb)"', text)
    assert download, "a button that downloads the notebook"
    given = json.loads((page.parent / download[1]).read_text(encoding="utf-8"))
    nbformat.validate(given)
    if page.stat().st_mtime >= path.stat().st_mtime:
        assert given == json.loads(path.read_text(encoding="utf-8"))


@every_notebook
def test_first_code_installs_the_package_from_this_repository(path: Path) -> None:
    first = code(path)[0]
    assert first.id == "install"
    assert first.outputs == []
    wanted = re.search(r'%pip install --quiet "unet-np\[([\w,]+)\] @ git\+(\S+)"', first.source)
    assert wanted
    assert wanted[2] == CONFIG["repository"]["url"]
    assert set(wanted[1].split(",")) <= set(PROJECT["optional-dependencies"])


@every_notebook
def test_notebook_needs_no_more_than_is_installed(path: Path) -> None:
    extras = PROJECT["optional-dependencies"]
    named = re.search(r"unet-np\[([\w,]+)\]", code(path)[0].source)
    assert named
    there = requirement_names(
        [*PROJECT["dependencies"], *(item for name in named[1].split(",") for item in extras[name])]
    )
    # Colab has PyTorch, and binder/requirements.txt names it. A notebook runs in IPython.
    there |= {"unet_np", "torch", "IPython"}
    needed = set()
    for cell in code(path)[1:]:
        assert not re.search(r"^\s*[%!]", cell.source, re.MULTILINE), "plain Python only"
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                needed |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                needed.add((node.module or "").split(".")[0])
    missing = {DISTRIBUTIONS.get(name, name) for name in needed - sys.stdlib_module_names} - there
    assert not missing


def test_binder_has_what_notebooks_need() -> None:
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    *pins, last = [line for line in lines if not line.startswith("#")]
    assert last == "-e ."
    everything = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert set(pins) <= set(everything), "the same versions as everywhere"
    extras = PROJECT["optional-dependencies"]
    chosen = [*PROJECT["dependencies"], *extras["io"], *extras["plot"], *extras["onnx"]]
    chosen += [*extras["scale"], *extras["zoo"][1:]]
    needed = requirement_names(chosen)
    assert needed | {"torch", "ipykernel"} == requirement_names(pins)


def test_binder_has_a_python_that_is_new_enough() -> None:
    text = (ROOT / "binder" / "runtime.txt").read_text(encoding="utf-8").strip()
    version = re.fullmatch(r"python-(\d+)\.(\d+)", text)
    oldest = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    assert version
    assert oldest
    assert tuple(map(int, version.groups())) >= tuple(map(int, oldest.groups()))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `pip install` of this repository puts into site-packages."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read("notebook.ipynb", as_version=4)
place = "import unet_np\\nprint(f'PLACE {unet_np.__file__}')"
notebook.cells.append(nbformat.v4.new_code_cell(place))
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
# A slow machine may hand out one line in several pieces.
print("".join(output.text for output in notebook.cells[-1].outputs))
"""


@every_notebook
def test_notebook_runs_with_the_installed_package_alone(
    path: Path, installed: Path, tmp_path: Path
) -> None:
    if path.stem not in SAMPLE and os.environ.get("UNET_NP_LAUNCH") != "all":
        pytest.skip("not in the sample; all of them: make launch")
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    shutil.copy(path, work / "notebook.ipynb")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("UNET_NP_", "MPL"))}
    # No network: an address that refuses at once.
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment |= {
        **closed,
        "PYTHONPATH": str(installed),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "UNET_NP_BACKEND": "numpy",
    }
    run = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=work, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    place = re.search(r"PLACE (.+)", run.stdout)
    assert place
    assert Path(place[1]).is_relative_to(installed)
    assert [one.name for one in work.iterdir()] == ["notebook.ipynb"], "a chapter leaves nothing"
