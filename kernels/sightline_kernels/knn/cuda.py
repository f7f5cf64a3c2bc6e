"""In CuPy: products by cuBLAS with a bound of their error, and kernels of our own that select, measure and merge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import sightline_kernels.kth_lowest.cuda as kth_lowest
from sightline_kernels.knn.reference import LARGEST, Metric, Rows, Search, bad_row, values

__all__ = ["Bank", "search"]

Screen = Literal["fp16", "tf32", "fp32"]
ROOM = 4096  # pending rows of a query
SAMPLE = 2**15  # rows that the first limit is taken from; more, if so few leave more than these of a piece:
FEW = 1024
RUN = 32  # of them, side by side
VALUES = 2**26  # of the rows on the device at a time: 256 MiB
PRODUCTS = 2**27  # of rows and queries at a time: 256 MiB of halves
TOGETHER = 1024  # queries
UNIT = 2.0**-24  # of float32
# How far the product of two factors is from theirs: TF32 keeps 10 bits and may cut off the rest, float16 rounds to 11
# bits, and its products, of which the sum is rounded so, too.
NARROW = {"fp32": 0.0, "tf32": 2.0**-9, "fp16": 1.5 * 2.0**-10}
NORM = 7  # rows and queries that become float16 are made shorter than 2**7: no product is beyond its range
TINY = 2.0**-120  # what underflow may take
FLOAT, HALF, TRANSPOSED, PLAIN, DEFAULT = 0, 2, 1, 0, -1  # cuBLAS's names for types, layouts and its own choice
COMPUTE = {"fp32": 68, "tf32": 77, "fp16": 68}  # its names for how products are computed
LIMITING, SELECTING, MEASURING, MERGING = 1024, 256, 256, 128  # threads of a block
ROWS, QUERIES, LANES = 4, 16, 16  # as in the source
SOURCE = (
    kth_lowest.SOURCE
    + r"""
