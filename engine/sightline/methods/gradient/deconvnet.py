"""What part of the image a unit responds to, by the deconvolutional network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sightline.abilities import Differentiable
from sightline.methods.gradient._backpropagation import Backpropagation
from sightline.registry import method


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class Deconvnet(Backpropagation):
    """Gradient that passes a ReLU only where the gradient is positive, whatever its input was.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 2.

    Returns ``Heatmaps`` (B, H, W) float32, reduced over channels as ``Saliency`` is.

    Raises:
        UsageError: the graph has no ReLU.
    """

    rule: ClassVar[str | None] = "deconvnet"
