"""In Numba, on all cores: tiles of products in the processor's registers, each pair of channels once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from sightline_kernels.gram.reference import SLICE, Floats, Normalisation, checked, scale, widened

_intrinsic: Callable[..., Any] = intrinsic  # its own type keeps the first argument, which callers do not give
ALONE = 4e6  # products that one thread does sooner than two begin
CHUNK = 16 * SLICE  # positions widened at a time


def _lanes() -> int:
    """Values of one vector register."""
    has = llvmlite.binding.get_host_cpu_features()
    return 16 if has.get("avx512f") else 8 if has.get("avx2") else 4


LANE = _lanes()
ROWS, COLUMNS = 4, LANE // 4  # of a tile: as many sums as a register has lanes, so that they fold into one register


def gram(maps: NDArray[Any], *, per: Normalisation = "position", threads: int | None = None) -> Floats:
    """Products of every two channels, summed over positions; see the reference."""
    flat = checked(maps)
    if flat.dtype != np.float32:
        starts = range(0, max(flat.shape[2], 1), CHUNK)
        return gram_of_chunks((flat[:, :, start : start + CHUNK] for start in starts), per=per, threads=threads)
    factor = scale(flat.shape[1], flat.shape[2], per)
    out = np.empty((len(flat), flat.shape[1], flat.shape[1]), np.float32)
    _run(_aligned(flat), np.empty((0, 0, 0)), out, factor, threads)
    return out


def gram_of_chunks(
    chunks: Iterable[NDArray[Any]], *, per: Normalisation = "position", threads: int | None = None
) -> Floats:
    """The Gram matrix of maps that come in pieces along the positions; see the reference."""
    total, rest, positions = np.empty((0, 0, 0)), np.empty((0, 0, 0), np.float32), -1
    nowhere = np.empty((0, 0, 0), np.float32)
    for given in chunks:
        chunk = widened(checked(given))
        if positions < 0:
            channels, positions = chunk.shape[1], 0
            total = np.zeros((len(chunk), channels, channels))
            rest = chunk[:, :, :0]
        if chunk.shape[:2] != rest.shape[:2]:
            raise ValueError(f"A piece of {chunk.shape} follows pieces of {rest.shape[:2]} maps and channels.")
        positions += chunk.shape[2]
        missing = -rest.shape[2] % SLICE  # of the slice that is waiting
        rest, chunk = np.concatenate([rest, chunk[:, :, :missing]], axis=2), chunk[:, :, missing:]
        if rest.shape[2] == SLICE:
            _run(_aligned(rest), total, nowhere, 0.0, threads)
            rest = rest[:, :, :0]
        if chunk.shape[2]:  # then nothing waits
            whole = chunk.shape[2] // SLICE * SLICE
            _run(_aligned(chunk[:, :, :whole]), total, nowhere, 0.0, threads)
            rest = chunk[:, :, whole:].copy()
    if positions < 0:
        raise ValueError("There is no piece of the maps.")
    _run(_aligned(rest), total, nowhere, 0.0, threads)
    upper = (total * scale(total.shape[1], positions, per)).astype(np.float32)
    return np.triu(upper) + np.triu(upper, 1).transpose(0, 2, 1)


def _aligned(maps: Floats) -> Floats:
    """Maps whose channels fill whole tiles, zeros for those that are missing; lines are contiguous."""
    missing = -maps.shape[1] % 4
    return np.pad(maps, ((0, 0), (0, missing), (0, 0))) if missing else np.ascontiguousarray(maps)


def _run(maps: Floats, total: NDArray[np.float64], out: Floats, factor: float, threads: int | None) -> None:
    """Add to the totals' upper triangle, or without totals write the result."""
    side = 32 if maps.shape[1] <= 128 else 64  # two blocks of a slice stay in the second cache
    if maps.size * maps.shape[1] <= ALONE or threads == 1:
        _alone(maps, total, out, factor, side)
        return
    before = numba.get_num_threads()
    workers = min(threads or before, before)
    numba.set_num_threads(workers)
    try:
        _together(maps, total, out, factor, side, workers)
    finally:
        numba.set_num_threads(before)


