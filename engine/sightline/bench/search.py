"""The highest rate at which a server keeps its promise."""

from __future__ import annotations

from collections.abc import Callable

CLOSE = 1.05  # the search ends when what holds and what does not are this close
FIRST = 0.5  # of the capacity, where the search begins
IDLE = 0.02  # of the capacity: a bound that does not hold here holds nowhere
DOUBT = 1.1  # by which a rate found is lowered when other arrivals do not confirm it


def highest_rate(holds: Callable[[float, int], bool], capacity: float) -> float | None:
    """The highest rate that holds, within 5 %, confirmed by other arrivals; None where there is none.

    One pattern of arrivals has a burst that another has not, so that a rate counts once it held under two: where the
    second does not confirm it, a rate a tenth lower is tried with a third, and so on.

    Args:
        holds: whether the promise was kept at a rate; the second argument is 0 for the search and rises with every
            attempt at confirming, for another pattern of arrivals.
        capacity: what the workers can do at most, in the same unit. It does not hold, since a queue needs slack;
            nothing above is tried.
    """
    kept, broken = _bracket(holds, capacity)
    while kept and broken / kept > CLOSE:
        middle = (kept * broken) ** 0.5
        if holds(middle, 0):
            kept = middle
        else:
            broken = middle
    attempt = 1
    while kept > IDLE * capacity:
        if holds(kept, attempt):
            return kept
        kept, attempt = kept / DOUBT, attempt + 1
    return None


def _bracket(holds: Callable[[float, int], bool], capacity: float) -> tuple[float, float]:
    """A rate that holds and a higher one that does not; 0 where none holds."""
    rate = FIRST * capacity
    if holds(rate, 0):
        return rate, capacity
    while rate / 2 > IDLE * capacity:
        below = rate / 2
        if holds(below, 0):
            return below, rate
        rate = below
    return 0.0, rate
