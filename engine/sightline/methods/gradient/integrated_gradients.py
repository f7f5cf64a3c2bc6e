"""What each pixel contributes to the score, along a path from an image that shows nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Differentiable
from sightline.errors import UsageError
from sightline.methods.forward._fill import filling
from sightline.methods.forward._sampling import copies_per_run
from sightline.methods.gradient._attribution import Attributed, Attribution, Reduction
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray

Quadrature = Literal["gauss_legendre", "midpoint"]
MOST_STEPS = 4096


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Attribution):
    """Difference from a baseline times the mean gradient along the straight line from it.

    Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks" (2017). The values of an image add up to the
    score minus the baseline's score, up to the error of the quadrature: that gap is reported for every image, and
    with ``until`` the steps are doubled for the images where it is too large. With ``at`` the line is drawn between
    the layer's values of image and baseline, and every path to the score must pass that layer.

    Returns ``CompleteHeatmaps`` (B, H, W) float32 in units of the score; positive speaks for the target.

    Raises:
        UsageError: steps out of range, a baseline that is none, a layer that some path avoids.
    """

    baseline: str = "0"  # 0: the mean colour; numbers per channel, blur, mean (of the image), a file, a folder's mean
    steps: int = 50  # points on the line
    quadrature: Quadrature = "gauss_legendre"  # which points, with which weights
    until: float | None = None  # double the steps until the gap is below this share of the score's change
    reduce: Reduction = "sum"  # over channels: "sum" keeps the sign; abs_sum, max_abs, mean_abs, l2

    def attribute(self, oracle: Differentiable, images: Batch, target: Target) -> Attributed:
        if not 1 <= self.steps <= MOST_STEPS or (self.until is not None and not self.until > 0):
            raise UsageError(f"steps={self.steps} must lie in 1 to {MOST_STEPS}, until={self.until} be above 0.")
        bound = oracle.bind(images.tensor, target)
        fill = filling(self.baseline, 0, images.tensor, oracle, name="baseline")
        baselines = np.array(np.broadcast_to(fill, images.tensor.shape), np.float32)  # (B, C, H, W)
        totals = bound.scores - oracle.scores(baselines, bound.target)  # (B,)
        starts, ends = baselines, images.tensor
        if self.at is not None:
            starts, ends = (oracle.taps(place, [self.at])[self.at] for place in (baselines, images.tensor))
        values = np.zeros(starts.shape, np.float32)
        used = np.zeros(len(images), np.int64)
        rows, steps = np.arange(len(images)), self.steps
        while len(rows):
            line = _Line(starts[rows], ends[rows] - starts[rows], *_points(self.quadrature, steps))
            means = line.mean_gradient(oracle, bound.target.take(rows.tolist()), self.at)
            values[rows], used[rows] = line.differences * means, steps
            steps *= 2
            if self.until is None or steps > MOST_STEPS:
                break
            sums = values[rows].reshape(len(rows), -1).sum(axis=1, dtype=np.float64)
            rows = rows[np.abs(sums - totals[rows]) > self.until * np.abs(totals[rows])]
        return Attributed(
            values, bound.scores, bound.target.classes(len(images)), totals=totals, steps=tuple(used.tolist())
        )

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image: one per step, the image and the baseline."""
        return self.steps + 2


@dataclass(frozen=True)
class _Line:
    """From each start, along its difference, at the same places with the same weights.

    Attributes:
        starts, differences: (B, ...).
        places, weights: (steps,), places from 0 to 1, weights of sum 1.
    """

    starts: FloatArray
    differences: FloatArray
    places: NDArray[np.float64]
    weights: NDArray[np.float64]

    def mean_gradient(self, oracle: Differentiable, target: Target, layer: str | None) -> FloatArray:
        """(B, ...) weighted mean of the gradients; points of several images share a run, a bounded number at once."""
        total = np.zeros(self.starts.shape)
        count = len(self.starts) * len(self.places)
        chunk = copies_per_run(self.starts[0])
        ahead = (1,) * (self.starts.ndim - 1)
        for first in range(0, count, chunk):
            images, steps = np.divmod(np.arange(first, min(first + chunk, count)), len(self.places))
            places = self.places[steps].astype(np.float32).reshape(-1, *ahead)
            points = np.asarray(self.starts[images] + places * self.differences[images], np.float32)  # (chunk, ...)
            gradient = oracle.gradient(points, target.take(images.tolist()), start=layer).values
            for image in range(int(images[0]), int(images[-1]) + 1):
                own = images == image
                total[image] += np.tensordot(self.weights[steps[own]], gradient[own], axes=1)
        return total.astype(np.float32)


def _points(quadrature: Quadrature, steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places between 0 and 1, and their weights."""
    match quadrature:
        case "gauss_legendre":
            nodes, weights = np.polynomial.legendre.leggauss(steps)
            return (1 + nodes) / 2, weights / 2
        case "midpoint":
            return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
        case _:
            raise UsageError(f"quadrature={quadrature!r} is not one of gauss_legendre, midpoint.")
