"""The load of a server: when queries arrive, who waits, and what is run together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.bench.clock import Clock

Times = NDArray[np.float64]


def poisson_arrivals(rate: float, queries: int, seed: int) -> Times:
    """(N,) moments in seconds at which queries arrive, independently of each other, so many a second in the mean.

    The same seed gives the same pattern, stretched: what is late at one rate tends to be late at every higher one.
    """
    return np.cumsum(np.random.default_rng(seed).exponential(size=queries)) / rate


@dataclass(frozen=True, kw_only=True)
class Batching:
    """What a worker may run together.

    Attributes:
        most: queries of one run.
        wait: seconds that the oldest of them may be kept waiting for others.
    """

    most: int = 1
    wait: float = 0.0


@dataclass(frozen=True)
class Allowance:
    """When a run is given up: more queries than ``late`` took longer than ``bound`` seconds."""

    bound: float
    late: int


@dataclass(frozen=True)
class Served:
    """What became of the queries that were finished.

    Attributes:
        arrivals, finishes: (n,) moments in seconds, of arrival and of the answer.
        batches: queries of each run.
        busy: share of the time during which a worker was running.
        seconds: from the beginning to the last answer.
        given_up: whether more were late than was allowed, and the rest never run.
    """

    arrivals: Times
    finishes: Times
    batches: tuple[int, ...]
    busy: float
    seconds: float
    given_up: bool

    @property
    def latencies(self) -> Times:
        """(n,) seconds from arrival to answer: waiting included, whatever the workers were doing."""
        return self.finishes - self.arrivals

    @property
    def deepest(self) -> int:
        """The most queries that had arrived and were not answered."""
        moments = np.concatenate([self.finishes, self.arrivals])  # of equal moments the answer comes first
        steps = np.concatenate([-np.ones(len(self.finishes)), np.ones(len(self.arrivals))])
        return int(np.cumsum(steps[np.argsort(moments, kind="stable")]).max(initial=0))


class Queue:
    """Queries in the order of their arrival; workers take what has come."""

    def __init__(self, arrivals: Times, batching: Batching, allowance: Allowance | None = None):
        self._arrivals, self._batching, self._allowance = arrivals, batching, allowance
        self._lock = threading.Lock()
        self._next, self._late, self.given_up = 0, 0, False
        self.finishes = np.full(len(arrivals), np.nan)
        self.batches = list[int]()
        self.busy = 0.0

    def take(self, now: float) -> range | float | None:
        """The queries to run now; or the moment before which there are none; or None when all are taken."""
        with self._lock:
            first, most = self._next, self._batching.most
            if self.given_up or first == len(self._arrivals):
                return None
            head = float(self._arrivals[first])
            full = float(self._arrivals[first + most - 1]) if first + most <= len(self._arrivals) else np.inf
            ready = max(head, min(full, head + self._batching.wait))
            if now < ready:
                return ready
            came = int(np.searchsorted(self._arrivals, now, side="right"))
            self._next = min(came, first + most)
            return range(first, self._next)

    def finish(self, rows: range, began: float, now: float) -> None:
        """Queries that a worker has answered at this moment."""
        with self._lock:
            taken = slice(rows.start, rows.stop)
            self.finishes[taken] = now
            self.batches.append(len(rows))
            self.busy += now - began
            if self._allowance is not None:
                self._late += int((now - self._arrivals[taken] > self._allowance.bound).sum())
                self.given_up = self.given_up or self._late > self._allowance.late

    def close(self) -> None:
        """Hand out nothing any more."""
        with self._lock:
            self.given_up = True


def serve(
    workers: Sequence[Callable[[int], object]],
    arrivals: Times,
    clock: Clock,
    batching: Batching = Batching(),
    allowance: Allowance | None = None,
) -> Served:
    """Answer queries as they arrive, in real time.

    There is no thread that generates load and could itself be late: arrivals are fixed beforehand, and a latency is
    counted from when the query was due, so that waiting which nobody saw coming counts.

    Args:
        workers: each runs so many queries and returns when they are answered.
        arrivals: (N,) seconds from now, in order.
        clock: the time.
        batching: what a worker runs together.
        allowance: when to give up.
    """
    origin = clock.now()
    due = origin + arrivals  # in the clock's own time, so that waiting for a moment ends at that very moment
    queue = Queue(due, batching, allowance)

    def work(run: Callable[[int], object]) -> None:
        try:
            while (step := queue.take(began := clock.now())) is not None:
                if isinstance(step, range):
                    run(len(step))
                    queue.finish(step, began, clock.now())
                else:
                    clock.sleep_until(step)
        except BaseException:
            queue.close()
            raise

    clock.together([lambda run=run: work(run) for run in workers])
    done = ~np.isnan(queue.finishes)
    finishes = queue.finishes[done]
    seconds = float(finishes.max() - origin) if len(finishes) else 0.0
    busy = queue.busy / (seconds * len(workers)) if seconds else 0.0
    return Served(due[done] - origin, finishes - origin, tuple(queue.batches), busy, seconds, queue.given_up)
