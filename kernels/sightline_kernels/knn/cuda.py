"""In CuPy: products by cuBLAS with a bound of their error, and kernels of our own that select, measure and merge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline_kernels.knn.reference import LARGEST, Metric, Rows, Search, bad_row, values

__all__ = ["search"]

ROOM = 4096  # pending rows of a query
VALUES = 2**26  # of the rows on the device at a time: 256 MiB
PRODUCTS = 2**27  # of rows and queries at a time: 512 MiB
UNIT = 2.0**-24  # of float32
TINY = 2.0**-120  # what underflow may take
THREADS = 128  # of a block
# No kernel synchronises: every thread answers for one pair. Sums are rounded as the reference does, never fused.
SOURCE = r"""
extern "C" __global__ void select_rows(const float* products, const float* terms, const float* bounds,
        const float* limits, int* pending, int* counts, long long queries, long long stride, long long start,
        long long stop, long long rows, int room) {
    long long pair = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long span = stop - start;
    if (pair >= queries * span) return;
    long long q = pair / span, r = start + pair % span;
    if (terms[r] > 3e38f) return;  // not to be found
    float lower = terms[r] - bounds[q] * terms[rows + r] - products[q * stride + r];
    if (lower > limits[q]) return;
    int place = atomicAdd(counts + q, 1);
    if (place < room) pending[q * room + place] = (int)r;
}

extern "C" __global__ void measure_rows(const float* rows, const float* queries, const int* pending,
        const int* counts, double* keys, long long count, long long depth, int room, int metric) {
    long long pair = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long q = pair / room;
    if (q >= count || pair % room >= counts[q]) return;
    const float* one = queries + q * depth;
    const float* row = rows + (long long)pending[pair] * depth;
    double sums[16], squares[16], others[16];
    for (int j = 0; j < 16; j++) sums[j] = squares[j] = others[j] = 0.0;
    for (long long d = 0; d < depth; d += 16)
        for (int j = 0; j < 16 && d + j < depth; j++) {
            double a = one[d + j], b = row[d + j], apart = __dsub_rn(a, b);
            sums[j] = __dadd_rn(sums[j], metric == 0 ? __dmul_rn(apart, apart) : __dmul_rn(a, b));
            if (metric == 1) {
                squares[j] = __dadd_rn(squares[j], __dmul_rn(b, b));
                others[j] = __dadd_rn(others[j], __dmul_rn(a, a));
            }
        }
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) {
            sums[j] = __dadd_rn(sums[j], sums[j + half]);
            squares[j] = __dadd_rn(squares[j], squares[j + half]);
            others[j] = __dadd_rn(others[j], others[j + half]);
        }
    double key = sums[0];
    if (metric == 1) {
        double length = __dmul_rn(__dsqrt_rn(others[0]), __dsqrt_rn(squares[0]));
        key = length > 0.0 ? __ddiv_rn(key, length) : 0.0;
    }
    keys[pair] = metric == 0 ? key : -key;
}

extern "C" __global__ void merge_rows(const double* old_keys, const long long* old_names, const double* keys,
        const int* pending, const int* counts, double* new_keys, long long* new_names, long long first,
        long long count, int k, int room) {
    long long pair = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long q = pair / (k + room), n = pair % (k + room);
    if (q >= count || n >= k + counts[q]) return;
    const double* kept = old_keys + q * k;
    const long long* names = old_names + q * k;
    double key = n < k ? kept[n] : keys[q * room + n - k];
    long long name = n < k ? names[n] : first + pending[q * room + n - k];
    int rank = 0;  // of all that are kept or new, by key and then by name: no two are alike
    for (int i = 0; i < k && rank < k; i++) rank += kept[i] < key || (kept[i] == key && names[i] < name);
    for (int i = 0; i < counts[q] && rank < k; i++) {
        double other = keys[q * room + i];
        rank += other < key || (other == key && first + pending[q * room + i] < name);
    }
    if (rank < k) {
        new_keys[q * k + rank] = key;
        new_names[q * k + rank] = name;
    }
}
"""


def search(
    rows: Rows,
    queries: NDArray[Any],
    k: int,
    *,
    metric: Metric = "l2",
    mask: NDArray[np.bool_] | None = None,
    threads: int | None = None,  # noqa: ARG001  the signature of all forms
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest rows of every query; see the reference. Never run on a GPU yet: compiled, and proven on a CPU."""
    asked = Search.of(rows, queries, k, metric, mask)
    keys, indices = np.empty((len(asked.queries), k)), np.empty((len(asked.queries), k), np.int64)
    for start in range(0, len(asked.queries), 1024):
        part = slice(start, start + 1024)
        keys[part], indices[part] = _Pass(asked, asked.queries[part]).run()
    return values(keys, metric), indices


