"""In CuPy: only tiles on and above the diagonal, all of them and all slices of positions in one launch.

A product of a matrix with itself has each number twice: of 512 channels 36 of 64 tiles are computed. Few channels
have few tiles, so that the positions are sliced until there are tiles for a whole device; slices are added in their
order, in float64. Libraries have no such product of a batch.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np

from sightline_kernels.gram.reference import Normalisation, scale
from sightline_kernels.launch.cuda import kernel

Arithmetic = Literal["fp32", "tf32"]
TILE = 64  # channels along a side, as in the source
LONGEST = 8192  # positions that are added in float32
SHORTEST = 512  # positions of a slice, below which there is more to add up than to multiply
LINE = 64  # positions that are read together, twice what a row of a tile holds of float32
ENOUGH = 4 * 132  # tiles that fill a large device
MULTIPLYING, ADDING = 128, 256  # threads of a block
SOURCE = r"""
#define TILE 64  // channels along a side
#define THREADS 128
#define WORDS 32  // of a channel that are multiplied at a time: 32 floats, 64 halves
#define ROW 9  // fours of a channel in shared memory, one of them to keep neighbouring channels in different banks
#define MINE (TILE * WORDS / 4 / THREADS)  // fours of a tile that a thread brings
enum Kind { FP32, TF32, HALVES };

struct __align__(16) Four { unsigned word[4]; };

#ifdef __CUDA_ARCH__
__device__ static unsigned rounded_to_tf32(unsigned word) {
    unsigned found;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(found) : "f"(__uint_as_float(word)));
    return found;
}

// Sums (16 x 8) of products of left (16 x k) and right (k x 8), of which each lane of a warp has a part: the manual
// of PTX says which. k = 16 halves, or 8 numbers in TF32.
__device__ static void multiply_halves(float* sums, const unsigned* left, const unsigned* right) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
        " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

__device__ static void multiply_tf32(float* sums, const unsigned* left, const unsigned* right) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
        " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}
#endif

// Four words of a channel from a position on; what lies at stop and beyond is 0.
template <Kind kind>
__device__ static Four read(const void* maps, long long channel, long long position, long long stop, int aligned) {
    const int per = kind == HALVES ? 2 : 1;  // numbers of a word
    if (aligned && position + 4 * per <= stop)
        return *(const Four*)((const char*)maps + (channel + position) * (4 / per));
    Four found;
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        const long long here = position + i * per;
        if (kind == HALVES) {
            const unsigned short* halves = (const unsigned short*)maps + channel;
            found.word[i] = (here < stop ? halves[here] : 0u) | (here + 1 < stop ? halves[here + 1] : 0u) << 16;
        } else {
            found.word[i] = here < stop ? ((const unsigned*)maps)[channel + here] : 0u;
        }
    }
    return found;
}

// The tile that a block brings to shared memory, in parts: from the device to registers, and from these when there is
// room.
template <Kind kind>
__device__ static void fetch(Four* held, const void* maps, long long map, int first, int channels,
        long long positions, long long position, long long stop, int aligned) {
    #pragma unroll
    for (int i = 0; i < MINE; i++) {
        const int n = threadIdx.x + i * THREADS, channel = first + n / (WORDS / 4);
        const long long here = position + n % (WORDS / 4) * (kind == HALVES ? 8 : 4);
        if (channel < channels) held[i] = read<kind>(maps, (map + channel) * positions, here, stop, aligned);
        else held[i] = Four{{0u, 0u, 0u, 0u}};
    }
}

template <Kind kind>
__device__ static void store(Four* tile, const Four* held) {
    #pragma unroll
    for (int i = 0; i < MINE; i++) {
        const int n = threadIdx.x + i * THREADS;
        Four given = held[i];
        if (kind == TF32)
            for (int j = 0; j < 4; j++) given.word[j] = rounded_to_tf32(given.word[j]);
        tile[n / (WORDS / 4) * ROW + n % (WORDS / 4)] = given;
    }
}

