"""What a part of the benchmark is given: sizes, a clock that waits for the device, and where to say what it found."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS = "sightline"
SHORTEST = 0.02  # seconds of one timing: calls are repeated until they take as long
LEAST = 5  # seconds of a part, below which nothing new begins


@dataclass
class Setting:
    """One part under way, in a process of its own.

    Attributes:
        dry: everything is tiny and runs on the CPU.
        folder: that parts share, for networks.
        lines: file that findings are appended to, one JSON object a line; what is there survives the part.
        seconds: that the part may take.
        rounds: in each of which every subject runs once.
    """

    dry: bool
    folder: Path
    lines: Path
    seconds: float
    rounds: int = 5
    started: float = field(default_factory=time.perf_counter)

    @property
    def device(self) -> str:
        """Where torch and ONNX Runtime compute."""
        return "cpu" if self.dry else "cuda"

    def size(self, real: int, tiny: int) -> int:
        """A number of the benchmark, or of its rehearsal."""
        return tiny if self.dry else real

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.perf_counter() - self.started)

    def emit(self, kind: str, **facts: Any) -> None:
        """Say something that lasts."""
        with self.lines.open("a") as file:
            file.write(json.dumps({"kind": kind, **facts}) + "\n")

    def check(self, name: str, call: Callable[[], str | None]) -> bool:
        """Run a check, which returns what to note or raises; whether it passed. The part goes on either way."""
        try:
            note = call() or ""
        except Exception as reason:
            self.emit("check", name=name, passed=False, note=f"{type(reason).__name__}: {first_lines(reason)}")
            return False
        self.emit("check", name=name, passed=True, note=note)
        return True

    def attempt(self, name: str, call: Callable[[], None]) -> None:
        """Run some timings; what fails is told and the part goes on."""
        if self.left < LEAST:
            self.emit("skipped", name=name, note=f"{self.left:.0f} s of the part were left")
            return
        try:
            call()
        except Exception as reason:
            self.emit("failed", name=name, note=f"{type(reason).__name__}: {first_lines(reason)}")

    def figure(self, case: str, subject: str, metric: str, unit: str, value: float) -> None:
        """A number without a peer."""
        self.emit("figure", case=case, subject=subject, metric=metric, unit=unit, value=float(value))

    def race(
        self,
        ours: Callable[[], object],
        peers: Mapping[str, Callable[[], object]],
        *,
        case: str,
        unit: str,
        work: float | Mapping[str, float],
        wait: Callable[[], object],
    ) -> float | None:
        """Time subjects in turn, round after round; a peer that fails is told and left out.

        Args:
            ours: what is claimed for.
            peers: what it is compared with; the best by median counts.
            case: model, sizes, settings.
            unit: of the figures, per second.
            work: what one call does, the same for all or by subject.
            wait: until the device is done.

        Returns:
            The ratio to the best peer, None without one.
        """
        calls: dict[str, Callable[[], object]] = {}
        for name, call in {OURS: ours, **peers}.items():
            if calls and self.left < LEAST:
                self.emit("skipped", name=f"{case}: {name}", note=f"{self.left:.0f} s of the part were left")
                continue
            try:
                calls[name] = repeated(call, wait, 0 if self.dry else SHORTEST)
            except Exception as reason:
                self.emit("failed", name=f"{case}: {name}", note=f"{type(reason).__name__}: {first_lines(reason)}")
        if OURS not in calls:
            return None
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(self.rounds):
            for name, call in list(calls.items()):
                try:
                    seconds[name].append(call())  # type: ignore[arg-type]
                except Exception as reason:
                    said = f"{type(reason).__name__}: {first_lines(reason)}"
                    self.emit("failed", name=f"{case}: {name}", note=said)
                    del calls[name], seconds[name]
            if OURS not in calls:
                return None
            if self.left < 2 * sum(times[-1] for times in seconds.values()):
                break
        doing = work if isinstance(work, Mapping) else dict.fromkeys(calls, work)
        each = {name: [one / doing[name] for one in times] for name, times in seconds.items()}
        self.emit("race", case=case, unit=unit, seconds=each)
        others = [statistics.median(times) for name, times in each.items() if name != OURS]
        return min(others) / statistics.median(each[OURS]) if others else None


def repeated(call: Callable[[], object], wait: Callable[[], object], shortest: float) -> Callable[[], float]:
    """Seconds of one call on average, over as many as can be timed.

    It is run twice before: once to compile and to allocate, once to see how long it takes.
    """
    call()
    wait()
    start = time.perf_counter()
    call()
    wait()
    count = max(1, min(200, int(shortest / max(time.perf_counter() - start, 1e-7))))

    def timed() -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        wait()
        return (time.perf_counter() - start) / count

    return timed


def first_lines(reason: Exception) -> str:
    """What matters of an error's text."""
    return " ".join(str(reason).split())[:400]
