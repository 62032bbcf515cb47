"""The project as files: pinned versions, licences that agree, commands that exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_layout() -> None:
    for name in [
        "book",
        "unet_np",
        "tests",
        "docs",
        "_config.yml",
        "_toc.yml",
        "requirements.txt",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "book/LICENSE",
        "CITATION.cff",
        "CONTRIBUTING.md",
        ".ci/run",
        ".github/workflows",
    ]:
        assert (ROOT / name).exists(), name


def test_requirements_are_exact_and_end_with_the_package() -> None:
    *pins, last = requirements()
    assert last == "-e ."
    for pin in pins:
        assert re.fullmatch(r'[\w.-]+==[\w.]+(; sys_platform [!=]= "\w+")?', pin), pin
    assert "torch==2.13.0" in pins


def test_requirements_hold_what_the_extras_ask_for() -> None:
    pinned = {re.split(r"==", pin)[0].lower().replace("_", "-") for pin in requirements()[:-1]}
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["io"], *extras["plot"], *extras["book"]]
    wanted += [*extras["dev"], *extras["scale"]]
    names = {re.split(r"[\[<>=]", item)[0].lower() for item in wanted} - {"unet-np"}
    assert names <= pinned


def test_jupyter_book_is_version_1() -> None:
    assert any(re.match(r"jupyter-book==1\.", pin) for pin in requirements())


def test_package_needs_numpy_and_scipy_only() -> None:
    names = {re.split(r"[<>=]", item)[0] for item in PROJECT["dependencies"]}
    assert names == {"numpy", "scipy"}


LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.mark.parametrize(
    ("module", "line", "named"),
    [
        ("ops/pool.py", "import unet_np.network.unet", "unet_np.ops.pool -> unet_np.network.unet"),
        (
            "ops/pool.py",
            "def f():\n    import unet_np.images",
            "unet_np.ops.pool -> unet_np.images",
        ),
        ("tiling/plan.py", "import cupy", "unet_np.tiling.plan -> cupy"),
        ("training/loop.py", "import torch", "unet_np.training.loop -> torch"),
        ("attic.py", "", "unet_np.attic"),
    ],
)
def test_an_import_that_does_not_point_down_fails_the_build(
    tmp_path: Path, module: str, line: str, named: str
) -> None:
    for path in (ROOT / "unet_np").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    with (tmp_path / "unet_np" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert named in done.stdout


def test_the_house_has_few_places() -> None:
    places = [
        p
        for p in (ROOT / "unet_np").iterdir()
        if p.suffix == ".py" or (p / "__init__.py").is_file()
    ]
    assert len([p for p in places if p.is_file()]) <= 8
    assert len(places) <= 25


def test_the_design_names_every_room() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    for room in (ROOT / "unet_np").glob("*/__init__.py"):
        assert f"`{room.parent.name}`" in design, room


def test_readme_commands_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", README))
    assert {"book", "test", "serve"} <= named <= targets


def test_readme_links_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_readme_lists_every_chapter() -> None:
    for path in (ROOT / "book").glob("*.ipynb"):
        assert f"(book/{path.name})" in README


def test_ci_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"\s*make\b", line)] == ["make test"]
    assert os.access(script, os.X_OK)


def test_versions_and_licences_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert "CC BY 4.0" in (ROOT / "book" / "LICENSE").read_text(encoding="utf-8")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["repository"]["url"] == citation["repository-code"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=str)
def test_workflows_are_yaml_with_jobs(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def test_no_data_files_and_nothing_large_in_the_repository() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert names
    for name in names:
        assert not name.endswith((".tif", ".tiff", ".zip")), name
        assert (ROOT / name).stat().st_size < 8_000_000, name


REQUIRED = """
import pytest
@pytest.mark.data
def test_needs_data():
    pytest.skip("no data here")
@pytest.mark.reference
def test_needs_reference():
    pytest.skip("no values here")
def test_skips_for_another_reason():
    pytest.skip("no browser here")
"""


@pytest.mark.parametrize(("required", "outcome"), [("1", "2 failed, 1 skipped"), ("", "3 skipped")])
def test_missing_data_fails_where_data_is_required(
    tmp_path: Path, required: str, outcome: str
) -> None:
    (tmp_path / "test_it.py").write_text(REQUIRED)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT),
         "-c", str(ROOT / "pyproject.toml"), "--confcutdir", str(ROOT), "-p", "conftest",
         str(tmp_path / "test_it.py")],
        cwd=ROOT / "tests", capture_output=True, text=True, check=False,
        env={**os.environ, "UNET_NP_REQUIRE_DATA": required, "PYTHONPATH": str(ROOT / "tests")},
    )  # fmt: skip
    assert outcome in run.stdout, run.stdout + run.stderr


def test_readme_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example
    names: dict[str, object] = {}
    exec(example[1], names)
    assert names["logits"].shape == (1, 2, 4, 4)  # type: ignore[attr-defined]
    assert "572 x 572" in capsys.readouterr().out
