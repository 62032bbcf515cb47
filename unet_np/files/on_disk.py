"""Arrays that stay in a file: windows of them are read and written, and none stays in memory.

A memory map would do, were its pages not counted as the process's own for as long as they please
the system; here only what was asked for is held.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

Key = tuple[int | slice, ...]


class Windows:
    """What gives windows of itself as arrays, by integers and slices without steps."""

    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        raise NotImplementedError


class DiskArray(Windows):
    """An array in C order in a file; unbuffered, and not for several threads at once.

    Parameters
    ----------
    file : file
        Open for reading and writing, without a buffer.
    shape : tuple of int
        Of the array.
    dtype : dtype
        Of its numbers, in either byte order.
    offset : int
        Where in the file it begins, in bytes.

    Examples
    --------
    >>> import tempfile
    >>> with new_array(Path(tempfile.mkdtemp(), "a"), (3, 4), "i4") as array:
    ...     array[1:, 2:4] = np.array([[1, 2], [3, 4]])
    ...     array[:, 1:3]
    array([[0, 0],
           [0, 1],
           [0, 3]], dtype=int32)
    """

    def __init__(
        self, file: IO[bytes], shape: tuple[int, ...], dtype: Any, offset: int = 0
    ) -> None:
        self.file, self.shape, self.offset = file, tuple(int(size) for size in shape), offset
        self.stored = np.dtype(dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read: in the byte order of the machine."""
        return self.stored.newbyteorder("=")

    def __enter__(self) -> DiskArray:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def reshape(self, shape: tuple[int, ...]) -> DiskArray:
        """The same numbers in another shape."""
        return DiskArray(self.file, shape, self.stored, self.offset)

    def part(self, number: int) -> DiskArray:
        """One of those along the first axis, in the same file."""
        size = math.prod(self.shape[1:]) * self.stored.itemsize
        return DiskArray(self.file, self.shape[1:], self.stored, self.offset + number * size)

    def __getitem__(self, key: int | slice | Key) -> np.ndarray:
        """Integers and slices without steps."""
        ranges, shape = self._ranges(key)
        values = np.empty([stop - start for start, stop in ranges], self.stored)
        for place, run in self._runs(ranges, values):
            self.file.seek(place)
            view = memoryview(run.view(np.uint8).data)
            while view:
                count = self.file.readinto(view)  # type: ignore[attr-defined]
                if not count:
                    raise OSError(errno.EIO, "is shorter than it was", self.file.name)
                view = view[count:]
        return values.reshape(shape).astype(self.dtype, copy=False)

    def __setitem__(self, key: int | slice | Key, values: Any) -> None:
        ranges, shape = self._ranges(key)
        ready = np.empty([stop - start for start, stop in ranges], self.stored)
        ready.reshape(shape)[...] = values
        with _named(self.file):
            for place, run in self._runs(ranges, ready):
                self.file.seek(place)
                view = memoryview(run.view(np.uint8).data)
                while view:
                    view = view[self.file.write(view) :]

    def _ranges(self, key: int | slice | Key) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
        """Start and stop along each axis, and the shape without those that an integer takes."""
        keys = (*(key if isinstance(key, tuple) else (key,)),)
        keys += (slice(None),) * (self.ndim - len(keys))
        ranges, shape = [], []
        for one, size in zip(keys, self.shape, strict=True):
            if isinstance(one, slice):
                start, stop, step = one.indices(size)
                if step != 1:
                    raise IndexError(f"got a step of {step}, expected none")
                ranges.append((start, max(start, stop)))
                shape.append(max(0, stop - start))
            else:
                ranges.append((int(one), int(one) + 1))
        return ranges, tuple(shape)

    def _runs(
        self, ranges: list[tuple[int, int]], values: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Place in the file and numbers of each stretch that lies there in one piece."""
        if not values.size:
            return
        axis = self.ndim - 1
        while axis > 0 and ranges[axis] == (0, self.shape[axis]):
            axis -= 1
        strides = [math.prod(self.shape[i + 1 :]) for i in range(self.ndim)]
        places = np.array(0)
        for (start, stop), stride in zip(ranges[:axis], strides, strict=False):
            places = np.add.outer(places, np.arange(start, stop) * stride)
        first = ranges[axis][0] * strides[axis] if self.ndim else 0
        rows = values.reshape(places.size, -1)
        for place, row in zip(places.ravel(), rows, strict=True):
            yield self.offset + int(place + first) * self.stored.itemsize, row


@contextmanager
def _named(file: IO[bytes]) -> Iterator[None]:
    """A full disk says which file it is."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, file.name) from None


def new_array(path: Path, shape: tuple[int, ...], dtype: Any) -> DiskArray:
    """An array of zeros in a new file, which holds nothing until something is written.

    Parameters
    ----------
    path : Path
        The file; its folder is there.
    shape, dtype
        Of the array.
    """
    file = open(path, "w+b", buffering=0)  # noqa: SIM115
    try:
        with _named(file):
            file.truncate(math.prod(shape) * np.dtype(dtype).itemsize)
    except BaseException:
        file.close()
        raise
    return DiskArray(file, shape, dtype)
