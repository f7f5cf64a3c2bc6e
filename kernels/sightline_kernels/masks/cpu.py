"""In Numba, on all cores: no mask is written out."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sightline_kernels.masks.reference import draw

__all__ = ["accumulate", "blend", "draw"]

Floats = NDArray[np.float32]


def blend(image: Floats, fill: Floats, uniform: NDArray[np.float64], cells: int, keep: float, out: Floats) -> None:
    """Write n copies of an image (C, H, W), each behind its mask; see the reference."""
    _blend(image, np.ascontiguousarray(np.broadcast_to(fill, image.shape)), uniform, cells, keep, out)


def accumulate(
    scores: NDArray[np.float64],
    uniform: NDArray[np.float64],
    cells: int,
    keep: float,
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Add every mask times its score to ``total``, and its square to ``squares``; see the reference."""
    _accumulate(scores, uniform, cells, keep, total, squares)


@numba.njit(cache=True, inline="always")
def _place(pixel, part, side, cells):  # type: ignore[no-untyped-def]
    """The cell before a pixel, the one behind it, and the weight of the latter."""
    cell = -(-side // cells)
    place = (pixel + int(part * cell) + 0.5) * (cells / ((cells + 1) * cell)) - 0.5
    place = min(max(place, 0.0), cells - 1.0)
    before = min(int(place), max(cells - 2, 0))
    return before, min(before + 1, cells - 1), np.float32(place - before)


@numba.njit(cache=True)
def _line(numbers, y, height, cells, keep, line):  # type: ignore[no-untyped-def]
    """The grid's cells at the height of one line of pixels."""
    above, below, weight = _place(y, numbers[cells * cells], height, cells)
    for j in range(cells):
        upper = np.float32(numbers[above * cells + j] < keep)
        lower = np.float32(numbers[below * cells + j] < keep)
        line[j] = upper * (np.float32(1) - weight) + lower * weight


@numba.njit(cache=True, parallel=True, nogil=True)
def _blend(image, fill, uniform, cells, keep, out):  # type: ignore[no-untyped-def]
    channels, height, width = image.shape
    for job in numba.prange(len(uniform) * height):
        n, y = job // height, job % height
        line = np.empty(cells, np.float32)
        _line(uniform[n], y, height, cells, keep, line)
        for x in range(width):
            left, right, weight = _place(x, uniform[n, cells * cells + 1], width, cells)
            mask = line[left] * (np.float32(1) - weight) + line[right] * weight
            for c in range(channels):
                out[n, c, y, x] = fill[c, y, x] + mask * (image[c, y, x] - fill[c, y, x])


@numba.njit(cache=True, parallel=True, nogil=True)
def _accumulate(scores, uniform, cells, keep, total, squares):  # type: ignore[no-untyped-def]
    height, width = total.shape
    for y in numba.prange(height):  # masks in their order for every pixel: the sum does not depend on the threads
        line = np.empty(cells, np.float32)
        for n in range(len(uniform)):
            _line(uniform[n], y, height, cells, keep, line)
            for x in range(width):
                left, right, weight = _place(x, uniform[n, cells * cells + 1], width, cells)
                value = (line[left] * (np.float32(1) - weight) + line[right] * weight) * scores[n]
                total[y, x] += value
                squares[y, x] += value * value
