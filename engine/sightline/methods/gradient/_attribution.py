"""What gradient attributions share: where they attribute, what they return, and how channels become one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sightline.abilities import Differentiable
from sightline.errors import UsageError
from sightline.target import Target
from sightline.types import Batch, FloatArray, Heatmaps

Reduction = Literal["max_abs", "mean_abs", "l2", "sum", "abs_sum"]
REDUCTIONS = ("max_abs", "mean_abs", "l2", "sum", "abs_sum")


@dataclass(frozen=True)
class Attributed:
    """What every channel of every place contributed.

    Attributes:
        values: (B, C, h, w) float32 with sign, or (B, D) of a layer without positions.
        scores: (B,) of the untouched images.
        classes: that the scores belong to.
        totals: (B,) what the values of an image should add up to; None where the method promises no sum.
        steps: (B,) what each image took; None where that is fixed.
    """

    values: FloatArray
    scores: FloatArray
    classes: tuple[int | None, ...]
    totals: FloatArray | None = None
    steps: tuple[int, ...] | None = None


@dataclass(frozen=True)
class CompleteHeatmaps(Heatmaps):
    """Heatmaps of a method whose values, before channels are reduced, promise to add up to a known number.

    Attributes:
        totals: (B,) float32, that number, in units of the score.
        sums: (B,) float32, what they do add up to.
    """

    totals: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    sums: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def gaps(self) -> FloatArray:
        """(B,) the sums minus the totals; below 0 is what got lost."""
        return self.sums - self.totals

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Those of heatmaps, what the values should add up to, and what is missing."""
        found = {"total": [float(one) for one in self.totals], "gap": [float(one) for one in self.gaps]}
        return {**super().columns(), **found}


@dataclass(frozen=True, kw_only=True)
class Attribution(ABC):
    """Attributes a score to the pixels, or to a layer's places, channel by channel, and reduces over channels."""

    reduce: Reduction = "max_abs"  # over channels: max_abs, mean_abs, l2, abs_sum; "sum" keeps the sign
    at: str | None = None  # attribute at this layer instead of the image

    @abstractmethod
    def attribute(self, oracle: Differentiable, images: Batch, target: Target) -> Attributed:
        """What every channel of every place contributed, before anything is reduced."""

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> Heatmaps:
        found = self.attribute(oracle, images, target)
        values, signed = self.reduced(found.values), self.reduce == "sum"
        if found.totals is None:
            return Heatmaps(values, images.photos, found.scores, found.classes, signed=signed)
        sums = found.values.sum(axis=tuple(range(1, found.values.ndim)), dtype=np.float64)  # (B,)
        return CompleteHeatmaps(
            values, images.photos, found.scores, found.classes, signed=signed,
            totals=found.totals, sums=np.asarray(sums, np.float32),
        )  # fmt: skip

    def reduced(self, values: FloatArray) -> FloatArray:
        """(B, h, w) from (B, C, h, w).

        Raises:
            UsageError: the layer has no positions.
        """
        if values.ndim != 4:
            raise UsageError(
                f"Layer {self.at!r} has values of shape {values.shape[1:]} and no rows and columns to draw. "
                "Choose a layer that has: `sightline inspect` lists them."
            )
        return reduced(values, self.reduce)


def reduced(values: FloatArray, how: Reduction) -> FloatArray:
    """(B, H, W) from (B, C, H, W).

    Raises:
        UsageError: an unknown reduction.
    """
    match how:
        case "max_abs":
            return np.abs(values).max(axis=1)
        case "mean_abs":
            return np.abs(values).mean(axis=1)
        case "l2":
            return np.sqrt(np.square(values).sum(axis=1))
        case "sum":
            return values.sum(axis=1)
        case "abs_sum":
            return np.abs(values.sum(axis=1))
        case _:
            raise UsageError(f"reduce={how!r} is not one of {', '.join(REDUCTIONS)}.")
