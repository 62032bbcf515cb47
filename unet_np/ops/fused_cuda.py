"""What stands between the convolutions, on a GPU: one kernel for each operation.

NumPy's way is several operations on views. Each of them would be a kernel on a GPU, which reads
all numbers again and which the host needs longer to ask for than the GPU to do. The maps are
(B, H, W, C) in memory; a thread makes one number, and neighbours make neighbouring channels.
"""

from __future__ import annotations

import math

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    empty,
    empty_channels_last,
    product_of_matrices,
    run_kernel,
)

SOURCE = """
__global__ void pool(const REAL *x, REAL *y, unsigned height, unsigned width,
                     unsigned channels, unsigned down, unsigned across, unsigned images) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= images * down * across * channels) return;
    const unsigned pixel = n / channels, row = pixel / across;
    const unsigned line = row / down * height + 2 * (row % down);
    const REAL *a = x + (line * width + 2 * (pixel % across)) * channels + n % channels;
    REAL largest = a[0];
    #pragma unroll
    for (int p = 1; p < 4; p++) {
        const REAL other = a[(p / 2 * width + p % 2) * channels];
        // What is no number is unlike itself, and larger than all.
        if (other > largest || other != other) largest = other;
    }
    y[n] = largest;
}

__global__ void pool_backward(const REAL *x, const REAL *y, const REAL *grad, REAL *grad_x,
                              int height, int width, int channels, int down, int across,
                              int images) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x;
    const int windows_down = (height + 1) / 2, windows_across = (width + 1) / 2;
    if (n >= images * windows_down * windows_across * channels) return;
    const int channel = n % channels, j = n / channels % windows_across;
    const unsigned row = n / channels / windows_across, image = row / windows_down;
    const int i = row % windows_down, whole = i < down && j < across;
    const unsigned pooled = whole ? ((image * down + i) * across + j) * channels + channel : 0;
    int free = whole;
    #pragma unroll
    for (int p = 0; p < 4; p++) {
        const int down_ = 2 * i + p / 2, across_ = 2 * j + p % 2;
        if (down_ >= height || across_ >= width) continue;
        const unsigned place = ((image * height + down_) * width + across_) * channels + channel;
        const int largest = free && x[place] == y[pooled];
        grad_x[place] = largest ? grad[pooled] : (REAL)0;
        free = free && !largest;
    }
}

__global__ void where_positive(const REAL *grad, const REAL *y, REAL *out, int rows, int columns) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < rows * columns) out[n] = y[n] > 0 ? grad[n] : (REAL)0;
}

__global__ void join(const REAL *skip, const REAL *up, REAL *y, int height, int width, int first,
                     int rows, int columns, int more, int images) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x;
    const int channels = first + more;
    if (n >= images * rows * columns * channels) return;
    const unsigned pixel = n / channels, row = pixel / columns;
    const int channel = n % channels;
    const unsigned line = row / rows * height + row % rows + (height - rows) / 2;
    const unsigned place = line * width + pixel % columns + (width - columns) / 2;
    y[n] = channel < first ? skip[place * first + channel] : up[pixel * more + channel - first];
}

__global__ void split(const REAL *grad, REAL *skip, REAL *up, int height, int width, int first,
                      int rows, int columns, int more, int images) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned skips = images * height * width * first, m = n - skips;
    const int channels = first + more;
    if (n >= skips) {
        if (m < images * rows * columns * more)
            up[m] = grad[m / more * channels + first + m % more];
        return;
    }
    const unsigned line = n / first / width;
    const int i = (int)(line % height) - (height - rows) / 2;
    const int j = (int)(n / first % width) - (width - columns) / 2;
    const int inside = i >= 0 && i < rows && j >= 0 && j < columns;
    const unsigned place = (line / height * rows + (inside ? i : 0)) * columns + (inside ? j : 0);
    skip[n] = inside ? grad[place * channels + n % first] : (REAL)0;
}

__global__ void put_squares(const REAL *product, const REAL *bias, REAL *y, int lines, int width,
                            int channels) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, pixel = n / channels;
    if (n >= lines * width * channels) return;
    const unsigned i = pixel / width, j = pixel % width;
    const unsigned place = (i / 2 * (width / 2) + j / 2) * 4 + i % 2 * 2 + j % 2;
    y[n] = product[place * channels + n % channels] + bias[n % channels];
}

__global__ void take_squares(const REAL *y, REAL *product, int lines, int width, int channels) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, pixel = n / channels;
    if (n >= lines * width * channels) return;
    const unsigned i = pixel / width, j = pixel % width;
    const unsigned place = (i / 2 * (width / 2) + j / 2) * 4 + i % 2 * 2 + j % 2;
    product[place * channels + n % channels] = y[n];
}
"""
"""All kernels; see `run_kernel`."""


