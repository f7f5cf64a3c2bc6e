"""When a figure is settled: warm-up, windows, and the rule that the last three agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sightline.bench.clock import Clock
from sightline.bench.statistics import percentile
from sightline.errors import UsageError

LAST = 3  # windows that have to agree


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How long something is measured.

    Attributes:
        seconds: of a window, at least; it ends with the query during which they pass.
        most: windows after which nobody waits for agreement any more.
        within: the largest of the last three may exceed the smallest by this share.
        warm_queries, warm_seconds: what is run before anything counts, at least.
    """

    seconds: float = 1.0
    most: int = 10
    within: float = 0.1
    warm_queries: int = 3
    warm_seconds: float = 0.5

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.most < LAST or not 0 < self.within < 1:
            raise UsageError(
                f"seconds={self.seconds} must be above 0, windows={self.most} at least {LAST}, and "
                f"within={self.within} between 0 and 1."
            )

    def agrees(self, figures: Sequence[float]) -> bool:
        """Whether the last three of these lie within the share of each other."""
        last = figures[-LAST:]
        return len(last) == LAST and max(last) <= (1 + self.within) * min(last)


@dataclass(frozen=True)
class Window:
    """A stretch of queries, one after the other.

    Attributes:
        durations: of each query, in seconds.
        seconds: from the first one's beginning to the last one's end.
    """

    durations: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Settled:
    """What was measured, window by window.

    Attributes:
        windows: all of them, in order.
        figures: what the rule compared, one for each window.
        stable: whether the last three agreed in the end.
    """

    windows: tuple[Window, ...]
    figures: tuple[float, ...]
    stable: bool

    @property
    def counted(self) -> tuple[Window, ...]:
        """The windows that a figure is made of: the last three."""
        return self.windows[-LAST:]

    @property
    def durations(self) -> list[float]:
        """Of the queries that count, in seconds."""
        return [one for window in self.counted for one in window.durations]

    @property
    def rate(self) -> float:
        """Queries per second, over the windows that count."""
        return len(self.durations) / sum(window.seconds for window in self.counted)


def median_duration(window: Window) -> float:
    """The figure of a scenario of latencies, in seconds."""
    return percentile(window.durations, 0.5)


def rate(window: Window) -> float:
    """The figure of a scenario of throughput: queries per second."""
    return len(window.durations) / window.seconds


def settled(
    query: Callable[[], object], rule: Rule, clock: Clock, figure: Callable[[Window], float] = median_duration
) -> Settled:
    """Run a query again and again: warm up, then window after window until the last three agree.

    Args:
        query: run back to back, each when the one before has ended.
        rule: how long.
        clock: the time.
        figure: of a window, what has to agree.
    """
    warm_up(query, rule, clock)
    windows, figures = list[Window](), list[float]()
    while len(windows) < rule.most and not rule.agrees(figures):
        windows.append(_window(query, rule.seconds, clock))
        figures.append(figure(windows[-1]))
    return Settled(tuple(windows), tuple(figures), rule.agrees(figures))


def warm_up(query: Callable[[], object], rule: Rule, clock: Clock) -> None:
    """Run it until allocations, code paths and clocks are those of a long run."""
    start, runs = clock.now(), 0
    while runs < rule.warm_queries or clock.now() - start < rule.warm_seconds:
        query()
        runs += 1


def _window(query: Callable[[], object], seconds: float, clock: Clock) -> Window:
    durations = list[float]()
    start = before = clock.now()
    while before - start < seconds:
        query()
        after = clock.now()
        durations.append(after - before)
        before = after
    return Window(tuple(durations), before - start)
