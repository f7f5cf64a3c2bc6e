"""Small random changes under which a picture should still score: robustness to transformation.

Olah, Mordvintsev, Schubert, "Feature Visualization" (2017). Each row draws from its own generator, so that what
happens to it does not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class Transform(Protocol):
    """A family of changes to choose from."""

    def draw(self, generators: Sequence[np.random.Generator]) -> Callable[[Tensor], Tensor]:
        """One change for each row of (B, C, H, W), the same until the next draw."""
        ...


@dataclass(frozen=True)
class Jitter:
    """Moves rows by up to so many pixels along each axis; what leaves on one side comes back on the other."""

    pixels: int

    def draw(self, generators: Sequence[np.random.Generator]) -> Callable[[Tensor], Tensor]:
        moves = [one.integers(-self.pixels, self.pixels + 1, size=2).tolist() for one in generators]

        def moved(images: Tensor) -> Tensor:
            return torch.stack([
                torch.roll(image, move, dims=(1, 2)) for image, move in zip(images, moves, strict=True)
            ])  # fmt: skip

        return moved


@dataclass(frozen=True)
class Turn:
    """Rotates and scales rows about their centre, bilinearly; what comes in from outside is input 0.

    Attributes:
        degrees: of rotation at most, either way.
        scale: share by which rows grow or shrink at most: 0.1 is up to 10 %.
    """

    degrees: float
    scale: float

    def draw(self, generators: Sequence[np.random.Generator]) -> Callable[[Tensor], Tensor]:
        drawn = np.array([one.uniform(-1, 1, size=2) for one in generators])  # (B, 2)
        angles, factors = np.radians(self.degrees * drawn[:, 0]), (1 + self.scale) ** drawn[:, 1]
        cosines, sines = np.cos(angles) / factors, np.sin(angles) / factors

        def turned(images: Tensor) -> Tensor:
            aspect = images.shape[-1] / images.shape[-2]  # grid_sample measures each axis by its own length
            zeros = np.zeros_like(sines)
            theta = np.stack([cosines, -sines / aspect, zeros, sines * aspect, cosines, zeros], axis=1)
            matrix = torch.from_numpy(theta.reshape(-1, 2, 3)).to(images)  # (B, 2, 3)
            grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
            return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

        return turned


def transforms(*, jitter: int, rotation: float, scale: float) -> tuple[Transform, ...]:
    """Those that do anything."""
    turn = (Turn(rotation, scale),) if rotation or scale else ()
    return (*turn, *((Jitter(jitter),) if jitter else ()))
