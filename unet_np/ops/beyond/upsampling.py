"""Up-sampling by 2 without weights: each pixel four times, or bilinear interpolation.

Together with a 3x3 convolution it takes the place of the paper's up-convolution, which
Odena, Dumoulin and Olah (2016) proposed against checkerboard patterns.
"""

from __future__ import annotations

from unet_np.backend import (
    PASS,
    Array,
    array_module,
    as_channels_last,
    block_elements,
    empty_channels_last,
    for_row_blocks,
    parallel_map,
    scratch,
    sharing,
)
from unet_np.errors import InputError

Cache = tuple[str, int]
MODES = ("nearest", "bilinear")

# The four pixels that one pixel becomes, row by row.
SQUARE = ((0, 0), (0, 1), (1, 0), (1, 1))


def upsample(x: Array, mode: str = "nearest", padding: int = 1) -> tuple[Array, Cache]:
    """Twice the height and width.

    Nearest: y[n, c, 2i + m, 2j + l] = x[n, c, i, j] for m, l in {0, 1}.

    Bilinear: centres of pixels stand at half-integers, so that new pixel 2i lies a quarter of
    a pixel before old pixel i and new pixel 2i + 1 a quarter after it (PyTorch's
    ``align_corners=False``). Along each axis

    y[2i] = 1/4 x[i - 1] + 3/4 x[i],    y[2i + 1] = 3/4 x[i] + 1/4 x[i + 1].

    Parameters
    ----------
    x : array (B, C, H, W)
        Feature maps.
    mode : {"nearest", "bilinear"}
        The rule.
    padding : {0, 1}
        For bilinear: with 1 the edge pixel stands for the one beyond it, as in PyTorch. With 0
        the two outermost new rows and columns, which would need a pixel beyond the edge, are
        left out, and every number is what it would be in the midst of a larger image.

    Returns
    -------
    y : array (B, C, 2H, 2W)
        Of the dtype of `x`; (B, C, 2H - 2, 2W - 2) for bilinear with padding 0.
    cache : tuple
        Mode and padding.

    Raises
    ------
    InputError
        If `x` is not four-dimensional, has less than 2 x 2 pixels where some are left out, or
        mode or padding is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[0.0, 4.0]]]])
    >>> upsample(x)[0][0, 0]
    array([[0., 0., 4., 4.],
           [0., 0., 4., 4.]])
    >>> upsample(x, "bilinear")[0][0, 0]
    array([[0., 1., 3., 4.],
           [0., 1., 3., 4.]])
    """
    _check(x, mode, padding)
    xp = array_module(x)
    batch, channels, height, width = x.shape
    lost = 2 * (mode == "bilinear" and not padding)
    shape = (batch, channels, 2 * height - lost, 2 * width - lost)
    y = empty_channels_last(xp, shape, x.dtype)
    if mode == "nearest":
        for_row_blocks(_repeat, x, y)
    else:
        _interpolate(x, y, padding)
    return y, (mode, padding)


