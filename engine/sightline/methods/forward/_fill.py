"""What hidden pixels become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sightline.abilities import Forward
from sightline.errors import UsageError
from sightline.types import FloatArray

ACCEPTED = "a number, one per channel (0.1,0.2,0.3), mean, blur, noise, the path of an image or of a folder of images"
BLUR = 10.0  # pixels, standard deviation of the Gaussian


def filling(fill: float | str, seed: int, images: FloatArray, oracle: Forward, *, name: str = "fill") -> FloatArray:
    """What pixels of images (B, C, H, W) become where they are hidden, in model input space; broadcasts against them.

    Args:
        fill: a number; numbers per channel separated by commas; "mean", of each channel of the image itself; "blur",
            the image behind a Gaussian of 10 pixels; "noise", normal, of the mean and deviation of each channel of
            the image itself, from the same draws for every image; or a file, read and resized as the model's images
            are.
        seed: of the noise.
        images: what is hidden.
        oracle: reads a file as the model's input, and says whether that is whole numbers.
        name: of the method's field, for messages.

    Raises:
        UsageError: anything else; numbers that a network of whole ones does not read.
    """
    channels, height, width = images.shape[1:]
    if fill == "mean":
        return images.mean(axis=(2, 3), keepdims=True)
    if fill == "noise":
        draws = np.random.default_rng(seed).standard_normal((1, channels, height, width), dtype=np.float32)
        return images.mean(axis=(2, 3), keepdims=True) + images.std(axis=(2, 3), keepdims=True) * draws
    if fill == "blur":
        from scipy.ndimage import gaussian_filter

        return np.asarray(gaussian_filter(images, (0, 0, BLUR, BLUR), mode="nearest"), np.float32)
    numbers = _numbers(fill, name)
    if numbers is None:
        if Path(str(fill)).is_dir():
            return _mean_image(Path(str(fill)), oracle, name)
        if not Path(str(fill)).is_file():
            raise UsageError(f"{name}={fill!r} is no file and no filling. Accepted: {ACCEPTED}.")
        return oracle.read_image(Path(str(fill)))[None]
    if len(numbers) not in (1, channels):
        raise UsageError(f"{name}={fill!r} has {len(numbers)} numbers; the model has {channels} channels.")
    _check_levels(numbers, fill, oracle.levels, name)
    return np.array(numbers, np.float32).reshape(1, -1, 1, 1)


def _mean_image(folder: Path, oracle: Forward, name: str) -> FloatArray:
    """(1, C, H, W) mean of the images directly in a folder, read one by one."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in Image.registered_extensions())
    if not files:
        raise UsageError(f"{name}={str(folder)!r} is a folder without images. Accepted: {ACCEPTED}.")
    total = sum(oracle.read_image(path).astype(np.float64) for path in files)
    return np.asarray(total / len(files), np.float32)[None]


def _check_levels(numbers: list[float], fill: float | str, levels: tuple[int, int] | None, name: str) -> None:
    """Refuse what would be rounded or clipped on the way into the network."""
    if levels is not None and any(not one.is_integer() or not levels[0] <= one <= levels[1] for one in numbers):
        raise UsageError(
            f"{name}={fill!r} cannot be shown to this network, which reads pixels as whole numbers from "
            f"{levels[0]} to {levels[1]}. Give such a number, or one per channel; or mean, blur, noise, or the path "
            "of an image."
        )


def _numbers(fill: float | str, name: str) -> list[float] | None:
    try:
        found = [float(part) for part in str(fill).split(",")]
    except ValueError:
        return None
    if not np.isfinite(found).all():
        raise UsageError(f"{name}={fill!r} is not finite. Accepted: {ACCEPTED}.")
    return found
