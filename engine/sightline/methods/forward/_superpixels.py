"""Images cut into superpixels, and scored with any of them hidden."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Forward
from sightline.errors import UsageError
from sightline.methods.forward._sampling import copies_per_run
from sightline.target import Target
from sightline.types import FloatArray, IntArray

Coalitions = NDArray[np.bool_]  # (n, S): which superpixels are visible


def superpixels(image: FloatArray, count: int, compactness: float) -> IntArray:
    """(H, W) numbers from 0 of about ``count`` superpixels of an image (C, H, W) in model input space.

    SLIC (Achanta et al. 2012) on the channels stretched to 0 to 1, without a change of colour space: the model's
    channels need not be colours. Only the tensor decides, wherever it came from.
    """
    from skimage.segmentation import slic

    if count < 1:
        raise UsageError(f"segments={count} must be at least 1.")
    low, high = image.min(), image.max()
    stretched = (image - low) / max(float(high - low), 1e-12)
    found = slic(
        stretched.transpose(1, 2, 0), n_segments=count, compactness=compactness, start_label=0, convert2lab=False,
        channel_axis=-1,
    )  # fmt: skip
    _, numbers = np.unique(found, return_inverse=True)
    return np.asarray(numbers, np.int64).reshape(image.shape[1:])


@dataclass(frozen=True)
class Puzzle:
    """One image in pieces.

    Attributes:
        image: (C, H, W).
        segments: (H, W) numbers from 0.
        fill: what hidden pixels become, broadcast against the image.
        target: bound, of this image alone.
    """

    image: FloatArray
    segments: IntArray
    fill: FloatArray
    target: Target

    @property
    def pieces(self) -> int:
        """S."""
        return int(self.segments.max()) + 1

    def scores(self, oracle: Forward, visible: Coalitions) -> NDArray[np.float64]:
        """(n,) scores with only these superpixels visible, a bounded number of copies at a time."""
        return np.concatenate([*self._scored(oracle, visible), np.zeros(0)])

    def painted(self, amounts: NDArray[np.float64]) -> FloatArray:
        """(H, W) of an amount per superpixel."""
        return amounts[self.segments].astype(np.float32)

    def _scored(self, oracle: Forward, visible: Coalitions) -> Iterator[NDArray[np.float64]]:
        batch = copies_per_run(self.image)
        for start in range(0, len(visible), batch):
            shown = visible[start : start + batch][:, self.segments]  # (n, H, W)
            copies = np.where(shown[:, None], self.image, self.fill).astype(np.float32)
            yield oracle.scores(copies, self.target.take([0] * len(copies))).astype(np.float64)
