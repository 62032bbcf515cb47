"""Fifty steps of training beside PyTorch: same weights, same tiles, dropout off."""

import numpy as np
import pytest

from unet_np import UNet, backend, data
from unet_np.errors import InputError, MissingExtraError
from unet_np.export import to_torch
from unet_np.ops import weighted_cross_entropy
from unet_np.training.config import TrainConfig
from unet_np.training.optim import SGD
from unet_np.training.samples import Tile, prepare

torch = pytest.importorskip("torch")

STEPS = 50

# With momentum 0.99 the steps are a hundred times as long. At a rate three times as high,
# float32 diverges by a few thousandths from step 43 on, where a ReLU changes its mind.
RATE = 1e-4


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Beside our threads, torch's would wait for one another more than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiles_of(name, depth, size):
    """Augmented tiles with their weight maps, as training sees them."""
    try:
        dataset = data.load(name, download=False).subset(range(2))
    except (data.DownloadError, InputError) as error:
        pytest.skip(str(error))
    config = TrainConfig(depth=depth, input_size=size, seed=1, validation="none")
    samples = prepare(config, dataset, np)
    return [samples.tile(step) for step in range(STEPS)]


def network(depth, dtype, backend="numpy"):
    return UNet(base_channels=4, depth=depth, dropout=0, dtype=dtype, seed=2, backend=backend)


def our_losses(net, tiles, rate):
    optimiser, losses = SGD(net.params, rate), []
    for tile in tiles:
        logits = net.forward(tile.image.astype(net.dtype), train=True)
        loss, grad = weighted_cross_entropy(logits, tile.labels, tile.weights, reduction="mean")
        net.backward(grad, need_grad_x=False)
        optimiser.step(net.grads)
        losses.append(float(loss))
    return np.array(losses)


def their_losses(net, tiles, rate):
    module = to_torch(net)
    optimiser, losses = torch.optim.SGD(module.parameters(), rate, momentum=0.99), []
    dtype = getattr(torch, str(net.dtype))
    for tile in tiles:
        logits = module(torch.tensor(tile.image, dtype=dtype))
        labels = torch.tensor(tile.labels.astype("int64"))
        each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        loss = (each * torch.tensor(tile.weights, dtype=dtype)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return np.array(losses)


@pytest.mark.parametrize(
    ("name", "depth", "size"),
    [("synthetic-em", 2, 92), pytest.param("isbi2012", 4, 220, marks=pytest.mark.data)],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-3)])
def test_fifty_steps_as_in_pytorch(name, depth, size, dtype, tolerance):
    tiles = tiles_of(name, depth, size)
    ours = our_losses(network(depth, dtype), tiles, RATE)
    theirs = their_losses(network(depth, dtype), tiles, RATE)
    print(f"{name} {dtype}: largest relative difference {np.max(np.abs(ours / theirs - 1)):.1e}")
    np.testing.assert_allclose(ours, theirs, rtol=tolerance)
    # The weights moved, and far: losses do not agree because nothing happened.
    assert np.std(ours) > 0.1


def test_numpy_and_cupy_agree():
    try:
        xp = backend.get("cupy")
    except (InputError, MissingExtraError) as error:
        pytest.skip(str(error))
    tiles = tiles_of("synthetic-em", 2, 92)
    there = [
        Tile(*(backend.asarray(array, xp) for array in (tile.image, tile.labels, tile.weights)))
        for tile in tiles
    ]
    ours = our_losses(network(2, "float32"), tiles, RATE)
    theirs = our_losses(network(2, "float32", "cupy"), there, RATE)
    # Rounding differs from the first step on and grows with each: only the first few are near.
    np.testing.assert_allclose(ours[:10], theirs[:10], rtol=1e-4)
