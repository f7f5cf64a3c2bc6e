"""In Numba: a scan in float32 that bounds its own error, and float64 for the rows that the bound lets through.

For every row and query a lower bound of the key is computed, in the expanded form |x|²/2 - qx of centred vectors. A
row whose bound exceeds the k-th key found so far cannot be among the k nearest; any other is measured as the
reference does. So nothing depends on the order of the work. No BLAS is called: what it multiplies would have to be
written and read again, and its threads would fight with ours. Products stay in registers until they are complete.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline_kernels.knn.reference import LANES, LARGEST, Metric, Rows, Search, bad_row, values
from sightline_kernels.knn.registers.cpu import LANE, WIDTHS
from sightline_kernels.knn.scan.cpu import (
    DEPTH,
    UNIT,
    Asked,
    Doubles,
    Floats,
    Found,
    Ints,
    drain,
    lengths,
    scan_rows,
    scan_tiles,
)

__all__ = ["search"]

FEW = 2  # queries that a row at a time serves faster than tiles do
FLOATS = 2**24  # of packed queries in one pass over the bank: 64 MiB
SAMPLE = 256  # rows whose mean is the centre
LEAST = 2**19  # values of the rows that a thread takes at a time


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
    asked: Asked
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
        asked = Asked(
            metric=("l2", "cosine", "inner_product").index(metric),
            queries=padded,
            lengths=lengths(padded),
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

    def _scan(self, cuts: Iterator[_Cut], lock: threading.Lock) -> tuple[Found, _Cut | None, int]:
        """One thread: what it found, the block that its pending rows are of, and a row that is no good, or -1."""
        count, k, asked = len(self.asked.queries), self.search.k, self.asked
        few, cut = count <= FEW, None
        room = 0 if few else 2 * k + 64
        found = Found(
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
                drain(cut.rows, cut.first, 1, asked, found)
            cut = following
            bad = (scan_rows if few else scan_tiles)(*cut, asked, found)
            if bad >= 0:
                return found, cut, bad

    def _finish(self, done: tuple[Found, _Cut | None, int]) -> None:
        found, cut, _ = done
        if cut is not None:
            drain(cut.rows, cut.first, 1, self.asked, found)


def _padded(found: Found) -> Floats:
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
