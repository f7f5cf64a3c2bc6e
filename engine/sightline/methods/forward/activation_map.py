"""Where an inner layer responds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sightline.abilities import Taps
from sightline.errors import UsageError
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray, IntArray, Photo, Provenance


@dataclass(frozen=True)
class ActivationMaps:
    """The strongest channels of one layer for B images.

    Attributes:
        values: (B, n, h, w) float32, strongest channel first.
        photos: one per row.
        layer: as it was asked for, or found.
        channels: (B, n) int64, which channels these are.
        strength: (B, n) float32, what they were ranked by.
        mean: (B, h, w) float32, mean over all channels of the layer.
    """

    values: FloatArray
    photos: tuple[Photo, ...]
    layer: str
    channels: IntArray
    strength: FloatArray
    mean: FloatArray
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Channel numbers and strengths, strongest first."""
        return {
            "channels": [[int(channel) for channel in row] for row in self.channels],
            "strength": [[float(value) for value in row] for row in self.strength],
        }


@method(needs=Taps, takes_target=False)
@dataclass(frozen=True, kw_only=True)
class ActivationMap:
    """Feature maps of any layer, the strongest channels of each image first.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.

    Returns ``ActivationMaps``: values (B, n, h, w) float32 in units of the layer, signed if the layer is; beside them
    the mean over all channels. Ties go to the lower channel.

    Raises:
        UnknownName: no such layer; the nearest names are suggested.
        UsageError: the layer has no positions.
    """

    layer: str | None = None  # any name that sightline inspect lists; the last one with maps when not given
    channels: int = 16  # channels shown per image
    by: Literal["max", "mean"] = "max"  # over the positions: what makes a channel strong

    def run(self, oracle: Taps, images: Batch, target: Target) -> ActivationMaps:
        if self.channels < 1:
            raise UsageError(f"channels={self.channels} must be at least 1.")
        layer = oracle.deepest_maps if self.layer is None else self.layer
        maps = oracle.taps(images.tensor, [layer])[layer]  # (B, C, h, w)
        if maps.ndim != 4:
            raise UsageError(f"Layer {layer!r} puts out {maps.shape[1:]} per image; maps (C, h, w) are needed.")
        strength = maps.max(axis=(2, 3)) if self.by == "max" else maps.mean(axis=(2, 3))  # (B, C)
        order = np.argsort(-strength, axis=1, kind="stable")[:, : self.channels]  # (B, n)
        strongest = np.take_along_axis(maps, order[:, :, None, None], axis=1)  # (B, n, h, w)
        return ActivationMaps(
            values=strongest,
            photos=images.photos,
            layer=layer,
            channels=order,
            strength=np.take_along_axis(strength, order, axis=1),
            mean=maps.mean(axis=1),
        )
