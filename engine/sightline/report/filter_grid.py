"""FilterGrid: the kernels of a layer side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sightline.colour import number
from sightline.report.panel import Panel, method_name
from sightline.types import ByteArray, FloatArray, Result


class FilterGrid(Result, Protocol):
    """What is read of the result: kernels (N, kh, kw[, 3]), whose they are, and what to bear in mind."""

    @property
    def values(self) -> FloatArray: ...
    @property
    def layer(self) -> str: ...
    @property
    def rgb(self) -> bool: ...
    @property
    def note(self) -> str: ...
    @property
    def indices(self) -> tuple[tuple[int, int | None], ...]: ...


def panels(result: FilterGrid, row: int | None) -> Iterator[Panel]:
    """One grid, each kernel labelled with its output channel, and its input channel where it has only one."""
    if row is not None:
        return
    title = f"{method_name(result, 'Filters')} of {result.layer}"
    if not result.values.size or not np.isfinite(result.values).all():
        yield Panel(title, "Not drawn: there are no kernels, or some weights are not finite.")
        return
    labels = [f"{out}" if source is None else f"{out} ← {source}" for out, source in result.indices]
    cells = tuple(zip(map(greyed, result.values), labels, strict=True))
    count, height, width = result.values.shape[:3]
    below = "output channel" if result.rgb else "output ← input channel"
    caption = (
        f"{count} kernels of {height} × {width}; below each its {below}. Middle grey is a weight of 0; every kernel "
        "is stretched by its own largest weight, so contrast says nothing of size. "
        f"Weights: {number(float(result.values.min()))} to {number(float(result.values.max()))}."
    )
    alt = f"{count} kernels of layer {result.layer} as small {'colour' if result.rgb else 'grey'} pictures"
    yield Panel(title, f"{caption} {result.note}".strip(), alt, cells=cells)


def greyed(kernel: FloatArray) -> ByteArray:
    """(kh, kw, 3) uint8 of a kernel (kh, kw[, 3]): 0 becomes 128, its largest magnitude 1 or 255."""
    reach = float(np.abs(kernel).max()) or 1.0
    grey = np.rint(128 + 127 * (kernel.astype(np.float64) / reach)).astype(np.uint8)
    return grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)
