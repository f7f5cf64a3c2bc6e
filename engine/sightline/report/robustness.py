"""Robustness: the share of images that withstand a change, by its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from sightline.report.panel import Panel, method_name
from sightline.types import ByteArray, FloatArray, Result

INCHES, DOTS = (6.4, 4.0), 100  # size of the chart, and pixels per inch
_INK, _LINE = "#5c6670", "#1f6feb"


class Robustness(Result, Protocol):
    """What is read of the result: E sizes, shares that withstand them, and their intervals (E, 2)."""

    @property
    def epsilons(self) -> tuple[float, ...]: ...
    @property
    def attack(self) -> str: ...
    @property
    def shares(self) -> FloatArray: ...
    @property
    def intervals(self) -> FloatArray: ...


def panels(result: Robustness, row: int | None) -> Iterator[Panel]:
    """The curve over all images."""
    if row is not None or len(result.photos) == 0:
        return
    points = [
        f"{epsilon:g}: {share:.3f} ({low:.3f} to {high:.3f})"
        for epsilon, share, (low, high) in zip(result.epsilons, result.shares, result.intervals, strict=True)
    ]
    caption = (
        f"Share of {len(result.photos)} images that withstand {result.attack}, by the size of the change that is "
        "allowed, in pixel values of 0 to 255; bars are Wilson's 95 % intervals. At 0 the images are as they were. "
        f"{'; '.join(points)}."
    )
    alt = f"Curve of robustness by epsilon: {'; '.join(points)}"
    chart = _chart(result.epsilons, result.shares, result.intervals)
    yield Panel(method_name(result, "Robustness"), caption, alt, chart)


def _chart(epsilons: Sequence[float], shares: FloatArray, intervals: FloatArray) -> ByteArray:
    """(400, 640, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # as in sightline.colour
    from matplotlib.figure import Figure

    figure = Figure(INCHES, DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    bars = np.abs(intervals.T - shares)  # (2, E)
    axes.errorbar(epsilons, shares, bars, fmt="o-", color=_LINE, capsize=4, linewidth=1.8, markersize=5)
    axes.set_xlabel("size of the change allowed, pixel values", color=_INK)
    axes.set_ylabel("share that withstands it", color=_INK)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks(epsilons)
    axes.grid(visible=True, color="#e6e8eb")
    axes.spines[["top", "right"]].set_visible(False)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
