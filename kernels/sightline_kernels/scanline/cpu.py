"""In Numba, on all cores: pixels that do not see each other are made at once, each against many candidates at a time.

The sum of w (a - b)² over a window is that of w a², which is the same for all candidates, and of terms linear in b
and b². It is at most 2**31 - 1, so that 32-bit sums are exact however they overflow on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from threading import Barrier, Thread
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from sightline_kernels.scanline.task import Bools, Bytes, Order, Task, Tell

PIECE = 4e9  # products between two reports: a tenth of a second
BLOCK = 512  # candidates whose sums stay in the first cache
BLOCKED = 2**31 - 1  # distance of what is no candidate
TERMS = 8  # added in one pass over a block


def synthesise(
    sample: Bytes,
    canvas: Bytes,
    known: Bools,
    *,
    window: int = 11,
    tolerance: float = 0.1,
    seed: int = 0,
    order: Order = "scanline",
    tileable: bool = False,
    usable: Bools | None = None,
    tell: Tell | None = None,
    threads: int | None = None,
) -> NDArray[np.int64]:
    """Fill the unknown pixels of a canvas with pixels of a sample; see the reference."""
    task = Task.of(sample, canvas, known, window, tolerance, seed, order, tileable, usable)
    sources = np.full(known.shape, -1, np.int64)
    if not len(task.order):
        return sources
    pixels, starts = fronts(task)
    planes, blocked = _planes(task)
    lines, columns = np.nonzero(task.weights)
    taps = np.stack([lines - task.reach, columns - task.reach, task.weights[lines, columns]], axis=1)  # (taps, 3)
    width, per_pixel = canvas.shape[2], planes.size * len(taps)
    crew = _Crew(threads or numba.get_num_threads(), len(blocked))
    first = 0
    while first < len(starts) - 1:
        least = starts[first] + PIECE / per_pixel
        last = min(max(int(np.searchsorted(starts, least)), first + 1), len(starts) - 1)
        crew.fill(
            starts[first : last + 1].tolist(), pixels, task.ranks,
            (canvas.reshape(-1, width), sample.reshape(-1, width)), (planes, blocked, taps, sample.shape[1]),
            (seed, tolerance, tileable), (sources.ravel(), known.ravel()),
        )  # fmt: skip
        first = last
        if tell is not None and not tell(int(starts[last]), len(pixels)):
            break
    return sources


class _Crew:
    """Threads that share the pixels of each front, and wait for each other before the next.

    They sleep while they wait: there are a thousand fronts a second, and OpenMP's threads, which spin, take ten times
    as long as soon as another process wants one of the cores.
    """

    def __init__(self, size: int, distances: int):
        self._barrier = Barrier(size)
        self._distances = np.empty((size, distances), np.int32)

    def fill(self, starts: Sequence[int], *arguments: Any) -> None:
        """Make the pixels of some fronts."""
        others = [Thread(target=self._take, args=(n, starts, arguments)) for n in range(1, self._barrier.parties)]
        for one in others:
            one.start()
        try:
            self._take(0, starts, arguments)
        finally:
            for one in others:
                one.join()

    def _take(self, worker: int, starts: Sequence[int], arguments: Sequence[Any]) -> None:
        try:
            for start, stop in pairwise(starts):
                _fill(start + worker, stop, self._barrier.parties, self._distances[worker], *arguments)
                self._barrier.wait()
        except BaseException:
            self._barrier.abort()  # nobody waits for who is gone
            raise


def fronts(task: Task) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The unknown pixels (N,) sorted by when they can be made at the earliest, and where each moment begins (M + 1,).

    A pixel can be made once all earlier ones of the order are that lie in its window. In scanline order that is a
    diagonal front, in which each line is half a window behind the line above.
    """
    lines, columns = np.nonzero(task.weights)
    fronts = np.zeros(task.known.shape, np.int64)
    _fronts(task.order, task.ranks, lines - task.reach, columns - task.reach, task.tileable, fronts)
    found = fronts.ravel()[task.order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(found))])
    return task.order[np.argsort(found, kind="stable")], starts


