"""What hidden pixels become."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sightline.abilities import Forward
from sightline.errors import UsageError
from sightline.types import FloatArray

ACCEPTED = "a number, one number per channel (0.1,0.2,0.3), mean, blur, noise, or the path of an image"
BLUR = 10.0  # pixels, standard deviation of the Gaussian


def filling(fill: float | str, seed: int, images: FloatArray, oracle: Forward) -> FloatArray:
    """What pixels of images (B, C, H, W) become where they are hidden, in model input space; broadcasts against them.

    Args:
        fill: a number; numbers per channel separated by commas; "mean", of each channel of the image itself; "blur",
            the image behind a Gaussian of 10 pixels; "noise", standard normal, the same for every image; or a file,
            read and resized as the model's images are.
        seed: of the noise.
        images: what is hidden.
        oracle: reads a file as the model's input.

    Raises:
        UsageError: anything else.
    """
    channels, height, width = images.shape[1:]
    if fill == "mean":
        return images.mean(axis=(2, 3), keepdims=True)
    if fill == "noise":
        return np.random.default_rng(seed).standard_normal((1, channels, height, width), dtype=np.float32)
    if fill == "blur":
        from scipy.ndimage import gaussian_filter

        return np.asarray(gaussian_filter(images, (0, 0, BLUR, BLUR), mode="nearest"), np.float32)
    numbers = _numbers(fill)
    if numbers is None:
        if not Path(str(fill)).is_file():
            raise UsageError(f"fill={fill!r} is no file and no filling. Accepted: {ACCEPTED}.")
        return oracle.read_image(Path(str(fill)))[None]
    if len(numbers) not in (1, channels):
        raise UsageError(f"fill={fill!r} has {len(numbers)} numbers; the model has {channels} channels.")
    return np.array(numbers, np.float32).reshape(1, -1, 1, 1)


def _numbers(fill: float | str) -> list[float] | None:
    try:
        found = [float(part) for part in str(fill).split(",")]
    except ValueError:
        return None
    if not np.isfinite(found).all():
        raise UsageError(f"fill={fill!r} is not finite. Accepted: {ACCEPTED}.")
    return found
