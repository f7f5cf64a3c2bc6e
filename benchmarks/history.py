"""What was measured of the same thing on the same device over time, and whether the last run fell behind."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from recording import OURS, QUIET, Row

HIGHER = ("throughput", "speed-up", "times dense")  # metrics by what is better; of any other nothing is judged
LOWER = ("wall time", "time", "peak memory")
SHARE = 0.05  # a smaller change is none, however quiet the machine was
SURE = 2.0  # standard deviations of both runs together that a change must exceed
BEFORE = 5  # earlier runs that the last one is held against
IQR = 1.349  # interquartile range of a normal distribution in standard deviations

Verdict = Literal["regression", "improvement", "steady", "disturbed", "machine", "first", "not judged"]
MEANING: dict[Verdict, str] = {
    "regression": "worse than before, beyond the noise",
    "improvement": "better than before, beyond the noise",
    "steady": "no change that could be told from noise",
    "disturbed": f"others used more than {QUIET:.0%} of the machine: measure again",
    "machine": "the peer beside it changed alike: the machine did, not we",
    "first": "measured once, nothing to hold it against",
    "not judged": "no metric of speed",
}


@dataclass(frozen=True)
class Series:
    """One subject of one case on one device, oldest first.

    Attributes:
        rows: its measurements.
        peers: rows of the peer that each of them is held against, None where there is none.
        share: what a change must exceed at least.
    """

    rows: tuple[Row, ...]
    peers: tuple[Row | None, ...]
    share: float = SHARE

    @property
    def last(self) -> Row:
        """The newest measurement."""
        return self.rows[-1]

    @property
    def title(self) -> str:
        """Case and, if it is not throughput, the metric."""
        return self.last.case + ("" if self.last.metric == "throughput" else f" · {self.last.metric}")

    @cached_property
    def before(self) -> tuple[Row, ...]:
        """What the last one is held against: the latest earlier runs that nobody disturbed, else all of them."""
        earlier = self.rows[:-1]
        quiet = [row for row in earlier if not is_disturbed(row)]
        return tuple((quiet or list(earlier))[-BEFORE:])

    @property
    def reference(self) -> float | None:
        """Median of the runs before."""
        return statistics.median(row.value for row in self.before) if self.before else None

    @property
    def change(self) -> float | None:
        """Relative to the reference, positive where it is better."""
        return None if self.reference is None else self._better(self.last.value, self.reference)

    @property
    def relative(self) -> float | None:
        """The same of the ratio to the peer, where it was the same peer throughout."""
        ratios = [row.ratio for row in self.before if row.ratio and row.ratio_to == self.last.ratio_to]
        if not self.last.ratio or not ratios:
            return None
        return self.last.ratio / statistics.median(ratios) - 1

    @property
    def floor(self) -> float:
        """Relative change that noise alone can make: twice the standard deviation of both, by their quartiles.

        That of the runs before is the larger of what one run spreads and what the runs differ from each other.
        """
        inner = statistics.median([_deviation(row) for row in self.before] or [0.0])
        values = sorted(row.value for row in self.before)
        outer = 0.0
        if len(values) >= 3 and self.reference:
            low, _, high = statistics.quantiles(values, n=4, method="inclusive")
            outer = (high - low) / IQR / abs(self.reference)
        return SURE * math.hypot(_deviation(self.last), max(inner, outer))

    @property
    def threshold(self) -> float:
        """What a change must exceed to count."""
        return max(self.share, self.floor)

    @property
    def verdict(self) -> Verdict:
        """Whether the last run fell behind."""
        if self.last.metric not in (*HIGHER, *LOWER) or self.last.subject != OURS:
            return "not judged"
        if self.change is None:
            return "first"
        if abs(self.change) <= self.threshold:
            return "steady"
        if is_disturbed(self.last):
            return "disturbed"
        if self.relative is not None and (abs(self.relative) <= self.threshold or self.relative * self.change < 0):
            return "machine"
        return "regression" if self.change < 0 else "improvement"

    def _better(self, value: float, reference: float) -> float:
        if not reference or not value:
            return 0.0
        return reference / value - 1 if self.last.metric in LOWER else value / reference - 1


def is_disturbed(row: Row) -> bool:
    """Whether others used the machine."""
    return row.others is not None and row.others > QUIET


def series_of(rows: Iterable[Row], *, share: float = SHARE, since: str = "") -> list[Series]:
    """Our own series, in the order of device, benchmark and case.

    Args:
        rows: of any tables, each in the order of measuring.
        share: what a change must exceed at least.
        since: ISO date; earlier rows are left out, so that a change that was meant is forgotten.
    """
    kept = [row for row in rows if row.date >= since]
    peers = {(row.device, row.date, row.benchmark, row.case, row.subject): row for row in kept}
    found = dict[tuple[object, ...], list[Row]]()
    for row in sorted(kept, key=lambda row: row.date):
        if row.subject == OURS:
            key = (row.device, row.benchmark, row.case, row.metric, row.unit, row.threads)
            found.setdefault(key, []).append(row)
    ordered = sorted(found.items(), key=lambda entry: tuple(map(str, entry[0])))
    return [
        Series(
            tuple(of),
            tuple(peers.get((row.device, row.date, row.benchmark, row.case, row.ratio_to)) for row in of),
            share,
        )
        for _, of in ordered
    ]


def worst_first(series: Sequence[Series]) -> list[Series]:
    """Regressions, the largest first."""
    fallen = [one for one in series if one.verdict == "regression"]
    return sorted(fallen, key=lambda one: one.change or 0)


def _deviation(row: Row) -> float:
    """Relative standard deviation of the rounds of one run, by its quartiles."""
    return (row.high - row.low) / IQR / abs(row.value) if row.value else 0.0
