"""Which superpixels the score depends on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Forward
from sightline.methods.forward._pieces import Pieces
from sightline.methods.forward._superpixels import Puzzle
from sightline.registry import method


@method(needs=Forward)
@dataclass(frozen=True, kw_only=True)
class SuperpixelOcclusion(Pieces):
    """Fall of the target's score when a superpixel of the image is hidden.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (2014), with windows that follow the image:
    superpixels by SLIC (Achanta et al. 2012).

    Returns ``Heatmaps`` (B, H, W) float32 in units of the target's score, one value per superpixel; positive where
    hiding lowers it.

    Raises:
        UsageError: no segments, an unknown fill.
    """

    def amounts(self, oracle: Forward, puzzle: Puzzle, untouched: float) -> NDArray[np.float64]:
        return untouched - puzzle.scores(oracle, ~np.eye(puzzle.pieces, dtype=bool))

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image: one per superpixel, and the untouched image."""
        return self.segments + 1
