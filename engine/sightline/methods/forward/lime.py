"""A linear model of the score near the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Forward
from sightline.errors import UsageError
from sightline.methods.forward._pieces import Pieces
from sightline.methods.forward._superpixels import Puzzle
from sightline.registry import method


@method(needs=Forward)
@dataclass(frozen=True, kw_only=True)
class Lime(Pieces):
    """Weight of each superpixel in a linear model of the score, fitted near the image.

    Ribeiro, Singh, Guestrin, "Why Should I Trust You?" (2016): superpixels are hidden at random, each with
    probability 1/2; samples weigh exp(-d^2 / width^2), d the cosine distance from the whole image; ridge regression
    with an intercept. The whole image is always among the samples.

    Returns ``Heatmaps`` (B, H, W) float32 in units of the target's score, one value per superpixel; positive speaks
    for the target.

    Raises:
        UsageError: no samples, a width or ridge that is not positive, no segments, an unknown fill.
    """

    samples: int = 500  # images with superpixels hidden
    kernel_width: float = 0.25  # of the weights, in cosine distance
    ridge: float = 1.0  # penalty on squared weights

    def amounts(self, oracle: Forward, puzzle: Puzzle, untouched: float) -> NDArray[np.float64]:
        if self.samples < 1 or self.kernel_width <= 0 or self.ridge < 0:
            raise UsageError(
                f"samples={self.samples} must be at least 1, kernel_width={self.kernel_width} above 0, "
                f"ridge={self.ridge} at least 0."
            )
        visible = np.random.default_rng(self.seed).random((self.samples, puzzle.pieces)) < 0.5
        visible[0] = True
        scores = puzzle.scores(oracle, visible)
        distance = 1 - np.sqrt(visible.mean(axis=1))  # cosine of a 0/1 vector with all ones
        weights = np.exp(-np.square(distance / self.kernel_width))
        centre = np.average(visible, axis=0, weights=weights)
        design = visible - centre  # centred, so that the intercept is not penalised
        normal = (design.T * weights) @ design + self.ridge * np.eye(puzzle.pieces)
        right = (design.T * weights) @ (scores - np.average(scores, weights=weights))
        return np.linalg.lstsq(normal, right, rcond=None)[0]

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image: one per sample, and the untouched image."""
        return self.samples + 1
