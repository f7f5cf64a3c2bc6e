"""How many images per run: found by measuring within a memory bound, never guessed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

GAIN = 1.03  # a batch twice as large must be this much faster per image to be worth its memory
LARGEST = 256
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


def measured_batch(trial: Callable[[], Callable[[int], object]], largest: int, budget: float = 1.0) -> int:
    """The smallest power of two beyond which doubling gains less than 3 % per image.

    Args:
        trial: makes the run to be timed; it takes the batch size.
        largest: never tried beyond.
        budget: seconds after which the best so far is taken.
    """
    run = trial()
    run(1)  # allocations and code paths of the first run are not the batch's
    start = time.perf_counter()
    best, best_rate, batch = 1, 0.0, 1
    while batch <= largest:
        rate = batch / min(_seconds(run, batch) for _ in range(2))
        if rate > best_rate * GAIN:
            best, best_rate = batch, rate
        elif batch >= 4 * best:
            break
        if time.perf_counter() - start > budget:
            break
        batch *= 2
    return best


def _seconds(run: Callable[[int], object], batch: int) -> float:
    start = time.perf_counter()
    run(batch)
    return time.perf_counter() - start
