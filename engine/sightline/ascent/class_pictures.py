"""Pictures that were made for a class, judged by the model as it is deployed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.abilities import Forward
from sightline.ascent.loop import Ascended
from sightline.ascent.pixels import pixel_values, rounded
from sightline.image import encode_png
from sightline.preprocess import Preprocess
from sightline.target import Target
from sightline.types import ByteArray, FloatArray, IntArray, Photo, Provenance

SHIFTS = (-8, -4, 0, 4, 8)  # pixels along each axis


@dataclass(frozen=True)
class ClassPictures:
    """Pictures made for classes or units.

    Attributes:
        values: (N, H, W, 3) float32 sRGB, 0 to 255, before rounding.
        classes: the class that each was made for, or None where the target names no single one.
        seeds: (N,) int64.
        scores: (N,) float32, the target's on ONNX Runtime after rounding to 8 bits.
        probabilities: (N,) float32 of the class, likewise; NaN where there is none.
        shifted_probabilities: (N,) float32, their mean over the 24 shifts by up to 8 pixels, borders repeated.
        history: (N, n) float32, the score before each step, penalties taken off.
        stopped: (N,) int64, 1 where an interrupt ended the ascent early.
    """

    values: FloatArray
    classes: tuple[int | None, ...]
    seeds: IntArray
    scores: FloatArray
    probabilities: FloatArray
    shifted_probabilities: FloatArray
    history: FloatArray
    stopped: IntArray
    photos: tuple[Photo, ...] = ()
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def pictures(self) -> ByteArray:
        """(N, H, W, 3) uint8 sRGB, as they were judged."""
        return rounded(self.values)

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Class, seed and what ONNX Runtime says of each picture."""
        return {
            "target_class": list(self.classes),
            "seed": [int(seed) for seed in self.seeds],
            "score": [float(score) for score in self.scores],
            "probability": [_known(value) for value in self.probabilities],
            "shifted_probability": [_known(value) for value in self.shifted_probabilities],
            "stopped": [bool(stopped) for stopped in self.stopped],
        }

    def files(self, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """One PNG per picture under ``pictures/``, named for its class and seed, else its row."""
        for row, (index, seed, picture) in enumerate(zip(self.classes, self.seeds, self.pictures, strict=True)):
            name = f"row_{row:04d}" if index is None else f"class_{index:04d}_seed_{seed}"
            yield f"pictures/{name}.png", encode_png(picture)


def verified(
    forward: Forward, preprocess: Preprocess, end: Ascended, target: Target, seeds: IntArray
) -> ClassPictures:
    """The pictures where an ascent ended, with what the forward route says of them.

    Args:
        forward: judges.
        preprocess: of the model.
        end: N rows.
        target: bound, one choice per row.
        seeds: (N,).
    """
    pixels = preprocess.to_pixels(end.images)  # (N, H, W, 3)
    shown = preprocess.normalise(pixels)
    classes = target.classes(len(pixels))
    chances = np.full((len(SHIFTS) ** 2, len(pixels)), np.nan, np.float32)
    moves = [(down, right) for down in SHIFTS for right in SHIFTS]
    if None not in classes:
        for row, move in enumerate(moves):
            chances[row] = _probabilities(forward, _shifted(shown, *move), classes)
    centre = moves.index((0, 0))
    return ClassPictures(
        values=pixel_values(preprocess, end.images),
        classes=classes,
        seeds=seeds,
        scores=forward.scores(shown, target),
        probabilities=chances[centre],
        shifted_probabilities=np.delete(chances, centre, axis=0).mean(axis=0),
        history=end.history,
        stopped=end.stopped.astype(np.int64),
    )


def _probabilities(forward: Forward, images: FloatArray, classes: Sequence[int | None]) -> FloatArray:
    """(N,) of each image's class."""
    chances = forward.activated(forward.logits(images))  # (N, K)
    return chances[np.arange(len(images)), [index or 0 for index in classes]]


def _shifted(images: FloatArray, down: int, right: int) -> FloatArray:
    """(N, C, H, W) moved; the pixels of the border fill what comes in."""
    rows = np.clip(np.arange(images.shape[2]) - down, 0, images.shape[2] - 1)
    columns = np.clip(np.arange(images.shape[3]) - right, 0, images.shape[3] - 1)
    return np.ascontiguousarray(images[:, :, rows][:, :, :, columns])


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
