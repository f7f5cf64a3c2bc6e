"""Textures pixel by pixel: grown from a piece of the sample or around a picture, and holes closed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sightline.errors import UsageError
from sightline.textures.sample import Sample
from sightline.textures.texture import Tell, Texture
from sightline.threads import check_threads
from sightline.types import ByteArray
from sightline_kernels.scanline.task import LARGEST_WINDOW, Order


@dataclass(frozen=True, kw_only=True)
class Scanline:
    """Pixels one by one, each copied from where the sample looks most like what is there (Efros, Leung, ICCV 1999).

    Raises:
        UsageError: a field out of range.
    """

    window: int = 11  # side of the neighbourhood, odd, pixels: as large as the texture's largest regular feature
    tolerance: float = 0.1  # how much farther than the nearest neighbourhood another may be that is drawn instead
    order: Order = "outward"  # from what is there, or line after line
    tileable: bool = False  # the right edge continues the left, the lower edge the upper
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no sample allows."""
        check_threads(self.threads)
        if self.window % 2 == 0:
            raise UsageError(
                f"--window {self.window} is even, and a neighbourhood has its pixel in the middle. Give "
                f"{max(3, self.window - 1)} or {max(5, self.window + 1)}."
            )
        if not 3 <= self.window <= LARGEST_WINDOW:
            raise UsageError(f"--window {self.window} must be odd and between 3 and {LARGEST_WINDOW}.")

    def make(self, sample: Sample, size: tuple[int, int], tell: Tell | None = None) -> Texture:
        """A texture of (H, W) pixels that grows from a piece of the sample, drawn by the seed."""
        sample.require(self.window, "window", "--window", 3)
        height, width = size
        piece = self._piece(sample)[:height, :width]
        canvas = np.zeros((height, width, sample.pixels.shape[2]), np.uint8)
        known = np.zeros(size, np.bool_)
        lines, columns = piece.shape
        top, left = ((height - lines) // 2, (width - columns) // 2) if self.order == "outward" else (0, 0)
        where = slice(top, top + lines), slice(left, left + columns)
        canvas[where], known[where] = sample.pixels.reshape(-1, canvas.shape[2])[piece], True
        made = self._fill(sample, canvas, known, tell)
        if made.sources is not None:
            made.sources[where] = piece
        return made

    def grow(self, sample: Sample, start: Sample, size: tuple[int, int], tell: Tell | None = None) -> Texture:
        """A picture in the middle of (H, W) pixels, with the sample's texture around it.

        Raises:
            UsageError: the picture is larger than the size.
        """
        sample.require(self.window, "window", "--window", 3)
        if sample.pixels.shape != start.pixels.shape:  # one may be grey
            sample, start = sample.in_colour(), start.in_colour()
        height, width, channels = start.pixels.shape
        if height > size[0] or width > size[1]:
            raise UsageError(
                f"The picture to grow from is {height} x {width} pixels and --size {size[0]}x{size[1]}. Give a "
                "larger --size, or a smaller picture."
            )
        canvas, known = np.zeros((*size, channels), np.uint8), np.zeros(size, np.bool_)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        canvas[top : top + height, left : left + width] = start.pixels
        known[top : top + height, left : left + width] = True
        return self._fill(sample, canvas, known, tell)

    def mend(self, sample: Sample, hole: NDArray[np.bool_], tell: Tell | None = None) -> Texture:
        """The sample itself, its hole (h, w) filled with copies of what is around it."""
        around = sample.without(hole)
        around.require(self.window, "window", "--window", 3)
        canvas = np.where(hole[..., None], 0, sample.pixels).astype(np.uint8)
        return self._fill(around, canvas, ~hole, tell)

    def _piece(self, sample: Sample) -> NDArray[np.int64]:
        """(window, window) numbers of the pixels of a usable piece of the sample."""
        whole = sliding_window_view(sample.usable, (self.window, self.window)).all(axis=(2, 3))
        rows, columns = np.nonzero(whole)
        drawn = int(np.random.default_rng(self.seed).integers(len(rows)))
        steps = np.arange(self.window)
        return (rows[drawn] + steps)[:, None] * sample.size[1] + columns[drawn] + steps

    def _fill(self, sample: Sample, canvas: ByteArray, known: NDArray[np.bool_], tell: Tell | None) -> Texture:
        from sightline_kernels.scanline import cpu  # compiles

        sources = cpu.synthesise(
            sample.pixels, canvas, known, window=self.window, tolerance=self.tolerance, seed=self.seed,
            order=self.order, tileable=self.tileable, usable=sample.usable, tell=tell, threads=self.threads,
        )  # fmt: skip
        return Texture(canvas, sources, sample.size[1], bool(known.all()))
