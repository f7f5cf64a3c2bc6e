"""In CuPy: one launch for all pixels that do not see each other, some blocks of threads for each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline_kernels.launch.cuda import kernel
from sightline_kernels.scanline.cpu import fronts
from sightline_kernels.scanline.task import Bools, Bytes, Order, Task, Tell

PAIRS = 2**26  # of pixel and candidate at a time: 256 MiB of distances
EVERY = 64  # fronts between two reports, and between two copies to the host
THREADS, EACH = 256, 4  # of a block, and candidates of a thread: as in the source
MOST = 2**16 - 1  # pixels of one launch
# Sums are whole numbers below 2**31, exact in any order, and however often they wrap around on their way.
SOURCE = r"""
#define THREADS 256
#define EACH 4  // candidates of a thread
#define TAPS 512  // of a window, held at a time
#define ALL 0xffffffffu

struct __align__(16) Distances { int one[4]; };

// What any block wrote before, past the cache that blocks do not share.
__device__ static Distances of_all_blocks(const int* place) {
    const int4 found = __ldcg((const int4*)place);
    return Distances{{found.x, found.y, found.z, found.w}};
}

// How many of four candidates from the i-th on are within a limit, and which; rows begin at whole lines of 128 bytes.
__device__ static int within_limit(const int* row, int i, int count, int limit, int* which) {
    int found = 0;
    Distances four;
    if (i < count) four = of_all_blocks(row + i);
    #pragma unroll
    for (int j = 0; j < 4; j++) {
        const int yes = i + j < count && four.one[j] <= limit;
        if (which) which[j] = yes;
        found += yes;
    }
    return found;
}

