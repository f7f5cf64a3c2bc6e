"""In Numba: a scan in float32 that bounds its own error, and float64 for the rows that the bound lets through.

For every row and query a lower bound of the key is computed, in the expanded form |x|²/2 - qx of centred vectors. A row
whose bound exceeds the k-th key found so far cannot be among the k nearest; any other is measured as the reference
does, while it is still in the cache. So nothing depends on the order of the work. No BLAS is called: its tiles would
have to be written and read again, and its threads would fight with ours. The tiles here stay in registers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from sightline_kernels.knn.reference import LANES, LARGEST, Metric, Rows, Search, bad_row, values

__all__ = ["search"]

HEIGHT = 8  # rows of a tile: eight broadcasts for two or three vectors of queries
DEPTH = 2048  # dimensions that a tile adds up before its sums are put aside: bounds rounding, and fits the cache
UNIT = 2.0**-24  # of float32
FEW = 2  # queries that a row at a time serves faster than tiles do
FLOATS = 2**24  # of packed queries in one pass over the bank: 64 MiB
CHUNK = 2**17  # values of the rows that are worked on together: they stay in the second-level cache
SAMPLE = 256  # rows whose mean is the centre
CUT = 2**21  # values of the rows that a thread takes at a time
TINY = 2.0**-120  # what underflow may take from 2^29 products


def _lanes() -> int:
    """Values of one vector register."""
    has = llvmlite.binding.get_host_cpu_features()
    return 16 if has.get("avx512f") else 8 if has.get("avx2") else 4


LANE = _lanes()
WIDTHS = (3, 2, 1) if LANE == 16 else (1,)  # vectors of queries in a tile: 24 of 32 registers, or 8 of 16


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
    centre = _centre(asked) if count > FEW else np.zeros(asked.dimensions, np.float32)
    step = max(LANE, min(1024, FLOATS // asked.dimensions))
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        keys[part], indices[part] = _Pass.of(asked, asked.queries[part], centre).run(threads or os.cpu_count() or 1)
    return values(keys, metric), indices


@dataclass(frozen=True)
class _Pass:
    """Some queries on their way over the whole bank."""

    asked: Search
    queries: NDArray[np.float32]  # (Q, D)
    panels: NDArray[np.float32]  # queries, centred if for l2, as tiles read them: (D, width) one after the other
    widths: NDArray[np.int64]  # vectors of each panel
    centre: NDArray[np.float32]  # (D,) subtracted from rows (for cosine: from rows of length one)
    lengths: NDArray[np.float32]  # (Q,) what a row's length is multiplied with to bound the error
    scale: NDArray[np.float64]  # (Q,) and
    shift: NDArray[np.float64]  # (Q,): scan's value of a row = key * scale + shift
    limits: NDArray[np.float32]  # (Q,) no row whose scanned value is larger can be among the nearest

    @classmethod
    def of(cls, asked: Search, queries: NDArray[np.float32], centre: NDArray[np.float32]) -> _Pass:
        wide, middle = queries.astype(np.float64), centre.astype(np.float64)
        few = len(queries) <= FEW
        centre = centre * np.float32(not few)
        moved = queries - centre if asked.metric == "l2" else queries
        norms = np.linalg.norm(moved.astype(np.float64), axis=1)
        scale = np.ones(len(queries))
        if asked.metric == "l2":
            shift = np.zeros(len(queries)) if few else np.square(wide - middle).sum(axis=1) * -0.5
            scale *= 1.0 if few else 0.5
        else:
            shift = np.zeros(len(queries)) if few else wide @ middle
            if asked.metric == "cosine":
                scale = norms
        depth = asked.dimensions if few else min(asked.dimensions, DEPTH) + -(-asked.dimensions // DEPTH)
        growth = (depth + 16) * UNIT * 1.02
        widths = _widths(len(queries))
        lengths = np.zeros(int(widths.sum()) * LANE)
        lengths[: len(queries)] = norms * growth
        limits = np.full(len(lengths), -np.inf, np.float32)  # of the padding: nothing passes
        limits[: len(queries)] = np.inf
        panels = np.empty(0, np.float32) if few else _panels(moved, widths)
        up = np.nextafter(lengths.astype(np.float32), np.float32(np.inf))
        return cls(asked, queries, panels, widths, centre, up, scale, shift, limits)

    def run(self, threads: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Keys and indices (Q, k), sorted."""
        cuts, lock = self._cuts(), threading.Lock()
        with ThreadPoolExecutor(threads) as pool:
            found = [job.result() for job in [pool.submit(self._work, cuts, lock) for _ in range(threads)]]
        bad = [index for _, _, index in found if index >= 0]
        if bad:
            raise bad_row(min(bad))
        keys = np.concatenate([one for one, _, _ in found], axis=1)
        indices = np.concatenate([one for _, one, _ in found], axis=1)
        order = np.lexsort((indices, keys), axis=1)[:, : self.asked.k]
        return np.take_along_axis(keys, order, axis=1), np.take_along_axis(indices, order, axis=1)

    def _cuts(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Pieces of the blocks, with the index of their first row."""
        size = max(1, CUT // self.asked.dimensions)
        for first, block in zip(self.asked.starts, self.asked.blocks, strict=True):
            for start in range(0, len(block), size):
                yield first + start, block[start : start + size]

    def _work(
        self, cuts: Iterator[tuple[int, NDArray[Any]]], lock: threading.Lock
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
        """One thread: the nearest rows of the pieces that it took, in any order, and a row that is no good, or -1."""
        shape = len(self.queries), self.asked.k
        keys, indices = np.full(shape, np.inf), np.full(shape, np.iinfo(np.int64).max)
        metric = ("l2", "cosine", "inner_product").index(self.asked.metric)
        padded = np.zeros((len(self.queries), -(-self.asked.dimensions // LANES) * LANES), np.float32)
        padded[:, : self.asked.dimensions] = self.queries
        lengths = _lengths(padded)
        while True:
            with lock:
                first, piece = next(cuts, (0, None))
            if piece is None:
                return keys, indices, -1
            kept = np.empty(0, np.bool_) if self.asked.mask is None else self.asked.mask[first : first + len(piece)]
            bits = np.ascontiguousarray(piece).view(np.uint16 if piece.dtype == np.float16 else np.float32)
            bits.flags.writeable = False  # mapped files are read only: one compiled form serves both
            scan = _scan_rows if len(self.queries) <= FEW else _scan_tiles
            bad = scan(
                bits, first, kept, metric, self.centre, padded, lengths, self.panels, self.widths, self.lengths,
                self.scale, self.shift, self.limits, keys, indices,
            )  # fmt: skip
            if bad >= 0:
                return keys, indices, bad


def _centre(asked: Search) -> NDArray[np.float32]:
    """The mean of some rows spread over the bank: any vector would do, this one keeps the bounds tight."""
    total, count = np.zeros(asked.dimensions), 0
    share = max(1, SAMPLE // len(asked.starts))
    for first, block in zip(asked.starts, asked.blocks, strict=True):
        chosen = np.unique(np.linspace(0, len(block) - 1, min(share, len(block)), dtype=np.int64))
        if asked.mask is not None:
            chosen = chosen[asked.mask[first + chosen]]
        for few in np.array_split(chosen, max(1, len(chosen) * asked.dimensions // CUT)):  # rows may be long
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


def _tile(width: int) -> Any:
    """A function that adds the products of HEIGHT rows and ``width`` vectors of queries to (HEIGHT, width * LANE)."""
    real, whole = ir.FloatType(), ir.IntType(64)
    vector = ir.VectorType(real, LANE)

    def build(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        rows, stride, panel, depth, out = given
        rows, panel, out = (builder.inttoptr(one, real.as_pointer()) for one in (rows, panel, out))
        starts = [builder.gep(rows, [builder.mul(stride, whole(i))]) for i in range(HEIGHT)]
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANE}f32"
        )

        def place(base: Any, offset: Any) -> Any:
            return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        d = builder.phi(whole)
        d.add_incoming(whole(0), before)
        sums = [builder.phi(vector) for _ in range(HEIGHT * width)]
        loads = [
            builder.load(place(panel, builder.add(builder.mul(d, whole(width * LANE)), whole(v * LANE))), align=4)
            for v in range(width)
        ]
        for i, start in enumerate(starts):
            one = builder.insert_element(
                ir.Constant(vector, ir.Undefined), builder.load(builder.gep(start, [d])), ir.IntType(32)(0)
            )
            every = builder.shuffle_vector(
                one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANE), [0] * LANE)
            )
            for v, load in enumerate(loads):
                total = sums[i * width + v]
                total.add_incoming(ir.Constant(vector, [0.0] * LANE), before)
                total.add_incoming(builder.call(fma, [every, load, total]), loop)
        following = builder.add(d, whole(1))
        d.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        builder.position_at_end(after)
        for n, total in enumerate(sums):
            where = place(out, whole(n * LANE))
            builder.store(builder.fadd(total.incomings[1][0], builder.load(where, align=4)), where, align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(context: Any, rows: Any, stride: Any, panel: Any, depth: Any, out: Any) -> Any:
        return types.void(*[types.intp] * 5), build

    return tile


_tile_1, _tile_2, _tile_3 = _tile(1), _tile(2), _tile(3)


@intrinsic
def _single(context, value):  # type: ignore[no-untyped-def]
    """A float32 of itself, or of the bits of a float16."""

    def build(context, builder, signature, given):  # type: ignore[no-untyped-def]
        if signature.args[0] == types.float32:
            return given[0]
        return builder.fpext(builder.bitcast(given[0], ir.HalfType()), ir.FloatType())

    return types.float32(value), build


@intrinsic
def _add_lanes(context, query, row, steps, squared, lanes):  # type: ignore[no-untyped-def]
    """Add ``steps`` times LANES terms, (q - x)² or qx in float64, to the lanes: the reference's order and rounding."""
    narrow, wide, whole = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.DoubleType(), LANES), ir.IntType(64)

    def build(context, builder, signature, given):  # type: ignore[no-untyped-def]
        query, row, steps, squared, lanes = given
        query, row = (builder.inttoptr(one, narrow.as_pointer()) for one in (query, row))
        lanes = builder.inttoptr(lanes, wide.as_pointer())
        sums = cgutils.alloca_once_value(builder, builder.load(lanes, align=8))  # becomes registers
        with cgutils.for_range(builder, steps) as loop:
            q, x = (
                builder.fpext(builder.load(builder.gep(one, [loop.index]), align=4), wide) for one in (query, row)
            )
            apart = builder.fsub(q, x)
            term = builder.select(squared, builder.fmul(apart, apart), builder.fmul(q, x))
            builder.store(builder.fadd(builder.load(sums), term), sums)
        builder.store(builder.load(sums), lanes, align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.boolean, types.intp), build