// Adds to a thread's 32 sums: in float32 of channels every 16 and every 8, else as multiply_ has it, 32 x 32 a warp.
template <Kind kind>
__device__ static void add_products(float (&sums)[32], const Four* left, const Four* right) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (kind == FP32) {
        for (int w = 0; w < WORDS / 4; w++) {
            Four a[4];
            #pragma unroll
            for (int i = 0; i < 4; i++) a[i] = left[(warp * 4 + lane / 8 + 16 * i) * ROW + w];
            #pragma unroll
            for (int j = 0; j < 8; j++) {
                const Four b = right[(lane % 8 + 8 * j) * ROW + w];
                #pragma unroll
                for (int i = 0; i < 4; i++)
                    #pragma unroll
                    for (int e = 0; e < 4; e++)
                        sums[i * 8 + j] += __uint_as_float(a[i].word[e]) * __uint_as_float(b.word[e]);
            }
        }
        return;
    }
    const unsigned* rows = (const unsigned*)left + (warp / 2 * 32 + lane / 4) * ROW * 4 + lane % 4;
    const unsigned* columns = (const unsigned*)right + (warp % 2 * 32 + lane / 4) * ROW * 4 + lane % 4;
    #pragma unroll
    for (int w = 0; w < WORDS; w += 8) {
        unsigned a[2][4], b[4][2];
        #pragma unroll
        for (int m = 0; m < 2; m++)
            #pragma unroll
            for (int e = 0; e < 4; e++) a[m][e] = rows[(m * 16 + e % 2 * 8) * ROW * 4 + w + e / 2 * 4];
        #pragma unroll
        for (int n = 0; n < 4; n++)
            #pragma unroll
            for (int e = 0; e < 2; e++) b[n][e] = columns[n * 8 * ROW * 4 + w + e * 4];
        #pragma unroll
        for (int m = 0; m < 2; m++)
            #pragma unroll
            for (int n = 0; n < 4; n++) {
                if (kind == HALVES) multiply_halves(sums + (m * 4 + n) * 4, a[m], b[n]);
                else multiply_tf32(sums + (m * 4 + n) * 4, a[m], b[n]);
            }
    }
}

