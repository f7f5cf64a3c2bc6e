"""What saliency, guided backpropagation and the deconvnet share; they differ by one rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sightline.abilities import Differentiable
from sightline.methods.gradient._attribution import Attributed, Attribution
from sightline.target import Target
from sightline.types import Batch


@dataclass(frozen=True, kw_only=True)
class Backpropagation(Attribution):
    """Gradient of the score with respect to the input, reduced over channels.

    Attributes:
        rule: how ReLU-like nodes propagate backwards; None is the gradient itself.
    """

    rule: ClassVar[str | None] = None

    def attribute(self, oracle: Differentiable, images: Batch, target: Target) -> Attributed:
        gradient = oracle.gradient(images.tensor, target, rule=self.rule, at=self.at)
        return Attributed(gradient.values, gradient.scores, gradient.classes)
