"""Copy and crop, the grey arrows of Fig. 1, and the concatenation where they end."""

from __future__ import annotations

from unet_np.backend import (
    Array,
    array_module,
    copy_runs,
    empty_channels_last,
    for_row_blocks,
    has_kernels,
)
from unet_np.errors import InputError
from unet_np.ops import fused_cuda

Shape = tuple[int, int, int, int]


def center_crop(x: Array, height: int, width: int) -> Array:
    """The middle of the feature maps, as a view.

    "The cropping is necessary due to the loss of border pixels in every convolution"
    (section 2). Where the difference is odd, the pixel more is cut at the bottom or right.

    Parameters
    ----------
    x : array (..., H, W)
        Feature maps.
    height, width : int
        Size of the middle.

    Returns
    -------
    array (..., height, width)
        A view of `x`.

    Raises
    ------
    InputError
        If `x` is smaller.

    Examples
    --------
    >>> import numpy as np
    >>> center_crop(np.arange(16).reshape(4, 4), 2, 2)
    array([[ 5,  6],
           [ 9, 10]])
    """
    rows, columns = x.shape[-2:]
    if rows < height or columns < width:
        raise InputError(
            f"skip: got {rows} x {columns} pixels, expected at least {height} x {width}"
        )
    top, left = (rows - height) // 2, (columns - width) // 2
    return x[..., top : top + height, left : left + width]


def crop_concat(skip: Array, up: Array) -> tuple[Array, tuple[Shape, int]]:
    """Crop `skip` to the size of `up` and join the two by channel.

    The cropped maps of the contracting path come first, then the up-convolved ones: the
    order in which Fig. 1 draws them (white box left, blue box right). The paper does not
    say it in words.

    Parameters
    ----------
    skip : array (B, C1, H1, W1)
        Feature maps of the contracting path.
    up : array (B, C2, H2, W2)
        Output of the up-convolution, H2 <= H1 and W2 <= W1.

    Returns
    -------
    y : array (B, C1 + C2, H2, W2)
        Of their dtype.
    cache : tuple
        The shape of `skip` and C1.

    Raises
    ------
    InputError
        If batches or dtypes differ or `skip` is smaller than `up`.

    Examples
    --------
    >>> import numpy as np
    >>> crop_concat(np.zeros((1, 64, 568, 568)), np.ones((1, 64, 392, 392)))[0].shape
    (1, 128, 392, 392)
    """
    xp = array_module(skip, up)
    check_joining(skip, up)
    batch, channels, height, width = up.shape
    first, cropped = skip.shape[1], center_crop(skip, height, width)
    if has_kernels(skip, up):
        return fused_cuda.crop_concat(skip, up), (skip.shape, first)
    y = empty_channels_last(xp, (batch, first + channels, height, width), up.dtype)

    def join(y: Array, skip: Array, up: Array) -> None:
        copy_runs(y[..., :first], skip)
        copy_runs(y[..., first:], up)

    for_row_blocks(join, y, cropped, up)
    return y, (skip.shape, first)


def check_joining(skip: Array, up: Array) -> None:
    """Refuse maps of other batches or dtypes; `center_crop` does those that are too small."""
    if skip.shape[0] != up.shape[0]:
        raise InputError(f"skip: got a batch of {skip.shape[0]}, expected {up.shape[0]} as in up")
    if skip.dtype != up.dtype:
        raise InputError(f"skip: got {skip.dtype}, expected {up.dtype} as in up")


def crop_concat_backward(grad_output: Array, cache: tuple[Shape, int]) -> tuple[Array, Array]:
    """Undo the joining; the pixels that were cut away have gradient 0.

    Parameters
    ----------
    grad_output : array (B, C1 + C2, H2, W2)
        dE/dy.
    cache : tuple
        From `crop_concat`.

    Returns
    -------
    grad_skip : array (B, C1, H1, W1)
        dE/dskip.
    grad_up : array (B, C2, H2, W2)
        dE/dup.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = crop_concat(np.zeros((1, 1, 4, 4)), np.ones((1, 1, 2, 2)))
    >>> grad_skip, grad_up = crop_concat_backward(np.ones((1, 2, 2, 2)), cache)
    >>> grad_skip[0, 0]
    array([[0., 0., 0., 0.],
           [0., 1., 1., 0.],
           [0., 1., 1., 0.],
           [0., 0., 0., 0.]])
    """
    xp = array_module(grad_output)
    shape, first = cache
    if has_kernels(grad_output):
        return fused_cuda.crop_concat_backward(grad_output, shape, first)
    grad_skip = empty_channels_last(xp, shape, grad_output.dtype)
    batch, channels, height, width = grad_output.shape
    if shape[2:] != (height, width):
        for_row_blocks(lambda rows: rows.fill(0), grad_skip)
    # A copy, so that the memory of `grad_output` is free once the skip's gradient is too.
    grad_up = empty_channels_last(xp, (batch, channels - first, height, width), grad_output.dtype)

    def split(grad: Array, skip: Array, up: Array) -> None:
        copy_runs(skip, grad[..., :first])
        copy_runs(up, grad[..., first:])

    for_row_blocks(split, grad_output, center_crop(grad_skip, height, width), grad_up)
    return grad_skip, grad_up
