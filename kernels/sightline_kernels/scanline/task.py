"""What is to be filled, checked and put in integers: every form computes the same bits from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, maximum_filter

Order = Literal["scanline", "outward"]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Tell = Callable[[int, int], bool]  # pixels done and in all -> whether to go on

LARGEST_WINDOW = 63  # pixels; beyond, the integer weights become coarse
CANDIDATES = 2**24  # of one pixel; their distances are held in memory


@dataclass(frozen=True)
class Task:
    """Arguments of ``synthesise`` that passed every check; see the reference for their meaning."""

    sample: Bytes  # (h, w, C)
    usable: Bools  # (h, w)
    canvas: Bytes  # (H, W, C), the caller's own
    known: Bools  # (H, W), the caller's own
    window: int
    tolerance: float
    seed: int
    way: Order
    tileable: bool

    @classmethod
    def of(
        cls, sample: Bytes, canvas: Bytes, known: Bools, window: int, tolerance: float, seed: int, order: str,
        tileable: bool, usable: Bools | None,
    ) -> Task:  # fmt: skip
        """Check what was given.

        Raises:
            ValueError: an array of another kind or size, an even or too large window, no pixel that can be copied.
        """
        usable = np.ones(sample.shape[:2], np.bool_) if usable is None else usable
        for name, array, kind in (("sample", sample, np.uint8), ("canvas", canvas, np.uint8)):
            if array.dtype != kind or array.ndim != 3 or not array.size:
                raise ValueError(f"A {name} is (height, width, channels) uint8; got {array.dtype} {array.shape}.")
        if sample.shape[2] != canvas.shape[2]:
            raise ValueError(f"The sample has {sample.shape[2]} channels and the canvas {canvas.shape[2]}.")
        for name, mask, of in (("known", known, canvas), ("usable", usable, sample)):
            if mask.dtype != np.bool_ or mask.shape != of.shape[:2]:
                raise ValueError(f"{name} is boolean of {of.shape[:2]} pixels; got {mask.dtype} {mask.shape}.")
        if not (window % 2 and 3 <= window <= LARGEST_WINDOW):
            raise ValueError(f"A window has an odd side of 3 to {LARGEST_WINDOW} pixels; got {window}.")
        if window > min(sample.shape[:2]):
            raise ValueError(f"A window of {window} pixels does not fit into a sample of {sample.shape[:2]}.")
        if not (0 <= tolerance < math.inf and 0 <= seed < 2**63):
            raise ValueError(f"tolerance={tolerance} and seed={seed} must be finite and not negative.")
        if order not in get_args(Order):
            raise ValueError(f"Order {order!r} is none of {', '.join(get_args(Order))}.")
        made = cls(
            sample, usable, canvas, known, window, tolerance, seed, cast(Order, order), tileable
        )  # fmt: skip
        if not known.all() and not 0 < len(made.candidates) <= CANDIDATES:
            raise ValueError(
                f"{len(made.candidates)} pixels of the sample have {window} x {window} usable pixels around them, "
                f"and 1 to {CANDIDATES} can be handled: there is no pixel to copy, or there are too many."
            )
        return made

    @property
    def reach(self) -> int:
        """Pixels of the window to either side of its middle."""
        return self.window // 2

    @cached_property
    def weights(self) -> NDArray[np.int32]:
        """(window, window) of a bell with a standard deviation of window / 6.4, and 0 in the middle.

        Whole numbers, as large as they can be for a weighted sum of squared differences below 2**31.
        """
        squares = np.square(np.arange(self.window) - self.reach)
        bell = np.exp(-(squares[:, None] + squares) / (2 * (self.window / 6.4) ** 2))
        bell[self.reach, self.reach] = 0
        most = (2**31 - 1) // (255**2 * self.sample.shape[2])
        return np.floor(bell * (most / bell.sum())).astype(np.int32)

    @cached_property
    def candidates(self) -> NDArray[np.int64]:
        """Numbers (row * w + column) of the sample's pixels whose whole window is inside and usable, ascending."""
        whole = sliding_window_view(self.usable, (self.window, self.window)).all(axis=(2, 3))
        rows, columns = np.nonzero(whole)
        return (rows + self.reach) * self.sample.shape[1] + columns + self.reach

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Numbers (row * W + column) of the canvas's unknown pixels, in the order in which they are made.

        scanline: line after line from left to right; in a torus each line begins half a window further right than
        the one above, since it could otherwise not begin before that is finished. outward: layer after layer of what
        touches the known, in each by the number of known pixels in the window, ties by a draw.
        """
        if self.way == "outward":
            return self._layers()
        height, width = self.known.shape
        turn = np.arange(height)[:, None] * self.reach if self.tileable else 0
        columns = (np.arange(width) + turn) % width * np.ones((height, 1), np.int64)
        pixels = (np.arange(height)[:, None] * width + columns).ravel()
        return pixels[~self.known.ravel()[pixels]]

    def _layers(self) -> NDArray[np.int64]:
        known = self.known.copy()
        mode = "wrap" if self.tileable else "constant"
        if not known.any():  # something must be the first
            known[known.shape[0] // 2, known.shape[1] // 2] = True
        found = [np.flatnonzero(known & ~self.known)]
        ones = np.ones(self.window, np.int64)
        while not known.all():
            near = np.asarray(maximum_filter(known, 3, mode=mode), np.bool_)
            layer = np.flatnonzero(near & ~known)
            count = correlate1d(correlate1d(known.astype(np.int64), ones, 0, mode=mode), ones, 1, mode=mode)
            found.append(layer[np.lexsort((draw(self.seed, layer), -count.ravel()[layer]))])
            known.ravel()[layer] = True
        return np.concatenate(found)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """(H, W) place of every pixel in the order; -1 of those that are known."""
        ranks = np.full(self.known.shape, -1, np.int64)
        ranks.ravel()[self.order] = np.arange(len(self.order))
        return ranks


def draw(seed: int, pixels: NDArray[np.int64]) -> NDArray[np.uint64]:
    """32 random bits for every pixel, a function of seed and number alone (SplitMix64 over a counter)."""
    with np.errstate(over="ignore"):
        z = (pixels.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = z + np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(32)
