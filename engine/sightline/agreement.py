"""How alike two maps of the same image are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOP = 0.05  # share of the pixels that count as the important ones


@dataclass(frozen=True)
class Agreement:
    """Of one map with another.

    Attributes:
        spearman: rank correlation over the pixels, -1 to 1.
        ssim: structural similarity, -1 to 1.
        top: intersection over union of the most important 5 % of the pixels, 0 to 1.
    """

    spearman: float
    ssim: float
    top: float


def agreement(map_: NDArray[np.float32], other: NDArray[np.float32]) -> Agreement:
    """Of two maps (H, W); two constant maps agree wholly, a constant one with another not at all."""
    flat = map_.ravel().astype(np.float64), other.ravel().astype(np.float64)
    if not (np.ptp(flat[0]) and np.ptp(flat[1])):
        same = float(np.array_equal(*flat))
        return Agreement(same, same, same)
    return Agreement(spearman(*flat), _structural_similarity(map_, other), top_overlap(*flat))


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Rank correlation; ties share their mean rank."""
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def top_overlap(one: NDArray[np.float64], other: NDArray[np.float64], share: float = TOP) -> float:
    """Intersection over union of the largest values, this share of all."""
    count = max(1, round(share * one.size))
    chosen = [set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (one, other)]
    return len(chosen[0] & chosen[1]) / len(chosen[0] | chosen[1])


def _structural_similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    from skimage.metrics import structural_similarity

    span = float(max(one.max(), other.max()) - min(one.min(), other.min()))
    side = min(7, min(one.shape) - (1 - min(one.shape) % 2))
    return float(np.asarray(structural_similarity(one, other, data_range=span, win_size=max(side, 3))))
