"""Coarse-to-fine: a coarse grid everywhere, the fine grid where it matters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.types import IntArray

STEP = 2  # fine windows from one coarse window to the next, along each axis


def coarse_rows(windows: IntArray) -> IntArray:
    """Rows of a grid's windows (M, 4) that form the coarse grid; the last of each line and column are among them."""
    chosen = np.ones(len(windows), bool)
    for axis in (0, 1):
        starts, place = np.unique(windows[:, axis], return_inverse=True)
        chosen &= (place % STEP == 0) | (place == len(starts) - 1)
    return np.flatnonzero(chosen)


def interpolated(windows: IntArray, rows: IntArray, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) values at every window, bilinear between those of the coarse ``rows``."""
    tops, lefts = (np.unique(windows[rows, axis]) for axis in (0, 1))
    table = values.reshape(len(tops), len(lefts))
    return _along(_along(table, tops, windows[:, 0]).T, lefts, windows[:, 1], np.arange(len(windows)))


def important_rows(guess: NDArray[np.float64], share: float, known: IntArray) -> IntArray:
    """Rows of the largest absolute values, this share of all, without those that are known; lowest row on ties."""
    count = round(share * len(guess))
    order = np.argsort(-np.abs(guess), kind="stable")[:count]
    return np.setdiff1d(order, known)


def _along(
    table: NDArray[np.float64], knots: IntArray, places: IntArray, columns: IntArray | None = None
) -> NDArray[np.float64]:
    """Linear interpolation of a table's rows (k, n) at places (M,): (M, n), or (M,) of one column for each place."""
    after = np.clip(np.searchsorted(knots, places, side="right"), 1, max(len(knots) - 1, 1))
    before, after = after - 1, np.minimum(after, len(knots) - 1)
    gap = np.maximum(knots[after] - knots[before], 1)
    weight = np.clip((places - knots[before]) / gap, 0, 1)
    if columns is None:
        return table[before] * (1 - weight)[:, None] + table[after] * weight[:, None]
    return table[before, columns] * (1 - weight) + table[after, columns] * weight
