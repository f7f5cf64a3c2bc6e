"""ClassPictures: what classes look like to the network, with its verdict on each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sightline.colour import number
from sightline.report.panel import Panel, enlarge, method_name
from sightline.types import FloatArray, IntArray, Result


class ClassPictures(Result, Protocol):
    """What is read of the result: pictures (N, H, W, 3) of 0 to 255, classes, seeds and N numbers of each kind."""

    @property
    def values(self) -> FloatArray: ...
    @property
    def classes(self) -> tuple[int | None, ...]: ...
    @property
    def seeds(self) -> IntArray: ...
    @property
    def scores(self) -> FloatArray: ...
    @property
    def probabilities(self) -> FloatArray: ...
    @property
    def shifted_probabilities(self) -> FloatArray: ...


def panels(result: ClassPictures, row: int | None) -> Iterator[Panel]:
    """One grid, every picture labelled with its class, seed and probability, or score where it has no class."""
    if row is not None:
        return
    title = method_name(result, "ClassVisualisation")
    labels = [_label(result, number) for number in range(len(result.values))]
    cells = tuple(zip(map(enlarge, np.rint(result.values).astype(np.uint8)), labels, strict=True))
    caption = (
        "Pictures made so that the target's score is high. Below each: class, seed, and what ONNX Runtime says of "
        "the picture with 8 bits per channel: the probability, and its mean over shifts of up to 8 pixels; the score "
        "where the target is no single class."
    )
    classes = set(result.classes)
    alt = f"{len(labels)} pictures made by gradient ascent: {'; '.join(labels)}"
    target = next(iter(classes)) if len(classes) == 1 else None
    yield Panel(title, caption, alt, cells=cells, target=target)


def _label(result: ClassPictures, row: int) -> str:
    seed, index = int(result.seeds[row]), result.classes[row]
    if index is None:
        return f"seed {seed}: score {number(result.scores[row])}"
    return f"{index}, seed {seed}: {result.probabilities[row]:.3f}, shifted {result.shifted_probabilities[row]:.3f}"
