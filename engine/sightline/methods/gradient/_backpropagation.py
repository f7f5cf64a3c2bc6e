"""What saliency, guided backpropagation and the deconvnet share; they differ by one rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from sightline.abilities import Differentiable
from sightline.errors import UsageError
from sightline.target import Target
from sightline.types import Batch, FloatArray, Heatmaps

Reduction = Literal["max_abs", "mean_abs", "l2", "sum"]


@dataclass(frozen=True, kw_only=True)
class Backpropagation:
    """Gradient of the score with respect to the input, reduced over channels.

    Attributes:
        rule: how ReLU-like nodes propagate backwards; None is the gradient itself.
    """

    rule: ClassVar[str | None] = None

    reduce: Reduction = "max_abs"  # over the channels of a pixel; "sum" keeps the sign

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> Heatmaps:
        gradient = oracle.gradient(images.tensor, target, rule=self.rule)
        return Heatmaps(
            values=reduced(gradient.values, self.reduce),
            photos=images.photos,
            scores=gradient.scores,
            classes=gradient.classes,
            signed=self.reduce == "sum",
        )


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
        case _:
            raise UsageError(f"reduce={how!r} is not one of max_abs, mean_abs, l2, sum.")
