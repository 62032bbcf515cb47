"""What a network stores: its parameters and buffers, from the first draw to the file."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from unet_np import backend
from unet_np.backend import Array
from unet_np.backend import get as get_backend
from unet_np.errors import InputError, integer
from unet_np.files.weights import read_weights, write_weights
from unet_np.network.architecture import Architecture, with_norm
from unet_np.network.init import gaussian_init, initial_buffers, store_weight
from unet_np.network.passes import Waiting

DTYPES = ("float32", "float64")


class Network:
    """A network at rest: its arrays and its files. What it computes is in `UNet`.

    Parameters and attributes are told of in `unet_np.network.unet.UNet`.
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
        activation: str = "relu",
    ) -> None:
        sizes = in_channels, num_classes, base_channels, depth, padding
        self.architecture = Architecture(*sizes, up, norm, task, output, activation)
        if not isinstance(dropout, int | float | np.floating) or not 0 <= dropout < 1:
            raise InputError(f"dropout: got {dropout!r}, expected 0 <= dropout < 1")
        if str(dtype) not in DTYPES and getattr(dtype, "__name__", "") not in DTYPES:
            raise InputError(f"dtype: got {dtype}, expected {' or '.join(DTYPES)}")
        self.dropout = float(dropout)
        self.dtype = np.dtype(dtype)
        self.seed = integer("seed", seed, 0)
        self.xp = get_backend(backend)
        how = self.xp, self.dtype
        self.params: OrderedDict[str, Array] = OrderedDict(
            gaussian_init(self.architecture, self.seed, *how)
        )
        self.grads: OrderedDict[str, Array] = OrderedDict()
        self.buffers: OrderedDict[str, Array] = OrderedDict(
            initial_buffers(self.architecture, *how)
        )
        self._waiting = Waiting()
        self._dropout_calls = 0

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

    def _stored(self, params: Mapping[str, Array]) -> OrderedDict[str, Array]:
        """Copies, each in the memory order in which it is read."""
        stored = OrderedDict()
        for layer in self.architecture.layers:
            for part in layer.parameter_shapes:
                name = f"{layer.name}.{part}"
                stored[name] = store_weight(layer.kind, params[name], self.xp, self.dtype)
        return stored

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
    ) -> Self:
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
            _check_size(path, options, sum(array.size for array in arrays.values()))
            net = cls(
                **options, dropout=described["dropout"], dtype=dtype, seed=seed, backend=backend
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"weights: got {path} without a U-Net's description, expected a file of UNet.save"
            ) from None
        buffers = {name: arrays.pop(name) for name in net.buffers if name in arrays}
        net.set_params(arrays)
        net.set_buffers(buffers)
        return net

    def __getstate__(self) -> dict[str, Any]:
        """The library by its name: for copies and other processes."""
        return {**self.__dict__, "xp": self.xp.__name__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, xp=get_backend(state["xp"]))
        self.params = self._stored(self.params)


def _check_size(path: str | os.PathLike[str], options: Mapping[str, Any], stored: int) -> None:
    """Refuse a description of more numbers than a file holds, before the network is built.

    Raises
    ------
    InputError
        If the two largest of its layers alone have more.
    """
    base, depth = options.get("base_channels", 64), options.get("depth", 4)
    lowest = base << max(0, min(depth, 64))
    ends = base * (options.get("in_channels", 1) + options.get("num_classes", 2))
    if 9 * lowest**2 + ends > stored:
        raise InputError(
            f"weights: got {path} with {stored} numbers, expected the {9 * lowest**2 + ends} or "
            "more of the network that it describes"
        )
