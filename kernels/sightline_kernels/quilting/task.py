"""Where blocks lie, what each of them meets, and which blocks of the sample may be taken: the same for all forms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sightline_kernels.scanline.task import Bools, Bytes

LARGEST_BLOCK = 256  # pixels
CANDIDATES = 2**24  # of one block; up to here, distances by Fourier transforms are exact once rounded


class Place(NamedTuple):
    """A block of the canvas: its first pixel, and how many of its lines are there already at each of its edges."""

    number: int
    row: int
    column: int
    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Task:
    """Arguments of ``quilt`` that passed every check; see the reference for their meaning."""

    sample: Bytes  # (h, w, C)
    usable: Bools  # (h, w)
    size: tuple[int, int]
    block: int
    overlap: int
    tolerance: float
    seed: int
    tileable: bool

    @classmethod
    def of(
        cls, sample: Bytes, size: tuple[int, int], block: int, overlap: int | None, tolerance: float, seed: int,
        tileable: bool, usable: Bools | None,
    ) -> Task:  # fmt: skip
        """Check what was given.

        Raises:
            ValueError: an array of another kind or size, blocks that do not fit, no block that can be copied.
        """
        if sample.dtype != np.uint8 or sample.ndim != 3 or not sample.size:
            raise ValueError(f"A sample is (height, width, channels) uint8; got {sample.dtype} {sample.shape}.")
        usable = np.ones(sample.shape[:2], np.bool_) if usable is None else usable
        if usable.dtype != np.bool_ or usable.shape != sample.shape[:2]:
            raise ValueError(f"usable is boolean of {sample.shape[:2]}; got {usable.dtype} {usable.shape}.")
        if not 2 <= block <= LARGEST_BLOCK:
            raise ValueError(f"A block has a side of 2 to {LARGEST_BLOCK} pixels; got {block}.")
        overlap = max(1, round(block / 6)) if overlap is None else overlap
        if not 1 <= overlap <= block // 2:
            raise ValueError(f"Blocks of {block} pixels overlap by 1 to {block // 2}; got {overlap}.")
        if block > min(sample.shape[:2]):
            raise ValueError(f"A block of {block} pixels does not fit into a sample of {sample.shape[:2]}.")
        if min(size) < (block if tileable else 1):
            raise ValueError(f"A canvas of {size} is smaller than {'a block' if tileable else 'a pixel'}.")
        if not (0 <= tolerance < math.inf and 0 <= seed < 2**63):
            raise ValueError(f"tolerance={tolerance} and seed={seed} must be finite and not negative.")
        made = cls(sample, usable, size, block, overlap, tolerance, seed, tileable)
        if not made.candidates.any() or made.candidates.size > CANDIDATES:
            raise ValueError(
                f"{int(made.candidates.sum())} blocks of {block} x {block} pixels are usable, and 1 to {CANDIDATES} "
                "can be handled: there is none to copy, or there are too many."
            )
        return made

    @cached_property
    def candidates(self) -> Bools:
        """(h - block + 1, w - block + 1) first pixels of the sample's blocks that are usable throughout."""
        return np.asarray(sliding_window_view(self.usable, (self.block, self.block)).all(axis=(2, 3)))

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width of the canvas that blocks fill; what goes beyond the size is cut off."""
        return max(self.size[0], self.block), max(self.size[1], self.block)

    @cached_property
    def starts(self) -> tuple[list[int], list[int]]:
        """First rows and first columns of blocks: as few as overlap enough, spread evenly."""
        return self._starts(self.extent[0]), self._starts(self.extent[1])

    def _starts(self, side: int) -> list[int]:
        step = self.block - self.overlap
        if self.tileable:
            count = -(-side // step)
            return [n * side // count for n in range(count)]
        gaps = -(-(side - self.block) // step)
        return [n * (side - self.block) // max(gaps, 1) for n in range(gaps + 1)]

    def places(self) -> Iterator[Place]:
        """Blocks in the order in which they are laid: line after line."""
        rows, columns = self.starts
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                top = rows[i - 1] + self.block - row if i else 0
                left = columns[j - 1] + self.block - column if j else 0
                bottom, right = row + self.block - self.extent[0], column + self.block - self.extent[1]
                yield Place(i * len(columns) + j, row, column, top, max(0, bottom), left, max(0, right))

    def known(self, place: Place) -> Bools:
        """(block, block) pixels of a place that are there already."""
        lines = np.arange(self.block)
        rows = (lines < place.top) | (lines >= self.block - place.bottom)
        columns = (lines < place.left) | (lines >= self.block - place.right)
        return rows[:, None] | columns

    def allowed(self, place: Place, taken: NDArray[np.int64]) -> Bools:
        """Candidates but those that go on with the sample where the block above, or that to the left, ends.

        Args:
            place: that is to be filled.
            taken: (N, 2) first pixels of the sample's blocks that lie at earlier places.
        """
        allowed, (rows, columns) = self.candidates.copy(), self.starts
        i, j = divmod(place.number, len(columns))
        before: list[tuple[int, int]] = []
        if i:
            row, column = taken[place.number - len(columns)]
            before.append((row + rows[i] - rows[i - 1], column))
        if j:
            row, column = taken[place.number - 1]
            before.append((row, column + columns[j] - columns[j - 1]))
        for row, column in before:
            near = slice(max(0, row - self.overlap + 1), row + self.overlap)
            allowed[near, max(0, column - self.overlap + 1) : column + self.overlap] = False
        return allowed if allowed.any() else self.candidates
