"""In CuPy: what is not below the k-th largest of a sample is collected in one reading, and ranked.

A number's key is its value turned round, and below it its place: no two keys of a row are alike, the k lowest are the
k largest numbers, and ties end as the definition has them whatever order the threads come in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import sightline_kernels.kth_lowest.cuda as kth_lowest
from sightline_kernels.launch.cuda import kernel
from sightline_kernels.topk.reference import Floats, Ints, check, not_a_number

SAMPLE = 2**12  # numbers of a row that its limit is taken from; more, if so few leave more than these of it:
FEW = 2**12
RUN = 32  # of the sample, side by side
RANKED = 2**13  # keys of a row that are compared with one another; more are sorted
LIMITING, THREADS = 1024, 256  # of a block
EACH = 8  # numbers of a thread, as in the source
MOST = 2**16 - 1  # rows of one launch
KEYS = 2**26  # on the device at a time: 512 MiB
SOURCE = (
    kth_lowest.SOURCE
    + r"""
#define EACH 8  // numbers of a thread that collects
#define HELD 24  // of a thread that looks for a limit, in registers

typedef unsigned long long Key;

// The k lowest of these belong to the k largest numbers. Of two zeros neither is larger; what is next to 0 is not 0,
// but for arithmetic, which would flush it.
__device__ static unsigned key_of(float value) {
    const unsigned bits = __float_as_uint(value);
    return ~ordered(bits << 1 ? bits : 0u);
}

// Of every row the k-th lowest key of a sample, with any place behind it: one block each.
extern "C" __global__ void __launch_bounds__(1024) limit(const float* values, Key* limits, long long count,
        long long apart, int span, int k) {
    const float* row = values + blockIdx.x * count;
    auto key = [&](int i, unsigned& made) {
        made = key_of(row[i / 32 * apart + i % 32]);
        return true;
    };
    unsigned found;
    if (kth_lowest<unsigned, HELD>(key, span, k, found) && threadIdx.x == 0)
        limits[blockIdx.x] = (Key)found << 32 | 0xffffffffu;
}

// Of every row the k-th lowest key and place.
extern "C" __global__ void __launch_bounds__(1024) exact_limit(const float* values, Key* limits, int count, int k) {
    const float* row = values + (long long)blockIdx.x * count;
    auto key = [&](int i, Key& made) {
        made = (Key)key_of(row[i]) << 32 | (unsigned)i;
        return true;
    };
    Key found;
    if (kth_lowest<Key, 0>(key, count, k, found) && threadIdx.x == 0) limits[blockIdx.x] = found;
}

extern "C" __global__ void collect(const float* __restrict__ values, const Key* __restrict__ limits,
        Key* __restrict__ keys, int* __restrict__ counts, int* __restrict__ bad, long long count, int room) {
    const long long row = blockIdx.y, first = (long long)blockIdx.x * blockDim.x * EACH + threadIdx.x;
    float mine[EACH];
    #pragma unroll
    for (int j = 0; j < EACH; j++) {
        const long long place = first + j * blockDim.x;
        mine[j] = place < count ? values[row * count + place] : 0.0f;
    }
    const Key limit = limits[row];
    bool wrong = false;
    #pragma unroll
    for (int j = 0; j < EACH; j++) {
        const long long place = first + j * blockDim.x;
        wrong |= !(mine[j] == mine[j]);
        const Key key = (Key)key_of(mine[j]) << 32 | (Key)place;
        if (place >= count || key > limit) continue;
        const int here = atomicAdd(counts + row, 1);
        if (here < room) keys[row * room + here] = key;
    }
    if (wrong) bad[row] = 1;
}