def _planes(task: Task) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Channels of the sample and the sum of their squares (C + 1, at least h * w), and what is no candidate."""
    height, width, channels = task.sample.shape
    firsts = task.candidates - task.reach * (width + 1)  # numbers of the windows' first pixels
    size = -(-int(firsts[-1] + 1) // BLOCK) * BLOCK
    room = size + task.window * (width + 1)  # the last block's windows end behind the sample
    planes = np.zeros((channels + 1, max(room, height * width)), np.int32)
    planes[:-1, : height * width] = task.sample.reshape(-1, channels).T
    planes[-1] = np.square(planes[:-1]).sum(axis=0)
    blocked = np.full(size, BLOCKED, np.int32)
    blocked[firsts] = 0
    return planes, blocked


@numba.njit(cache=True, nogil=True)
def _fronts(order, ranks, dy, dx, tileable, fronts):  # type: ignore[no-untyped-def]
    height, width = ranks.shape
    for rank in range(len(order)):
        y, x = order[rank] // width, order[rank] % width
        latest = -1
        for tap in range(len(dy)):
            line, column = y + dy[tap], x + dx[tap]
            if tileable:
                line, column = line % height, column % width
            elif line < 0 or line >= height or column < 0 or column >= width:
                continue
            if 0 <= ranks[line, column] < rank:
                latest = max(latest, fronts[line, column])
        fronts[y, x] = latest + 1


@numba.njit(cache=True, nogil=True)
def _fill(start, stop, step, distances, pixels, ranks, pictures, sought, rules, made):  # type: ignore[no-untyped-def]
    (canvas, sample), (planes, blocked, taps, across), (sources, known) = pictures, sought, made
    seed, tolerance, tileable = rules
    reach = -taps[:, 0].min()
    for n in range(start, stop, step):
        pixel = pixels[n]
        places, factors, constant = _terms(pixel, ranks, canvas, planes, taps, across, reach, tileable)
        least = _measure(planes.ravel(), blocked, places, factors, constant, distances)
        limit = np.int64(min(least * (1.0 + tolerance), BLOCKED - 1.0))
        source = _choose(distances, limit, seed, pixel) + reach * (across + 1)
        canvas[pixel] = sample[source]
        sources[pixel], known[pixel] = source, True


@numba.njit(cache=True, nogil=True)
def _terms(pixel, ranks, canvas, planes, taps, across, reach, tileable):  # type: ignore[no-untyped-def]
    """Places in the planes, from the first pixel of a window, and their factors; what all candidates share."""
    height, width = ranks.shape
    channels = canvas.shape[1]
    y, x, rank = pixel // width, pixel % width, ranks.ravel()[pixel]
    places = np.zeros(len(taps) * (channels + 1) + TERMS, np.int64)
    factors = np.zeros(len(places), np.int32)
    count, constant = 0, 0
    for tap in range(len(taps)):
        line, column, weight = y + taps[tap, 0], x + taps[tap, 1], taps[tap, 2]
        if tileable:
            line, column = line % height, column % width
        elif line < 0 or line >= height or column < 0 or column >= width:
            continue
        if ranks[line, column] >= rank:
            continue
        place = (taps[tap, 0] + reach) * across + taps[tap, 1] + reach
        for c in range(channels):
            value = np.int64(canvas[line * width + column, c])
            places[count], factors[count] = c * planes.shape[1] + place, -2 * weight * value
            constant += weight * value * value
            count += 1
        places[count], factors[count] = channels * planes.shape[1] + place, weight
        count += 1
    whole = -(-count // TERMS) * TERMS  # the rest has the factor 0
    return places[:whole], factors[:whole], constant


@numba.njit(cache=True, inline="always")
def _row(planes, places, t, begin):  # type: ignore[no-untyped-def]
    return planes[places[t] + begin : places[t] + begin + BLOCK]


@numba.njit(cache=True, nogil=True)
def _measure(planes, blocked, places, factors, constant, distances):  # type: ignore[no-untyped-def]
    """Write every candidate's distance; the least."""
    least = np.int32(BLOCKED)
    for begin in range(0, len(blocked), BLOCK):
        sums = distances[begin : begin + BLOCK]
        for i in range(BLOCK):
            sums[i] = np.int32(constant)
        for t in range(0, len(places), TERMS):
            a0, a1, a2, a3 = (
                _row(planes, places, t, begin),
                _row(planes, places, t + 1, begin),
                _row(planes, places, t + 2, begin),
                _row(planes, places, t + 3, begin),
            )
            a4, a5, a6, a7 = (
                _row(planes, places, t + 4, begin),
                _row(planes, places, t + 5, begin),
                _row(planes, places, t + 6, begin),
                _row(planes, places, t + 7, begin),
            )
            f0, f1, f2, f3 = factors[t], factors[t + 1], factors[t + 2], factors[t + 3]
            f4, f5, f6, f7 = factors[t + 4], factors[t + 5], factors[t + 6], factors[t + 7]
            for i in range(BLOCK):
                sums[i] += (f0 * a0[i] + f1 * a1[i] + f2 * a2[i] + f3 * a3[i]) + (
                    f4 * a4[i] + f5 * a5[i] + f6 * a6[i] + f7 * a7[i]
                )
        for i in range(BLOCK):
            sums[i] |= blocked[begin + i]
            least = min(least, sums[i])
    return np.int64(least)


@numba.njit(cache=True, nogil=True)
def _choose(distances, limit, seed, pixel):  # type: ignore[no-untyped-def]
    """Number of the drawn one of those within a limit."""
    limit = np.int32(limit)
    count = 0
    for i in range(len(distances)):
        count += distances[i] <= limit
    z = np.uint64(pixel + 1) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    left = np.int64((((z ^ (z >> np.uint64(31))) >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32))
    for i in range(len(distances)):
        if distances[i] <= limit:
            if left == 0:
                return i
            left -= 1
    return 0  # never: count is at least 1
