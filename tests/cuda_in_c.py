"""CUDA kernels read as plain C: the same source, with a loop in the place of a GPU's threads.

A kernel whose threads do not talk to each other is a function of two numbers, the block's and the
thread's. What a processor cannot show is a GPU's speed, and a thread that writes where another
one reads.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

HEADER = """
#include <math.h>
#include <stddef.h>
#define __global__
#define __device__
typedef struct {int x, y, z;} three;
static _Thread_local three blockIdx, threadIdx, blockDim;
"""
CALLER = """
void run_{name}(int blocks, int threads, {parameters}) {{
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++)
            {name}({names});
}}
"""


def in_c(code: str) -> str:
    """The source as C, with a caller for each kernel."""
    code = code.replace('extern "C" {', HEADER).rstrip().removesuffix("}")
    for name, parameters in re.findall(r"__global__ void (\w+)\(([^)]*)\)", code):
        names = ", ".join(re.findall(r"(\w+)\s*(?:,|$)", parameters))
        code += CALLER.format(name=name, parameters=parameters, names=names)
    return code


@cache
def compiled(code: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """The kernels as a library; the test is skipped where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, which takes a GPU's place in reading the CUDA kernels")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "kernels.c"), Path(folder, "kernels.so")
        source.write_text(in_c(code), "utf-8")
        flags = ["-std=c11", "-O2", "-fPIC", "-shared", *options]
        subprocess.run([compiler, *flags, "-o", library, source, "-lm"], check=True)
        return ctypes.CDLL(str(library))


class Module:
    """What `cupy.RawModule` is, on a processor."""

    launches: int = 0

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        self._library = compiled(code, options)

    def get_function(self, name: str) -> Callable[..., None]:
        """The kernel, called as one of CuPy's."""

        def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            assert min(*grid, *block) > 0, "CUDA refuses a kernel of no threads"
            Module.launches += 1
            call = getattr(self._library, f"run_{name}")
            call.restype = None
            call(*grid, *block, *map(_argument, arguments))

        return launch


def _argument(value: Any) -> Any:
    """As CuPy hands it on: an int of Python's would be one of 64 bits."""
    if hasattr(value, "data") and hasattr(value.data, "ptr"):
        assert value.flags.c_contiguous or value.transpose(0, 2, 3, 1).flags.c_contiguous
        return ctypes.c_void_p(value.data.ptr)
    if isinstance(value, np.ndarray):
        return _by_value(value)
    if isinstance(value, float):
        return ctypes.c_double(value)
    assert isinstance(value, np.int32), type(value)
    return ctypes.c_int(int(value))


def _by_value(value: np.ndarray) -> ctypes.Structure:
    """A struct, for which CuPy takes an array of NumPy that holds one item, and nothing else.

    What a launch takes along has 4096 bytes, of which other arguments need some.
    """
    assert value.size == 1
    assert value.nbytes % 8 == 0
    assert value.nbytes <= 4000
    longs = ctypes.c_int64 * (value.nbytes // 8)
    struct = type("struct", (ctypes.Structure,), {"_fields_": [("longs", longs)]})
    return struct.from_buffer_copy(value)


def strided_batched(kind: type[np.floating]) -> Callable[..., None]:
    """cuBLAS's products of many matrices, which it reads column by column."""

    def product(
        handle: int, turn_a: int, turn_b: int, m: int, n: int, k: int,
        alpha: int, a: int, lda: int, step_a: int, b: int, ldb: int, step_b: int,
        beta: int, c: int, ldc: int, step_c: int, count: int,
    ) -> None:  # fmt: skip
        one, zero = (_matrices(place, 1, 1, 1, 1, 1, kind)[0, 0, 0] for place in (alpha, beta))
        first = _matrices(a, *((k, m) if turn_a else (m, k)), lda, step_a, count, kind)
        second = _matrices(b, *((n, k) if turn_b else (k, n)), ldb, step_b, count, kind)
        first = first.swapaxes(1, 2) if turn_a else first
        second = second.swapaxes(1, 2) if turn_b else second
        out = _matrices(c, m, n, ldc, step_c, count, kind)
        assert zero == 0
        out[...] = one * np.matmul(first, second)

    return product


def _matrices(
    place: int, rows: int, columns: int, line: int, step: int, count: int, kind: type[np.floating]
) -> np.ndarray:
    size = np.dtype(kind).itemsize
    assert line >= rows
    assert step >= line * columns or count == 1
    whole = (ctypes.c_char * (size * ((count - 1) * step + line * columns))).from_address(place)
    flat = np.frombuffer(whole, kind)
    strides = (step * size, size, line * size)
    return np.lib.stride_tricks.as_strided(flat, (count, rows, columns), strides)


CUBLAS = SimpleNamespace(
    sgemmStridedBatched=strided_batched(np.float32),
    dgemmStridedBatched=strided_batched(np.float64),
)
"""Its part in `cupy.cuda.cublas`."""