def _build(context: Any, builder: Any, signature: Any, given: Any) -> Any:
    """Dot products of ROWS and COLUMNS lines: whole vectors, then a masked one, then sixteen sums folded into one."""
    real, whole, bit = ir.FloatType(), ir.IntType(64), ir.IntType(1)
    vector, mask = ir.VectorType(real, LANE), ir.VectorType(bit, LANE)
    rows, columns, stride, depth, out = given
    rows, columns, out = (builder.inttoptr(one, real.as_pointer()) for one in (rows, columns, out))
    lines = [builder.gep(rows, [builder.mul(stride, whole(i))]) for i in range(ROWS)]
    others = [builder.gep(columns, [builder.mul(stride, whole(j))]) for j in range(COLUMNS)]
    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANE}f32"
    )
    load_some = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [vector.as_pointer(), ir.IntType(32), mask, vector]),
        f"llvm.masked.load.v{LANE}f32.p0v{LANE}f32",
    )

    def place(line: Any, at: Any) -> Any:
        return builder.bitcast(builder.gep(line, [at]), vector.as_pointer())

    def added(sums: Any, load: Callable[[Any], Any]) -> Any:
        left = [load(line) for line in lines]
        right = [load(line) for line in others]
        return [builder.call(fma, [left[n // COLUMNS], right[n % COLUMNS], one]) for n, one in enumerate(sums)]

    full = builder.and_(depth, whole(-LANE))
    zeros = [ir.Constant(vector, [0.0] * LANE)] * LANE
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.cbranch(builder.icmp_signed(">", full, whole(0)), loop, after)
    builder.position_at_end(loop)
    at, sums = builder.phi(whole), [builder.phi(vector) for _ in range(LANE)]
    made = added(sums, lambda line: builder.load(place(line, at), align=4))
    following = builder.add(at, whole(LANE))
    at.add_incoming(whole(0), before)
    at.add_incoming(following, loop)
    for one, first, last in zip(sums, zeros, made, strict=True):
        one.add_incoming(first, before)
        one.add_incoming(last, loop)
    builder.cbranch(builder.icmp_signed("<", following, full), loop, after)
    builder.position_at_end(after)
    totals = [builder.phi(vector) for _ in range(LANE)]
    for one, first, last in zip(totals, zeros, made, strict=True):
        one.add_incoming(first, before)
        one.add_incoming(last, loop)
    rest = builder.trunc(builder.sub(depth, full), ir.IntType(32))
    numbers = ir.VectorType(ir.IntType(32), LANE)
    spread = builder.insert_element(ir.Constant(numbers, ir.Undefined), rest, ir.IntType(32)(0))
    spread = builder.shuffle_vector(spread, spread, ir.Constant(numbers, [0] * LANE))
    inside = builder.icmp_signed("<", ir.Constant(numbers, list(range(LANE))), spread)
    totals = added(
        totals, lambda line: builder.call(load_some, [place(line, full), ir.IntType(32)(4), inside, zeros[0]])
    )
    even, odd = (ir.Constant(numbers, list(range(first, 2 * LANE, 2))) for first in (0, 1))
    while len(totals) > 1:
        totals = [
            builder.fadd(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd))
            for a, b in zip(totals[::2], totals[1::2], strict=True)
        ]
    builder.store(totals[0], builder.bitcast(out, vector.as_pointer()), align=4)
    return context.get_dummy_value()


@_intrinsic
def _dots(context: Any, rows: Any, columns: Any, stride: Any, depth: Any, out: Any) -> Any:
    """Write (ROWS, COLUMNS) dot products of lines of ``depth`` values, ``stride`` values apart."""
    return types.void(*[types.int64] * 5), _build


@numba.njit(cache=True, nogil=True)
def _block(maps, total, out, factor, side, unit):  # type: ignore[no-untyped-def]
    """The sums of one block of channels times another, slice by slice, and of none below the diagonal."""
    channels, positions = maps.shape[1], maps.shape[2]
    blocks = -(-channels // side)
    image, i, j = unit // (blocks * (blocks + 1) // 2), 0, unit % (blocks * (blocks + 1) // 2)
    while j >= blocks - i:
        j -= blocks - i
        i += 1
    top, left = i * side, (i + j) * side
    height, width = min(side, channels - top), min(side, channels - left)
    sums, tile = np.zeros((side, side)), np.empty((ROWS, COLUMNS), np.float32)
    if len(total):
        for y in range(top, min(top + height, total.shape[1])):
            for x in range(left, min(left + width, total.shape[1])):
                sums[y - top, x - left] = total[image, y, x]
    base = maps[image].ctypes.data
    for start in range(0, positions, SLICE):
        depth = min(SLICE, positions - start)
        for x in range(0, width, COLUMNS):
            for y in range(0, height, ROWS):
                if top + y > left + x + COLUMNS - 1:
                    break
                row, column = base + 4 * ((top + y) * positions + start), base + 4 * ((left + x) * positions + start)
                _dots(row, column, positions, depth, tile.ctypes.data)
                for a in range(ROWS):
                    for b in range(COLUMNS):
                        sums[y + a, x + b] += tile[a, b]
    if len(total):
        total[image, top : top + height, left : left + width] = sums[: total.shape[1] - top, : total.shape[1] - left][
            :height, :width
        ]
        return
    for y in range(top, min(top + height, out.shape[1])):
        for x in range(max(left, y), min(left + width, out.shape[1])):
            out[image, y, x] = out[image, x, y] = np.float32(sums[y - top, x - left] * factor)


@numba.njit(cache=True, nogil=True)
def _alone(maps, total, out, factor, side):  # type: ignore[no-untyped-def]
    blocks = -(-maps.shape[1] // side)
    for unit in range(len(maps) * (blocks * (blocks + 1) // 2)):
        _block(maps, total, out, factor, side, unit)


@numba.njit(cache=True, parallel=True, nogil=True)
def _together(maps, total, out, factor, side, workers):  # type: ignore[no-untyped-def]
    blocks = -(-maps.shape[1] // side)
    units = len(maps) * (blocks * (blocks + 1) // 2)
    for worker in numba.prange(workers):
        for unit in range(worker, units, workers):
            _block(maps, total, out, factor, side, unit)
