"""In CuPy: products by cuBLAS with a bound of their error, and kernels of our own that select, measure and merge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline_kernels.knn.reference import LARGEST, Metric, Rows, Search, bad_row, values

__all__ = ["Bank", "search"]

Screen = Literal["tf32", "fp32"]
ROOM = 4096  # pending rows of a query
SAMPLE = 2**15  # rows that the first limit is taken from
VALUES = 2**26  # of the rows on the device at a time: 256 MiB
PRODUCTS = 2**27  # of rows and queries at a time: 512 MiB
TOGETHER = 1024  # queries
UNIT = 2.0**-24  # of float32
NARROW = 2.0**-9  # two factors in TF32, which keeps 10 bits and may cut off the rest
TINY = 2.0**-120  # what underflow may take
THREADS = 128  # of a block
FLOAT, TRANSPOSED, PLAIN, DEFAULT = 0, 1, 0, -1  # cuBLAS's names for a type, two layouts and its own choice
COMPUTE = {"fp32": 68, "tf32": 77}  # its names for how products are computed
# No kernel synchronises: every thread answers for one pair. Sums are rounded as the reference does, never fused.
SOURCE = r"""
extern "C" __global__ void count_digits(const float* products, const float* halves, const float* sizes,
        const float* slacks, const float* bounds, const unsigned* prefixes, int* tallies, long long queries,
        long long stride, long long span, int shift) {
    long long pair = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (pair >= queries * span) return;
    long long q = pair / span, r = pair % span;
    float product = products[q * stride + r];
    float upper = halves[r] + slacks[r] + bounds[q] * sizes[r] - product;
    upper += (fabsf(halves[r]) + fabsf(product)) * 2.4e-7f;  // this sum's own rounding
    if (!(upper < 3e38f)) return;  // not to be found, or nothing known of it
    unsigned bits = __float_as_uint(upper);
    bits ^= (bits >> 31) ? 0xffffffffu : 0x80000000u;  // ordered as the numbers are
    if (shift < 24 && (bits >> (shift + 8)) != (prefixes[q] >> (shift + 8))) return;
    atomicAdd(tallies + q * 256 + ((bits >> shift) & 255), 1);
}

extern "C" __global__ void choose_digits(int* tallies, unsigned* prefixes, int* ranks, float* limits,
        long long queries, int shift) {
    long long q = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (q >= queries) return;
    int digit = 0, rank = ranks[q];
    while (digit < 256 && tallies[q * 256 + digit] < rank) rank -= tallies[q * 256 + digit++];
    for (int i = 0; i < 256; i++) tallies[q * 256 + i] = 0;
    if (digit == 256) return;  // fewer rows than are looked for: the limit stays
    ranks[q] = rank;
    prefixes[q] |= (unsigned)digit << shift;
    unsigned bits = prefixes[q];
    if (shift == 0) limits[q] = __uint_as_float(bits ^ ((bits >> 31) ? 0x80000000u : 0xffffffffu));
}

extern "C" __global__ void select_rows(const float* products, const float* halves, const float* sizes,
        const float* bounds, const float* limits, int* pending, int* counts, long long queries, long long stride,
        long long start, long long stop, int room) {
    long long pair = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long span = stop - start;
    if (pair >= queries * span) return;
    long long q = pair / span, r = start + pair % span;
    if (halves[r] > 3e38f) return;  // not to be found
    float lower = halves[r] - bounds[q] * sizes[r] - products[q * stride + r];
    if (lower > limits[q]) return;
    int place = atomicAdd(counts + q, 1);
    if (place < room) pending[q * room + place] = (int)r;
}

extern "C" __global__ void measure_rows(const float* rows, const float* queries, const int* pending,
        const int* counts, double* keys, long long count, long long depth, int width, int room, int metric) {
    long long pair = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long q = pair / width, place = q * room + pair % width;
    if (q >= count || pair % width >= counts[q]) return;
    const float* one = queries + q * depth;
    const float* row = rows + (long long)pending[place] * depth;
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
    keys[place] = metric == 0 ? key : -key;
}

