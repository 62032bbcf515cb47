"""The network of Fig. 1: built from the architecture table, run forward and backward."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from unet_np import backend
from unet_np.backend import STREAMS, Array
from unet_np.errors import InputError
from unet_np.network.base import Network
from unet_np.network.passes import Pass
from unet_np.network.tables import summary
from unet_np.ops import Statistics


class UNet(Network):
    """U-Net (Ronneberger, Fischer and Brox 2015, Fig. 1).

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output, at least 2.
    base_channels : int
        Channels of the first level, doubled at each level below; 64 in the paper.
    depth : int
        Number of max poolings; 4 in the paper.
    padding : {0, 1}
        Of the 3x3 convolutions; 0 in the paper, 1 keeps the size.
    dropout : float
        Probability at the end of the contracting path, 0 <= dropout < 1.
    dtype : {"float32", "float64"}
        Of parameters and feature maps.
    seed : int
        Of the initial weights and of the dropout.
    backend : {"auto", "numpy", "cupy"}
        The array library; see `unet_np.backend.get`.
    up : {"upconv", "nearest", "bilinear"}
        The paper's up-convolution, or up-sampling by 2 and a 3x3 convolution.
    norm : {"none", "batch", "instance"}
        The normalisation between each 3x3 convolution and its ReLU; the paper has none.
    task : str
        What the network is for; see `Architecture`.
    output : {"map", "vector"}
        Logits of each pixel, or (B, num_classes) of each image; by default the paper's map.
    activation : str
        What stands after each 3x3 convolution: ``relu``, or a kind registered for it.

    Attributes
    ----------
    architecture : Architecture
        The table of layers from which the network is built.
    params : OrderedDict
        Name to array, in the order in which data meets the layers:
        ``contract1.conv1.weight``, ..., ``output.bias``.
    grads : OrderedDict
        The same names; filled by `backward`, emptied by the next forward pass for training.
    buffers : OrderedDict
        What a forward pass for training changes and no gradient does: the running statistics
        of batch normalisation, ``contract1.bn1.mean``, ``contract1.bn1.var``, ... Empty
        without.

    Raises
    ------
    InputError
        If a value is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from unet_np import ops
    >>> net = UNet(base_channels=4, depth=1, dropout=0, backend="numpy")
    >>> x = np.zeros((1, 1, 28, 28), "float32")
    >>> logits = net.forward(x, train=True)
    >>> logits.shape
    (1, 2, 12, 12)
    >>> loss, grad_logits = ops.weighted_cross_entropy(logits, np.zeros((1, 12, 12), int))
    >>> grad_x = net.backward(grad_logits)
    >>> grad_x.shape, net.grads["output.bias"].shape
    ((1, 1, 28, 28), (2,))
    """

    def forward(
        self,
        x: Array,
        train: bool = False,
        rng: Any = None,
        keep: bool | None = None,
        statistics: Mapping[str, Statistics] | None = None,
    ) -> Array:
        """Image tiles to logits.

        Parameters
        ----------
        x : array (B, in_channels, H, W)
            Of the network's library; cast to its dtype. May be changed before `backward`.
        train : bool
            Whether dropout is on, and batch normalisation takes the statistics of this batch.
        rng : generator, optional
            For the dropout; by default made from the seed and the number of calls so far.
        keep : bool, optional
            Whether to keep what `backward` needs; by default as `train`. Without it, the
            memory of a feature map is free once the next layer has read it.
        statistics : mapping, optional
            For instance normalisation: mean and variance for each of its layers, as `statistics`
            gives them. By default each image of `x` has its own.

        Returns
        -------
        array (B, num_classes, H - margin, W - margin)
            Logits, of the network's dtype; (B, num_classes) where the output is a vector.

        Raises
        ------
        InputError
            If the shape does not work; says where in the network, and which sizes do.
        TypeError
            If `x` is an array of the other library.
        """
        keep = train if keep is None else keep
        x = self._checked(x, copy=keep)  # the caller may fill the same array again
        self._waiting.run = None  # before the memory for another is taken
        run = self.begin_pass(train, keep, rng, statistics)
        run.before_relu, run.after_relu = self.architecture.beside_relus
        run.before_conv = self.architecture.joined_by_convs
        with backend.single_threaded_blas(self.xp):
            for layer in self.architecture.layers:
                x = run.forward(layer, x)
        if keep:
            self._waiting.run, self._waiting.shape = run, x.shape
        return x

    def statistics(self, x: Array) -> dict[str, Statistics]:
        """Mean and variance that each instance normalisation meets, over all of `x` as one image.

        Parameters
        ----------
        x : array (B, in_channels, H, W)
            The image, or parts that stand for it. With B = 1 these are the statistics that
            `forward` takes by default.

        Returns
        -------
        dict
            Name of the layer to mean and variance, arrays (C,); empty without such layers.

        Raises
        ------
        InputError, TypeError
            As `forward`.

        Examples
        --------
        >>> import numpy as np
        >>> net = UNet(base_channels=4, depth=1, norm="instance", backend="numpy")
        >>> list(net.statistics(np.eye(28)[None, None]))[:2]
        ['contract1.in1', 'contract1.in2']
        """
        x, run = self._checked(x), self.begin_pass()
        if self.architecture.norm == "instance":
            run.gather = True
            with backend.single_threaded_blas(self.xp):
                for layer in self.architecture.layers:
                    x = run.forward(layer, x)
        return run.statistics

    def begin_pass(
        self,
        train: bool = False,
        keep: bool = False,
        rng: Any = None,
        statistics: Mapping[str, Statistics] | None = None,
    ) -> Pass:
        """A pass to go through layer by layer, as `forward` does; see `Pass`.

        Parameters
        ----------
        train, keep, rng, statistics
            As in `forward`.
        """
        if keep:
            self.grads.clear()  # as large as the parameters, and no longer true
        if train and self.dropout and rng is None:
            rng = backend.default_rng(self.xp, (self.seed, STREAMS["dropout"], self._dropout_calls))
            self._dropout_calls += 1
        how = train, keep, self.dropout, rng, dict(statistics or {})
        return Pass(self.state, self.architecture.skips, *how)

    def _checked(self, x: Array, copy: bool = False) -> Array:
        """The image in the network's dtype."""
        self._check_numbers("x", x)
        self.architecture.check_input(x.shape)
        return x.astype(self.dtype, copy=copy)

    def backward(self, grad_logits: Array, need_grad_x: bool = True) -> Array | None:
        """Gradients of everything, from the gradient of the logits; fills `grads`.

        Frees what `forward` kept, so it can be called once for each forward pass, on the same
        thread.

        Parameters
        ----------
        grad_logits : array (B, num_classes, H', W')
            dE/dlogits, in the shape of the logits.
        need_grad_x : bool
            False saves the work for the gradient of the image, which training does not ask
            for.

        Returns
        -------
        array (B, in_channels, H, W) or None
            dE/dx.

        Raises
        ------
        InputError
            If no forward pass of this thread has kept its feature maps, or the shape is not the
            logits', or these are no real numbers.
        TypeError
            If `grad_logits` is an array of the other library.
        """
        run = self._waiting.run
        if run is None:
            raise InputError(
                "backward: got no feature maps, expected forward(x, train=True) or "
                "forward(x, keep=True) before each backward"
            )
        got, expected = grad_logits.shape, self._waiting.shape
        if got != expected:
            raise InputError(f"grad_logits: got shape {got}, expected {expected} as the logits")
        self._check_numbers("grad_logits", grad_logits)
        self._waiting.run = None  # now: after an interrupt half of its maps would be left
        grad: Any = grad_logits.astype(self.dtype, copy=False)
        layers = self.architecture.layers
        with backend.single_threaded_blas(self.xp):
            for layer in reversed(layers):
                run.need_grad_x = need_grad_x or layer is not layers[0]
                grad = run.backward(layer, grad)
        self.grads = OrderedDict((name, run.grads[name]) for name in self.params)
        return grad

    def _check_numbers(self, name: str, array: Array) -> None:
        backend.array_module(array, self.params["output.bias"])  # TypeError for the other library
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name}: got dtype {array.dtype}, expected real numbers")

    def summary(self, input_shape: tuple[int, int, int, int] | None = None) -> str:
        """The network as text: each layer with kernel, output shape and parameters.

        Parameters
        ----------
        input_shape : (B, C, H, W), optional
            By default one tile of 572x572 pixels, or of the nearest size that works.

        Raises
        ------
        InputError
            If the shape does not work.

        Examples
        --------
        >>> print(UNet(backend="numpy").summary().splitlines()[-1])
        23 convolutional layers, 31,030,658 parameters
        """
        return summary(self.architecture, input_shape)
