"""A network whose scores are straight lines over pixel values: what an attack can reach is arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from problems import Problem, linear
from sightline.preprocess import Preprocess
from sightline.types import Batch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Straight:
    """Pixels of 0 to 255 are -5 to 5 to the network.

    Attributes:
        slopes: (K, D) of each logit per pixel value, pixels in the order (C, H, W).
        heights: (K,) logits of the black picture.
    """

    problem: Problem
    slopes: Array
    heights: Array

    @classmethod
    def of(cls, **options: Any) -> Straight:
        """A linear problem; its slopes by switching on one pixel after the other."""
        problem = linear(**options)
        size = int(np.prod(problem.shape))
        pictures = np.concatenate([np.zeros((1, size)), np.eye(size)]) / 25.5 - 5
        logits = problem.logits(pictures.reshape(-1, *problem.shape))  # (1 + D, K)
        return cls(problem, (logits[1:] - logits[:1]).T, logits[0])

    @property
    def preprocess(self) -> Preprocess:
        channels, *size = self.problem.shape
        return Preprocess(
            resize=None, crop=(size[0], size[1]), mean=(0.5,) * channels, std=(0.1,) * channels,
            channels="RGB" if channels == 3 else "L",
        )  # fmt: skip

    def pictures(self, seed: int, count: int = 6, low: int = 40, high: int = 216) -> NDArray[np.uint8]:
        """(count, H, W, 3) random, away from black and white so that nothing is cut off."""
        channels, *size = self.problem.shape
        drawn = np.random.default_rng(seed).integers(low, high, (count, *size, channels), dtype=np.uint8)
        return np.repeat(drawn, 3 // channels, axis=-1)

    def batch(self, pictures: NDArray[np.uint8]) -> Batch:
        return Batch.of(self.preprocess.normalise(pictures))

    def flat(self, pictures: NDArray[np.uint8]) -> Array:
        """(B, D) pixel values."""
        planes = np.moveaxis(pictures[..., : self.problem.shape[0]], -1, 1)
        return planes.reshape(len(planes), -1).astype(np.float64)

    def logits(self, pictures: NDArray[np.uint8]) -> Array:
        """(B, K)."""
        return self.flat(pictures) @ self.slopes.T + self.heights
