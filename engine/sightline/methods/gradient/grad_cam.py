"""Where the features that speak for the target are."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.abilities import Differentiable
from sightline.methods.gradient._gradient_weights import GradientWeights
from sightline.registry import method
from sightline.types import FloatArray


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class GradCam(GradientWeights):
    """Sum of a layer's maps, each weighted by the mean of its gradients.

    Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, "Grad-CAM" (2017). The layer is the last one with positions
    that the target depends on, unless another is named; maps of class scores are passed over. The map is stretched
    bilinearly from the layer's size to the image's, and not normalised.

    Returns ``LayerHeatmaps`` (B, H, W) float32 in units of the target's score per position of the layer, never
    negative; with ``relu=False`` signed, positive for the target.

    Raises:
        UnknownName: no such layer; the nearest names are suggested.
        UsageError: the layer has no positions, or the target does not depend on it.
    """

    def weights(self, gradients: FloatArray, maps: FloatArray) -> FloatArray:
        return gradients.mean(axis=(2, 3))
