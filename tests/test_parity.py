"""Fifty steps of training beside PyTorch: same weights, same tiles, dropout off."""

import numpy as np
import pytest

from unet_np import UNet, data
from unet_np.config import TrainConfig
from unet_np.ops import weighted_cross_entropy
from unet_np.optim import SGD
from unet_np.samples import prepare

torch = pytest.importorskip("torch")

STEPS = 50


def tiles_of(name, seed):
    """Augmented tiles with their weight maps, as training sees them."""
    try:
        dataset = data.load(name, download=False).subset(range(3))
    except (data.DownloadError, OSError, ValueError) as error:
        pytest.skip(str(error))
    config = TrainConfig(base_channels=4, input_size=188 + 16, seed=seed, validation="none")
    samples = prepare(config, dataset, np)
    return [samples.tile(step) for step in range(STEPS)]


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
    module = net.to_torch()
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


@pytest.mark.parametrize("name", ["synthetic-em", pytest.param("isbi2012", marks=pytest.mark.data)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-3)])
def test_fifty_steps_as_in_pytorch(name, dtype, tolerance):
    tiles = tiles_of(name, seed=1)
    nets = [UNet(base_channels=4, dropout=0, dtype=dtype, seed=2, backend="numpy") for _ in "12"]
    ours, theirs = our_losses(nets[0], tiles, 3e-4), their_losses(nets[1], tiles, 3e-4)
    print(name, dtype, np.max(np.abs(ours / theirs - 1)), ours[[0, 1, 10, 25, 49]])
    np.testing.assert_allclose(ours, theirs, rtol=tolerance)
    # Something was learned, and not the same loss fifty times.
    assert np.mean(ours[-10:]) < 0.8 * ours[0]
