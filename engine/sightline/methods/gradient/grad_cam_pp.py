"""Where the features that speak for the target are, each occurrence counted alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.abilities import Differentiable
from sightline.methods.gradient._gradient_weights import GradientWeights
from sightline.registry import method
from sightline.types import FloatArray


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class GradCamPp(GradientWeights):
    """Sum of a layer's maps, each weighted by its positive gradients, those of small maps more.

    Chattopadhay, Sarkar, Howlader, Balasubramanian, "Grad-CAM++" (2018), for the exponential of the score, whose own
    value is a factor common to all weights and left out: a gradient g of a channel whose map sums to S counts
    max(g, 0) * g² / (2 g² + S g³). pytorch-grad-cam adds 1e-6 to that denominator, which outweighs it wherever
    gradients are below 0.001; ``epsilon=1e-6`` does the same. Layer and stretching are those of ``grad_cam``.

    Returns ``LayerHeatmaps`` (B, H, W) float32 in units of the score, up to a factor per image; never negative
    unless ``relu=False``.

    Raises:
        UnknownName: no such layer; the nearest names are suggested.
        UsageError: the layer has no positions, or the target does not depend on it.
    """

    epsilon: float = 0.0  # added to the denominator of the pixel weights

    def weights(self, gradients: FloatArray, maps: FloatArray) -> FloatArray:
        wide = gradients.astype(np.float64)
        sums = maps.sum(axis=(2, 3), keepdims=True, dtype=np.float64)  # (B, C, 1, 1)
        below = 2 * wide**2 + sums * wide**3 + self.epsilon
        shares = np.divide(wide**2, below, out=np.zeros_like(wide), where=below != 0)
        return np.asarray((np.maximum(wide, 0) * shares).sum(axis=(2, 3)), np.float32)
