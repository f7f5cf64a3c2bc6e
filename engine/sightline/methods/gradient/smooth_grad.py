"""Any map, steadied by noise on the image."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import getmro
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Differentiable
from sightline.errors import UsageError
from sightline.methods.forward._sampling import copies_per_run
from sightline.methods.gradient._attribution import Attribution
from sightline.registry import Method, declaration, method, parse
from sightline.target import Target
from sightline.types import Batch, FloatArray, Heatmaps

Statistic = Literal["mean", "square", "variance"]


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class SmoothGrad:
    """Mean, mean square or variance of a method's values over noisy copies of the image.

    Smilkov, Thorat, Kim, Viégas, Wattenberg, "SmoothGrad: removing noise by adding noise" (2017); the square is
    Hooker et al.'s SmoothGrad-Squared (2019), the variance Adebayo et al.'s VarGrad (2018). Gradient attributions are
    averaged channel by channel and reduced afterwards, as their own ``reduce`` says; maps of other methods as they
    are. Noise n is the same for every image, batch and machine. What ``top`` chooses, it chooses on the clean image.

    Returns ``Heatmaps`` (B, H, W) float32, in units of the base method, of its square for square and variance.

    Raises:
        UsageError: a base that gives no maps or needs more than gradients; samples or noise out of range.
    """

    base: str = "saliency"  # the method that is steadied, with its fields: integrated_gradients(steps=20)
    samples: int = 25  # noisy copies of each image
    noise: float = 0.15  # standard deviation, as a share of the image's range of values
    statistic: Statistic = "mean"  # over the copies
    seed: int = 0  # of the noise

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> Heatmaps:
        base = self._base()
        if self.samples < 1 or not self.noise >= 0 or self.seed < 0:
            raise UsageError(
                f"samples={self.samples} must be at least 1, noise={self.noise} and seed={self.seed} at least 0."
            )
        bound = oracle.bind(images.tensor, target)
        mean, square, signed = self._moments(base, oracle, images, bound.target)
        match self.statistic:
            case "mean":
                found = mean
            case "square":
                found = square
            case "variance":
                found = np.maximum(square - mean**2, 0)
            case _:
                raise UsageError(f"statistic={self.statistic!r} is not one of mean, square, variance.")
        values = found.astype(np.float32)  # (B, C, h, w), C = 1 where the base has no channels
        return Heatmaps(
            base.reduced(values) if isinstance(base, Attribution) else values[:, 0],
            images.photos, bound.scores, bound.target.classes(len(images)),
            signed=signed and self.statistic == "mean",
        )  # fmt: skip

    def forward_passes(self, height: int, width: int) -> int:
        """Those of the base method for every copy, and the image."""
        count = getattr(self._base(), "forward_passes", None)
        return self.samples * (1 if count is None else int(count(height, width))) + 1

    def _base(self) -> Method:
        base = parse(self.base)
        if isinstance(base, SmoothGrad) or declaration(base).needs not in getmro(Differentiable):
            raise UsageError(
                f"base={self.base!r} cannot be steadied: it needs {declaration(base).needs.__name__}. "
                "Choose one that needs gradients at most, such as saliency or integrated_gradients(steps=20)."
            )
        return base

    def _moments(
        self, base: Method, oracle: Differentiable, images: Batch, target: Target
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
        """Mean and mean square (B, C, h, w) over the copies, and whether the values have a sign."""
        count = len(images)
        deviations = self.noise * np.ptp(images.tensor.reshape(count, -1), axis=1) if count else np.zeros(0)  # (B,)
        rows = np.arange(count * self.samples)
        chunk = copies_per_run(images.tensor[0]) if count else 1
        values, signed = _values(base, oracle, images[:0], target.take([]))
        total, squares = (np.zeros((count, *values.shape[1:])) for _ in range(2))
        for first in range(0, len(rows), chunk):
            samples, owners = np.divmod(rows[first : first + chunk], count)
            noise = {sample: self._noise(sample, images.tensor.shape[1:]) for sample in np.unique(samples).tolist()}
            copies = np.stack(
                [
                    images.tensor[owner] + np.float32(deviations[owner]) * noise[sample]
                    for sample, owner in zip(samples.tolist(), owners.tolist(), strict=True)
                ]
            )  # (chunk, C, H, W)
            values, signed = _values(base, oracle, Batch.of(copies), target.take(owners.tolist()))
            np.add.at(total, owners, values)
            np.add.at(squares, owners, np.square(values, dtype=np.float64))
        return total / self.samples, squares / self.samples, signed

    def _noise(self, sample: int, shape: tuple[int, ...]) -> FloatArray:
        return np.random.default_rng((self.seed, sample)).standard_normal(shape, dtype=np.float32)


def _values(base: Method, oracle: Differentiable, images: Batch, target: Target) -> tuple[FloatArray, bool]:
    """(B, C, h, w) of a method, and whether they stay signed once reduced.

    Raises:
        UsageError: it gives no maps.
    """
    if isinstance(base, Attribution):
        return base.attribute(oracle, images, target).values, base.reduce == "sum"
    maps = base.run(oracle, images, target)
    if not isinstance(maps, Heatmaps):
        raise UsageError(f"{base!r} gives {type(maps).__name__}, which are no maps to steady.")
    return maps.values[:, None], maps.signed