// One pixel per blockIdx.y, some of its candidates per blockIdx.x; the last block that is done draws one of them.
// Four channels are a word; sample and canvas are planes of words.
extern "C" __global__ void __launch_bounds__(THREADS) make(const unsigned* sample, unsigned* canvas, const int* ranks,
        const int* taps, const int* candidates, const long long* pixels, int* distances, int* least, int* arrived,
        long long* sources, long long first, long long sample_size, long long canvas_size, int count, int stride,
        int tap_count, int planes, int across, int height, int width, int tileable, double factor,
        unsigned long long seed) {
    __shared__ int offsets[TAPS];
    __shared__ unsigned weights[TAPS], colours[TAPS];
    __shared__ int held, total, last, tallies[THREADS / 32];
    __shared__ unsigned shared_part;
    const int t = threadIdx.x;
    const long long n = first + blockIdx.y, pixel = pixels[n];
    const int y = (int)(pixel / width), x = (int)(pixel % width), rank = ranks[pixel];
    const int begin = blockIdx.x * THREADS * EACH + t;
    int places[EACH];
    unsigned sums[EACH];
    for (int j = 0; j < EACH; j++) {
        places[j] = candidates[min(begin + j * THREADS, count - 1)];
        sums[j] = 0;
    }
    if (t == 0) shared_part = 0;
    for (int plane = 0; plane < planes; plane++, sample += sample_size, canvas += canvas_size)
        for (int some = 0; some < tap_count; some += TAPS) {
            if (t == 0) held = 0;
            __syncthreads();
            for (int tap = some + t; tap < min(some + TAPS, tap_count); tap += THREADS) {
                int dy = taps[3 * tap], dx = taps[3 * tap + 1], line = y + dy, column = x + dx;
                if (tileable) {
                    line = (line % height + height) % height;
                    column = (column % width + width) % width;
                } else if (line < 0 || line >= height || column < 0 || column >= width) {
                    continue;
                }
                long long there = (long long)line * width + column;
                if (ranks[there] >= rank) continue;
                int place = atomicAdd(&held, 1);
                unsigned colour = canvas[there], weight = (unsigned)taps[3 * tap + 2];
                offsets[place] = dy * across + dx;
                weights[place] = weight;
                colours[place] = colour;
                atomicAdd(&shared_part, weight * __dp4a(colour, colour, 0u));
            }
            __syncthreads();
            const int found = held;
            for (int tap = 0; tap < found; tap++) {
                const unsigned weight = weights[tap], colour = colours[tap];
                const unsigned* here = sample + offsets[tap];
                #pragma unroll
                for (int j = 0; j < EACH; j++) {
                    unsigned word = here[places[j]];
                    sums[j] += weight * (__dp4a(word, word, 0u) - 2u * __dp4a(word, colour, 0u));
                }
            }
            __syncthreads();
        }
    canvas -= planes * canvas_size;
    sample -= planes * sample_size;

    int lowest = 0x7fffffff;
    int* row = distances + (long long)blockIdx.y * stride;
    for (int j = 0; j < EACH; j++)
        if (begin + j * THREADS < count) {
            int distance = (int)(sums[j] + shared_part);
            row[begin + j * THREADS] = distance;
            lowest = min(lowest, distance);
        }
    lowest = __reduce_min_sync(ALL, lowest);
    if (t % 32 == 0) atomicMin(least + n, lowest);
    __threadfence();
    __syncthreads();
    if (t == 0) {
        last = atomicAdd(arrived + n, 1) == (int)gridDim.x - 1;
        total = 0;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();

    const double most = __dmul_rn((double)__ldcg(least + n), factor);
    const int limit = most < 2147483647.0 ? (int)most : 0x7fffffff;
    int within = 0;
    #pragma unroll 4
    for (int i = 4 * t; i < count; i += 4 * THREADS) within += within_limit(row, i, count, limit, nullptr);
    within = __reduce_add_sync(ALL, within);
    if (t % 32 == 0) atomicAdd(&total, within);
    __syncthreads();
    unsigned long long z = (unsigned long long)(pixel + 1) * 0x9E3779B97F4A7C15ull + seed * 0xD1B54A32D192ED03ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    const int drawn = (int)((((z ^ (z >> 31)) >> 32) * (unsigned long long)total) >> 32);
    for (int i = 4 * t, before = 0; before <= drawn; i += 4 * THREADS) {  // four candidates a thread, in order
        int yes[4];
        const int mine = within_limit(row, i, count, limit, yes);
        int upto = mine;
        for (int by = 1; by < 32; by *= 2) {
            const int lower = __shfl_up_sync(ALL, upto, by);
            if (t % 32 >= by) upto += lower;
        }
        if (t % 32 == 31) tallies[t / 32] = upto;
        __syncthreads();
        int here = before + upto - mine;
        for (int warp = 0; warp < THREADS / 32; warp++) {
            if (warp < t / 32) here += tallies[warp];
            before += tallies[warp];
        }
        for (int j = 0; j < 4; j++) {
            if (yes[j] && here == drawn) {
                const int source = candidates[i + j];
                sources[pixel] = source;
                for (int plane = 0; plane < planes; plane++)
                    canvas[plane * canvas_size + pixel] = sample[plane * sample_size + source];
            }
            here += yes[j];
        }
        __syncthreads();
    }
}
"""


def synthesise(
    sample: Bytes,
    canvas: Bytes,
    known: Bools,
    *,
    window: int = 11,
    tolerance: float = 0.1,
    seed: int = 0,
    order: Order = "scanline",
    tileable: bool = False,
    usable: Bools | None = None,
    tell: Tell | None = None,
    threads: int | None = None,  # noqa: ARG001  the signature of all forms
) -> NDArray[np.int64]:
    """Fill the unknown pixels of a canvas; see the reference. Not yet run on a GPU: compiled, and proven on a CPU."""
    task = Task.of(sample, canvas, known, window, tolerance, seed, order, tileable, usable)
    sources = np.full(known.shape, -1, np.int64)
    if not len(task.order):
        return sources
    pixels, starts = fronts(task)
    device = _Device(task, pixels)
    for first in range(0, len(starts) - 1, EVERY):
        last = min(first + EVERY, len(starts) - 1)
        for start, stop in zip(starts[first:last], starts[first + 1 : last + 1], strict=True):
            for part in range(start, stop, device.room):
                device.make(part, min(part + device.room, stop))
        made = pixels[starts[first] : starts[last]]
        sources.ravel()[made] = device.found(int(starts[first]), int(starts[last]))
        known.ravel()[made] = True
        canvas.reshape(-1, canvas.shape[2])[made] = sample.reshape(-1, canvas.shape[2])[sources.ravel()[made]]
        if tell is not None and not tell(int(starts[last]), len(pixels)):
            break
    return sources


class _Device:
    """The arrays of a task on the device, where the canvas grows front by front."""

    def __init__(self, task: Task, pixels: NDArray[np.int64]):
        import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

        self.cupy: Any = cupy
        self.kernel = kernel(SOURCE, "make")
        lines, columns = np.nonzero(task.weights)
        taps = np.stack([lines - task.reach, columns - task.reach, task.weights[lines, columns]], axis=1)
        sample, canvas = _words(task.sample), _words(task.canvas)
        count, stride = len(task.candidates), -(-len(task.candidates) // 32) * 32  # whole lines of 128 bytes
        self.room = min(max(1, PAIRS // stride), MOST)  # pixels of one launch
        widest = min(self.room, len(pixels))
        self.sources, self.pixels = cupy.full(task.known.size, -1, np.int64), cupy.asarray(pixels)
        self.arrays = (
            *(cupy.asarray(one) for one in (sample, canvas, task.ranks.astype(np.int32), taps.astype(np.int32))),
            cupy.asarray(task.candidates.astype(np.int32)), self.pixels,
            cupy.empty((widest, stride), np.int32), cupy.full(len(pixels), 2**31 - 1, np.int32),
            cupy.zeros(len(pixels), np.int32), self.sources,
        )  # fmt: skip
        self.sizes = (
            np.int64(sample.shape[1]), np.int64(canvas.shape[1]), np.int32(count), np.int32(stride),
            np.int32(len(taps)), np.int32(len(sample)), np.int32(task.sample.shape[1]),
            *(np.int32(side) for side in task.known.shape), np.int32(task.tileable), np.float64(1.0 + task.tolerance),
            np.uint64(task.seed),
        )  # fmt: skip
        self.parts = -(-count // (THREADS * EACH))

    def make(self, start: int, stop: int) -> None:
        """Choose and copy the sources of pixels that do not see each other, by their numbers in the order."""
        self.kernel((self.parts, int(stop - start)), (THREADS,), (*self.arrays, np.int64(start), *self.sizes))

    def found(self, start: int, stop: int) -> NDArray[np.int64]:
        """Where pixels came from, by their numbers in the order."""
        return self.cupy.asnumpy(self.sources[self.pixels[start:stop]])


def _words(picture: Bytes) -> NDArray[np.uint32]:
    """(ceil(C / 4), height * width) words of four channels each; what is no channel is 0."""
    flat = picture.reshape(-1, picture.shape[2])
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 4)))
    return np.ascontiguousarray(np.ascontiguousarray(padded).view(np.uint32).T)
