"""A short run of `tools/fuzz_images.py`: mutated files give what their peers read, or one line."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "fuzz_images.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_images", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_mutated_files(fuzz):
    found = list(fuzz.run(900, seed=0))
    outcomes = Counter(outcome for _, outcome, _, _ in found)
    faults = [one for one in found if one[1] in ("traceback", "two lines", "hang", "different")]
    assert not faults
    assert outcomes["refused"] > 300
    assert outcomes["read, the same"] > 100
    assert outcomes["read, not by the peer"] + outcomes["read, not compared"] < 20


@pytest.mark.filterwarnings("ignore")
def test_whole_files_are_what_their_peers_read(fuzz, tmp_path):
    originals = fuzz.seeds(fuzz.np.random.default_rng(0))
    for name, content in originals.items():
        (tmp_path / name).write_bytes(content)
        assert fuzz.check(tmp_path / name)[0] == "read, the same", name
