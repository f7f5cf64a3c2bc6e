"""Windows, warm-up and the rule, in a time that is made up."""

from __future__ import annotations

import itertools

import pytest

from bench.made_up import MadeUpModel, MadeUpTime
from sightline.bench.comparison import interleaved
from sightline.bench.scenarios import multi_stream, offline, single_stream
from sightline.bench.stability import Rule, median_duration, rate, settled
from sightline.errors import UsageError

RULE = Rule(seconds=1.0, most=10, warm_queries=3, warm_seconds=0.5)


@pytest.mark.parametrize(
    ("figures", "agrees"),
    [
        ([], False), ([1.0, 1.0], False), ([1.0, 1.0, 1.0], True), ([1.0, 1.1, 1.05], True),
        ([1.0, 1.11, 1.0], False),
        ([9.0, 1.0, 1.0, 1.0], True), ([1.0, 1.0, 1.0, 2.0], False),
    ],
)  # fmt: skip
def test_the_last_three_within_ten_percent(figures: list[float], agrees: bool) -> None:
    assert RULE.agrees(figures) is agrees


def test_a_steady_query_is_settled_after_three_windows() -> None:
    clock = MadeUpTime()
    model = MadeUpModel(clock, lambda count: 0.125)
    found = settled(lambda: model.run(1), RULE, clock)
    assert found.stable
    assert len(model.calls) == 4 + 3 * 8, "half a second of warm-up, three windows of a second"
    assert [len(one.durations) for one in found.windows] == [8, 8, 8]
    assert found.figures == pytest.approx([0.125] * 3)
    assert found.rate == pytest.approx(8)


def test_warm_up_is_left_out_and_a_slow_beginning_is_waited_for() -> None:
    """Three slow warm-ups; then windows of 2, 4, 10, 10 and 10 queries a second: the last three count."""
    clock = MadeUpTime()
    times = [5.0] * 3 + [0.5] * 2 + [0.25] * 4 + [0.1] * 40
    model = MadeUpModel(clock, iter(times))
    found = settled(lambda: model.run(1), RULE, clock, rate)
    assert found.stable
    assert found.figures[:2] == pytest.approx((2, 4))
    assert len(found.figures) == 5
    assert found.rate == pytest.approx(10, rel=0.1)
    assert max(found.durations) == pytest.approx(0.1)


def test_what_never_settles_is_told() -> None:
    clock = MadeUpTime()
    model = MadeUpModel(clock, itertools.cycle([1.0, 2.0]))
    found = settled(lambda: model.run(1), Rule(seconds=0.5, most=7), clock)
    assert not found.stable
    assert len(found.windows) == 7
    assert len(found.counted) == 3
    figures = single_stream(MadeUpModel(clock, itertools.cycle([1.0, 2.0])), Rule(seconds=0.5, most=7), clock)
    assert not figures.stable
    assert "never stable: the last three of 7 windows" in figures.notes[0]


def test_a_query_longer_than_a_window_is_a_window() -> None:
    clock = MadeUpTime()
    found = settled(lambda: clock.sleep(40), RULE, clock)
    assert [one.durations for one in found.windows] == [(40.0,)] * 3
    assert median_duration(found.windows[0]) == 40


def test_streams_and_offline_count_images() -> None:
    clock = MadeUpTime()
    model = MadeUpModel(clock, lambda count: 0.01 + 0.005 * count)  # 15 ms alone, 50 ms for eight, 90 ms for sixteen
    alone, eight, all_ = (
        single_stream(model, RULE, clock),
        multi_stream(model, RULE, clock),
        offline(model, 16, RULE, clock),
    )
    assert set(model.calls) == {1, 8, 16}
    assert alone.latency is not None
    assert alone.latency.p90 == pytest.approx(15)
    assert alone.throughput == pytest.approx(1 / 0.015)
    assert eight.latency is not None
    assert eight.latency.p99 == pytest.approx(50)
    assert eight.throughput == pytest.approx(160)
    assert all_.throughput == pytest.approx(16 / 0.09)
    assert all_.windows == pytest.approx([16 / 0.09] * 3)


def test_two_that_drift_alike_keep_their_ratio() -> None:
    """The machine slows down fourfold meanwhile; the first takes 1.5 times as long as the second throughout."""
    clock = MadeUpTime()

    def slow() -> float:
        return 1 + clock.now() / 10

    first = MadeUpModel(clock, lambda count: 0.03 * slow())
    second = MadeUpModel(clock, lambda count: 0.02 * slow())
    found = interleaved(lambda: first.run(1), lambda: second.run(1), Rule(seconds=5.0), clock)
    assert max(found.first) > 2 * min(found.first)
    assert found.ratio.median == pytest.approx(1.5, rel=0.03)
    assert found.ratio.differs_from_one
    assert found.ratio.count == 21


def test_the_same_twice_is_no_difference() -> None:
    clock, noise = MadeUpTime(), itertools.cycle([0.9, 1.1, 1.0, 1.05, 0.95, 1.02, 0.97])
    query = MadeUpModel(clock, lambda count: 0.05 * next(noise))
    found = interleaved(lambda: query.run(1), lambda: query.run(1), RULE, clock)
    assert not found.ratio.differs_from_one


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"seconds": -1}, {"most": 2}, {"within": 0}, {"within": 1}])
def test_a_rule_that_cannot_be_kept_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        Rule(**wrong)