extern "C" __global__ void rank(const float* values, const Key* keys, const int* counts, float* found,
        long long* places, long long count, int room, int k) {
    const long long row = blockIdx.y;
    const int n = blockIdx.x * blockDim.x + threadIdx.x, all = counts[row];
    if (n >= all) return;
    const Key* those = keys + row * room;
    const Key key = those[n];
    int before = 0;
    for (int i = 0; i < all && before < k; i++) before += those[i] < key;
    if (before >= k) return;
    const long long place = (long long)(key & 0xffffffffu);
    found[row * k + before] = values[row * count + place];
    places[row * k + before] = place;
}
"""
)


def topk(values: Floats, k: int) -> tuple[Floats, Ints]:
    """The k largest of every row; see the reference. Not yet run on a GPU: compiled, and proven on a CPU."""
    import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

    device: Any = cupy
    found, places = topk_on_device(device.asarray(values), k)
    return device.asnumpy(found), device.asnumpy(places)


def topk_on_device(values: Any, k: int) -> tuple[Any, Any]:
    """The same of an array that lies on the device already; the answers stay there.

    Raises:
        ValueError: as ``topk``, or rows of 2**31 numbers and more.
    """
    import cupy  # pyright: ignore[reportMissingImports]

    device: Any = cupy
    check(values, k)
    rows, count = values.shape
    if count >= 2**31:
        raise ValueError(f"Rows of {count} numbers are too long: below {2**31}.")
    if rows == 0:
        return device.empty((0, k), np.float32), device.empty((0, k), np.int64)
    room = min(4 * max(k, FEW), count)
    step = min(MOST, max(KEYS // room, 1))
    parts = [
        _of_some(device, device.ascontiguousarray(values[n : n + step]), n, k, room) for n in range(0, rows, step)
    ]
    return tuple(device.concatenate(one) for one in zip(*parts, strict=True)) if len(parts) > 1 else parts[0]


def _of_some(device: Any, values: Any, first: int, k: int, room: int) -> tuple[Any, Any]:
    """Of as many rows as a launch takes, which begin at ``first``, with room for so many keys of each."""
    rows, count = values.shape
    limits, keys = device.empty(rows, np.uint64), device.empty((rows, room), np.uint64)
    bad = device.zeros(rows, np.int32)

    def collected() -> tuple[Any, int]:
        """How many keys of each row there are up to its limit, and of any row at most.

        Raises:
            ValueError: there is something that is no number.
        """
        counts, grid = device.zeros(rows, np.int32), (-(-count // (THREADS * EACH)), rows)
        kernel(SOURCE, "collect")(
            grid, (THREADS,), (values, limits, keys, counts, bad, np.int64(count), np.int32(room))
        )  # fmt: skip
        most, wrong = device.asnumpy(device.stack([counts.max(), bad.max()]))  # one wait for both
        if wrong:
            raise not_a_number(first + int(device.asnumpy(bad).argmax()))
        return counts, int(most)

    span = min(max(SAMPLE, k * count // FEW, k), count)
    apart = max(RUN, (count - RUN) // max(-(-span // RUN) - 1, 1))
    kernel(SOURCE, "limit")(
        (rows,), (LIMITING,), (values, limits, np.int64(count), np.int64(apart), np.int32(span), np.int32(k))
    )
    counts, most = collected()
    if most > room:  # many ties, or large numbers that the sample has few of: exactly k are left by the exact limit
        kernel(SOURCE, "exact_limit")((rows,), (LIMITING,), (values, limits, np.int32(count), np.int32(k)))
        counts, most = collected()
    found, places = device.empty((rows, k), np.float32), device.empty((rows, k), np.int64)
    if most <= RANKED:
        grid = -(-most // THREADS), rows
        kernel(SOURCE, "rank")(
            grid, (THREADS,),
            (values, keys, counts, found, places, np.int64(count), np.int32(room), np.int32(k)),
        )  # fmt: skip
        return found, places
    keys = device.where(device.arange(room) < counts[:, None], keys, np.uint64(2**64 - 1))
    places = (device.sort(keys, axis=1)[:, :k] & np.uint64(2**32 - 1)).astype(np.int64)
    return device.take_along_axis(values, places, axis=1), places
