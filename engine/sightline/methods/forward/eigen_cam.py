"""Where the layer's strongest pattern is, whatever the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.abilities import Taps
from sightline.methods.forward._class_activation import LayerHeatmaps, checked_maps, layer_of, stretched
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray


@method(needs=Taps)
@dataclass(frozen=True, kw_only=True)
class EigenCam:
    """Each position's projection on the first principal component of a layer's maps.

    Muhammad, Yeasin, "Eigen-CAM: Class Activation Map using Principal Components" (2020), each channel centred over
    the positions first, as pytorch-grad-cam does. A component has no sign of its own: here the side on which the
    layer responds more is positive. The map does not depend on the target, whose score is only reported.

    Returns ``LayerHeatmaps`` (B, H, W) float32 in units of the layer, never negative; with ``relu=False`` signed.

    Raises:
        UnknownName: no such layer; the nearest names are suggested.
        UsageError: the layer has no positions.
    """

    layer: str | None = None  # any name that sightline inspect lists; the last one with maps when not given
    relu: bool = True  # drop the side on which the layer responds less

    def run(self, oracle: Taps, images: Batch, target: Target) -> LayerHeatmaps:
        layer = layer_of(oracle, self.layer, target)
        bound = oracle.bind(images.tensor, target)
        maps = checked_maps(oracle.taps(images.tensor, [layer])[layer], layer)  # (B, C, h, w)
        found = np.array([projected(one) for one in maps], np.float64).reshape(-1, *maps.shape[2:])  # (B, h, w)
        size = (images.tensor.shape[2], images.tensor.shape[3])
        return LayerHeatmaps(
            stretched(np.maximum(found, 0) if self.relu else found, size),
            images.photos, bound.scores, bound.target.classes(len(images)), signed=not self.relu, layer=layer,
        )  # fmt: skip


def projected(maps: FloatArray) -> FloatArray:
    """(h, w) projection of one image's maps (C, h, w) on their first component."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)  # (C, N)
    centred = flat - flat.mean(axis=1, keepdims=True)
    _, places = np.linalg.eigh(centred.T @ centred)  # there are fewer positions than channels; the largest is last
    projection = places[:, -1] * np.linalg.norm(centred @ places[:, -1])  # (N,)
    agrees = float(projection @ centred.sum(axis=0)) >= 0
    return np.asarray(projection if agrees else -projection, np.float32).reshape(maps.shape[1:])
