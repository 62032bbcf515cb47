"""The network of Fig. 1: built from the architecture table, run forward and backward."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unet_np import backend, ops
from unet_np.backend import STREAMS, Array
from unet_np.errors import InputError, integer
from unet_np.files.weights import read_weights, write_weights
from unet_np.network.architecture import Architecture, with_norm
from unet_np.network.init import gaussian_init, initial_buffers, store_weight
from unet_np.network.layer import Layer
from unet_np.network.tables import summary

DTYPES = ("float32", "float64")


class _Kept(threading.local):
    """What a forward pass leaves for the backward pass on the same thread.

    Other threads may predict with the network meanwhile.
    """

    def __init__(self) -> None:
        self.caches: dict[str, Any] = {}
        self.shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Pass:
    """How a forward pass is made; of its own, since other threads may make others meanwhile."""

    rng: Any = None
    train: bool = False
    keep: bool = False
    statistics: dict[str, ops.Statistics] = field(default_factory=dict)
    gather: bool = False  # into `statistics`, in the place of reading them


class UNet:
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

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = 64,
        depth: int = 4,
        padding: int = 0,
        dropout: float = 0.5,
        dtype: Any = "float32",
        seed: int = 0,
        backend: str | None = "auto",
        up: str = "upconv",
        norm: str = "none",
        task: str = "segment",
        output: str = "",
    ) -> None:
        self.architecture = Architecture(
            in_channels, num_classes, base_channels, depth, padding, up, norm, task, output
        )
        if not isinstance(dropout, int | float | np.floating) or not 0 <= dropout < 1:
            raise InputError(f"dropout: got {dropout!r}, expected 0 <= dropout < 1")
        if str(dtype) not in DTYPES and getattr(dtype, "__name__", "") not in DTYPES:
            raise InputError(f"dtype: got {dtype}, expected {' or '.join(DTYPES)}")
        self.dropout = float(dropout)
        self.dtype = np.dtype(dtype)
        self.seed = integer("seed", seed, 0)
        self.xp = _backend_get(backend)
        self.params: OrderedDict[str, Array] = OrderedDict(
            gaussian_init(self.architecture, self.seed, self.xp, self.dtype)
        )
        self.grads: OrderedDict[str, Array] = OrderedDict()
        self.buffers: OrderedDict[str, Array] = OrderedDict(
            initial_buffers(self.architecture, self.xp, self.dtype)
        )
        self._kept = _Kept()
        self._dropout_calls = 0

    def forward(
        self,
        x: Array,
        train: bool = False,
        rng: Any = None,
        keep: bool | None = None,
        statistics: Mapping[str, ops.Statistics] | None = None,
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
        self._check_input(x)
        keep = train if keep is None else keep
        x = x.astype(self.dtype, copy=keep)  # the caller may fill the same array again
        self._kept.caches = {}
        if keep:
            self.grads.clear()  # as large as the parameters, and no longer true
        if train and self.dropout and rng is None:
            key = (self.seed, STREAMS["dropout"], self._dropout_calls)
            rng = backend.default_rng(self.xp, key)
            self._dropout_calls += 1
        return self._through_layers(x, _Pass(rng, train, keep, dict(statistics or {})))

    def statistics(self, x: Array) -> dict[str, ops.Statistics]:
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
        >>> net = UNet(base_channels=4, depth=1, norm="instance", backend="numpy")
        >>> list(net.statistics(np.eye(28)[None, None]))[:2]
        ['contract1.in1', 'contract1.in2']
        """
        self._check_input(x)
        how = _Pass(gather=True)
        if self.architecture.norm == "instance":
            self._through_layers(x.astype(self.dtype, copy=False), how)
        return how.statistics

    def _check_input(self, x: Array) -> None:
        backend.array_module(x, self.params["output.bias"])
        self.architecture.check_input(x.shape)
        if x.dtype.kind not in "fiub":
            raise InputError(f"x: got dtype {x.dtype}, expected real numbers")

    def _through_layers(self, x: Array, how: _Pass) -> Array:
        skips: dict[str, Array] = {}
        caches: dict[str, Any] = {}
        wanted = {layer.skip for layer in self.architecture.layers if layer.skip}
        with backend.single_threaded_blas():
            for layer in self.architecture.layers:
                x, cache = self._forward_layer(layer, x, skips, how)
                if how.keep:
                    caches[layer.name] = cache
                if layer.name in wanted:
                    skips[layer.name] = x
                del cache
        if not how.gather:
            self._kept.caches, self._kept.shape = caches, x.shape
        return x

    def _forward_layer(
        self, layer: Layer, x: Array, skips: dict[str, Array], how: _Pass = _Pass()
    ) -> tuple[Array, Any]:
        if layer.kind == "conv":
            return ops.conv2d(x, *self._weights(layer), padding=layer.padding)
        if layer.kind == "relu":
            # In place: nobody needs the sums before it.
            return ops.relu(x, out=x)
        if layer.kind == "pool":
            return ops.max_pool2d(x)
        if layer.kind == "upconv":
            return ops.conv_transpose2d(x, *self._weights(layer))
        if layer.kind == "crop_concat":
            return ops.crop_concat(skips.pop(layer.skip), x)
        if layer.kind == "dropout":
            on = how.train and self.dropout
            return ops.dropout(x, self.dropout, how.rng) if on else (x, None)
        return self._forward_later_layer(layer, x, how)

    def _forward_later_layer(self, layer: Layer, x: Array, how: _Pass) -> tuple[Array, Any]:
        """What the paper's network does not have."""
        if layer.kind == "batch_norm":
            # In place too: what a convolution gives is read by nobody else.
            mean, var = (self.buffers[f"{layer.name}.{name}"] for name in ("mean", "var"))
            weight, bias = self._weights(layer)
            return ops.batch_norm(x, weight, bias, mean, var, how.train, how.keep, overwrite=True)
        if layer.kind == "instance_norm":
            if how.gather:
                how.statistics[layer.name] = ops.channel_statistics(x)
            given = how.statistics.get(layer.name)
            return ops.instance_norm(x, *self._weights(layer), given, how.keep, overwrite=True)
        if layer.kind == "upsample":
            return ops.upsample(x, layer.mode, layer.padding)
        if layer.kind == "global_pool":
            return ops.global_average_pool(x)
        return ops.linear(x, *self._weights(layer))

    def _weights(self, layer: Layer) -> tuple[Array, Array]:
        weight = self.params[f"{layer.name}.weight"]
        if layer.bias:
            return weight, self.params[f"{layer.name}.bias"]
        return weight, self.xp.zeros(layer.out_channels, self.dtype)

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
        kept = self._kept
        if not kept.caches:
            raise InputError(
                "backward: got no feature maps, expected forward(x, train=True) or "
                "forward(x, keep=True) before each backward"
            )
        backend.array_module(grad_logits, self.params["output.bias"])
        if grad_logits.shape != kept.shape:
            raise InputError(
                f"grad_logits: got shape {grad_logits.shape}, expected {kept.shape} as the logits"
            )
        if grad_logits.dtype.kind not in "fiub":
            raise InputError(f"grad_logits: got dtype {grad_logits.dtype}, expected real numbers")
        # Taken away first: after an interrupt half of them would be left.
        caches, kept.caches = kept.caches, {}
        grads: dict[str, Array] = {}
        skip_grads: dict[str, Array] = {}
        grad: Any = grad_logits.astype(self.dtype, copy=False)
        first = self.architecture.layers[0]
        with backend.single_threaded_blas():
            for layer in reversed(self.architecture.layers):
                cache = caches.pop(layer.name)
                if layer.name in skip_grads:
                    grad += skip_grads.pop(layer.name)
                need = need_grad_x or layer is not first
                grad = self._backward_layer(layer, grad, cache, grads, skip_grads, need)
                del cache
        self.grads = OrderedDict((name, grads[name]) for name in self.params)
        return grad

    def _backward_layer(
        self,
        layer: Layer,
        grad: Array,
        cache: Any,
        grads: dict[str, Array],
        skip_grads: dict[str, Array],
        need_grad_x: bool,
    ) -> Array | None:
        weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
        if layer.kind == "conv":
            grad_x, grads[weight], grads[bias] = ops.conv2d_backward(grad, cache, need_grad_x)
            return grad_x
        if layer.kind == "relu":
            return ops.relu_backward(grad, cache, out=grad)
        if layer.kind == "pool":
            return ops.max_pool2d_backward(grad, cache)
        if layer.kind == "upconv":
            grad_x, grads[weight], grads[bias] = ops.conv_transpose2d_backward(grad, cache)
            return grad_x
        if layer.kind == "crop_concat":
            skip_grads[layer.skip], grad_up = ops.crop_concat_backward(grad, cache)
            return grad_up
        if layer.kind == "dropout":
            return grad if cache is None else ops.dropout_backward(grad, cache)
        return self._backward_later_layer(layer, grad, cache, grads)

    def _backward_later_layer(
        self, layer: Layer, grad: Array, cache: Any, grads: dict[str, Array]
    ) -> Array:
        """Of what the paper's network does not have."""
        if layer.kind == "upsample":
            return ops.upsample_backward(grad, cache)
        if layer.kind == "global_pool":
            return ops.global_average_pool_backward(grad, cache)
        if layer.kind == "batch_norm":
            result = ops.batch_norm_backward(grad, cache, out=grad)
        elif layer.kind == "instance_norm":
            result = ops.instance_norm_backward(grad, cache, out=grad)
        else:
            result = ops.linear_backward(grad, cache)
        grad_x, grads[f"{layer.name}.weight"], grads[f"{layer.name}.bias"] = result
        return grad_x

    def __getstate__(self) -> dict[str, Any]:
        """Without feature maps, and the library by its name: for copies and other processes."""
        return {**self.__dict__, "xp": self.xp.__name__, "_kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, xp=_backend_get(state["xp"]), _kept=_Kept())
        self.params = self._stored(self.params)

    def _stored(self, params: Mapping[str, Array]) -> OrderedDict[str, Array]:
        """Copies, each in the memory order in which it is read."""
        kinds = {f"{layer.name}.weight": layer.kind for layer in self.architecture.layers}
        stored = OrderedDict()
        for name in self.params:
            array = backend.asarray(params[name], self.xp)
            stored[name] = store_weight(kinds.get(name, "bias"), array, self.xp, self.dtype)
        return stored

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

    def set_params(self, params: dict[str, Array]) -> None:
        """Copy arrays into the network: all of them or, on an error, none.

        Parameters
        ----------
        params : dict
            Name to array of the shape in `params`; any float dtype, any of the two libraries.

        Raises
        ------
        InputError
            If a name is missing or unknown, a shape differs, or a number is not finite.
        """
        self._check_arrays(params, self.params)
        self.params = self._stored(params)

    def set_buffers(self, buffers: dict[str, Array]) -> None:
        """Copy running statistics into the network: all of them or, on an error, none.

        Parameters
        ----------
        buffers : dict
            Name to array of the shape in `buffers`; any float dtype, any of the two libraries.

        Raises
        ------
        InputError
            As `set_params`, and if a variance is negative.
        """
        self._check_arrays(buffers, self.buffers)
        stored = OrderedDict(
            (name, backend.asarray(buffers[name], self.xp).astype(self.dtype, copy=True))
            for name in self.buffers
        )
        for name, array in stored.items():
            if name.endswith(".var") and (array < 0).any():
                raise InputError(f"weights: got a negative number in {name}, expected variances")
        self.buffers = stored

    def _check_arrays(self, given: dict[str, Array], own: OrderedDict[str, Array]) -> None:
        for name in [*own, *given]:
            if name not in given:
                raise InputError(f"weights: got no {name}, expected all {len(own)} arrays")
            if name not in own:
                raise InputError(f"weights: got {name}, expected only names such as output.weight")
            got, expected = tuple(given[name].shape), own[name].shape
            if got != expected:
                raise InputError(f"weights: got {name} of shape {got}, expected {expected}")
        for name in own:
            if not self.xp.isfinite(backend.asarray(given[name], self.xp)).all():
                raise InputError(f"weights: got NaN or infinity in {name}, expected finite numbers")

    @property
    def state(self) -> OrderedDict[str, Array]:
        """Parameters and buffers, name to array: all that a file of the network holds."""
        return OrderedDict([*self.params.items(), *self.buffers.items()])

    def save(
        self,
        path: str | os.PathLike[str],
        dtype: Any = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write parameters, buffers and architecture to a safetensors file, atomically.

        Parameters
        ----------
        path : path-like
            The file.
        dtype : dtype, optional
            ``float16`` halves the file; by default the network's own.
        metadata : mapping of str to str, optional
            Stands in the file's header too; `load` does not read it.

        Raises
        ------
        InputError
            If the path cannot be written to.
        MissingExtraError
            If safetensors is not installed.
        """
        about = {"architecture": self.architecture.to_dict(), "dropout": self.dropout}
        arrays = {
            name: backend.to_numpy(array).astype(dtype or self.dtype)
            for name, array in self.state.items()
        }
        header = {**(metadata or {}), "unet_np": json.dumps(about, sort_keys=True)}
        write_weights(path, arrays, header)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        backend: str | None = "auto",
        dtype: Any = "float32",
        seed: int = 0,
    ) -> UNet:
        """The network that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.
        backend, dtype, seed
            As in `UNet`.

        Raises
        ------
        InputError
            If the file is missing, cut short, no safetensors file, not written by `save`, or
            its arrays are not those of the architecture it names.
        MissingExtraError
            If safetensors is not installed.
        """
        arrays, metadata = read_weights(path)
        try:
            described = json.loads(metadata["unet_np"])
            # Files from before a setting was there have the paper's value of it.
            options = with_norm(described["architecture"])
            options.setdefault("output", "vector" if options.get("task") == "classify" else "map")
            net = cls(
                **options, dropout=described["dropout"], dtype=dtype, seed=seed, backend=backend
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"weights: got {path} without a U-Net's description, expected a file of UNet.save"
            ) from None
        buffers = {name: arrays.pop(name) for name in net.buffers if name in arrays}
        net.set_params(arrays)
        net.set_buffers(buffers)
        return net

    def to_torch(self) -> Any:
        """A ``torch.nn.Module`` of the same layers with a copy of these weights, in eval mode.

        Raises
        ------
        MissingExtraError
            If PyTorch is not installed.
        """
        from unet_np.export.torch_model import to_torch

        return to_torch(self)


# The name `backend` is the module above and the argument in the class.
_backend_get = backend.get
