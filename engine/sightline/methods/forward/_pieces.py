"""The skeleton of methods that explain by superpixels; they differ in how amounts follow from scores."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Forward
from sightline.methods.forward._fill import filling
from sightline.methods.forward._superpixels import Puzzle, superpixels
from sightline.target import Target
from sightline.types import Batch, Heatmaps


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """One amount per superpixel of each image."""

    segments: int = 50  # superpixels, about
    compactness: float = 0.1  # of superpixels: larger is squarer
    fill: float | str = 0.0  # model input: number or c,c,c; or mean, blur, noise, or an image's path
    seed: int = 0  # of samples, and of noise that fills

    def run(self, oracle: Forward, images: Batch, target: Target) -> Heatmaps:
        bound = oracle.bind(images.tensor, target)
        fills = np.broadcast_to(filling(self.fill, self.seed, images.tensor, oracle), images.tensor.shape)
        values = np.zeros((len(images), *images.tensor.shape[2:]), np.float32)
        for row, image in enumerate(images.tensor):
            numbers = superpixels(image, self.segments, self.compactness)
            puzzle = Puzzle(image, numbers, fills[row], bound.target.take([row]))
            values[row] = puzzle.painted(self.amounts(oracle, puzzle, float(bound.scores[row])))
        return Heatmaps(values, images.photos, bound.scores, bound.target.classes(len(images)))

    @abstractmethod
    def amounts(self, oracle: Forward, puzzle: Puzzle, untouched: float) -> NDArray[np.float64]:
        """(S,) what each superpixel is worth, in units of the score; ``untouched`` is that of the whole image."""
