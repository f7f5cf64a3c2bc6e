"""A procedural data set with ground truth: one textured shape on a textured background, drawn from two numbers.

``draw(seed, index)`` is the whole definition: the same scene on every machine, whatever was drawn before. Only the
outline tells the class; colours, textures, background, angle and size are drawn without looking at it.

``python -m sightline.demo.dataset SHEET.png`` draws a sheet of samples.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.demo.shapes import LABELS, SHAPES, Distance, Field, measure
from sightline.demo.textures import Colour, between, direction, palette, weave
from sightline.types import ByteArray, IntArray, Window

SIZE = 96  # pixels, both sides
AREA = (0.07, 0.28)  # share of the image that the object covers, before it is shrunk to fit its place
NEAREST = 24.0  # pixels from the border to the nearest centre
MARGIN = 2.0  # pixels between the object's circumscribed circle and the border
CENTRES: Field = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)  # of pixels


@dataclass(frozen=True)
class Scene:
    """One image and the truth about it.

    Attributes:
        image: (96, 96, 3) uint8, sRGB.
        mask: (96, 96) bool, pixels of which the object covers half or more.
        label: index into ``LABELS``.
        box: the smallest window that holds the mask.
    """

    image: ByteArray
    mask: NDArray[np.bool_]
    label: int
    box: Window


@dataclass(frozen=True)
class Scenes:
    """B scenes, stacked: images (B, 96, 96, 3) uint8, masks (B, 96, 96) bool, labels (B,) int64, one box each."""

    images: ByteArray
    masks: NDArray[np.bool_]
    labels: IntArray
    boxes: tuple[Window, ...]

    def __len__(self) -> int:
        return len(self.labels)


def draw(seed: int, index: int) -> Scene:
    """The scene that two numbers, both 0 or more, stand for.

    Classes take turns (``label = index % 12``), so that any twelve neighbours show every class once.
    """
    dice = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index))))
    label = index % len(LABELS)
    ground, ground_shade, figure, figure_shade = palette(dice)
    canvas = blend(ground, ground_shade, background(dice))
    window, distance = place(SHAPES[label], dice)
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    texture = weave(CENTRES[None, columns], CENTRES[rows, None], between(dice, 5, 11), dice)
    fill = blend(figure, figure_shade, texture) * relief(distance, dice)[:, :, None]
    coverage = np.clip(0.5 - distance, 0, 1)[:, :, None]
    canvas[rows, columns] += coverage * (fill - canvas[rows, columns])
    mask = np.zeros((SIZE, SIZE), bool)
    mask[rows, columns] = distance <= 0
    image = (np.clip(canvas, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return Scene(image, mask, label, bound(mask))


def blend(first: Colour, second: Colour, share: Field) -> Field:
    """Two colours mixed by the second's share (H, W) -> (H, W, 3)."""
    base = np.array(first, np.float32)
    return base + (np.array(second, np.float32) - base) * share[:, :, None]


def background(dice: np.random.Generator) -> Field:
    """Shares (96, 96) of the second background colour: a pattern, and distractors that belong to no class."""
    x, y = CENTRES[None, :], CENTRES[:, None]
    share = weave(x, y, between(dice, 9, 22), dice)
    kind = dice.random()
    if kind < 0.35:  # bokeh: ellipses without an outline, lighter or darker than what they cover
        for _ in range(3 + int(dice.random() * 5)):
            share = share + between(dice, -1.3, 1.3) * blob(x, y, dice)
    elif kind < 0.55:  # thin straight strokes from border to border
        for _ in range(2 + int(dice.random() * 4)):
            cosine, sine = direction(dice)
            off = np.abs((x - between(dice, 0, SIZE)) * cosine + (y - between(dice, 0, SIZE)) * sine)
            share = share + between(dice, -1.3, 1.3) * np.clip(between(dice, 1.0, 2.0) - off, 0, 1)
    return share


def blob(x: Field, y: Field, dice: np.random.Generator) -> Field:
    """One ellipse that fades from 1 at its centre to 0, at any angle."""
    cosine, sine = direction(dice)
    x, y = x - between(dice, 0, SIZE), y - between(dice, 0, SIZE)
    across = (x * cosine + y * sine) / between(dice, 8, 26)
    along = (y * cosine - x * sine) / between(dice, 8, 26)
    inside = np.maximum(1 - across * across - along * along, 0)
    return inside * inside


