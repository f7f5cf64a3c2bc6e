"""What the network says of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.abilities import Forward
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray, IntArray, Photo, Provenance


@dataclass(frozen=True)
class Predictions:
    """Class scores of B images.

    Attributes:
        values: (B, K) float32 probabilities, 0 to 1.
        photos: one per row.
        logits: (B, K) float32 scores before the last softmax or sigmoid.
        labels: K class names, or none.
    """

    values: FloatArray
    photos: tuple[Photo, ...]
    logits: FloatArray
    labels: tuple[str, ...] = ()
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    def ranked(self, count: int = 5) -> IntArray:
        """(B, count) class indices, the highest logit first; ties go to the lower index."""
        return np.argsort(-self.logits, axis=1, kind="stable")[:, :count]

    def columns(self) -> Mapping[str, Sequence[object]]:
        """The five highest classes of each image, their probabilities and names."""
        top5 = self.ranked()
        chances = np.take_along_axis(self.values, top5, axis=1)
        named = [[self.labels[k] if k < len(self.labels) else str(k) for k in row] for row in top5]
        return {
            "top1": [int(row[0]) for row in top5],
            "label": [row[0] for row in named],
            "probability": [float(row[0]) for row in chances],
            "top5": [[int(k) for k in row] for row in top5],
            "labels": named,
            "probabilities": [[float(chance) for chance in row] for row in chances],
        }


@method(needs=Forward, takes_target=False)
@dataclass(frozen=True, kw_only=True)
class Predict:
    """Class probabilities of each image, the five highest listed.

    Returns ``Predictions``: values (B, K) float32, 0 to 1, softmax (or sigmoid, if the graph ends in one) of the
    logits. The table beside them has one row per image: path, top1 (class index), label, probability, top5, labels,
    probabilities.
    """

    def run(self, oracle: Forward, images: Batch, target: Target) -> Predictions:
        logits = oracle.logits(images.tensor)  # (B, K)
        return Predictions(oracle.activated(logits), images.photos, logits, oracle.labels)
