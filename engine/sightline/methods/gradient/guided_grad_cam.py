"""Which pixels matter, within where the features are that speak for the target."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.abilities import Differentiable
from sightline.methods.gradient._attribution import Attributed, Attribution
from sightline.methods.gradient.grad_cam import GradCam
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class GuidedGradCam(Attribution):
    """Guided backpropagation times Grad-CAM.

    Selvaraju et al., "Grad-CAM" (2017), section 3.2: the fine lines of the one, where the other says that the target
    is. Captum stretches the coarse map by nearest neighbour unless told otherwise, we bilinearly, as the paper does.

    Returns ``Heatmaps`` (B, H, W) float32, reduced over channels as ``Saliency`` is; in units of the score times the
    score per unit of model input.

    Raises:
        UnknownName: no such layer; the nearest names are suggested.
        UsageError: the graph has no ReLU, the layer no positions, or the target does not depend on it.
    """

    layer: str | None = None  # of Grad-CAM: any name that sightline inspect lists; the last one with maps by default

    def attribute(self, oracle: Differentiable, images: Batch, target: Target) -> Attributed:
        where = GradCam(layer=self.layer).run(oracle, images, target)
        fine = oracle.gradient(images.tensor, target, rule="guided_backprop", at=self.at)
        return Attributed(fine.values * where.values[:, None], fine.scores, fine.classes)
