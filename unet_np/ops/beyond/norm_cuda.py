"""Normalisation on a GPU: mean and variance in one pass, and the rest in one kernel each way.

A map is (B, H, W, C) in memory; a thread sums every so many pixels of one channel, and neighbours
have neighbouring channels. What the threads found is put together in rounds, as by `channel_sums`.
"""

from __future__ import annotations

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    empty,
    rounds_of_sums,
    run_kernel,
)

SOURCE = """
static __device__ int members(int part, int parts, int count) {
    return part < count ? (count - part - 1) / parts + 1 : 0;
}

__global__ void moments(const REAL *means, REAL *out, int count, int columns, int before,
                        int parts) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, column = n % columns;
    if (n >= (unsigned)parts * columns) return;
    const int part = n / columns, first = before == count;
    const REAL *squares = means + (size_t)before * columns;
    // The distances from one of the values are small where the values are large.
    const REAL about = means[n];
    REAL sum = 0, sum_squares = 0, within = 0;
    for (int i = part; i < before; i += parts) {
        const size_t place = i * (size_t)columns + column;
        const REAL weight = first ? 1 : members(i, before, count), distance = means[place] - about;
        sum += weight * distance;
        sum_squares += weight * distance * distance;
        if (!first) within += squares[place];
    }
    const REAL all = members(part, parts, count), shift = sum / all;
    out[n] = about + shift;
    out[parts * columns + n] = (within + (sum_squares - sum * shift)) / (parts == 1 ? count : 1);
}

__global__ void normalise(const REAL *x, const REAL *mean, const REAL *var, const REAL *weight,
                          const REAL *bias, REAL *z, REAL *y, REAL *scale, int count,
                          int channels, double epsilon, int rectify) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, channel = n % channels;
    if (n >= (unsigned)count) return;
    const REAL one = 1 / sqrt(var[channel] + (REAL)epsilon), value = (x[n] - mean[channel]) * one;
    const REAL result = value * weight[channel] + bias[channel];
    z[n] = value;
    y[n] = rectify && result < 0 ? (REAL)0 : result;
    if (n < (unsigned)channels) scale[n] = weight[n] * one;
}

__global__ void sum_pairs(const REAL *grads, const REAL *z, REAL *out, int count, int columns,
                          int before, int parts) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, column = n % columns;
    if (n >= (unsigned)parts * columns) return;
    const int first = before == count;
    const REAL *others = first ? z : grads + (size_t)before * columns;
    REAL sum = 0, sum_times = 0;
    for (int i = n / columns; i < before; i += parts) {
        const size_t place = i * (size_t)columns + column;
        const REAL grad = grads[place], other = others[place];
        sum += grad;
        sum_times += first ? grad * other : other;
    }
    out[n] = sum;
    out[parts * columns + n] = sum_times;
}

__global__ void hand_back(const REAL *grad, const REAL *z, const REAL *scale, const REAL *sums,
                          REAL *out, int count, int channels, int pixels, int train) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, channel = n % channels;
    if (n >= (unsigned)count) return;
    const REAL both = sums[channel] + z[n] * sums[channels + channel];
    const REAL through = train ? both / pixels : 0;
    out[n] = (grad[n] - through) * scale[channel];
}
"""
"""All kernels; see `run_kernel`. `moments` joins means and sums of squares as Chan, Golub and
LeVeque (1983) do; a single value has itself as its mean."""


def normalise(
    x: Array,
    z: Array,
    y: Array,
    weight: Array,
    bias: Array,
    statistics: tuple[Array, Array] | None,
    epsilon: float,
    rectify: bool,
) -> tuple[tuple[Array, Array], Array]:
    """As `_normalise` in `norm`, for maps whose channels lie side by side."""
    pixels = as_channels_last(x)
    if statistics is None:
        statistics = channel_moments(pixels)
    scale = empty(array_module(x), weight.shape, x.dtype)
    arrays = pixels, *statistics, weight, bias, z, y, scale
    run_kernel(SOURCE, "normalise", x.size, arrays, x.size, x.shape[1], epsilon, rectify)
    return statistics, scale


def channel_moments(pixels: Array) -> tuple[Array, Array]:
    """Mean and variance of each channel of (B, H, W, C) maps."""
    columns = pixels.shape[3]
    found, count = pixels, pixels.size // columns
    for before, parts in rounds_of_sums(count, columns):
        given, found = found, _pairs(pixels, parts, columns)
        how = count, columns, before, parts
        run_kernel(SOURCE, "moments", parts * columns, (given, found), *how)
    return found[0, 0], found[1, 0]


def backward(grad: Array, z: Array, scale: Array, train: bool, out: Array) -> tuple[Array, Array]:
    """As `batch_norm_backward`: fills `out`, and gives the gradients of weight and bias."""
    grads, others = as_channels_last(grad), as_channels_last(z)
    columns = z.shape[1]
    sums, count = grads, z.size // columns
    for before, parts in rounds_of_sums(count, columns):
        given, sums = sums, _pairs(grads, parts, columns)
        how = count, columns, before, parts
        run_kernel(SOURCE, "sum_pairs", parts * columns, (given, others, sums), *how)
    arrays = grads, others, scale, sums, out
    run_kernel(SOURCE, "hand_back", z.size, arrays, z.size, columns, count, train)
    return sums[1, 0], sums[0, 0]


def _pairs(like: Array, parts: int, columns: int) -> Array:
    return empty(array_module(like), (2, parts, columns), like.dtype)
