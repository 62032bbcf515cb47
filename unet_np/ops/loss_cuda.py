"""The energy of eq. 1 on a GPU: one kernel for what takes `loss` some thirty operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from unet_np.backend import (
    Array,
    array_module,
    as_channels_last,
    empty,
    empty_channels_last,
    run_kernel,
)

SOURCE = """
__global__ void energy(const REAL *logits, const int *labels, const REAL *weights,
                       const long long *counted, REAL *grad, REAL *shares, int count, int classes,
                       int weighted, int ignoring, int ignored, double divisor) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    const REAL *a = logits + (size_t)n * classes;
    REAL *g = grad + (size_t)n * classes;
    const int label = labels[n], counts = !(ignoring && label == ignored);
    if (divisor == 0) divisor = *counted > 1 ? *counted : 1;
    // Not a product: an ignored pixel's weight may be anything.
    const REAL weight = (counts ? weighted ? weights[n] : (REAL)1 : (REAL)0) / (REAL)divisor;
    REAL largest = a[0], total = 0, log_p = 0;
    for (int k = 1; k < classes; k++) largest = a[k] > largest ? a[k] : largest;
    for (int k = 0; k < classes; k++) {
        if (k == label) log_p = a[k] - largest;
        g[k] = exp(a[k] - largest);
        total += g[k];
    }
    for (int k = 0; k < classes; k++) g[k] = (g[k] / total - (REAL)(k == label)) * weight;
    shares[n] = -weight * (log_p - log(total));
}
"""
"""A pixel's gradient and its share of the energy, for each thread; see `run_kernel`."""


def weighted_cross_entropy(
    logits: Array, labels: Array, weights: Array | None, reduction: str, ignore_label: int | None
) -> tuple[Any, Array]:
    """As in `loss`, where the arguments were checked; the gradient's channels lie side by side."""
    xp, kind = array_module(logits, labels), logits.dtype
    pixels, ignoring = as_channels_last(logits), ignore_label is not None
    classes = xp.ascontiguousarray(labels, np.int32)
    # A label is told by its last 32 bits, of which the first is the sign.
    ignored = (int(ignore_label or 0) + 2**31) % 2**32 - 2**31
    # A kernel wants an array in each place, also where it does not look at it.
    each, counted = (pixels if weights is None else xp.ascontiguousarray(weights, kind)), pixels
    divisor = float(labels.size) if reduction == "mean" else 1.0
    if ignoring and reduction == "mean":
        # How many there are the GPU knows, and nobody waits for it.
        counted, divisor = (classes != ignored).sum(dtype=np.int64), 0.0
    grad = empty_channels_last(xp, logits.shape, kind)
    shares = empty(xp, labels.shape, kind)
    how = labels.size, logits.shape[1], weights is not None, ignoring, ignored, divisor
    arrays = pixels, classes, each, counted, grad, shares
    run_kernel(SOURCE, "energy", labels.size, arrays, *how)
    return shares.sum(), grad
