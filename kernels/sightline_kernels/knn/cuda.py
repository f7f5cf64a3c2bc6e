"""In CuPy: products by cuBLAS with a bound of their error, and kernels of our own that select, measure and merge."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sightline_kernels.kth_lowest.cuda as kth_lowest
from sightline_kernels.knn.prepared.cuda import Piece, PreparedRows, Screen, narrowed
from sightline_kernels.knn.reference import Metric, Rows, Search, values
from sightline_kernels.launch.cuda import kernel

__all__ = ["Bank", "Screen", "search"]

ROOM = 4096  # pending rows of a query
SAMPLE, RUN = 2**15, 32  # rows that the first limit is taken from, in runs of so many side by side
FEW = 512  # rows that are expected below a limit: as many are looked at in one go
PRODUCTS = 2**29  # of rows and queries at a time: 1 GiB of halves
TOGETHER = 1024  # queries
FLOAT, HALF, TRANSPOSED, PLAIN, DEFAULT = 0, 2, 1, 0, -1  # cuBLAS's names for types, layouts and its own choice
COMPUTE = {"fp32": 68, "tf32": 77, "fp16": 68}  # its names for how products are computed
WHOLE_SUMS = 16  # its name for a mode: parts of a sum are added in float32, whatever the result is
LIMITING, SELECTING, MEASURING, MERGING = 1024, 256, 256, 128  # threads of a block
ROWS, QUERIES, LANES = 8, 16, 16  # as in the source
SOURCE = (
    kth_lowest.SOURCE
    + r"""
#define ROWS 8  // of a thread that selects: their products are read at once
#define QUERIES 16  // that it does so for
#define LANES 16  // that measure a row: the partial sums of the definition
#define HELD 32  // rows of a thread that looks for a limit, in registers

struct __align__(16) Halves { unsigned short number[8]; };
struct __align__(16) Floats { float number[4]; };

