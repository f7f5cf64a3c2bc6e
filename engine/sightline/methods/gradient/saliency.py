"""How much each pixel would move the score."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.abilities import Differentiable
from sightline.methods.gradient._backpropagation import Backpropagation
from sightline.registry import method


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class Saliency(Backpropagation):
    """Gradient of the target's score with respect to each pixel.

    Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks" (2014). The target decides between the
    gradient of a logit (``top(1)``, ``logit(281)``) and of a probability (``probability(281)``).

    Returns ``Heatmaps`` (B, H, W) float32, score per unit of model input: the largest absolute gradient over the
    channels, never negative, or another reduction; ``sum`` is signed.
    """
