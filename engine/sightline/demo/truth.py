"""How well a map agrees with where the object really is; only a data set with masks can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.types import FloatArray

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """Agreement of B maps with the objects' masks.

    Attributes:
        hits: share of maps whose highest point lies on the object (the pointing game of Zhang et al., "Top-down
            Neural Attention by Excitation Backprop", 2016, without their tolerance of 15 pixels).
        inside: mean share of a map's positive mass that lies on the object.
    """

    hits: float
    inside: float

    def __str__(self) -> str:
        return f"highest point on the object {self.hits:4.0%}, mass on the object {self.inside:4.0%}"


def agreement(maps: FloatArray, masks: Masks) -> Truth:
    """Agreement of maps (B, H, W) with masks (B, H, W); a map without positive mass misses and has none inside."""
    positive = np.maximum(maps.astype(np.float64), 0).reshape(len(maps), -1)
    flat = masks.reshape(len(masks), -1)
    total = positive.sum(axis=1)
    shares = np.divide((positive * flat).sum(axis=1), total, out=np.zeros(len(maps)), where=total > 0)
    hits = flat[np.arange(len(maps)), positive.argmax(axis=1)] & (total > 0)
    return Truth(float(hits.mean()), float(shares.mean()))


def overlap(found: Masks, masks: Masks) -> float:
    """Mean intersection over union of masks (B, H, W) with the true ones; 0 for an empty one."""
    both, either = (found & masks).sum(axis=(1, 2)), (found | masks).sum(axis=(1, 2))
    return float(np.divide(both, either, out=np.zeros(len(masks)), where=either > 0).mean())


def random_maps(masks: Masks, seed: int = 0) -> FloatArray:
    """Noise: what a map that knows nothing scores."""
    return np.random.default_rng(seed).random(masks.shape, dtype=np.float32)


def centre_maps(masks: Masks) -> FloatArray:
    """A bell around the middle: what knowing only that objects tend to be central scores."""
    _, height, width = masks.shape
    rows, columns = (np.exp(-(np.linspace(-2, 2, size, dtype=np.float32) ** 2)) for size in (height, width))
    return np.broadcast_to(rows[:, None] * columns, masks.shape).astype(np.float32)
