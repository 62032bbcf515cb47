"""Normalisation on a GPU: one kernel once the sums are there, instead of eight operations."""

from __future__ import annotations

from unet_np.backend import Array, array_module, as_channels_last, channel_sums, empty, run_kernel

SOURCE = """
__global__ void normalise(const REAL *x, const REAL *mean, const REAL *var, const REAL *weight,
                          const REAL *bias, REAL *z, REAL *y, REAL *scale, int count,
                          int channels, double epsilon) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, channel = n % channels;
    if (n >= (unsigned)count) return;
    const REAL one = 1 / sqrt(var[channel] + (REAL)epsilon), value = (x[n] - mean[channel]) * one;
    z[n] = value;
    y[n] = value * weight[channel] + bias[channel];
    if (n < (unsigned)channels) scale[n] = weight[n] * one;
}

__global__ void hand_back(const REAL *grad, const REAL *z, const REAL *scale, const REAL *mean,
                          const REAL *mean_z, REAL *out, int count, int channels, int train) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x, channel = n % channels;
    if (n >= (unsigned)count) return;
    const REAL through = train ? mean[channel] + z[n] * mean_z[channel] : 0;
    out[n] = (grad[n] - through) * scale[channel];
}
"""
"""Both kernels; see `run_kernel`."""


def normalise(
    x: Array,
    z: Array,
    y: Array,
    weight: Array,
    bias: Array,
    statistics: tuple[Array, Array] | None,
    epsilon: float,
) -> tuple[tuple[Array, Array], Array]:
    """As `_normalise` in `norm`, for maps whose channels lie side by side."""
    count = x.size // x.shape[1]
    if statistics is None:
        mean = channel_sums(x, divisor=count)
        statistics = mean, channel_sums(x, about=mean, divisor=count)
    scale = empty(array_module(x), weight.shape, x.dtype)
    arrays = (as_channels_last(x), *statistics, weight, bias, z, y, scale)
    run_kernel(SOURCE, "normalise", x.size, *arrays, x.size, x.shape[1], epsilon)
    return statistics, scale


def backward(grad: Array, z: Array, scale: Array, train: bool, out: Array) -> tuple[Array, Array]:
    """As `batch_norm_backward`: fills `out`, and gives the gradients of weight and bias."""
    count = z.size // z.shape[1]
    sums = channel_sums(grad, times=z), channel_sums(grad)
    means = sums[1] / count, sums[0] / count
    arrays = as_channels_last(grad), as_channels_last(z), scale, *means, out
    run_kernel(SOURCE, "hand_back", z.size, *arrays, z.size, z.shape[1], train)
    return sums
