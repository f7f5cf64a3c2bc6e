"""What a method of texture synthesis makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sightline.types import ByteArray, IntArray

Tell = Callable[[int, int], bool]  # steps done and in all -> whether to go on


@dataclass(frozen=True)
class Texture:
    """A picture made from a sample.

    Attributes:
        pixels: (H, W, C) sRGB, or C = 1 of grey; black where nothing was made.
        sources: (H, W) number (row * w + column) of the sample's pixel that each is a copy of; -1 where it was there
            before, or was not made; None of a method that copies no pixels.
        width: of the sample, pixels.
        finished: False where somebody stopped the work.
    """

    pixels: ByteArray
    sources: IntArray | None
    width: int
    finished: bool

    @property
    def count(self) -> int:
        """Pixels that were made."""
        return self.pixels[..., 0].size if self.sources is None else int((self.sources >= 0).sum())

    @property
    def contiguous(self) -> float | None:
        """Share of neighbouring copies that are neighbours in the sample, too: 1 of a plain copy."""
        if self.sources is None:
            return None
        pairs = ((self.sources[:, :-1], self.sources[:, 1:], 1), (self.sources[:-1], self.sources[1:], self.width))
        counted = [(one >= 0) & (other >= 0) for one, other, _ in pairs]
        same = [(other - one == step) & both for (one, other, step), both in zip(pairs, counted, strict=True)]
        count = sum(int(both.sum()) for both in counted)
        return sum(int(one.sum()) for one in same) / count if count else None

    def origin(self, height: int) -> ByteArray | None:
        """(H, W, 3) where pixels come from: red by the sample's row, green by its column; grey where they stayed.

        Args:
            height: of the sample, pixels.
        """
        if self.sources is None:
            return None
        rows, columns = np.divmod(self.sources, self.width)
        red, green = rows * 255 // max(height - 1, 1), columns * 255 // max(self.width - 1, 1)
        colours = np.stack([red, green, np.full_like(red, 96)], axis=-1)
        return np.where(self.sources[..., None] < 0, 128, colours).astype(np.uint8)
