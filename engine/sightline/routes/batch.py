"""How many images per run: found by measuring within a memory bound, never guessed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

R = TypeVar("R")

GAIN = 1.03  # a larger batch must be this much faster per image to be worth its memory
LARGEST = 256
SHARE = 0.1  # of the work that a measurement is for, it goes on for so long at most
LIVE_VALUES = 3  # values of the largest size that live at once: input, output and work space of one operator


def largest_batch(shapes: Mapping[str, tuple[int, ...]], memory: int, *, kept: bool) -> int:
    """Images whose activations fit ``memory`` bytes, at least 1.

    Args:
        shapes: of every value at batch 1, float32.
        memory: bytes.
        kept: every activation lives until the run ends, and its gradient beside it; else only the widest ones do.
    """
    sizes = [math.prod(shape) for shape in shapes.values() if len(shape) > 1 and shape[0] == 1]
    live = 2 * sum(sizes) if kept else LIVE_VALUES * max(sizes, default=1)
    return max(1, min(LARGEST, memory // (4 * max(live, 1))))


@dataclass(frozen=True)
class Measured:
    """A batch size, and what it takes.

    Attributes:
        batch: rows per run.
        seconds: per row.
    """

    batch: int
    seconds: float


def measured_batch(
    trial: Callable[[], Callable[[int], object]], largest: int, budget: float = 1.0, rows: int | None = None
) -> Measured:
    """The smallest power of two within 3 % of the fastest per image.

    Batches are timed in turn, round after round, and each by its shortest run: what else the machine does only ever
    lengthens a run, and never the same batch every time.

    Args:
        trial: makes the run to be timed; it takes the batch size.
        largest: never tried beyond.
        budget: seconds after which no further round begins. The last batch tried is one that takes a quarter of it,
            the second doubling that brought nothing, or one that does not fit the memory.
        rows: of the work that this is for, whose tenth is then the budget if it is less; None where nobody knows.
    """

    def allowed() -> float:
        return budget if rows is None else min(budget, SHARE * rows * shortest[best] / best)

    run = trial()
    run(1)  # allocations and code paths of the first run are not the batch's
    start = time.perf_counter()
    shortest: dict[int, float] = {}
    batch, best = 1, 1
    while batch <= largest:
        try:
            shortest[batch] = min(_seconds(run, batch) for _ in range(2))
        except MemoryError:
            if batch == 1:
                raise
            break
        if batch / shortest[batch] > GAIN * best / shortest[best]:
            best = batch
        if batch >= 4 * best or shortest[batch] > allowed() / 4:
            break
        batch *= 2
    while len(shortest) > 1 and time.perf_counter() - start < allowed():
        shortest = {batch: min(seconds, _seconds(run, batch)) for batch, seconds in shortest.items()}
    rates = {batch: batch / seconds for batch, seconds in shortest.items()}
    batch = min(batch for batch, rate in rates.items() if rate * GAIN >= max(rates.values()))
    return Measured(batch, shortest[batch] / batch)


def _seconds(run: Callable[[int], object], batch: int) -> float:
    start = time.perf_counter()
    run(batch)
    return time.perf_counter() - start


def halving(run: Callable[[slice], R], count: int, batch: int) -> Iterator[tuple[slice, R]]:
    """Run rows 0 to ``count`` in chunks, half as large from where one does not fit the memory.

    Raises:
        MemoryError: a single row does not fit.
    """
    start = 0
    while start < count:
        chunk = slice(start, min(start + batch, count))
        try:
            found = run(chunk)
        except MemoryError:
            if chunk.stop - chunk.start == 1:
                raise
            batch = (chunk.stop - chunk.start) // 2
            continue
        yield chunk, found
        start = chunk.stop
