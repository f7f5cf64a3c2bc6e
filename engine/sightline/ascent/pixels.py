"""From model input space to the pixels that people look at, without rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.preprocess import Preprocess
from sightline.types import ByteArray, FloatArray


def pixel_values(preprocess: Preprocess, tensor: NDArray[Any]) -> FloatArray:
    """(..., H, W, 3) float32 sRGB, 0 to 255, of model input (..., C, H, W); what leaves the range is cut off."""
    mean, std = (np.asarray(part, np.float64)[:, None, None] for part in (preprocess.mean, preprocess.std))
    values = (np.asarray(tensor, np.float64) * std + mean) / preprocess.scale
    values = values[..., ::-1, :, :] if preprocess.channels == "BGR" else values
    values = np.moveaxis(np.clip(values, 0, 255), -3, -1).astype(np.float32)
    return np.repeat(values, 3, axis=-1) if preprocess.channels == "L" else np.ascontiguousarray(values)


def rounded(values: FloatArray) -> ByteArray:
    """The same as 8 bits."""
    return np.rint(values).astype(np.uint8)