#define ROWS 4  // of a thread that selects
#define QUERIES 16  // that it does so for
#define LANES 16  // that measure a row: the partial sums of the definition
#ifdef __CUDA_ARCH__
__device__ static float of_half(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
#endif

__device__ static float product_at(const void* products, long long place, int narrow) {
    return narrow ? of_half(((const unsigned short*)products)[place]) : ((const float*)products)[place];
}

__device__ static float of_ordered(unsigned bits) {
    return __uint_as_float(bits ^ ((bits >> 31) ? 0x80000000u : 0xffffffffu));
}

// Of every query the k-th lowest of what rows of a sample are at most: one block each.
extern "C" __global__ void __launch_bounds__(1024) first_limits(const void* products, const float* halves,
        const float* sizes, const float* slacks, const float* factors, const float* bounds,
        const float* query_factors, float* limits, long long stride, long long apart, int span, int k, int narrow) {
    const long long q = blockIdx.x;
    const float bound = bounds[q], query_factor = query_factors[q];
    auto most = [&](int i, unsigned& key) {
        const long long r = i / 32 * apart + i % 32;
        const float product = product_at(products, q * stride + r, narrow) * factors[r] * query_factor;
        const float sum = halves[r] + slacks[r] + bound * sizes[r] - product;
        const float upper = sum + (fabsf(halves[r]) + fabsf(product)) * 2.4e-7f;  // the sum's own rounding
        key = ordered(upper);
        return upper < 3e38f;  // else not to be found, or nothing known of it
    };
    unsigned found;
    if (kth_lowest(most, span, k, 0, found) && threadIdx.x == 0) limits[q] = of_ordered(found);
}

// Rows from start to stop that may be within a query's limit. A thread knows its rows while it looks at some queries.
extern "C" __global__ void select_rows(const void* products, const float* halves, const float* sizes,
        const float* factors, const float* bounds, const float* query_factors, const float* limits, int* pending,
        int* counts, long long queries, long long stride, long long start, long long stop, int room, int narrow) {
    const long long first = start + (long long)blockIdx.x * blockDim.x * ROWS + threadIdx.x;
    float half[ROWS], size[ROWS], factor[ROWS];
    for (int j = 0; j < ROWS; j++) {
        const long long r = first + j * blockDim.x;
        half[j] = r < stop ? halves[r] : 3.4e38f;
        size[j] = r < stop ? sizes[r] : 0.0f;
        factor[j] = r < stop ? factors[r] : 0.0f;
    }
    const long long last = min((blockIdx.y + 1ll) * QUERIES, queries);
    for (long long q = blockIdx.y * (long long)QUERIES; q < last; q++) {
        const float bound = bounds[q], limit = limits[q], query_factor = query_factors[q];
        #pragma unroll
        for (int j = 0; j < ROWS; j++) {
            if (half[j] > 3e38f) continue;  // not to be found
            const long long r = first + j * blockDim.x;
            float product = product_at(products, q * stride + r, narrow) * factor[j] * query_factor;
            if (half[j] - bound * size[j] - product > limit) continue;
            int place = atomicAdd(counts + q, 1);
            if (place < room) pending[q * room + place] = (int)r;
        }
    }
}

// Their keys, by as many threads as the definition has partial sums, and rounded as it does: never fused.
extern "C" __global__ void measure_rows(const float* rows, const float* queries, const int* pending,
        const int* counts, double* keys, long long depth, int room, int metric) {
    const long long q = blockIdx.y;
    const int count = counts[q], lane = threadIdx.x % LANES, first = blockIdx.x * (blockDim.x / LANES);
    if (first >= count) return;
    const int place = first + threadIdx.x / LANES;
    const float* one = queries + q * depth;
    const float* row = rows + pending[q * room + min(place, count - 1)] * depth;
    double sum = 0.0, square = 0.0, other = 0.0;
    #pragma unroll 4
    for (long long d = lane; d < depth; d += LANES) {
        const double a = one[d], b = row[d], apart = __dsub_rn(a, b);
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
extern "C" __global__ void merge_rows(const double* old_keys, const long long* old_names, const double* keys,
        const int* pending, const int* counts, double* new_keys, long long* new_names, const double* scales,
        const double* shifts, float* limits, long long first, int k, int room) {
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
    const double last = key * scales[q], limit = last + shifts[q] + (fabs(last) + fabs(shifts[q])) * 1e-12;
    const float found = (float)(limit + fabs(limit) * 0x1p-22);  // their own rounding
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
    prepared = _Rows(asked, "fp16")
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
        self._rows = _Rows(Search.of(rows, some, 1, metric, mask), screen)
        self._metric: Metric = metric
        self._mask = mask
        self._whole = self._rows.whole()

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(Q, k) values and indices; see the reference."""
        asked = Search.of(self._rows.asked.blocks, queries, k, self._metric, self._mask)
        return _answered(asked, self._rows, lambda: [self._whole])


def _answered(asked: Search, rows: _Rows, pieces: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Some queries at a time over all pieces, which ``pieces()`` gives anew."""
    keys, indices = np.empty((len(asked.queries), asked.k)), np.empty((len(asked.queries), asked.k), np.int64)
    for start in range(0, len(asked.queries), TOGETHER):
        part = slice(start, start + TOGETHER)
        keys[part], indices[part] = _Pass(asked, rows, asked.queries[part]).run(pieces())
    return values(keys, asked.metric), indices


@dataclass(frozen=True)
class _Piece:
    """Some rows on the device.

    Attributes:
        first: number of the first.
        rows: (n, D) float32, their own numbers.
        moved: (n, D) float32 or float16, what products are taken of: from the centre, of unit length for the cosine.
        halves, sizes, slacks: (n,) float32 of each row: its part of the sum that is minimised, lowest; what a query's
            bound of error is multiplied with; what the highest of the former is above the lowest.
        factors: (n,) float32, powers of two: what its products are multiplied with, having been scaled for float16.
    """

    first: int
    rows: Any
    moved: Any
    halves: Any
    sizes: Any
    slacks: Any
    factors: Any

    @property
    def arrays(self) -> tuple[Any, ...]:
        """All of them, in order."""
        return self.rows, self.moved, self.halves, self.sizes, self.slacks, self.factors

    def part(self, rows: slice) -> _Piece:
        """Some of these rows; nothing is copied."""
        return _Piece(self.first + rows.start, *(one[rows] for one in self.arrays))


class _Rows:
    """A bank, and how products of it err."""

    def __init__(self, asked: Search, screen: Screen):
        import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

        self.cupy: Any = cupy
        self.asked = asked
        self.screen: Screen = screen
        self.metric = ("l2", "cosine", "inner_product").index(asked.metric)
        self.centre = self._centre()
        self.growth = (asked.dimensions + 32) * UNIT * 1.02
        # of a product, relative; tensor cores cut off what they add
        self.error = self.growth if screen == "fp32" else 2 * self.growth + NARROW[screen] * 1.01
        self.kind = np.float16 if screen == "fp16" else np.float32

    def pieces(self) -> Iterator[_Piece]:
        """All rows, brought to the device as they are wanted."""
        size = max(1, VALUES // self.asked.dimensions)
        for first, block in zip(self.asked.starts, self.asked.blocks, strict=True):
            for start in range(0, len(block), size):
                yield self._prepared(block[start : start + size], first + start)

    def whole(self) -> _Piece:
        """All rows side by side, for a bank that stays: few queries take them in one go."""
        shape = (self.asked.count, self.asked.dimensions)
        kinds = (np.float32, self.kind, *[np.float32] * 4)
        shapes = (shape, shape, *[shape[:1]] * 4)
        made = _Piece(0, *(self.cupy.empty(one, kind) for one, kind in zip(shapes, kinds, strict=True)))
        for piece in self.pieces():
            there = made.part(slice(piece.first, piece.first + len(piece.rows)))
            for ours, its in zip(there.arrays, piece.arrays, strict=True):
                ours[:] = its
        return made

    def _prepared(self, piece: NDArray[Any], first: int) -> _Piece:
        cupy = self.cupy
        rows = cupy.asarray(np.ascontiguousarray(piece)).astype(np.float32)
        mask = self.asked.mask
        kept = cupy.ones(len(rows), np.bool_) if mask is None else cupy.asarray(mask[first : first + len(rows)])
        rows = cupy.where(kept[:, None], rows, np.float32(0))
        good = (cupy.abs(rows) <= LARGEST).all(axis=1)
        if not bool(good.all()):
            raise bad_row(first + int(cupy.asnumpy(good).argmin()))
        lengths = cupy.sqrt(cupy.square(rows, dtype=np.float64).sum(axis=1))
        short = lengths <= 2.0**-30
        factor = (
            cupy.where(short, 1.0, 1 / cupy.where(short, 1.0, lengths)) if self.metric == 1 else cupy.ones(len(rows))
        )
        moved = (rows * factor[:, None] - cupy.asarray(self.centre)).astype(np.float32)
        squares = cupy.square(moved, dtype=np.float64).sum(axis=1)
        half = squares * (0.5 - self.growth) if self.metric == 0 else cupy.zeros(len(rows))
        slack = squares * (2 * self.growth) + 2 * TINY if self.metric == 0 else cupy.zeros(len(rows)) + 2 * TINY
        size = cupy.sqrt(squares) * (1 + self.growth) + 2.0**-60
        if self.metric == 1:  # rounding of x / |x|
            size = cupy.where(short, np.inf, size + 4)
        halves, sizes = cupy.where(kept, half - TINY, np.inf), cupy.where(kept, size, 0)
        moved, factors = _narrowed(cupy, moved, cupy.sqrt(squares), self.kind)
        each = (halves, sizes, slack * (1 + UNIT), factors)
        return _Piece(first, rows, moved, *(one.astype(np.float32) for one in each))

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


class _Pass:
    """Some queries on their way over the whole bank."""

    def __init__(self, asked: Search, bank: _Rows, queries: NDArray[np.float32]):
        cupy = self.cupy = bank.cupy
        module = cupy.RawModule(code=SOURCE)
        names = ("first_limits", "select_rows", "measure_rows", "merge_rows")
        self.limit, self.select, self.measure, self.merge = map(module.get_function, names)
        self.bank, self.k, self.metric, count = bank, asked.k, bank.metric, len(queries)
        wide = queries.astype(np.float64)
        moved = (wide - bank.centre if self.metric == 0 else wide).astype(np.float32)
        norms = np.linalg.norm(moved.astype(np.float64), axis=1)
        self.scale = cupy.asarray(norms if self.metric == 1 else np.full(count, 1.0 if self.metric else 0.5))
        shift = wide @ bank.centre if self.metric else np.square(wide - bank.centre).sum(axis=1) * -0.5
        narrow, factors = _narrowed(np, moved, norms, bank.kind)
        self.shift, self.queries, self.moved = (cupy.asarray(one) for one in (shift, queries, narrow))
        self.factors = cupy.asarray(factors.astype(np.float32))
        self.narrow = np.int32(bank.screen == "fp16")
        self.bounds = cupy.asarray(np.nextafter((norms * bank.error).astype(np.float32), np.float32(np.inf)))
        self.limits = cupy.full(count, np.inf, np.float32)
        self.keys = cupy.full((count, self.k), np.inf)
        # names that no row has, all different: the merge ranks what is not there yet, too
        self.names = cupy.asarray(np.tile(np.iinfo(np.int64).max - np.arange(self.k)[::-1], (count, 1)))

    def run(self, pieces: Iterable[_Piece]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Keys and indices (Q, k), sorted."""
        size, limited = max(1, PRODUCTS // len(self.queries)), False
        for piece in pieces:
            for start in range(0, len(piece.rows), size):
                some = piece.part(slice(start, start + size))
                products = _products(self.cupy, self.moved, some.moved, self.bank.screen)
                if not limited:
                    self._limit(some, products)
                    limited = True
                self._take(some, products)
        return self.cupy.asnumpy(self.keys), self.cupy.asnumpy(self.names)

    def _limit(self, piece: _Piece, products: Any) -> None:
        """The k-th lowest of what rows of a sample are at most, which lie in runs all over the piece."""
        total = len(piece.rows)
        span = min(max(SAMPLE, self.k * total // FEW), total)
        apart = max(RUN, (total - RUN) // max(-(-span // RUN) - 1, 1))
        self.limit(
            (len(self.queries),), (LIMITING,),
            (products, piece.halves, piece.sizes, piece.slacks, piece.factors, self.bounds, self.factors, self.limits,
             np.int64(total), np.int64(apart), np.int32(span), np.int32(self.k), self.narrow),
        )  # fmt: skip

    def _take(self, piece: _Piece, products: Any) -> None:
        """Select, measure and merge, of as many rows at a time as leave room."""
        cupy, count, k, room = self.cupy, len(self.queries), self.k, np.int32(ROOM)
        total, depth = piece.rows.shape
        pending, keys = cupy.empty((count, ROOM), np.int32), cupy.empty((count, ROOM))
        start, span = 0, total
        while start < total:
            stop, counts = min(start + span, total), cupy.zeros(count, np.int32)
            self.select(
                (-(-(stop - start) // (SELECTING * ROWS)), -(-count // QUERIES)), (SELECTING,),
                (products, piece.halves, piece.sizes, piece.factors, self.bounds, self.factors, self.limits, pending,
                 counts, np.int64(count), np.int64(total), np.int64(start), np.int64(stop), room, self.narrow),
            )  # fmt: skip
            width = int(counts.max())
            if width > ROOM:  # ROOM rows always fit
                span = max(ROOM, span // 2)
                continue
            start, span = stop, 2 * span  # fewer of the next are below a limit that has fallen
            if width == 0:
                continue
            self.measure(
                (-(-width // (MEASURING // LANES)), count), (MEASURING,),
                (piece.rows, self.queries, pending, counts, keys, np.int64(depth), room, np.int32(self.metric)),
            )  # fmt: skip
            old, names = self.keys, self.names
            self.keys, self.names = cupy.empty_like(old), cupy.empty_like(names)
            self.merge(
                (-(-(k + width) // MERGING), count), (MERGING,),
                (old, names, keys, pending, counts, self.keys, self.names, self.scale, self.shift, self.limits,
                 np.int64(piece.first), np.int32(k), room),
            )  # fmt: skip


def _narrowed(library: Any, rows: Any, lengths: Any, kind: type) -> tuple[Any, Any]:
    """Rows (n, D) of lengths (n,) as another kind holds them best, and what their products are multiplied with."""
    if kind == np.float32:
        return rows, library.ones(len(rows))
    exponents = library.maximum(library.frexp(lengths)[1], -100) - NORM  # shorter ones are nothing beside ``sizes``
    factors = library.ldexp(library.ones(len(rows)), exponents)
    return (rows / factors[:, None]).astype(kind), factors


def _products(cupy: Any, queries: Any, rows: Any, screen: Screen) -> Any:
    """(Q, n) of queries (Q, D) and rows (n, D), all of one type, by cuBLAS, which takes matrices column by column."""
    found = cupy.empty((len(queries), len(rows)), rows.dtype)
    kind = HALF if screen == "fp16" else FLOAT
    depth, one, zero = rows.shape[1], np.ones(1, np.float32), np.zeros(1, np.float32)
    cupy.cuda.cublas.gemmEx(
        cupy.cuda.device.get_cublas_handle(), TRANSPOSED, PLAIN, len(rows), len(queries), depth,
        one.ctypes.data, rows.data.ptr, kind, depth, queries.data.ptr, kind, depth,
        zero.ctypes.data, found.data.ptr, kind, len(rows), COMPUTE[screen], DEFAULT,
    )  # fmt: skip
    return found
