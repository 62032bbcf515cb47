"""A stand-in for CuPy where there is no GPU: arrays that refuse to become NumPy's unasked.

CuPy raises where host and device arrays meet. So do these, and they count every time that
the host asks for a number (a "round trip", for which a GPU must stop). They compute with
NumPy, and kernels of CUDA with a C compiler (`cuda_in_c`), so results can be checked too; what
they cannot show is CuPy's own speed and gaps.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import cuda_in_c
import numpy as np
import pytest
import scipy.ndimage
from numpy.lib.mixins import NDArrayOperatorsMixin

round_trips: Counter[str] = Counter()
"""How often the host asked, by the way in which it did."""


costs: Counter[str] = Counter()
"""Numbers that CuPy copies before it computes, and those that a GPU reads one here, one there."""

calls: Counter[str] = Counter()
"""How often each of CuPy's operations was called, be it for a view, without kernels of our own."""

stream = SimpleNamespace(ptr=0)
"""The one that is asked."""

products = SimpleNamespace(kind=None, mode=None)
"""What was said on the precision of products: of two matrices, and of many."""


class GuardArray(NDArrayOperatorsMixin):
    """An array on a device that is not there."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        calls[ufunc.__name__] += 1
        _count(ufunc, inputs, kwargs.get("out", ()))
        return wrap(getattr(ufunc, method)(*unwrap(inputs), **unwrap(kwargs)))

    def __matmul__(self, other: Any) -> Any:
        return _wrapped(np.matmul)(self, other)

    def __getitem__(self, index: Any) -> Any:
        calls["getitem"] += 1
        return wrap(self._array[unwrap(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        _count(np.positive, [value], [self[index]])
        self._array[unwrap(index)] = unwrap(value)

    def __len__(self) -> int:
        return len(self._array)

    def __bool__(self) -> bool:
        round_trips["bool"] += 1
        return bool(self._array)

    def __int__(self) -> int:
        round_trips["int"] += 1
        return int(self._array)

    def __float__(self) -> float:
        round_trips["float"] += 1
        return float(self._array)

    @property
    def data(self) -> Any:
        """Where it lies, as CuPy tells it."""
        return SimpleNamespace(ptr=self._array.__array_interface__["data"][0])

    def item(self) -> Any:
        round_trips["item"] += 1
        return self._array.item()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._array, name)
        if callable(value) and not isinstance(value, type):
            return _wrapped(value)
        return wrap(value) if isinstance(value, np.ndarray) else value


def unwrap(value: Any) -> Any:
    """The NumPy arrays inside; a NumPy array from outside is a leak."""
    if isinstance(value, GuardArray):
        return value._array
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: a host array on the device")
    if isinstance(value, tuple | list):
        return type(value)(unwrap(item) for item in value)
    if isinstance(value, dict):
        return {name: unwrap(item) for name, item in value.items()}
    return value


def wrap(value: Any) -> Any:
    """CuPy gives arrays of no dimension where NumPy gives scalars."""
    if isinstance(value, np.ndarray | np.generic):
        return GuardArray(np.asarray(value))
    if type(value) in (tuple, list):
        return type(value)(wrap(item) for item in value)
    return value


def _count(function: np.ufunc, inputs: Any, outputs: Any) -> None:
    """What this operation costs on a GPU beyond its arithmetic."""
    outputs = outputs if isinstance(outputs, tuple | list) else [outputs]
    arrays = [item for item in inputs if isinstance(item, GuardArray)]
    for item in arrays:
        array = item._array
        if function is np.matmul:
            whole = array.flags.c_contiguous or (array.ndim == 2 and array.flags.f_contiguous)
            costs["copied"] += 0 if whole else array.size
        elif any(item is not out and np.may_share_memory(array, out._array) for out in outputs):
            costs["copied"] += array.size
    if function is not np.matmul:
        costs["scattered"] += sum(_scattered(item._array) for item in [*arrays, *outputs])


def _scattered(array: np.ndarray) -> int:
    steps = [step for step, size in zip(array.strides, array.shape, strict=True) if size > 1]
    return array.size if steps and steps[-1] not in (0, array.itemsize) else 0


def _wrapped(function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls[function.__name__] += 1
        if isinstance(function, np.ufunc):
            _count(function, args, kwargs.get("out", ()))
        return wrap(function(*unwrap(args), **unwrap(kwargs)))

    return call


class GuardModule(ModuleType):
    """A module whose functions take and give guard arrays."""

    def __init__(self, name: str, module: ModuleType) -> None:
        super().__init__(name)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._module, name)
        plain = isinstance(value, type | ModuleType) or not callable(value)
        return value if plain else _wrapped(value)


def modules() -> dict[str, ModuleType]:
    """What to put in `sys.modules`."""
    cupy = GuardModule("cupy", np)
    cupy.__dict__.update(
        ndarray=GuardArray,
        asnumpy=_asnumpy,
        RawModule=cuda_in_c.Module,
        asarray=_asarray,
        array=_asarray,
        lib=SimpleNamespace(
            stride_tricks=SimpleNamespace(as_strided=_wrapped(np.lib.stride_tricks.as_strided))
        ),
        cuda=SimpleNamespace(
            runtime=SimpleNamespace(getDeviceCount=lambda: 1, getDevice=lambda: 0),
            Event=Event,
            Stream=SimpleNamespace(null=SimpleNamespace(synchronize=lambda: None)),
            get_current_stream=lambda: stream,
            device=SimpleNamespace(get_cublas_handle=lambda: 1),
            cublas=SimpleNamespace(
                CUBLAS_DEFAULT_MATH=0,
                setMathMode=lambda handle, mode: vars(products).update(mode=mode),
                **vars(cuda_in_c.CUBLAS),
            ),
        ),
        _core=SimpleNamespace(
            _routines_linalg=SimpleNamespace(
                COMPUTE_TYPE_TF32=7,
                COMPUTE_TYPE_DEFAULT=1,
                set_compute_type=lambda dtype, kind: vars(products).update(kind=kind),
            )
        ),
    )
    cupyx, scipy_module = ModuleType("cupyx"), ModuleType("cupyx.scipy")
    ndimage = GuardModule("cupyx.scipy.ndimage", scipy.ndimage)
    cupyx.__dict__["scipy"] = scipy_module
    scipy_module.__dict__["ndimage"] = ndimage
    cupyx.__dict__["empty_pinned"] = lambda shape, dtype: np.full(shape, np.nan, dtype)
    return {
        "cupy": cupy,
        "cupyx": cupyx,
        "cupyx.scipy": scipy_module,
        "cupyx.scipy.ndimage": ndimage,
    }


@contextmanager
def device() -> Iterator[ModuleType]:
    """The stand-in for the length of a block, as a test of many examples wants it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules().items():
            patch.setitem(sys.modules, name, module)
        yield sys.modules["cupy"]


_on_their_way: list[tuple[np.ndarray, np.ndarray]] = []


class Event:
    """Behind copies that are made when somebody waits for them, and not before."""

    def __init__(self, **_: bool) -> None:
        self._copies: list[tuple[np.ndarray, np.ndarray]] = []

    def record(self) -> None:
        self._copies = _on_their_way.copy()
        _on_their_way.clear()

    def synchronize(self) -> None:
        for target, source in self._copies:
            target[...] = source


def _asnumpy(array: Any, out: Any = None, blocking: bool = True) -> np.ndarray:
    if not blocking:
        _on_their_way.append((out, np.array(unwrap(array))))
        return out
    round_trips["asnumpy"] += 1
    return np.array(unwrap(array)) if isinstance(array, GuardArray) else np.asarray(array)


def _asarray(array: Any, dtype: Any = None) -> GuardArray:
    if isinstance(array, GuardArray):
        return GuardArray(np.asarray(array._array, dtype))
    round_trips["asarray"] += 1
    return GuardArray(np.array(array, dtype))
