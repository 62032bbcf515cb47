"""A short run of `tools/fuzz_images.py`: mutated files give what their peers read, or one line."""

from collections import Counter

import pytest

from tools import fuzz_images as fuzz


@pytest.mark.filterwarnings("ignore")
def test_mutated_files():
    found = list(fuzz.run(900, seed=0))
    outcomes = Counter(outcome for _, outcome, _, _ in found)
    assert not [one for one in found if one[1] in fuzz.FAULTS]
    assert outcomes["refused"] > 300
    assert outcomes["read, the same"] > 100
    assert outcomes["read, not by the peer"] + outcomes["read, not compared"] < 20


@pytest.mark.filterwarnings("ignore")
def test_whole_files_are_what_their_peers_read(tmp_path):
    originals = fuzz.seeds(fuzz.np.random.default_rng(0))
    for name, content in originals.items():
        (tmp_path / name).write_bytes(content)
        assert fuzz.check(tmp_path / name)[0] == "read, the same", name
