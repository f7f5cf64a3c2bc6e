"""Distances of all blocks at once by Fourier transforms on all cores; choice and seams in Numba.

Distances are whole numbers, and the transforms' rounding stays far below one half: rounded, they are exact.
"""

from __future__ import annotations

import os
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from sightline_kernels.quilting.task import Place, Task
from sightline_kernels.scanline.task import Bools, Bytes, Tell, draw


def quilt(
    sample: Bytes,
    size: tuple[int, int],
    *,
    block: int = 32,
    overlap: int | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
    tileable: bool = False,
    usable: Bools | None = None,
    tell: Tell | None = None,
    threads: int | None = None,
) -> NDArray[np.int64]:
    """Lay blocks of a sample so that they overlap, each cut where it differs least; see the reference."""
    task = Task.of(sample, size, block, overlap, tolerance, seed, tileable, usable)
    canvas, sources = np.zeros((*task.extent, sample.shape[2]), np.uint8), np.full(task.extent, -1, np.int64)
    search, places = _Search(task, threads or os.cpu_count() or 1), list(task.places())
    taken = np.zeros((len(places), 2), np.int64)
    for place in places:
        distances = search.distances(canvas, place)
        allowed = task.allowed(place, taken)
        drawn = np.int64(draw(seed, np.array([place.number]))[0])
        row, column = taken[place.number] = _choose(distances, allowed, tolerance, drawn)
        _lay(sample, canvas, sources, row, column, np.array(place, np.int64), block)
        if tell is not None and not tell(place.number + 1, len(places)):
            break
    return sources[: size[0], : size[1]]


class _Search:
    """The sample's transforms, which all places share."""

    def __init__(self, task: Task, threads: int):
        self._task, self._threads = task, threads
        self._size = tuple(next_fast_len(side, real=True) for side in task.sample.shape[:2])
        colours = task.sample.transpose(2, 0, 1).astype(np.float64)
        planes = np.concatenate([colours, np.square(colours).sum(axis=0, keepdims=True)])  # (C + 1, h, w)
        self._planes = rfft2(planes, self._size, workers=threads)

    def distances(self, canvas: Bytes, place: Place) -> NDArray[np.float64]:
        """(h - block + 1, w - block + 1) sums of squared differences over what is known at a place, whole numbers."""
        block, known = self._task.block, self._task.known(place)
        height, width = self._task.candidates.shape
        if not known.any():
            return np.zeros((height, width))
        lines = [start + np.arange(block) for start in (place.row, place.column)]
        where = np.ix_(*(line % side for line, side in zip(lines, canvas.shape, strict=False)))
        old = canvas[where].transpose(2, 0, 1) * known.astype(np.float64)  # (C, block, block)
        kernels: Any = rfft2(np.concatenate([-2 * old, known[None]]), self._size, workers=self._threads)
        sums: Any = irfft2((self._planes * kernels.conj()).sum(axis=0), self._size, workers=self._threads)
        return np.rint(sums[:height, :width]) + np.square(old).sum()


@numba.njit(cache=True, nogil=True)
def _choose(distances, allowed, tolerance, drawn):  # type: ignore[no-untyped-def]
    """First pixel of the drawn one of the allowed blocks within the tolerance."""
    least = np.inf
    for row in range(distances.shape[0]):
        for column in range(distances.shape[1]):
            if allowed[row, column]:
                least = min(least, distances[row, column])
    limit, count = np.floor(least * (1.0 + tolerance)), 0
    for row in range(distances.shape[0]):
        for column in range(distances.shape[1]):
            count += allowed[row, column] and distances[row, column] <= limit
    left = drawn * count >> 32
    for row in range(distances.shape[0]):
        for column in range(distances.shape[1]):
            if allowed[row, column] and distances[row, column] <= limit:
                if left == 0:
                    return row, column
                left -= 1
    return 0, 0  # never: count is at least 1


@numba.njit(cache=True, nogil=True)
def _lay(sample, canvas, sources, row, column, place, block):  # type: ignore[no-untyped-def]
    """Copy what lies beyond the seams of a block whose first pixel in the sample is given."""
    errors = np.zeros((block, block), np.int64)
    height, width, channels = canvas.shape
    for y in range(block):
        for x in range(block):
            for c in range(channels):
                old = canvas[(place[1] + y) % height, (place[2] + x) % width, c]
                apart = np.int64(sample[row + y, column + x, c]) - np.int64(old)
                errors[y, x] += apart * apart
    top, bottom, left, right = place[3], place[4], place[5], place[6]
    new = np.ones((block, block), np.bool_)
    _cut(errors, new, left)
    _cut(errors[:, ::-1], new[:, ::-1], right)
    _cut(errors.T, new.T, top)
    _cut(errors[::-1].T, new[::-1].T, bottom)
    for y in range(block):
        for x in range(block):
            if new[y, x]:
                line, across = (place[1] + y) % height, (place[2] + x) % width
                sources[line, across] = (row + y) * sample.shape[1] + column + x
                for c in range(channels):
                    canvas[line, across, c] = sample[row + y, column + x, c]


@numba.njit(cache=True, nogil=True)
def _cut(errors, new, width):  # type: ignore[no-untyped-def]
    """Unmark what lies left of the path of least errors through the first columns."""
    if width == 0:
        return
    lines = len(errors)
    sums = errors[:, :width].copy()
    for line in range(1, lines):
        for column in range(width):
            least = sums[line - 1, column]
            if column:
                least = min(least, sums[line - 1, column - 1])
            if column + 1 < width:
                least = min(least, sums[line - 1, column + 1])
            sums[line, column] += least
    path = np.argmin(sums[lines - 1])
    for line in range(lines - 1, -1, -1):
        if line < lines - 1:
            first = max(0, path - 1)
            path = first + np.argmin(sums[line, first : min(path + 2, width)])
        new[line, :path] = False
