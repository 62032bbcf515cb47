"""Where a training starts: weights whose feature maps have unit variance, as Sec. 3 wants them.

The paper: "ideally the initial weights should be adapted such that each feature map in the network
has approximately unit variance", which drawing from N(0, sqrt(2 / N)) is to achieve. On real images
the drawn weights give maps of a standard deviation of up to five, logits as large, and a first
loss of about ten times that of a blank guess, which the first steps spend on shrinking. So each
layer's drawn weights are divided by the standard deviation of what they give on one training tile.
In the search of the learning rate the loss is then lower (``results/search-em.json``); whether the
scores are better in the end has not been measured.
"""

from __future__ import annotations

from contextlib import closing

from unet_np import backend
from unet_np.backend import Array
from unet_np.data import Dataset
from unet_np.network.unet import UNet
from unet_np.training import samples
from unet_np.training.config import TrainConfig
from unet_np.training.run import Run


def scale_to_unit_variance(net: UNet, image: Array) -> list[float]:
    """Divide each layer's weights by the standard deviation of its output on an image, in place.

    Parameters
    ----------
    net : UNet
        With biases of zero, as it is made.
    image : array, (1, in_channels, H, W)
        A training tile.

    Returns
    -------
    list of float
        The standard deviations, layer by layer, each with the layers before it scaled.

    Examples
    --------
    >>> import numpy as np
    >>> net = UNet(base_channels=4, depth=2, backend="numpy")
    >>> image = np.random.default_rng(0).standard_normal((1, 1, 60, 60), np.float32)
    >>> _ = scale_to_unit_variance(net, image)
    >>> round(float(net.forward(image).std()), 3)
    1.0
    """
    run, deviations = net.begin_pass(), []
    x = image.astype(net.dtype)
    for layer in net.architecture.layers:
        x = run.forward(layer, x)
        if layer.weight_shape is not None:
            deviation = float(x.std())
            if deviation > 0:
                net.params[f"{layer.name}.weight"] /= deviation
                x /= deviation
            deviations.append(deviation)
    return deviations


def begin(config: TrainConfig, dataset: Dataset, overwrite: bool = False) -> None:
    """Write the checkpoint of step 0 from which `unet_np.training.loop.train` goes on.

    Raises
    ------
    InputError
        As `unet_np.training.samples.prepare`, or if the folder holds a run or cannot be written to.
    """
    xp = backend.get(config.backend)
    prepared = samples.prepare(config, dataset, xp)
    run = Run.begin(config, prepared, xp, resume=False, overwrite=overwrite)
    with closing(run):
        scale_to_unit_variance(run.net, prepared.tile(0).image)
        run.save()
