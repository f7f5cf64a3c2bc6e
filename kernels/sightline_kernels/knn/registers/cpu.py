"""As LLVM's vectors, inside Numba's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sightline_kernels.knn.reference import LANES

_intrinsic: Callable[..., Any] = intrinsic  # its own type keeps the first argument, which callers do not give
HEIGHT = 8  # rows of a tile: eight broadcasts for up to three vectors of queries


def _lanes() -> int:
    """Values of one vector register."""
    has = llvmlite.binding.get_host_cpu_features()
    return 16 if has.get("avx512f") else 8 if has.get("avx2") else 4


LANE = _lanes()
WIDTHS = (3, 2, 1) if LANE == 16 else (1,)  # vectors of queries in a tile: 24 of 32 registers, or 8 of 16


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

    @_intrinsic
    def tile(context: Any, rows: Any, stride: Any, panel: Any, depth: Any, out: Any) -> Any:
        return types.void(*[types.intp] * 5), build

    return tile


tile_1, tile_2, tile_3 = _tile(1), _tile(2), _tile(3)


@_intrinsic
def single(context, value):  # type: ignore[no-untyped-def]
    """A float32 of itself, or of the bits of a float16."""

    def build(context, builder, signature, given):  # type: ignore[no-untyped-def]
        if signature.args[0] == types.float32:
            return given[0]
        return builder.fpext(builder.bitcast(given[0], ir.HalfType()), ir.FloatType())

    return types.float32(value), build


@_intrinsic
def add_lanes(context, query, row, steps, squared, lanes):  # type: ignore[no-untyped-def]
    """Add ``steps`` times LANES terms, (q - x)² or qx in float64, to the lanes, in the reference's order."""
    narrow, wide = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.DoubleType(), LANES)

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


@_intrinsic
def passing(context, products, bounds, limits, base, size, width):  # type: ignore[no-untyped-def]
    """Bits of the queries for which base - bound * size - product does not exceed the limit, or is no number."""
    real, whole = ir.FloatType(), ir.IntType(64)
    vector, bits = ir.VectorType(real, LANE), ir.IntType(LANE)

    def build(context, builder, signature, given):  # type: ignore[no-untyped-def]
        *places, base, size, width = given
        places = [builder.inttoptr(place, vector.as_pointer()) for place in places]

        def spread(value):  # type: ignore[no-untyped-def]
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANE), [0] * LANE))

        base, size = spread(base), spread(size)
        mask = cgutils.alloca_once_value(builder, whole(0))
        with cgutils.for_range(builder, width) as loop:
            product, bound, limit = (builder.load(builder.gep(one, [loop.index]), align=4) for one in places)
            lower = builder.fsub(builder.fsub(base, builder.fmul(bound, size)), product)
            passed = builder.bitcast(builder.fcmp_unordered("<=", lower, limit), bits)
            shifted = builder.shl(builder.zext(passed, whole), builder.mul(loop.index, whole(LANE)))
            builder.store(builder.or_(builder.load(mask), shifted), mask)
        return builder.load(mask)

    return types.int64(types.intp, types.intp, types.intp, types.float32, types.float32, types.intp), build


@_intrinsic
def lowest(context, mask):  # type: ignore[no-untyped-def]
    """Number of the lowest bit that is set."""

    def build(context, builder, signature, given):  # type: ignore[no-untyped-def]
        return builder.cttz(given[0], ir.IntType(1)(1))

    return types.int64(types.int64), build


@_intrinsic
def prefetch(context, start, stop):  # type: ignore[no-untyped-def]
    """Ask for the cache lines between two addresses, to be read soon."""
    byte, number, whole = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)

    def build(context, builder, signature, given):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        lines = builder.udiv(builder.sub(given[1], given[0]), whole(64))
        with cgutils.for_range(builder, lines) as loop:
            place = builder.add(given[0], builder.mul(loop.index, whole(64)))
            builder.call(ask, [builder.inttoptr(place, byte), number(0), number(2), number(1)])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), build
