"""What keeps a picture natural: penalties in its score and projections after each step.

Every weight speaks of means over pixels and channels in model input space, so that it means the same at every size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Penalty(Protocol):
    """A cost of each picture, in units of the objective."""

    def __call__(self, images: Tensor) -> Tensor:
        """(B,) of pictures (B, C, H, W)."""
        ...


class Projection(Protocol):
    """What is done to pictures after a step."""

    def __call__(self, images: Tensor, gradient: Tensor, progress: float) -> Tensor:
        """(B, C, H, W) of the same; ``progress`` is the share of the steps taken, 0 to 1."""
        ...


@dataclass(frozen=True)
class L2:
    """Mean square. Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks" (2014)."""

    weight: float

    def __call__(self, images: Tensor) -> Tensor:
        return self.weight * images.square().flatten(1).mean(dim=1)


@dataclass(frozen=True)
class AlphaNorm:
    """Mean of |x|^alpha, which holds values in a range. Mahendran, Vedaldi (2015), equation 3, alpha 6."""

    weight: float
    alpha: float = 6.0

    def __call__(self, images: Tensor) -> Tensor:
        return self.weight * images.abs().pow(self.alpha).flatten(1).mean(dim=1)


@dataclass(frozen=True)
class TotalVariation:
    """Mean of (dx² + dy²)^(beta/2) over neighbours. Mahendran, Vedaldi (2015), equation 4.

    Attributes:
        beta: 2 spreads edges out, 1 allows sharp ones.
    """

    weight: float
    beta: float = 2.0

    def __call__(self, images: Tensor) -> Tensor:
        right = (images[..., :-1, 1:] - images[..., :-1, :-1]).square()
        below = (images[..., 1:, :-1] - images[..., :-1, :-1]).square()
        squares = right + below  # (B, C, H - 1, W - 1)
        if self.beta != 2:
            squares = (squares + 1e-8).pow(self.beta / 2)  # the root has no slope at 0
        return self.weight * squares.flatten(1).mean(dim=1)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur whose width falls from ``sigma`` pixels to 0 over the ascent. Yosinski et al. (2015).

    Widths below a quarter of a pixel, which change nothing, are left out.
    """

    sigma: float

    def __call__(self, images: Tensor, gradient: Tensor, progress: float) -> Tensor:
        return blurred(images, self.sigma * (1 - progress))


@dataclass(frozen=True)
class ClipSmallPixels:
    """Pixels whose norm over channels is below a percentile become 0. Yosinski et al. (2015)."""

    percent: float

    def __call__(self, images: Tensor, gradient: Tensor, progress: float) -> Tensor:
        return _clipped(images, images.norm(dim=1, keepdim=True), self.percent)


@dataclass(frozen=True)
class ClipSmallGradients:
    """Pixels whose contribution |x · gradient| is below a percentile become 0. Yosinski et al. (2015)."""

    percent: float

    def __call__(self, images: Tensor, gradient: Tensor, progress: float) -> Tensor:
        return _clipped(images, (images * gradient).sum(dim=1, keepdim=True).abs(), self.percent)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """(B, C, H, W) behind a Gaussian of ``sigma`` pixels, cut at three of them; borders repeat."""
    if sigma < 0.25:  # neighbours would weigh less than 0.04 %
        return images
    for axis in (-2, -1):
        reach = min(math.ceil(3 * sigma), images.shape[axis] - 1)
        if reach == 0:
            continue
        places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        weights = torch.exp(-0.5 * (places / sigma) ** 2)
        kernel = (weights / weights.sum()).reshape((1, 1, -1, 1) if axis == -2 else (1, 1, 1, -1))
        padding = (0, 0, reach, reach) if axis == -2 else (reach, reach, 0, 0)
        planes = F.pad(images, padding, mode="replicate").flatten(0, 1).unsqueeze(1)  # (B·C, 1, H', W')
        images = F.conv2d(planes, kernel).reshape(images.shape)
    return images


def _clipped(images: Tensor, sizes: Tensor, percent: float) -> Tensor:
    """Pictures with the pixels of the least sizes (B, 1, H, W) set to 0."""
    least = torch.quantile(sizes.flatten(1), percent / 100, dim=1)
    return torch.where(sizes < least[:, None, None, None], torch.zeros_like(images), images)
