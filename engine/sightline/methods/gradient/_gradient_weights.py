"""What Grad-CAM and Grad-CAM++ share; they differ by how gradients become one weight per channel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sightline.abilities import Differentiable
from sightline.methods.forward._class_activation import LayerHeatmaps, checked_maps, layer_of, weighted
from sightline.target import Target
from sightline.types import Batch, FloatArray


@dataclass(frozen=True, kw_only=True)
class GradientWeights(ABC):
    """A layer's maps added up by weights from their gradients, stretched bilinearly to the image's size."""

    layer: str | None = None  # any name that sightline inspect lists; the last one with maps when not given
    relu: bool = True  # drop what speaks against the target

    @abstractmethod
    def weights(self, gradients: FloatArray, maps: FloatArray) -> FloatArray:
        """(B, C) from the score's gradients (B, C, h, w) by the maps (B, C, h, w)."""

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> LayerHeatmaps:
        layer = layer_of(oracle, self.layer, target)
        found = oracle.gradient(images.tensor, target, at=layer)
        maps = checked_maps(found.inputs, layer)
        size = (images.tensor.shape[2], images.tensor.shape[3])
        values = weighted(maps, self.weights(found.values, maps), relu=self.relu, size=size)
        return LayerHeatmaps(
            values, images.photos, found.scores, found.classes, signed=not self.relu, layer=layer
        )  # fmt: skip
