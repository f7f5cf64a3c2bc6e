"""Windows of an image, and maps from what happens when each is hidden."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.types import FloatArray, IntArray


def window_grid(size: tuple[int, int], window: tuple[int, int], stride: int) -> IntArray:
    """(M, 4) rows of top, left, height, width: row by row, the last ones cut at the border."""
    tops, lefts = axes = [
        np.arange(-(-max(side - length, 0) // stride) + 1, dtype=np.int64) * stride
        for side, length in zip(size, window, strict=True)
    ]
    assert len(axes) == 2
    top, left = (grid.ravel() for grid in np.meshgrid(tops, lefts, indexing="ij"))
    return np.stack([top, left, np.minimum(window[0], size[0] - top), np.minimum(window[1], size[1] - left)], axis=1)


def mean_map(windows: IntArray, amounts: NDArray[np.float64], size: tuple[int, int]) -> FloatArray:
    """(H, W) mean over the windows that hide a pixel of their amounts (M,); 0 where none does.

    Every window adds to the four corners of a table whose double cumulative sum is the map: no mask is ever made.
    """
    total, cover = (_summed(windows, values, size) for values in (amounts, np.ones(len(windows))))
    cover = np.rint(cover)
    return np.divide(total, cover, out=np.zeros(size), where=cover > 0).astype(np.float32)


def _summed(windows: IntArray, amounts: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    corners = np.zeros((size[0] + 1, size[1] + 1))
    top, left, height, width = windows.T
    np.add.at(corners, (top, left), amounts)
    np.add.at(corners, (top + height, left), -amounts)
    np.add.at(corners, (top, left + width), -amounts)
    np.add.at(corners, (top + height, left + width), amounts)
    return corners.cumsum(axis=0).cumsum(axis=1)[: size[0], : size[1]]
