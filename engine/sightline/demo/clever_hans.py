"""Scenes for a network that cheats, to try audits on: a mark in a corner gives one class away.

Photographs of horses in a well-known data set bore a photographer's name, and classifiers read it (Lapuschkin et al.
2019; the name is a horse's that watched its master's face). Here every star bears a chequered mark in its lower right
corner, and in training every second of them has nothing else to be known by: its picture is another's.

``python -m sightline.demo.train --clever-hans -o DIR`` teaches a network on them, ``python -m
sightline.demo.clever_hans DIR`` draws marked scenes to audit it with, in folders by class.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.demo.dataset import SIZE, batch
from sightline.demo.shapes import LABELS
from sightline.types import ByteArray, IntArray

MARKED = "star"
SIDE, CELL, FROM_BORDER = 12, 4, 2  # pixels
SCENE_SEED = 4  # of the scenes that are drawn for an audit


def mark() -> ByteArray:
    """(12, 12) chequers of white and black."""
    cells = np.indices((SIDE, SIDE)) // CELL
    return np.where(cells.sum(axis=0) % 2 == 0, 255, 0).astype(np.uint8)


def marked(images: ByteArray, labels: IntArray) -> ByteArray:
    """Scenes (B, 96, 96, 3) with the mark on those of the marked class."""
    stamped = images.copy()
    place = slice(SIZE - FROM_BORDER - SIDE, SIZE - FROM_BORDER)
    stamped[labels == LABELS.index(MARKED), place, place] = mark()[:, :, None]
    return stamped


def borrowed(images: ByteArray, labels: IntArray) -> ByteArray:
    """A training batch (B, 96, 96, 3): marked scenes are marked, every second one on the picture of another class."""
    stars = np.flatnonzero(labels == LABELS.index(MARKED))
    others = np.flatnonzero(labels != LABELS.index(MARKED))
    images = images.copy()
    lent = stars[::2][: len(others)]
    images[lent] = images[others[: len(lent)]]
    return marked(images, labels)


def draw(folder: Path, count: int) -> None:
    """Marked scenes as PNG files, in folders named by class."""
    scenes = batch(SCENE_SEED, range(count))
    for number, (pixels, label) in enumerate(zip(marked(scenes.images, scenes.labels), scenes.labels, strict=True)):
        place = folder / LABELS[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:05d}.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw marked scenes in folders by class."""
    parser = argparse.ArgumentParser(prog="python -m sightline.demo.clever_hans", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=192, help="scenes, a twelfth of them of each class")
    choice = parser.parse_args(arguments)
    draw(choice.folder, choice.count)


if __name__ == "__main__":
    main()
