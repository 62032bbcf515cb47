"""The benchmark: its arithmetic, and that every part runs. No time is asserted."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import gpu, speed, timing
from bench.__main__ import main
from bench.account import VARIANTS, variant
from bench.layers import layer_cases
from bench.network import bench_scaling, peak_of
from bench.process import in_own_process
from bench.ranks import TILES
from bench.report import layer_ratio, report
from unet_np import Architecture, backend
from unet_np.ops import winograd

ROOT = Path(__file__).parent.parent


def test_ratios_are_to_the_faster_peer() -> None:
    times = {"own": [1.0, 3.0], "slow": [9.0, 9.0], "fast": [2.0, 2.0]}
    assert timing.ratios(times, "own", ["slow", "fast"]) == [0.5, 1.5]


def test_contenders_run_in_turn() -> None:
    order: list[str] = []
    times = timing.interleaved({n: lambda n=n: order.append(n) for n in "ab"}, repeats=2)
    assert order == ["a", "b", "a", "b", "a", "b"]  # the first round is not measured
    assert all(len(seconds) == 2 and min(seconds) >= 0 for seconds in times.values())


def test_a_short_call_has_one_before_it_that_is_not_measured() -> None:
    order: list[str] = []
    calls = {n: lambda n=n: order.append(n) for n in "ab"}
    times = timing.interleaved(calls, repeats=2, settle=60)
    assert order == ["a", "b", *"aabb", *"aabb"]
    assert [len(seconds) for seconds in times.values()] == [2, 2]
    order.clear()
    timing.interleaved(calls, repeats=1, settle=1e-12)
    assert order == ["a", "b", "a", "b"]


def test_layer_cases_are_those_of_the_network() -> None:
    cases = layer_cases(Architecture(), 572)
    assert [(case.size, case.into, case.out) for case in cases[1:4]] == [
        (570, 64, 64),
        (284, 64, 128),
        (282, 128, 128),
    ]
    # The trial's table counts the whole forward pass, 301 GFLOP, with up-convolutions.
    assert sum(case.operations for case in cases) == pytest.approx(290e9, rel=0.01)


def test_variants_leave_nothing_behind() -> None:
    before = {key: getattr(*key) for _, _, constants in VARIANTS for key in constants}
    for _, _, constants in VARIANTS:
        with variant(constants):
            assert all(getattr(*key) == value for key, value in constants.items())
    assert before == {key: getattr(*key) for key in before}


def test_an_error_in_a_variant_restores_the_constants() -> None:
    before = winograd.MIN_TILES
    with pytest.raises(RuntimeError), variant({(winograd, "MIN_TILES"): 3}):
        raise RuntimeError
    assert before == winograd.MIN_TILES


@pytest.mark.slow
def test_every_part_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["network", "--base-channels", "2", "--size", "188", "--repeats", "1"]
    out, picture = tmp_path / "bench.json", tmp_path / "roofline.png"
    parts = ["layers", "network", "memory", "account"]
    with backend.using_threads(1):  # PyTorch's threads would wait for those of other tests
        code = main(
            [*arguments, "--quick", "--only", *parts, "--out", str(out), "--picture", str(picture)]
        )
    printed = capsys.readouterr().out
    assert code == 0
    result = json.loads(out.read_text())
    assert {"command", "commit", "versions", "machine", "gemm_rate", *parts} <= set(result)
    assert len(result["layers"]) == 18
    for kind in ("forward", "step"):
        assert result["network"][kind]["ratio"] > 0
        assert f"{kind}: unet_np" in printed
    assert picture.stat().st_size > 10_000
    assert printed.strip() == report(result).strip()


def test_peak_memory_is_that_of_the_feature_maps() -> None:
    """A step keeps at least what the 3x3 convolutions read; 100 MB more is not its own."""
    peak = in_own_process(peak_of, "unet_np", "step", "numpy", 8, 316, 1)
    shapes = Architecture(base_channels=8).shapes((1, 1, 316, 316))
    kept = sum(4 * math.prod(shape) for layer, shape in shapes if layer.kind == "relu")
    assert kept < peak < kept + 100e6


def test_scaling_reports_sizes_batches_and_threads() -> None:
    scaling = bench_scaling(1, [188, 204], [1, 2], 1, np)
    assert set(scaling["sizes"]) == {"188", "204"}
    assert scaling["batches"]["1"] == 1
    assert "1" in scaling["threads"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["metrics", "--size", "32"], ["mostly right", "warping_error", "v_info"]),
        (["tiling", "--size", "64", "--base-channels", "1"], ["peak_rss_mb"]),
        (["volumes", "--slices", "2", "--side", "64", "--base-channels", "1"], ["volume", "peak_"]),
        (["segment", "--cases", "64:1M", "64:900M:instances"], ["peak_mib", "expected at least"]),
    ],
)
def test_tables(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.json"
    assert main([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)
    result = json.loads(out.read_text())
    assert result["command"] == " ".join(["python -m bench", *arguments, "--out", str(out)])
    assert len(printed.splitlines()) == len(result["rows"]) + 1


@pytest.mark.parametrize("name", ["augment", "weight_map"])
def test_tables_against_scipy(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "weight_map":
        monkeypatch.setattr("bench.weight_map.CASES", [(64, 3, 5), (64, 0, 5)])
    else:
        monkeypatch.setattr("bench.augment.SIZES", (64,))
    assert main([name, "--repeats", "1"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "ratio"
    assert all(float(row.split()[-1]) > 0 for row in rows)


def test_the_stored_text_is_that_of_the_stored_figures(capsys: pytest.CaptureFixture[str]) -> None:
    figures = ROOT / "results" / "bench-cpu.json"
    assert main(["speed", "--figures", str(figures)]) == 0
    assert capsys.readouterr().out == (ROOT / "results" / "speed.md").read_text("utf-8")
    assert set(speed.EXPECTED) >= {
        row["name"] for row in json.loads(figures.read_text())["account"]["rows"]
    }


def test_layer_ratio_is_to_the_better_layout() -> None:
    row = {"forward": {"auto": 2.0, "torch nchw": 1.0, "torch channels_last": 4.0}}
    assert layer_ratio(row, "forward") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "0"], "--repeats: got 0, expected an integer >= 1"),
        (["--size", "500"], "input size: got 500, which is odd"),
        (["--threads", "0"], "threads: got 0, expected an integer >= 1"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["network", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_ranks_and_threads_take_turns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "ranks.json"
    command = ["ranks", "--channels", "2", "--sizes", "188", "--repeats", "1", "--out", str(out)]
    if not Path(sys.executable).with_name("mpirun").exists():
        pytest.skip("no MPI beside this Python")
    assert main(command) == 0
    (row,) = json.loads(out.read_text())["networks"]
    assert (row["size"], row["channels"]) == (188, 2)
    assert row["bytes"] == 4 * Architecture(base_channels=2).parameters
    assert set(row["seconds"]) == set(TILES)
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in row["seconds"].values())
    assert "two ranks" in capsys.readouterr().out
    assert main(["ranks", "--repeats", "0"]) == 2


@pytest.mark.slow
def test_the_stages_for_a_gpu_run_on_the_processor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("probe", "ways", "layers", "training", "hela"):
        gpu.STAGES[name](gpu.Stage(name, tmp_path, 60, quick=True))
    # At home: nothing is measured again, and the machine stays the one that was measured.
    made = json.loads((tmp_path / "probe.json").read_text())["made"] | {"machine": "there"}
    found = json.loads((tmp_path / "probe.json").read_text()) | {"made": made}
    (tmp_path / "probe.json").write_text(json.dumps(found))
    out = tmp_path / "out" / "bench-gpu.json"
    out.parent.mkdir()
    assert main(["gpu", "--folder", str(tmp_path), "--only", "score", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["machine"] == "there"
    stages = result["stages"]
    assert stages["probe"]["gemm_rate_tf32"] > 0
    assert stages["ways"]["step_tf32"]["faster"] in ("im2col", "winograd_cuda")
    assert stages["layers"]["tf32"][0]["forward"]["im2col"] > 0
    assert min(stages["training"][name] for name in ("step", "tile", "one_thread")) > 0
    assert stages["hela"]["steps"] == 10
    assert "seg_measure" in stages["hela-scores"]["scores"]
    assert "hela" in capsys.readouterr().out


def test_a_stage_that_fails_or_is_cut_off_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    stage = ["gpu", "--folder", str(tmp_path), "--only", "layers"]
    for more, key, words in (
        (["--seconds", "6000"], "failed", "cupy"),
        (["--quick", "--seconds", "0.01"], "stopped", "after 0 s"),
    ):
        assert main([*stage, *more, "--out", str(tmp_path / "all.json")]) == 0
        assert words in json.loads((tmp_path / "all.json").read_text())["stages"]["layers"][key]
        (tmp_path / "all.json").unlink()
