"""NumPy or CuPy: the only file that knows that two array libraries exist.

Everything above this file asks `array_module(x)` for the library that made `x`, calls
it `xp`, and writes one code path. What the two libraries do differently stands here:
choosing one, moving arrays between them, random generators, SciPy's image functions,
memory, and whether work is cut up for the cores of the host (`unet_np.backend.host`).
"""

from __future__ import annotations

import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from unet_np.backend import host
from unet_np.backend.host import (
    MIN_SHARE,
    NOTHING,
    Item,
    Result,
    limited_blas,
    run_serially,
    set_thread_count,
    start_thread,
    using_threads,
)
from unet_np.errors import InputError, MissingExtraError, one_of

__all__ = [
    "MIN_SHARE",
    "PASS",
    "STREAMS",
    "Array",
    "Arriving",
    "HashGenerator",
    "allow_tf32",
    "array_module",
    "as_channels_last",
    "asarray",
    "block_elements",
    "channel_sums",
    "copy_runs",
    "default_rng",
    "device_about",
    "device_group",
    "empty",
    "empty_channels_last",
    "for_row_blocks",
    "get",
    "has_kernels",
    "is_device",
    "limited_blas",
    "ndimage",
    "parallel_map",
    "pool_bytes",
    "product",
    "row_pieces",
    "run_kernel",
    "run_serially",
    "scratch",
    "set_thread_count",
    "sharing",
    "sharing_threads",
    "single_threaded_blas",
    "start_thread",
    "sum_of_products",
    "synchronize",
    "thread_count",
    "to_numpy",
    "using_threads",
]

Array = Any  # numpy.ndarray or cupy.ndarray

HOST = (np.ndarray, np.generic)
"""What an array or a number of NumPy is."""

NAMES = ("numpy", "cupy", "auto")

CUBLAS_TF32_TENSOR_OP_MATH = 3
"""Of cuBLAS's ``cublasMath_t``; CuPy names the others."""

PASS = 5
"""What `sharing` is told for each number that an operation reads and writes once."""

BOUND = 2**31
"""Kernels of our own count in 32 bits: dividing longer numbers takes a GPU more than the rest."""

SMALL = 10**6
"""Multiplications of a product up to which OpenBLAS has kernels of its own: with AVX-512 they are
up to half as fast again, unless the second matrix is transposed."""

SHORT = 80
"""Rows: where no more would be `SMALL`, the whole is as fast."""

PARTS = 64
"""Numbers that one thread of a GPU adds up in a last round; see `rounds_of_sums`."""

SHARE = 192
"""Numbers that a thread may add up where that saves a round, which the host must ask for."""

MANY_THREADS = 2**17
"""Else as many threads as keep all multiprocessors busy."""

FACTORS = {kind: np.array([1, 0], kind) for kind in "fd"}
"""What cuBLAS multiplies a product and the sum before it by, at addresses that stay."""

ONES = {kind: factors.ctypes.data for kind, factors in FACTORS.items()}
"""These addresses, of the ones; the zeros lie behind them."""

SUMS = """
__global__ void sum_rows(const REAL *rows, const REAL *other, REAL *sums, int count, int columns,
                         int parts, int multiplied) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, column = n % columns;
    if (n >= parts * columns) return;
    REAL sum = 0;
    for (int row = n / columns; row < count; row += parts) {
        const size_t place = row * (size_t)columns + column;
        sum += multiplied ? rows[place] * other[place] : rows[place];
    }
    sums[n] = sum;
}
"""
"""Sums of each column over every so many rows, of its numbers or of their products with others;
see `channel_sums`."""

STREAMS = {"init": 0, "dropout": 1, "augment": 2, "sample": 3, "synthetic": 4, "touching": 5}
"""The second number of a generator's key, so that no two uses share random numbers."""


