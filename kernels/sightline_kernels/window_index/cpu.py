"""In Numba, on all cores."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def window_index(
    places: tuple[Ints, Ints],
    size: tuple[int, int],
    window_places: tuple[Ints, Ints],
    window_size: tuple[int, int],
    map_size: tuple[int, int],
    band: tuple[int, int],
    outside: int,
    windows: int,
) -> NDArray[np.int32]:
    """(M, h, w) int32 row of every position of M rectangles; see the reference."""
    rows = np.empty((len(places[0]), *size), np.int32)
    _fill(rows, *places, *window_places, *window_size, *map_size, band[0], outside, windows)
    return rows


@numba.njit(cache=True, nogil=True)
def _fill(rows, tops, lefts, window_tops, window_lefts, wh, ww, height, width, first, outside, windows):  # type: ignore[no-untyped-def]
    count, h, w = rows.shape
    for m in range(count):
        for y in range(h):
            line = tops[m] + y
            inner = line - window_tops[m]
            pasted = 0 <= inner < wh
            of_map = (line - first) * width
            of_window = windows + (m * wh + inner) * ww - window_lefts[m]
            within = 0 <= line < height
            for x in range(w):
                column = lefts[m] + x
                if not within or column < 0 or column >= width:
                    rows[m, y, x] = outside
                elif pasted and window_lefts[m] <= column < window_lefts[m] + ww:
                    rows[m, y, x] = of_window + column
                else:
                    rows[m, y, x] = of_map + column
