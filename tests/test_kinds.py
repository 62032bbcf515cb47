"""A kind of layer is one class: two that the package does not know, from training to export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from oracles import directional_error, leaf, relative_error

from unet_np import SGD, Architecture, InputError, TrainConfig, UNet, ops, predict_tiled, train
from unet_np.backend import array_module, to_numpy
from unet_np.cli import main
from unet_np.export import save_torch, to_onnx, to_torch
from unet_np.export.onnx_model import difference
from unet_np.network.architecture import NORMS, OUTPUTS, UPS
from unet_np.network.kinds import KINDS, Kind, register
from unet_np.network.layer import Layer
from unet_np.tiling.memory import forward_bytes

SLOPE = 0.01


class LeakyReLU(Kind):
    """max(x, 0.01 x), in place."""

    slot = "activation"
    words = "leaky ReLU"
    in_place = True
    torch = "LeakyReLU"

    def forward(self, layer, x, run):
        array_module(x).maximum(x, SLOPE * x, out=x)
        return x, x

    def backward(self, layer, grad, cache, run):
        grad *= array_module(grad).where(cache > 0, 1, SLOPE)
        return grad

    def onnx(self, layer, value, graph):
        return graph.node("LeakyRelu", layer, [value], alpha=SLOPE)


class PReLU(Kind):
    """max(x, 0) + w min(x, 0) with a number w that is learned, for all channels the same."""

    slot = "activation"
    words = "PReLU"
    torch = "PReLU"
    start: ClassVar = {"weight": 0.25}

    def parameter_shapes(self, layer):
        return {"weight": (1,)}

    def forward(self, layer, x, run):
        (weight,) = run.arrays(layer)
        return array_module(x).where(x > 0, x, weight * x), (x, weight)

    def backward(self, layer, grad, cache, run):
        x, weight = cache
        xp = array_module(grad)
        run.set_grads(layer, (grad * xp.minimum(x, 0)).sum().reshape(1))
        return grad * xp.where(x > 0, xp.ones_like(weight), weight)

    def onnx(self, layer, value, graph):
        return graph.node("PRelu", layer, [value, *graph.weights(layer)])


NEW = {"leaky_relu": LeakyReLU, "prelu": PReLU}


@pytest.fixture(params=NEW)
def activation(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a kind that is registered for one test."""
    register(request.param)(NEW[request.param])
    yield request.param
    del KINDS[request.param]


def network(activation: str, **options: Any) -> UNet:
    """Small, in float64, with biases that are not 0."""
    options = {"base_channels": 3, "depth": 2, "dropout": 0, "dtype": "float64"} | options
    net = UNet(activation=activation, backend="numpy", **options)
    rng = np.random.default_rng(1)
    net.set_params({name: p + 0.05 * rng.normal(size=p.shape) for name, p in net.params.items()})
    return net


def noise(net: UNet, more: int = 1, batch: int = 2) -> np.ndarray:
    """As large as the smallest input and some steps more."""
    side = net.architecture.min_input_size + more * net.architecture.size_step
    return np.random.default_rng(0).normal(size=(batch, net.architecture.in_channels, side, side))


def test_it_stands_in_the_table_where_the_relu_stood(activation: str) -> None:
    layers, paper = Architecture(activation=activation).layers, Architecture().layers
    assert [layer.name for layer in layers] == [layer.name for layer in paper]
    kinds = {old.kind: new.kind for old, new in zip(paper, layers, strict=True)}
    assert kinds.pop("relu") == activation
    assert all(old == new for old, new in kinds.items())


def test_gradients_agree_with_finite_differences(activation: str) -> None:
    net = network(activation, norm="batch")
    x = noise(net, 0)
    side = net.architecture.output_size(x.shape[2])
    labels = np.random.default_rng(2).integers(0, 2, (2, side, side))
    _, grad_logits = ops.weighted_cross_entropy(net.forward(x, train=True), labels)
    grads = [net.backward(grad_logits), *net.grads.values()]
    names, arrays = list(net.params), [np.array(p) for p in net.params.values()]

    def energy(x: np.ndarray, *params: np.ndarray) -> float:
        net.set_params(dict(zip(names, params, strict=True)))
        return float(ops.weighted_cross_entropy(net.forward(x, True), labels)[0])

    for seed in range(3):
        assert directional_error(energy, [x, *arrays], grads, seed, step=1e-8) <= 1e-5


