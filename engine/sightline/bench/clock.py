"""The time that is measured with, and what runs at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol


class Clock(Protocol):
    """Tells the time, waits, and runs workers side by side; a test brings one whose time is made up."""

    def now(self) -> float:
        """Seconds since some moment."""
        ...

    def sleep_until(self, moment: float) -> None:
        """Return at this moment or just after, never before."""
        ...

    def together(self, workers: Sequence[Callable[[], None]]) -> None:
        """Run all of them at the same time and return when the last has ended; what one raises is raised."""
        ...


class WallClock:
    """The machine's own monotonic clock, and threads."""

    def now(self) -> float:
        return time.perf_counter()

    def sleep_until(self, moment: float) -> None:
        while (left := moment - time.perf_counter()) > 0:
            time.sleep(left)

    def together(self, workers: Sequence[Callable[[], None]]) -> None:
        if len(workers) == 1:
            workers[0]()
            return
        failures = list[BaseException]()

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as reason:  # handed to the caller's thread
                failures.append(reason)

        threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
