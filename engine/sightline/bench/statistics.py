"""What is said of many timings: percentiles, spread, and how sure a median is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Latency:
    """How long queries took, in milliseconds.

    Attributes:
        p50, p90, p99: so many percent took at most this long, by nearest rank: each is a time that was measured.
        mean, most: arithmetic mean, and the longest.
        variation: standard deviation over mean.
        queries: how many were measured.
    """

    p50: float
    p90: float
    p99: float
    mean: float
    most: float
    variation: float
    queries: int

    @classmethod
    def of(cls, seconds: ArrayLike) -> Latency:
        """Of durations in seconds, at least one."""
        times = 1e3 * np.asarray(seconds, np.float64)
        half, tenth, last = (percentile(times, share) for share in (0.5, 0.9, 0.99))
        return cls(half, tenth, last, float(times.mean()), float(times.max()), variation(times), len(times))


def percentile(values: ArrayLike, share: float) -> float:
    """The smallest value that at least this share of all does not exceed (nearest rank).

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.99), percentile(range(1, 201), 0.99)
    (2.0, 4.0, 198.0)

    Raises:
        ValueError: there are no values, or the share is none.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    if not len(ordered) or not 0 < share <= 1:
        raise ValueError(f"The percentile {share} of {len(ordered)} values does not exist.")
    rank = math.ceil(round(share * len(ordered), 9))  # 0.99 * 200 is 198.00000000000003 or so
    return float(ordered[max(rank, 1) - 1])


def variation(values: ArrayLike) -> float:
    """Coefficient of variation: standard deviation (of a sample) over mean; 0 of a single value.

    >>> variation([1, 2, 3])
    0.5
    """
    array: NDArray[np.float64] = np.asarray(values, np.float64)
    return float(array.std(ddof=1) / array.mean()) if len(array) > 1 and array.mean() else 0.0


@dataclass(frozen=True)
class Spread:
    """Where repeated figures lie.

    Attributes:
        median, low, high: and the first and third quartile.
        surely_low, surely_high: the median lies between these with at least 95 % confidence, whatever the
            distribution; the extremes where there are fewer than six figures, too few for that.
        count: how many there are.
    """

    median: float
    low: float
    high: float
    surely_low: float
    surely_high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one figure."""
        ordered = np.sort(np.asarray(values, np.float64))
        low, middle, high = (float(one) for one in np.quantile(ordered, (0.25, 0.5, 0.75)))
        below = surely_below(len(ordered))
        return cls(middle, low, high, float(ordered[below]), float(ordered[len(ordered) - 1 - below]), len(ordered))

    @property
    def differs_from_one(self) -> bool:
        """Whether a ratio is told from 1 with 95 % confidence: there are enough figures, and 1 lies outside."""
        return self.count >= ENOUGH and not self.surely_low <= 1 <= self.surely_high


ENOUGH = 6  # figures from which on their extremes enclose the median with 95 % confidence: 2 * 0.5**6 < 0.05


def surely_below(count: int, risk: float = 0.05) -> int:
    """Index k such that the median lies between the k-th smallest and the k-th largest value (counted from 0).

    The number of values below the median is binomial, so that this misses with at most the probability ``risk``.

    >>> surely_below(5), surely_below(6), surely_below(20)
    (0, 0, 5)
    """
    chance, index = 0.0, 0
    for below in range(count):
        chance += 2 * math.comb(count, below) / 2**count
        if chance > risk:
            break
        index = below
    return index