def get(name: str | None = None) -> ModuleType:
    """The array library of that name.

    Parameters
    ----------
    name : {"numpy", "cupy", "auto"}, optional
        ``auto`` is CuPy where it is installed and computes on a GPU, else NumPy, with a warning
        if there is a GPU. None reads the environment variable ``UNET_NP_BACKEND``, and is
        ``auto`` where that is unset.

    Raises
    ------
    InputError
        If the name is none of the three, or CuPy is asked for and finds no GPU, or fails there.
    MissingExtraError
        If CuPy is asked for and not installed.

    Examples
    --------
    >>> get("numpy").__name__
    'numpy'
    """
    source = "backend"
    if name is None or name == "auto":
        name = os.environ.get("UNET_NP_BACKEND", "auto")
        source = "UNET_NP_BACKEND"
    one_of(source, name, NAMES)
    if name == "numpy":
        return np
    try:
        import cupy
    except ImportError:
        if name == "auto":
            return np
        raise MissingExtraError(
            "cupy: not installed, expected for backend 'cupy'; "
            "pip install 'unet-np[cuda12]' or 'unet-np[cuda13]'"
        ) from None
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except Exception:
        # CuPy raises an error type of its own when there is no driver; none is as good as zero.
        devices = 0
    fault = _fault(cupy) if devices else ""
    if devices and not fault:
        return cupy
    if name == "auto":
        if fault:
            warnings.warn(f"backend: NumPy and not CuPy, which fails: {fault}", stacklevel=2)
        return np
    if fault:
        raise InputError(f"{source}: got 'cupy', which fails ({fault}), expected it to compute")
    raise InputError(f"{source}: got 'cupy', expected a CUDA device and found none; use 'numpy'")


@lru_cache
def _fault(cupy: ModuleType) -> str:
    """Why a kernel or a matrix product cannot be had; their libraries are packages of their own."""
    try:
        square = cupy.ones((2, 2), "float32")
        (square @ square + 1).sum().item()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return (
            f"{type(error).__name__}: {lines[0]}; pip install 'unet-np[cuda12]' or "
            "'unet-np[cuda13]' brings what it needs"
        )
    return ""


def array_module(*arrays: Array) -> ModuleType:
    """The library that made the arrays; mixing the two is an error.

    Raises
    ------
    TypeError
        If an argument is no array, or host and device arrays are mixed.

    Examples
    --------
    >>> array_module(np.zeros(2), np.ones(2)).__name__
    'numpy'
    >>> array_module([1.0])
    Traceback (most recent call last):
    ...
    TypeError: array: got list, expected numpy.ndarray or cupy.ndarray
    """
    # A program that never imported CuPy has no CuPy arrays, so it is not imported here.
    cupy = sys.modules.get("cupy")
    for xp in (np,) if cupy is None else (np, cupy):
        for array in arrays:
            if type(array) is not xp.ndarray:
                break
        else:
            return xp
    device = [array for array in arrays if not isinstance(array, HOST)]
    if not device:
        return np
    for array in device:
        if cupy is None or not isinstance(array, cupy.ndarray):
            raise TypeError(
                f"array: got {type(array).__name__}, expected numpy.ndarray or cupy.ndarray"
            )
    if len(device) < len(arrays):
        raise TypeError("arrays: got NumPy and CuPy arrays together, expected all on one device")
    assert cupy is not None
    return cupy


def is_device(xp: ModuleType) -> bool:
    """Whether arrays of this library live on a GPU."""
    return xp is not np


def to_numpy(array: Array) -> np.ndarray:
    """The array on the host; a copy if it was on a GPU.

    Examples
    --------
    >>> to_numpy(np.arange(3))
    array([0, 1, 2])
    """
    xp = array_module(array)
    return xp.asnumpy(array) if is_device(xp) else array


class Arriving:
    """Numbers and arrays of no dimension on their way to the host, where nobody waits for them.

    Attributes
    ----------
    on_device : array or None
        All of them as float64 on the GPU; None where they are the host's anyway.

    Examples
    --------
    >>> Arriving(np.float32(0.5), 2.0).floats()
    [0.5, 2.0]
    """

    def __init__(self, *numbers: Any) -> None:
        arrays = [number for number in numbers if hasattr(number, "dtype")]
        xp = next((m for array in arrays if is_device(m := array_module(array))), np)
        self.on_device: Array | None = None
        self._host: Any = numbers
        if is_device(xp):
            from cupyx import empty_pinned

            self.on_device = xp.stack([xp.asarray(n, dtype=np.float64) for n in numbers])
            # A GPU writes beside the host's own work only to memory that the system cannot move.
            self._host = empty_pinned(len(numbers), np.float64)
            xp.asnumpy(self.on_device, out=self._host, blocking=False)
            self._done = xp.cuda.Event(block=True, disable_timing=True)
            self._done.record()

    def floats(self) -> list[float]:
        """The numbers; waits for what the GPU was asked before them, and for nothing after."""
        if self.on_device is not None:
            self._done.synchronize()
        return [float(number) for number in self._host]


