"""Subjects measured side by side, and the table that keeps their figures."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine

import sightline
from sightline import heap

OURS = "sightline"
QUIET = 0.1  # share of the machine that others may use before a figure is called disturbed


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of ``results/<device>.csv``; README.md says what each column means."""

    date: str
    device: str
    processor: str
    cores: int
    threads: int
    sightline: str
    commit: str
    torch: str
    onnxruntime: str
    captum: str
    numpy: str
    benchmark: str
    case: str
    subject: str
    metric: str
    unit: str
    value: float
    low: float
    high: float
    rounds: int
    ratio_to: str
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    others: float | None
    command: str

    @property
    def is_claim(self) -> bool:
        """Whether it compares its subject with a peer."""
        return bool(self.ratio_to)


@dataclass(frozen=True)
class Session:
    """What is the same for every row of one run of the benchmarks."""

    date: str
    device: str
    cores: int
    threads: int
    versions: Mapping[str, str]
    commit: str
    command: str
    rounds: int
    results: Path
    processor: str = "cpu"

    @classmethod
    def begin(cls, *, threads: int, rounds: int, results: Path, command: str) -> Session:
        """Read the clock and the machine."""
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cls(
            date, machine.device(), machine.cores(), threads, machine.versions(), machine.commit(), command, rounds,
            results,
        )  # fmt: skip

    @property
    def path(self) -> Path:
        """The device's table."""
        return self.results / f"{self.device}.csv"

    def row(self, **figures: Any) -> Row:
        """A row with this session's columns filled in."""
        return Row(
            date=self.date, device=self.device, processor=self.processor, cores=self.cores, threads=self.threads,
            sightline=sightline.__version__, commit=self.commit, **self.versions, command=self.command, **figures,
        )  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Seconds of each round of one subject."""

    seconds: Sequence[float]

    def quartiles(self, work: float | None) -> tuple[float, float, float]:
        """Median, low and high of the work per second, or of the seconds themselves where there is no work."""
        return quartiles([one if work is None else work / one for one in self.seconds])

    def over(self, other: Timing) -> tuple[float, float, float]:
        """Median, low and high of how many times longer this took than another, round by round."""
        return quartiles([mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True)])


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, first and third quartile.

    >>> quartiles([5.0, 1.0, 2.0, 4.0, 3.0])
    (3.0, 2.0, 4.0)
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


class Race:
    """Runs subjects in turn, round after round, so that whatever disturbs one disturbs all."""

    def __init__(self, session: Session, benchmark: Any, name: str):
        self._session, self._benchmark, self._name = session, benchmark, name

    def __call__(
        self,
        ours: Callable[[], object],
        peers: Mapping[str, Callable[[], object]],
        *,
        case: str,
        metric: str,
        unit: str,
        work: float | Mapping[str, float] | None = None,
    ) -> list[Row]:
        """Measure, append the rows to the device's table and return them.

        Args:
            ours: what pytest-benchmark times; already run once, as the peers are.
            peers: timed in its set-up, before each of its rounds.
            case: model, sizes and settings, in words.
            metric: what ``value`` is.
            unit: of ``value``.
            work: what one call does, in the unit's numerator, the same for all or by subject; None records seconds.
        """
        seconds: dict[str, list[float]] = {name: [] for name in peers}

        def run_peers() -> None:
            heap.give_back()  # a peer finds the heap as in a process of its own
            for name, peer in peers.items():
                seconds[name].append(elapsed(peer))

        disturbance = machine.Disturbance.begin()
        self._benchmark.pedantic(ours, setup=run_peers, rounds=self._session.rounds)
        if self._benchmark.stats is None:  # --benchmark-disable: each subject has run once, and nothing was timed
            return []
        others = disturbance.share()
        timings = {OURS: Timing(self._benchmark.stats.stats.data)}
        timings |= {name: Timing(times) for name, times in seconds.items()}
        if isinstance(work, Mapping):  # from here on, seconds of one unit
            timings = {name: Timing([one / work[name] for one in timing.seconds]) for name, timing in timings.items()}
        unit_work = 1.0 if isinstance(work, Mapping) else work
        best = min(peers, key=lambda name: statistics.median(timings[name].seconds))
        rows: list[Row] = []
        for subject, timing in timings.items():
            value, low, high = timing.quartiles(unit_work)
            claim = timings[best].over(timing) if subject == OURS else (None, None, None)
            rows.append(
                self._session.row(
                    benchmark=self._name, case=case, subject=subject, metric=metric, unit=unit,
                    value=value, low=low, high=high, rounds=len(timing.seconds),
                    ratio_to=best if subject == OURS else "", ratio=claim[0], ratio_low=claim[1],
                    ratio_high=claim[2], others=others,
                )
            )  # fmt: skip
        append(self._session.path, rows)
        return rows


def elapsed(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def append(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to a table, which is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in asdict(row).items()} for row in rows)


def read(path: Path) -> list[Row]:
    """The rows of a table, in the order in which they were measured."""
    readers: dict[str, Callable[[str], Any]] = {
        "str": str, "int": int, "float": float, "float | None": lambda text: float(text) if text else None
    }  # fmt: skip
    kinds = {field.name: readers[str(field.type)] for field in fields(Row)}
    with path.open(newline="") as file:
        lines = csv.DictReader(file)
        if list(lines.fieldnames or ()) != list(kinds):
            raise SystemExit(f"{path} has the columns {lines.fieldnames}; one schema holds: {list(kinds)}.")
        return [Row(**{name: kinds[name](text) for name, text in line.items()}) for line in lines]


def _cell(value: Any) -> Any:
    """Six digits: more than any of these clocks can tell apart."""
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value