class _Pass:
    """Some queries on their way over the whole bank."""

    def __init__(self, asked: Search, queries: NDArray[np.float32]):
        import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

        self.cupy: Any = cupy
        module = cupy.RawModule(code=SOURCE)
        self.select, self.measure, self.merge = (
            module.get_function(name) for name in ("select_rows", "measure_rows", "merge_rows")
        )
        self.asked, count, k = asked, len(queries), asked.k
        self.metric = ("l2", "cosine", "inner_product").index(asked.metric)
        self.centre = self._centre()
        wide = queries.astype(np.float64)
        moved = (wide - self.centre if self.metric == 0 else wide).astype(np.float32)
        norms = np.linalg.norm(moved.astype(np.float64), axis=1)
        self.growth = (asked.dimensions + 32) * UNIT * 1.02
        self.scale = cupy.asarray(norms if self.metric == 1 else np.full(count, 1.0 if self.metric else 0.5))
        shift = wide @ self.centre if self.metric else np.square(wide - self.centre).sum(axis=1) * -0.5
        self.shift, self.queries, self.moved = (cupy.asarray(one) for one in (shift, queries, moved))
        self.bounds = cupy.asarray(np.nextafter((norms * self.growth).astype(np.float32), np.float32(np.inf)))
        self.limits = cupy.full(count, np.inf, np.float32)
        self.keys = cupy.full((count, k), np.inf)
        # names that no row has, all different: the merge ranks what is not there yet, too
        self.names = cupy.asarray(np.tile(np.iinfo(np.int64).max - np.arange(k)[::-1], (count, 1)))
        self.span = ROOM

    def run(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Keys and indices (Q, k), sorted."""
        size = max(1, min(VALUES // self.asked.dimensions, PRODUCTS // len(self.queries)))
        for first, block in zip(self.asked.starts, self.asked.blocks, strict=True):
            for start in range(0, len(block), size):
                self._scan(block[start : start + size], first + start)
        return self._host(self.keys), self._host(self.names)

    def _scan(self, piece: NDArray[Any], first: int) -> None:
        """Products of a piece and all queries, and what they let through."""
        cupy = self.cupy
        rows = cupy.asarray(np.ascontiguousarray(piece)).astype(np.float32)
        mask = self.asked.mask
        kept = cupy.ones(len(rows), np.bool_) if mask is None else cupy.asarray(mask[first : first + len(rows)])
        rows = cupy.where(kept[:, None], rows, np.float32(0))
        good = (cupy.abs(rows) <= LARGEST).all(axis=1)
        if not bool(good.all()):
            raise bad_row(first + int(self._host(good).argmin()))
        lengths = cupy.sqrt(cupy.square(rows, dtype=np.float64).sum(axis=1))
        short = lengths <= 2.0**-30
        factor = (
            cupy.where(short, 1.0, 1 / cupy.where(short, 1.0, lengths)) if self.metric == 1 else cupy.ones(len(rows))
        )
        moved = (rows * factor[:, None] - cupy.asarray(self.centre)).astype(np.float32)
        squares = cupy.square(moved, dtype=np.float64).sum(axis=1)
        half = squares * (0.5 - self.growth) if self.metric == 0 else cupy.zeros(len(rows))
        size = cupy.sqrt(squares) * (1 + self.growth) + 2.0**-60
        if self.metric == 1:  # rounding of x / |x|
            size = cupy.where(short, np.inf, size + 4)
        terms = cupy.stack([cupy.where(kept, half - TINY, np.inf), cupy.where(kept, size, 0)]).astype(np.float32)
        self._take(rows, terms, self.moved @ moved.T, first)

    def _take(self, rows: Any, terms: Any, products: Any, first: int) -> None:
        """Select, measure and merge, of as many rows at a time as leave room."""
        cupy, count, k = self.cupy, len(self.queries), self.asked.k
        total, depth = rows.shape
        pending, keys = cupy.zeros((count, ROOM), np.int32), cupy.zeros((count, ROOM))
        start = 0
        while start < total:
            stop, counts = min(start + self.span, total), cupy.zeros(count, np.int32)
            self._run(
                self.select, count * (stop - start), products, terms, self.bounds, self.limits, pending, counts,
                np.int64(count), np.int64(total), np.int64(start), np.int64(stop), np.int64(total), np.int32(ROOM),
            )  # fmt: skip
            if int(counts.max()) > ROOM:  # ROOM rows always fit
                self.span = max(ROOM, self.span // 2)
                continue
            self._run(
                self.measure, count * ROOM, rows, self.queries, pending, counts, keys, np.int64(count),
                np.int64(depth), np.int32(ROOM), np.int32(self.metric),
            )  # fmt: skip
            old, names = self.keys, self.names
            self.keys, self.names = cupy.empty_like(old), cupy.empty_like(names)
            self._run(
                self.merge, count * (k + ROOM), old, names, keys, pending, counts, self.keys, self.names,
                np.int64(first), np.int64(count), np.int32(k), np.int32(ROOM),
            )  # fmt: skip
            last = self.keys[:, -1] * self.scale
            limit = last + self.shift + (cupy.abs(last) + cupy.abs(self.shift)) * 1e-12  # its own rounding
            self.limits = (limit + cupy.abs(limit) * 2.0**-22).astype(np.float32)
            start, self.span = stop, self.span * 2

    def _run(self, kernel: Any, pairs: int, *arguments: Any) -> None:
        kernel((-(-pairs // THREADS),), (THREADS,), arguments)

    def _host(self, array: Any) -> NDArray[Any]:
        return self.cupy.asnumpy(array)

    def _centre(self) -> NDArray[np.float64]:
        """The mean of rows spread over the bank, as float32 holds it: any vector would do."""
        found = np.zeros((0, self.asked.dimensions))
        for first, block in zip(self.asked.starts, self.asked.blocks, strict=True):
            chosen = np.unique(np.linspace(0, len(block) - 1, min(64, len(block)), dtype=np.int64))
            if self.asked.mask is not None:
                chosen = chosen[self.asked.mask[first + chosen]]
            found = np.concatenate([found, block[chosen].astype(np.float64)])
            if len(found) >= 256:
                break
        found = found[(np.abs(found) <= LARGEST).all(axis=1)]
        lengths = np.linalg.norm(found, axis=1) if self.metric == 1 else np.ones(len(found))
        found = found[lengths > 0] / lengths[lengths > 0, None]
        return (found.sum(axis=0) / max(len(found), 1)).astype(np.float32).astype(np.float64)
