"""In CuPy: a thread for every row of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline_kernels.launch.cuda import kernel

Ints = NDArray[np.int64]

THREADS = 256  # of a block
SOURCE = r"""
extern "C" __global__ void fill(const long long* tops, const long long* lefts, const long long* window_tops,
        const long long* window_lefts, int* rows, long long count, int h, int w, int wh, int ww, int height,
        int width, int first, int outside, int windows) {
    long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count * h * w) return;
    long long m = n / ((long long)h * w);
    long long line = tops[m] + n / w % h, column = lefts[m] + n % w;
    long long inner = line - window_tops[m], across = column - window_lefts[m];
    int row;
    if (line < 0 || line >= height || column < 0 || column >= width)
        row = outside;
    else if (inner >= 0 && inner < wh && across >= 0 && across < ww)
        row = (int)(windows + (m * wh + inner) * ww + across);
    else
        row = (int)((line - first) * width + column);
    rows[n] = row;
}
"""


def window_index(
    places: tuple[Ints, Ints],
    size: tuple[int, int],
    window_places: tuple[Ints, Ints],
    window_size: tuple[int, int],
    map_size: tuple[int, int],
    band: tuple[int, int],
    outside: int,
    windows: int,
) -> Any:
    """(M, h, w) int32 row of every position of M rectangles, left on the device, where it is read; see the reference.

    Not yet run on a GPU: compiled, and proven on a CPU. Sweeps on ONNX Runtime write the same arithmetic into their
    graph instead, which saves a launch and a buffer.
    """
    import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

    device: Any = cupy
    rows = device.empty((len(places[0]), *size), np.int32)
    given = [device.asarray(np.ascontiguousarray(one, np.int64)) for one in (*places, *window_places)]
    if rows.size:
        numbers = (*size, *window_size, *map_size, band[0], outside, windows)
        kernel(SOURCE, "fill")(
            (-(-rows.size // THREADS),), (THREADS,), (*given, rows, np.int64(len(places[0])), *map(np.int32, numbers))
        )
    return rows
