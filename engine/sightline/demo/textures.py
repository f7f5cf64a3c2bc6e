"""Patterns that fill objects and backgrounds, and the colours they are given; none of it knows the class."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sightline.demo.shapes import Field

# (x, y, pixel, dice) -> share of the second colour, 0 to 1; x and y in periods, one pixel is ``pixel`` periods wide.
Pattern = Callable[[Field, Field, float, np.random.Generator], Field]
Colour = tuple[float, float, float]  # red, green, blue, 0 to 1


def between(dice: np.random.Generator, low: float, high: float) -> float:
    """A uniform draw; built on ``random`` alone, whose bits are the same on every machine."""
    return low + (high - low) * dice.random()


def direction(dice: np.random.Generator) -> tuple[float, float]:
    """A unit vector, every angle as likely; by rejection, since sines differ between machines in the last digit."""
    while True:
        x, y = between(dice, -1, 1), between(dice, -1, 1)
        if 0.01 < x * x + y * y <= 1:
            length = math.sqrt(x * x + y * y)
            return x / length, y / length


def wave(x: Field) -> Field:
    """A triangle wave of period 1: distance to the nearest integer, 0 to 0.5."""
    return np.abs(x - np.floor(x + 0.5))


def edge(distance: Field, pixel: float) -> Field:
    """Share of a pixel that lies on the positive side of an edge at ``distance``."""
    return np.clip(distance * (1 / pixel) + 0.5, 0, 1)


def gradient(x: Field, y: Field, _pixel: float, dice: np.random.Generator) -> Field:
    """A slow ramp from one colour to the other and back."""
    return wave(x * between(dice, 0.08, 0.25) + between(dice, 0, 1)) * 2 + 0 * y


def stripes(x: Field, y: Field, pixel: float, dice: np.random.Generator) -> Field:
    """Parallel bands, narrow or wide."""
    return edge(wave(x) - between(dice, 0.18, 0.32), pixel) + 0 * y


def checks(x: Field, y: Field, pixel: float, _dice: np.random.Generator) -> Field:
    """A chessboard."""
    across, along = edge(wave(x) - 0.25, pixel), edge(wave(y) - 0.25, pixel)
    return across + along - 2 * across * along


def dots(x: Field, y: Field, pixel: float, dice: np.random.Generator) -> Field:
    """Round spots, every other row shifted by half."""
    across = wave(x + 0.5 * (np.floor(y) % 2))
    along = y - np.floor(y) - 0.5
    return edge(between(dice, 0.22, 0.34) - np.sqrt(across * across + along * along), pixel)


def bricks(x: Field, y: Field, pixel: float, dice: np.random.Generator) -> Field:
    """A running bond, two by one, with thin joints."""
    head = 2 * wave(0.5 * x + 0.5 * (np.floor(y) % 2))
    return edge(np.minimum(head, wave(y) + 0 * x) - between(dice, 0.06, 0.1), pixel)


def clouds(x: Field, y: Field, _pixel: float, dice: np.random.Generator) -> Field:
    """Value noise in three octaves (Perlin 1985 without gradients), stretched in contrast."""
    lattice = dice.random(1024, dtype=np.float32)
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for octave, strength in ((0.4, 0.55), (0.9, 0.3), (2.1, 0.15)):
        cell_x, cell_y = np.floor(x * octave), np.floor(y * octave)
        share_x, share_y = x * octave - cell_x, y * octave - cell_y
        share_x, share_y = (s * s * (3 - 2 * s) for s in (share_x, share_y))
        column, row = cell_x.astype(np.int32), cell_y.astype(np.int32) * 37
        corner = row + column
        near = lattice[corner & 1023]
        far = lattice[(corner + 37) & 1023]
        near = near + share_x * (lattice[(corner + 1) & 1023] - near)
        far = far + share_x * (lattice[(corner + 38) & 1023] - far)
        total += strength * (near + share_y * (far - near))
    return np.clip(0.5 + 2.2 * (total - 0.5), 0, 1)


PATTERNS: tuple[Pattern, ...] = (gradient, stripes, checks, dots, bricks, clouds)


def weave(x: Field, y: Field, period: float, dice: np.random.Generator) -> Field:
    """Any pattern, at any angle and offset; ``x`` (1, W) and ``y`` (H, 1) in pixels -> (H, W) shares."""
    pattern = PATTERNS[int(dice.random() * len(PATTERNS))]
    cosine, sine = (part / period for part in direction(dice))
    shift_x, shift_y = dice.random(), dice.random()
    return pattern(x * cosine + y * sine + shift_x, y * cosine - x * sine + shift_y, 1 / period, dice)


def hue(turns: float, saturation: float, value: float) -> Colour:
    """Red, green and blue of a colour given as hue (1 is once round the wheel), saturation and value."""

    def channel(offset: int) -> float:
        sector = (offset + 6 * turns) % 6
        return value - value * saturation * max(0.0, min(sector, 4 - sector, 1.0))

    return channel(5), channel(3), channel(1)


def palette(dice: np.random.Generator) -> tuple[Colour, Colour, Colour, Colour]:
    """Two colours for the background and two for the object, which stands out by hue and by value."""
    ground = dice.random()
    figure = ground + between(dice, 0.25, 0.75)
    if dice.random() < 0.5:  # light on dark
        ground_tone = between(dice, 0.3, 0.75), between(dice, 0.2, 0.5)  # saturation, value
        figure_tone = between(dice, 0.45, 0.9), between(dice, 0.8, 1.0)
    else:  # dark on light
        ground_tone = between(dice, 0.08, 0.35), between(dice, 0.8, 0.98)
        figure_tone = between(dice, 0.6, 0.95), between(dice, 0.4, 0.75)
    return (
        hue(ground, *ground_tone),
        shade(ground, *ground_tone, dice),
        hue(figure, *figure_tone),
        shade(figure, *figure_tone, dice),
    )


def shade(turns: float, saturation: float, value: float, dice: np.random.Generator) -> Colour:
    """A darker, duller neighbour of a colour."""
    turns += between(dice, -0.11, 0.11)
    return hue(turns, saturation * between(dice, 0.55, 1.0), value * between(dice, 0.62, 0.86))
