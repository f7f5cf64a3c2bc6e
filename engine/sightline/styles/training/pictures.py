"""Where training pictures come from, and what is done to them before each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from sightline.errors import BadImage, NoImages, UsageError
from sightline.image import read_image
from sightline.styles.training.collage import collage
from sightline.types import ByteArray, FloatArray

SMALLEST = 16  # pixels of a crop
ENLARGED = 1.3  # times a crop's side that the shorter side of a picture is read at, at most


class Pictures(Protocol):
    """Pictures by number."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Image.Image:
        """One of them, upright, RGB."""
        ...


@dataclass(frozen=True)
class Collages:
    """Procedural ones."""

    count: int
    seed: int = 1

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(collage(self.seed, index))


@dataclass(frozen=True)
class Files:
    """Image files. One that cannot be read is passed over for the next."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Image.Image:
        for step in range(len(self.paths)):
            try:
                return read_image(self.paths[(index + step) % len(self.paths)])
            except BadImage:
                continue
        raise NoImages(f"None of the {len(self.paths)} images can be read. Give JPEG, PNG or WebP files.")


def draw_batch(pictures: Pictures, *, count: int, crop: int, seed: int, step: int) -> FloatArray:
    """(count, 3, crop, crop) of 0 to 1 for one step, which depends on seed and step alone.

    Each picture is shrunk or enlarged until its shorter side is 1 to 1.3 crops, cut anywhere, and mirrored or not.

    Raises:
        NoImages: none can be read.
    """
    if crop < SMALLEST or crop % 4:
        raise UsageError(f"A crop of {crop} pixels must be a multiple of 4, at least {SMALLEST}.")
    dice = np.random.default_rng((seed, step))
    rows = [_crop(pictures.read(int(dice.integers(len(pictures)))), crop, dice) for _ in range(count)]
    return np.ascontiguousarray(np.moveaxis(np.stack(rows), -1, 1), np.float32) / np.float32(255)


def _crop(image: Image.Image, side: int, dice: np.random.Generator) -> ByteArray:
    factor = side * dice.uniform(1.0, ENLARGED) / min(image.size)
    width, height = (max(side, round(length * factor)) for length in image.size)
    left, top = int(dice.integers(width - side + 1)), int(dice.integers(height - side + 1))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))[top : top + side, left : left + side]
    return pixels[:, ::-1] if dice.random() < 0.5 else pixels
