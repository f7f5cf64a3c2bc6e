"""Pictures made from the features of images, beside the images themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from sightline.abilities import Differentiable
from sightline.ascent.loop import Ascended
from sightline.ascent.pixels import pixel_values
from sightline.types import Batch, FloatArray, IntArray, Photo, Provenance

WINDOW = 7  # pixels; side of the patches that structural similarity compares


@dataclass(frozen=True)
class Inversions:
    """What layers still know of B images.

    Attributes:
        values: (B, L, H, W, 3) float32 sRGB, 0 to 255, before rounding.
        photos: one per row.
        layers: what each of the L pictures matches: a layer, or several joined by " + ".
        feature_errors: (B, L) float32, distance of the features over their norm; the mean over joined layers.
        similarities: (B, L) float32, structural similarity to the image, at most 1.
        stopped: (B, L) int64, 1 where an interrupt ended the descent early.
    """

    values: FloatArray
    photos: tuple[Photo, ...]
    layers: tuple[str, ...]
    feature_errors: FloatArray
    similarities: FloatArray
    stopped: IntArray
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Per image a list over the layers, and how similarity goes with depth."""
        return {
            "layers": [list(self.layers)] * len(self),
            "feature_error": [[float(value) for value in row] for row in self.feature_errors],
            "ssim": [[float(value) for value in row] for row in self.similarities],
            "depth_correlation": [depth_correlation(row) for row in self.similarities],
            "stopped": [bool(row.any()) for row in self.stopped],
        }


def depth_correlation(similarities: Sequence[float] | FloatArray) -> float | None:
    """Spearman's rank correlation of depth and similarity, -1 if every layer loses detail; None below 3 layers."""
    if len(similarities) < 3 or np.ptp(similarities) == 0:
        return None
    found: Any = spearmanr(np.arange(len(similarities)), similarities)
    return float(found.statistic)


def compared(
    oracle: Differentiable,
    images: Batch,
    ends: Sequence[Ascended],
    groups: Sequence[Sequence[str]],
    features: Mapping[str, FloatArray],
) -> Inversions:
    """The pictures, with their features and pixels held against those of the images.

    Args:
        oracle: runs the network.
        images: B that were inverted.
        ends: L ascents of B rows each.
        groups: the layers that each matched.
        features: of the images, by layer.
    """
    preprocess = oracle.preprocess
    values = np.stack([pixel_values(preprocess, end.images) for end in ends], axis=1)  # (B, L, H, W, 3)
    originals = pixel_values(preprocess, images.tensor)
    errors = np.zeros((len(images), len(ends)), np.float32)
    for column, (end, group) in enumerate(zip(ends, groups, strict=True)):
        found = oracle.taps(end.images, group)
        errors[:, column] = np.mean([_distances(found[layer], features[layer]) for layer in group], axis=0)
    similarities = [
        [similarity(one, original) for one in row] for row, original in zip(values, originals, strict=True)
    ]
    return Inversions(
        values=values,
        photos=images.photos,
        layers=tuple(" + ".join(group) for group in groups),
        feature_errors=errors,
        similarities=np.array(similarities, np.float32).reshape(errors.shape),
        stopped=np.stack([end.stopped.astype(np.int64) for end in ends], axis=1),
    )


def similarity(picture: FloatArray, original: FloatArray) -> float:
    """Mean structural similarity of two pictures (H, W, 3) of 0 to 255. Wang, Bovik, Sheikh, Simoncelli (2004)."""
    from skimage.metrics import structural_similarity

    window = min(WINDOW, *(side - (side + 1) % 2 for side in original.shape[:2]))  # odd, inside the picture
    found: Any = structural_similarity(picture, original, win_size=window, channel_axis=-1, data_range=255)
    return float(found)


def _distances(found: FloatArray, wanted: FloatArray) -> FloatArray:
    """(B,) relative Euclidean distances; infinite where nothing was wanted, so that nobody reads it as a match."""
    axes = tuple(range(1, wanted.ndim))
    distances, norms = (np.sqrt(np.square(one, dtype=np.float64).sum(axis=axes)) for one in (found - wanted, wanted))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norms > 0, distances / norms, np.inf).astype(np.float32)
