"""Inversions: the image, and what each layer still knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sightline.report.panel import Panel, enlarge, method_name
from sightline.types import FloatArray, Result


class Inversions(Result, Protocol):
    """What is read of the result: pictures (B, L, H, W, 3) of 0 to 255, layers, errors and similarities (B, L)."""

    @property
    def values(self) -> FloatArray: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def feature_errors(self) -> FloatArray: ...
    @property
    def similarities(self) -> FloatArray: ...


def panels(result: Inversions, row: int | None) -> Iterator[Panel]:
    """The picture of every layer, from shallow to deep, beside the image."""
    if row is None:
        return
    photo = result.photos[row]
    numbers = zip(result.layers, result.feature_errors[row], result.similarities[row], strict=True)
    labels = [f"{layer}: error {error:.2f}, SSIM {alike:.2f}" for layer, error, alike in numbers]
    cells = list(zip(map(enlarge, np.rint(result.values[row]).astype(np.uint8)), labels, strict=True))
    if photo.view is not None:
        cells.insert(0, (enlarge(photo.view), "the image"))
    caption = (
        "Each picture was made to have the features of the image in one layer, and starts from noise: what it shows "
        "is what the layer still knows. Below: distance of the features as a share of their norm, and structural "
        "similarity to the image, 1 where they are the same."
    )
    alt = f"Pictures made from the features of {photo.id}: {'; '.join(labels)}"
    yield Panel(method_name(result, "Inversion"), caption, alt, cells=tuple(cells))
