"""The four scenarios of MLPerf Inference, for anything that images can be put through.

Single stream: one image at a time, each when the one before is done; MLPerf quotes the 90th percentile. Multi stream:
eight at a time, the 99th. Server: queries of one image arrive at random (Poisson); the highest rate at which the 99th
percentile of the latency, waiting included, keeps within a bound. Offline: everything is there at once; images a
second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sightline.bench.clock import Clock
from sightline.bench.load import Allowance, Batching, Served, poisson_arrivals, serve
from sightline.bench.result import Probe, ServerFacts
from sightline.bench.search import highest_rate
from sightline.bench.stability import Rule, Settled, rate, settled, warm_up
from sightline.bench.statistics import Latency, percentile
from sightline.bench.subject import Subject
from sightline.errors import UsageError

STREAMS = 8  # samples of a query of the multi-stream scenario
KEEPS_UP = 0.95
FEW = 100  # queries below which the 99th percentile is the slowest of them
LEAST = 20  # queries of a server's run, however slow it is
WANDERS = 4  # times the bound squared, in queries: by the root of that a full server's queue wanders, two bounds far
FULL = 0.9  # of the largest batch, in the mean: with smaller ones a server is busy and has room
GROWS = 1.25  # from one third of a run to the next and again to the last; by chance in 1 of 20 steady runs at most


@dataclass(frozen=True)
class Figures:
    """What a scenario came to; ``Measurement`` says the rest."""

    latency: Latency | None
    throughput: float  # images a second
    windows: tuple[float, ...]
    stable: bool
    server: ServerFacts | None = None
    notes: tuple[str, ...] = ()


def single_stream(subject: Subject, rule: Rule, clock: Clock) -> Figures:
    """One image at a time."""
    return _streamed(settled(lambda: subject.run(1), rule, clock), 1)


def multi_stream(subject: Subject, rule: Rule, clock: Clock) -> Figures:
    """Eight images at a time."""
    return _streamed(settled(lambda: subject.run(STREAMS), rule, clock), STREAMS)


def offline(subject: Subject, count: int, rule: Rule, clock: Clock) -> Figures:
    """Runs of ``count`` images, back to back."""
    found = settled(lambda: subject.run(count), rule, clock, rate)
    figures = tuple(count * one for one in found.figures)
    return Figures(Latency.of(found.durations), count * found.rate, figures, found.stable, notes=_unsettled(found))


def _streamed(found: Settled, images: int) -> Figures:
    latency = Latency.of(found.durations)
    notes = _unsettled(found)
    if latency.queries < FEW:
        notes += (f"the 99th percentile of {latency.queries} queries is the slowest of them",)
    return Figures(latency, images * found.rate, tuple(1e3 * one for one in found.figures), found.stable, notes=notes)


def _unsettled(found: Settled) -> tuple[str, ...]:
    if found.stable:
        return ()
    return (f"never stable: the last three of {len(found.windows)} windows do not agree",)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a server is put under.

    Attributes:
        queries: of one run; more in a search whose bound is many times what an image takes.
        longest: seconds that one run may be planned to take; fewer queries then, but at least 20.
        bound: seconds that the 99th percentile must keep in a search.
        batching: what a worker runs together.
        seed: of the arrivals.
    """

    queries: int = 200
    longest: float = 20.0
    bound: float | None = None
    batching: Batching = Batching()  # noqa: RUF009 - frozen
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < LEAST or not self.longest > 0 or self.batching.most < 1 or self.batching.wait < 0:
            raise UsageError(
                f"A server needs at least {LEAST} queries, a batch of at least 1 and a wait of at least 0; given "
                f"were {self.queries}, {self.batching.most} and {self.batching.wait} s."
            )
        if self.bound is not None and not 0 < self.bound < math.inf:
            raise UsageError(f"The bound of {1e3 * self.bound} ms must be above 0.")

    def count_at(self, rate: float, needed: int = 0) -> int:
        """Queries of a run at this rate, of which so many are needed to see what it is for."""
        return max(LEAST, min(max(self.queries, needed), int(rate * self.longest)))