def max_pool2d(x: Array) -> Array:
    """As in `pool`: (B, C, H, W) -> (B, C, H // 2, W // 2)."""
    batch, channels, height, width = x.shape
    y = empty_channels_last(array_module(x), (batch, channels, height // 2, width // 2), x.dtype)
    where = height, width, channels, *y.shape[2:], batch
    run_kernel(SOURCE, "pool", y.size, (as_channels_last(x), y), *where)
    return y


def max_pool2d_backward(grad: Array, x: Array, y: Array) -> Array:
    """As in `pool`."""
    batch, channels, height, width = x.shape
    grad_x = empty_channels_last(array_module(x), x.shape, x.dtype)
    count = batch * -(-height // 2) * -(-width // 2) * channels
    arrays = tuple(as_channels_last(array) for array in (x, y, grad, grad_x))
    where = height, width, channels, *y.shape[2:], batch
    run_kernel(SOURCE, "pool_backward", count, arrays, *where)
    return grad_x


def relu_backward(grad: Array, y: Array, out: Array | None) -> Array:
    """As in `activation`; where `out` lies otherwise in memory, the result is copied there."""
    pixels, kept = as_channels_last(grad), as_channels_last(y)
    into = pixels if out is grad else empty(array_module(grad), pixels.shape, grad.dtype)
    columns = pixels.shape[-1]
    rows = math.prod(pixels.shape[:-1])
    run_kernel(SOURCE, "where_positive", pixels.size, (pixels, kept, into), rows, columns)
    result = into.transpose(0, 3, 1, 2)
    if out is None:
        return result
    if out.data.ptr != into.data.ptr:
        out[...] = result
    return out


def crop_concat(skip: Array, up: Array) -> Array:
    """As in `crop`."""
    batch, more, rows, columns = up.shape
    first, height, width = skip.shape[1:]
    y = empty_channels_last(array_module(up), (batch, first + more, rows, columns), up.dtype)
    where = height, width, first, rows, columns, more, batch
    run_kernel(SOURCE, "join", y.size, (as_channels_last(skip), as_channels_last(up), y), *where)
    return y


def crop_concat_backward(
    grad: Array, shape: tuple[int, int, int, int], first: int
) -> tuple[Array, Array]:
    """As in `crop`: the gradients of the skip, of the given shape, and of the other maps."""
    xp = array_module(grad)
    batch, channels, rows, columns = grad.shape
    more = channels - first
    skip = empty_channels_last(xp, shape, grad.dtype)
    up = empty_channels_last(xp, (batch, more, rows, columns), grad.dtype)
    where = *shape[2:], first, rows, columns, more, batch
    run_kernel(SOURCE, "split", skip.size + up.size, (as_channels_last(grad), skip, up), *where)
    return skip, up


def conv_transpose2d(x: Array, weights: Array, b: Array) -> Array:
    """As in `upconv`; `weights` is (C, 4 K)."""
    xp = array_module(x)
    batch, channels, height, width = x.shape
    y = empty_channels_last(xp, (batch, len(b), 2 * height, 2 * width), x.dtype)
    pixels, weights = as_channels_last(x).reshape(-1, channels), xp.ascontiguousarray(weights)
    product = empty(xp, (len(pixels), weights.shape[1]), x.dtype)
    product_of_matrices(pixels, weights, product)
    where = 2 * batch * height, 2 * width, len(b)
    run_kernel(SOURCE, "put_squares", y.size, (product, xp.ascontiguousarray(b), y), *where)
    return y


def conv_transpose2d_backward(grad: Array, x: Array, weights: Array) -> tuple[Array, Array]:
    """As in `upconv`: the gradients of x and of `weights`, each in the shape of its own."""
    xp = array_module(x)
    batch, channels, height, width = x.shape
    squares = empty(xp, (batch * height * width, weights.shape[1]), x.dtype)
    where = 2 * batch * height, 2 * width, grad.shape[1]
    run_kernel(SOURCE, "take_squares", grad.size, (as_channels_last(grad), squares), *where)
    grad_x = empty(xp, (len(squares), channels), x.dtype)
    grad_w = empty(xp, weights.shape, x.dtype)
    product_of_matrices(squares, xp.ascontiguousarray(weights), grad_x, transposed="b")
    product_of_matrices(as_channels_last(x).reshape(-1, channels), squares, grad_w, transposed="a")
    return grad_x.reshape(batch, height, width, channels).transpose(0, 3, 1, 2), grad_w
