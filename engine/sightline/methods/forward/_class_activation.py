"""What class activation maps share: the layer they are made of, and how its maps become the image's size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Taps
from sightline.errors import UsageError
from sightline.target import Target
from sightline.types import FloatArray, Heatmaps


@dataclass(frozen=True)
class LayerHeatmaps(Heatmaps):
    """Heatmaps made of one inner layer's maps.

    Attributes:
        layer: as it was asked for, or found.
    """

    layer: str = ""

    @property
    def why_blank(self) -> str:
        if self.signed:
            return (
                f"the weighted sum of the maps of layer {self.layer!r} is 0, because its channels are shut or none "
                "has a weight. Choose another layer (sightline inspect lists them)."
            )
        return (
            f"the weighted sum of the maps of layer {self.layer!r} is nowhere positive. relu=False (--no-relu) keeps "
            "what is below 0; or choose another layer (sightline inspect lists them)."
        )


def layer_of(oracle: Taps, layer: str | None, target: Target) -> str:
    """The layer that was asked for, else the last one with positions that the target depends on."""
    return oracle.feature_layer(target) if layer is None else layer


def checked_maps(maps: FloatArray, layer: str) -> FloatArray:
    """The layer's values (B, C, h, w).

    Raises:
        UsageError: they have no positions.
    """
    if maps.ndim != 4 or maps.shape[2] * maps.shape[3] == 1:
        raise UsageError(
            f"Layer {layer!r} puts out {maps.shape[1:]} per image, which has no positions; maps (C, h, w) are "
            "needed. Leave layer out to take the last one that has, or see sightline inspect."
        )
    return maps


def weighted(maps: FloatArray, weights: FloatArray, *, relu: bool, size: tuple[int, int]) -> FloatArray:
    """(B, H, W) sum of maps (B, C, h, w) by weights (B, C), without its negative part if ``relu``, stretched."""
    total = np.einsum("bchw,bc->bhw", maps.astype(np.float64), weights.astype(np.float64))
    return stretched(np.maximum(total, 0) if relu else total, size)


def stretched(maps: NDArray[np.floating], size: tuple[int, int], *, align_corners: bool = False) -> FloatArray:
    """(..., H, W) of maps (..., h, w), bilinear.

    Positions are the centres of equal parts of the image, and beyond the outermost centres a map goes on as it ends
    (OpenCV's INTER_LINEAR, torch's ``align_corners=False``); or the outermost ones are the image's corners.
    """
    sides = zip(maps.shape[-2:], size, strict=True)
    rows, columns = (_weights(source, side, align_corners).astype(maps.dtype) for source, side in sides)
    return np.asarray(rows @ maps @ columns.T, np.float32)


def _weights(source: int, side: int, align_corners: bool) -> NDArray[np.float64]:
    """(side, source) share of every position in every pixel."""
    places = np.linspace(0, source - 1, side) if align_corners else (np.arange(side) + 0.5) * source / side - 0.5
    return np.maximum(1 - np.abs(np.clip(places, 0, source - 1)[:, None] - np.arange(source)), 0)
