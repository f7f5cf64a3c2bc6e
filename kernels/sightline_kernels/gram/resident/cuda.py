"""In CuPy: only blocks of channels on and above the diagonal, all of them and all slices of positions in one launch.

A product of a matrix with itself has each number twice. cuBLAS has no batched form that leaves half of them out, but
it takes lists of blocks: of 512 channels 10 of 16 are computed. Slices of the positions are more blocks, so that few
maps fill the device too.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from sightline_kernels.gram.reference import Normalisation, scale

Arithmetic = Literal["fp32", "tf32"]
LARGEST, SMALLEST = 160, 32  # channels of a block; between these, the largest that divides them
LONGEST = 8192  # positions that are added in float32
SHORTEST = 512  # positions of a slice, below which there is more to add up than to multiply
LINE = 32  # numbers that are read together
ENOUGH = 4 * 132  # blocks that fill a large device
THREADS = 256  # of a block
TRANSPOSED, PLAIN, DEFAULT = 1, 0, -1  # cuBLAS's names for two layouts, and for its own choice of algorithm
FLOAT, HALF, COMPUTE = 0, 2, 68  # for two types, and for sums in float32
MODES = {"fp32": 0, "tf32": 3}  # and for what float32 is multiplied in
SOURCE = r"""
// (B, C, C) from blocks (S, B, pairs, block, block) of the upper triangle, row by row of blocks.
extern "C" __global__ void assemble(const float* parts, float* found, long long batch, int channels, int block,
        int slices, double scale) {
    long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x, square = (long long)channels * channels;
    if (n >= batch * square) return;
    long long b = n / square;
    int row = (int)(n % square / channels), column = (int)(n % channels);
    if (row > column) { int other = row; row = column; column = other; }
    int blocks = channels / block, i = row / block, j = column / block;
    long long pair = (long long)i * blocks - (long long)i * (i - 1) / 2 + (j - i);
    long long pairs = blocks * (blocks + 1ll) / 2;
    double sum = 0.0;
    for (int s = 0; s < slices; s++)
        sum += parts[((s * batch + b) * pairs + pair) * block * block + (long long)(row % block) * block
            + column % block];
    found[n] = (float)(sum * scale);
}

// The lower triangle of (B, C, C) from the upper one, both scaled.
extern "C" __global__ void mirror(float* found, long long batch, int channels, float scale) {
    long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x, square = (long long)channels * channels;
    if (n >= batch * square) return;
    int row = (int)(n % square / channels), column = (int)(n % channels);
    if (row > column) return;
    float value = found[n] * scale;
    found[n] = value;
    found[n / square * square + (long long)column * channels + row] = value;
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
    size = (*maps.shape[:2], int(np.prod(maps.shape[2:])))
    flat = device.ascontiguousarray(maps).reshape(size)
    batch, channels, positions = flat.shape
    factor = scale(channels, positions, per)
    if batch == 0 or positions == 0:
        return device.zeros((batch, channels, channels), np.float32)
    if flat.dtype.name == "float16":
        return _of_halves(device, flat, factor)
    block, blocks, pairs, slices, length = plan(batch, channels, positions)
    parts = device.empty((slices, batch, pairs, block, block), np.float32)
    s, b, p = np.indices((slices, batch, pairs)).reshape(3, -1)
    i, j = (side[p] for side in np.triu_indices(blocks))
    rows = (b * channels * positions + s * length) * 4 + pointer(flat)
    offsets = np.stack([
        rows + j * block * positions * 4, rows + i * block * positions * 4,
        pointer(parts) + np.arange(s.size) * block * block * 4,
    ])  # fmt: skip
    _blocks(device, offsets, block, positions, length, 0.0, arithmetic)
    rest = positions - slices * length
    if rest:  # goes to what the first slice has
        first = offsets[:, s == 0]
        first[:2] += slices * length * 4
        _blocks(device, first, block, positions, rest, 1.0, arithmetic)
    found = device.empty((batch, channels, channels), np.float32)
    sizes = np.int64(batch), np.int32(channels), np.int32(block), np.int32(slices), np.float64(factor)
    _run(device, "assemble", found.size, parts, found, *sizes)
    return found


def plan(batch: int, channels: int, positions: int) -> tuple[int, int, int, int, int]:
    """Channels of a block, blocks of a row, blocks of the upper triangle, slices of the positions, their length.

    Slices begin where reading is fastest, at whole lines of 128 bytes of their row; less than one slice is left.

    >>> plan(8, 512, 3136), plan(1, 131, 50176), plan(1, 7, 1)
    ((128, 4, 10, 5, 544), (131, 1, 1, 98, 512), (7, 1, 1, 1, 1))
    """
    divisors = [n for n in range(SMALLEST, LARGEST + 1) if channels % n == 0]
    block = max(divisors, default=channels)
    blocks = channels // block
    pairs = blocks * (blocks + 1) // 2
    filling = min(-(-ENOUGH // (batch * pairs)), positions // SHORTEST)
    wanted = -(-positions // max(1, filling, -(-positions // LONGEST)))
    length = min(positions, -(-wanted // LINE) * LINE)
    return block, blocks, pairs, positions // length, length


def _blocks(device: Any, offsets: Any, block: int, positions: int, length: int, add: float, arithmetic: str) -> None:
    """Products of two blocks of channels each, at addresses (3, n), where cuBLAS reads column by column."""
    lists = device.asarray(np.ascontiguousarray(offsets, np.int64))
    one, kept = np.ones(1, np.float32), np.full(1, add, np.float32)
    blas, handle = device.cuda.cublas, device.cuda.device.get_cublas_handle()
    before = blas.getMathMode(handle)
    blas.setMathMode(handle, MODES[arithmetic])
    try:
        blas.sgemmBatched(
            handle, TRANSPOSED, PLAIN, block, block, length, one.ctypes.data, pointer(lists[0]), positions,
            pointer(lists[1]), positions, kept.ctypes.data, pointer(lists[2]), block, offsets.shape[1],
        )  # fmt: skip
    finally:
        blas.setMathMode(handle, before)


def _of_halves(device: Any, maps: Any, factor: float) -> Any:
    """Of float16, with tensor cores: every row of blocks with those at and behind its diagonal."""
    batch, channels, positions = maps.shape
    found = device.empty((batch, channels, channels), np.float32)
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    block = plan(batch, channels, positions)[0]
    for first in range(0, channels, block):
        here = pointer(maps) + first * positions * 2
        device.cuda.cublas.gemmStridedBatchedEx(
            device.cuda.device.get_cublas_handle(), TRANSPOSED, PLAIN, channels - first, block, positions,
            one.ctypes.data, here, HALF, positions, channels * positions, here, HALF, positions, channels * positions,
            none.ctypes.data, pointer(found) + (first * channels + first) * 4, FLOAT, channels, channels * channels,
            batch, COMPUTE, DEFAULT,
        )  # fmt: skip
    _run(device, "mirror", found.size, found, np.int64(batch), np.int32(channels), np.float32(factor))
    return found


def pointer(array: Any) -> int:
    """Where an array begins on the device."""
    return int(array.data.ptr)


def _run(device: Any, name: str, threads: int, *arguments: Any) -> None:
    kernel = device.RawModule(code=SOURCE).get_function(name)
    kernel((-(-threads // THREADS),), (THREADS,), arguments)
