"""In CuPy: one launch for all pixels that do not see each other, a thread for every pair of pixel and candidate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline_kernels.scanline.cpu import fronts
from sightline_kernels.scanline.task import Bools, Bytes, Order, Task, Tell, draw

PAIRS = 2**26  # of pixel and candidate at a time: 256 MiB of distances
EVERY = 64  # fronts between two reports, and between two copies to the host
THREADS = 128  # of a block
# No kernel synchronises: every thread answers for one pair. Sums are whole numbers below 2**31, exact in any order.
SOURCE = r"""
extern "C" __global__ void measure(const unsigned char* sample, const unsigned char* canvas, const long long* ranks,
        const int* taps, const long long* candidates, const long long* pixels, int* distances, long long pairs,
        long long count, int tap_count, int channels, int across, int height, int width, int tileable) {
    long long pair = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (pair >= pairs) return;
    long long pixel = pixels[pair / count], candidate = candidates[pair % count];
    int y = (int)(pixel / width), x = (int)(pixel % width), sum = 0;
    for (int tap = 0; tap < tap_count; tap++) {
        int dy = taps[3 * tap], dx = taps[3 * tap + 1], line = y + dy, column = x + dx;
        if (tileable) {
            line = (line % height + height) % height;
            column = (column % width + width) % width;
        } else if (line < 0 || line >= height || column < 0 || column >= width) {
            continue;
        }
        long long there = (long long)line * width + column;
        if (ranks[there] >= ranks[pixel]) continue;
        long long here = candidate + (long long)dy * across + dx;
        for (int c = 0; c < channels; c++) {
            int apart = (int)sample[here * channels + c] - (int)canvas[there * channels + c];
            sum += taps[3 * tap + 2] * apart * apart;
        }
    }
    distances[pair] = sum;
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
    device, (pixels, starts) = _Device(task), fronts(task)
    for first in range(0, len(starts) - 1, EVERY):
        last = min(first + EVERY, len(starts) - 1)
        for start, stop in zip(starts[first:last], starts[first + 1 : last + 1], strict=True):
            for part in range(start, stop, device.room):
                device.make(pixels[part : min(part + device.room, stop)])
        made = pixels[starts[first] : starts[last]]
        sources.ravel()[made] = device.host(device.sources)[made]
        known.ravel()[made] = True
        canvas.reshape(-1, canvas.shape[2])[made] = sample.reshape(-1, canvas.shape[2])[sources.ravel()[made]]
        if tell is not None and not tell(int(starts[last]), len(pixels)):
            break
    return sources


class _Device:
    """The arrays of a task on the device, where the canvas grows front by front."""

    def __init__(self, task: Task):
        import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

        self.cupy: Any = cupy
        self.measure = cupy.RawModule(code=SOURCE).get_function("measure")
        self.task, channels = task, task.canvas.shape[2]
        lines, columns = np.nonzero(task.weights)
        taps = np.stack([lines - task.reach, columns - task.reach, task.weights[lines, columns]], axis=1)
        self.taps, self.ranks = cupy.asarray(taps.astype(np.int32)), cupy.asarray(task.ranks)
        self.candidates = cupy.asarray(task.candidates)
        self.sample = cupy.asarray(task.sample.reshape(-1, channels).copy())
        self.canvas = cupy.asarray(task.canvas.reshape(-1, channels).copy())
        self.sources = cupy.full(task.known.size, -1, np.int64)
        self.room = max(1, PAIRS // len(task.candidates))  # pixels of one launch

    def make(self, pixels: NDArray[np.int64]) -> None:
        """Choose and copy the sources of pixels that do not see each other."""
        cupy, task, count = self.cupy, self.task, len(self.candidates)
        pairs = len(pixels) * count
        places, distances = cupy.asarray(pixels), cupy.empty((len(pixels), count), np.int32)
        arguments = (
            self.sample, self.canvas, self.ranks, self.taps, self.candidates, places, distances, np.int64(pairs),
            np.int64(count), np.int32(len(self.taps)), np.int32(task.canvas.shape[2]), np.int32(task.sample.shape[1]),
            *(np.int32(side) for side in task.known.shape), np.int32(task.tileable),
        )  # fmt: skip
        self.measure((-(-pairs // THREADS),), (THREADS,), arguments)
        limits = (distances.min(axis=1) * np.float64(1.0 + task.tolerance)).astype(np.int64)
        within = cupy.cumsum(distances <= limits[:, None], axis=1, dtype=np.int64)
        drawn = cupy.asarray(draw(task.seed, pixels).astype(np.int64)) * within[:, -1] >> 32
        sources = self.candidates[(within > drawn[:, None]).argmax(axis=1)]
        self.sources[places], self.canvas[places] = sources, self.sample[sources]

    def host(self, array: Any) -> NDArray[Any]:
        """A copy that NumPy reads."""
        return self.cupy.asnumpy(array)
