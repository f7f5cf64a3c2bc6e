"""In Numba: a scan in float32 that bounds its own error, and float64 for the rows that the bound lets through.

For every row and query a lower bound of the key is computed, in the expanded form |x|²/2 - qx of centred vectors. A
row whose bound exceeds the k-th key found so far cannot be among the k nearest; any other is measured as the
reference does. So nothing depends on the order of the work. No BLAS is called: what it multiplies would have to be written and
read again, and its threads would fight with ours. Products stay in registers until they are compared.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from sightline_kernels.knn.reference import LANES, LARGEST, Metric, Rows, Search, bad_row, values
from sightline_kernels.knn.registers.cpu import (
    HEIGHT,
    LANE,
    WIDTHS,
    add_lanes,
    lowest,
    passing,
    single,
    tile_1,
    tile_2,
    tile_3,
)

__all__ = ["search"]

DEPTH = 2048  # dimensions that a tile adds up before its sums are put aside: bounds rounding, and fits the cache
UNIT = 2.0**-24  # of float32
FEW = 2  # queries that a row at a time serves faster than tiles do
FLOATS = 2**24  # of packed queries in one pass over the bank: 64 MiB
CHUNK = 2**16  # values of the rows that are multiplied together: they stay in the second-level cache
SAMPLE = 256  # rows whose mean is the centre
LEAST = 2**19  # values of the rows that a thread takes at a time
TINY = 2.0**-120  # what underflow may take from 2^29 products

Floats, Doubles, Ints = NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]


def search(
    rows: Rows,
    queries: NDArray[Any],
    k: int,
    *,
    metric: Metric = "l2",
    mask: NDArray[np.bool_] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest rows of every query; see the reference."""
    asked = Search.of(rows, queries, k, metric, mask)
    count = len(asked.queries)
    keys, indices = np.empty((count, k)), np.empty((count, k), np.int64)
    workers = threads or os.cpu_count() or 1
    centre = _centre(asked) if count > FEW else np.zeros(asked.dimensions, np.float32)
    step = max(LANE, min(1024, FLOATS // asked.dimensions))
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        keys[part], indices[part] = _Pass.of(asked, asked.queries[part], centre, workers).run()
    return values(keys, metric), indices


class _Asked(NamedTuple):
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


class _Found(NamedTuple):
    """What one thread has found, and where it works."""

    keys: Doubles  # (Q, k) heaps, the largest on top
    indices: Ints  # (Q, k)
    lower: Floats  # (Q, room) bounds of rows not yet measured
    upper: Floats  # (Q, room)
    pending: Ints  # (Q, room) rows of the block at hand
    counts: Ints  # (Q,) how many
    wide: Floats  # (D,) padded
    lanes: Doubles  # (LANES,)


class _Cut(NamedTuple):
    """Some rows of a block."""

    rows: NDArray[Any]  # (n, D) the block: float32, or the bits of float16
    first: int  # index of the block's first row
    start: int  # of the piece in the block
    stop: int
    mask: NDArray[np.bool_]  # (n,), or empty


@dataclass(frozen=True)
class _Pass:
    """Some queries on their way over the whole bank."""

    search: Search
    asked: _Asked
    threads: int

    @classmethod
    def of(cls, search: Search, queries: Floats, centre: Floats, threads: int) -> _Pass:
        few, depth, metric = len(queries) <= FEW, search.dimensions, search.metric
        wide, middle = queries.astype(np.float64), centre.astype(np.float64)
        moved = queries - centre if metric == "l2" else queries
        norms = np.linalg.norm(moved.astype(np.float64), axis=1)
        scale = norms if metric == "cosine" else np.full(len(queries), 0.5 if metric == "l2" and not few else 1.0)
        shift = np.square(wide - middle).sum(axis=1) * -0.5 if metric == "l2" else wide @ middle
        widths = _widths(len(queries))
        bounds = np.zeros(int(widths.sum()) * LANE, np.float32)
        bounds[: len(queries)] = norms * _growth(depth if few else min(depth, DEPTH) + depth // DEPTH)
        limits = np.full(len(bounds), -np.inf, np.float32)  # of the padding: nothing passes
        limits[: len(queries)] = np.inf
        padded = np.pad(queries, ((0, 0), (0, -depth % LANES)))
        asked = _Asked(
            metric=("l2", "cosine", "inner_product").index(metric),
            queries=padded,
            lengths=_lengths(padded),
            centre=centre,
            panels=np.empty(0, np.float32) if few else _panels(moved, widths),
            widths=widths,
            bounds=np.nextafter(bounds, np.float32(np.inf)),
            scale=scale,
            shift=np.zeros(len(queries)) if few else shift,
            limits=limits,
        )
        return cls(search, asked, threads)

    def run(self) -> tuple[Doubles, Ints]:
        """Keys and indices (Q, k), sorted."""
        cuts, lock, k, count = self._cuts(), threading.Lock(), self.search.k, len(self.asked.queries)
        with ThreadPoolExecutor(self.threads) as pool:
            scans = [pool.submit(self._scan, cuts, lock) for _ in range(self.threads)]
            done = [scan.result() for scan in scans]
            bad = [index for _, _, index in done if index >= 0]
            if bad:
                raise bad_row(min(bad))
            upper = np.concatenate([_padded(found) for found, _, _ in done], axis=1)
            if upper.shape[1] > k:  # what all threads know together, before any measures what is still pending
                best = np.partition(upper, k - 1, axis=1)[:, k - 1]
                np.minimum(self.asked.limits[:count], best, out=self.asked.limits[:count])
            list(pool.map(self._finish, done))
        keys = np.concatenate([found.keys for found, _, _ in done], axis=1)
        indices = np.concatenate([found.indices for found, _, _ in done], axis=1)
        order = np.lexsort((indices, keys), axis=1)[:, :k]
        return np.take_along_axis(keys, order, axis=1), np.take_along_axis(indices, order, axis=1)

    def _cuts(self) -> Iterator[_Cut]:
        """Pieces of all blocks: large ones first, since threads that share few pieces wait for each other less."""
        depth, mask, left = self.search.dimensions, self.search.mask, self.search.count
        for first, block in zip(self.search.starts, self.search.blocks, strict=True):
            kept = np.empty(0, np.bool_) if mask is None else mask[first : first + len(block)]
            bits = np.ascontiguousarray(block).view(np.uint16 if block.dtype == np.float16 else np.float32)
            bits.flags.writeable = False  # as those of mapped files: one compiled form serves both
            start = 0
            while start < len(block):
                stop = min(len(block), start + max(1, max(left * depth // (2 * self.threads), LEAST) // depth))
                if mask is None or kept[start:stop].any():
                    yield _Cut(bits, first, start, stop, kept)
                start, left = stop, left - (stop - start)

    def _scan(self, cuts: Iterator[_Cut], lock: threading.Lock) -> tuple[_Found, _Cut | None, int]:
        """One thread: what it found, the block that its pending rows are of, and a row that is no good, or -1."""
        count, k, asked = len(self.asked.queries), self.search.k, self.asked
        few, cut = count <= FEW, None
        room = 0 if few else 2 * k + 64
        found = _Found(
            keys=np.full((count, k), np.inf),
            indices=np.full((count, k), np.iinfo(np.int64).max),
            lower=np.empty((count, room), np.float32),
            upper=np.empty((count, room), np.float32),
            pending=np.empty((count, room), np.int64),
            counts=np.zeros(count, np.int64),
            wide=np.zeros(asked.queries.shape[1], np.float32),
            lanes=np.empty(LANES),
        )
        while True:
            with lock:
                following = next(cuts, None)
            if following is None:
                return found, cut, -1
            if cut is not None and following.first != cut.first:
                _drain(cut.rows, cut.first, 1, asked, found)
            cut = following
            bad = (_scan_rows if few else _scan_tiles)(*cut, asked, found)
            if bad >= 0:
                return found, cut, bad

    def _finish(self, done: tuple[_Found, _Cut | None, int]) -> None:
        found, cut, _ = done
        if cut is not None:
            _drain(cut.rows, cut.first, 1, self.asked, found)


def _padded(found: _Found) -> Floats:
    """(Q, room) upper bounds of what is pending, and infinity where there is none."""
    return np.where(np.arange(found.upper.shape[1]) < found.counts[:, None], found.upper, np.float32(np.inf))


def _growth(roundings: int) -> float:
    """How much of a sum may be lost by so many roundings, and by those around it."""
    return (roundings + 16) * UNIT * 1.02


def _centre(asked: Search) -> NDArray[np.float32]:
    """The mean of some rows spread over the bank: any vector would do, this one keeps the bounds tight."""
    total, count = np.zeros(asked.dimensions), 0
    share = max(1, SAMPLE // len(asked.starts))
    for first, block in zip(asked.starts, asked.blocks, strict=True):
        chosen = np.unique(np.linspace(0, len(block) - 1, min(share, len(block)), dtype=np.int64))
        if asked.mask is not None:
            chosen = chosen[asked.mask[first + chosen]]
        for few in np.array_split(chosen, max(1, len(chosen) * asked.dimensions // LEAST)):  # rows may be long
            some = block[few].astype(np.float32)
            some = some[(np.abs(some) <= LARGEST).all(axis=1)]
            lengths = np.linalg.norm(some, axis=1) if asked.metric == "cosine" else np.ones(len(some), np.float32)
            total += (some[lengths > 0] / lengths[lengths > 0, None]).sum(axis=0)
            count += len(some)
    return (total / max(count, 1)).astype(np.float32)


def _widths(count: int) -> NDArray[np.int64]:
    """Vectors of each panel: as wide as can be, and the last as narrow as holds the rest."""
    widths: list[int] = []
    left = -(-count // LANE)
    while left:
        widths.append(next(width for width in WIDTHS if width <= left))
        left -= widths[-1]
    return np.array(widths, np.int64)


def _panels(queries: NDArray[np.float32], widths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Queries (Q, D) as panels (D, width), flat."""
    padded = np.zeros((int(widths.sum()) * LANE, queries.shape[1]), np.float32)
    padded[: len(queries)] = queries
    edges = np.cumsum(widths)[:-1] * LANE
    return np.concatenate([np.ascontiguousarray(part.T).ravel() for part in np.split(padded, edges)])


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
def _lengths(padded):  # type: ignore[no-untyped-def]
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
    for d in range(len(row)):
        if not abs(single(row[d])) <= LARGEST:
            return True
    return False


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
def _scan_rows(rows, first, start, stop, mask, asked, found):  # type: ignore[no-untyped-def]
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
def _multiply(packed, count, depth, panel, width, sums):  # type: ignore[no-untyped-def]
    """Products of packed rows and a panel of queries, tile by tile, into (count, width * LANE)."""
    n, stride = width * LANE, packed.shape[1]
    sums[: -(-count // HEIGHT) * HEIGHT * n] = 0
    for d in range(0, depth, DEPTH):
        deep = min(DEPTH, depth - d)
        for i in range(0, count, HEIGHT):
            of, to = packed.ctypes.data + (i * stride + d) * 4, sums.ctypes.data + i * n * 4
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
def _drain(rows, first, least, asked, found):  # type: ignore[no-untyped-def]
    """Measure the pending rows of queries that have ``least`` of them or more."""
    for q in range(len(asked.queries)):
        if found.counts[q] >= least:
            _prune(q, asked, found)
            for n in range(found.counts[q]):
                if found.lower[q, n] <= asked.limits[q]:
                    _offer(rows[found.pending[q, n]], first + found.pending[q, n], q, asked, found)
            found.counts[q] = 0


@numba.njit(cache=True, nogil=True)
def _scan_tiles(rows, first, start, stop, mask, asked, found):  # type: ignore[no-untyped-def]
    """Rows are packed, a chunk at a time, and multiplied with every panel. Returns a row that is no good, or -1."""
    depth = rows.shape[1]
    height = max(HEIGHT, CHUNK // depth // HEIGHT * HEIGHT)
    packed = np.zeros((height, depth + 16), np.float32)  # rows a power of two apart would share few cache lines
    taken, terms = np.empty(height, np.int64), np.empty((3, height), np.float32)
    sums = np.empty(height * max(asked.widths) * LANE, np.float32)
    r = start
    while r < stop:
        r, count, bad = _fill(rows, r, stop, mask, asked, packed, taken, terms)
        if bad:
            return first + r
        column = 0
        for width in asked.widths:
            n = width * LANE
            _multiply(packed, count, depth, asked.panels.ctypes.data + column * depth * 4, width, sums)
            at = 0
            while at < count:
                at, full = _select(sums, at, count, width, column, taken, terms, asked, found)
                if full:
                    _drain(rows, first, found.pending.shape[1], asked, found)
            column += n
    return -1
