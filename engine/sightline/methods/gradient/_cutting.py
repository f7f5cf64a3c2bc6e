"""From a map and its picture to a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.errors import UsageError
from sightline.types import ByteArray, FloatArray, IntArray

Box = tuple[int, int, int, int]  # top, left, bottom, right; the ends exclusive


@dataclass(frozen=True)
class Cut:
    """GrabCut, told by a map where to look; the fields are those of ``Grabcut``.

    Raises:
        UsageError: parameters out of range.
    """

    mass: float
    margin: float
    foreground: float
    blur: float
    iterations: int

    def __post_init__(self) -> None:
        if not (0 < self.mass <= 1 and 0 <= self.margin < 1 and 0 <= self.foreground < 1 and 0 <= self.blur < 1):
            raise UsageError(
                f"mass={self.mass} must be above 0 and at most 1, margin={self.margin}, foreground={self.foreground} "
                f"and blur={self.blur} lie in 0 to 1."
            )
        if self.iterations < 1:
            raise UsageError(f"iterations={self.iterations} must be at least 1.")

    def __call__(self, picture: ByteArray, values: FloatArray) -> tuple[ByteArray, Box]:
        """(H, W) uint8 mask of a picture (H, W, 3), and the box that it lies in; both empty for a blank map."""
        import cv2

        heat = self._smoothed(values)
        if not heat.any():
            return np.zeros(heat.shape, np.uint8), (0, 0, 0, 0)
        top, left, bottom, right = box = self._box(heat)
        labels = np.full(heat.shape, cv2.GC_BGD, np.uint8)
        labels[top:bottom, left:right] = cv2.GC_PR_FGD
        sure = int(self.foreground * heat.size)
        labels.reshape(-1)[np.argsort(-heat, axis=None, kind="stable")[:sure]] = cv2.GC_FGD
        if np.isin(labels, (cv2.GC_BGD, cv2.GC_PR_BGD)).any() and labels.size > np.unique(labels).size:
            cv2.setRNGSeed(0)  # its mixture models start from random clusters
            models = np.zeros((1, 65)), np.zeros((1, 65))
            ground = np.ascontiguousarray(picture[..., ::-1])
            cv2.grabCut(ground, labels, None, *models, self.iterations, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
        return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8), box

    def _smoothed(self, values: FloatArray) -> NDArray[np.float64]:
        """(H, W), never negative."""
        from scipy.ndimage import gaussian_filter

        wide = values.astype(np.float64)
        smooth = gaussian_filter(wide, self.blur * min(wide.shape), mode="nearest")
        return np.maximum(smooth - max(float(np.median(smooth)), 0.0), 0.0)

    def _box(self, heat: NDArray[np.float64]) -> Box:
        """Around the highest pixels that hold the mass, with the margin, at least a pixel of frame left outside."""
        order = np.argsort(-heat, axis=None, kind="stable")
        held = np.cumsum(heat.reshape(-1)[order])
        count = int(np.searchsorted(held, self.mass * held[-1])) + 1
        rows, columns = np.unravel_index(order[:count], heat.shape)
        margin = round(self.margin * min(heat.shape))
        (top, bottom), (left, right) = (
            _ends(places, margin, side) for places, side in zip((rows, columns), heat.shape, strict=True)
        )
        return top, left, bottom, right


def _ends(places: IntArray, margin: int, side: int) -> tuple[int, int]:
    """First and behind the last, within the frame."""
    frame = 1 if side > 2 else 0
    first, last = int(places.min()) - margin, int(places.max()) + margin
    return max(first, min(frame, int(places.min()))), min(last + 1, max(side - frame, int(places.max()) + 1))
