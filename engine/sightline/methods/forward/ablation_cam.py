"""Where the features are without which the score would be lower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.abilities import Taps
from sightline.methods.forward._class_activation import LayerHeatmaps, checked_maps, layer_of, weighted
from sightline.methods.forward._sampling import copies_per_run
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch


@method(needs=Taps)
@dataclass(frozen=True, kw_only=True)
class AblationCam:
    """Sum of a layer's maps, each weighted by what the score loses without it.

    Desai, Ramaswamy, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
    Localization" (2020): one channel at a time is set to 0, and only what lies behind the layer is run. Their weights
    are shares of the score; here they stay in its units, which turns no map around where the score is negative.
    Channels that are 0 anyway are not run.

    Returns ``LayerHeatmaps`` (B, H, W) float32 in units of the score times the layer's, never negative; with
    ``relu=False`` signed, positive for the target.

    Raises:
        UnknownName: no such layer; the nearest names are suggested.
        UsageError: the layer has no positions, or a path to the score avoids it.
    """

    layer: str | None = None  # any name that sightline inspect lists; the last one with maps when not given
    relu: bool = True  # drop what speaks against the target

    def run(self, oracle: Taps, images: Batch, target: Target) -> LayerHeatmaps:
        layer = layer_of(oracle, self.layer, target)
        bound = oracle.bind(images.tensor, target)
        maps = checked_maps(oracle.taps(images.tensor, [layer])[layer], layer)  # (B, C, h, w)
        whole = oracle.scores_from(layer, maps, bound.target)  # (B,)
        losses = np.zeros(maps.shape[:2], np.float32)
        for row, one in enumerate(maps):
            alive = np.flatnonzero(one.any(axis=(1, 2)))
            batch = copies_per_run(one)
            for start in range(0, len(alive), batch):
                chosen = alive[start : start + batch]
                without = np.repeat(one[None], len(chosen), axis=0)  # (n, C, h, w)
                without[np.arange(len(chosen)), chosen] = 0
                target_rows = bound.target.take([row] * len(chosen))
                losses[row, chosen] = whole[row] - oracle.scores_from(layer, without, target_rows)
        size = (images.tensor.shape[2], images.tensor.shape[3])
        return LayerHeatmaps(
            weighted(maps, losses, relu=self.relu, size=size),
            images.photos, bound.scores, bound.target.classes(len(images)), signed=not self.relu, layer=layer,
        )  # fmt: skip
