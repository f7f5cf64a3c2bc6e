"""Small results of every type, made from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.types import Heatmaps, Photo, Provenance


@dataclass(frozen=True)
class Predictions:
    values: np.ndarray
    photos: tuple[Photo, ...]
    logits: np.ndarray
    labels: tuple[str, ...] = ()
    provenance: Provenance | None = None

    def columns(self) -> dict[str, list[object]]:
        return {}


@dataclass(frozen=True)
class FilterGrid:
    values: np.ndarray
    layer: str
    rgb: bool
    note: str
    indices: tuple[tuple[int, int | None], ...]
    photos: tuple[Photo, ...] = ()
    provenance: Provenance | None = None

    def columns(self) -> dict[str, list[object]]:
        return {}


@dataclass(frozen=True)
class ActivationMaps:
    values: np.ndarray
    photos: tuple[Photo, ...]
    layer: str
    channels: np.ndarray
    strength: np.ndarray
    mean: np.ndarray
    provenance: Provenance | None = None

    def columns(self) -> dict[str, list[object]]:
        return {}


def some_photos(count: int, seed: int = 0, size: tuple[int, int] = (40, 56)) -> tuple[Photo, ...]:
    rng = np.random.default_rng(seed)
    return tuple(
        Photo(f"photo {n}.jpg", Path(f"/album/photo {n}.jpg"), view=rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        for n in range(count)
    )


def some_heatmaps(photos: tuple[Photo, ...], seed: int = 1, **fields: object) -> Heatmaps:
    values = np.random.default_rng(seed).normal(size=(len(photos), 40, 56)).astype(np.float32)
    scores = np.arange(len(photos), dtype=np.float32) + 0.5
    made = Provenance("Occlusion(window=8, stride=4, fill=0.0)", "top(1)", "net.onnx 0123456789ab", "route onnx", 1.5)
    return Heatmaps(values, photos, scores, tuple(range(len(photos))), **{"provenance": made, **fields})


def some_predictions(photos: tuple[Photo, ...], labels: tuple[str, ...] = (), classes: int = 9) -> Predictions:
    logits = np.random.default_rng(2).normal(size=(len(photos), classes)).astype(np.float32)
    powers = np.exp(logits)
    return Predictions(powers / powers.sum(axis=1, keepdims=True), photos, logits, labels)


def some_filters(count: int = 7, rgb: bool = True) -> FilterGrid:
    shape = (count, 5, 5, 3) if rgb else (count, 3, 3)
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    indices = tuple((n, None if rgb else n + 2) for n in range(count))
    return FilterGrid(values, "conv1", rgb, "" if rgb else "These kernels do not read colours.", indices)


def some_activations(photos: tuple[Photo, ...], channels: int = 4) -> ActivationMaps:
    rng = np.random.default_rng(4)
    values = np.maximum(rng.normal(size=(len(photos), channels, 6, 7)), 0).astype(np.float32)
    strength = values.max(axis=(2, 3))
    numbers = np.tile(np.arange(10, 10 + channels), (len(photos), 1))
    return ActivationMaps(values, photos, "layer2", numbers, strength, values.mean(axis=1))


def everything(count: int = 2) -> tuple[tuple[Photo, ...], list[object]]:
    photos = some_photos(count)
    labels = tuple(f"label {n}" for n in range(9))
    return photos, [
        some_predictions(photos, labels),
        some_heatmaps(photos),
        some_heatmaps(photos, signed=False, approximate=True),
        some_activations(photos),
        some_filters(),
        some_filters(rgb=False),
    ]
