"""What is measured of a model: scenarios × threads × devices × precisions × batches; and what to choose of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from sightline.bench.result import Choice, Configuration, Measurement, Scenario
from sightline.bench.scenarios import STREAMS, Load
from sightline.bench.stability import Rule
from sightline.bench.subject import Task
from sightline.dispatch import Plan
from sightline.errors import UnknownName, UsageError
from sightline.routes.base import Device
from sightline.routes.batch import largest_batch
from sightline.threads import check_threads

BATCHES = (1, 2, 4, 8, 16)
NEAR = 1.03  # of the best figure: what is this close and cheaper is chosen


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What to measure.

    Attributes:
        scenarios: in this order; () chooses by what an image takes.
        devices: "cpu", "cuda", "tensorrt".
        threads: of one operator; None is all physical cores.
        batches: images per run of the network; () chooses.
        memory: bytes that the activations of one run may take.
        load: of the server scenario.
        rates: queries a second; () searches the highest.
        workers: of the server scenario.
        rule: how long.
    """

    scenarios: tuple[Scenario, ...] = ()
    devices: tuple[Device, ...] = ("cpu",)
    threads: tuple[int | None, ...] = (None,)
    batches: tuple[int, ...] = ()
    memory: int = 2 << 30
    load: Load = Load()  # noqa: RUF009 - frozen
    rates: tuple[float, ...] = ()
    workers: int = 1
    rule: Rule = Rule()  # noqa: RUF009

    def __post_init__(self) -> None:
        for one in self.scenarios:
            if one not in get_args(Scenario):
                raise UnknownName("scenario", one, get_args(Scenario))
        for one in self.devices:
            if one not in get_args(Device):
                raise UnknownName("device", one, get_args(Device))
        for one in self.threads:
            check_threads(one)
        for one in self.rates:
            if not 0 < one < float("inf"):
                raise UsageError(f"A rate of {one} queries a second cannot be served: give one above 0.")
        check_threads(self.workers, f"workers={self.workers}")  # one of the server's each, and a session
        if self.rates and self.load.bound is not None:
            raise UsageError("Give rates to measure the latency there, or a bound to search the rate; not both.")


@dataclass(frozen=True)
class Point:
    """One scenario of one task in one configuration, planned."""

    scenario: Scenario
    task: Task
    configuration: Configuration
    plan: Plan
    images: int  # of one call


def points(tasks: Sequence[tuple[str, Task]], grid: Grid) -> list[Point]:
    """Everything that will be measured, planned before anything runs.

    Args:
        tasks: by precision.
        grid: what to measure.

    Raises:
        MissingProvider: a device whose provider is not here.
        NoRoute: a method that nothing here can run.
        UsageError: a batch that a model does not take.
    """
    return [
        point
        for precision, task in tasks
        for device in grid.devices
        for threads in grid.threads
        for scenario in scenarios_of(task, grid)
        for point in _points(precision, task, grid, device, threads, scenario)
    ]


def scenarios_of(task: Task, grid: Grid) -> tuple[Scenario, ...]:
    """Those asked for; else all, and for methods of many passes those two that say something."""
    if grid.scenarios:
        return grid.scenarios
    return ("single-stream", "offline") if task.is_long else get_args(Scenario)


def _points(
    precision: str, task: Task, grid: Grid, device: Device, threads: int | None, scenario: Scenario
) -> Iterator[Point]:
    """One for each batch, where the scenario leaves the batch open."""
    fixed = task.model.input.batch
    for batch in grid.batches:  # a batch that the model does not take is told, whatever the scenario
        task.plan(device=device, threads=threads, batch=batch, memory=grid.memory)
    workers = grid.workers if scenario == "server" else 1
    for batch in [fixed] if fixed is not None else _batches(task, grid, scenario):
        plan = task.plan(device=device, threads=threads, batch=batch, memory=grid.memory)
        configuration = Configuration(
            model=task.model.path.name, precision=precision, device=device, threads=threads, batch=batch,
            workers=workers,
        )  # fmt: skip
        yield Point(scenario, task, configuration, plan, _images(task, grid, scenario, batch))


def _batches(task: Task, grid: Grid, scenario: Scenario) -> Sequence[int | None]:
    """Images per run of the network."""
    if task.is_long:  # the batch is one of passes, in every scenario
        return grid.batches or (None,)
    if scenario == "offline":
        most = largest_batch(task.model.layers.shapes, grid.memory, kept=False)
        return grid.batches or [one for one in BATCHES if one <= max(most, 1)]
    return [{"single-stream": 1, "multi-stream": STREAMS, "server": grid.load.batching.most}[scenario]]


def _images(task: Task, grid: Grid, scenario: Scenario, batch: int | None) -> int:
    """Images of one call."""
    if scenario == "offline":
        return 1 if task.is_long or batch is None else batch
    return {"single-stream": 1, "multi-stream": STREAMS, "server": grid.load.batching.most}[scenario]


def choices(measurements: Sequence[Measurement]) -> list[Choice]:
    """For throughput and for latency, the cheapest of the configurations that are within 3 % of the best."""
    found = list[Choice]()
    for subject in dict.fromkeys(one.subject for one in measurements):
        own = [one for one in measurements if one.subject == subject]
        offline = [one for one in own if one.scenario == "offline"]
        alone = [one for one in own if one.scenario == "single-stream" and one.latency is not None]
        if offline:
            best = _cheapest([(1 / one.throughput, one) for one in offline])
            found.append(_choice("throughput", best, best.work_rate, f"{best.unit}/s", len(offline)))
        if alone:
            best = _cheapest([(one.latency.p90, one) for one in alone if one.latency is not None])
            assert best.latency is not None
            found.append(_choice("latency", best, best.latency.p90, "ms (90th percentile)", len(alone)))
    return found


def _cheapest(costs: Sequence[tuple[float, Measurement]]) -> Measurement:
    least = min(cost for cost, _ in costs)
    near = [(cost, one) for cost, one in costs if cost <= NEAR * least]

    def price(entry: tuple[float, Measurement]) -> tuple[float, float, float]:
        used = entry[1].configuration
        none = float("inf")  # all cores are the most threads, and a batch that was measured is none to prefer
        return used.threads or none, used.batch or none, entry[0]

    return min(near, key=price)[1]


def _choice(purpose: str, best: Measurement, figure: float, unit: str, among: int) -> Choice:
    return Choice(
        purpose=purpose, subject=best.subject, configuration=replace(best.configuration), figure=figure, unit=unit,
        among=among,
    )  # fmt: skip
