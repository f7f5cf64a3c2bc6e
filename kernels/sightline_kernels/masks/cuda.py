"""In CuPy: no mask is written out, and its numbers are drawn where they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline_kernels.launch.cuda import kernel

Floats = NDArray[np.float32]

THREADS = 256  # of a block
# No kernel synchronises. Everything is rounded as the reference does, never fused: the same bits,
# but for products below 2**-126, which are flushed.
SOURCE = r"""
extern "C" __global__ void draw(double* numbers, long long count, long long start, unsigned long long seed) {
    long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    unsigned long long z = ((unsigned long long)(start + n) + 1ull) * 0x9E3779B97F4A7C15ull
        + seed * 0xD1B54A32D192ED03ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z = z ^ (z >> 31);
    numbers[n] = (double)(z >> 11) * (1.0 / 9007199254740992.0);
}

// The cell before a pixel, the one behind it, and the weight of the latter.
__device__ static void knot(long long pixel, double part, int side, int cells, int* before, int* after,
        float* weight) {
    int cell = (side + cells - 1) / cells;
    double step = __ddiv_rn((double)cells, (double)((cells + 1) * cell));
    double moved = (double)(pixel + (long long)__dmul_rn(part, (double)cell)) + 0.5;
    double place = __dsub_rn(__dmul_rn(moved, step), 0.5);
    place = place < 0.0 ? 0.0 : place > cells - 1.0 ? cells - 1.0 : place;
    int last = cells > 2 ? cells - 2 : 0, found = (int)place;
    *before = found < last ? found : last;
    *after = *before + 1 < cells ? *before + 1 : cells - 1;
    *weight = (float)__dsub_rn(place, (double)*before);
}

__device__ static float between(float one, float other, float weight) {
    return __fadd_rn(__fmul_rn(one, __fsub_rn(1.0f, weight)), __fmul_rn(other, weight));
}

__device__ static float mask_at(const double* numbers, long long y, long long x, int height, int width, int cells,
        double keep) {
    int above, below, left, right;
    float down, along;
    knot(y, numbers[cells * cells], height, cells, &above, &below, &down);
    knot(x, numbers[cells * cells + 1], width, cells, &left, &right, &along);
    const double* upper = numbers + above * cells;
    const double* lower = numbers + below * cells;
    float before = between(upper[left] < keep ? 1.0f : 0.0f, lower[left] < keep ? 1.0f : 0.0f, down);
    float after = between(upper[right] < keep ? 1.0f : 0.0f, lower[right] < keep ? 1.0f : 0.0f, down);
    return between(before, after, along);
}

extern "C" __global__ void blend(const float* image, const float* fill, const double* uniform, float* out,
        long long count, int channels, int height, int width, int cells, double keep) {
    long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x, plane = (long long)height * width;
    if (n >= count * plane) return;
    long long mask = n / plane, pixel = n % plane;
    const double* numbers = uniform + mask * (cells * cells + 2);
    float shown = mask_at(numbers, pixel / width, pixel % width, height, width, cells, keep);
    for (int c = 0; c < channels; c++) {
        float hidden = fill[c * plane + pixel];
        out[(mask * channels + c) * plane + pixel] =
            __fadd_rn(hidden, __fmul_rn(shown, __fsub_rn(image[c * plane + pixel], hidden)));
    }
}

extern "C" __global__ void accumulate(const double* scores, const double* uniform, double* total, double* squares,
        long long count, int height, int width, int cells, double keep) {
    long long pixel = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= (long long)height * width) return;
    double sum = total[pixel], square = squares[pixel];
    for (long long n = 0; n < count; n++) {  // in their order: the sum does not depend on the threads
        const double* numbers = uniform + n * (cells * cells + 2);
        float shown = mask_at(numbers, pixel / width, pixel % width, height, width, cells, keep);
        double value = __dmul_rn((double)shown, scores[n]);
        sum = __dadd_rn(sum, value);
        square = __dadd_rn(square, __dmul_rn(value, value));
    }
    total[pixel] = sum;
    squares[pixel] = square;
}
"""


def draw(seed: int, first: int, count: int, cells: int) -> Any:
    """(count, cells * cells + 2) numbers of masks ``first`` and following, on the device; see the reference."""
    device = _device()
    width = cells * cells + 2
    numbers = device.empty((count, width), np.float64)
    sizes = np.int64(numbers.size), np.int64(first * width), np.uint64(seed & (2**64 - 1))
    _run("draw", numbers.size, numbers, *sizes)
    return numbers


def blend(image: Floats, fill: Floats, uniform: Any, cells: int, keep: float, out: Any) -> None:
    """Write n copies of an image (C, H, W), each behind its mask; see the reference.

    Not yet run on a GPU: compiled, and proven on a CPU. Arrays may lie on the device, ``out`` too.
    """
    device = _device()
    channels, height, width = image.shape
    shown, hidden = (device.ascontiguousarray(device.asarray(one, np.float32)) for one in (image, fill))
    hidden = device.ascontiguousarray(device.broadcast_to(hidden, shown.shape))
    made = device.empty(out.shape, np.float32)
    numbers = _numbers(device, uniform)
    sizes = np.int64(len(numbers)), *(np.int32(n) for n in (channels, height, width, cells))
    _run("blend", len(numbers) * height * width, shown, hidden, numbers, made, *sizes, np.float64(keep))
    out[...] = device.asnumpy(made) if isinstance(out, np.ndarray) else made


def accumulate(scores: Any, uniform: Any, cells: int, keep: float, total: Any, squares: Any) -> None:
    """Add every mask times its score to ``total``, and its square to ``squares``; see the reference."""
    device = _device()
    height, width = total.shape
    sums = [_numbers(device, one) for one in (total, squares)]
    numbers = _numbers(device, uniform)
    sizes = np.int64(len(numbers)), *(np.int32(n) for n in (height, width, cells))
    weights = _numbers(device, scores)
    _run("accumulate", height * width, weights, numbers, *sums, *sizes, np.float64(keep))
    for given, made in zip((total, squares), sums, strict=True):
        given[...] = device.asnumpy(made) if isinstance(given, np.ndarray) else made


def _numbers(device: Any, array: Any) -> Any:
    """Numbers on the device, one behind the other."""
    return device.ascontiguousarray(device.asarray(array, np.float64))


def _device() -> Any:
    import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

    return cupy


def _run(name: str, threads: int, *arguments: Any) -> None:
    if threads:
        kernel(SOURCE, name)((-(-threads // THREADS),), (THREADS,), arguments)
