"""Two subjects interleaved in one run, so that what disturbs one disturbs the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sightline.bench.clock import Clock
from sightline.bench.stability import Rule, warm_up
from sightline.bench.statistics import ENOUGH, Spread

ROUNDS = 21  # of ABBA
LONG_QUERY = 0.025  # seconds: blocks of shorter queries hold several


@dataclass(frozen=True)
class Interleaved:
    """Seconds of a query, round by round.

    Attributes:
        first, second: (rounds,) mean seconds of a query in each round.
        durations: of every query of both, in seconds.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    durations: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def ratio(self) -> Spread:
        """How many times longer the first took than the second, round by round."""
        return Spread.of([one / other for one, other in zip(self.first, self.second, strict=True)])


def interleaved(
    first: Callable[[], object], second: Callable[[], object], rule: Rule, clock: Clock, *, rounds: int = ROUNDS
) -> Interleaved:
    """Run two queries in turn, in rounds of four short blocks: first, second, second, first.

    What drifts steadily hits both alike within a round, and each comes after the other and after itself. Blocks last
    about as long for both.

    Args:
        first: a query.
        second: the other.
        rule: how long: all blocks of a query last about three of its windows, and long queries take no more than all
            of its windows, for which there are fewer rounds, but at least seven.
        clock: the time.
        rounds: at most.
    """
    queries = first, second
    alone = [_seconds(query, rule, clock) for query in queries]
    share = max(3 * rule.seconds / (2 * rounds), LONG_QUERY)
    sizes = [max(1, math.floor(share / one)) for one in alone]
    affordable = int(rule.most * rule.seconds / max(2 * size * one for size, one in zip(sizes, alone, strict=True)))
    times = (list[list[float]](), list[list[float]]())
    for _ in range(min(rounds, max(ENOUGH + 1, affordable))):
        blocks = [_block(queries[place], sizes[place], clock) for place in (0, 1, 1, 0)]
        times[0].append(blocks[0] + blocks[3])
        times[1].append(blocks[1] + blocks[2])
    means = [tuple(sum(one) / len(one) for one in each) for each in times]
    every = [tuple(one for part in each for one in part) for each in times]
    return Interleaved(means[0], means[1], (every[0], every[1]))


def _seconds(query: Callable[[], object], rule: Rule, clock: Clock) -> float:
    """Of one query, warmed up."""
    warm_up(query, rule, clock)
    start = clock.now()
    query()
    return max(clock.now() - start, 1e-9)


def _block(query: Callable[[], object], count: int, clock: Clock) -> list[float]:
    durations = list[float]()
    before = clock.now()
    for _ in range(count):
        query()
        after = clock.now()
        durations.append(after - before)
        before = after
    return durations
