"""In Numba: compiled loops over rows, each for one thread."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from sightline_kernels.knn.reference import LANES, LARGEST
from sightline_kernels.knn.registers.cpu import (
    HEIGHT,
    LANE,
    add_lanes,
    lowest,
    passing,
    prefetch,
    single,
    tile_1,
    tile_2,
    tile_3,
)

DEPTH = 2048  # dimensions that a tile adds up before its sums are put aside: bounds rounding, and fits the cache
UNIT = 2.0**-24  # of float32
CHUNK = 2**16  # values of the rows that are multiplied together: they stay in the second-level cache
TINY = 2.0**-120  # what underflow may take from 2^29 products

Floats, Doubles, Ints = NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]


class Asked(NamedTuple):
    """What compiled functions know of the queries."""

    metric: int  # 0 l2, 1 cosine, 2 inner product
    queries: Floats  # (Q, D) padded to whole lanes
    lengths: Doubles  # (Q,)
    centre: Floats  # (D,) subtracted from rows (for cosine: from rows of length one)
    panels: Floats  # queries, centred if for l2, as tiles read them: (D, width) one after the other
    widths: Ints  # vectors of each panel
    bounds: Floats  # (padded Q,) times a row's length: the error of its product
    scale: Doubles  # (Q,) and
    shift: Doubles  # (Q,): scan's value of a row = key * scale + shift
    limits: Floats  # (padded Q,) no row whose scanned value is larger can be among the nearest; shared by all threads


class Found(NamedTuple):
    """What one thread has found, and where it works."""

    keys: Doubles  # (Q, k) heaps, the largest on top
    indices: Ints  # (Q, k)
    lower: Floats  # (Q, room) bounds of rows not yet measured
    upper: Floats  # (Q, room)
    pending: Ints  # (Q, room) rows of the block at hand
    counts: Ints  # (Q,) how many
    wide: Floats  # (D,) padded
    lanes: Doubles  # (LANES,)


@numba.njit(cache=True, nogil=True)
def _total(query, row, squared, lanes):  # type: ignore[no-untyped-def]
    """The reference's sum over two padded vectors."""
    lanes[:] = 0
    add_lanes(query.ctypes.data, row.ctypes.data, len(row) // LANES, squared, lanes.ctypes.data)
    half = LANES // 2
    while half:
        for j in range(half):
            lanes[j] += lanes[j + half]
        half //= 2
    return lanes[0]


@numba.njit(cache=True, nogil=True)
def lengths(padded):  # type: ignore[no-untyped-def]
    """|q| of padded queries, as the reference has it."""
    lanes, lengths = np.empty(LANES), np.empty(len(padded))
    for q in range(len(padded)):
        lengths[q] = np.sqrt(_total(padded[q], padded[q], False, lanes))
    return lengths


@numba.njit(cache=True, nogil=True)
def _measure(row, q, asked, found):  # type: ignore[no-untyped-def]
    """The reference's key."""
    wide = found.wide
    for d in range(len(row)):
        wide[d] = single(row[d])
    key = _total(asked.queries[q], wide, asked.metric == 0, found.lanes)
    if asked.metric == 0:
        return key
    if asked.metric == 1:
        length = asked.lengths[q] * np.sqrt(_total(wide, wide, False, found.lanes))
        key = key / (length if length > 0 else np.inf)
    return -key


@numba.njit(cache=True, nogil=True)
def _offer(row, index, q, asked, found):  # type: ignore[no-untyped-def]
    """Put a row into the query's heap if it belongs there, and lower the query's limit."""
    key = _measure(row, q, asked, found)
    heap, names = found.keys[q], found.indices[q]
    if key > heap[0] or (key == heap[0] and index > names[0]):
        return
    k, place = len(heap), 0
    while 2 * place + 1 < k:
        child = 2 * place + 1
        other = child + 1
        if other < k and (heap[other] > heap[child] or (heap[other] == heap[child] and names[other] > names[child])):
            child = other
        if key > heap[child] or (key == heap[child] and index > names[child]):
            break
        heap[place], names[place] = heap[child], names[child]
        place = child
    heap[place], names[place] = key, index
    limit = heap[0] * asked.scale[q] + asked.shift[q]
    limit += (abs(heap[0] * asked.scale[q]) + abs(asked.shift[q])) * 1e-12  # rounding of the line before
    narrow = np.float32(limit + abs(limit) * 2.0**-22)
    if narrow < asked.limits[q]:  # threads may overwrite each other: either's limit is valid
        asked.limits[q] = narrow


@numba.njit(cache=True, nogil=True)
def _bad(row):  # type: ignore[no-untyped-def]
    """Whether a value is not finite or too large."""
    good = True
    for d in range(len(row)):
        good &= abs(single(row[d])) <= LARGEST
    return not good


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _compare(row, query, squared):  # type: ignore[no-untyped-def]
    """|q - x|² or -qx, and |x|²."""
    value, length = np.float32(0), np.float32(0)
    if squared:
        for d in range(len(row)):
            one = single(row[d])
            value += (query[d] - one) * (query[d] - one)
            length += one * one
        return value, length
    for d in range(len(row)):
        one = single(row[d])
        value -= query[d] * one
        length += one * one
    return value, length


@numba.njit(cache=True, nogil=True)
def scan_rows(rows, first, start, stop, mask, asked, found):  # type: ignore[no-untyped-def]
    """A row at a time, for few queries: as fast as memory is. Returns the index of a row that is no good, or -1."""
    growth = np.float32((rows.shape[1] + 16) * UNIT * 1.02)
    for r in range(start, stop):
        if len(mask) and not mask[r]:
            continue
        for q in range(len(asked.queries)):
            value, square = _compare(rows[r], asked.queries[q], asked.metric == 0)
            if not square < 2.0**98 and _bad(rows[r]):
                return first + r
            if asked.metric == 0:
                lower = value - value * growth
            elif asked.metric == 2:
                lower = value - asked.bounds[q] * (np.sqrt(square) * np.float32(1 + growth) + np.float32(2.0**-60))
            elif square > 2.0**-60:
                lower = value / np.sqrt(square) - asked.bounds[q] * np.float32(4)
            else:
                lower = -np.float32(np.inf)
            if lower - np.float32(TINY) <= asked.limits[q]:
                _offer(rows[r], first + r, q, asked, found)
    return -1


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _length(row):  # type: ignore[no-untyped-def]
    """|x| in float64."""
    total = 0.0
    for d in range(len(row)):
        total += np.float64(single(row[d])) ** 2
    return np.sqrt(total)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _pack(row, factor, centre, packed):  # type: ignore[no-untyped-def]
    """Write x * factor - c, and return its square."""
    square = np.float32(0)
    for d in range(len(row)):
        one = single(row[d]) * factor - centre[d]
        packed[d] = one
        square += one * one
    return square


@numba.njit(cache=True, nogil=True)
def _fill(rows, r, stop, mask, asked, packed, taken, terms):  # type: ignore[no-untyped-def]
    """Pack the next rows that the mask leaves: the row behind them, their number, and whether the last is no good."""
    depth, count = rows.shape[1], 0
    growth = (min(depth, DEPTH) + depth // DEPTH + 16) * UNIT * 1.02
    while r < stop and count < len(taken):
        if not len(mask) or mask[r]:
            length = _length(rows[r]) if asked.metric == 1 else 1.0
            factor = 1 / length if asked.metric == 1 and length > 2.0**-30 else 1.0
            square = 0.0
            for d in range(0, depth, DEPTH):  # its roundings are no more than the products'
                part = slice(d, min(d + DEPTH, depth))
                square += _pack(rows[r, part], np.float32(factor), asked.centre[part], packed[count, part])
            if not (length < 2.0**49 and square < 2.0**98) and _bad(rows[r]):
                return r, count, True
            taken[count] = r
            half = square if asked.metric == 0 else 0.0
            terms[0, count], terms[1, count] = half * (0.5 - growth) - TINY, half * (0.5 + growth) + TINY
            terms[2, count] = np.sqrt(square) * (1 + growth) + 2.0**-60
            if asked.metric == 1:  # rounding of x / |x|
                terms[2, count] = terms[2, count] + 4 if length > 2.0**-30 else np.inf
            count += 1
        r += 1
    return r, count, False


@numba.njit(cache=True, nogil=True)
def _multiply(packed, count, depth, panel, width, sums, following, last):  # type: ignore[no-untyped-def]
    """Products of packed rows and a panel of queries, tile by tile, into (count, width * LANE).

    Meanwhile memory fetches the rows between two addresses, a share with each tile.
    """
    n, stride = width * LANE, packed.shape[1]
    sums[: -(-count // HEIGHT) * HEIGHT * n] = 0
    for d in range(0, depth, DEPTH):
        deep = min(DEPTH, depth - d)
        for i in range(0, count, HEIGHT):
            of, to = packed.ctypes.data + (i * stride + d) * 4, sums.ctypes.data + i * n * 4
            share = HEIGHT * deep * 4
            prefetch(min(following, last), min(following + share, last))
            following += share
            if width == 3:
                tile_3(of, stride, panel + d * n * 4, deep, to)
            elif width == 2:
                tile_2(of, stride, panel + d * n * 4, deep, to)
            else:
                tile_1(of, stride, panel + d * n * 4, deep, to)


@numba.njit(cache=True, nogil=True)
def _select(sums, at, count, width, column, taken, terms, asked, found):  # type: ignore[no-untyped-def]
    """Note rows from ``at`` on for queries that may want them; the row behind, and whether a query has no room."""
    bounds, limits = asked.bounds.ctypes.data + column * 4, asked.limits.ctypes.data + column * 4
    products, n, room = sums.ctypes.data, width * LANE, found.pending.shape[1]
    for i in range(at, count):
        base, size = terms[0, i], terms[2, i]
        mask = passing(products + i * n * 4, bounds, limits, base, size, width)
        full = False
        while mask:
            j = lowest(mask)
            mask &= mask - 1
            q = column + j
            if q < len(asked.queries):
                error, product, place = asked.bounds[q] * size, sums[i * n + j], found.counts[q]
                found.lower[q, place], found.upper[q, place] = base - error - product, terms[1, i] + error - product
                found.pending[q, place] = taken[i]
                found.counts[q] = place + 1
                if place + 1 == room:
                    _prune(q, asked, found)
                    full |= found.counts[q] == room
        if full:
            return i + 1, True
    return count, False


@numba.njit(cache=True, nogil=True)
def _prune(q, asked, found):  # type: ignore[no-untyped-def]
    """Lower a query's limit to the k-th smallest upper bound of its pending rows, and drop those beyond."""
    count, k = found.counts[q], found.keys.shape[1]
    if count >= k:
        limit = np.partition(found.upper[q, :count], k - 1)[k - 1]
        limit += abs(limit) * np.float32(2.0**-22)
        if limit < asked.limits[q]:
            asked.limits[q] = limit
    left = 0
    for n in range(count):
        if found.lower[q, n] <= asked.limits[q]:
            found.lower[q, left], found.upper[q, left] = found.lower[q, n], found.upper[q, n]
            found.pending[q, left] = found.pending[q, n]
            left += 1
    found.counts[q] = left


@numba.njit(cache=True, nogil=True)
def drain(rows, first, least, asked, found):  # type: ignore[no-untyped-def]
    """Measure the pending rows of queries that have ``least`` of them or more."""
    for q in range(len(asked.queries)):
        if found.counts[q] >= least:
            _prune(q, asked, found)
            for n in range(found.counts[q]):
                if found.lower[q, n] <= asked.limits[q]:
                    _offer(rows[found.pending[q, n]], first + found.pending[q, n], q, asked, found)
            found.counts[q] = 0


@numba.njit(cache=True, nogil=True)
def scan_tiles(rows, first, start, stop, mask, asked, found):  # type: ignore[no-untyped-def]
    """Rows are packed, a chunk at a time, and multiplied with every panel. Returns a row that is no good, or -1."""
    depth = rows.shape[1]
    height = max(HEIGHT, CHUNK // depth // HEIGHT * HEIGHT)
    packed = np.zeros((height, depth + 16), np.float32)  # rows a power of two apart would share few cache lines
    taken, terms = np.empty(height, np.int64), np.empty((3, height), np.float32)
    sums = np.empty(height * max(asked.widths) * LANE, np.float32)
    size = rows.itemsize * depth
    end = rows.ctypes.data + stop * size
    r = start
    while r < stop:
        r, count, bad = _fill(rows, r, stop, mask, asked, packed, taken, terms)
        if bad:
            return first + r
        column = 0
        for width in asked.widths:
            n = width * LANE
            panel = asked.panels.ctypes.data + column * depth * 4
            _multiply(packed, count, depth, panel, width, sums, rows.ctypes.data + r * size, 0 if column else end)
            at = 0
            while at < count:
                at, full = _select(sums, at, count, width, column, taken, terms, asked, found)
                if full:
                    drain(rows, first, found.pending.shape[1], asked, found)
            column += n
    return -1
