"""What part of the image a unit responds to, by guided backpropagation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sightline.abilities import Differentiable
from sightline.methods.gradient._backpropagation import Backpropagation
from sightline.registry import method


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(Backpropagation):
    """Gradient that passes a ReLU only where both its input and the gradient are positive.

    Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for Simplicity" (2015). Every use of a ReLU counts, reused,
    functional and in-place ones too, because each is a node of the graph.

    Returns ``Heatmaps`` (B, H, W) float32, reduced over channels as ``Saliency`` is.

    Raises:
        UsageError: the graph has no ReLU.
    """

    rule: ClassVar[str | None] = "guided_backprop"
