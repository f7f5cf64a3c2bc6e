"""The definition, in NumPy."""

from __future__ import annotations

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
    """(M, h, w) int32 row of every position of M rectangles.

    Rows are numbered: first those of the map's lines ``band[0]`` to ``band[1] - 1``, then others, of which
    ``outside`` stands for what lies outside the map, and from ``windows`` on the pasted windows, one after the other.

    Args:
        places: (M,) first line and column of each rectangle; may lie outside the map.
        size: height and width of the rectangles.
        window_places: (M,) first line and column of each pasted window, within the map.
        window_size: height and width of the windows.
        map_size: height and width of the map.
        band: first line of the map that has rows, and the line behind the last.
        outside: row of what lies outside the map.
        windows: first row of the first window.
    """
    lines = places[0][:, None, None] + np.arange(size[0])[None, :, None]  # (M, h, 1)
    columns = places[1][:, None, None] + np.arange(size[1])[None, None, :]  # (M, 1, w)
    within = (lines >= 0) & (lines < map_size[0]) & (columns >= 0) & (columns < map_size[1])
    line, column = lines - window_places[0][:, None, None], columns - window_places[1][:, None, None]
    pasted = (line >= 0) & (line < window_size[0]) & (column >= 0) & (column < window_size[1])
    number = np.arange(len(places[0]))[:, None, None]
    of_window = windows + (number * window_size[0] + line) * window_size[1] + column
    of_map = (lines - band[0]) * map_size[1] + columns
    return np.where(pasted & within, of_window, np.where(within, of_map, outside)).astype(np.int32)
