"""What a file may claim: no more than its bytes can hold, and no more than the machine has.

Headers are a few bytes that ask for gigabytes. They are checked before anything is allocated. The
functions here raise `InputError` with a message that lacks its beginning (argument and file).
"""

from __future__ import annotations

import os
from pathlib import Path

from unet_np.errors import InputError

EXPANSION = {
    1: 1,  # uncompressed
    5: 1400,  # LZW: a table of 4096 strings, each a byte longer than the last
    7: 1100,  # JPEG: a bit for each of the six blocks of 16 x 16 pixels in colour
    8: 1032,  # deflate: 258 bytes in two bits
    32773: 64,  # PackBits: 128 bytes in two
    32946: 1032,
    34925: 8000,  # LZMA
    50000: 33000,  # Zstandard: blocks of 128 KiB in four bytes
}
"""By TIFF's number of the compression: bytes of pixels that one byte can hold, where that is known.

CCITT, JPEG 2000, JPEG XL and WebP store a constant image of any size in a few bytes.
"""

_SLACK = 65536  # bytes; small files need no check
_BOMB = 2**30, 500  # bytes of pixels, and times the file


def check_claim(pixels: int, stored: int, expansion: int | None) -> None:
    """Refuse more pixels than their compressed bytes can hold.

    Parameters
    ----------
    pixels : int
        Bytes of the pixels as the header has it, uncompressed.
    stored : int
        Bytes in the file that hold them.
    expansion : int or None
        As `EXPANSION` has it; None where anything fits.

    Raises
    ------
    InputError
        If they do not fit.

    Examples
    --------
    >>> check_claim(10**9, 5000, 1032)
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: claims 954 MiB of pixels, expected at most 4.98 MiB from 4.88 KiB \
of data; its header is damaged, or the file is cut short
    """
    most = stored * expansion + (_SLACK if expansion != 1 else 0) if expansion else None
    if most is not None and pixels > most:
        raise InputError(
            f"claims {shown(pixels)} of pixels, expected at most {shown(most)} from "
            f"{shown(stored)} of data; its header is damaged, or the file is cut short"
        )


def check_ratio(pixels: int, file_size: int) -> None:
    """Refuse more than a gigabyte that comes from less than a 500th of it.

    Files that are made to fill a machine's memory do so; images do not.

    Raises
    ------
    InputError
        If it is so.

    Examples
    --------
    >>> check_ratio(2**31, 2**20)
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: unpacks to 2 GiB from 1 MiB, expected less than 500 times its size \
above 1 GiB; store it in parts, or uncompressed
    """
    limit, times = _BOMB
    if pixels > limit and pixels > times * file_size:
        raise InputError(
            f"unpacks to {shown(pixels)} from {shown(file_size)}, expected less than {times} times "
            f"its size above {shown(limit)}; store it in parts, or uncompressed"
        )


def check_memory(needed: int) -> None:
    """Refuse what does not fit into the memory that is free.

    Raises
    ------
    InputError
        If it does not.

    Examples
    --------
    >>> check_memory(1000)
    """
    free = available_memory()
    if free is not None and needed > free:
        raise InputError(
            f"needs {shown(needed)} of memory, expected at most {shown(free)}, which is free here"
        )


def available_memory() -> int | None:
    """Bytes that this process may still take: of the machine, its container and its own limit.

    None where the system does not say.

    Examples
    --------
    >>> free = available_memory()
    >>> free is None or free > 2**20
    True
    """
    known = [_free_memory(), _container_memory(), _process_memory()]
    return min((max(one, 0) for one in known if one is not None), default=None)


def shown(count: int) -> str:
    """Bytes as people read them.

    Examples
    --------
    >>> shown(512), shown(1536), shown(3 * 2**30)
    ('512 bytes', '1.5 KiB', '3 GiB')
    """
    if count < 1024:
        return f"{count} bytes"
    power = min(max(count.bit_length() - 1, 0) // 10, 4)
    # 1000 and more would be written with an exponent.
    power += power < 4 and count >= 1000 * 2 ** (10 * power)
    return f"{count / 2 ** (10 * power):.3g} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line[:13] == "MemAvailable:")
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _container_memory() -> int | None:
    group = Path("/sys/fs/cgroup")
    for most, used, pages, cached in (
        ("memory.max", "memory.current", "memory.stat", "file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_cache",
        ),
    ):
        try:
            limit, taken = (int((group / name).read_text()) for name in (most, used))
            stat = dict(line.split() for line in (group / pages).read_text().splitlines())
            # Pages of files that were read count as used and are given back when asked for.
            return limit - taken + int(stat.get(cached, 0))
        # No such group, or its limit is "max".
        except (OSError, ValueError):
            continue
    return None


def _process_memory() -> int | None:
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return limit - pages * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):
        return None
