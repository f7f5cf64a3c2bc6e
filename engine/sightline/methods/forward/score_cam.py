"""Where the features are that raise the score when the image is seen through them alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.abilities import Taps
from sightline.errors import UsageError
from sightline.methods.forward._class_activation import LayerHeatmaps, checked_maps, layer_of, stretched, weighted
from sightline.methods.forward._sampling import copies_per_run
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray


@method(needs=Taps)
@dataclass(frozen=True, kw_only=True)
class ScoreCam:
    """Sum of a layer's maps, each weighted by the score of the image seen through it.

    Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu, "Score-CAM" (2020). Every map is stretched to the image's size,
    brought to 0 to 1 and multiplied with the image, where 0 is the mean colour; the weights are the softmax of the
    scores over the channels. A map that is the same everywhere adds nothing and is not run; it still takes its place
    in the softmax, with the score of the mean colour. Masks are made where they are used.

    Returns ``LayerHeatmaps`` (B, H, W) float32 in units of the layer, never negative; with ``relu=False`` signed.

    Raises:
        UnknownName: no such layer; the nearest names are suggested.
        UsageError: the layer has no positions, or more channels are asked for than 1 allows.
    """

    layer: str | None = None  # any name that sightline inspect lists; the last one with maps when not given
    channels: int | None = None  # only so many, those that vary most; all when not given
    align_corners: bool = False  # stretch masks so that outermost positions are corners, as pytorch-grad-cam does
    relu: bool = True  # drop what is below 0

    def run(self, oracle: Taps, images: Batch, target: Target) -> LayerHeatmaps:
        if self.channels is not None and self.channels < 1:
            raise UsageError(f"channels={self.channels} must be at least 1.")
        layer = layer_of(oracle, self.layer, target)
        bound = oracle.bind(images.tensor, target)
        maps = checked_maps(oracle.taps(images.tensor, [layer])[layer], layer)  # (B, C, h, w)
        size = (images.tensor.shape[2], images.tensor.shape[3])
        empty = oracle.scores(np.zeros_like(images.tensor), bound.target)  # (B,)
        weights = np.zeros(maps.shape[:2], np.float64)
        for row, image in enumerate(images.tensor):
            seen = self._scores(oracle, image, maps[row], bound.target.take([row]), float(empty[row]))
            raised = np.exp(seen - seen.max(initial=-np.inf))
            weights[row] = raised / raised.sum()
        return LayerHeatmaps(
            weighted(maps, weights.astype(np.float32), relu=self.relu, size=size),
            images.photos, bound.scores, bound.target.classes(len(images)), signed=not self.relu, layer=layer,
        )  # fmt: skip

    def _scores(self, oracle: Taps, image: FloatArray, maps: FloatArray, target: Target, empty: float) -> FloatArray:
        """(C,) float64 of one image (C', H, W) through each map (C, h, w); minus infinity for those left out."""
        spread = np.ptp(maps.reshape(len(maps), -1), axis=1)  # (C,)
        order = np.argsort(-spread, kind="stable")[: self.channels]
        scores = np.full(len(maps), -np.inf)
        scores[order] = empty
        varied = np.sort(order[spread[order] > 0])
        batch, size = copies_per_run(image), (image.shape[1], image.shape[2])
        seen = np.empty((min(batch, len(varied)), *image.shape), np.float32)
        for start in range(0, len(varied), batch):
            chosen = varied[start : start + batch]
            masks = stretched(maps[chosen], size, align_corners=self.align_corners)  # (n, H, W)
            low, high = (end(masks, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
            masks = (masks - low) / np.where(high > low, high - low, 1)
            views = np.multiply(masks[:, None], image, out=seen[: len(chosen)])
            scores[chosen] = oracle.scores(views, target.take([0] * len(chosen)))
        return scores