def asarray(array: Array, xp: ModuleType, dtype: Any = None) -> Array:
    """The array in library `xp`, copied to or from the GPU where it must be.

    Examples
    --------
    >>> asarray(np.arange(3), np, "float32")
    array([0., 1., 2.], dtype=float32)
    """
    if not is_device(xp) and not isinstance(array, list | tuple | int | float):
        array = to_numpy(array)
    return xp.asarray(array, dtype=dtype)


def default_rng(xp: ModuleType, key: tuple[int, ...]) -> Any:
    """A random generator of library `xp`, made from a tuple such as (seed, stream, step).

    The same key gives the same numbers again, so the state of all randomness is the
    step number and nothing needs to be saved. NumPy and GPUs draw different uniform numbers;
    those of all GPUs are the same.

    Examples
    --------
    >>> a = default_rng(np, (0, STREAMS["dropout"], 7)).random(2)
    >>> b = default_rng(np, (0, STREAMS["dropout"], 7)).random(2)
    >>> bool((a == b).all())
    True
    """
    sequence = np.random.SeedSequence(key)
    if is_device(xp):
        return HashGenerator(xp, sequence)
    return np.random.default_rng(sequence)


class HashGenerator:
    """Random numbers for a GPU, each a hash of the key and of its place in the sequence.

    CuPy's generators have as many states as the GPU has places for threads, so that the numbers
    depend on its model; and making one takes longer than many a layer.

    Parameters
    ----------
    xp : module
        Whose arrays are given.
    sequence : numpy.random.SeedSequence
        The key.

    Examples
    --------
    >>> HashGenerator(np, np.random.SeedSequence((0, 1))).random(3).round(3)
    array([0.157, 0.208, 0.363])
    """

    SOURCE = """
__global__ void uniform(REAL *numbers, int count, int first, int key, int second_key) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    unsigned int bits = (unsigned int)first + (unsigned int)n;
    for (int half = 0; half < 2; half++) {
        bits ^= (unsigned int)(half ? second_key : key);
        bits = (bits ^ bits >> 16) * 0x7FEB352Du;
        bits = (bits ^ bits >> 15) * 0x846CA68Bu;
        bits ^= bits >> 16;
    }
    numbers[n] = (REAL)(bits >> 8) * ((REAL)1 / 16777216);
}
"""
    """`random` on a GPU, where some twenty steps would be as many launches; see `run_kernel`."""

    def __init__(self, xp: ModuleType, sequence: np.random.SeedSequence) -> None:
        self.xp, self.drawn, self.sequence = xp, 0, sequence
        self.keys = sequence.generate_state(2, np.uint32)

    @cached_property
    def host(self) -> np.random.Generator:
        """NumPy's generator for this key; dropout needs none."""
        return np.random.default_rng(self.sequence)

    def random(self, shape: int | tuple[int, ...], dtype: Any = np.float64) -> Array:
        """Uniform numbers from 0 to below 1, of 24 bits."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        count, first = math.prod(shape), self.drawn
        self.drawn += count
        numbers = self.xp.empty(shape, dtype)
        if has_kernels(numbers):
            # Kernels are given ints of 32 bits and a sign: the bits are those of the unsigned.
            ints = np.array([first, *self.keys], np.int64).astype(np.int32).tolist()
            run_kernel(self.SOURCE, "uniform", count, (numbers,), count, *ints)
            return numbers
        bits = self.xp.arange(first, self.drawn, dtype=np.uint32)
        for key in self.keys:
            bits ^= key
            # Each multiplication carries low bits up, each shift brings high ones down.
            for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
                bits ^= bits >> np.uint32(shift)
                bits *= np.uint32(factor)
            bits ^= bits >> np.uint32(16)
        return ((bits >> np.uint32(8)).astype(dtype) * np.dtype(dtype).type(2**-24)).reshape(shape)

    def standard_normal(self, shape: int | tuple[int, ...]) -> Array:
        """NumPy's for this key, drawn on the host: for the few that a warp needs."""
        return self.xp.asarray(self.host.standard_normal(shape))


