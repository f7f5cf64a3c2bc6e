"""The definition, in NumPy, with every mask written out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def draw(seed: int, first: int, count: int, cells: int) -> NDArray[np.float64]:
    """(count, cells * cells + 2) uniform numbers in [0, 1) of masks ``first`` and following.

    Number i of mask n is a function of (seed, n, i) alone (SplitMix64 over a counter), so that any mask can be made
    again, alone or among others, on any machine.
    """
    width = cells * cells + 2
    with np.errstate(over="ignore"):
        counter = np.arange(first * width, (first + count) * width, dtype=np.uint64)
        z = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64).reshape(count, width) * 2.0**-53


def masks(uniform: NDArray[np.float64], cells: int, keep: float, size: tuple[int, int]) -> Floats:
    """(n, H, W) masks in [0, 1] of n rows of uniform numbers.

    A grid of cells x cells ones, each with probability ``keep``, and zeros is stretched bilinearly to one cell more
    than the image along each axis, and cut out at a random place (Petsiuk, Das, Saenko, "RISE", 2018).
    """
    grids = (uniform[:, : cells * cells] < keep).astype(np.float32).reshape(-1, cells, cells)
    found = np.empty((len(uniform), *size), np.float32)
    for one, grid, shift in zip(found, grids, uniform[:, cells * cells :], strict=True):
        (y0, y1, wy), (x0, x1, wx) = (_knots(cells, side, part) for side, part in zip(size, shift, strict=True))
        lines = grid[y0] * (1 - wy)[:, None] + grid[y1] * wy[:, None]  # (H, cells)
        one[:] = lines[:, x0] * (1 - wx) + lines[:, x1] * wx
    return found


def blend(image: Floats, fill: Floats, uniform: NDArray[np.float64], cells: int, keep: float, out: Floats) -> None:
    """Write n copies of an image (C, H, W), each behind its mask: mask * image + (1 - mask) * fill."""
    made = masks(uniform, cells, keep, (image.shape[1], image.shape[2]))[:, None]
    out[:] = fill + made * (image - fill)


def accumulate(
    scores: NDArray[np.float64],
    uniform: NDArray[np.float64],
    cells: int,
    keep: float,
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Add every mask times its score to ``total`` (H, W), and its square to ``squares`` (H, W)."""
    made = masks(uniform, cells, keep, (total.shape[0], total.shape[1])) * scores[:, None, None]
    total += made.sum(axis=0)
    squares += np.square(made).sum(axis=0)


def _knots(cells: int, side: int, part: float) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For every pixel of a side: the cells before and behind it, and the weight of the latter."""
    cell = -(-side // cells)
    place = (np.arange(side) + int(part * cell) + 0.5) * (cells / ((cells + 1) * cell)) - 0.5
    place = np.clip(place, 0, cells - 1)
    before = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    return before, np.minimum(before + 1, cells - 1), (place - before).astype(np.float32)
