"""The pieces of a picture that an objective sees one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Piece = Callable[[Tensor], Tensor]  # pictures (B, C, H, W) -> a part of them (B, C, h, w)


class Tiling(Protocol):
    """Says how a picture is cut at this step."""

    def draw(self, height: int, width: int) -> Sequence[Piece]:
        """The pieces of pictures of this size."""
        ...


@dataclass(frozen=True)
class Whole:
    """The picture in one piece."""

    def draw(self, height: int, width: int) -> Sequence[Piece]:
        return (lambda images: images,)


class Torus:
    """Windows of one size over the picture, its opposite sides joined, laid anew at every step.

    Every pixel is seen, and no border of a window stays where it was, so that no seam can form. A picture smaller
    than the window is repeated in it: the network never sees any size but its own.

    Args:
        height, width: of a window in pixels.
        offset: pixels that the grid is moved at most where one window holds the picture; where it does not, the grid
            may lie anywhere.
        seed: of the offsets.
    """

    def __init__(self, height: int, width: int, *, offset: int, seed: int):
        self._window, self._offset = (height, width), offset
        self._generator = np.random.default_rng(seed)

    def draw(self, height: int, width: int) -> Sequence[Piece]:
        starts = [self._starts(size, window) for size, window in zip((height, width), self._window, strict=True)]
        return [self._piece(top, left) for top in starts[0] for left in starts[1]]

    def _starts(self, size: int, window: int) -> list[int]:
        """First pixels of as few windows as cover one side."""
        count = math.ceil(size / window)
        reach = size if count > 1 else min(self._offset + 1, size)
        moved = int(self._generator.integers(reach))
        return [moved + index * size // count for index in range(count)]

    def _piece(self, top: int, left: int) -> Piece:
        def cut(images: Tensor) -> Tensor:
            height, width = images.shape[-2:]
            rows = torch.arange(top, top + self._window[0], device=images.device) % height
            columns = torch.arange(left, left + self._window[1], device=images.device) % width
            return images[:, :, rows][:, :, :, columns]  # (B, C, h, w)

        return cut
