"""A time that is made up, and workers that live in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence


class MadeUpTime:
    """A clock that moves only when everybody sleeps: straight to the next moment that somebody waits for.

    One worker runs at a time; of two that wake at the same moment, the one that was there first goes first.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self._turn = threading.Condition()
        self._waking = dict[int, float]()  # by worker: when
        self._running: int | None = None
        self._own = threading.local()

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.sleep_until(self.time + seconds)

    def sleep_until(self, moment: float) -> None:
        worker = getattr(self._own, "number", None)
        if worker is None:
            self.time = max(self.time, moment)
            return
        with self._turn:
            self._waking[worker] = max(moment, self.time)
            self._wake_next()
            self._turn.wait_for(lambda: self._running == worker)

    def together(self, workers: Sequence[Callable[[], None]]) -> None:
        failures = list[BaseException]()

        def live(number: int, work: Callable[[], None]) -> None:
            self._own.number = number
            with self._turn:
                self._turn.wait_for(lambda: self._running == number)
            try:
                work()
            except BaseException as reason:
                failures.append(reason)
            with self._turn:
                self._wake_next()

        self._waking = dict.fromkeys(range(len(workers)), self.time)
        threads = [threading.Thread(target=live, args=pair) for pair in enumerate(workers)]
        with self._turn:
            self._wake_next()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _wake_next(self) -> None:
        self._running = None
        if self._waking:
            worker = min(self._waking, key=lambda one: (self._waking[one], one))
            self.time = max(self.time, self._waking.pop(worker))
            self._running = worker
        self._turn.notify_all()


class MadeUpModel:
    """Takes a made-up time for so many images; keeps what it was asked."""

    def __init__(self, clock: MadeUpTime, seconds: Callable[[int], float] | Iterator[float]):
        self._clock, self._seconds = clock, seconds
        self.calls = list[int]()

    def run(self, count: int) -> None:
        self.calls.append(count)
        seconds = self._seconds(count) if callable(self._seconds) else next(self._seconds)
        self._clock.sleep(seconds)

    def close(self) -> None:
        pass
