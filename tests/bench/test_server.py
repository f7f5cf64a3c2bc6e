"""The server against closed forms and against a simulation of events written another way."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest

from bench.made_up import MadeUpModel, MadeUpTime
from sightline.bench.clock import WallClock
from sightline.bench.load import Allowance, Batching, Served, poisson_arrivals, serve
from sightline.bench.scenarios import Load, Server
from sightline.bench.search import CLOSE, DOUBT, highest_rate
from sightline.bench.stability import Rule
from sightline.errors import UsageError

RULE = Rule(seconds=0.1, warm_seconds=0.01)


def simulated(
    arrivals: list[float], seconds: dict[int, float], workers: int, most: int, wait: float
) -> tuple[list[float], list[int]]:
    """When each query is answered, and the batches: event by event, the earliest free worker next."""
    free = [0.0] * workers
    finishes, batches, place = list[float](), list[int](), 0
    while place < len(arrivals):
        begin = max(heapq.heappop(free), arrivals[place])
        if most > 1 and begin < arrivals[place] + wait:
            enough = arrivals[place + most - 1] if place + most <= len(arrivals) else math.inf
            begin = max(begin, min(enough, arrivals[place] + wait))
        taken = 0
        while taken < most and place + taken < len(arrivals) and arrivals[place + taken] <= begin:
            taken += 1
        heapq.heappush(free, begin + seconds[taken])
        finishes += [begin + seconds[taken]] * taken
        batches.append(taken)
        place += taken
    return finishes, batches


def served(rate: float, queries: int, workers: int, batching: Batching, seconds: dict[int, float]) -> Served:
    clock = MadeUpTime()
    models = [MadeUpModel(clock, seconds.__getitem__) for _ in range(workers)]
    return serve([one.run for one in models], poisson_arrivals(rate, queries, 3), clock, batching)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize(("most", "wait"), [(1, 0.0), (4, 0.0), (4, 0.03)])
@pytest.mark.parametrize("load", [0.3, 0.8, 1.3])
def test_every_answer_comes_when_a_simulation_says(workers: int, most: int, wait: float, load: float) -> None:
    seconds = {count: 0.01 + 0.003 * count for count in range(1, most + 1)}
    rate = load * workers * most / seconds[most]
    found = served(rate, 400, workers, Batching(most=most, wait=wait), seconds)
    arrivals = poisson_arrivals(rate, 400, 3).tolist()
    finishes, batches = simulated(arrivals, seconds, workers, most, wait)
    assert found.finishes == pytest.approx(finishes)
    assert sorted(found.batches) == sorted(batches)
    assert found.latencies == pytest.approx(np.array(finishes) - arrivals)
    busy = sum(seconds[one] for one in batches) / (max(finishes) * workers)
    assert found.busy == pytest.approx(busy)
    waiting = [sum(a <= moment < f for a, f in zip(arrivals, finishes, strict=True)) for moment in arrivals]
    assert found.deepest == max(waiting)
    assert not found.given_up


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waiting_is_that_of_an_m_d_1_queue(load: float) -> None:
    """Pollaczek and Khinchine for a constant service time S: the mean wait is load * S / (2 (1 - load))."""
    service = 0.02
    found = served(load / service, 40_000, 1, Batching(), {1: service})
    wait = float(found.latencies.mean()) - service
    assert wait == pytest.approx(load * service / (2 * (1 - load)), rel=0.08)
    idle = float(np.isclose(found.latencies, service).mean())  # Poisson arrivals see time averages
    assert idle == pytest.approx(1 - load, abs=0.02)
    assert found.busy == pytest.approx(load, rel=0.03)


def test_arrivals_are_poisson_and_the_same_pattern_at_every_rate() -> None:
    arrivals = poisson_arrivals(50, 20_000, 1)
    gaps = np.diff(arrivals, prepend=0)
    assert gaps.mean() == pytest.approx(0.02, rel=0.03)
    assert gaps.std() == pytest.approx(0.02, rel=0.05)
    assert np.corrcoef(gaps[1:], gaps[:-1])[0, 1] == pytest.approx(0, abs=0.03)
    assert poisson_arrivals(100, 20_000, 1) == pytest.approx(arrivals / 2)
    assert not np.allclose(poisson_arrivals(50, 20_000, 2), arrivals)


def test_a_run_is_given_up_once_too_many_are_late() -> None:
    clock = MadeUpTime()
    model = MadeUpModel(clock, lambda count: 1.0)
    found = serve([model.run], np.zeros(100), clock, allowance=Allowance(bound=5.5, late=2))
    assert found.given_up
    assert len(model.calls) == 8, "five in time, and the third that is late ends it"
    assert len(found.latencies) == 8


def test_what_a_worker_raises_ends_all_and_is_raised() -> None:
    def fails(count: int) -> None:
        raise RuntimeError("out of order")

    clock = MadeUpTime()
    slow = MadeUpModel(clock, lambda count: 1.0)
    with pytest.raises(RuntimeError, match="out of order"):
        serve([slow.run, fails], np.zeros(1000), clock)
    assert len(slow.calls) < 10
    with pytest.raises(RuntimeError, match="out of order"):
        serve([fails, fails], np.zeros(10), WallClock())


def test_threads_of_the_machine_answer_every_query_once() -> None:
    runs = list[int]()
    found = serve([runs.append] * 3, poisson_arrivals(20_000, 500, 0), WallClock(), Batching(most=4))
    assert sum(runs) == 500 == len(found.finishes)
    assert (found.latencies >= 0).all()
    assert 1 <= found.deepest <= 500


def holds_by_simulation(rate: float, bound: float, service: float, queries: int, seed: int) -> bool:
    """Whether one worker answers 99 % of the queries within the bound."""
    arrivals = poisson_arrivals(rate, queries, seed).tolist()
    finishes, _ = simulated(arrivals, {1: service}, 1, 1, 0)
    return sum(f - a > bound for f, a in zip(finishes, arrivals, strict=True)) <= queries // 100


@pytest.mark.parametrize("times", [2.5, 4.0, 8.0])
def test_the_search_finds_the_rate_that_a_scan_finds(times: float) -> None:
    service, queries = 0.02, 1000
    clock = MadeUpTime()
    server = Server([MadeUpModel(clock, lambda count: service)], Load(queries=queries, longest=1e6), RULE, clock)
    found = server.highest(1 / service, times * service)
    assert found.server is not None
    assert found.latency is not None
    kept, attempt, first = set[float](), 0, 0.0
    for probe in found.server.probes:  # each judged anew; a rate that held before is asked again to be confirmed
        if attempt or probe.rate in kept:
            attempt, first = attempt + 1, first or probe.rate
        assert probe.holds == holds_by_simulation(probe.rate, times * service, service, queries, attempt), probe
        kept |= {probe.rate} if probe.holds else set()
    scanned = np.geomspace(0.05 / service, 1 / service, 200)
    highest = max(
        float(one) for one in scanned if holds_by_simulation(float(one), times * service, service, queries, 0)
    )
    assert highest / CLOSE**2 <= first <= highest * CLOSE
    assert found.server.offered == pytest.approx(first / DOUBT ** (attempt - 1))
    assert found.latency.p99 <= 1e3 * times * service
    assert found.server.bound == pytest.approx(1e3 * times * service)
    assert found.stable


def latencies_by_lindley(load: float, queries: int, seed: int) -> np.ndarray:
    """Waiting and service of an M/D/1 queue, in services: what is left of the wait before, reflected at 0."""
    steps = 1 - np.random.default_rng(seed).exponential(1 / load, queries)
    walk = np.cumsum(steps)
    return 1 + walk - np.minimum(np.minimum.accumulate(walk), 0)


def test_a_long_bound_is_no_reason_for_more_than_can_be_sustained() -> None:
    """Two hundred queries at more than the capacity never wait for 50 services: only a longer run shows it."""
    service, bound = 0.001, 50
    clock = MadeUpTime()
    server = Server([MadeUpModel(clock, lambda count: service)], Load(), RULE, clock)
    found = server.highest(1 / service, bound * service)
    assert found.server is not None
    loads = np.linspace(0.9, 0.99, 19)
    sustained = max(load for load in loads if np.quantile(latencies_by_lindley(load, 1_000_000, 7), 0.99) <= bound)
    assert sustained / (CLOSE * DOUBT) <= found.server.offered * service <= sustained * 1.02
    assert all(probe.queries > 200 for probe in found.server.probes if probe.holds)


def test_a_rate_above_what_workers_do_in_the_mean_does_not_hold() -> None:
    """Too few queries to see the queue grow, and a capacity that a lucky run has overstated."""
    clock = MadeUpTime()
    server = Server([MadeUpModel(clock, lambda count: 0.02)], Load(longest=2.0), RULE, clock)
    found = server.highest(60.0, 5.0)
    assert found.server is not None
    assert 0.85 * 50 < found.server.offered < 50


def test_a_server_that_batches_is_busy_and_has_room() -> None:
    """One image alone takes 20 ms, eight together 40: between 50 and 200 a second it is always at work."""
    clock = MadeUpTime()
    model = MadeUpModel(clock, lambda count: 0.02 if count == 1 else 0.04)
    server = Server([model], Load(batching=Batching(most=8)), RULE, clock)
    found = server.highest(200.0, 0.16)
    assert found.server is not None
    assert 100 < found.server.offered < 200
    probed = {round(one.rate): one.holds for one in found.server.probes}
    assert probed[100]


def test_no_rate_keeps_a_bound_below_one_image() -> None:
    clock = MadeUpTime()
    server = Server([MadeUpModel(clock, lambda count: 0.02)], Load(), RULE, clock)
    found = server.highest(50.0, 0.019)
    assert found.latency is None
    assert found.throughput == 0
    assert found.notes == ("no rate keeps 99 % of the queries within 19 ms",)
    assert found.server is not None
    assert not any(one.holds for one in found.server.probes)


def test_more_than_it_can_answer_is_told() -> None:
    clock = MadeUpTime()
    server = Server([MadeUpModel(clock, lambda count: 0.02)], Load(), RULE, clock)
    found = server.at(100.0)
    assert found.server is not None
    assert not found.server.kept_up
    assert found.server.achieved == pytest.approx(50, rel=0.03)
    assert "the queue grows" in found.notes[0]
    calm = server.at(10.0)
    assert calm.server is not None
    assert calm.server.kept_up
    assert calm.notes == ()


def test_the_search_asks_little_and_confirms() -> None:
    asked = list[tuple[float, int]]()

    def holds(rate: float, attempt: int) -> bool:
        asked.append((rate, attempt))
        return rate <= (70 if attempt == 0 else 66)

    found = highest_rate(holds, 100)
    assert found is not None
    assert 66 / DOUBT <= found <= 66
    assert len(asked) <= 10
    assert asked[-1][1] > 0, "what is claimed was confirmed by arrivals of its own"
    assert highest_rate(lambda rate, attempt: False, 100) is None
    assert highest_rate(lambda rate, attempt: attempt == 0, 100) is None, "never confirmed"
    everything = highest_rate(lambda rate, attempt: True, 100)
    assert everything is not None
    assert 95 <= everything <= 105


@pytest.mark.parametrize("wrong", [{"queries": 3}, {"longest": 0.0}, {"bound": 0.0}, {"bound": -1.0}])
def test_a_load_that_says_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Load(**wrong)
    with pytest.raises(UsageError):
        Load(batching=Batching(most=0))


@pytest.mark.parametrize("rate", [0.0, -3.0, math.inf, math.nan])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    clock = MadeUpTime()
    server = Server([MadeUpModel(clock, lambda count: 0.02)], Load(), RULE, clock)
    with pytest.raises(UsageError, match="must be above 0"):
        server.at(rate)
