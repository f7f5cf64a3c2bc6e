"""Predictions: the five most probable classes as bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sightline.report.panel import Panel
from sightline.types import FloatArray, Result

SHOWN = 5  # classes


class Predictions(Result, Protocol):
    """What is read of the result: probabilities (B, K), and K labels or none."""

    @property
    def values(self) -> FloatArray: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


def panels(result: Predictions, row: int | None) -> Iterator[Panel]:
    """The top classes of one photograph with their probabilities; ties go to the lower class."""
    if row is None:
        return
    probabilities = result.values[row]  # (K,)
    top = np.argsort(-probabilities, kind="stable")[:SHOWN]
    yield Panel(
        title="Prediction",
        caption=f"Probability of the {len(top)} most probable of {len(probabilities)} classes.",
        bars=tuple((_label(result.labels, int(index)), float(probabilities[index])) for index in top),
    )


def _label(labels: tuple[str, ...], index: int) -> str:
    return labels[index] if index < len(labels) else f"class {index}"