@numba.njit(cache=True, nogil=True)
def _total(query, row, squared, lanes):  # type: ignore[no-untyped-def]
    """The reference's sum over two padded vectors."""
    lanes[:] = 0
    _add_lanes(query.ctypes.data, row.ctypes.data, len(row) // LANES, squared, lanes.ctypes.data)
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
def _offer(row, index, q, metric, padded, lengths, wide, lanes, scale, shift, limits, keys, indices):  # type: ignore[no-untyped-def]
    """Measure a row as the reference does, and put it into the query's heap (largest on top) if it belongs there."""
    for d in range(len(row)):
        wide[d] = _single(row[d])
    key = _total(padded[q], wide, metric == 0, lanes)
    if metric == 1:
        length = lengths[q] * np.sqrt(_total(wide, wide, False, lanes))
        key = key / (length if length > 0 else np.inf)
    if metric:
        key = -key
    heap, names = keys[q], indices[q]
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
    limit = heap[0] * scale[q] + shift[q]
    limit += (abs(heap[0] * scale[q]) + abs(shift[q])) * 1e-12  # rounding of the line before
    narrow = np.float32(limit + abs(limit) * 2.0**-22)
    if narrow < limits[q]:  # threads may overwrite each other: either's limit is valid
        limits[q] = narrow


@numba.njit(cache=True, nogil=True)
def _bad(row):  # type: ignore[no-untyped-def]
    """Whether a value is not finite or too large."""
    for d in range(len(row)):
        if not abs(_single(row[d])) <= LARGEST:
            return True
    return False


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _compare(row, query, squared):  # type: ignore[no-untyped-def]
    """|q - x|² or -qx, and |x|²."""
    value, length = np.float32(0), np.float32(0)
    if squared:
        for d in range(len(row)):
            one = _single(row[d])
            value += (query[d] - one) * (query[d] - one)
            length += one * one
        return value, length
    for d in range(len(row)):
        one = _single(row[d])
        value -= query[d] * one
        length += one * one
    return value, length


@numba.njit(cache=True, nogil=True)
def _scan_rows(
    rows, first, mask, metric, centre, padded, lengths, panels, widths, bounds, scale, shift, limits, keys, indices
):  # type: ignore[no-untyped-def]
    """A row at a time, for few queries: bound by the speed of memory."""
    wide, lanes = np.zeros(padded.shape[1], np.float32), np.empty(LANES)
    growth = np.float32((rows.shape[1] + 16) * UNIT * 1.02)
    for r in range(len(rows)):
        if len(mask) and not mask[r]:
            continue
        for q in range(len(padded)):
            value, square = _compare(rows[r], padded[q], metric == 0)
            if not square < 2.0**98 and _bad(rows[r]):
                return first + r
            if metric == 0:
                low = value - value * growth
            else:
                length = np.sqrt(square) * np.float32(1.001) + np.float32(2.0**-60)
                low = value - bounds[q] * length
                if metric == 1:
                    low = -np.float32(np.inf) if square < 2.0**-60 else value / np.sqrt(square) - bounds[q] * np.float32(3)
            if low - np.float32(TINY) <= limits[q]:
                _offer(
                    rows[r], first + r, q, metric, padded, lengths, wide, lanes, scale, shift, limits, keys, indices
                )
    return -1


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _length(row):  # type: ignore[no-untyped-def]
    """|x| in float64."""
    total = 0.0
    for d in range(len(row)):
        total += np.float64(_single(row[d])) ** 2
    return np.sqrt(total)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _pack(row, factor, centre, packed):  # type: ignore[no-untyped-def]
    """Write x * factor - c, and return its square."""
    square = np.float32(0)
    for d in range(len(row)):
        one = _single(row[d]) * factor - centre[d]
        packed[d] = one
        square += one * one
    return square


@numba.njit(cache=True, nogil=True)
def _passes(line, half, size, bounds, limits, column):  # type: ignore[no-untyped-def]
    """Whether any query may want this row."""
    passed = 0
    for j in range(len(line)):
        passed += half - bounds[column + j] * size - line[j] <= limits[column + j]
    return passed > 0


@numba.njit(cache=True, nogil=True)
def _scan_tiles(
    rows, first, mask, metric, centre, padded, lengths, panels, widths, bounds, scale, shift, limits, keys, indices
):  # type: ignore[no-untyped-def]
    """Rows are packed, a chunk at a time, and every panel of queries is multiplied with them."""
    depth = rows.shape[1]
    height = max(HEIGHT, CHUNK // depth // HEIGHT * HEIGHT)
    stride = depth + 16  # rows a power of two apart would share few cache lines
    packed, taken = np.zeros((height, stride), np.float32), np.empty(height, np.int64)
    growth = (min(depth, DEPTH) + depth // DEPTH + 16) * UNIT
    half, size = np.empty(height, np.float32), np.empty(height, np.float32)
    sums = np.empty(height * 3 * LANE, np.float32)
    wide, lanes = np.zeros(padded.shape[1], np.float32), np.empty(LANES)
    r = 0
    while r < len(rows):
        count = 0
        while r < len(rows) and count < height:
            if not len(mask) or mask[r]:
                length = _length(rows[r]) if metric == 1 else 1.0
                factor = 1 / length if metric == 1 and length > 2.0**-30 else 1.0
                square = 0.0
                for d in range(0, depth, DEPTH):  # its roundings are no more than the products'
                    part = slice(d, min(d + DEPTH, depth))
                    square += _pack(rows[r, part], np.float32(factor), centre[part], packed[count, part])
                if not (length < 2.0**49 and square < 2.0**98) and _bad(rows[r]):
                    return first + r
                taken[count] = r
                half[count] = square * (0.5 - growth) - TINY if metric == 0 else -TINY
                size[count] = np.sqrt(square) * (1 + growth) + 2.0**-60
                if metric == 1:  # rounding of x / |x|
                    size[count] = size[count] + 4 if length > 2.0**-30 else np.inf
                count += 1
            r += 1
        column, start = 0, 0
        for width in widths:
            n = width * LANE
            for d in range(0, depth, DEPTH):
                deep = min(DEPTH, depth - d)
                panel = panels.ctypes.data + (start + d * n) * 4
                for i in range(0, count, HEIGHT):
                    tile = sums[i * n : (i + HEIGHT) * n]
                    if d == 0:
                        tile[:] = 0
                    of, to = packed.ctypes.data + (i * stride + d) * 4, tile.ctypes.data
                    if width == 3:
                        _tile_3(of, stride, panel, deep, to)
                    elif width == 2:
                        _tile_2(of, stride, panel, deep, to)
                    else:
                        _tile_1(of, stride, panel, deep, to)
                    if d + deep < depth:
                        continue
                    for one in range(i, min(i + HEIGHT, count)):
                        line = sums[one * n : one * n + n]
                        if _passes(line, half[one], size[one], bounds, limits, column):
                            for j in range(min(n, len(padded) - column)):
                                if half[one] - bounds[column + j] * size[one] - line[j] <= limits[column + j]:
                                    _offer(
                                        rows[taken[one]], first + taken[one], column + j, metric, padded, lengths,
                                        wide, lanes, scale, shift, limits, keys, indices,
                                    )  # fmt: skip
            start += depth * n
            column += n
    return -1