def place(shape: Distance, dice: np.random.Generator) -> tuple[Window, Field]:
    """Place, size and angle of the object: the window it touches and the distance to its outline there, in pixels.

    The place comes first, so that it cannot tell a slender class from a stout one; what does not fit there is shrunk.
    """
    area, reach = measure(shape)
    centre_x, centre_y = between(dice, NEAREST, SIZE - NEAREST), between(dice, NEAREST, SIZE - NEAREST)
    room = min(centre_x, centre_y, SIZE - centre_x, SIZE - centre_y) - MARGIN
    scale = math.sqrt(between(dice, *AREA) * SIZE * SIZE / area)  # pixels per shape unit
    scale = min(scale, room / reach)
    radius = scale * reach + MARGIN
    cosine, sine = (part / scale for part in direction(dice))
    left, top = max(0, math.floor(centre_x - radius)), max(0, math.floor(centre_y - radius))
    right, bottom = min(SIZE, math.ceil(centre_x + radius)), min(SIZE, math.ceil(centre_y + radius))
    x, y = CENTRES[None, left:right] - centre_x, CENTRES[top:bottom, None] - centre_y
    distance = shape(x * cosine + y * sine, y * cosine - x * sine) * np.float32(scale)
    return Window(top, left, bottom - top, right - left), distance


def relief(distance: Field, dice: np.random.Generator) -> Field:
    """Brightness (h, w) of the object's surface: flat, rimmed, or rounded and lit from one side."""
    kind, strength = dice.random(), between(dice, 0.25, 0.5)
    light_x, light_y = direction(dice)
    if kind < 0.3:
        return np.ones_like(distance)
    if kind < 0.6:
        return 1 - strength * np.clip(distance + 2.5, 0, 1)
    slope_y, slope_x = np.gradient(distance)
    return 1 + strength * np.clip(1 + distance / 5, 0, 1) * (slope_x * light_x + slope_y * light_y)


def bound(mask: NDArray[np.bool_]) -> Window:
    """The smallest window that holds every true pixel of a mask that has one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return Window(top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left)


def batch(seed: int, indices: Iterable[int]) -> Scenes:
    """The scenes of one seed at some indices, stacked in that order."""
    return stack([draw(seed, index) for index in indices])


def stack(scenes: Sequence[Scene]) -> Scenes:
    """Scenes in order as arrays; none at all give arrays of length 0."""
    images = np.array([scene.image for scene in scenes], np.uint8).reshape(-1, SIZE, SIZE, 3)
    masks = np.array([scene.mask for scene in scenes], bool).reshape(-1, SIZE, SIZE)
    labels = np.array([scene.label for scene in scenes], np.int64)
    return Scenes(images, masks, labels, tuple(scene.box for scene in scenes))


def write(folder: Path, seed: int, count: int) -> list[Path]:
    """Save the first ``count`` scenes of a seed as ``NNNNN_label.png``, and their masks by the same names in masks/.

    Returns:
        The images' paths, in order.
    """
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for index in range(count):
        scene = draw(seed, index)
        path = folder / f"{index:05d}_{LABELS[scene.label]}.png"
        Image.fromarray(scene.image).save(path)
        Image.fromarray(scene.mask.astype(np.uint8) * 255).save(folder / "masks" / path.name)
        paths.append(path)
    return paths


def sheet(seed: int, rows: int = 5, gap: int = 4) -> ByteArray:
    """Samples on a white sheet: one column per class, one row per turn."""
    step = SIZE + gap
    page = np.full((rows * step - gap, len(LABELS) * step - gap, 3), 255, np.uint8)
    for index in range(rows * len(LABELS)):
        top, left = (step * part for part in divmod(index, len(LABELS)))
        page[top : top + SIZE, left : left + SIZE] = draw(seed, index).image
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the sheet of samples that the README shows."""
    parser = argparse.ArgumentParser(prog="python -m sightline.demo.dataset", description=main.__doc__)
    parser.add_argument("sheet", type=Path, help="the PNG file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=5)
    choice = parser.parse_args(arguments)
    Image.fromarray(sheet(choice.seed, choice.rows)).quantize(256).save(choice.sheet, optimize=True)


if __name__ == "__main__":
    main()