// One tile and slice: into found (B, C, C), both triangles, if there is one slice; else into parts (slices, B, pairs,
// TILE, TILE).
template <Kind kind>
__device__ static void multiply_tile(const void* maps, float* found, float* parts, int channels, long long positions,
        long long length, double scale, int aligned) {
    __shared__ Four left[TILE * ROW], right[TILE * ROW];
    const int blocks = (channels + TILE - 1) / TILE, pairs = blocks * (blocks + 1) / 2;
    const long long b = blockIdx.x / pairs, map = b * channels;
    int i = 0, j = blockIdx.x % pairs;  // of the upper triangle, row by row
    while (j >= blocks - i) j -= blocks - i++;
    j += i;
    const long long start = blockIdx.y * length, stop = min(start + length, positions);
    float sums[32];
    #pragma unroll
    for (int n = 0; n < 32; n++) sums[n] = 0.0f;
    Four ours[MINE], theirs[MINE];
    fetch<kind>(ours, maps, map, i * TILE, channels, positions, start, stop, aligned);
    if (i != j) fetch<kind>(theirs, maps, map, j * TILE, channels, positions, start, stop, aligned);
    for (long long position = start; position < stop; position += WORDS * (kind == HALVES ? 2 : 1)) {
        store<kind>(left, ours);
        if (i != j) store<kind>(right, theirs);
        __syncthreads();
        const long long next = position + WORDS * (kind == HALVES ? 2 : 1);
        if (next < stop) {
            fetch<kind>(ours, maps, map, i * TILE, channels, positions, next, stop, aligned);
            if (i != j) fetch<kind>(theirs, maps, map, j * TILE, channels, positions, next, stop, aligned);
        }
        add_products<kind>(sums, left, i == j ? left : right);
        __syncthreads();
    }
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const long long batch = gridDim.x / pairs;
    float* part = parts + ((blockIdx.y * batch + b) * pairs + blockIdx.x % pairs) * TILE * TILE;
    #pragma unroll
    for (int n = 0; n < 32; n++) {
        int row, column;
        if (kind == FP32) {
            row = warp * 4 + lane / 8 + n / 8 * 16;
            column = lane % 8 + n % 8 * 8;
        } else {
            row = warp / 2 * 32 + n / 16 * 16 + n % 4 / 2 * 8 + lane / 4;
            column = warp % 2 * 32 + n / 4 % 4 * 8 + lane % 4 * 2 + n % 2;
        }
        if (gridDim.y > 1) {
            part[row * TILE + column] = sums[n];
            continue;
        }
        const int r = i * TILE + row, c = j * TILE + column;
        if (r > c || c >= channels) continue;
        const float value = (float)(sums[n] * scale);
        found[(map + r) * channels + c] = value;
        found[(map + c) * channels + r] = value;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) in_fp32(const void* maps, float* found, float* parts,
        int channels, long long positions, long long length, double scale, int aligned) {
    multiply_tile<FP32>(maps, found, parts, channels, positions, length, scale, aligned);
}

extern "C" __global__ void __launch_bounds__(THREADS) in_tf32(const void* maps, float* found, float* parts,
        int channels, long long positions, long long length, double scale, int aligned) {
    multiply_tile<TF32>(maps, found, parts, channels, positions, length, scale, aligned);
}

extern "C" __global__ void __launch_bounds__(THREADS) of_halves(const void* maps, float* found, float* parts,
        int channels, long long positions, long long length, double scale, int aligned) {
    multiply_tile<HALVES>(maps, found, parts, channels, positions, length, scale, aligned);
}

// found (B, C, C) from parts.
extern "C" __global__ void assemble(const float* parts, float* found, long long batch, int channels, int slices,
        double scale) {
    const long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x, square = (long long)channels * channels;
    if (n >= batch * square) return;
    const long long b = n / square;
    int row = (int)(n % square / channels), column = (int)(n % channels);
    if (row > column) { int other = row; row = column; column = other; }
    const int blocks = (channels + TILE - 1) / TILE, i = row / TILE, j = column / TILE;
    const long long pair = (long long)i * blocks - (long long)i * (i - 1) / 2 + (j - i);
    const long long pairs = blocks * (blocks + 1ll) / 2;
    double sum = 0.0;
    for (int s = 0; s < slices; s++)
        sum += parts[((s * batch + b) * pairs + pair) * TILE * TILE + row % TILE * TILE + column % TILE];
    found[n] = (float)(sum * scale);
}
"""


def gram(maps: Any, *, per: Normalisation = "position", arithmetic: Arithmetic = "fp32") -> Any:
    """(B, C, C) float32 on the device; see the reference. Not yet run on a GPU: compiled, and proven on a CPU.

    Args:
        maps: (B, C, P) or (B, C, H, W) on the device, float32 or float16; halves are added up in float32.
        per: what the sums are divided by.
        arithmetic: of float32: proper, or rounded to TF32 before they are multiplied.

    Raises:
        ValueError: another shape or type.
    """
    import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

    device: Any = cupy
    if maps.ndim not in (3, 4) or maps.shape[1] == 0 or maps.dtype.name not in ("float32", "float16"):
        raise ValueError(f"Maps are (B, C, P) or (B, C, H, W), float32 or float16; got {maps.shape} {maps.dtype}.")
    batch, channels, positions = *maps.shape[:2], int(np.prod(maps.shape[2:]))
    flat, factor = device.ascontiguousarray(maps), np.float64(scale(channels, positions, per))
    if batch == 0 or positions == 0:
        return device.zeros((batch, channels, channels), np.float32)
    pairs, slices, length = plan(batch, channels, positions)
    found = device.empty((batch, channels, channels), np.float32)
    parts = device.empty((slices, batch, pairs, TILE, TILE), np.float32) if slices > 1 else found  # or not looked at
    name = "of_halves" if maps.dtype.name == "float16" else f"in_{arithmetic}"
    aligned = positions * flat.itemsize % 16 == 0 and int(flat.data.ptr) % 16 == 0
    kernel(SOURCE, name)(
        (batch * pairs, slices), (MULTIPLYING,),
        (flat, found, parts, np.int32(channels), np.int64(positions), np.int64(length), factor, np.int32(aligned)),
    )  # fmt: skip
    if slices > 1:
        kernel(SOURCE, "assemble")(
            (-(-found.size // ADDING),), (ADDING,),
            (parts, found, np.int64(batch), np.int32(channels), np.int32(slices), factor),
        )  # fmt: skip
    return found


@cache
def plan(batch: int, channels: int, positions: int) -> tuple[int, int, int]:
    """Tiles of the upper triangle, slices of the positions, and their length; the last may be shorter.

    Slices begin where reading is fastest, at whole lines of their row.

    >>> plan(8, 512, 784), plan(8, 64, 50176), plan(1, 7, 1)
    ((36, 1, 832), (1, 66, 768), (1, 1, 64))
    """
    blocks = -(-channels // TILE)
    pairs = blocks * (blocks + 1) // 2
    filling = min(-(-ENOUGH // (batch * pairs)), positions // SHORTEST)
    wanted = -(-positions // max(1, filling, -(-positions // LONGEST)))
    length = -(-wanted // LINE) * LINE
    return pairs, -(-positions // length), length
