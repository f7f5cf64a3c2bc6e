"""Percentiles, spread and the interval of a median, each derived another way."""

from __future__ import annotations

import itertools
import math
import statistics as standard

import numpy as np
import pytest

from sightline.bench.statistics import ENOUGH, Latency, Spread, percentile, surely_below, variation


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99, 100, 101, 1000])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(count: int, share: float) -> None:
    values = np.random.default_rng(count).standard_normal(count).round(1)  # with ties
    found = percentile(values, share)
    assert found in values
    assert (values <= found).sum() >= share * count - 1e-9
    assert (values < found).sum() < share * count


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_no_percentile_beyond_all_or_of_nothing(share: float) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        percentile([1.0], share)
    with pytest.raises(ValueError, match="does not exist"):
        percentile([], 0.5)


def test_latency_in_milliseconds() -> None:
    seconds = [one / 1000 for one in range(1, 201)]
    found = Latency.of(seconds)
    assert (found.p50, found.p90, found.p99, found.most, found.queries) == pytest.approx((100, 180, 198, 200, 200))
    assert found.mean == pytest.approx(100.5)
    assert found.variation == pytest.approx(standard.stdev(seconds) / standard.mean(seconds))


def test_variation_of_one_value_is_none() -> None:
    assert variation([3.0]) == 0
    assert Latency.of([0.25]) == Latency(250, 250, 250, 250, 250, 0, 1)


@pytest.mark.parametrize("count", [1, 5, 6, 9, 11])
def test_the_interval_holds_the_median_by_counting_all_outcomes(count: int) -> None:
    """Every value is above or below the median with equal chance: all 2**n patterns are counted."""

    def risk(index: int) -> float:
        below = [sum(pattern) for pattern in itertools.product((0, 1), repeat=count)]
        return sum(one <= index or count - one <= index for one in below) / len(below)

    index = surely_below(count)
    if count < ENOUGH:
        assert index == 0
        assert risk(0) > 0.05, "too few to be sure of anything"
        return
    assert risk(index) <= 0.05
    assert risk(index + 1) > 0.05


def test_a_ratio_is_told_from_one_only_where_it_is() -> None:
    assert not Spread.of([2.0] * 5).differs_from_one, "too few"
    assert Spread.of([2.0] * 6).differs_from_one
    assert not Spread.of([0.9, 1.1] * 10).differs_from_one
    assert Spread.of([1.02, 1.03, 1.04, 1.05, 0.99, 1.02, 1.03, 1.04]).surely_low == 0.99
    spread = Spread.of([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (spread.median, spread.low, spread.high, spread.count) == (3, 2, 4, 5)
    assert math.isclose(spread.surely_high, 5)
