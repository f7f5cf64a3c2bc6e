"""Common corruptions of photographs, in five severities each.

After Hendrycks, Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (2019);
the kinds are theirs, the implementation and its strengths are ours, so figures are not those of ImageNet-C. Sizes are
shares of the image's shorter side: a picture is hit as hard at any resolution.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.types import ByteArray

Pixels = NDArray[Any]  # (H, W, 3) float32, 0 to 1
Corrupt = Callable[[Pixels, float, np.random.Generator], Pixels]


def _gaussian_noise(pixels: Pixels, strength: float, random: np.random.Generator) -> Pixels:
    return pixels + random.normal(0, strength, pixels.shape).astype(np.float32)


def _shot_noise(pixels: Pixels, photons: float, random: np.random.Generator) -> Pixels:
    return (random.poisson(np.clip(pixels, 0, 1) * photons) / photons).astype(np.float32)


def _impulse_noise(pixels: Pixels, share: float, random: np.random.Generator) -> Pixels:
    drawn = random.random(pixels.shape, dtype=np.float32)
    return np.where(drawn < share / 2, np.float32(0), np.where(drawn > 1 - share / 2, np.float32(1), pixels))


def _defocus(pixels: Pixels, radius: float, _: np.random.Generator) -> Pixels:
    reach = max(radius * min(pixels.shape[:2]), 0.5)
    side = int(np.ceil(reach))
    steps = np.arange(-side, side + 1)
    disc = np.clip(reach + 0.5 - np.hypot(*np.meshgrid(steps, steps)), 0, 1)
    return cv2.filter2D(pixels, -1, (disc / disc.sum()).astype(np.float32), borderType=cv2.BORDER_REFLECT)


def _motion(pixels: Pixels, length: float, random: np.random.Generator) -> Pixels:
    reach = max(length * min(pixels.shape[:2]) / 2, 0.5)
    angle, side = random.uniform(0, np.pi), int(np.ceil(reach))
    steps = np.arange(-side, side + 1)
    columns, rows = np.meshgrid(steps, steps)
    along, across = columns * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - columns * np.sin(angle)
    line = np.clip(1 - np.abs(across), 0, 1) * np.clip(reach + 0.5 - np.abs(along), 0, 1)
    return cv2.filter2D(pixels, -1, (line / line.sum()).astype(np.float32), borderType=cv2.BORDER_REFLECT)


def _fog(pixels: Pixels, density: float, random: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    cloud = np.zeros((height, width), np.float32)
    for octave in range(5):
        grid = random.random((2 + 2**octave, 2 + 2**octave), dtype=np.float32)
        cloud += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    cloud = (cloud - cloud.min()) / max(float(np.ptp(cloud)), 1e-6)
    share = density * (0.5 + 0.5 * cloud)[..., None]
    return pixels * (1 - share) + share


def _brightness(pixels: Pixels, more: float, _: np.random.Generator) -> Pixels:
    return pixels + np.float32(more)


def _contrast(pixels: Pixels, left: float, _: np.random.Generator) -> Pixels:
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return mean + (pixels - mean) * np.float32(left)


def _desaturate(pixels: Pixels, left: float, _: np.random.Generator) -> Pixels:
    grey = pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return grey + (pixels - grey) * np.float32(left)


def _pixelate(pixels: Pixels, left: float, _: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    small = max(1, round(width * left)), max(1, round(height * left))
    shrunk = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_NEAREST)


def _jpeg(pixels: Pixels, quality: float, _: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(_bytes(pixels)).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file), np.float32) / 255


def _elastic(pixels: Pixels, reach: float, random: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    side = min(height, width)
    moves = [
        cv2.GaussianBlur(random.uniform(-1, 1, (height, width)).astype(np.float32), (0, 0), max(side * 0.04, 0.5))
        for _ in range(2)
    ]
    scale = reach * side / max(float(np.abs(np.stack(moves)).max()), 1e-6)
    rows, columns = np.indices((height, width), dtype=np.float32)
    return cv2.remap(
        pixels, columns + scale * moves[0], rows + scale * moves[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


CORRUPTIONS: Mapping[str, tuple[Corrupt, tuple[float, float, float, float, float]]] = {  # strengths 1 to 5
    "gaussian noise": (_gaussian_noise, (0.04, 0.08, 0.13, 0.19, 0.28)),  # standard deviation
    "shot noise": (_shot_noise, (250, 90, 40, 18, 9)),  # photons of white
    "impulse noise": (_impulse_noise, (0.01, 0.03, 0.06, 0.12, 0.2)),  # share of the numbers
    "defocus": (_defocus, (0.006, 0.011, 0.018, 0.027, 0.038)),  # radius, of the shorter side
    "motion": (_motion, (0.02, 0.04, 0.065, 0.095, 0.13)),  # length, likewise
    "fog": (_fog, (0.25, 0.4, 0.55, 0.7, 0.82)),  # most that it covers
    "brightness": (_brightness, (0.08, 0.16, 0.25, 0.35, 0.46)),  # added
    "contrast": (_contrast, (0.6, 0.45, 0.3, 0.18, 0.09)),  # left of it
    "desaturation": (_desaturate, (0.7, 0.5, 0.3, 0.15, 0.0)),  # colour that is left
    "pixelation": (_pixelate, (0.55, 0.4, 0.28, 0.19, 0.12)),  # sides that are left
    "jpeg": (_jpeg, (35, 22, 14, 9, 5)),  # quality
    "elastic": (_elastic, (0.01, 0.02, 0.032, 0.046, 0.062)),  # reach, of the shorter side
}


def corrupted(picture: ByteArray, kind: str, severity: int, seed: int) -> ByteArray:
    """A picture (H, W, 3) uint8, corrupted; the same seed gives the same picture.

    Args:
        picture: of any size.
        kind: a key of ``CORRUPTIONS``.
        severity: 1 to 5.
        seed: of noise, angles and clouds.
    """
    corrupt, strengths = CORRUPTIONS[kind]
    pixels = picture.astype(np.float32) / np.float32(255)
    random = np.random.default_rng((seed, severity, sorted(CORRUPTIONS).index(kind)))
    return _bytes(corrupt(pixels, strengths[severity - 1], random))


def _bytes(pixels: Pixels) -> ByteArray:
    return np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)
