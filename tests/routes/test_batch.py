"""Batch sizes: bounded by memory, and found by measuring. Time is pretended, never taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sightline.routes import batch as batches
from sightline.routes.batch import GAIN, LARGEST, largest_batch, measured_batch

SHAPES = {"image": (1, 3, 10, 10), "wide": (1, 50, 10, 10), "logits": (1, 4), "weight": (50, 3, 3, 3)}


@pytest.mark.parametrize(
    ("memory", "kept", "expected"),
    [
        (3 * 5000 * 4, False, 1),  # three values of the widest, 5,000 floats of 4 bytes
        (3 * 5000 * 4 * 7 + 1, False, 7),
        (2 * 5304 * 4 * 7, True, 7),  # every value and its gradient: 300 + 5,000 + 4
        (1, False, 1),
        (1, True, 1),
        (1 << 40, False, LARGEST),
    ],
)
def test_what_fits_memory(memory: int, kept: bool, expected: int) -> None:
    assert largest_batch(SHAPES, memory, kept=kept) == expected


class Clock:
    """Time that passes only as runs say it does."""

    def __init__(self, seconds: Callable[[int], float]):
        self.now, self.seconds = 0.0, seconds
        self.batches: list[int] = []

    def perf_counter(self) -> float:
        return self.now

    def run(self, batch: int) -> None:
        self.batches.append(batch)
        self.now += self.seconds(batch)


def measured(
    monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float], largest: int = 256
) -> tuple[int, Clock]:
    clock = Clock(seconds)
    monkeypatch.setattr(batches, "time", clock)
    return measured_batch(lambda: clock.run, largest).batch, clock


def test_the_smallest_batch_that_is_as_fast_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    found, clock = measured(monkeypatch, lambda b: 1e-4 * max(b, 16))  # free up to 16, then linear
    assert found == 16
    assert max(clock.batches) <= 64


def test_linear_cost_needs_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, lambda b: 1e-4 * b)[0] == 1
    assert measured(monkeypatch, lambda b: 1e-4 * b / (GAIN - 0.01) if b > 1 else 1e-4)[0] == 1  # a gain too small


def test_one_flat_step_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = {1: 1.0, 2: 2.0, 4: 2.0, 8: 3.0}
    assert measured(monkeypatch, lambda b: 1e-4 * cost.get(b, 3.0 * b / 8))[0] == 8


def test_memory_and_patience_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found, clock = measured(monkeypatch, lambda b: 1e-3, largest=12)
    assert found == 8
    assert max(clock.batches) == 8
    found, clock = measured(monkeypatch, lambda b: 0.4)
    assert clock.now < 2.5
    assert found == max(clock.batches)


def test_little_work_is_not_measured_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def spent(rows: int | None) -> float:
        clock = Clock(lambda b: 1e-3 * max(b, 4))
        monkeypatch.setattr(batches, "time", clock)
        assert measured_batch(lambda: clock.run, 256, rows=rows).batch == 4
        return clock.now

    tried = 1e-3 * (4 + 2 * (4 + 4 + 4))  # each batch twice, up to one that takes a fortieth of the work
    assert spent(100) == pytest.approx(tried)
    assert spent(4000) == pytest.approx(0.4, rel=0.1), "a tenth of four seconds"
    assert spent(None) == pytest.approx(spent(10**9)) == pytest.approx(1.0, rel=0.05)