def ndimage(xp: ModuleType) -> ModuleType:
    """SciPy's image functions for arrays of library `xp`."""
    if is_device(xp):
        import cupyx.scipy.ndimage as module
    else:
        import scipy.ndimage as module
    return module


def synchronize(xp: ModuleType) -> None:
    """Wait until the GPU has done all it was asked; for timing. Nothing to do on the host."""
    if is_device(xp):
        xp.cuda.Stream.null.synchronize()


def device_group(xp: ModuleType, size: int, rank: int) -> Any:
    """What adds up arrays of GPUs by NCCL, one GPU for each of `size` processes of MPI.

    Its ``all_reduce(array, out)`` is that of `cupyx.distributed`. False on the host, and where
    CuPy finds no NCCL.

    Examples
    --------
    >>> device_group(np, 4, 0)
    False
    """
    if not is_device(xp) or not xp.cuda.nccl.available:
        return False
    from cupyx.distributed import init_process_group

    return init_process_group(size, rank, use_mpi=True)


def allow_tf32(allowed: bool, xp: ModuleType) -> None:
    """Whether a GPU may round the factors of float32 products to TF32, on this thread.

    CuPy's own switch, ``CUPY_TF32``, is read for products of matrices; those of more than two
    dimensions go by the mode of cuBLAS, which has a handle for each thread.

    Examples
    --------
    >>> allow_tf32(True, np)  # a processor rounds nothing
    """
    if is_device(xp):
        products, blas = xp._core._routines_linalg, xp.cuda.cublas
        kind = products.COMPUTE_TYPE_TF32 if allowed else products.COMPUTE_TYPE_DEFAULT
        products.set_compute_type(np.float32, kind)
        mode = CUBLAS_TF32_TENSOR_OP_MATH if allowed else blas.CUBLAS_DEFAULT_MATH
        blas.setMathMode(xp.cuda.device.get_cublas_handle(), mode)


def has_kernels(*arrays: Array) -> bool:
    """Whether kernels of our own, by `run_kernel`, can work on the arrays, all of one library.

    They must have one dtype, float32 or float64: a kernel converts nothing.

    Examples
    --------
    >>> has_kernels(np.ones(3))
    False
    """
    first = arrays[0].dtype
    if not is_device(array_module(arrays[0])) or first.char not in "fd":
        return False
    return all(array.dtype == first and array.size < BOUND for array in arrays)


def run_kernel(
    source: str,
    name: str,
    count: int,
    arrays: tuple[Any, ...],
    *numbers: float,
    like: Array | None = None,
) -> None:
    """Call a CUDA kernel once for each of `count` threads, on the GPU that has the arrays.

    Parameters
    ----------
    source : str
        Of this and other kernels, in C; REAL stands for the dtype of `like`. It is compiled when
        it is called for the first time.
    name : str
        The kernel.
    count : int
        How many threads it needs; it must bear some more.
    arrays : tuple of array
        The kernel's first arguments. An array of NumPy that has one item is passed by value.
    numbers : int or float
        The others, where an int is an ``int`` and a float a ``double``.
    like : array, optional
        Of the GPU; else the first of the arrays.

    Raises
    ------
    InputError
        If there are more threads than an ``int`` can count.
    """
    like = arrays[0] if like is None else like
    if count >= BOUND:
        raise InputError(f"{name}: got {count} numbers, expected at most {BOUND - 1} on a GPU")
    if count:  # CUDA refuses a kernel of no threads
        _launcher(array_module(like), source, name, like.dtype.char, count, *numbers)(arrays)


