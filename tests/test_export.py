"""Leaving: ONNX against ONNX Runtime, PyTorch in a process without this package."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np import UNet, pretrained
from unet_np.cli import main
from unet_np.export import save_onnx, save_torch, to_onnx
from unet_np.export.onnx_model import difference
from unet_np.network.kinds import batch_norm

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

OPTIONS = [
    {},
    {"padding": 1},
    {"up": "nearest"},
    {"up": "bilinear"},
    {"up": "bilinear", "padding": 1, "norm": "batch"},
    {"norm": "batch"},
    {"norm": "instance"},
    {"output": "vector", "norm": "instance", "padding": 1},
    {"output": "vector", "num_classes": 5},
    {"output": "vector", "norm": "batch", "padding": 1},
    {"task": "detect", "output": "map", "num_classes": 3},
    {"task": "depth", "output": "map", "num_classes": 1, "up": "nearest", "padding": 1},
    {"in_channels": 3, "num_classes": 4},
]


def network(depth=2, base_channels=3, **options):
    """Random weights, biases and statistics: initial ones would hide what is mixed up."""
    net = UNet(base_channels=base_channels, depth=depth, backend="numpy", seed=3, **options)
    rng = np.random.default_rng(1)
    net.set_params(
        {name: a + 0.03 * rng.standard_normal(a.shape) for name, a in net.params.items()}
    )
    if net.buffers:
        shape = (2, net.architecture.in_channels, *[net.architecture.min_input_size + 8] * 2)
        for _ in range(25):
            net.forward(rng.standard_normal(shape, np.float32), train=True)
    return net


def run_onnx(model, image):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(["logits"], {"image": image})
    return logits


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_onnx_gives_the_same_logits_at_several_sizes(options):
    net = network(**options)
    model, table = to_onnx(net), net.architecture
    smallest, step = table.min_input_size, table.size_step
    for batch, height, width in [(1, 0, 0), (2, 3, 1), (3, 1, 8)]:
        shape = (batch, table.in_channels, smallest + height * step, smallest + width * step)
        image = np.random.default_rng(height).standard_normal(shape, np.float32)
        expected, got = net.forward(image), run_onnx(model, image)
        assert got.shape == expected.shape
        assert (np.ptp(expected, axis=(2, 3)) if table.has_map else np.ptp(expected)).min() > 0.01
        np.testing.assert_allclose(got, expected, atol=1e-4)


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 4), st.sampled_from([0, 1]))
def test_onnx_at_any_depth_and_size(depth, height, width, padding):
    net = network(depth=depth, base_channels=2, padding=padding)
    table = net.architecture
    sizes = [tuple(table.min_input_size + n * table.size_step for n in (height, width))]
    assert difference(net, to_onnx(net).SerializeToString(), sizes) < 1e-4


def test_the_papers_network():
    net = UNet(base_channels=8, backend="numpy", seed=1)
    model = to_onnx(net)
    sizes = [(572, 572), (188, 220)]
    assert difference(net, model.SerializeToString(), sizes) < 1e-4
    output = model.graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in output] == [
        "batch",
        2,
        "output_height",
        "output_width",
    ]


def test_float64_is_written_as_float32():
    net = UNet(base_channels=2, depth=1, dtype="float64", backend="numpy")
    assert difference(net, to_onnx(net).SerializeToString()) < 1e-4


def test_a_difference_is_seen():
    net = network()
    content = to_onnx(net).SerializeToString()
    net.params["expand1.conv1.bias"] += 0.01
    assert difference(net, content) > 1e-4


def test_metadata_tell_how_to_use_it(tmp_path):
    net = network()
    save_onnx(net, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(found["unet_np"])["architecture"] == net.architecture.to_dict()
    assert found["normalisation"] == "zero mean and unit variance of each channel of each image"
    assert found["input_sizes"] == "44 + 4 k for k = 0, 1, 2, ..., and no others"
    assert found["margin_on_each_side"] == str(net.architecture.margin // 2)
    names = {tensor.name for tensor in model.graph.initializer}
    assert set(net.params) <= names


def test_a_wrong_model_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_norm, "EPSILON", 0.5)
    with pytest.raises(RuntimeError, match=r"the ONNX model differs from the network by \d"):
        save_onnx(network(norm="batch"), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_without_onnxruntime_it_is_written_and_said(tmp_path, monkeypatch, capsys):
    net = network()
    net.save(tmp_path / "a.safetensors")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    command = ["export", "--weights", str(tmp_path / "a.safetensors")]
    assert main([*command, "--onnx", str(tmp_path / "a.onnx")]) == 0
    assert "not compared: onnxruntime is not installed" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main([*command, "--onnx", str(tmp_path / "b.onnx")]) == 1
    assert "pip install 'unet-np[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "b.onnx").exists()


# PyTorch

ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("unet_np", "scipy", "onnx"):
            raise ImportError(f"{name} is not to be had here")
sys.meta_path.insert(0, Refuse())
import torch
torch.set_num_threads(1)
*usage, note = open(sys.argv[1]).read().strip().splitlines()
assert len(usage) == 2 and note.startswith("# logits = net(image)")
exec("\\n".join(usage))
from safetensors.torch import load_file, save_file
with torch.no_grad():
    image = load_file("image.st")["image"]
    save_file({"logits": net(image).contiguous()}, "logits.st")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"up": "bilinear", "norm": "batch"}, {"norm": "instance"}, {"output": "vector"}],
    ids=str,
)
def test_the_folder_works_where_this_package_does_not_exist(tmp_path, options):
    from safetensors.numpy import load_file, save_file

    net = network(**options)
    files = save_torch(net, tmp_path / "model")
    size = net.architecture.min_input_size + net.architecture.size_step
    image = np.random.default_rng(0).standard_normal((2, 1, size, size), np.float32)
    save_file({"image": image}, tmp_path / "model" / "image.st")

    subprocess.run([sys.executable, "-c", ALONE, files[2].name], check=True, cwd=tmp_path / "model")
    logits = load_file(tmp_path / "model" / "logits.st")["logits"]
    np.testing.assert_allclose(logits, net.forward(image), atol=1e-4)


def test_the_folder_by_the_name_of_the_weights(tmp_path):
    files = save_torch(network(), tmp_path / "mine.safetensors")
    assert [file.name for file in files] == ["mine.safetensors", "torch_unet.py", "mine.txt"]
    assert 'load_file("mine.safetensors")' in files[2].read_text()
    assert "18 pixels smaller" not in files[2].read_text()
    assert f"{network().architecture.margin // 2} pixels smaller" in files[2].read_text()


# The command


@pytest.fixture
def weights(tmp_path):
    network().save(tmp_path / "run" / "weights.safetensors")
    return tmp_path / "run"


def test_the_command_writes_both(weights, tmp_path, capsys):
    out = [str(tmp_path / "m.onnx"), str(tmp_path / "m")]
    assert main(["export", "--weights", str(weights), "--onnx", out[0], "--torch", out[1]]) == 0
    text = capsys.readouterr().out
    assert f"wrote {out[0]}\nlargest difference to ONNX Runtime: " in text
    assert float(text.split("Runtime: ")[1].split()[0]) < 1e-4
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "torch_unet.py",
        "weights.safetensors",
        "weights.txt",
    ]
    assert main(["export", "--weights", str(weights), "--onnx", out[0], "-q"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["em", "hela"])  # without normalisation, and with it
def test_a_network_of_the_package_by_name(tmp_path, capsys, name):
    out = tmp_path / "model.onnx"
    assert main(["export", "--model", name, "--onnx", str(out)]) == 0
    net = pretrained.load(name, backend="numpy")
    assert difference(net, out.read_bytes(), [(252, 188)]) < 1e-4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--onnx: got neither --onnx nor --torch nor --bioimageio, expected at least one"),
        (["--onnx", "m.pb"], "--onnx: got m.pb, expected a name that ends in .onnx"),
        (["--torch", "file"], "--torch: got the file file, expected the name of a folder"),
        (["--torch", "run"], "--torch: got run/weights.safetensors, which is an input, expe"),
        (["--onnx", "file/m.onnx"], "--onnx: got file/m.onnx, expected a place that can be wri"),
        (["--onnx", "a.onnx", "--model", "em"], "--model: got em with --weights, expected one"),
    ],
)
def test_mistakes_are_one_line(weights, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", "--weights", "run", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"unet-np export: error: {message}")
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_that_are_none(tmp_path, capsys):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    command = ["export", "--weights", str(tmp_path / "a.safetensors")]
    assert main([*command, "--onnx", str(tmp_path / "a.onnx")]) == 2
    assert "expected a whole .safetensors file" in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()
