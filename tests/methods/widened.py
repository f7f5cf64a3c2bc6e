"""Features in closed form of pictures with a mirrored margin, at positions whose middle is not in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from problems import convolutional
from sightline.ascent.margins import MARGIN

ROWS, COLUMNS = convolutional().shape[1:]
WIDE = convolutional(shape=(3, ROWS + 2 * MARGIN, COLUMNS + 2 * MARGIN))  # the same kernels
# By layer: its step in the problem, its channels, and the middle in pixels of position (p, q): (2 p + a, q + b).
LAYERS = {"relu1": (2, 4, (0.0, 0.5)), "relu2": (4, 5, (1.0, 1.0))}


def features(images: NDArray[Any], layer: str) -> NDArray[np.float64]:
    """(B, C, P) of pictures (B, 3, 7, 6)."""
    step, channels, (down, across) = LAYERS[layer]
    margins = ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))
    wide = np.pad(images.astype(np.float32), margins, mode="symmetric")
    rows = (WIDE.shape[1] + 1 - 3) // 2 + 1 - (layer == "relu2")
    maps = WIDE.values(wide)[step].reshape(len(images), channels, rows, -1)
    inside = [
        [place for place in range(count) if MARGIN <= stride * place + middle <= MARGIN + length - 1]
        for count, stride, middle, length in zip(maps.shape[2:], (2, 1), (down, across), (ROWS, COLUMNS), strict=True)
    ]
    return maps[:, :, inside[0]][:, :, :, inside[1]].reshape(len(images), channels, -1)


def gram(images: NDArray[Any], layer: str) -> NDArray[np.float64]:
    """(B, C, C) means over positions."""
    found = features(images, layer)
    return found @ found.transpose(0, 2, 1) / found.shape[2]