class Server:
    """Workers that answer queries of one image each."""

    def __init__(self, workers: Sequence[Subject], load: Load, rule: Rule, clock: Clock):
        self._workers: list[Callable[[int], object]] = [one.run for one in workers]
        self._load, self._rule, self._clock = load, rule, clock
        for run in self._workers:
            for count in {1, load.batching.most}:
                warm_up(lambda run=run, count=count: run(count), rule, clock)

    def at(self, rate: float) -> Figures:
        """Latency under load at a rate of so many queries a second."""
        if not 0 < rate < math.inf:
            raise UsageError(f"The rate of {rate} queries a second must be above 0.")
        return self._figures(self._run(rate, self._load.count_at(rate), self._load.seed), rate)

    def highest(self, capacity: float, bound: float) -> Figures:
        """The highest rate whose 99th percentile keeps the bound (seconds), and the latency there.

        A long bound is kept for a while at a rate that nobody can keep up with: a run is long enough for its queue to
        outgrow the bound, latencies must not grow, and the workers' time for its queries must be less than theirs.

        Args:
            capacity: images a second that all workers can do at most.
            bound: seconds.
        """
        probes, last = list[Probe](), dict[float, Served]()
        needed = math.ceil(WANDERS * (bound * capacity) ** 2)

        def holds(rate: float, attempt: int) -> bool:
            count = self._load.count_at(rate, needed)
            late = count - math.ceil(round(0.99 * count, 9))  # as many may be late as the percentile leaves out
            served = self._run(rate, count, self._load.seed + attempt, Allowance(bound, late))
            kept = not served.given_up and self._lasts(served, rate)
            probes.append(Probe(rate, 1e3 * percentile(served.latencies, 0.99), len(served.finishes), kept))
            if kept:
                last[rate] = served
            return kept

        found = highest_rate(holds, capacity)
        if found is None:
            facts = ServerFacts(
                offered=0, achieved=0, busy=0, mean_batch=0, deepest=0, kept_up=False, bound=1e3 * bound,
                probes=tuple(probes),
            )  # fmt: skip
            note = f"no rate keeps 99 % of the queries within {1e3 * bound:.4g} ms"
            return Figures(None, 0.0, (), False, facts, (note,))
        figures = self._figures(last[found], found)
        assert figures.server is not None
        return replace(figures, server=replace(figures.server, bound=1e3 * bound, probes=tuple(probes)))

    def _run(self, rate: float, count: int, seed: int, allowance: Allowance | None = None) -> Served:
        arrivals = poisson_arrivals(rate, count, seed)
        return serve(self._workers, arrivals, self._clock, self._load.batching, allowance)

    def _lasts(self, served: Served, rate: float) -> bool:
        """Whether it could go on like this: no latency grows, and workers need less time for a query than it to come.

        While batches have room, being busy says nothing: they would be larger.
        """
        first, middle, last = _thirds(served)
        count = len(served.finishes)
        taken = served.busy * served.seconds / count  # seconds of all workers together, for a query in the mean
        full = count / len(served.batches) > FULL * self._load.batching.most
        grows = middle > GROWS * first and last > GROWS * middle
        return not grows and not (full and rate * taken >= 1)

    def _figures(self, served: Served, rate: float) -> Figures:
        latency, count = Latency.of(served.latencies), len(served.finishes)
        last = float(served.arrivals[-1])
        drawn, achieved = count / last, count / served.seconds  # chance draws a little more or less than the rate
        of_a_run = served.busy * served.seconds * len(self._workers) / len(served.batches)
        kept_up = KEEPS_UP * (served.seconds - of_a_run) <= last  # but for the last run, nothing was left to do
        facts = ServerFacts(
            offered=rate, achieved=achieved, busy=served.busy, mean_batch=count / len(served.batches),
            deepest=served.deepest, kept_up=kept_up,
        )  # fmt: skip
        notes = () if kept_up else (f"the queue grows: {achieved:.4g} of {drawn:.4g} queries a second were answered",)
        if count < FEW:
            notes += (f"the 99th percentile of {count} queries is the slowest of them",)
        return Figures(latency, achieved, _thirds(served), kept_up, facts, notes)


def _thirds(served: Served) -> tuple[float, ...]:
    """Median latency in milliseconds of the first, second and last third of the queries."""
    size = max(1, len(served.latencies) // 3)
    parts = [served.latencies[start : start + size] for start in range(0, 3 * size, size)]
    return tuple(1e3 * percentile(part, 0.5) for part in parts if len(part))
