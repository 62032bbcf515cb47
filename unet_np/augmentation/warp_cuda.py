"""Resampling on a GPU: one kernel for each step of `warp`, one thread for each number.

A spline coefficient here is a sum over the pixels near by: the recursive filter of `warp` would go
through each line pixel by pixel.
"""

from __future__ import annotations

import math

import numpy as np

from unet_np.backend import Array, array_module, empty, run_kernel

SOURCE = """
__global__ void across(const double *vectors, const double *columns, double *out, int points,
                       int width, int count) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    double sum = 0;
    for (int b = 0; b < points; b++)
        sum += vectors[n / width * points + b] * columns[n % width * points + b];
    out[n] = sum;
}

__global__ void places(const double *rows, const double *lines, double *out, int points,
                       int height, int width, double cosine, double sine, double down,
                       double right, double middle_y, double middle_x, double offset_y,
                       double offset_x) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, i = n / width % height, j = n % width;
    const int component = n / width / height;
    if (n >= 2 * height * width) return;
    double sum = 0;
    for (int a = 0; a < points; a++)
        sum += rows[i * points + a] * lines[(component * points + a) * width + j];
    const double y = down * (i - middle_y), x = right * (j - middle_x);
    out[n] = component ? sum + (sine * y + offset_x) + cosine * x
                       : sum + (cosine * y + offset_y) - sine * x;
}

static __device__ int within(int index, int size) {
    if (size == 1) return 0;
    index = (index < 0 ? -index : index) % (2 * (size - 1));
    return index < size ? index : 2 * (size - 1) - index;
}

static __device__ double inside(double place, int size) {
    if (size == 1) return 0;
    place = fabs(place);
    if (!(place <= size - 1)) {
        place = fmod(place, 2.0 * (size - 1));
        if (place > size - 1) place = 2.0 * (size - 1) - place;
    }
    return place >= 0 ? place : 0;  // what is no number is read somewhere
}

__global__ void to_spline(const REAL *image, REAL *out, int count, int height, int width, int near,
                          int down, double pole) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, i = n / width % height, j = n % width;
    if (n >= count) return;
    const REAL *line = image + (down ? n - i * width : n - j);
    const int step = down ? width : 1, size = down ? height : width, here = down ? i : j;
    REAL sum = line[here * step], factor = 1;
    for (int k = 1; k <= near; k++) {
        factor *= (REAL)pole;
        sum += factor * (line[within(here - k, size) * step] + line[within(here + k, size) * step]);
    }
    out[n] = sum * (REAL)(-6 * pole / (1 - pole * pole));
}

static __device__ void weights(REAL t, int order, REAL *w) {
    const REAL u = 1 - t;
    if (order == 1) {
        w[0] = u;
        w[1] = t;
        return;
    }
    w[0] = u * u * u / 6;
    w[3] = t * t * t / 6;
    w[1] = (REAL)(2.0 / 3) - t * t + 3 * w[3];
    w[2] = (REAL)(2.0 / 3) - u * u + 3 * w[0];
}

__global__ void gather(const REAL *image, const double *places, REAL *out, int planes, int height,
                       int width, int count, int order) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, before = order == 3;
    if (n >= count) return;
    const double y = inside(places[n], height), x = inside(places[(size_t)count + n], width);
    const int top = (int)floor(y), left = (int)floor(x);
    REAL down[4], right[4];
    weights((REAL)(y - top), order, down);
    weights((REAL)(x - left), order, right);
    for (int plane = 0; plane < planes; plane++) {
        REAL sum = 0;
        for (int k = 0; k <= order; k++) {
            const size_t line = (size_t)plane * height + within(top + k - before, height);
            REAL row = 0;
            for (int l = 0; l <= order; l++)
                row += image[line * width + within(left + l - before, width)] * right[l];
            sum += row * down[k];
        }
        out[plane * (size_t)count + n] = sum;
    }
}

__global__ void nearest(const REAL *places, long long *out, int height, int width, int count) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    const double y = inside(places[n], height), x = inside(places[(size_t)count + n], width);
    out[n] = (long long)floor(y + 0.5) * width + (long long)floor(x + 0.5);
}
"""
"""All kernels; see `run_kernel`. REAL is the type of the image, of `nearest` that of the places."""


def displacement_field(
    shape: tuple[int, int],
    vectors: Array,
    splines: list[Array],
    angle: float,
    *pairs: tuple[float, float],
) -> Array:
    """As in `warp`: `splines` are the matrices of both axes, angle and pairs a `Placing`."""
    xp = array_module(vectors)
    (height, width), (rows, columns) = shape, splines
    points = rows.shape[1], columns.shape[1]
    lines = empty(xp, (2, points[0], width), np.float64)
    arrays = vectors, columns, lines
    run_kernel(SOURCE, "across", lines.size, arrays, points[1], width, lines.size)
    field = empty(xp, (2, height, width), np.float64)
    numbers = math.cos(angle), math.sin(angle), *(number for pair in pairs for number in pair)
    how = points[0], height, width, *map(float, numbers)
    run_kernel(SOURCE, "places", field.size, (rows, lines, field), *how)
    return field


def sample(planes: Array, coordinates: Array, order: int, near: int, pole: float) -> Array:
    """Planes (C, H, W), of floats unless `order` is 0, at (2, height, width) places.

    A spline coefficient is a sum over `near` pixels to each side, where a pixel's influence is
    `pole` of its neighbour's.
    """
    xp = array_module(planes, coordinates)
    where = xp.ascontiguousarray(coordinates, np.float64)
    size = planes.shape[1:]
    count = where.size // 2
    if order == 0:
        index = empty(xp, where.shape[1:], np.int64)
        run_kernel(SOURCE, "nearest", count, (where, index), *size, count)
        return xp.take(planes.reshape(len(planes), -1), index, axis=1)
    values = xp.ascontiguousarray(planes)
    for down in range(2 if order == 3 else 0):
        filtered = empty(xp, values.shape, values.dtype)
        how = values.size, *size, near, down, pole
        run_kernel(SOURCE, "to_spline", values.size, (values, filtered), *how)
        values = filtered
    out = empty(xp, (len(planes), *where.shape[1:]), values.dtype)
    run_kernel(SOURCE, "gather", count, (values, where, out), len(planes), *size, count, order)
    return out
