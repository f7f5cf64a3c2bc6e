"""The 8-bit grid on which an adversarial example has to work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.image import encode_png, read_image
from sightline.preprocess import Preprocess
from sightline.types import ByteArray, FloatArray

HIGHEST = 255.0  # of a pixel; the lowest is 0


@dataclass(frozen=True)
class PixelSpace:
    """Planes (B, C, H, W) of 0 to 255, in the model's order of colours; its input is an affine map of them."""

    preprocess: Preprocess

    def planes(self, views: ByteArray) -> FloatArray:
        """(B, C, H, W) float32 from pictures (B, H, W, 3)."""
        return self._identity.normalise(views)

    def views(self, planes: FloatArray) -> ByteArray:
        """(B, H, W, 3) uint8 pictures from planes; rounded to the nearest pixel value, clipped to 0 and 255."""
        return self._identity.to_pixels(planes)

    def inputs(self, planes: FloatArray) -> FloatArray:
        """(B, C, H, W) what the network reads."""
        mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (self.preprocess.mean, self.preprocess.std))
        return (planes * np.float32(self.preprocess.scale) - mean) / std

    @property
    def _identity(self) -> Preprocess:
        """The model's channels without its scaling."""
        count = len(self.preprocess.mean)
        return self.preprocess.changed(scale=1.0, mean=(0.0,) * count, std=(1.0,) * count)


def after_png(views: ByteArray) -> ByteArray:
    """The pictures (B, H, W, 3) as they are read back from the PNG files that they are saved as."""
    read = [np.asarray(read_image(encode_png(view))) for view in views]
    return np.stack(read) if read else views