#ifdef __CUDA_ARCH__
__device__ static float of_half(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

// Of any float, those below 2**-126 too, which a cast would flush to 0.
__device__ static double wide(float value) {
    double found;
    asm("cvt.f64.f32 %0, %1;" : "=d"(found) : "f"(value));
    return found;
}
#endif

__device__ static float of_ordered(unsigned bits) {
    return __uint_as_float(bits ^ ((bits >> 31) ? 0x80000000u : 0xffffffffu));
}

__device__ static float product_at(const void* products, long long place, int narrow) {
    return narrow ? of_half(((const unsigned short*)products)[place]) : ((const float*)products)[place];
}

// Of every query the k-th lowest of what rows of a sample are at most, and of what float64 makes of them: one block
// each.
extern "C" __global__ void __launch_bounds__(1024) first_limits(const void* __restrict__ products,
        const float* __restrict__ halves, const float* __restrict__ sizes, const float* __restrict__ slacks,
        const float* __restrict__ factors, const float* __restrict__ bounds,
        const float* __restrict__ query_factors, const double* __restrict__ spreads, float* __restrict__ limits,
        long long stride, long long apart, double rounding, int span, int k, int narrow) {
    const long long q = blockIdx.x;
    const float bound = bounds[q], query_factor = query_factors[q];
    auto most = [&](int i, unsigned& key) {
        const long long r = i / 32 * apart + i % 32;
        const float product = product_at(products, q * stride + r, narrow) * factors[r] * query_factor;
        const float sum = halves[r] + slacks[r] + bound * sizes[r] - product;
        const float upper = sum + (fabsf(halves[r]) + fabsf(product)) * 2.4e-7f;  // the sum's own rounding
        key = ordered(__float_as_uint(upper));
        return upper < 3e38f;  // else not to be found, or nothing known of it
    };
    unsigned found;
    if (!kth_lowest<unsigned, HELD>(most, span, k, found) || threadIdx.x > 0) return;
    const double limit = of_ordered(found);
    const double above = limit + (fabs(limit) + spreads[q]) * rounding;
    limits[q] = (float)(above + fabs(above) * 0x1p-22);
}

// Rows from start to stop that may be within a query's limit. A thread knows its rows while it looks at some queries.
extern "C" __global__ void select_rows(const void* __restrict__ products, const float* __restrict__ halves,
        const float* __restrict__ sizes, const float* __restrict__ factors, const float* __restrict__ bounds,
        const float* __restrict__ query_factors, const float* __restrict__ limits, int* __restrict__ pending,
        int* __restrict__ counts, long long queries, long long stride, long long start, long long stop, int room,
        int narrow) {
    const long long first = start + ((long long)blockIdx.x * blockDim.x + threadIdx.x) * ROWS;
    if (first >= stop) return;
    float half[ROWS], size[ROWS], factor[ROWS];
    #pragma unroll
    for (int j = 0; j < ROWS; j++) {
        const long long r = min(first + j, stop - 1);
        half[j] = first + j < stop ? halves[r] : 3.4e38f;
        size[j] = sizes[r];
        factor[j] = factors[r];
    }
    const long long last = min((blockIdx.y + 1ll) * QUERIES, queries);
    #pragma unroll 2
    for (long long q = blockIdx.y * (long long)QUERIES; q < last; q++) {
        float product[ROWS];  // start and stride are multiples of ROWS
        if (narrow) {
            const Halves read = *(const Halves*)((const unsigned short*)products + q * stride + first);
            #pragma unroll
            for (int j = 0; j < ROWS; j++) product[j] = of_half(read.number[j]);
        } else {
            const Floats* read = (const Floats*)((const float*)products + q * stride + first);
            const Floats low = read[0], high = read[1];
            #pragma unroll
            for (int j = 0; j < ROWS; j++) product[j] = j < 4 ? low.number[j] : high.number[j - 4];
        }
        const float bound = bounds[q], limit = limits[q], query_factor = query_factors[q];
        #pragma unroll
        for (int j = 0; j < ROWS; j++) {
            const float lower = half[j] - bound * size[j] - product[j] * factor[j] * query_factor;
            if (half[j] > 3e38f || lower > limit) continue;  // not to be found, or too far
            const int place = atomicAdd(counts + q, 1);
            if (place < room) pending[q * room + place] = (int)(first + j);
        }
    }
}

// Their keys, by as many threads as the definition has partial sums, and rounded as it does: never fused.
extern "C" __global__ void measure_rows(const float* __restrict__ rows, const float* __restrict__ queries,
        const int* __restrict__ pending, const int* __restrict__ counts, double* __restrict__ keys, long long depth,
        int room, int metric) {
    const long long q = blockIdx.y;
    const int count = counts[q], lane = threadIdx.x % LANES, first = blockIdx.x * (blockDim.x / LANES);
    if (first >= count) return;
    const int place = first + threadIdx.x / LANES;
    const float* one = queries + q * depth;
    const float* row = rows + pending[q * room + min(place, count - 1)] * depth;
    double sum = 0.0, square = 0.0, other = 0.0;
    #pragma unroll 4
    for (long long d = lane; d < depth; d += LANES) {
        const double a = wide(one[d]), b = wide(row[d]), apart = __dsub_rn(a, b);
        sum = __dadd_rn(sum, metric == 0 ? __dmul_rn(apart, apart) : __dmul_rn(a, b));
        if (metric == 1) {
            square = __dadd_rn(square, __dmul_rn(b, b));
            other = __dadd_rn(other, __dmul_rn(a, a));
        }
    }
    for (int half = LANES / 2; half > 0; half /= 2) {
        sum = __dadd_rn(sum, __shfl_xor_sync(ALL, sum, half));
        square = __dadd_rn(square, __shfl_xor_sync(ALL, square, half));
        other = __dadd_rn(other, __shfl_xor_sync(ALL, other, half));
    }
    if (place >= count || lane > 0) return;
    if (metric == 1) {
        double length = __dmul_rn(__dsqrt_rn(other), __dsqrt_rn(square));
        sum = length > 0.0 ? __ddiv_rn(sum, length) : 0.0;
    }
    keys[q * room + place] = metric == 0 ? sum : -sum;
}

// The k nearest of those kept and those new; the k-th is the limit of what comes.
extern "C" __global__ void merge_rows(const double* __restrict__ old_keys, const long long* __restrict__ old_names,
        const double* __restrict__ keys, const int* __restrict__ pending, const int* __restrict__ counts,
        double* __restrict__ new_keys, long long* __restrict__ new_names, const double* __restrict__ scales,
        const double* __restrict__ shifts, const double* __restrict__ spreads, float* __restrict__ limits,
        long long first, double rounding, int k, int room) {
    const long long q = blockIdx.y;
    const int n = blockIdx.x * blockDim.x + threadIdx.x, count = counts[q];
    if (n >= k + count) return;
    const double* kept = old_keys + q * k;
    const long long* names = old_names + q * k;
    const double key = n < k ? kept[n] : keys[q * room + n - k];
    const long long name = n < k ? names[n] : first + pending[q * room + n - k];
    int rank = 0;  // of all that are kept or new, by key and then by name: no two are alike
    for (int i = 0; i < k && rank < k; i++) rank += kept[i] < key || (kept[i] == key && names[i] < name);
    for (int i = 0; i < count && rank < k; i++) {
        const double other = keys[q * room + i];
        rank += other < key || (other == key && first + pending[q * room + i] < name);
    }
    if (rank >= k) return;
    new_keys[q * k + rank] = key;
    new_names[q * k + rank] = name;
    if (rank < k - 1) return;
    const double last = key * scales[q], limit = last + shifts[q] + (fabs(last) + spreads[q]) * rounding;
    const float found = (float)(limit + fabs(limit) * 0x1p-22);
    if (found < limits[q]) limits[q] = found;
}
"""
)


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
    prepared = PreparedRows(asked, "fp16")
    return _answered(asked, prepared, lambda: prepared.pieces())


class Bank:
    """Rows on the device, prepared for one metric: searched as often as one likes, without another copy.

    Args:
        rows: (N, D), as ``search`` takes them.
        metric: of all searches.
        mask: (N,) which rows may be found.
        screen: what products are computed in; rows that are found are measured in float64 from their own numbers
            either way, so the answers are the same.

    Raises:
        ValueError: as ``search`` does.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        metric: Metric = "l2",
        mask: NDArray[np.bool_] | None = None,
        screen: Screen = "fp16",
    ):
        blocks = (rows,) if isinstance(rows, np.ndarray) else rows
        some = np.zeros((1, blocks[0].shape[1] if len(blocks) and blocks[0].ndim == 2 else 1), np.float32)
        self._rows = PreparedRows(Search.of(rows, some, 1, metric, mask), screen)
        self._metric: Metric = metric
        self._mask = mask
        self._whole = self._rows.whole()

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(Q, k) values and indices; see the reference."""
        asked = Search.of(self._rows.asked.blocks, queries, k, self._metric, self._mask)
        return _answered(asked, self._rows, lambda: [self._whole])


def _answered(asked: Search, rows: PreparedRows, pieces: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Some queries at a time over all pieces, which ``pieces()`` gives anew."""
    keys, indices = np.empty((len(asked.queries), asked.k)), np.empty((len(asked.queries), asked.k), np.int64)

    def answer(which: NDArray[np.int64], *, patient: bool) -> NDArray[np.int64]:
        left = [np.zeros(0, np.int64)]
        for start in range(0, len(which), TOGETHER):
            part = which[start : start + TOGETHER]
            one = _Pass(asked, rows, asked.queries[part], patient=patient)
            keys[part], indices[part] = one.run(pieces())
            left.append(part[one.aside])
        return np.concatenate(left)

    answer(answer(np.arange(len(asked.queries)), patient=False), patient=True)
    return values(keys, asked.metric), indices


