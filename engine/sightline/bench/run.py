"""Measure what was planned, point by point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime

from sightline.bench.clock import Clock, WallClock
from sightline.bench.comparison import interleaved
from sightline.bench.machine import Disturbance, facts
from sightline.bench.result import Choice, Comparison, Measurement, Report, Scenario
from sightline.bench.scenarios import STREAMS, Figures, Server, multi_stream, offline, single_stream
from sightline.bench.stability import Rule
from sightline.bench.statistics import Spread, percentile
from sightline.bench.subject import ForwardPass, MethodRun, Subject, Task
from sightline.bench.sweep import Grid, Point, choices, points
from sightline.errors import UsageError

TIMES_ALONE = 4  # the bound of a search where none was given: so many times what one image takes alone
TRIALS = 5  # runs that the capacity of a server is taken from
COMPARED: tuple[Scenario, ...] = ("single-stream", "multi-stream", "offline")
Say = Callable[[str], None]


def measure(
    tasks: Sequence[tuple[str, Task]],
    grid: Grid,
    *,
    compared: Sequence[tuple[str, Task]] = (),
    notes: Sequence[str] = (),
    clock: Clock | None = None,
    say: Say = lambda _: None,
) -> Report:
    """Measure every task in every configuration.

    Args:
        tasks: by precision.
        grid: what to measure.
        compared: tasks of another model, one for each of ``tasks``: both are interleaved, nothing
            else is measured.
        notes: what the report has to say beside.
        clock: the time; the machine's unless given.
        say: is told what begins.

    Raises:
        UsageError: scenarios that cannot be compared, and what ``sweep.points`` raises.
    """
    clock = clock or WallClock()
    date, model = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), tasks[0][1].model
    pairs, single = list[tuple[Point, Point]](), list[Point]()
    if compared:
        pairs = _pairs(tasks, compared, grid)
    else:
        single = points(tasks, grid)
    measurements = list[Measurement]()
    for number, point in enumerate(single):
        say(f"{number + 1} of {len(single)}: {point.task.name}, {point.scenario}, {point.configuration}")
        measurements += measure_point(point, grid, clock)
    comparisons = list[Comparison]()
    for number, pair in enumerate(pairs):
        say(f"{number + 1} of {len(pairs)}: {pair[0].task.name}, {pair[0].scenario}, {pair[0].configuration}")
        comparisons.append(_compared(*pair, grid.rule, clock))
    chosen = choices(measurements)
    photos = tasks[0][1].images.photos
    models = {task.model.path.name: (name, task.model) for name, task in (*tasks, *compared)}
    return Report(
        date=date,
        models=[{"file": one.path.name, "precision": name, "sha256": one.sha256} for name, one in models.values()],
        input_shape=(model.input.channels, *model.input_size),
        inputs="noise" if not photos[0].sha256 else f"{len(photos)} photograph{'s' if len(photos) > 1 else ''}",
        rule=asdict(grid.rule),
        machine=facts(),
        measurements=measurements,
        comparisons=comparisons,
        choices=chosen,
        notes=(*notes, *_warnings(chosen, tasks)),
    )


def measure_point(point: Point, grid: Grid, clock: Clock) -> Iterator[Measurement]:
    """One measurement, or one for each rate of a server."""
    with ExitStack() as opened:
        subjects = [_opened(point, opened) for _ in range(point.configuration.workers)]
        if point.scenario != "server":
            disturbance = Disturbance.begin()
            figures = {
                "single-stream": lambda: single_stream(subjects[0], grid.rule, clock),
                "multi-stream": lambda: multi_stream(subjects[0], grid.rule, clock),
                "offline": lambda: offline(subjects[0], point.images, grid.rule, clock),
            }[point.scenario]()
            yield _measurement(point, subjects[0], figures, disturbance)
            return
        server = Server(subjects, grid.load, grid.rule, clock)
        for rate in grid.rates:
            disturbance = Disturbance.begin()
            yield _measurement(point, subjects[0], server.at(rate), disturbance)
        if not grid.rates:
            disturbance = Disturbance.begin()
            yield _measurement(point, subjects[0], _searched(server, subjects, grid, clock), disturbance)


def _searched(server: Server, subjects: Sequence[Subject], grid: Grid, clock: Clock) -> Figures:
    """The highest rate within the bound, or within one that is chosen here, which is said."""
    most = grid.load.batching.most
    alone, full = (_shortest(subjects[0], count, clock) for count in (1, most))
    capacity = len(subjects) * max(1 / alone, most / full)
    if grid.load.bound is not None:
        return server.highest(capacity, grid.load.bound)
    bound = TIMES_ALONE * alone
    figures = server.highest(capacity, bound)
    note = f"no bound was given: {TIMES_ALONE} times what one image takes alone, {1e3 * bound:.4g} ms"
    return replace(figures, notes=(*figures.notes, note))


def _shortest(subject: Subject, count: int, clock: Clock) -> float:
    """Seconds of a run, the second shortest of a few: others only ever lengthen one."""
    times = list[float]()
    for _ in range(TRIALS):
        start = clock.now()
        subject.run(count)
        times.append(clock.now() - start)
    return percentile(times, 0.4)


def _opened(point: Point, stack: ExitStack) -> ForwardPass | MethodRun:
    subject = point.task.open(point.plan, point.images)
    stack.callback(subject.close)
    return subject


def _measurement(
    point: Point, subject: ForwardPass | MethodRun, figures: Figures, disturbance: Disturbance
) -> Measurement:
    others, work = disturbance.share(), point.task.work
    notes = figures.notes
    fixed = point.task.model.input.batch
    if fixed is not None and point.images % fixed:
        notes += (f"the graph takes {fixed} images per run: runs were filled up",)
    return Measurement(
        scenario=point.scenario, subject=point.task.name, configuration=point.configuration,
        provider=point.plan.provider, placed=subject.placed(), latency=figures.latency,
        throughput=figures.throughput, unit=work.unit, work_rate=work.per_image * figures.throughput,
        windows=figures.windows, stable=figures.stable, others=others, server=figures.server, notes=notes,
    )  # fmt: skip


def _pairs(
    tasks: Sequence[tuple[str, Task]], compared: Sequence[tuple[str, Task]], grid: Grid
) -> list[tuple[Point, Point]]:
    if "server" in grid.scenarios:
        raise UsageError(
            "Two models cannot be interleaved as servers: each would be late because of the other. Compare "
            f"{', '.join(COMPARED)}."
        )
    if not grid.scenarios:
        wanted = COMPARED if not tasks[0][1].is_long else ("single-stream",)
        grid = replace(grid, scenarios=wanted)
    fixed = [task.model.input.batch for _, task in (*tasks, *compared) if task.model.input.batch is not None]
    if fixed and not grid.batches:
        grid = replace(grid, batches=tuple(fixed[:1]))
    return list(zip(points(tasks, grid), points(compared, grid), strict=True))


def _compared(first: Point, second: Point, rule: Rule, clock: Clock) -> Comparison:
    with ExitStack() as opened:
        subjects = [_opened(point, opened) for point in (first, second)]
        count = STREAMS if first.scenario == "multi-stream" else first.images
        disturbance = Disturbance.begin()
        found = interleaved(lambda: subjects[0].run(count), lambda: subjects[1].run(count), rule, clock)
        offline_too = first.scenario == "offline"
        figures = [
            Spread.of([count / one if offline_too else 1e3 * one for one in blocks])
            for blocks in (found.first, found.second)
        ]
        return Comparison(
            scenario=first.scenario, subject=first.task.name, first=first.configuration,
            second=second.configuration, ratio=found.ratio, first_figure=figures[0], second_figure=figures[1],
            others=disturbance.share(),
        )  # fmt: skip


def _warnings(chosen: Sequence[Choice], tasks: Sequence[tuple[str, Task]]) -> list[str]:
    """What a choice does not say."""
    own = tasks[0][0]
    other = sorted({one.configuration.precision for one in chosen} - {own})
    if not other:
        return []
    return [f"{' and '.join(other)} computes other numbers than {own}: sightline audit tells what that changes."]
