"""Whether ``sightline bench`` says the truth: beside a plain loop over ONNX Runtime, and beside a simulated queue.

The loop is what ``onnxruntime_perf_test`` does: one session, one feed, run after run, its own clock, nothing of ours.
The simulation draws service times from those that the loop measured, and arrivals of its own.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from machine import Disturbance
from networks import SIDE, Network
from recording import OURS, Row, Session, append, quartiles

from sightline.bench.clock import WallClock
from sightline.bench.scenarios import Load, Server, offline, single_stream
from sightline.bench.stability import Rule
from sightline.bench.subject import Task, noise
from sightline.target import top

LOOP, SIMULATION = "a loop over ONNX Runtime", "a simulated queue"
SECONDS = 0.5  # of a window of ours; a loop takes three
TOGETHER = 8  # images of a run for throughput
LOAD = 0.5  # of the server, as a share of what it can answer
QUERIES = 150
NETWORKS = ("squeezenet", "mobilenet_v2")


@pytest.mark.parametrize("network", NETWORKS, indirect=True)
def test_bench(network: Network, session: Session, pytestconfig: pytest.Config) -> None:
    rule, clock = Rule(seconds=SECONDS, warm_seconds=0.1), WallClock()
    task = Task(network.model, None, top(1), noise(network.model))
    alone, together = (task.open(task.plan(threads=session.threads, batch=count), count) for count in (1, TOGETHER))
    loop = Loop(network, session.threads)
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    disturbance = Disturbance.begin()
    for number in range(session.rounds):
        ours, theirs = single_stream(alone, rule, clock).latency, loop.seconds(1, 3 * SECONDS)
        assert ours is not None
        keep(found, "single stream, median", "ms", LOOP, ours.p50, 1e3 * statistics.median(theirs))
        keep(found, "single stream, 90th percentile", "ms", LOOP, ours.p90, 1e3 * upper(theirs, 0.9))
        rate, runs = offline(together, TOGETHER, rule, clock).throughput, loop.seconds(TOGETHER, 3 * SECONDS)
        keep(found, f"offline, {TOGETHER} per run", "images/s", LOOP, rate, TOGETHER * len(runs) / sum(runs))
        arriving = LOAD / statistics.mean(theirs)
        server = Server([alone], Load(queries=QUERIES, seed=number), rule, clock).at(arriving)
        assert server.latency is not None
        waited = [one for seed in range(20) for one in simulated(arriving, theirs, QUERIES, seed)]
        keep(found, "server at half load, median", "ms", SIMULATION, server.latency.p50, 1e3 * upper(waited, 0.5))
        keep(found, "server at half load, mean", "ms", SIMULATION, server.latency.mean, 1e3 * statistics.mean(waited))
    alone.close()
    together.close()
    rows = rows_of(session, network.title, found, disturbance.share())
    if pytestconfig.option.benchmark_enable:
        append(session.path, rows)
    for row in rows:
        if row.ratio is not None:
            print(f"{row.case}: {row.value:.4g} {row.unit}, {row.ratio:.3f} of {row.ratio_to}")


class Loop:
    """A session and a feed, run again and again."""

    def __init__(self, network: Network, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = str(network.model.path)
        self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def seconds(self, count: int, budget: float) -> list[float]:
        """Of every run of so many images, for so long, after two that do not count."""
        feed = {self._name: np.random.default_rng(1).standard_normal((count, 3, SIDE, SIDE), dtype=np.float32)}
        times = list[float]()
        end = time.perf_counter() + budget
        while time.perf_counter() < end or len(times) < 5:
            start = time.perf_counter()
            self._session.run(None, feed)
            times.append(time.perf_counter() - start)
        return times[2:]


def simulated(rate: float, service: Sequence[float], queries: int, seed: int) -> list[float]:
    """Seconds from arrival to answer of queries at one server: Lindley's recursion over the waits."""
    draw = random.Random(seed)
    wait, found = 0.0, list[float]()
    for _ in range(queries):
        taken = draw.choice(service)
        found.append(wait + taken)
        wait = max(0.0, wait + taken - draw.expovariate(rate))
    return found


def upper(values: Sequence[float], share: float) -> float:
    """The value below which this share lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def keep(found: dict[Any, list[tuple[float, float]]], what: str, unit: str, peer: str, *pair: float) -> None:
    """One round's figure of ours and of the peer."""
    found.setdefault((what, unit, peer), []).append((pair[0], pair[1]))


def rows_of(
    session: Session, title: str, found: dict[tuple[str, str, str], list[tuple[float, float]]], others: float | None
) -> list[Row]:
    """Ours with its ratio to the peer, round by round, and the peer."""
    rows = list[Row]()
    for (what, unit, peer), pairs in found.items():
        for place, subject in enumerate((OURS, peer)):
            value, low, high = quartiles([pair[place] for pair in pairs])
            ratio = quartiles([ours / theirs for ours, theirs in pairs]) if place == 0 else (None, None, None)
            rows.append(
                session.row(
                    benchmark="bench", case=f"{what}, {title}, {SIDE}x{SIDE}", subject=subject, metric="figure",
                    unit=unit, value=value, low=low, high=high, rounds=len(pairs),
                    ratio_to=peer if place == 0 else "", ratio=ratio[0], ratio_low=ratio[1], ratio_high=ratio[2],
                    others=others,
                )
            )  # fmt: skip
    return rows
