"""Rectangles of a map, one per occluding window: what a window changes, and what is computed for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from sightline.types import IntArray

NOWHERE = np.iinfo(np.int64).max // 4  # first position of an empty reach


@dataclass(frozen=True)
class Slide:
    """How a kernel moves along one axis.

    Attributes:
        kernel: positions from the first to the last that one output reads, dilation included.
        stride: positions between neighbouring outputs.
        pad: positions before the map that the first output reads.
    """

    kernel: int = 1
    stride: int = 1
    pad: int = 0


@dataclass(frozen=True)
class Reach:
    """What M windows change along one axis: positions ``first`` to ``last``, empty where last < first.

    Attributes:
        first, last: (M,) within the map.
        length: positions of the map.
    """

    first: IntArray
    last: IntArray
    length: int

    def through(self, slide: Slide, length: int) -> Self:
        """The outputs that read a changed position."""
        first = -((slide.kernel - 1 - self.first - slide.pad) // slide.stride)  # rounded up
        last = (self.last + slide.pad) // slide.stride
        return self._kept(np.maximum(first, 0), np.minimum(last, length - 1), length)

    def joined(self, other: Reach) -> Self:
        """What either changes."""
        first = np.minimum(
            np.where(self.is_empty, NOWHERE, self.first), np.where(other.is_empty, NOWHERE, other.first)
        )
        last = np.maximum(np.where(self.is_empty, -1, self.last), np.where(other.is_empty, -1, other.last))
        return self._kept(first, last, self.length)

    def capped(self, share: float) -> Self:
        """Its middle, where it is longer than this share of the map."""
        longest = max(1, math.ceil(share * self.length))
        first = self.first + np.maximum(self.last - self.first + 1 - longest, 0) // 2
        return type(self)(first, np.minimum(self.last, first + longest - 1), self.length)

    @property
    def is_empty(self) -> np.ndarray:
        """(M,) whether a window changes nothing."""
        return self.last < self.first

    def _kept(self, first: IntArray, last: IntArray, length: int) -> Self:
        empty = last < first
        return type(self)(np.where(empty, 0, first), np.where(empty, -1, last), length)


@dataclass(frozen=True, eq=False)
class Stretch:
    """One axis of a cut: ``size`` positions from ``start`` on; a halo may begin before the map or end behind it."""

    size: int
    start: IntArray  # (M,)

    @classmethod
    def around(cls, reach: Reach) -> Self:
        """The smallest size that holds every reach, moved to lie within the map."""
        size = max(1, int((reach.last - reach.first + 1).max(initial=1)))
        return cls(size, np.minimum(reach.first, reach.length - size))

    def read_by(self, slide: Slide) -> Stretch:
        """What a kernel reads to compute these outputs."""
        return Stretch((self.size - 1) * slide.stride + slide.kernel, self.start * slide.stride - slide.pad)

    def lies_within(self, length: int) -> bool:
        """Whether nothing sticks out of the map."""
        return bool(self.start.min(initial=0) >= 0 and (self.start + self.size).max(initial=0) <= length)

    def holds(self, reach: Reach) -> bool:
        """Whether it leaves out nothing that changes."""
        inside = (self.start <= reach.first) & (reach.last < self.start + self.size)
        return bool(np.all(inside | reach.is_empty))

    def equals(self, other: Stretch) -> bool:
        """Same size and places."""
        return self.size == other.size and bool(np.array_equal(self.start, other.start))


@dataclass(frozen=True, eq=False)
class Cut:
    """A rectangle of one size per window."""

    rows: Stretch
    columns: Stretch

    @property
    def positions(self) -> int:
        """Positions of one rectangle."""
        return self.rows.size * self.columns.size

    def read_by(self, slides: tuple[Slide, Slide]) -> Cut:
        """What kernels read to compute it."""
        return Cut(self.rows.read_by(slides[0]), self.columns.read_by(slides[1]))

    def holds(self, change: Change) -> bool:
        """Whether it leaves out nothing that changes; what lies outside is then what the base holds."""
        return self.rows.holds(change.rows) and self.columns.holds(change.columns)

    def lies_within(self, size: tuple[int, int]) -> bool:
        """Whether nothing sticks out of a map of this height and width."""
        return self.rows.lies_within(size[0]) and self.columns.lies_within(size[1])

    def equals(self, other: Cut) -> bool:
        """Same size and places."""
        return self.rows.equals(other.rows) and self.columns.equals(other.columns)


@dataclass(frozen=True)
class Change:
    """What M windows change of a map."""

    rows: Reach
    columns: Reach

    @classmethod
    def of_windows(cls, windows: IntArray, size: tuple[int, int]) -> Self:
        """(M, 4) rows of top, left, height, width, inside an image of this height and width."""
        top, left, height, width = windows.T
        return cls(Reach(top, top + height - 1, size[0]), Reach(left, left + width - 1, size[1]))

    def through(self, slides: tuple[Slide, Slide], size: tuple[int, int]) -> Change:
        """What changes behind a sliding kernel whose output has this height and width."""
        return Change(self.rows.through(slides[0], size[0]), self.columns.through(slides[1], size[1]))

    def capped(self, share: float) -> Change:
        """Its middle, where it is longer than this share of the map along an axis."""
        return Change(self.rows.capped(share), self.columns.capped(share))

    def joined(self, other: Change) -> Change:
        """What either changes."""
        return Change(self.rows.joined(other.rows), self.columns.joined(other.columns))

    def cut(self) -> Cut:
        """The smallest cut that holds it."""
        return Cut(Stretch.around(self.rows), Stretch.around(self.columns))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the map."""
        return self.rows.length, self.columns.length


def whole(size: tuple[int, int], windows: int) -> Cut:
    """The whole map for every window."""
    zeros = np.zeros(windows, np.int64)
    return Cut(Stretch(size[0], zeros), Stretch(size[1], zeros))
