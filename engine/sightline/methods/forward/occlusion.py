"""Which windows of the image the score depends on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import WindowSweep
from sightline.errors import UsageError
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, Heatmaps


@method(needs=WindowSweep)
@dataclass(frozen=True, kw_only=True)
class Occlusion:
    """Fall of the target's score when a window of the image is hidden.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.2. They plot the score;
    we plot its fall, and where windows overlap each pixel gets the mean over the windows that hid it.

    Returns ``Heatmaps`` (B, H, W) float32 in units of the target's score; positive where hiding lowers it. Windows
    start every ``stride`` pixels; the last of each row and column is cut at the border, so that every pixel is hidden
    at least once. Memory does not depend on their number.

    Raises:
        UsageError: window or stride below 1, or a stride larger than the window, which would leave pixels out.
    """

    window: int = 32  # pixels, the side of the square that is hidden
    stride: int = 8  # pixels between neighbouring windows
    fill: float = 0.0  # what hidden pixels become, in model input space

    def run(self, oracle: WindowSweep, images: Batch, target: Target) -> Heatmaps:
        height, width = images.tensor.shape[2:]
        windows = self.windows_of(height, width)  # (M, 4)
        bound = oracle.bind(images.tensor, target)
        corners = np.zeros((len(images), height + 1, width + 1))  # its double cumulative sum is the map
        fill = np.full((1, 1, 1, 1), self.fill, dtype=np.float32)
        for chunk in oracle.sweep(images.tensor, windows, fill, bound.target):
            falls = bound.scores[chunk.image].astype(np.float64) - chunk.scores
            add_windows(corners[chunk.image], windows[chunk.windows], falls)
        cover = np.zeros((height + 1, width + 1))
        add_windows(cover, windows, np.ones(len(windows)))
        total = corners.cumsum(axis=1).cumsum(axis=2)[:, :height, :width]  # (B, H, W)
        mean = total / np.rint(cover.cumsum(axis=0).cumsum(axis=1)[:height, :width])
        return Heatmaps(mean.astype(np.float32), images.photos, bound.scores, bound.target.classes(len(images)))

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image: one per window, and the untouched image."""
        return len(self.windows_of(height, width)) + 1

    def windows_of(self, height: int, width: int) -> NDArray[np.int64]:
        """(M, 4) top, left, height, width of what is hidden in turn."""
        if self.window < 1 or self.stride < 1:
            raise UsageError(f"window={self.window} and stride={self.stride} must be at least 1 pixel.")
        if self.stride > self.window:
            raise UsageError(
                f"stride={self.stride} is larger than window={self.window}: pixels between the windows would never "
                "be hidden. Choose a stride of at most the window."
            )
        return window_grid(height, width, self.window, self.stride)


def window_grid(height: int, width: int, window: int, stride: int) -> NDArray[np.int64]:
    """(M, 4) rows of top, left, height, width: row by row, the last ones cut at the border."""
    tops, lefts = (
        np.arange(-(-max(side - window, 0) // stride) + 1, dtype=np.int64) * stride for side in (height, width)
    )
    top, left = (grid.ravel() for grid in np.meshgrid(tops, lefts, indexing="ij"))
    return np.stack([top, left, np.minimum(window, height - top), np.minimum(window, width - left)], axis=1)


def add_windows(corners: NDArray[np.float64], windows: NDArray[np.int64], amounts: NDArray[np.float64]) -> None:
    """Add an amount to every pixel of each window, as four corners of a table (H + 1, W + 1) to be summed later."""
    top, left, height, width = windows.T
    np.add.at(corners, (top, left), amounts)
    np.add.at(corners, (top + height, left), -amounts)
    np.add.at(corners, (top, left + width), -amounts)
    np.add.at(corners, (top + height, left + width), amounts)
