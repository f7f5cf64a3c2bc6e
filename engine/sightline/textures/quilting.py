"""Textures block by block: fast, and good where a texture has large features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.errors import UsageError
from sightline.textures.sample import Sample
from sightline.textures.texture import Tell, Texture
from sightline.threads import check_threads
from sightline_kernels.quilting.task import LARGEST_BLOCK


@dataclass(frozen=True, kw_only=True)
class Quilting:
    """Overlapping blocks of the sample, cut where they differ least (Efros, Freeman, SIGGRAPH 2001).

    Raises:
        UsageError: a field out of range.
    """

    window: int | None = None  # side of a block, pixels; three eighths of the sample's shorter side unless given
    tolerance: float = 0.1  # how much farther than the best block another may be that is drawn instead
    tileable: bool = False  # the right edge continues the left, the lower edge the upper
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no sample allows."""
        check_threads(self.threads)
        if self.window is not None and not 4 <= self.window <= LARGEST_BLOCK:
            raise UsageError(f"--window {self.window}, the side of a block, must be between 4 and {LARGEST_BLOCK}.")

    def block(self, sample: Sample) -> int:
        """Side of a block, pixels."""
        return self.window or min(max(4, min(sample.size) * 3 // 8), LARGEST_BLOCK)

    def make(self, sample: Sample, size: tuple[int, int], tell: Tell | None = None) -> Texture:
        """A texture of (H, W) pixels.

        Raises:
            UsageError: a sample smaller than a block, or a tile that is.
        """
        from sightline_kernels.quilting import cpu  # compiles

        block = self.block(sample)
        sample.require(block, "block", "--window", 4)
        if self.tileable and block > min(size):
            raise UsageError(
                f"--size {size[0]}x{size[1]} is smaller than a block of {block} pixels, and a block cannot overlap "
                f"itself. Give a larger --size, or --window up to {min(size)}."
            )
        sources = cpu.quilt(
            sample.pixels, size, block=block, tolerance=self.tolerance, seed=self.seed, tileable=self.tileable,
            usable=sample.usable, tell=tell, threads=self.threads,
        )  # fmt: skip
        colours = sample.pixels.reshape(-1, sample.pixels.shape[2])[sources]
        pixels = np.where(sources[..., None] < 0, 0, colours).astype(np.uint8)
        return Texture(pixels, sources, sample.size[1], bool((sources >= 0).all()))