def upsample_backward(grad_output: Array, cache: Cache) -> Array:
    """The transpose: an old pixel gathers from the new ones to which it gave, as much as it gave.

    Nearest: dE/dx[i, j] = sum over m, l of dE/dy[2i + m, 2j + l].

    Bilinear, along each axis, with g = dE/dy:

    dE/dx[i] = 1/4 g[2i - 1] + 3/4 g[2i] + 3/4 g[2i + 1] + 1/4 g[2i + 2].

    Beyond the ends stands the outermost number again with padding 1, since the edge pixel
    also gave what the missing one would have given; with padding 0 what was left out is 0.

    Parameters
    ----------
    grad_output : array (B, C, 2H, 2W)
        dE/dy; (B, C, 2H - 2, 2W - 2) for bilinear with padding 0.
    cache : tuple
        From `upsample`.

    Returns
    -------
    array (B, C, H, W)
        dE/dx.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = upsample(np.zeros((1, 1, 1, 2)), "bilinear")
    >>> upsample_backward(np.array([[[[1.0, 0.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0]]]]), cache)
    array([[[[4., 1.]]]])
    """
    mode, padding = cache
    xp = array_module(grad_output)
    batch, channels, height, width = grad_output.shape
    lost = 2 * (mode == "bilinear" and not padding)
    shape = (batch, channels, (height + lost) // 2, (width + lost) // 2)
    grad_x = empty_channels_last(xp, shape, grad_output.dtype)
    if mode == "nearest":
        for_row_blocks(_sum_squares, grad_output, grad_x)
    else:
        _gather(grad_output, grad_x, padding)
    return grad_x


def _repeat(x: Array, y: Array) -> None:
    for row, column in SQUARE:
        y[row::2, column::2] = x


def _sum_squares(grad: Array, grad_x: Array) -> None:
    first, *others = (grad[row::2, column::2] for row, column in SQUARE)
    grad_x[...] = first
    for other in others:
        grad_x += other


def _interpolate(x: Array, y: Array, padding: int) -> None:
    """Rows first, then columns, a block of pairs of new rows at a time."""
    xp, pixels, results = array_module(x), as_channels_last(x), y.transpose(0, 2, 3, 1)

    def call(block: tuple[int, int, int]) -> None:
        image, first, last = block
        rows = _framed(pixels[image], first - padding, last + 1, padding, edge=True)
        tall = scratch(xp, "tall", (last - first, *rows.shape[1:]), x.dtype)
        for parity in (0, 1):
            _mix(*_near_and_far(rows, parity, padding), tall)
            target = results[image, 2 * first + parity : 2 * last : 2].transpose(1, 0, 2)
            for other in (0, 1):
                pair = _near_and_far(tall.transpose(1, 0, 2), other, padding)
                _mix(*pair, target[other::2])

    with sharing(2 * PASS * y.size, xp):
        parallel_map(call, _blocks(y, y.shape[2] // 2), xp)


def _gather(grad: Array, grad_x: Array, padding: int) -> None:
    """The same backwards: four neighbouring rows make one, then four columns."""
    xp, pixels, results = array_module(grad), as_channels_last(grad), grad_x.transpose(0, 2, 3, 1)
    # With padding 0 there is one zero for the row left out, and one for the row beyond it.
    frame = 2 - padding

    def call(block: tuple[int, int, int]) -> None:
        image, first, last = block
        begin, end = 2 * first - frame, 2 * last + 2 - frame
        rows = _framed(pixels[image], begin, end, frame, edge=bool(padding))
        columns = _squeeze(rows).transpose(1, 0, 2)
        results[image, first:last] = _squeeze(columns).transpose(1, 0, 2)

    with sharing(2 * PASS * grad.size, xp):
        parallel_map(call, _blocks(grad, grad_x.shape[2]), xp)


def _near_and_far(old: Array, parity: int, padding: int) -> tuple[Array, Array]:
    """Along the first axis, the old pixels next to the new ones of one parity, and those behind."""
    if padding:
        return old[1:-1], old[2:] if parity else old[:-2]
    return (old[1:], old[:-1]) if parity else (old[:-1], old[1:])


def _mix(near: Array, far: Array, out: Array) -> None:
    array_module(near).multiply(near, 0.75, out=out)
    out += 0.25 * far


def _squeeze(rows: Array) -> Array:
    """1/4, 3/4, 3/4 and 1/4 of rows 2i to 2i + 3, for each i."""
    inner = rows[1:-2:2] + rows[2:-1:2]
    inner *= 0.75
    outer = rows[:-3:2] + rows[3::2]
    outer *= 0.25
    inner += outer
    return inner


def _framed(pixels: Array, first: int, last: int, frame: int, edge: bool) -> Array:
    """Rows first to last of (H, W, C) with `frame` more columns on each side.

    What lies beyond the array is the pixel at its edge, or 0. The result is scratch memory
    that the thread's next call overwrites.
    """
    xp = array_module(pixels)
    height, width, channels = pixels.shape
    framed = scratch(xp, "framed", (last - first, width + 2 * frame, channels), pixels.dtype)
    inside = slice(max(first, 0), min(last, height))
    top, bottom = inside.start - first, inside.stop - first
    framed[top:bottom, frame : frame + width] = pixels[inside]
    left, right = framed[top:bottom, :frame], framed[top:bottom, frame + width :]
    left[...] = framed[top:bottom, frame : frame + 1] if edge else 0
    right[...] = framed[top:bottom, frame + width - 1 : frame + width] if edge else 0
    framed[:top] = framed[top] if edge else 0
    framed[bottom:] = framed[bottom - 1] if edge else 0
    return framed


def _blocks(wide: Array, count: int) -> list[tuple[int, int, int]]:
    """`count` pairs of rows of each image in blocks that fit the cache: image, first, last."""
    batch, channels, _, width = wide.shape
    step = max(1, block_elements(array_module(wide)) // (2 * width * channels))
    starts = range(0, count, step)
    return [(image, row, min(row + step, count)) for image in range(batch) for row in starts]


def _check(x: Array, mode: str, padding: int) -> None:
    if x.ndim != 4:
        raise InputError(f"x: got shape {x.shape}, expected (B, C, H, W)")
    if mode not in MODES:
        raise InputError(f"mode: got {mode!r}, expected nearest or bilinear")
    if padding not in (0, 1):
        raise InputError(f"padding: got {padding!r}, expected 0 or 1")
    if mode == "bilinear" and not padding and min(x.shape[2:]) < 2:
        size = f"{x.shape[2]} x {x.shape[3]}"
        raise InputError(f"x: got {size} pixels, expected at least 2 x 2 with padding 0")
