"""Run the book's notebooks and store their outputs, with nothing that varies by itself.

    python tools/notebooks.py                     # all notebooks of the book
    python tools/notebooks.py book/intro.ipynb    # one of them

Cell ids are kept, execution times are not recorded, and the metadata is the same for all
notebooks, so that a diff shows what changed in the book and nothing else. The first cell of code
installs the package where there is none, as on Colab; the book's pages do not show it.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient

from unet_np.files import atomic_write

BOOK = Path(__file__).resolve().parent.parent / "book"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# The metadata of a cell that the book reads; all else is an editor's.
CELL_KEYS = ("tags", "mystnb", "slideshow")
# What an exercise is checked with tells its answer: Jupyter and Colab fold it, pages leave it out.
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}
INSTALL = """# Where the package is not installed, as on Colab, this installs it.
import importlib.util

if importlib.util.find_spec("unet_np") is None:
    %pip install --quiet "unet-np[EXTRAS] @ git+REPOSITORY"
"""


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what its editor or its kernel's version put into it."""
    begin_with_installation(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat_minor = 5
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in CELL_KEYS if cell.metadata.get(key)}
        if "checker" in kept.get("tags", []):
            kept |= FOLDED
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", []):
            output.pop("transient", None)
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs with each stream in one piece; a busy machine cuts it where it likes."""
    whole: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and whole and whole[-1].get("name") == output.name:
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def begin_with_installation(notebook: nbformat.NotebookNode) -> None:
    """Put the cell that installs the package before all other code, if it is not there."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code:
        return
    if code[0].id != "install":
        first = nbformat.v4.new_code_cell(id="install", metadata={"tags": ["remove-cell"]})
        notebook.cells.insert(notebook.cells.index(code[0]), first)
        for number, cell in enumerate([first, *code], start=1):
            cell.execution_count = number
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = number
        code = [first, *code]
    config = yaml.safe_load((BOOK.parent / "_config.yml").read_text(encoding="utf-8"))
    # Only what exports needs the packages for it, and only volumes need Zarr and Dask.
    lines = "\n".join(cell.source for cell in code)
    more = {
        "onnx": r"^\s*(import|from) onnx",
        "scale": r"^\s*(import|from) zarr",
        "zoo": r"unet_np\(.export .*--bioimageio",
    }
    wanted = (name for name, line in more.items() if re.search(line, lines, re.M))
    extras = ",".join(["io", "plot", *wanted])
    text = INSTALL.replace("REPOSITORY", config["repository"]["url"])
    code[0].source = text.replace("EXTRAS", extras).rstrip()


def run(path: Path) -> bool:
    """Run a notebook in its own folder and store it; whether the file changed."""
    before = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    begin_with_installation(notebook)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    after = nbformat.writes(clean(notebook)) + "\n"
    if after == before:
        return False
    with atomic_write(path) as temporary:
        temporary.write_text(after, encoding="utf-8")
    return True


def main(arguments: list[str]) -> int:
    """Run the notebooks named, or all of them."""
    # Stored outputs are NumPy's; inline pictures need matplotlib's own choice of backend.
    os.environ.setdefault("UNET_NP_BACKEND", "numpy")
    os.environ.pop("MPLBACKEND", None)
    paths = [Path(name).resolve() for name in arguments] or sorted(BOOK.glob("**/*.ipynb"))
    for path in paths:
        if ".ipynb_checkpoints" in path.parts:
            continue
        start = time.perf_counter()
        changed = run(path)
        seconds = time.perf_counter() - start
        print(f"{path.name}: {'stored' if changed else 'unchanged'}, {seconds:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
