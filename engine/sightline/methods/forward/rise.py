"""Which parts of the image the score depends on, by random masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Forward
from sightline.errors import UsageError
from sightline.methods.forward._sampling import SampledHeatmaps, copies_per_run
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray
from sightline_kernels.masks.cpu import accumulate, blend, draw

MOST_CELLS = 128


@method(needs=Forward)
@dataclass(frozen=True, kw_only=True)
class Rise:
    """Mean score of the images in which a pixel is visible, over random smooth masks.

    Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models" (2018): the sum of
    masks weighted by the scores behind them, over N times the probability of being visible. Masks are made from the
    seed where they are used and never kept; mask n is the same for every image, batch and machine. With
    ``sampling="sobol"`` the cells come from a scrambled Sobol sequence, which covers the combinations more evenly;
    the standard error is then an upper bound.

    Returns ``SampledHeatmaps`` (B, H, W) float32 in units of the target's score, with the standard error per pixel
    and the masks used; larger speaks for the target. Probabilities are what the paper takes:
    ``--target "probability(281)"``.

    Raises:
        UsageError: no masks, cells or keep out of range.
    """

    masks: int = 4000  # at most, per image
    cells: int = 7  # of the grid, along each axis
    keep: float = 0.5  # probability that a cell is visible
    sampling: Literal["monte_carlo", "sobol"] = "monte_carlo"  # where the cells come from
    until: float | None = None  # stop once the mean standard error is below this share of the map's range
    seed: int = 0  # of the masks

    def run(self, oracle: Forward, images: Batch, target: Target) -> SampledHeatmaps:
        if self.masks < 1 or not 1 <= self.cells <= MOST_CELLS or not 0 < self.keep < 1 or self.seed < 0:
            raise UsageError(
                f"masks={self.masks} must be at least 1, cells={self.cells} lie in 1 to {MOST_CELLS}, "
                f"keep={self.keep} between 0 and 1, seed={self.seed} be at least 0."
            )
        bound = oracle.bind(images.tensor, target)
        found = [self._one(oracle, image, bound.target.take([row])) for row, image in enumerate(images.tensor)]
        size = images.tensor.shape[2:]
        values, errors = (
            np.array([one[part] for one in found], np.float32).reshape(len(images), *size) for part in (0, 1)
        )
        counts = np.array([one[2] for one in found], np.int64)
        return SampledHeatmaps(
            values, images.photos, bound.scores, bound.target.classes(len(images)),
            standard_errors=errors, counts=counts,
        )  # fmt: skip

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image: one per mask, and the untouched image."""
        return self.masks + 1

    def _one(self, oracle: Forward, image: FloatArray, target: Target) -> tuple[FloatArray, FloatArray, int]:
        """Map, standard error and masks used of one image (C, H, W)."""
        total, squares = np.zeros(image.shape[1:]), np.zeros(image.shape[1:])  # (H, W)
        batch = copies_per_run(image)
        buffer = np.empty((batch, *image.shape), np.float32)
        fill = np.zeros((1, 1, 1), np.float32)
        mean = error = total
        used = 0
        while used < self.masks:
            count = min(batch, self.masks - used)
            uniform = self._uniform(used, count)
            blend(image, fill, uniform, self.cells, self.keep, buffer[:count])
            scores = oracle.scores(buffer[:count], target.take([0] * count)).astype(np.float64)
            accumulate(scores, uniform, self.cells, self.keep, total, squares)
            used += count
            mean = total / (used * self.keep)
            error = np.sqrt(np.maximum(squares / (used * self.keep**2) - mean**2, 0) / used)
            if self.until is not None and used >= 2 * batch and error.mean() <= self.until * np.ptp(mean):
                break
        return mean.astype(np.float32), error.astype(np.float32), used

    def _uniform(self, first: int, count: int) -> NDArray[np.float64]:
        """(count, cells * cells + 2) numbers of masks ``first`` and following."""
        if self.sampling == "monte_carlo":
            return draw(self.seed, first, count, self.cells)
        from scipy.stats import qmc

        sequence = qmc.Sobol(self.cells**2 + 2, scramble=True, rng=self.seed)
        if first:
            sequence.fast_forward(first)
        return sequence.random(1 << (count - 1).bit_length())[:count]  # in powers of two, as the sequence is balanced
