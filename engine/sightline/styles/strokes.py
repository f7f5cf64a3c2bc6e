"""A style of our own: brush strokes that follow the whirls of a field, in a few strong colours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sightline.demo.textures import clouds
from sightline.types import ByteArray

# Night blue, blue, turquoise, cream, yellow, orange: red, green, blue of 0 to 255, from low to high ground.
COLOURS = np.array(
    [(16, 24, 72), (28, 62, 138), (34, 128, 160), (238, 226, 190), (246, 190, 62), (214, 92, 36)], np.float64
)
Field = NDArray[np.float64]


def draw(side: int = 384, seed: int = 5) -> ByteArray:
    """The picture (side, side, 3) uint8 sRGB; the same on one machine, and nearly so on all."""
    dice = np.random.default_rng(seed)
    height, angle = _field(side, 4.0, dice), _field(side, 3.0, dice)
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[:] = COLOURS[1]
    for width, count, reach in ((9, 900, 0.09), (6, 2200, 0.075), (3, 3200, 0.05)):
        scale = side / 384
        for x, y in dice.uniform(-reach * side, side, (count, 2)):
            path = _path(x, y, angle, round(reach * side), dice)
            _stroke(canvas, path, _colour(_at(height, x, y), dice), max(1, round(width * scale)))
    return canvas


def _field(side: int, periods: float, dice: np.random.Generator) -> Field:
    """(side, side) smooth values of 0 to 1."""
    places = np.linspace(0, periods, side, endpoint=False, dtype=np.float32)
    found = clouds(places[None], places[:, None], periods / side, dice)
    smooth = cv2.GaussianBlur(np.asarray(found, np.float64), (0, 0), side / 40)
    return (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-9)


def _path(x: float, y: float, angle: Field, length: int, dice: np.random.Generator) -> NDArray[np.int32]:
    """(n, 2) points in sixteenths of a pixel, along the field."""
    points = [(x, y)]
    turn = dice.normal(0, 0.15)
    for _ in range(length // 3):
        direction = 4 * np.pi * _at(angle, x, y) + turn
        x, y = x + 3 * np.cos(direction), y + 3 * np.sin(direction)
        points.append((x, y))
    return np.rint(np.array(points) * 16).astype(np.int32)


def _at(field: Field, x: float, y: float) -> float:
    """The value at a place; outside, that of the border."""
    row, column = (int(np.clip(value, 0, len(field) - 1)) for value in (y, x))
    return float(field[row, column])


def _colour(height: float, dice: np.random.Generator) -> NDArray[np.float64]:
    place = float(np.clip(height + dice.normal(0, 0.09), 0, 0.999)) * (len(COLOURS) - 1)
    low = int(place)
    mixed = COLOURS[low] + (place - low) * (COLOURS[low + 1] - COLOURS[low])
    return np.clip(mixed * dice.uniform(0.82, 1.15), 0, 255)


def _stroke(canvas: ByteArray, path: NDArray[np.int32], colour: NDArray[np.float64], width: int) -> None:
    """A stroke with a shadow along one edge, as thick paint has it."""
    dark, light = (tuple(map(int, np.clip(colour * share, 0, 255))) for share in (0.7, 1.0))
    cv2.polylines(canvas, [path + 12], False, dark, width, cv2.LINE_AA, 4)
    cv2.polylines(canvas, [path], False, light, max(1, width - 1), cv2.LINE_AA, 4)