@lru_cache(4096, typed=True)
def _launcher(
    xp: ModuleType, source: str, name: str, kind: str, count: int, *numbers: float
) -> Callable[[tuple[Any, ...]], None]:
    """A kernel with its numbers as CuPy wants them: most steps ask for the same ones again."""
    kernel, blocks = _compiled(xp, source, name, kind), (-(-count // 128),)
    ready = tuple(
        np.int32(one) if isinstance(one, int | np.integer) else float(one) for one in numbers
    )
    return lambda arrays: kernel(blocks, (128,), arrays + ready)


@lru_cache
def _compiled(xp: ModuleType, source: str, name: str, kind: str) -> Any:
    """A kernel. CuPy compiles its source once, and looks up a name anew each time it is asked."""
    real = {"f": "float", "d": "double"}[kind]
    module = xp.RawModule(code=f'extern "C" {{\n{source}}}\n', options=(f"-DREAL={real}",))
    return module.get_function(name)


def product_of_matrices(a: Array, b: Array, out: Array, transposed: str = "") -> None:
    """``out[...] = a @ b`` on a GPU, for matrices that are contiguous.

    ``transposed="a"`` is a.T @ b, and ``"b"`` a @ b.T. It is the call to cuBLAS by which CuPy
    multiplies too, which there takes the host three times as long.
    """
    xp, kind = array_module(a, b, out), a.dtype.char
    sizes = out.shape[0], a.shape[0 if transposed == "a" else 1], out.shape[1]
    places = a.data.ptr, b.data.ptr, out.data.ptr
    _multiply(xp, kind, 1, sizes, places, transposed == "a", transposed == "b")


def products_within(
    memory: Array,
    count: int,
    sizes: tuple[int, int, int],
    places: tuple[int, int, int],
    transposed: bool = False,
) -> None:
    """``out[n] = a[n] @ b[n]``, or a[n].T @ b[n], for `count` matrices that lie in one array.

    Parameters
    ----------
    memory : array
        Of a GPU, of one dimension.
    sizes : (int, int, int)
        Rows of the product, what is added up, columns of the product.
    places : (int, int, int)
        Where in `memory` a, b and the products begin; each lies one after the other, in C order.
    """
    start, size = memory.data.ptr, memory.itemsize
    addresses = tuple(start + size * place for place in places)
    _multiply(array_module(memory), memory.dtype.char, count, sizes, addresses, transposed, False)


def _multiply(
    xp: ModuleType,
    kind: str,
    count: int,
    sizes: tuple[int, int, int],
    addresses: tuple[int, ...],
    turned_a: bool,
    turned_b: bool,
) -> None:
    (rows, common, columns), (a, b, out) = sizes, addresses
    blas, one = xp.cuda.cublas, ONES[kind]
    multiply = blas.sgemmStridedBatched if kind == "f" else blas.dgemmStridedBatched
    # cuBLAS reads matrices column by column: it sees the transposes, and makes the product's.
    multiply(
        xp.cuda.device.get_cublas_handle(), int(turned_b), int(turned_a), columns, rows, common,
        one, b, common if turned_b else columns, columns * common,
        a, rows if turned_a else common, rows * common,
        one + np.dtype(kind).itemsize, out, columns, rows * columns, count,
    )  # fmt: skip


def product(a: Array, b: Array, out: Array) -> None:
    """``out[...] = a @ b``, some rows at a time where these are `SMALL` and the whole is not.

    Examples
    --------
    >>> a, out = np.ones((500, 100)), np.empty((500, 50))
    >>> product(a, np.ones((100, 50)), out)
    >>> bool((out == 100).all())
    True
    """
    xp = array_module(a, b, out)
    for piece in row_pieces(a.shape[-2], b.shape[-2], b.shape[-1], xp):
        xp.matmul(a[..., piece, :], b, out=out[..., piece, :])


def sum_of_products(a: Array, b: Array, out: Array) -> None:
    """``out[...] = a.T @ b`` for the last two axes, some rows of both at a time as by `product`.

    Examples
    --------
    >>> out = np.empty((60, 50))
    >>> sum_of_products(np.ones((500, 60)), np.ones((500, 50)), out)
    >>> bool((out == 500).all())
    True
    """
    xp = array_module(a, b, out)

    def multiply(piece: slice, to: Array) -> None:
        xp.matmul(a[..., piece, :].swapaxes(-1, -2), b[..., piece, :], out=to)

    first, *others = row_pieces(a.shape[-2], a.shape[-1], b.shape[-1], xp)
    multiply(first, out)
    for piece in others:
        part = scratch(xp, "sum of products", out.shape, out.dtype)
        multiply(piece, part)
        out += part


def row_pieces(rows: int, common: int, columns: int, xp: ModuleType) -> list[slice]:
    """The pieces in which `product` makes (rows, common) times (common, columns).

    Examples
    --------
    >>> row_pieces(374, 96, 32, np)
    [slice(0, 187, None), slice(187, 374, None)]
    """
    most = SMALL // (common * columns)
    if is_device(xp) or not SHORT <= most < rows:
        return [slice(0, rows)]
    step = -(-rows // -(-rows // most))
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


def device_about(xp: ModuleType) -> dict[str, Any]:
    """Name, memory and versions of the GPU and of what drives it; empty on the host.

    Examples
    --------
    >>> device_about(np)
    {}
    """
    if not is_device(xp):
        return {}
    runtime = xp.cuda.runtime
    about = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "name": about["name"].decode(),
        "memory_gib": round(about["totalGlobalMem"] / 2**30, 1),
        "multiprocessors": about["multiProcessorCount"],
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "library": xp.__version__,
    }


def pool_bytes(xp: ModuleType) -> int:
    """The most bytes that CuPy's memory pool has taken from the GPU; NumPy has none.

    Examples
    --------
    >>> pool_bytes(np)
    0
    """
    return int(xp.get_default_memory_pool().total_bytes()) if is_device(xp) else 0


def empty(xp: ModuleType, shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array from the memory pool of `xp`.

    Examples
    --------
    >>> empty(np, (2, 3), "float32").shape
    (2, 3)
    """
    return xp.empty(shape, dtype) if is_device(xp) else host.empty(shape, dtype)


def empty_channels_last(
    xp: ModuleType, shape: tuple[int, int, int, int], dtype: Any, zero: bool = False
) -> Array:
    """A (B, C, H, W) array whose channels lie side by side in memory.

    Examples
    --------
    >>> empty_channels_last(np, (1, 3, 4, 5), "float32").strides
    (240, 4, 60, 12)
    """
    batch, channels, height, width = shape
    array = empty(xp, (batch, height, width, channels), dtype)
    if zero:
        array[...] = 0
    return array.transpose(0, 3, 1, 2)


def as_channels_last(x: Array) -> Array:
    """The (B, H, W, C) array behind a (B, C, H, W) one; a copy if its memory has another order.

    Examples
    --------
    >>> x = empty_channels_last(np, (1, 3, 4, 5), "float32")
    >>> as_channels_last(x).shape, np.shares_memory(as_channels_last(x), x)
    ((1, 4, 5, 3), True)
    """
    xp, pixels = array_module(x), x.transpose(0, 2, 3, 1)
    if is_device(xp) or pixels.flags.c_contiguous:
        return xp.ascontiguousarray(pixels)
    copy = empty(xp, pixels.shape, x.dtype)
    copy[...] = pixels
    return copy


def memory_order(array: Array) -> list[int]:
    """The axes of an array from the one whose steps are largest in memory to the smallest.

    Examples
    --------
    >>> memory_order(np.zeros((2, 3, 4)).transpose(2, 0, 1))
    [1, 2, 0]
    """
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])


def strided(x: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """A view of the memory of `x` from its first number on, such as windows that overlap.

    NumPy's `as_strided` is written in Python and takes four times as long, while no other thread
    can go on.

    Examples
    --------
    >>> strided(np.arange(4), (3, 2), (8, 8))
    array([[0, 1],
           [1, 2],
           [2, 3]])
    """
    if is_device(array_module(x)) or not x.flags.c_contiguous:
        return array_module(x).lib.stride_tricks.as_strided(x, shape, strides)
    return np.ndarray(shape, x.dtype, x, 0, strides)


def copy_runs(target: Array, source: Array) -> None:
    """``target[...] = source`` of the same dtype, in pieces where the last axes are such in memory.

    NumPy's own loop over short pieces takes twice as long.

    Examples
    --------
    >>> rows, pairs = np.zeros((2, 4)), np.ones((2, 2))
    >>> copy_runs(rows[:, 1:3], pairs)
    >>> rows[0]
    array([0., 1., 1., 0.])
    """
    xp, size = array_module(target, source), target.itemsize
    if not is_device(xp) and target.strides[-1] == source.strides[-1] == size:
        run = np.dtype((np.void, target.shape[-1] * size))
        target, source = target.view(run), source.view(run)
    target[...] = source


def channel_sums(x: Array, times: Array | None = None) -> Array:
    """Sum of a (B, C, H, W) array over all but its channels: the gradient of a bias.

    Rows are summed first, so that rounding errors do not pile up over a whole image.

    Parameters
    ----------
    x : array (B, C, H, W)
        The numbers.
    times : array (B, C, H, W), optional
        What they are multiplied by.

    Examples
    --------
    >>> channel_sums(np.ones((2, 3, 4, 4)))
    array([32., 32., 32.])
    """
    xp = array_module(x)
    pixels = as_channels_last(x)
    if has_kernels(x) if times is None else has_kernels(x, times):
        return _sums_by_kernels(pixels.reshape(-1, pixels.shape[3]), times)
    ones = xp.ones(pixels.shape[2], x.dtype)
    rows = pixels.reshape(-1, *pixels.shape[2:])
    others = None if times is None else as_channels_last(times).reshape(rows.shape)
    step = max(1, block_elements(xp) // max(1, pixels.shape[2] * pixels.shape[3]))

    def call(row: int) -> Array:
        block = rows[row : row + step]
        if others is not None:
            block = block * others[row : row + step]
        return (ones @ block).sum(axis=0)

    with sharing(PASS * x.size, xp):
        sums = parallel_map(call, range(0, len(rows), step), xp)
    return sums[0] if len(sums) == 1 else xp.stack(sums).sum(axis=0)


def _sums_by_kernels(rows: Array, times: Array | None) -> Array:
    """`channel_sums` in a few rounds of short ones: many threads, and no sum of a whole image."""
    columns, multiplied = rows.shape[1], times is not None
    other = rows if times is None else as_channels_last(times)
    for count, parts in rounds_of_sums(len(rows), columns):
        sums = empty(array_module(rows), (parts, columns), rows.dtype)
        how = count, columns, parts, multiplied
        run_kernel(SUMS, "sum_rows", parts * columns, (rows, other, sums), *how)
        rows, other, multiplied = sums, sums, False
    return rows[0]


@lru_cache
def rounds_of_sums(count: int, columns: int) -> list[tuple[int, int]]:
    """How many numbers a column has before and after each round in which a GPU adds it up.

    After the first they are powers of two, so that a part of any later round stands for every so
    many of the `count` numbers too.

    Examples
    --------
    >>> rounds_of_sums(568 * 568, 64), rounds_of_sums(28 * 28, 1024)
    ([(322624, 2048), (2048, 64), (64, 1)], [(784, 64), (64, 1)])
    """
    rounds, before, parts = [], count, 0
    while parts != 1:
        parts = 1 if before <= PARTS else PARTS
        if before > PARTS * SHARE:
            wanted = min(MANY_THREADS // columns, before // 32)
            parts = max(PARTS, 2 ** (wanted.bit_length() - 1))
        rounds.append((before, parts))
        before = parts
    return rounds


def sharing(work: float, xp: ModuleType = np) -> AbstractContextManager[None]:
    """`host.sharing` for arrays of library `xp`; a GPU shares nothing out among threads.

    Examples
    --------
    >>> with sharing(10_000):
    ...     sharing_threads()
    1
    """
    return NOTHING if is_device(xp) else host.sharing(work)


def single_threaded_blas(xp: ModuleType = np) -> AbstractContextManager[None]:
    """`host.single_threaded_blas` where arrays of library `xp` are the host's."""
    return NOTHING if is_device(xp) else host.single_threaded_blas()


def sharing_threads(xp: ModuleType = np) -> int:
    """Among how many threads `parallel_map` shares out what is done with arrays of `xp`.

    As `thread_count`, or fewer where `sharing` finds the work not worth them.
    """
    return 1 if is_device(xp) else host.sharing_threads()


def thread_count(xp: ModuleType = np) -> int:
    """Among how many threads the work on arrays of `xp` is shared out; a GPU gets all at once.

    On the host that is what `using_threads` or `set_thread_count` said, else the variable
    ``UNET_NP_THREADS``, else the cores available.
    """
    return 1 if is_device(xp) else host.thread_count()


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], xp: ModuleType = np
) -> list[Result]:
    """Call `function` on each item, on all cores if the arrays are on the host.

    The calls must write to places of their own. Their order is not defined, so nothing
    may depend on it: sums over the results are taken afterwards, in the items' order.

    Examples
    --------
    >>> parallel_map(abs, [-1, 2])
    [1, 2]
    """
    if is_device(xp):
        return [function(item) for item in items]
    return host.parallel_map(function, items)


def block_elements(xp: ModuleType) -> int:
    """How many numbers a block of an operation's temporaries should hold.

    On the host a block and what is made from it fit a core's cache; on a GPU a block is
    large enough to keep the whole device busy.
    """
    return 2**25 if is_device(xp) else 2**17


def for_row_blocks(function: Callable[..., Any], *arrays: Array, passes: int = 1) -> None:
    """Call `function` on blocks of rows of (B, C, H, W) arrays, on all cores.

    A pass is short for its bytes, so blocks are larger than elsewhere: threads that call NumPy too
    often wait for the interpreter's lock.

    Arrays may differ in height by whole factors (a pooled map has half the rows); each
    is cut at the same share of its rows. `function` gets one (h, W, C) view of each: the order
    in which they lie in memory, in which alone neighbouring threads of a GPU read neighbouring
    numbers. An array that is given twice comes as one view, since CuPy copies what another
    array's memory overlaps before it writes there. `passes` over the largest say what it takes.

    Examples
    --------
    >>> x = np.ones((1, 2, 4, 4))
    >>> for_row_blocks(lambda rows: np.negative(rows, out=rows), x)
    >>> float(x.sum())
    -32.0
    """
    xp = array_module(*arrays)
    height = min(array.shape[2] for array in arrays)
    row_size = max(math.prod(array.shape[1:]) for array in arrays) // height
    rows = max(1, 4 * block_elements(xp) // max(1, row_size))
    images = range(arrays[0].shape[0])

    def call(block: tuple[int, int]) -> None:
        image, first = block
        last = min(first + rows, height)
        views: list[Array] = []
        for array in arrays:
            factor = array.shape[2] // height
            view = array[image, :, first * factor : last * factor].transpose(1, 2, 0)
            views.append(next((old for old in views if _same(old, view)), view))
        function(*views)

    with sharing(passes * PASS * len(images) * row_size * height, xp):
        threads = sharing_threads(xp)
        if threads > 1:
            rows = -(-height // (-(-height // (rows * threads)) * threads))
        parallel_map(call, [(image, row) for image in images for row in range(0, height, rows)], xp)


def _same(a: Array, b: Array) -> bool:
    """Whether two views of a GPU's memory are of the same numbers; on the host nobody asks."""
    if not is_device(array_module(a)):
        return False
    return (a.data.ptr, a.shape, a.strides) == (b.data.ptr, b.shape, b.strides)


_here = threading.local()


def scratch(xp: ModuleType, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uninitialised memory that the next call with this name uses again.

    Each thread has its own, on a GPU each of its streams.

    Fresh memory must be mapped by the system page by page, which costs more than the
    arithmetic on it. On a GPU large pieces that come and go between smaller ones that stay would
    leave gaps in CuPy's memory pool: half as much again.

    Examples
    --------
    >>> scratch(np, "columns", (2, 3), "float32").shape
    (2, 3)
    """
    if not is_device(xp):
        return host.scratch(name, shape, dtype)
    buffers = _here.__dict__.setdefault("buffers", {})
    # What a stream does not wait for might still read it; another GPU cannot.
    stream = xp.cuda.runtime.getDevice(), xp.cuda.get_current_stream().ptr
    key, size = (xp, name, np.dtype(dtype), *stream), math.prod(shape)
    buffer = buffers.get(key)
    if buffer is None or buffer.size < size:
        buffers.pop(key, None)
        buffer = buffers[key] = xp.empty(size, dtype)
    return buffer if buffer.shape == shape else buffer[:size].reshape(shape)
