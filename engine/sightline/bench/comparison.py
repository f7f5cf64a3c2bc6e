"""Two subjects interleaved in one run, so that what disturbs one disturbs the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sightline.bench.clock import Clock
from sightline.bench.stability import Rule, warm_up
from sightline.bench.statistics import Spread

BLOCKS = 21  # of each subject
LONG_QUERY = 0.05  # seconds: blocks of shorter queries hold several


@dataclass(frozen=True)
class Interleaved:
    """Seconds of a query, block by block.

    Attributes:
        first, second: (blocks,) mean seconds of a query in each block of a subject.
        durations: of every query of both, in seconds.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    durations: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def ratio(self) -> Spread:
        """How many times longer the first took than the second, pair by pair of blocks."""
        return Spread.of([one / other for one, other in zip(self.first, self.second, strict=True)])


def interleaved(
    first: Callable[[], object], second: Callable[[], object], rule: Rule, clock: Clock, *, blocks: int = BLOCKS
) -> Interleaved:
    """Run two queries in turn, in pairs of short blocks whose order alternates: AB, BA, AB, …

    A block lasts about as long for both. What drifts slowly hits both alike, and who goes first in a pair, with the
    caches that the other left behind, changes every time.

    Args:
        first: a query.
        second: the other.
        rule: how long to warm up; all blocks together last about twice three of its windows.
        clock: the time.
        blocks: of each.
    """
    sizes = list[int]()
    for query in (first, second):
        warm_up(query, rule, clock)
        start = clock.now()
        query()
        share = 3 * rule.seconds / blocks
        sizes.append(max(1, math.floor(max(share, LONG_QUERY) / max(clock.now() - start, 1e-9))))
    queries, times = (first, second), (list[list[float]](), list[list[float]]())
    for block in range(blocks):
        for place in (0, 1) if block % 2 == 0 else (1, 0):
            times[place].append(_block(queries[place], sizes[place], clock))
    means = [tuple(sum(one) / len(one) for one in each) for each in times]
    every = [tuple(one for part in each for one in part) for each in times]
    return Interleaved(means[0], means[1], (every[0], every[1]))


def _block(query: Callable[[], object], count: int, clock: Clock) -> list[float]:
    durations = list[float]()
    before = clock.now()
    for _ in range(count):
        query()
        after = clock.now()
        durations.append(after - before)
        before = after
    return durations
