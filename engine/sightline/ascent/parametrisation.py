"""A picture as free numbers to climb over: its pixels, or the spectrum of decorrelated colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.preprocess import Preprocess
from sightline.types import FloatArray

Space = Literal["fourier", "pixels"]

# Square root of the covariance of RGB over natural pixels, columns from the largest variance to the least, as Olah et
# al. (2017) measured it on ImageNet.
COLOUR_ROOT: NDArray[np.float32] = np.array(
    [[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32
)


class Parametrisation(Protocol):
    """Pictures as functions of free numbers. Rows do not share any."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The leaves; the first axis of each is rows."""
        ...

    def images(self) -> Tensor:
        """(B, C, H, W) in model input space, on the tape of the parameters."""
        ...

    def assign(self, images: Tensor) -> None:
        """Choose the parameters that give these pictures."""
        ...

    def settle(self) -> None:
        """Bring the pictures back within the bounds of what pixels can give."""
        ...


@dataclass(frozen=True)
class Bounds:
    """Least and largest input that pixels can give, each (1, C, 1, 1)."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, preprocess: Preprocess, device: torch.device) -> Bounds:
        """Those of the model's preprocessing."""
        low, high = (torch.from_numpy(end).to(device).reshape(1, -1, 1, 1) for end in preprocess.bounds)
        return cls(low, high)


class Pixels:
    """Every pixel is a number of its own, cut off at the bounds after each step."""

    def __init__(self, start: Tensor, bounds: Bounds):
        self._bounds = bounds
        self._pixels = start.clone().requires_grad_()  # (B, C, H, W)

    @property
    def parameters(self) -> Sequence[Tensor]:
        return (self._pixels,)

    def images(self) -> Tensor:
        return self._pixels * 1  # a tensor of its own, so that what holds it is not changed by the next step

    def assign(self, images: Tensor) -> None:
        with torch.no_grad():
            self._pixels.copy_(images)

    def settle(self) -> None:
        with torch.no_grad():
            self._pixels.copy_(torch.minimum(torch.maximum(self._pixels, self._bounds.low), self._bounds.high))


class Fourier:
    """Coefficients of waves, each scaled by its length, of colours without correlation, behind a sigmoid.

    Olah, Mordvintsev, Schubert, "Feature Visualization" (2017), "Preconditioning": steepest ascent in a basis where
    natural pictures have equal variance everywhere. The sigmoid keeps pictures within the bounds.

    Args:
        start: (B, C, H, W) in model input space.
        bounds: of pixels.
        colours: (C, C) from free channels to those of the model, see ``colour_root``.
    """

    def __init__(self, start: Tensor, bounds: Bounds, colours: Tensor):
        height, width = self._size = (start.shape[-2], start.shape[-1])
        self._bounds, self._colours = bounds, colours
        frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])  # (H, W // 2 + 1)
        longest = 1 / np.maximum(frequencies, 1 / max(height, width))  # wavelength in pixels
        self._scale = (
            torch.from_numpy(longest).to(start) * 0.25
        )  # contrast: a coefficient of 1 is a wave that is seen
        self._spectrum = torch.view_as_real(self._coefficients(start)).contiguous().requires_grad_()

    @property
    def parameters(self) -> Sequence[Tensor]:
        return (self._spectrum,)  # (B, C, H, W // 2 + 1, 2)

    def images(self) -> Tensor:
        waves = torch.view_as_complex(self._spectrum) * self._scale
        free = torch.fft.irfft2(waves, s=self._size, norm="ortho")  # (B, C, H, W)
        mixed = torch.einsum("dc,bchw->bdhw", self._colours, free)
        return self._bounds.low + (self._bounds.high - self._bounds.low) * torch.sigmoid(mixed)

    def assign(self, images: Tensor) -> None:
        with torch.no_grad():
            self._spectrum.copy_(torch.view_as_real(self._coefficients(images)))

    def settle(self) -> None:
        pass

    def _coefficients(self, images: Tensor) -> Tensor:
        """(B, C, H, W // 2 + 1) complex: the spectrum of pictures, those at the bounds taken as a little inside."""
        share = (images - self._bounds.low) / (self._bounds.high - self._bounds.low)
        mixed = torch.logit(share, eps=1 / 510)  # half a step of 8 bits
        free = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(self._colours), mixed)
        return torch.fft.rfft2(free, norm="ortho") / self._scale


def picture(space: Space, start: Tensor, preprocess: Preprocess, *, decorrelate: bool) -> Pixels | Fourier:
    """Pictures (B, C, H, W) as free numbers."""
    bounds = Bounds.of(preprocess, start.device)
    if space == "pixels":
        return Pixels(start, bounds)
    return Fourier(start, bounds, torch.from_numpy(colour_root(preprocess, decorrelate)).to(start))


def colour_root(preprocess: Preprocess, decorrelate: bool) -> FloatArray:
    """(C, C) from uncorrelated channels of equal variance to the model's, in its order; else the identity."""
    if not decorrelate or preprocess.channels == "L":
        return np.eye(len(preprocess.mean), dtype=np.float32)
    root = COLOUR_ROOT / np.linalg.norm(COLOUR_ROOT, axis=0).max()
    return np.ascontiguousarray(root[::-1] if preprocess.channels == "BGR" else root, np.float32)


def noise(streams: Sequence[int], shape: tuple[int, int, int], preprocess: Preprocess, strength: float) -> FloatArray:
    """(B, C, H, W) of soft noise about input 0: waves as strong as they are long, one picture per stream.

    Args:
        streams: seeds of the rows.
        shape: (C, H, W).
        preprocess: whose pixel range ``strength`` is a share of.
        strength: standard deviation as a share of the pixel range.
    """
    channels, height, width = shape
    low, high = (end.reshape(-1, 1, 1) for end in preprocess.bounds)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    weights = 1 / np.maximum(frequencies, 1 / max(height, width))
    rows: list[NDArray[np.float64]] = []
    for stream in streams:
        white = np.random.default_rng(stream).standard_normal((channels, height, width))
        soft = np.fft.ifft2(np.fft.fft2(white) * weights).real
        rows.append(soft / soft.std() * strength * (high - low))
    return np.clip(np.array(rows), low, high).astype(np.float32).reshape(len(streams), *shape)