@pytest.mark.parametrize(
    "options", [{}, {"output": "vector"}, {"up": "bilinear", "padding": 1, "norm": "batch"}]
)
def test_pytorch_gives_the_same_logits_and_gradients(
    activation: str, options: dict[str, object]
) -> None:
    net = network(activation, **options)
    x = noise(net)
    module, tensor = to_torch(net).train(), leaf(x)
    logits, expected = net.forward(x, train=True), module(tensor)
    grad = np.random.default_rng(3).normal(size=logits.shape)
    grad_x = net.backward(grad)
    expected.backward(torch.from_numpy(grad))
    assert relative_error(logits, expected) <= 1e-10
    assert relative_error(grad_x, tensor.grad) <= 1e-10
    for name, parameter in module.named_parameters():
        # A bias before a batch normalisation has a gradient of 0, up to rounding.
        if abs(net.grads[name]).max() > 1e-9:
            assert relative_error(net.grads[name], parameter.grad) <= 1e-10, name


def test_it_learns(activation: str) -> None:
    net = network(activation, dtype="float32")
    x = noise(net)
    side = net.architecture.output_size(x.shape[2])
    labels = np.random.default_rng(4).integers(0, 2, (2, side, side))
    optimiser, before, losses = SGD(net.params, 0.02, 0.9), dict(net.params), []
    before = {name: p.copy() for name, p in net.params.items()}
    for _ in range(20):
        loss, grad = ops.weighted_cross_entropy(
            net.forward(x, train=True), labels, reduction="mean"
        )
        net.backward(grad, need_grad_x=False)
        optimiser.step(net.grads)
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    assert all(not np.array_equal(net.params[name], before[name]) for name in before)


def test_a_training_goes_on_where_it_stopped(activation: str, tmp_path: Path) -> None:
    config = TrainConfig(
        activation=activation, base_channels=2, depth=1, steps=4, input_size=36, weight_map=False
    )
    config = config.replace(validation="none", tensorboard=False, backend="numpy")
    whole = train(config.replace(out=str(tmp_path / "whole")), progress=False)
    parts = config.replace(out=str(tmp_path / "parts"))
    train(parts.replace(steps=2), progress=False)
    resumed = train(parts, resume=True, progress=False)
    for name, array in whole.net.state.items():
        assert np.array_equal(resumed.net.state[name], array), name
    with pytest.raises(InputError, match=rf"^activation: got 'relu', expected '{activation}'"):
        train(parts.replace(activation="relu"), resume=True, progress=False)


