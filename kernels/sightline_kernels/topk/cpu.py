"""In Numba: a heap of the k best for every row, rows side by side on all cores."""

from __future__ import annotations

import numba
import numpy as np

from sightline_kernels.topk.reference import Floats, Ints, check, not_a_number


def topk(values: Floats, k: int) -> tuple[Floats, Ints]:
    """The k largest of every row; see the reference."""
    check(values, k)
    found, places = np.empty((len(values), k), np.float32), np.empty((len(values), k), np.int64)
    bad = np.zeros(len(values), np.bool_)
    _topk(np.ascontiguousarray(values), found, places, bad)
    if bad.any():
        raise not_a_number(int(bad.argmax()))
    return found, places


@numba.njit(cache=True, inline="always")
def _worse(value, place, other, there):  # type: ignore[no-untyped-def]
    """Whether the first stands behind the second: smaller, or as large and later."""
    return value < other or (value == other and place > there)


@numba.njit(cache=True)
def _sink(found, places, root, count):  # type: ignore[no-untyped-def]
    """Let what stands at the root of a heap, whose top is the worst, sink to its place."""
    while True:
        worst = root
        for child in (2 * root + 1, 2 * root + 2):
            if child < count and _worse(found[child], places[child], found[worst], places[worst]):
                worst = child
        if worst == root:
            return
        found[root], found[worst] = found[worst], found[root]
        places[root], places[worst] = places[worst], places[root]
        root = worst


@numba.njit(cache=True, parallel=True, nogil=True)
def _topk(values, found, places, bad):  # type: ignore[no-untyped-def]
    count, k = values.shape[1], found.shape[1]
    for row in numba.prange(len(values)):
        best, at = found[row], places[row]
        for n in range(count):
            value = values[row, n]
            if np.isnan(value):
                bad[row] = True
            elif n < k:
                best[n], at[n] = value, n
                if n == k - 1:
                    for root in range(k // 2, -1, -1):
                        _sink(best, at, root, k)
            elif value > best[0]:  # of equal ones the earlier is here already
                best[0], at[0] = value, n
                _sink(best, at, 0, k)
        for last in range(k - 1, 0, -1):  # the worst goes to the end
            best[0], best[last] = best[last], best[0]
            at[0], at[last] = at[last], at[0]
            _sink(best, at, 0, last)