extern "C" __global__ void merge_rows(const double* old_keys, const long long* old_names, const double* keys,
        const int* pending, const int* counts, double* new_keys, long long* new_names, long long first,
        long long count, int k, int width, int room) {
    long long pair = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long q = pair / (k + width), n = pair % (k + width);
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

extern "C" __global__ void lower_limits(const double* keys, const double* scales, const double* shifts, float* limits,
        long long count, int k) {
    long long q = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (q >= count) return;
    double last = keys[q * k + k - 1] * scales[q];
    double limit = last + shifts[q] + (fabs(last) + fabs(shifts[q])) * 1e-12;  // its own rounding
    float found = (float)(limit + fabs(limit) * 0x1p-22);
    if (found < limits[q]) limits[q] = found;
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
    prepared = _Rows(asked, "tf32")
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
        screen: Screen = "tf32",
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
        moved: (n, D) float32, what products are taken of: from the centre, of unit length for the cosine.
        halves, sizes, slacks: (n,) float32 of each row: its part of the sum that is minimised, lowest; what a query's
            bound of error is multiplied with; what the highest of the former is above the lowest.
    """

    first: int
    rows: Any
    moved: Any
    halves: Any
    sizes: Any
    slacks: Any

    @property
    def arrays(self) -> tuple[Any, ...]:
        """All of them, in order."""
        return self.rows, self.moved, self.halves, self.sizes, self.slacks

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
        self.error = self.growth if screen == "fp32" else 2 * self.growth + NARROW * 1.01  # of a product, relative

    def pieces(self) -> Iterator[_Piece]:
        """All rows, brought to the device as they are wanted."""
        size = max(1, VALUES // self.asked.dimensions)
        for first, block in zip(self.asked.starts, self.asked.blocks, strict=True):
            for start in range(0, len(block), size):
                yield self._prepared(block[start : start + size], first + start)

    def whole(self) -> _Piece:
        """All rows side by side, for a bank that stays: few queries take them in one go."""
        shape = (self.asked.count, self.asked.dimensions)
        made = _Piece(0, *(self.cupy.empty(one, np.float32) for one in (shape, shape, *[shape[:1]] * 3)))
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
        return _Piece(first, rows, moved, *(one.astype(np.float32) for one in (halves, sizes, slack * (1 + UNIT))))

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
        names = ("count_digits", "choose_digits", "select_rows", "measure_rows", "merge_rows", "lower_limits")
        self.count, self.choose, self.select, self.measure, self.merge, self.lower = map(module.get_function, names)
        self.bank, self.k, self.metric, count = bank, asked.k, bank.metric, len(queries)
        wide = queries.astype(np.float64)
        moved = (wide - bank.centre if self.metric == 0 else wide).astype(np.float32)
        norms = np.linalg.norm(moved.astype(np.float64), axis=1)
        self.scale = cupy.asarray(norms if self.metric == 1 else np.full(count, 1.0 if self.metric else 0.5))
        shift = wide @ bank.centre if self.metric else np.square(wide - bank.centre).sum(axis=1) * -0.5
        self.shift, self.queries, self.moved = (cupy.asarray(one) for one in (shift, queries, moved))
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
        """The k-th lowest of what rows of a sample are at most: found digit by digit of its 32 bits."""
        cupy, count = self.cupy, len(self.queries)
        span, stride = min(SAMPLE, len(piece.rows)), len(piece.rows)
        tallies, prefixes = cupy.zeros((count, 256), np.int32), cupy.zeros(count, np.uint32)
        ranks = cupy.full(count, self.k, np.int32)
        for shift in (24, 16, 8, 0):
            self._run(
                self.count, count * span, products, piece.halves, piece.sizes, piece.slacks, self.bounds, prefixes,
                tallies, np.int64(count), np.int64(stride), np.int64(span), np.int32(shift),
            )  # fmt: skip
            self._run(
                self.choose, count, tallies, prefixes, ranks, self.limits, np.int64(count), np.int32(shift)
            )  # fmt: skip

    def _take(self, piece: _Piece, products: Any) -> None:
        """Select, measure and merge, of as many rows at a time as leave room."""
        cupy, count, k = self.cupy, len(self.queries), self.k
        total, depth = piece.rows.shape
        pending, keys = cupy.empty((count, ROOM), np.int32), cupy.empty((count, ROOM))
        start, span = 0, total
        while start < total:
            stop, counts = min(start + span, total), cupy.zeros(count, np.int32)
            self._run(
                self.select, count * (stop - start), products, piece.halves, piece.sizes, self.bounds, self.limits,
                pending, counts, np.int64(count), np.int64(total), np.int64(start), np.int64(stop), np.int32(ROOM),
            )  # fmt: skip
            width = int(counts.max())
            if width > ROOM:  # ROOM rows always fit
                span = max(ROOM, span // 2)
                continue
            start, span = stop, 2 * span  # fewer of the next are below a limit that has fallen
            if width == 0:
                continue
            self._run(
                self.measure, count * width, piece.rows, self.queries, pending, counts, keys, np.int64(count),
                np.int64(depth), np.int32(width), np.int32(ROOM), np.int32(self.metric),
            )  # fmt: skip
            old, names = self.keys, self.names
            self.keys, self.names = cupy.empty_like(old), cupy.empty_like(names)
            self._run(
                self.merge, count * (k + width), old, names, keys, pending, counts, self.keys, self.names,
                np.int64(piece.first), np.int64(count), np.int32(k), np.int32(width), np.int32(ROOM),
            )  # fmt: skip
            self._run(
                self.lower, count, self.keys, self.scale, self.shift, self.limits, np.int64(count), np.int32(k)
            )  # fmt: skip

    def _run(self, kernel: Any, pairs: int, *arguments: Any) -> None:
        kernel((-(-pairs // THREADS),), (THREADS,), arguments)


def _products(cupy: Any, queries: Any, rows: Any, screen: Screen) -> Any:
    """(Q, n) float32 of queries (Q, D) and rows (n, D), by cuBLAS, which takes matrices column by column."""
    found = cupy.empty((len(queries), len(rows)), np.float32)
    depth, one, zero = rows.shape[1], np.ones(1, np.float32), np.zeros(1, np.float32)
    cupy.cuda.cublas.gemmEx(
        cupy.cuda.device.get_cublas_handle(), TRANSPOSED, PLAIN, len(rows), len(queries), depth,
        one.ctypes.data, rows.data.ptr, FLOAT, depth, queries.data.ptr, FLOAT, depth,
        zero.ctypes.data, found.data.ptr, FLOAT, len(rows), COMPUTE[screen], DEFAULT,
    )  # fmt: skip
    return found