def test_tables_tell_of_it(
    activation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, words = network(activation), KINDS[activation].words
    assert f"contract1.relu1      {words}" in net.summary()
    assert f"{sum(p.size for p in net.params.values()):,} parameters" in net.summary()
    net.save(tmp_path / "net.safetensors")
    assert main(["summary", "--weights", str(tmp_path / "net.safetensors")]) == 0
    assert f"contract1  (conv 3x3 pad 0, {words}) x 2" in capsys.readouterr().out


def test_a_file_brings_it_back(activation: str, tmp_path: Path) -> None:
    net = network(activation)
    net.save(tmp_path / "net.safetensors")
    again = UNet.load(tmp_path / "net.safetensors", backend="numpy", dtype="float64")
    assert again.architecture == net.architecture
    assert np.array_equal(again.forward(noise(net)), net.forward(noise(net)))


def test_tiles_are_the_whole_image(activation: str) -> None:
    net, image = network(activation), np.random.default_rng(5).normal(size=(70, 90))
    smallest = net.architecture.min_input_size + 2 * net.architecture.size_step
    tiled = predict_tiled(net, image, tile=smallest)
    whole = predict_tiled(net, image, tile=net.architecture.input_size_for_output(90))
    np.testing.assert_allclose(tiled, whole, atol=1e-12)
    assert np.ptp(whole) > 0.01


def test_what_works_in_place_takes_no_more_memory() -> None:
    tile = (188, 188)
    relu = forward_bytes(Architecture(), tile)
    for name, kind in NEW.items():
        register(name)(kind)
        taken = forward_bytes(Architecture(activation=name), tile)
        del KINDS[name]
        assert taken == relu if kind.in_place else taken > relu


def test_onnx_runtime_gives_the_same_logits(activation: str) -> None:
    for options in ({}, {"padding": 1, "norm": "batch"}):
        net = network(activation, dtype="float32", **options)
        model = to_onnx(net)
        operators = [node.op_type for node in model.graph.node]
        assert operators.count(f"{'P' if activation == 'prelu' else 'Leaky'}Relu") == 10
        assert difference(net, model.SerializeToString()) < 1e-5


def test_the_folder_for_pytorch_names_the_class(activation: str, tmp_path: Path) -> None:
    files = save_torch(network(activation), tmp_path)
    text = files[2].read_text("utf-8")
    assert f"activation='{KINDS[activation].torch}'" in text


def test_a_wrong_name_is_one_line(activation: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = activation.replace("l", "ll")
    message = (
        f"activation: got {wrong!r}, expected one of relu, {activation}; nearest valid is "
        f"{activation!r}"
    )
    for call in (UNet, Architecture, TrainConfig):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            call(activation=wrong)
    assert main(["train", "--activation", wrong]) == 2
    assert capsys.readouterr().err == f"unet-np train: error: {message}\n"
    with pytest.raises(
        InputError, match=rf"^kind: got {wrong!r}, expected one of .*, {activation};"
    ):
        _ = Layer("a", "a", wrong, 1, 1).words


def test_only_an_activation_may_be_one() -> None:
    with pytest.raises(InputError, match=r"^activation: got 'pool', expected one of relu; nearest"):
        Architecture(activation="pool")


def test_a_file_of_an_unknown_kind_is_one_line(tmp_path: Path) -> None:
    register("leaky_relu")(LeakyReLU)
    network("leaky_relu").save(tmp_path / "net.safetensors")
    del KINDS["leaky_relu"]
    with pytest.raises(InputError, match=r"^activation: got 'leaky_relu', expected one of relu;"):
        UNet.load(tmp_path / "net.safetensors")


def test_what_a_kind_does_not_say_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Plain(Kind):
        slot = "activation"
        forward, backward = LeakyReLU.forward, LeakyReLU.backward

    monkeypatch.setitem(KINDS, "plain", Plain())
    net = network("plain")
    assert net.forward(noise(net)).shape[1] == 2
    message = "contract1.relu1: got a layer of kind plain, which has no ONNX nodes, expected one"
    with pytest.raises(InputError, match=f"^{message} that has$"):
        to_onnx(net)
    message = "activation: got 'plain', which has no class in torch.nn, expected one of relu"
    for call in (to_torch, lambda net: save_torch(net, tmp_path / "torch")):
        with pytest.raises(InputError, match=f"^{message}$"):
            call(net)
    assert not list(tmp_path.iterdir())


def test_a_kind_needs_both_ways_and_a_name_of_its_own() -> None:
    class OneWay(Kind):
        forward = LeakyReLU.forward

    with pytest.raises(TypeError, match="abstract"):
        register("one_way")(OneWay)
    assert "one_way" not in KINDS
    with pytest.raises(InputError, match=r"^kind: got 'relu', which is taken, expected another"):
        register("relu")(LeakyReLU)
    assert not isinstance(KINDS["relu"], LeakyReLU)


def test_a_cell_may_run_twice(activation: str) -> None:
    before = KINDS[activation]
    register(activation)(type(before))
    assert KINDS[activation] is not before


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("norm", sorted(NORMS))
@pytest.mark.parametrize("up", UPS)
def test_kinds_are_as_they_say(up: str, norm: str, output: str, padding: int) -> None:
    """Shapes, and what is done in place, by what happens to arrays."""
    net = network("relu", up=up, norm=norm, output=output, padding=padding)
    x = noise(net)
    run = net.begin_pass()
    for layer, shape in net.architecture.shapes(x.shape):
        before, x = x, run.forward(layer, x)
        assert x.shape == shape == layer.output_shape(before.shape)
        assert np.shares_memory(before, x) == layer.its_kind.in_place, layer.kind
        for part, expected in (layer.parameter_shapes | layer.buffer_shapes).items():
            assert net.state[f"{layer.name}.{part}"].shape == expected
    assert not run.skips
    assert not run.caches


def test_files_of_the_papers_network_name_no_activation(tmp_path: Path) -> None:
    from safetensors import safe_open

    net = network("relu")
    net.save(tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", framework="numpy") as file:
        described = json.loads(file.metadata()["unet_np"])["architecture"]
    # What versions wrote that knew no other: they read it, and it is read.
    assert set(described) == {
        *("in_channels", "num_classes", "base_channels", "depth", "padding"),
        *("up", "norm", "task", "output"),
    }
    assert UNet.load(tmp_path / "net.safetensors").architecture == net.architecture


def test_on_the_device_too(activation: str, xp: Any) -> None:
    if xp is np:
        return
    host = network(activation)
    device = UNet(**host.architecture.to_dict(), dropout=0, dtype="float64", backend="cupy")
    device.set_params(host.params)
    x = noise(host)
    logits = host.forward(x, train=True)
    there = device.forward(xp.asarray(x), train=True)
    assert relative_error(to_numpy(there), logits) <= 1e-10
    assert relative_error(device.backward(there), host.backward(logits)) <= 1e-9
    for name, grad in host.grads.items():
        assert relative_error(device.grads[name], grad) <= 1e-9
