"""Pictures to learn on that need no photographs: textured shapes over each other, near and far, lit and blurred."""

from __future__ import annotations

import cv2
import numpy as np

from sightline.demo.shapes import SHAPES, Field, measure
from sightline.demo.textures import between, direction, palette, weave
from sightline.types import ByteArray


def collage(seed: int, index: int, side: int = 256) -> ByteArray:
    """The picture (side, side, 3) uint8 that two numbers stand for."""
    dice = np.random.default_rng((seed, index))
    centres = np.arange(side, dtype=np.float32) + np.float32(0.5)
    x, y = centres[None, :], centres[:, None]
    ground, shade, _, _ = palette(dice)
    canvas = _mixed(ground, shade, weave(x, y, between(dice, 40, 200), dice))
    for _ in range(3 + int(dice.random() * 12)):
        canvas = _laid(canvas, x, y, side, dice)
    canvas = canvas * _light(x, y, side, dice)[:, :, None]
    blur = between(dice, 0, 1.6)
    canvas = cv2.GaussianBlur(canvas, (0, 0), blur) if blur > 0.3 else canvas
    canvas = canvas + dice.normal(0, between(dice, 0, 0.03), canvas.shape)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def _mixed(first: tuple[float, ...], second: tuple[float, ...], share: Field) -> Field:
    base = np.array(first, np.float32)
    return base + (np.array(second, np.float32) - base) * share[:, :, None]


def _laid(canvas: Field, x: Field, y: Field, side: int, dice: np.random.Generator) -> Field:
    """One more shape, soft or sharp, its surface rounded by light."""
    shape = SHAPES[int(dice.random() * len(SHAPES))]
    scale = side * between(dice, 0.06, 0.3) / measure(shape)[1]
    cosine, sine = (part / scale for part in direction(dice))
    from_x, from_y = x - between(dice, 0, side), y - between(dice, 0, side)
    distance = shape(from_x * cosine + from_y * sine, from_y * cosine - from_x * sine) * np.float32(scale)
    _, _, figure, shade = palette(dice)
    fill = _mixed(figure, shade, weave(x, y, between(dice, 5, 60), dice))
    rounded = 1 - between(dice, 0, 0.5) * np.exp(np.minimum(distance, 0) / (0.3 * scale))
    softness = between(dice, 0.7, 4.0)
    share = np.clip(0.5 - distance / softness, 0, 1)[:, :, None]
    return canvas + share * (fill * rounded[:, :, None] - canvas)


def _light(x: Field, y: Field, side: int, dice: np.random.Generator) -> Field:
    """Brightness that falls off to one side."""
    cosine, sine = direction(dice)
    slope = between(dice, 0, 0.7)
    return 1 - slope * np.clip(0.5 + ((x / side - 0.5) * cosine + (y / side - 0.5) * sine), 0, 1)
