"""The classes of the demo: each is one function, the signed distance to its outline.

Only ``+ - * / sqrt`` and comparisons touch pixels: IEEE 754 rounds those the same on every machine, so scenes do too.
Sines and cosines of constants are rounded to six digits for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]  # float32, one value per pixel, or a row or column that broadcasts
Distance = Callable[[Field, Field], Field]  # (x, y) -> distance, negative inside, in shape units
Point = tuple[float, float]


def around(turns: float, radius: float = 1.0) -> Point:
    """The point at ``turns`` (1 is a full circle, 0 is up) on a circle about the origin."""
    angle = 2 * math.pi * turns
    return round(radius * math.sin(angle), 6), round(radius * math.cos(angle), 6)


def circle(x: Field, y: Field, centre: Point = (0.0, 0.0), radius: float = 1.0) -> Field:
    """Distance to a circle; exact."""
    across, along = x - centre[0], y - centre[1]
    return np.sqrt(across * across + along * along) - radius


def bar(x: Field, y: Field, half_width: float, half_height: float, turns: float = 0.0) -> Field:
    """Distance to a rectangle about the origin, turned; exact inside and at the sides, short at corners outside."""
    sine, cosine = around(turns)
    return np.maximum(np.abs(x * cosine - y * sine) - half_width, np.abs(x * sine + y * cosine) - half_height)


def polygon(x: Field, y: Field, corners: Sequence[Point]) -> Field:
    """Distance to a simple polygon: the nearest side, negative where a ray to the right crosses an odd number."""
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, np.float32)
    inside = np.zeros(nearest.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        side_x, side_y = x1 - x0, y1 - y0
        from_x, from_y = x - x0, y - y0
        along = np.clip((from_x * side_x + from_y * side_y) / (side_x * side_x + side_y * side_y), 0, 1)
        off_x, off_y = from_x - along * side_x, from_y - along * side_y
        np.minimum(nearest, off_x * off_x + off_y * off_y, out=nearest)
        if side_y:
            inside ^= ((y >= y0) != (y >= y1)) & (from_x < from_y * (side_x / side_y))
    distance = np.sqrt(nearest)
    return np.where(inside, -distance, distance)


def disc(x: Field, y: Field) -> Field:
    """A full circle."""
    return circle(x, y)


def ring(x: Field, y: Field) -> Field:
    """A circle with a concentric hole."""
    return np.abs(circle(x, y, radius=0.78)) - 0.22


def triangle(x: Field, y: Field) -> Field:
    """Three equal sides."""
    return polygon(x, y, [around(corner / 3) for corner in range(3)])


def square(x: Field, y: Field) -> Field:
    """Four equal sides."""
    return bar(x, y, 0.7, 0.7)


def star(x: Field, y: Field) -> Field:
    """Five points."""
    return polygon(x, y, [around(corner / 10, 0.42 if corner % 2 else 1.0) for corner in range(10)])


def cross(x: Field, y: Field) -> Field:
    """Two bars at right angles, four equal arms."""
    return np.minimum(bar(x, y, 0.94, 0.3), bar(x, y, 0.3, 0.94))


def crescent(x: Field, y: Field) -> Field:
    """A circle less a smaller one that is shifted sideways."""
    return np.maximum(circle(x, y), -circle(x, y, centre=(0.5, 0.0), radius=0.8))


def heart(x: Field, y: Field) -> Field:
    """A square on its tip, and a disc on each of its two upper sides."""
    lobes = np.minimum(circle(x, y, (-0.32, 0.32), 0.452548), circle(x, y, (0.32, 0.32), 0.452548))
    return np.minimum(bar(x, y, 0.452548, 0.452548, turns=1 / 8), lobes)


def arrow(x: Field, y: Field) -> Field:
    """A head and a shaft."""
    right = [(0.0, 1.0), (0.72, 0.12), (0.26, 0.12), (0.26, -0.96)]
    return polygon(x, y, right + [(-across, along) for across, along in reversed(right[1:])])


def gear(x: Field, y: Field) -> Field:
    """A disc with eight teeth, the ends of four bars, and a round hole."""
    body = circle(x, y, radius=0.74)
    for tooth in range(4):
        body = np.minimum(body, bar(x, y, 0.15, 0.99, turns=tooth / 8))
    return np.maximum(body, -circle(x, y, radius=0.34))


def leaf(x: Field, y: Field) -> Field:
    """What two circles share, pointed at both ends."""
    return np.maximum(circle(x, y, (-0.75, 0.0), 1.25), circle(x, y, (0.75, 0.0), 1.25))


def flower(x: Field, y: Field) -> Field:
    """Five round petals about a round middle."""
    petals = circle(x, y, radius=0.3)
    for petal in range(5):
        petals = np.minimum(petals, circle(x, y, around(petal / 5, 0.62), 0.37))
    return petals


SHAPES: tuple[Distance, ...] = (
    disc, ring, triangle, square, star, cross, crescent, heart, arrow, gear, leaf, flower,
)  # fmt: skip
LABELS: tuple[str, ...] = tuple(shape.__name__ for shape in SHAPES)


@cache
def measure(shape: Distance) -> tuple[float, float]:
    """Area and greatest distance from the origin, both in shape units, counted on a fine grid."""
    step = 1 / 128
    axis = (np.arange(-160, 160, dtype=np.float32) + 0.5) * np.float32(step)
    x, y = axis[None, :], axis[:, None]
    inside = shape(x, y) <= 0
    return int(inside.sum()) * step * step, math.sqrt(float((x * x + y * y)[inside].max()))
