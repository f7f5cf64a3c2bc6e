"""Which windows of the image the score depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Bound, WindowSweep
from sightline.agreement import agreement
from sightline.errors import UsageError
from sightline.methods.forward._fill import filling
from sightline.methods.forward._refinement import coarse_rows, important_rows, interpolated
from sightline.methods.forward._windows import mean_map, window_grid
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray, Heatmaps, IntArray


@method(needs=WindowSweep)
@dataclass(frozen=True, kw_only=True)
class Occlusion:
    """Fall of the target's score when a window of the image is hidden.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.2. They plot the score;
    we plot its fall, and where windows overlap each pixel gets the mean over the windows that hid it.

    Returns ``Heatmaps`` (B, H, W) float32 in units of the target's score; positive where hiding lowers it. Windows
    start every ``stride`` pixels; the last of each row and column is cut at the border, so that every pixel is hidden
    at least once. Memory does not depend on their number.

    With ``tolerance`` (the projective field threshold of Nakandala et al., SIGMOD 2019) or ``refine`` the maps are
    approximate: they say so, and how far they agree with exact ones on the first ``sample`` images of each batch.

    Raises:
        UsageError: a window or stride below 1, a stride larger than the window, which would leave pixels out, a
            window of the list that lies outside the image, an unknown fill.
    """

    window: int = 32  # pixels, the height of what is hidden, and its width unless given
    width: int | None = None  # pixels, of windows that are not square
    stride: int = 8  # pixels between neighbouring windows
    fill: float | str = 0.0  # model input: number or c,c,c; or mean, blur, noise, or an image's path
    seed: int = 0  # of the noise that fills
    windows: tuple[tuple[int, int, int, int], ...] = ()  # top left height width of each, instead of the grid
    tolerance: float = 0.0  # share of every layer's map that changes are not followed into; 0 is exact
    refine: float | None = None  # share of the windows swept after every second one; none: all are
    sample: int = 1  # images per batch swept exactly too where the maps are approximate

    def run(self, oracle: WindowSweep, images: Batch, target: Target) -> Heatmaps:
        size = images.tensor.shape[2], images.tensor.shape[3]
        windows = self.windows_of(*size)  # (M, 4)
        if not 0 <= self.tolerance < 1 or not 0 < (self.refine or 1) <= 1:
            raise UsageError(f"tolerance={self.tolerance} must lie in [0, 1) and refine={self.refine} in (0, 1].")
        bound = oracle.bind(images.tensor, target)
        fill = filling(self.fill, self.seed, images.tensor, oracle)
        falls = self._falls(oracle, images.tensor, windows, fill, bound)  # (B, M)
        values = np.zeros((len(images), *size), np.float32)
        for made, amounts in zip(values, falls, strict=True):
            made[:] = mean_map(windows, amounts, size)
        maps = Heatmaps(values, images.photos, bound.scores, bound.target.classes(len(images)))
        return self._labelled(maps, oracle, images, bound) if self.tolerance or self.refine else maps

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image: one per window, and the untouched image."""
        windows = self.windows_of(height, width)
        if self.refine is None:
            return len(windows) + 1
        return min(len(windows), len(coarse_rows(windows)) + round(self.refine * len(windows))) + 1

    def windows_of(self, height: int, width: int) -> IntArray:
        """(M, 4) top, left, height, width of what is hidden in turn."""
        if self.windows:
            return _listed(self.windows, height, width)
        sides = self.window, self.width or self.window
        if min(sides) < 1 or self.stride < 1:
            raise UsageError(f"window={self.window} and stride={self.stride} must be at least 1 pixel.")
        if self.stride > min(sides):
            raise UsageError(
                f"stride={self.stride} is larger than window={min(sides)}: pixels between the windows would never "
                "be hidden. Choose a stride of at most the window."
            )
        return window_grid((height, width), sides, self.stride)

    def _falls(
        self, oracle: WindowSweep, images: FloatArray, windows: IntArray, fill: FloatArray, bound: Bound
    ) -> NDArray[np.float64]:
        """(B, M) fall of the score for each window, interpolated where it was not swept."""
        falls = np.zeros((len(images), len(windows)))
        everything = np.arange(len(windows))
        coarse = everything if self.refine is None or self.windows else coarse_rows(windows)

        def sweep(rows: list[IntArray]) -> None:
            for chunk in oracle.sweep(images, windows, fill, bound.target, rows=rows, tolerance=self.tolerance):
                falls[chunk.image, chunk.windows] = bound.scores[chunk.image].astype(np.float64) - chunk.scores

        sweep([coarse] * len(images))
        if len(coarse) < len(windows):
            for one in falls:
                one[:] = interpolated(windows, coarse, one[coarse])
            sweep([important_rows(one, self.refine or 0, coarse) for one in falls])
        return falls

    def _labelled(self, maps: Heatmaps, oracle: WindowSweep, images: Batch, bound: Bound) -> Heatmaps:
        """The maps, marked as approximate, with their agreement with exact ones where that was measured."""
        count = min(self.sample, len(images))
        exact = replace(self, tolerance=0.0, refine=None)
        checked = exact.run(oracle, images[:count], bound.target.take(range(count))) if count > 0 else None
        found = [agreement(maps.values[row], checked.values[row]) for row in range(count)] if checked else []
        return replace(maps, approximate=True, fidelity=(*found, *[None] * (len(images) - count)))


def _listed(windows: tuple[tuple[int, int, int, int], ...], height: int, width: int) -> IntArray:
    found = np.array(windows, np.int64)
    top, left, tall, wide = found.T
    outside = (top < 0) | (left < 0) | (tall < 1) | (wide < 1) | (top + tall > height) | (left + wide > width)
    if outside.any():
        raise UsageError(
            f"Window {tuple(found[outside][0].tolist())} does not lie inside the image of {height} x {width} pixels. "
            "Give top, left, height, width."
        )
    return found
