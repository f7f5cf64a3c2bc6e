"""What was measured, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sightline.bench.statistics import Latency, Spread

Scenario = Literal["single-stream", "multi-stream", "server", "offline"]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """How something ran.

    Attributes:
        model: file name.
        precision: what it is called: "fp32", "fp16", "int8" or a name that was given.
        device: "cpu", "cuda" or "tensorrt".
        threads: of one operator; None is all physical cores.
        batch: images per run of the network; None is found by measuring.
        workers: sessions that run at the same time.
    """

    model: str
    precision: str
    device: str
    threads: int | None
    batch: int | None
    workers: int = 1

    def __str__(self) -> str:
        threads = "all cores" if self.threads is None else f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        batch = "batch measured" if self.batch is None else f"batch {self.batch}"
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        return f"{self.precision}, {self.device}, {threads}, {batch}{workers}"


@dataclass(frozen=True)
class Probe:
    """One rate that was tried in a search."""

    rate: float  # queries a second
    p99: float  # milliseconds, of the queries that were answered
    queries: int
    holds: bool


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What only a server knows.

    Attributes:
        offered, achieved: queries a second that arrived, and that were answered.
        busy: share of the workers' time that they ran.
        mean_batch: queries of a run.
        deepest: the most queries that were waiting or running.
        kept_up: answers came at least at 95 % of the rate of arrivals.
        bound: milliseconds that the 99th percentile must keep; None where a rate was given.
        probes: rates that the search tried.
    """

    offered: float
    achieved: float
    busy: float
    mean_batch: float
    deepest: int
    kept_up: bool
    bound: float | None = None
    probes: tuple[Probe, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One scenario of one subject in one configuration.

    Attributes:
        scenario, subject, configuration: what was measured, and how.
        provider: what runs the operators, as the plan says; ``placed`` counts nodes by who ran them.
        latency: of a query: one image, 8 in multi-stream, a whole run in offline; None where no server rate holds.
        throughput: images a second; of a server those that were answered.
        unit, work_rate: the same in windows, masks or passes.
        windows: the figures that the rule compared: median latency in milliseconds, or images a second.
        stable: whether the last three agreed; of a server, whether it kept up.
        others: share of the machine that others used meanwhile, 0 to 1; None where nobody tells.
        server: what only a server knows.
        notes: what a reader would otherwise miss.
    """

    scenario: Scenario
    subject: str
    configuration: Configuration
    provider: str
    placed: Mapping[str, int]
    latency: Latency | None
    throughput: float
    unit: str
    work_rate: float
    windows: Sequence[float]
    stable: bool
    others: float | None = None
    server: ServerFacts | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models interleaved in one run.

    Attributes:
        scenario, subject: what both did.
        first, second: how each ran.
        ratio: how many times longer the first took than the second, round by round: above 1 the second is faster.
        first_figure, second_figure: median milliseconds of a query, or images a second of offline.
        others: as in ``Measurement``.
    """

    scenario: Scenario
    subject: str
    first: Configuration
    second: Configuration
    ratio: Spread
    first_figure: Spread
    second_figure: Spread
    others: float | None = None

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.ratio.differs_from_one:
            return "no difference that this run could tell"
        faster = self.second if self.ratio.median > 1 else self.first
        times = max(self.ratio.median, 1 / self.ratio.median)
        return f"{faster.model} ({faster.precision}) is {times:.2f} times as fast"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to choose for one purpose.

    Attributes:
        purpose: "throughput" or "latency".
        subject: of what.
        configuration: the cheapest (fewest threads, smallest batch) of those within 3 % of the best.
        figure: images a second, or milliseconds at the 90th percentile.
        unit: of the figure.
        among: configurations that were compared.
    """

    purpose: str
    subject: str
    configuration: Configuration
    figure: float
    unit: str
    among: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """One call of ``sightline bench``.

    Attributes:
        date: UTC, when it began.
        model: file and sha256 of each model by precision.
        input_shape: (C, H, W).
        inputs: "noise", or how many photographs.
        rule: how long things were measured.
        machine: where; see ``machine.facts``.
        measurements, comparisons, choices: what was found.
        notes: what a reader would otherwise miss.
    """

    date: str
    models: Sequence[Mapping[str, str]]
    input_shape: tuple[int, ...]
    inputs: str
    rule: Mapping[str, float]
    machine: Mapping[str, Any]
    measurements: Sequence[Measurement]
    comparisons: Sequence[Comparison] = ()
    choices: Sequence[Choice] = ()
    notes: Sequence[str] = field(default=())
