"""What each pixel contributes to the score, to first order."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.abilities import Differentiable
from sightline.methods.gradient._attribution import Attributed, Attribution, Reduction
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class InputXGradient(Attribution):
    """Each pixel's value times the gradient of the score with respect to it.

    Shrikumar, Greenside, Shcherbina, Kundaje, "Not Just a Black Box" (2016). Pixels count in model input space, so a
    pixel of the training set's mean colour contributes nothing. Of a network of convolutions and ReLUs without biases
    the sum over all pixels is the score.

    Returns ``Heatmaps`` (B, H, W) float32 in units of the score; positive speaks for the target.

    Raises:
        UsageError: the score does not depend on the image, or on the layer ``at``.
    """

    reduce: Reduction = "sum"  # over channels: "sum" keeps the sign; abs_sum, max_abs, mean_abs, l2

    def attribute(self, oracle: Differentiable, images: Batch, target: Target) -> Attributed:
        gradient = oracle.gradient(images.tensor, target, at=self.at)
        return Attributed(gradient.values * gradient.inputs, gradient.scores, gradient.classes)
