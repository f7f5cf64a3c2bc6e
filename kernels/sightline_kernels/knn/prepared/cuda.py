"""In CuPy: a bank's rows as products are taken of them, and how far those may err."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline_kernels.knn.reference import LARGEST, Search, bad_row

Screen = Literal["fp16", "tf32", "fp32"]
VALUES = 2**26  # of the rows on the device at a time: 256 MiB
UNIT = 2.0**-24  # of float32
# How far the product of two factors is from theirs: TF32 keeps 10 bits and may cut off the rest, float16 rounds to 11
# bits, and its products, of which the sum is rounded so, too.
NARROW = {"fp32": 0.0, "tf32": 2.0**-9, "fp16": 1.5 * 2.0**-10}
NORM = 7  # rows and queries that become float16 are made shorter than 2**7: no product is beyond its range
TINY = 2.0**-120  # what underflow may take, also of what is flushed to 0


@dataclass(frozen=True)
class Piece:
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

    def part(self, rows: slice) -> Piece:
        """Some of these rows; nothing is copied."""
        return Piece(self.first + rows.start, *(one[rows] for one in self.arrays))


class PreparedRows:
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
        self.rounding = (asked.dimensions + 32) * 2.0**-51  # of keys in float64, and of what limits are made of
        self.kind = np.float16 if screen == "fp16" else np.float32

    def pieces(self) -> Iterator[Piece]:
        """All rows, brought to the device as they are wanted."""
        size = max(1, VALUES // self.asked.dimensions)
        for first, block in zip(self.asked.starts, self.asked.blocks, strict=True):
            for start in range(0, len(block), size):
                yield self._prepared(block[start : start + size], first + start)

    def whole(self) -> Piece:
        """All rows side by side, for a bank that stays: few queries take them in one go."""
        shape = (self.asked.count, self.asked.dimensions)
        kinds = (np.float32, self.kind, *[np.float32] * 4)
        shapes = (shape, shape, *[shape[:1]] * 4)
        made = Piece(0, *(self.cupy.empty(one, kind) for one, kind in zip(shapes, kinds, strict=True)))
        for piece in self.pieces():
            there = made.part(slice(piece.first, piece.first + len(piece.rows)))
            for ours, its in zip(there.arrays, piece.arrays, strict=True):
                ours[:] = its
        return made

    def _prepared(self, piece: NDArray[Any], first: int) -> Piece:
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
            size = cupy.where(short, np.inf, size + 4 * self.growth / self.error)
        halves, sizes = cupy.where(kept, half - TINY, np.inf), cupy.where(kept, size, 0)
        moved, factors = narrowed(cupy, moved, cupy.sqrt(squares), self.kind)
        each = (halves, sizes, slack * (1 + UNIT), factors)
        return Piece(first, rows, moved, *(one.astype(np.float32) for one in each))

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


def narrowed(library: Any, rows: Any, lengths: Any, kind: type) -> tuple[Any, Any]:
    """Rows (n, D) of lengths (n,) as another kind holds them best, and what their products are multiplied with."""
    if kind == np.float32:
        return rows, library.ones(len(rows))
    exponents = library.maximum(library.frexp(lengths)[1], -100) - NORM  # shorter ones are nothing beside ``sizes``
    factors = library.ldexp(library.ones(len(rows)), exponents)
    return (rows / factors[:, None]).astype(kind), factors
