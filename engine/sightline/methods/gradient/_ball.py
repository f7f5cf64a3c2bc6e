"""The changes of an image that an attack is allowed, the steepest one, and what is left of it after rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sightline.adversarial.pixels import HIGHEST
from sightline.errors import UsageError
from sightline.types import FloatArray

Norm = Literal["linf", "l2"]
HALVINGS = 16  # of a factor between two that are known


@dataclass(frozen=True)
class Ball:
    """Changes (b, C, H, W) of at most a radius, in pixel values of 0 to 255.

    Raises:
        UsageError: no such norm; a radius that no change of 8-bit pixels has.
    """

    norm: Norm
    radius: float

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise UsageError(f"norm={self.norm!r} is not one of linf, l2.")
        if not (1 <= self.radius <= HIGHEST or (self.norm == "l2" and HIGHEST < self.radius < math.inf)):
            raise UsageError(
                f"epsilon={self.radius} does not fit: it is in pixel values, 2 for 2/255. Pictures of 8 bits change "
                f"by 1 at least{' and 255 at most' if self.norm == 'linf' else ', here in Euclidean length'}."
            )

    def held(self, changes: Tensor) -> Tensor:
        """The nearest changes within."""
        if self.norm == "linf":
            return changes.clamp(-self.radius, self.radius)
        return changes * (self.radius / lengths(changes).clamp_min(1e-12)).clamp_max(1)

    def drawn(self, shape: tuple[int, ...], seed: tuple[int, int]) -> FloatArray:
        """One change (C, H, W), all of the ball being equally likely."""
        generator = np.random.default_rng(seed)
        if self.norm == "linf":
            return generator.uniform(-self.radius, self.radius, shape).astype(np.float32)
        way = generator.standard_normal(shape)
        size = self.radius * generator.uniform() ** (1 / way.size)
        return (way * (size / np.linalg.norm(way))).astype(np.float32)

    def settled(self, origin: Tensor, changes: Tensor) -> Tensor:
        """Pictures of whole numbers within the ball, along the changes.

        A Euclidean change that is spread thinly would round to nothing. It is lengthened before it is rounded, as far
        as the rounded one stays within: of the pixels, those that matter most then change by a whole value.
        """
        if self.norm == "linf":
            whole = math.floor(self.radius)
            return within(origin + changes.round().clamp(-whole, whole))
        low = changes.new_zeros(len(changes), 1, 1, 1)
        high = (self.radius + 1) / changes.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            fits = lengths(rounded(origin, middle * changes) - origin) <= self.radius
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        return rounded(origin, low * changes)


def steepest(norm: Norm, slopes: Tensor, size: float) -> Tensor:
    """Of all changes of a size, the one that climbs most."""
    return size * (slopes.sign() if norm == "linf" else slopes / lengths(slopes).clamp_min(1e-30))


def lengths(changes: Tensor) -> Tensor:
    """(b, 1, 1, 1) Euclidean."""
    return torch.linalg.vector_norm(changes, dim=(1, 2, 3), keepdim=True)


def within(planes: Tensor) -> Tensor:
    """Cut off at 0 and 255."""
    return planes.clamp(0, HIGHEST)


def rounded(origin: Tensor, changes: Tensor) -> Tensor:
    """Changed pictures of whole numbers."""
    return within((origin + changes).round())
