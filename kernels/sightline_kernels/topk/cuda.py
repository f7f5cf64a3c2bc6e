"""In CuPy: the k-th largest of every row is found digit by digit, and what is not below it is ranked.

A number's key is its value, and below it its place counted backwards: no two keys of a row are alike, so that
exactly k are not below the k-th, and ties end as the definition has them whatever order the threads come in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline_kernels.topk.reference import Floats, Ints, check, not_a_number

THREADS = 256  # of a block
# No kernel synchronises: every thread answers for one number.
SOURCE = r"""
typedef unsigned long long Key;

__device__ static Key key_of(float value, long long place) {
    unsigned bits = __float_as_uint(value == 0.0f ? 0.0f : value);  // of two zeros neither is larger
    bits ^= (bits >> 31) ? 0xffffffffu : 0x80000000u;  // ordered as the numbers are
    return ((Key)bits << 32) | (Key)(0xffffffffu - (unsigned)place);
}

extern "C" __global__ void count_digits(const float* values, const Key* prefixes, int* tallies, int* bad,
        long long rows, long long count, int shift) {
    long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= rows * count) return;
    long long row = n / count;
    if (!(values[n] == values[n])) {
        bad[row] = 1;
        return;
    }
    Key key = key_of(values[n], n % count);
    if (shift < 56 && (key >> (shift + 8)) != (prefixes[row] >> (shift + 8))) return;
    atomicAdd(tallies + row * 256 + (int)((key >> shift) & 255), 1);
}

extern "C" __global__ void choose_digits(int* tallies, Key* prefixes, int* ranks, long long rows, int shift) {
    long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    int digit = 255, rank = ranks[row];
    while (digit > 0 && tallies[row * 256 + digit] < rank) rank -= tallies[row * 256 + digit--];
    for (int i = 0; i < 256; i++) tallies[row * 256 + i] = 0;
    ranks[row] = rank;
    prefixes[row] |= (Key)digit << shift;
}

extern "C" __global__ void collect(const float* values, const Key* limits, Key* keys, int* counts, long long rows,
        long long count, int k) {
    long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= rows * count) return;
    long long row = n / count;
    Key key = key_of(values[n], n % count);
    if (key < limits[row]) return;
    int place = atomicAdd(counts + row, 1);
    if (place < k) keys[row * k + place] = key;
}

extern "C" __global__ void rank(const float* values, const Key* keys, float* found, long long* places,
        long long rows, long long count, int k) {
    long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= rows * k) return;
    long long row = n / k;
    Key key = keys[n];
    int before = 0;
    for (int i = 0; i < k; i++) before += keys[row * k + i] > key;
    long long place = (long long)(0xffffffffu - (unsigned)(key & 0xffffffffu));
    found[row * k + before] = values[row * count + place];
    places[row * k + before] = place;
}
"""


def topk(values: Floats, k: int) -> tuple[Floats, Ints]:
    """The k largest of every row; see the reference. Not yet run on a GPU: compiled, and proven on a CPU."""
    import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

    device: Any = cupy
    found, places = topk_on_device(device.asarray(values), k)
    return device.asnumpy(found), device.asnumpy(places)


def topk_on_device(values: Any, k: int) -> tuple[Any, Any]:
    """The same of an array that lies on the device already; the answers stay there.

    Raises:
        ValueError: as ``topk``.
    """
    import cupy  # pyright: ignore[reportMissingImports]

    device: Any = cupy
    check(values, k)
    rows, count = values.shape
    if count > 2**32 - 1:
        raise ValueError(f"Rows of {count} numbers are too long: at most {2**32 - 1}.")
    values = device.ascontiguousarray(values)
    keys, counts = device.zeros((rows, k), np.uint64), device.zeros(rows, np.int32)
    found, places = device.empty((rows, k), np.float32), device.empty((rows, k), np.int64)
    if rows == 0:
        return found, places
    module = device.RawModule(code=SOURCE)
    tallies, prefixes = device.zeros((rows, 256), np.int32), device.zeros(rows, np.uint64)
    ranks, bad = device.full(rows, k, np.int32), device.zeros(rows, np.int32)
    sizes = np.int64(rows), np.int64(count)
    for shift in range(56, -1, -8):
        _run(module, "count_digits", rows * count, values, prefixes, tallies, bad, *sizes, np.int32(shift))
        if shift == 56 and bool(bad.any()):
            raise not_a_number(int(device.asnumpy(bad).argmax()))
        _run(module, "choose_digits", rows, tallies, prefixes, ranks, np.int64(rows), np.int32(shift))
    _run(module, "collect", rows * count, values, prefixes, keys, counts, *sizes, np.int32(k))
    _run(module, "rank", rows * k, values, keys, found, places, *sizes, np.int32(k))
    return found, places


def _run(module: Any, name: str, threads: int, *arguments: Any) -> None:
    module.get_function(name)((-(-threads // THREADS),), (THREADS,), arguments)