class _Pass:
    """Some queries on their way over the whole bank.

    Args:
        asked: what is looked for.
        bank: the rows.
        queries: some of those asked.
        patient: go on in small steps where a query has more rows within its bound of error than there is room for;
            else few such queries are put aside, and the others go on without them.

    Attributes:
        aside: (Q,) which queries have no answer.
    """

    def __init__(self, asked: Search, bank: PreparedRows, queries: NDArray[np.float32], *, patient: bool):
        self.cupy, self.bank, self.k, self.patient = bank.cupy, bank, asked.k, patient
        count, metric = len(queries), bank.metric
        self.aside = np.zeros(count, np.bool_)
        self.seen = 0  # rows that limits come from
        wide = queries.astype(np.float64)
        moved = (wide - bank.centre if metric == 0 else wide).astype(np.float32)
        norms = np.linalg.norm(moved.astype(np.float64), axis=1)
        narrow, factors = narrowed(np, moved, norms, bank.kind)
        self.narrow = np.int32(bank.screen == "fp16")
        scale = norms if metric == 1 else np.full(count, 1.0 if metric else 0.5)
        shift = wide @ bank.centre if metric else np.square(wide - bank.centre).sum(axis=1) * -0.5
        # of what keys in float64 were added up
        spread = norms * (np.linalg.norm(bank.centre) + (metric == 1)) if metric else -shift
        bounds = np.maximum(norms, 2.0**-100) * bank.error  # nothing that would be flushed to 0
        # names that no row has, all different: the merge ranks what is not there yet, too
        names = np.tile(np.iinfo(np.int64).max - np.arange(self.k)[::-1], (count, 1))
        (
            self.queries, self.moved, self.factors, self.scale, self.shift, self.spread, self.bounds, self.limits,
            self.keys, self.names,
        ) = _uploaded(
            self.cupy,
            queries, narrow, factors.astype(np.float32), scale, shift, spread,
            np.nextafter(bounds.astype(np.float32), np.float32(np.inf)), np.full(count, np.inf, np.float32),
            np.full((count, self.k), np.inf), names,
        )  # fmt: skip

    def run(self, pieces: Iterable[Piece]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Keys and indices (Q, k), sorted."""
        count = len(self.queries)
        size = max(128, PRODUCTS // count // 128 * 128)
        for piece in pieces:
            for start in range(0, len(piece.rows), size):
                some = piece.part(slice(start, start + size))
                stride = -(-len(some.rows) // ROWS) * ROWS
                products = self.cupy.empty((count, stride), some.moved.dtype)
                _multiply(self.cupy, self.moved, some.moved, products, self.bank.screen)
                if not self.seen:
                    self._limit(some, products)
                self._take(some, products)
        return self.cupy.asnumpy(self.keys), self.cupy.asnumpy(self.names)

    def _limit(self, piece: Piece, products: Any) -> None:
        """The k-th lowest of what rows of a sample are at most, which lie in runs all over the piece."""
        total = len(piece.rows)
        self.seen = min(max(SAMPLE, self.k), total)
        apart = max(RUN, (total - RUN) // max(-(-self.seen // RUN) - 1, 1))
        kernel(SOURCE, "first_limits")(
            (len(self.queries),), (LIMITING,),
            (products, piece.halves, piece.sizes, piece.slacks, piece.factors, self.bounds, self.factors, self.spread,
             self.limits, np.int64(products.shape[1]), np.int64(apart), np.float64(self.bank.rounding),
             np.int32(self.seen), np.int32(self.k), self.narrow),
        )  # fmt: skip

    def _take(self, piece: Piece, products: Any) -> None:
        """Select, measure and merge, of as many rows at a time as leave room."""
        cupy, count, k, room = self.cupy, len(self.queries), self.k, np.int32(ROOM)
        total, depth = piece.rows.shape
        pending, keys = cupy.empty((count, ROOM), np.int32), cupy.empty((count, ROOM), np.float64)
        rounding, start, few = np.float64(self.bank.rounding), 0, FEW
        while start < total:
            span = max(ROOM, self.seen * few // k) // ROWS * ROWS
            stop, counts = min(start + span, total), cupy.zeros(count, np.int32)
            kernel(SOURCE, "select_rows")(
                (-(-(stop - start) // (SELECTING * ROWS)), -(-count // QUERIES)), (SELECTING,),
                (products, piece.halves, piece.sizes, piece.factors, self.bounds, self.factors, self.limits, pending,
                 counts, np.int64(count), np.int64(products.shape[1]), np.int64(start), np.int64(stop), room,
                 self.narrow),
            )  # fmt: skip
            found = cupy.asnumpy(counts)
            over = (found > ROOM) & ~self.aside
            if over.any() and (self.patient or (over | self.aside).sum() > count // 8):
                few = (stop - start) * k // (2 * self.seen)  # ROOM rows always fit
                continue
            if over.any():
                self.aside |= over
                self.limits = cupy.where(cupy.asarray(self.aside), np.float32(-np.inf), self.limits)
            if self.aside.any():
                found = np.where(self.aside, np.int32(0), found)
                counts = cupy.asarray(found)
            self.seen, start, few = self.seen + stop - start, stop, min(FEW, max(1, 2 * few))
            width = int(found.max())
            if width == 0:
                continue
            kernel(SOURCE, "measure_rows")(
                (-(-width // (MEASURING // LANES)), count), (MEASURING,),
                (piece.rows, self.queries, pending, counts, keys, np.int64(depth), room, np.int32(self.bank.metric)),
            )  # fmt: skip
            old, names = self.keys, self.names
            self.keys, self.names = cupy.empty(old.shape, np.float64), cupy.empty(names.shape, np.int64)
            kernel(SOURCE, "merge_rows")(
                (-(-(k + width) // MERGING), count), (MERGING,),
                (old, names, keys, pending, counts, self.keys, self.names, self.scale, self.shift, self.spread,
                 self.limits, np.int64(piece.first), rounding, np.int32(k), room),
            )  # fmt: skip


def _uploaded(cupy: Any, *arrays: NDArray[Any]) -> list[Any]:
    """The same arrays on the device, in one journey."""
    starts = np.cumsum([0, *(-(-one.nbytes // 16) * 16 for one in arrays)]).tolist()
    held = np.zeros(starts[-1], np.uint8)
    for start, one in zip(starts, arrays, strict=False):
        held[start : start + one.nbytes] = np.ascontiguousarray(one).reshape(-1).view(np.uint8)
    there = cupy.asarray(held)
    return [
        there[start : start + one.nbytes].view(one.dtype).reshape(one.shape)
        for start, one in zip(starts, arrays, strict=False)
    ]


def _multiply(cupy: Any, queries: Any, rows: Any, out: Any, screen: Screen) -> None:
    """Write products of queries (Q, D) and rows (n, D) to (Q, n and more), by cuBLAS, which counts columns."""
    kind = HALF if screen == "fp16" else FLOAT
    depth, one, zero = rows.shape[1], np.ones(1, np.float32), np.zeros(1, np.float32)
    blas, handle = cupy.cuda.cublas, cupy.cuda.device.get_cublas_handle()
    before = blas.getMathMode(handle)
    blas.setMathMode(handle, WHOLE_SUMS)
    try:
        blas.gemmEx(
            handle, TRANSPOSED, PLAIN, len(rows), len(queries), depth,
            one.ctypes.data, rows.data.ptr, kind, depth, queries.data.ptr, kind, depth,
            zero.ctypes.data, out.data.ptr, kind, out.shape[1], COMPUTE[screen], DEFAULT,
        )  # fmt: skip
    finally:
        blas.setMathMode(handle, before)
