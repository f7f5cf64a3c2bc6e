"""Shapley values of superpixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Forward
from sightline.errors import UsageError
from sightline.methods.forward._pieces import Pieces
from sightline.methods.forward._superpixels import Coalitions, Puzzle
from sightline.registry import method


@method(needs=Forward)
@dataclass(frozen=True, kw_only=True)
class KernelShap(Pieces):
    """Shapley value of each superpixel: its mean contribution to the score over all orders of revealing them.

    Lundberg, Lee, "A Unified Approach to Interpreting Model Predictions" (2017): weighted least squares over
    coalitions. Where ``samples`` suffice for all 2^S coalitions the values are exact; else coalitions are drawn by
    their Shapley weight, each with its complement (Covert, Lee 2021), and all count alike. The values always add up
    to the score of the whole image less that of the hidden one.

    Returns ``Heatmaps`` (B, H, W) float32 in units of the target's score, one value per superpixel; positive speaks
    for the target.

    Raises:
        UsageError: fewer than 2 samples, no segments, an unknown fill.
    """

    samples: int = 1000  # coalitions

    def amounts(self, oracle: Forward, puzzle: Puzzle, untouched: float) -> NDArray[np.float64]:
        if self.samples < 2:
            raise UsageError(f"samples={self.samples} must be at least 2: a coalition and its complement.")
        count = puzzle.pieces
        hidden = float(puzzle.scores(oracle, np.zeros((1, count), bool))[0])
        if count == 1:
            return np.array([untouched - hidden])
        exact = 2**count - 2 <= self.samples
        visible, weights = _every(count) if exact else _drawn(count, self.samples, self.seed)
        gains = puzzle.scores(oracle, visible) - hidden
        return _constrained(visible.astype(np.float64), weights, gains, untouched - hidden)

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image: one per coalition, the hidden image and the untouched one."""
        return self.samples + 2


def _every(count: int) -> tuple[Coalitions, NDArray[np.float64]]:
    """All coalitions but none and all, and their Shapley weights."""
    numbers = np.arange(1, 2**count - 1)
    visible = (numbers[:, None] >> np.arange(count)) & 1 == 1
    sizes = visible.sum(axis=1)
    chosen = np.array([_shares(count)[size - 1] for size in sizes])
    ways = np.bincount(sizes, minlength=count + 1)[sizes]
    return visible, chosen / ways


def _drawn(count: int, samples: int, seed: int) -> tuple[Coalitions, NDArray[np.float64]]:
    """Coalitions drawn by their Shapley weight, each followed by its complement."""
    random = np.random.default_rng(seed)
    half = samples // 2
    sizes = random.choice(np.arange(1, count), size=half, p=_shares(count))
    ranks = random.random((half, count)).argsort(axis=1).argsort(axis=1)
    visible = ranks < sizes[:, None]
    return np.concatenate([visible, ~visible]), np.ones(2 * half)


def _shares(count: int) -> NDArray[np.float64]:
    """(S - 1,) share of the Shapley weight that coalitions of each size 1 to S - 1 have together."""
    sizes = np.arange(1, count)
    weights = (count - 1) / (sizes * (count - sizes))
    return weights / weights.sum()


def _constrained(
    visible: NDArray[np.float64], weights: NDArray[np.float64], gains: NDArray[np.float64], total: float
) -> NDArray[np.float64]:
    """(S,) weighted least squares of gains on coalitions, under the constraint that the values add up to a total."""
    design = visible[:, :-1] - visible[:, -1:]  # the last value is what the others leave
    right = gains - visible[:, -1] * total
    normal = (design.T * weights) @ design
    found = np.linalg.lstsq(normal, (design.T * weights) @ right, rcond=None)[0]
    return np.append(found, total - found.sum()).astype(np.float64)
